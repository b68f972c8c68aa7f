import numpy as np
import pytest
from matplotlib.image import imread
from numpy.testing import assert_allclose

from tightbound.report.draw.pictures import GAP, PAPER, image_sheet, png, side_by_side
from tightbound.report.draw.plots import plot_bound


def test_a_png_read_by_matplotlib_is_the_array_that_was_written(tmp_path):
    """Oracle: another library's decoder, on every grey."""
    grey = np.arange(256, dtype=np.uint8).reshape(8, 32)
    (tmp_path / "grey.png").write_bytes(png(grey))
    assert_allclose(imread(tmp_path / "grey.png") * 255, grey, rtol=1e-6)


def test_a_sheet_has_every_image_in_reading_order(tmp_path):
    """Identity: cut out of the file, tile k is image k; what is left over is paper."""
    images = np.random.default_rng(0).uniform(size=(5, 30, 40))
    image_sheet(images, tmp_path / "sheet.png", columns=3)
    read = imread(tmp_path / "sheet.png")
    scale = 640 // (3 * 41 + 1)
    small = read[::scale, ::scale]
    assert read.shape == (scale * (2 * 31 + 1), scale * (3 * 41 + 1))
    for k, image in enumerate(images):
        top, left = GAP + 31 * (k // 3), GAP + 41 * (k % 3)
        assert_allclose(small[top : top + 30, left : left + 40], image, atol=0.5 / 255 + 1e-6)
    assert_allclose(small[32:, 83:] * 255, PAPER, rtol=1e-6)


def test_pairs_stand_side_by_side(tmp_path):
    """Identity: the sheet of pairs is the sheet of the images joined along their width."""
    first, second = np.random.default_rng(1).uniform(size=(2, 4, 8, 8))
    side_by_side(first, second, tmp_path / "pairs.png", columns=2)
    image_sheet(np.concatenate([first, second], axis=2), tmp_path / "joined.png", columns=2)
    assert (tmp_path / "pairs.png").read_bytes() == (tmp_path / "joined.png").read_bytes()


def test_values_that_are_no_greys_still_give_a_picture(tmp_path):
    """Clipped to black and white; NaN is the grey of the paper."""
    image_sheet(np.array([[[np.nan, -3.0, 7.0]]]), tmp_path / "odd.png", columns=1)
    row = imread(tmp_path / "odd.png")
    scale = row.shape[1] // 5
    assert_allclose(row[scale, scale : 4 * scale : scale] * 255, [PAPER, 0, 255], rtol=1e-6)


def test_a_sheet_of_no_images_is_refused(tmp_path):
    """The sentence says what came."""
    with pytest.raises(ValueError, match=r"`images` has shape \(0, 8, 8\)"):
        image_sheet(np.zeros((0, 8, 8)), tmp_path / "none.png", columns=2)


def test_the_bound_is_plotted_also_from_one_record_and_from_nan(made_records, baselines, tmp_path):
    """A curve of 200 records, of one, and of one that is not finite: each is a picture with ink."""
    made_records[1]["train"]["bound"] |= {"value": "nan", "standard_error": "nan"}
    for name, records in [
        ("all", made_records),
        ("one", made_records[:1]),
        ("nan", made_records[1:2]),
    ]:
        plot_bound(records, baselines, tmp_path / f"{name}.png")
        assert imread(tmp_path / f"{name}.png")[..., :3].std() > 0.01
    with pytest.raises(ValueError, match="no bound to plot"):
        plot_bound([], baselines, tmp_path / "none.png")


def test_points_and_their_data_set_have_axes_of_their_own(tmp_path, made_records, baselines):
    """Of points that share their latents the picture is twice as high: held-out per point above, what is
    trained below. Oracle: the sizes of the two files."""
    sizes = []
    for pooled in (False, True):
        path = tmp_path / f"{pooled}.png"
        plot_bound(made_records, baselines, path, pooled=pooled)
        sizes.append(imread(path).shape)
    (height, width, _), (both, as_wide, _) = sizes
    assert (both, as_wide) == (2 * height, width)
