import numpy as np
import pytest
from matplotlib.image import imread

from tightbound.families.sequences.sheets import (
    SequencePicture,
    common_range,
    write_rolls,
    write_series,
)

BLACK, BLUE = (0x1D / 255, 0x21 / 255, 0x26 / 255), (0x1F / 255, 0x5F / 255, 0xA8 / 255)


def where(pixels, colour):
    """Rows and columns of the large patches of a colour, text and lines left out."""
    same = np.all(np.abs(pixels[..., :3] - colour) < 0.01, axis=-1)
    inner = same[1:-1, 1:-1] & same[:-2, 1:-1] & same[2:, 1:-1] & same[1:-1, :-2] & same[1:-1, 2:]
    return np.argwhere(inner)


def test_rolls_have_pitch_upwards_time_to_the_right_and_what_is_given_in_black(tmp_path):
    """Oracle: the places of coloured pixels. Two notes are given, low then high; one is drawn, low."""
    roll = np.zeros((12, 88))
    roll[0:3, 10], roll[3:6, 20], roll[8:12, 10] = 1, 1, 1
    path = tmp_path / "a.png"
    write_rolls([SequencePicture("a", roll, 6)], path, 2, lowest_pitch=21)
    pixels = imread(path)
    given, drawn = where(pixels, BLACK), where(pixels, BLUE)
    early = given[given[:, 1] < np.median(drawn[:, 1]) - 1]
    low, high = early[:, 0].max(), early[:, 0].min()
    assert abs(np.median(drawn[:, 0]) - low) < 12 < low - high  # the same pitch, below the other
    first_high = early[early[:, 0] < (low + high) / 2][:, 1].min()
    assert early[early[:, 0] > (low + high) / 2][:, 1].max() <= first_high + 1 < drawn[:, 1].min()


def test_silent_rolls_and_short_ones_are_drawn(tmp_path):
    """No pitch sounds; lengths differ; the last line of the sheet is not full."""
    shown = [SequencePicture("a", np.zeros((n, 88)), 0) for n in (1, 4, 9)]
    write_rolls(shown, tmp_path / "a.png", 2, lowest_pitch=21)
    assert imread(tmp_path / "a.png").shape[1] == 1080


def test_series_have_one_scale_that_an_exploding_one_does_not_set():
    """Oracle: by hand, with 6 % margin. A real series from 1 to 3 lets others show from -3 to 7."""
    real = SequencePicture("real", np.array([[1.0], [3.0]]), 2)

    def beside(*values):
        return common_range([real, SequencePicture("drawn", np.array(values)[:, None], 0)])

    assert beside(1.5, 2.0) == pytest.approx((1 - 0.12, 3 + 0.12))
    assert beside(0.0, 5.0) == pytest.approx((0 - 0.3, 5 + 0.3))
    assert beside(-1e9, np.inf, 1e9, np.nan) == pytest.approx((-3 - 0.6, 7 + 0.6))
    assert common_range([SequencePicture("drawn", np.array([[2.0]]), 0)]) == (1.0, 3.0)


@pytest.mark.parametrize("size", [1, 3])
def test_series_of_any_length_and_size_are_drawn(tmp_path, size):
    walk = np.random.default_rng(0).normal(size=(30, size)).cumsum(0)
    shown = [SequencePicture("real", walk, 30), SequencePicture("drawn", walk[:1], 0)]
    write_series([*shown, SequencePicture("8 steps given", walk, 8)], tmp_path / "a.png", 2)
    pixels = imread(tmp_path / "a.png")
    assert pixels.shape[1] == 1080
    assert pixels.std() > 0.01
