import json
import re
from dataclasses import replace
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.image import imread

from fixtures.reports import write_report
from tightbound.errors import UserError
from tightbound.families.edits import drawings as trajectory_drawings
from tightbound.families.edits.drawings import DARK, LIGHT, lay_out, svg, svg_file, write_png
from tightbound.families.edits.in_words import DrawnEdit, DrawnString, DrawnTrajectory

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'&$x^$\x0b"

# Machado et al. 2009, table 1, severity 1: what a dichromat sees of linear red, green and blue.
DICHROMATS = {
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanope": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def trajectory(word="a", sources=(1, 2)):
    """A string of two words, and one made of it: the first substituted, the second copied."""
    end = DrawnEdit("EOS", "", 0, -0.25)
    first = (DrawnEdit("INS", word, 0, -1.5), DrawnEdit("INS", "b", 0, None), end)
    one, other = sources
    second = (DrawnEdit("SUB", "c", one, -4.0), DrawnEdit("CPY", "b", other, -0.5), end)
    return DrawnTrajectory((DrawnString("a b", first, -0.1), DrawnString("c b", second, -0.2)))


def drawn(*trajectories):
    return ET.fromstring(svg(lay_out(trajectories), "by hand"))


def boxes_and_arrows(root):
    """The middles of all boxes by word, and of every arrow where it begins and where it ends."""
    middles, arrows = {}, []
    for group in root.iter(f"{SVG}g"):
        text, line = group.find(f"{SVG}text"), group.find(f"{SVG}path")
        if text is not None:
            middles.setdefault(text.text, []).append(float(text.get("x")))
        if line is not None:
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", line.get("d"))]
            arrows.append((group.get("class"), numbers[0], numbers[-2]))
    return middles, arrows


@pytest.mark.parametrize("sources", [(1, 2), (2, 1), (2, 2)])
def test_every_arrow_leads_from_the_word_the_edit_names_to_the_word_it_wrote(sources):
    """Oracle: the middles of the boxes, found by their words."""
    middles, arrows = boxes_and_arrows(drawn(trajectory(sources=sources)))
    first_row = [middles["a"][0], middles["b"][0]]
    one, other = sources
    assert arrows == [
        ("sub", first_row[one - 1], middles["c"][0]),
        ("cpy", first_row[other - 1], middles["b"][1]),
    ]


def test_arrows_one_place_off_would_be_seen():
    """The planted bug: places counted from 0."""
    right = boxes_and_arrows(drawn(trajectory(sources=(1, 2))))[1]
    assert boxes_and_arrows(drawn(trajectory(sources=(0, 1))))[1] != right


def test_a_source_that_is_not_there_has_no_arrow():
    """A damaged file names words beyond the string before."""
    assert boxes_and_arrows(drawn(trajectory(sources=(3, -1))))[1] == []


def test_hostile_words_stay_words():
    """In the drawing, well-formed, adding no element; what XML cannot hold is replaced."""
    plain, hostile = drawn(trajectory()), drawn(trajectory(HOSTILE))
    assert [e.tag for e in hostile.iter()] == [e.tag for e in plain.iter()]
    hints = [title.text for title in hostile.iter(f"{SVG}title")]
    assert f"INS({HOSTILE[:-1]}\ufffd): -1.50 nats" in hints
    ET.fromstring(svg_file(lay_out([trajectory(HOSTILE)]), HOSTILE))


def test_without_escaping_the_hostile_words_would_be_caught(monkeypatch):
    """The planted bug."""
    monkeypatch.setattr(trajectory_drawings, "escape", lambda text: text)
    with pytest.raises(ET.ParseError):
        drawn(trajectory(HOSTILE))


def test_everything_lies_inside_the_drawing():
    """Long words, wide letters, a hundred words; boxes of one row do not touch."""
    many = tuple(DrawnEdit("INS", "word" * (i % 20), 0, -1e30) for i in range(100))
    long = DrawnTrajectory((DrawnString("", (*many, DrawnEdit("INS", "漢字", 0, -1.0)), 0.0),))
    drawing = lay_out([trajectory(), replace(long, note="n" * 500)])
    ends = [box.x + box.width for box in drawing.boxes]
    assert max(ends) <= drawing.width
    assert max(box.y + 36 for box in drawing.boxes) <= drawing.height
    row = [box for box in drawing.boxes if box.y == drawing.boxes[-1].y]
    assert len(row) == 102
    assert all(b.x > a.x + a.width for a, b in pairwise(row))
    assert max(len(box.word) for box in row) == 24


def test_the_png_is_the_same_drawing_with_its_colours(tmp_path):
    """Another library's decoder finds the size and every colour; `$` and missing signs are no error."""
    drawing = lay_out([trajectory("$x^$ 漢\x0b")])
    write_png(drawing, tmp_path / "drawn.png")
    picture = imread(tmp_path / "drawn.png")[..., :3]
    assert picture.shape[:2] == (int(drawing.height * 2), int(drawing.width * 2))
    for kind in ("ins", "cpy", "sub", "end"):
        away = np.abs(picture - [channel / 255 for channel in rgb(LIGHT[kind])]).max(-1)
        assert (away < 0.02).sum() > 20, kind


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_the_three_kinds_of_edit_stay_apart_for_colour_blind_readers(colours):
    """Oracle: the CIE distance of what dichromats see; a just noticeable one is about 2.3."""
    kinds = [colours[kind] for kind in ("ins", "cpy", "sub")]
    for sight in (np.eye(3), *map(np.array, DICHROMATS.values())):
        assert min(distance(a, b, sight) for a, b in combinations(kinds, 2)) > 20


def test_red_and_green_would_be_confused():
    """The planted bug: of one lightness, a deuteranope cannot tell them apart."""
    assert distance("#b35c00", "#728000", np.array(DICHROMATS["deuteranope"])) < 20


def rgb(colour):
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def distance(one, other, sight):
    """CIE 1976 distance of two colours as seen by eyes that mix the linear primaries like this."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )

    def lab(colour):
        share = np.array(rgb(colour)) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        x, y, z = to_xyz @ np.clip(sight @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
        x, y, z = (np.cbrt(v) if v > (6 / 29) ** 3 else v * 841 / 108 + 4 / 29 for v in (x, y, z))
        return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    return np.linalg.norm(lab(one) - lab(other))


def sampled(folder, *trajectories):
    """What `sample` leaves in a run's folder."""
    document = {"schema": 1, "trajectories": [t.to_json() for t in trajectories]}
    (folder.samples / "trajectories-step-00002000.json").write_text(json.dumps(document))
    write_png(lay_out(trajectories), folder.samples / "trajectories-step-00002000.png")


def test_the_page_draws_the_trajectories_of_the_run_once_and_adds_no_element(make_run):
    """The drawing stands for its own PNG; hostile words are words there too."""
    folder = make_run()
    before = write_report(folder).read_text()
    sampled(folder, trajectory(HOSTILE))
    page = write_report(folder).read_text()
    assert page.count('<svg class="trajectories"') == 1
    assert before.count("<img") == page.count("<img") == 1
    assert page.count("<script>") == 1


def test_damaged_trajectories_are_named(make_run):
    """A document of another kind."""
    folder = make_run()
    (folder.samples / "trajectories-step-00002000.json").write_text("[1]")
    with pytest.raises(UserError, match=r"trajectories-step-00002000\.json is damaged"):
        write_report(folder)
