"""UNIPEN sentences: splits by writer, dashes left out, windows with their writer."""

import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.catalogue import DataError
from tightbound.data.sets.unipen import load_unipen
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)

SPLIT = np.array(["test", "train", "train", "valid", "train", "train"])
WRITER = np.array(["abc", "xyz", "def", "ghi", "def", "xyz"])
TEXT = np.array(["one", "two", "-", "three", "four", "five"])
LENGTHS = np.array([8, 12, 3, 5, 20, 1], np.int32)


def written(path, **changes):
    random = np.random.default_rng(0)
    points = random.integers(-50, 50, (LENGTHS.sum(), 3)).astype(np.int16)
    points[:, 2] = random.random(len(points)) < 0.2
    arrays = {"points": points, "lengths": LENGTHS, "text": TEXT, "writer": WRITER, "split": SPLIT}
    arrays |= changes
    np.savez_compressed(path, **arrays)
    return points


def test_sentences_come_by_split_with_their_writers_and_without_dashes(tmp_path):
    """Oracle: the rows of the file, in their order; y is stored upwards and stays so."""
    path = tmp_path / "unipen_bbn_stroke3.npz"
    points = written(path)
    ends = np.cumsum(LENGTHS)
    splits, scale, notes = load_unipen(tmp_path, every=1, clip=None)
    for name, rows in {"train": [1, 4, 5], "valid": [3], "test": [0]}.items():
        split = splits[name]
        assert_array_equal(split.num_units, LENGTHS[rows])
        assert [split.group_names[group] for group in split.groups] == WRITER[rows].tolist()
        for place, row in enumerate(rows):
            found = scale.undo(split.x.values.offset[place, : LENGTHS[row]])
            assert_allclose(found, points[ends[row] - LENGTHS[row] : ends[row], :2], atol=1e-4)
    assert notes[-1] == "1 items that are a single dash were left out"
    assert notes[0] == "train: 3 sentences of 2 writers in 3 sequences of at most 20 steps"


def test_windows_keep_their_writer(tmp_path):
    path = tmp_path / "own.npz"
    written(path)
    train = load_unipen(path, every=1, max_length=6)[0]["train"]
    assert [train.group_names[g] for g in train.groups] == ["xyz"] * 2 + ["def"] * 4 + ["xyz"]
    assert train.description == (
        "train (normalised offsets, clipped at 2000, pieces of at most 6 steps)"
    )


def test_a_few_rows_are_taken_from_the_whole_file(tmp_path):
    """Oracle: of three sentences, two evenly spaced are the first and the second, of two writers."""
    path = tmp_path / "own.npz"
    written(path)
    train = load_unipen(path, every=1, max_rows=2)[0]["train"]
    assert train.num_units.tolist() == [12, 20]
    with pytest.raises(UserError, match="0 sentences were asked for"):
        load_unipen(path, max_rows=0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"split": np.array(["train"] * 6)}, "no sentence of the split valid"),
        ({"writer": WRITER[:5]}, "6 sentences, but not as many labels"),
        ({"lengths": LENGTHS[:5]}, "do not add up"),
        ({"points": np.full((49, 3), 2)}, "Row 0 of the train split has the pen 2 at step 0"),
    ],
)
def test_files_that_are_no_sentences_are_refused(tmp_path, changes, sentence):
    path = tmp_path / "own.npz"
    written(path, **changes)
    with pytest.raises(DataError, match=sentence):
        load_unipen(path)


@needs_data
def test_the_published_sentences_have_the_known_counts_and_no_shared_writer():
    """Oracle: counts of the data page: 858 train items less 16 dashes, 112 and 63."""
    splits, scale, notes = load_unipen(every=5, max_rows=None)
    assert [len(split) for split in splits.values()] == [842, 112, 63]
    writers = {name: set(split.groups.tolist()) for name, split in splits.items()}
    assert [len(names) for names in writers.values()] == [7, 6, 5]
    assert len(set.union(*writers.values())) == 18
    assert "16 items" in notes[-1]
    assert np.abs(scale.undo(splits["train"].x.values.offset)).max() <= 2000.1
