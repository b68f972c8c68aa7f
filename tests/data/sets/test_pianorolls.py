"""Pianorolls: packed bits come back, training rolls are cut, silent ones refused."""

import os

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.data.catalogue import DataError
from tightbound.data.sets.pianorolls import load_pianorolls
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


def written(path, change=lambda arrays: arrays):
    """A small file of the format; the rolls that it holds."""
    random = np.random.default_rng(0)
    rolls, arrays = {}, {}
    for name, lengths in {"train": [7, 1, 4], "valid": [5], "test": [9, 2]}.items():
        rolls[name] = [(random.random((n, 88)) < 0.1).astype(np.uint8) for n in lengths]
        arrays[f"{name}_rolls"] = np.packbits(np.concatenate(rolls[name]), axis=1)
        arrays[f"{name}_lengths"] = np.array(lengths, np.int32)
    np.savez_compressed(path, **change(arrays))
    return rolls


@pytest.mark.parametrize("name", ["jsb", "nottingham", "piano-midi"])
def test_what_is_written_comes_back_whatever_the_set_is_called(tmp_path, name):
    """Oracle: the bits themselves."""
    path = tmp_path / "own.npz"
    rolls = written(path)
    splits = load_pianorolls(name, path)
    for split, expected in rolls.items():
        values = splits[split].x.values
        assert values.dtype == np.float32
        assert splits[split].num_units.tolist() == [len(roll) for roll in expected]
        for row, roll in enumerate(expected):
            assert_array_equal(values[row, : len(roll)], roll)
        assert splits[split].description == split


def test_only_training_rolls_are_cut(tmp_path):
    """Identity: the pieces joined are the rolls. Oracle: lengths by hand."""
    path = tmp_path / "own.npz"
    rolls = written(path)
    splits = load_pianorolls("muse", path, max_length=3)
    train = splits["train"]
    assert train.num_units.tolist() == [3, 3, 1, 1, 3, 1]
    assert_array_equal(train.x.values[train.mask], np.concatenate(rolls["train"]))
    assert train.description == "train (pieces of at most 3 steps)"
    assert splits["test"].num_units.tolist() == [9, 2]
    with pytest.raises(UserError, match="at most 0 steps"):
        load_pianorolls("muse", path, max_length=0)


def test_a_silent_roll_is_refused_and_a_silent_step_is_not(tmp_path):
    """Planted: the second roll of the test split without a note; then only its first step."""

    def silent(first, last):
        def change(arrays):
            arrays["test_rolls"][first:last] = 0
            return arrays

        return change

    path = tmp_path / "own.npz"
    written(path, silent(9, 11))
    with pytest.raises(DataError, match=r"Row 1 of the test split in .* is silent"):
        load_pianorolls("jsb", path)
    written(path, silent(9, 10))
    assert not load_pianorolls("jsb", path)["test"].x.values[1, 0].any()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: a | {"test_rolls": a["test_rolls"][:, :10]}, r"shape \(11, 10\)"),
        (lambda a: a | {"test_rolls": a["test_rolls"].astype(int)}, "type int64"),
        (lambda a: a | {"test_lengths": np.array([9, 3])}, "in test, 2 lengths from 3 to 9 do not"),
        (
            lambda a: a | {"test_lengths": np.array([0, 9, 2])},
            "Row 0 of the test split in .* is an empty sequence",
        ),
    ],
)
def test_files_that_are_no_pianorolls_are_refused(tmp_path, change, sentence):
    path = tmp_path / "own.npz"
    written(path, change)
    with pytest.raises(DataError, match=sentence):
        load_pianorolls("jsb", path)


@pytest.mark.parametrize("kind", [np.uint8, bool, np.float64, np.int64])
def test_an_array_for_each_piece_is_a_file_too(tmp_path, kind):
    """Oracle: the rolls, found by their length; eight train, one validates, one tests."""
    random = np.random.default_rng(0)
    rolls = [(random.random((length, 88)) < 0.1).astype(kind) for length in range(5, 15)]
    np.savez(tmp_path / "own.npz", *rolls)
    splits = load_pianorolls("pianorolls", tmp_path / "own.npz")
    assert [len(split) for split in splits.values()] == [8, 1, 1]
    seen = []
    for split in splits.values():
        for row, length in enumerate(split.num_units):
            assert_array_equal(split.x.values[row, :length], rolls[int(length) - 5])
            seen.append(int(length))
    assert sorted(seen) == list(range(5, 15))


@pytest.mark.parametrize(
    ("piece", "sentence"),
    [
        (np.ones((4, 128)), r"the array 'piece' of type float64 and shape \(4, 128\)"),
        (np.array(["a"]), "the array 'piece' of type"),
        (
            np.full((4, 88), 64),
            "has 64 at step 0 and key 0 of 'piece', but a key sounds, 1, or not",
        ),
        (np.full((4, 88), np.nan), "has nan at step 0 and key 0"),
        (np.zeros((4, 88)), "The piece 'piece' in .* has no single note"),
        (np.zeros((0, 88)), "The piece 'piece' in .* has no single note"),
    ],
)
def test_an_array_that_is_no_piece_is_refused(tmp_path, piece, sentence):
    np.savez(tmp_path / "own.npz", *[np.ones((3, 88))] * 10, piece=piece)
    with pytest.raises(DataError, match=sentence):
        load_pianorolls("jsb", tmp_path / "own.npz")


def test_files_of_ones_own_without_a_path_are_asked_for():
    with pytest.raises(DataError, match="'pianorolls' reads a file of yours, but its path is None"):
        load_pianorolls("pianorolls")


@pytest.mark.parametrize("path", [None, "a-folder"])
def test_a_set_that_is_not_here_says_how_to_make_its_file(path):
    with pytest.raises(DataError, match=r"Make one from Nottingham.mat .*as docs/data.md shows"):
        load_pianorolls("nottingham", path)


@needs_data
@pytest.mark.parametrize(
    ("name", "rows", "steps", "notes"),
    [
        ("jsb", [229, 76, 77], [13_807, 4_602, 4_725], 3.90),
        ("muse", [524, 135, 124], [245_202, 82_755, 64_339], 3.49),
    ],
)
def test_the_published_rolls_have_the_known_counts(name, rows, steps, notes):
    """Oracle: the table of the data page, whose source is the published splits."""
    splits = load_pianorolls(name, max_length=200)
    assert [int(split.num_units.sum()) for split in splits.values()] == steps
    assert [len(splits["valid"]), len(splits["test"])] == rows[1:]
    train = splits["train"]
    assert train.x.values.sum() / train.num_units.sum() == pytest.approx(notes, abs=0.005)
