import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread

from tightbound.families.sequences.stroke_drawings import (
    Line,
    StrokePicture,
    lay_out,
    svg_file,
    write_png,
)

SVG = "{http://www.w3.org/2000/svg}"


def picture(points, kind="drawn", name="one"):
    return StrokePicture(name, (Line(np.asarray(points, float), kind),))


SQUARE = [(0, 0), (0, 10), (10, 10), (10, 0)]


def extent(sheet, index):
    points = sheet.lines[index].points
    return points.max(0) - points.min(0)


def test_what_is_higher_in_the_data_is_higher_on_the_page():
    """Oracle: the sign. Pages count from above, so the larger y has the smaller pixel."""
    sheet = lay_out([picture([(0, 0), (1, 5)])], 1)
    (x_low, y_low), (x_high, y_high) = sheet.lines[0].points
    assert y_high < y_low
    assert x_high > x_low
    assert (y_low - y_high) / (x_high - x_low) == pytest.approx(5)  # and nothing is stretched


def test_pictures_have_one_scale_set_by_the_real_ones():
    """Identity: sizes on the page are those of the data times one number; a path too large for its
    cell is drawn smaller, inside it."""
    small, large = np.array(SQUARE) / 2, np.array(SQUARE) * 7
    sheet = lay_out([picture(SQUARE, "real"), picture(small), picture(large)], 3)
    np.testing.assert_allclose(extent(sheet, 1), extent(sheet, 0) / 2)
    np.testing.assert_allclose(extent(sheet, 2), extent(sheet, 0))
    for line, (x, y, width, height) in zip(sheet.lines, sheet.cells, strict=True):
        assert ((line.points > (x, y)) & (line.points < (x + width, y + height))).all()


def test_cells_are_on_the_page_and_do_not_overlap():
    """Oracle: every pair of rectangles, captions included."""
    sheet = lay_out([picture(SQUARE, name=str(i)) for i in range(7)], 3)
    boxes = [(x, y - 18, x + w, y + h) for x, y, w, h in sheet.cells]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left < right <= sheet.width
        assert 0 <= top < bottom <= sheet.height
        for other in boxes[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_svg_and_png_show_the_same_lines(tmp_path):
    """Oracles: an XML reader, and the colour of pixels where lines and a dot are."""
    dot = StrokePicture("<&>", (Line(np.array([[0.0, 0.0]]), "drawn"),))
    sheet = lay_out([picture(SQUARE, "real"), dot], 2)
    root = ET.fromstring(svg_file(sheet, "a & b"))
    paths = list(root.iter(f"{SVG}path"))
    assert [path.get("class") for path in paths] == ["real", "drawn"]
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", paths[0].get("d"))]
    np.testing.assert_allclose(numbers, sheet.lines[0].points.ravel(), atol=0.051)
    assert [text.text for text in root.iter(f"{SVG}text")] == ["one", "<&>"]
    write_png(sheet, tmp_path / "a.png")
    pixels = imread(tmp_path / "a.png")
    assert pixels.shape[:2] == pytest.approx((sheet.height, sheet.width), abs=1)
    for line in sheet.lines:
        x, y = line.points[:2].mean(0).astype(int)
        around = pixels[y - 2 : y + 3, x - 2 : x + 3, :3]
        assert around.min() < 0.5


def test_a_sheet_needs_a_picture_and_a_column():
    with pytest.raises(ValueError, match="there are 0 pictures and `columns` is 2"):
        lay_out([], 2)


def test_a_path_without_extent_is_drawn_in_the_middle():
    """All points in one place: no division by zero."""
    sheet = lay_out([picture([(3, 3), (3, 3)], "real")], 1)
    x, y, width, height = sheet.cells[0]
    np.testing.assert_allclose(sheet.lines[0].points, [[x + width / 2, y + height / 2]] * 2)
