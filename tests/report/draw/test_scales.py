from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from tightbound.report.draw.scales import (
    HEIGHT,
    LARGEST,
    TOP,
    WIDTH,
    Frame,
    groups_of_near,
    log_ticks,
    padded,
    tick_labels,
    ticks,
    ticks_at,
)

FINITE = st.floats(-1e9, 1e9, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e9))
def test_ticks_are_few_round_multiples_inside_the_range(low, width):
    """Law: their distance is 1, 2 or 5 times a power of ten, and there are three to nine."""
    found = ticks(low, low + width)
    assert 3 <= len(found) <= 9
    assert all(low - 1e-6 * width <= t <= low + width * (1 + 1e-6) for t in found)
    assert len(set(tick_labels(found))) == len(found)
    step = (found[-1] - found[0]) / (len(found) - 1)
    mantissa = step / 10.0 ** np.floor(np.log10(step) + 1e-4)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5, 2e3, [1, 10, 100, 1000]),
        (0.8, 30.0, [1, 2, 5, 10, 20]),
        (3.1, 4.4, [3.2, 3.4, 3.6, 3.8, 4.0, 4.2, 4.4]),
        (1e-20, 1e3, [1e-20, 1e-16, 1e-12, 1e-8, 1e-4, 1.0]),
    ],
)
def test_a_logarithmic_axis_has_ticks_whatever_its_range(low, high, expected):
    """Oracle: written by hand for many, two and no powers of ten."""
    assert_allclose(log_ticks(low, high), expected)


def test_a_frame_puts_its_corners_on_the_drawing():
    """Closed form: low and high are the ends of the axes; a log axis halves at the geometric mean."""
    frame = Frame((0.0, 10.0), (1.0, 100.0), log_y=True)
    left, right = frame.across(np.array([0.0, 10.0]))
    bottom, middle, top = frame.down(np.array([1.0, 10.0, 100.0]))
    assert 0 < left < right < WIDTH
    assert TOP == top < bottom < HEIGHT
    assert middle == pytest.approx((top + bottom) / 2)
    assert np.isnan(frame.down(np.array([0.0, -1.0]))).all()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(FINITE, st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308])), max_size=6
    )
)
def test_a_range_has_room_and_holds_every_finite_value(values):
    """Law, for one value, equal values, none and those that are not finite."""
    for log in (False, True):
        low, high = padded(np.array(values, float), log=log)
        assert np.isfinite([low, high]).all()
        assert low < high
        finite = [v for v in values if abs(v) < LARGEST and (v > 1 / LARGEST or not log)]
        assert all(low <= v <= high for v in finite)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([500.0], [500]),
        ([500.0] * 3, [500]),
        ([0.37], [0.37]),
        ([0.0, 1.0, 2.0], [0, 1, 2]),
        ([499.0, 500.0], [499, 500]),
        ([0.0, 0.5, 1.0], [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([0.0, 2000.0], [0, 500, 1000, 1500, 2000]),
    ],
)
def test_one_value_has_one_tick_and_whole_numbers_have_whole_ticks(values, expected):
    """No step 499.6: oracle written by hand."""
    assert_allclose(ticks_at(np.array(values)), expected)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 300), max_size=12), st.floats(1, 50))
def test_groups_hold_every_value_once_and_begin_a_gap_apart(heights, gap):
    """Law: what is written once a group, at its lowest member, never lies over the next."""
    groups = groups_of_near(np.array(heights), gap)
    assert sorted(place for group in groups for place in group) == list(range(len(heights)))
    first = [heights[group[0]] for group in groups]
    assert all(high - low >= gap for low, high in pairwise(first))
    assert all(heights[place] - heights[g[0]] < gap for g in groups for place in g)


@pytest.mark.parametrize("value", [0.0, 1e-9, -3.0, 5e-324])
def test_a_single_value_stands_in_the_middle_of_its_range(value):
    """A site that is exactly zero has an axis from -1 to 1, not one of millionths."""
    low, high = padded(np.array([value]))
    assert low < value < high
    assert (low + high) / 2 == pytest.approx(value)
    if value == 0:
        assert (low, high) == (-1.0, 1.0)
