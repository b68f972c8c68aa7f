"""Omniglot strokes: what is written comes back upright, and other files are refused."""

import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.catalogue import DataError, find_one
from tightbound.data.formats.ragged import read_named
from tightbound.data.sets.omniglot import load_omniglot
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


def written(path, change=lambda arrays: arrays):
    """A small file of the format: three splits of drawings of 1 to 7 points."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, num_rows in {"train": 6, "valid": 3, "test": 4}.items():
        lengths = random.integers(1, 8, num_rows).astype(np.int32)
        points = random.integers(-50, 50, (lengths.sum(), 3)).astype(np.int16)
        points[:, 2] = random.integers(0, 2, len(points))
        points[np.cumsum(lengths) - lengths] = 0
        arrays |= {f"{name}_points": points, f"{name}_lengths": lengths}
    arrays = change(arrays)
    np.savez_compressed(path, **arrays)
    return arrays


def test_what_is_written_comes_back_upright_from_a_file_and_from_a_folder(tmp_path):
    """Oracle: the points themselves with y negated. Planted: without that the picture is upside down."""
    path = tmp_path / "omniglot_stroke3.npz"
    arrays = written(path)
    for given_path in (path, tmp_path):
        splits, scale, notes = load_omniglot(given_path)
        for name, split in splits.items():
            lengths = arrays[f"{name}_lengths"]
            assert_array_equal(split.num_units, lengths)
            points = arrays[f"{name}_points"].astype(float)
            found = scale.undo(split.x.values.offset[split.mask])
            assert_allclose(found, points[:, :2] * [1, -1], atol=1e-4)
            assert np.abs(found - points[:, :2]).max() > 1
            assert_array_equal(split.x.values.pen[split.mask], points[:, 2])
    longest = arrays["train_lengths"].max()
    assert notes[0] == f"train: 6 drawings in 6 sequences of at most {longest} steps"


def test_fewer_rows_and_shorter_pieces_are_what_was_asked_for(tmp_path):
    path = tmp_path / "own.npz"
    arrays = written(path)
    splits, _, notes = load_omniglot(path, max_rows=2, max_length=3)
    lengths = arrays["train_lengths"][:2]
    assert len(splits["train"]) == np.ceil(lengths / 3).sum()
    assert splits["train"].num_units.sum() == lengths.sum()
    assert notes[0].startswith("train: 2 drawings")
    with pytest.raises(UserError, match="0 drawings were asked for"):
        load_omniglot(path, max_rows=0)


def _with(key, value):
    return lambda arrays: arrays | {key: value}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_with("train_lengths", np.array([3], np.int32)), "do not add up"),
        (_with("train_points", np.zeros((4, 2))), "cannot be used"),
        (
            lambda a: a | {"test_points": np.where(np.arange(3) == 2, 3, a["test_points"])},
            "Row 0 of the test split has the pen 3 at step 0",
        ),
        (
            lambda a: a | {"valid_lengths": np.append(a["valid_lengths"], np.int32(0))},
            "Row 3 of the valid split is an empty sequence",
        ),
        (lambda a: {k: v for k, v in a.items() if k != "test_points"}, "no array 'test_points'"),
    ],
)
def test_files_that_are_no_strokes_are_refused_by_file_and_row(tmp_path, change, sentence):
    path = tmp_path / "own.npz"
    written(path, change)
    with pytest.raises(DataError, match=sentence):
        load_omniglot(path)


@needs_data
def test_the_published_drawings_have_the_known_counts_and_scale():
    """Oracle: counts, lengths, the standard deviation 53.4 and the share of lifted pens as the data
    page states them, of the whole file; and numpy on the file's first 500 drawings for the scale."""
    path = find_one("omniglot")
    arrays = read_named(path, ("train_points", "train_lengths"), advice="")
    points, lengths = arrays["train_points"].astype(float), arrays["train_lengths"]
    assert (len(lengths), len(points), lengths.max()) == (30_000, 933_430, 143)
    assert points[:, :2].std() == pytest.approx(53.4, abs=0.05)
    assert points[:, 2].mean() == pytest.approx(0.078, abs=5e-4)
    splits, scale, _ = load_omniglot(max_rows=500)
    assert_array_equal(splits["train"].num_units, lengths[:500])
    few = points[: lengths[:500].sum(), :2] * [1, -1]
    assert_allclose([scale.mean, scale.scale], [few.mean(0), few.std(0)], rtol=1e-12)
    assert [splits[name].mask.shape[0] for name in ("valid", "test")] == [500, 500]
