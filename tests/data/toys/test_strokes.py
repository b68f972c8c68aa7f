"""Made-up words. Oracles: lengths counted by hand from the alphabet, moments by NumPy, the drawing."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.strokes import Strokes, positions
from tightbound.data.toys.strokes import NUM_ROWS, _alphabet, load_toy_strokes
from tightbound.errors import UserError


@pytest.fixture(scope="module")
def toy():
    return load_toy_strokes()


def path_of(split, scale, row):
    """The real steps of a row, in units."""
    real = split.mask[row]
    values = split.x.values
    return Strokes(scale.undo(values.offset[row, real]), np.asarray(values.pen[row, real], float))


def test_every_call_makes_the_same_words_and_splits_share_none(toy):
    splits, scale, notes = toy
    again, other_scale, _ = load_toy_strokes()
    assert notes == ()
    for name, split in splits.items():
        assert len(split) == NUM_ROWS[name]
        assert_array_equal(split.x.values.offset, again[name].x.values.offset)
    assert_array_equal(scale.mean, other_scale.mean)
    rows = [
        split.x.values.offset[row, 1:8].tobytes() for split in splits.values() for row in range(96)
    ]
    assert len(set(rows)) == len(rows)


def test_a_word_is_as_long_as_its_letters_and_lifts_the_pen_after_each_arc(toy):
    """Oracle: one step at the origin, and for every arc a jump and its steps."""
    splits, scale, _ = toy
    lengths = [sum(1 + arc.num_steps for arc in arcs) for arcs in _alphabet()]
    shortest, longest = 1 + min(lengths), 1 + 3 * max(lengths)
    for split in splits.values():
        assert split.num_units.min() >= shortest
        assert split.num_units.max() <= longest
        assert np.ptp(split.num_units) > 20
    for row in range(20):
        path = path_of(splits["train"], scale, row)
        assert_allclose(path.offset[0], 0.0, atol=1e-5)
        first_letter = _alphabet()[splits["train"].groups[row]]
        assert np.flatnonzero(path.pen)[0] == 1 + first_letter[0].num_steps
        assert path.pen[-1] == 1
        assert len(positions(path)) == path.pen.sum()


def test_offsets_are_of_the_pens_size_and_lean_to_the_right(toy):
    """Moments of the training split over real steps are the scale's: 0 and 1 once normalised."""
    splits, scale, _ = toy
    train = splits["train"]
    real = train.x.values.offset[train.mask].astype(float)
    assert_allclose(real.mean(0), 0.0, atol=1e-6)
    assert_allclose(real.std(0), 1.0, atol=1e-6)
    assert (scale.scale > 10).all()
    assert (scale.scale < 30).all()
    assert scale.mean[0] > 0.1 * scale.scale[0]


def test_more_letters_make_longer_rows_and_less_equal_ones():
    splits, _, _ = load_toy_strokes(num_letters=16, max_rows=64)
    assert len(splits["train"]) == 64
    lengths = splits["train"].num_units
    assert lengths.max() > 120
    assert lengths.max() > 8 * lengths.min()
    cut, _, _ = load_toy_strokes(num_letters=16, max_rows=64, max_length=40)
    assert cut["train"].num_units.max() <= 40


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_letters": 0}, "Words of at most 0 letters were asked for; give at least 1"),
        ({"max_rows": 0}, "0 words of each split were asked for; give at least 1"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        load_toy_strokes(**settings)
