"""Strokes of one's own: the three ways drawings may lie in a file, and what is no drawing."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.data.catalogue import DataError
from tightbound.data.formats.stroke_files import load_stroke_file
from tightbound.errors import UserError

LENGTHS = np.arange(3, 23)


@pytest.fixture(scope="module")
def drawings():
    """Twenty, of different lengths, so that one can be recognised."""
    random = np.random.default_rng(0)
    points = [random.integers(-50, 50, (length, 3)) for length in LENGTHS]
    for one in points:
        one[:, 2] = random.random(len(one)) < 0.3
    return points


def written(path, drawings, form, **changes):
    """The drawings in one of the forms; where it says the splits, the first two thirds train."""
    joined = {"points": np.concatenate(drawings), "lengths": LENGTHS}
    arrays = {
        "apart": {f"drawing-{number}": one for number, one in enumerate(drawings)},
        "joined": joined,
        "labelled": joined | {"split": np.array(["train"] * 14 + ["valid"] * 3 + ["test"] * 3)},
        "by-split": {
            f"{name}_{what}": array
            for name, rows in (
                ("train", slice(14)),
                ("valid", slice(14, 17)),
                ("test", slice(17, 20)),
            )
            for what, array in (
                ("points", np.concatenate(drawings[rows])),
                ("lengths", LENGTHS[rows]),
            )
        },
    }[form]
    np.savez(path, **(arrays | changes))
    return path


@pytest.mark.parametrize("form", ["apart", "joined", "labelled", "by-split"])
@pytest.mark.parametrize("y_grows", ["up", "down"])
def test_drawings_come_back_however_they_lie_in_the_file(tmp_path, drawings, form, y_grows):
    """Oracle: the arrays themselves, found by their length; y turned where it grows downwards."""
    path = written(tmp_path / "own.npz", drawings, form)
    splits, scale, notes = load_stroke_file(path, y_grows=y_grows)
    seen = []
    for split in splits.values():
        for row, length in enumerate(split.num_units):
            expected = drawings[int(length) - 3] * np.array([1, 1 if y_grows == "up" else -1, 1])
            assert_allclose(
                scale.undo(split.x.values.offset[row, :length]), expected[:, :2], atol=1e-4
            )
            assert_allclose(split.x.values.pen[row, :length], expected[:, 2])
            seen.append(int(length))
    assert sorted(seen) == LENGTHS.tolist()
    said = form in ("labelled", "by-split")
    assert [len(split) for split in splits.values()] == ([14, 3, 3] if said else [16, 2, 2])
    assert notes[0] == ("Split as the file says." if said else notes[0])
    assert notes[0].startswith("Split" if said else "Shuffled")


def test_windows_thinning_and_few_rows_are_those_of_all_strokes(tmp_path, drawings):
    path = written(tmp_path / "own.npz", drawings, "by-split")
    splits, _, notes = load_stroke_file(path, max_length=6, every=2, max_rows=2, clip=30.0)
    assert splits["train"].mask.shape[1] <= 6
    assert "clipped at 30, 1 point in 2, pieces of at most 6" in splits["test"].description
    assert notes[1].startswith("train: 2 drawings in")


@pytest.mark.parametrize(
    ("form", "changes", "sentence"),
    [
        ("apart", {"text": np.array(["a"])}, r"has an array 'text' of shape \(1,\)"),
        ("apart", {"more": np.zeros((4, 5))}, r"has an array 'more' of shape \(4, 5\)"),
        ("apart", {"more": np.zeros((0, 3))}, "is an empty sequence"),
        ("apart", {"more": np.full((4, 3), np.nan)}, "has the offset nan at step 0"),
        ("apart", {"more": np.full((4, 3), 7)}, "has the pen 7 at step 0"),
        ("joined", {"lengths": LENGTHS + 1}, "do not add up to the"),
        (
            "labelled",
            {"split": np.array(["train"] * 20)},
            "entries in `split`, among them train. Gi",
        ),
        ("labelled", {"split": np.array(["train"])}, "has 20 drawings and 1 entries in `split`"),
        ("by-split", {"valid_lengths": np.array([1.5])}, "are no list of whole numbers"),
    ],
)
def test_a_file_that_holds_no_drawings_is_refused(tmp_path, drawings, form, changes, sentence):
    path = written(tmp_path / "own.npz", drawings, form, **changes)
    with pytest.raises(DataError, match=sentence):
        load_stroke_file(path)


def test_pickles_folders_and_half_splits_are_refused_with_what_to_do(tmp_path, drawings):
    """Planted: the form of sketch-rnn's files, arrays of Python objects. They are never opened."""
    path = tmp_path / "own.npz"
    ragged = np.empty(2, object)
    ragged[:] = drawings[:2]
    np.savez(path, train=ragged, valid=ragged, test=ragged)
    with pytest.raises(
        DataError, match=r"type object .* may hold pickles, which are not opened; docs"
    ):
        load_stroke_file(path)
    np.savez(path, train_points=drawings[0])
    with pytest.raises(DataError, match="has no array 'train_lengths'"):
        load_stroke_file(path)
    np.savez(path)
    with pytest.raises(DataError, match=r"has none. It must be a .npz"):
        load_stroke_file(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match="cannot be read"):
        load_stroke_file(path)
    with pytest.raises(DataError, match=r"is a folder. Give the path of one file"):
        load_stroke_file(tmp_path)
    np.savez(path, *drawings[:3])
    with pytest.raises(DataError, match="has 3 sequences: too few"):
        load_stroke_file(path)
    with pytest.raises(UserError, match="0 drawings were asked for"):
        load_stroke_file(path, max_rows=0)
