"""Trajectories of edits as pictures: strings from top to bottom, arrows to copied words from their
sources. One layout, drawn as SVG (inline in a page or a file of its own) or by matplotlib.

Coordinates are pixels from the top left. A drawing is as wide as its longest string: where the page
is narrower it scrolls, since broken lines would tear the arrows apart.
"""

import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

from tightbound.families.edits.in_words import DrawnTrajectory, Op, nats

Kind = Literal["ins", "cpy", "sub", "end"]

# Three that stay apart in every kind of colour blindness; a copy has an arrow besides, and an
# insertion has none.
LIGHT: Mapping[str, str] = {
    **{"ins": "#c4570a", "cpy": "#1d4f9c", "sub": "#2f9a81", "end": "#6b6b6b"},
    **{"paper": "#ffffff", "ink": "#1d2126", "soft": "#5c6570"},
}
DARK: Mapping[str, str] = {
    **{"ins": "#ff9d5c", "cpy": "#5b9dff", "sub": "#7fe0c8", "end": "#a0a0a0"},
    **{"paper": "#1b1f23", "ink": "#e6e8ea", "soft": "#9aa5b0"},
}
_KINDS: Mapping[Op, Kind] = {"INS": "ins", "CPY": "cpy", "SUB": "sub", "EOS": "end"}
_NAMES: Mapping[Kind, tuple[str, str]] = {
    "ins": ("INS(word)", "inserted"),
    "cpy": ("CPY(place)", "copied"),
    "sub": ("SUB(word, place)", "substituted"),
    "end": ("EOS  NEXT  STOP", "ends"),
}

WORD_SIZE, NUMBER_SIZE = 12, 10  # pixels of type
_CELL = 0.602  # width of a letter in a fixed-width font, over its size
_BOX, _GAP, _BETWEEN_ROWS, _BETWEEN_TRAJECTORIES = 36.0, 8.0, 44.0, 30.0
_MARGIN, _LEFT, _HEAD = 12.0, 76.0, 5.0
_WORD_LINE, _NUMBER_LINE = 15.0, 29.0  # baselines in a box
_TINT = 0.16  # opacity of a box's filling
_LONGEST = 24  # letters of a word that are shown


@dataclass(frozen=True)
class Box:
    """A decision: what it writes, and what it cost."""

    x: float
    y: float
    width: float
    word: str
    number: str
    kind: Kind
    hint: str  # what a pointer is told
    given: bool = False

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Arrow:
    """From a word to what was made of it in the next string."""

    x: float
    y: float
    to_x: float
    to_y: float
    kind: Kind


@dataclass(frozen=True)
class Label:
    """Text beside the boxes."""

    x: float
    y: float
    text: str
    kind: Literal["heading", "row", "number"]


@dataclass(frozen=True)
class Drawing:
    """Everything on the page, where it stands."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    labels: tuple[Label, ...]


def lay_out(trajectories: Sequence[DrawnTrajectory]) -> Drawing:
    """Trajectories one below the other, under one legend."""
    boxes = _legend()
    arrows: list[Arrow] = []
    labels: list[Label] = []
    top = _MARGIN + _BOX + _BETWEEN_TRAJECTORIES
    for trajectory in trajectories:
        labels.append(Label(_MARGIN, top, trajectory.heading, "heading"))
        top += _GAP
        before: list[Box] = []
        for index, string in enumerate(trajectory.strings):
            row = _row(trajectory, index, top)
            labels += [
                Label(_MARGIN, top + _WORD_LINE, str(index + 1), "row"),
                Label(_MARGIN, top + _NUMBER_LINE, nats(string.total), "number"),
            ]
            for edit, box in zip(string.edits, row, strict=False):
                if edit.op in ("CPY", "SUB") and 1 <= edit.source <= len(before):
                    source = before[edit.source - 1]
                    bottom = source.y + _BOX
                    arrows.append(Arrow(source.middle, bottom, box.middle, box.y, box.kind))
            boxes += row
            before = [box for box in row if box.kind != "end"]
            top += _BOX + _BETWEEN_ROWS
        top += _BETWEEN_TRAJECTORIES - _BETWEEN_ROWS + WORD_SIZE
    ends = [box.x + box.width for box in boxes]
    ends += [label.x + _width(label.text, WORD_SIZE) for label in labels]
    height = top - _BETWEEN_TRAJECTORIES
    return Drawing(max(ends) + _MARGIN, height, tuple(boxes), tuple(arrows), tuple(labels))


def svg(drawing: Drawing, title: str) -> str:
    """An `<svg>` for a page that has `STYLE`."""
    parts = [f"<title>{escape(_printable(title))}</title>"]
    parts += [_arrow_svg(arrow) for arrow in drawing.arrows]
    parts += [_box_svg(box) for box in drawing.boxes]
    parts += [
        f'<text class="{label.kind}" x="{label.x:.1f}" y="{label.y:.1f}">'
        f"{escape(_printable(label.text))}</text>"
        for label in drawing.labels
    ]
    return (
        f'<svg class="trajectories" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'width="{drawing.width:.0f}" height="{drawing.height:.0f}" '
        f'viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}">{"".join(parts)}</svg>'
    )


def svg_file(drawing: Drawing, title: str) -> str:
    """The same with its style, as a file of its own."""
    opening, closed, rest = svg(drawing, title).partition(">")
    paper = '<rect class="paper" width="100%" height="100%"/>'
    return f"{opening}{closed}<style>{STYLE}</style>{paper}{rest}\n"


def write_png(drawing: Drawing, path: Path) -> None:
    """The light drawing as a picture, twice as fine as its pixels."""
    # Not at the top: matplotlib is an extra. A Figure of its own needs no display and no state.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(drawing.width / 100, drawing.height / 100), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.set_axis_off()
    for arrow in drawing.arrows:
        _draw_arrow(axes, arrow)
    for box in drawing.boxes:
        _draw_box(axes, box)
    for label in drawing.labels:
        size = NUMBER_SIZE if label.kind == "number" else WORD_SIZE
        colour = LIGHT["soft" if label.kind == "number" else "ink"]
        weight = "normal" if label.kind == "number" else "bold"
        _draw_text(axes, label.x, label.y, label.text, size, colour, "left", weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # shown as a box
        figure.savefig(path)


def _row(trajectory: DrawnTrajectory, index: int, top: float) -> list[Box]:
    """The boxes of a string: its words, its end, and whether another follows."""
    string = trajectory.strings[index]
    row, x = [], _LEFT
    for edit in string.edits:
        given = edit.weight is None
        number = "given" if edit.weight is None else nats(edit.weight)
        hint = f"{edit.name}: {number}" + ("" if given else " nats")
        box = _box(x, top, edit.word or edit.op, number, _KINDS[edit.op], hint, given)
        row.append(box)
        x += box.width + _GAP
    name, number = trajectory.steps_name(index), nats(string.log_steps)
    meaning = "another string follows" if name == "NEXT" else "no further string"
    row.append(_box(x, top, name, number, "end", f"{meaning}: {number} nats"))
    return row


def _box(
    x: float, y: float, word: str, number: str, kind: Kind, hint: str, given: bool = False
) -> Box:
    shown = _printable(word)
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
    width = max(_width(shown, WORD_SIZE), _width(number, NUMBER_SIZE)) + 12
    return Box(x, y, width, shown, number, kind, _printable(hint), given)


def _legend() -> list[Box]:
    row, x = [], _MARGIN
    for kind, (word, number) in _NAMES.items():
        box = _box(x, _MARGIN, word, number, kind, number)
        row.append(box)
        x += box.width + _GAP
    return row


def _width(text: str, size: int) -> float:
    """Pixels of a text in a fixed-width font, in which wide characters take two cells."""
    cells = sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
    return cells * _CELL * size


def _printable(text: str) -> str:
    """Control characters, which XML cannot hold, as the sign of a missing one."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


# --- SVG -----------------------------------------------------------------------------------------


def _style() -> str:
    def variables(colours: Mapping[str, str]) -> str:
        return "".join(f" --{name}: {colour};" for name, colour in colours.items())

    kinds = "".join(f".trajectories .{kind} {{ --k: var(--{kind}); }}\n" for kind in _NAMES)
    return (
        f".trajectories {{ display: block;{variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ .trajectories {{{variables(DARK)} }} }}\n"
        f"{kinds}"
        ".trajectories .paper { fill: var(--paper); }\n"
        f".trajectories rect {{ fill: var(--k); fill-opacity: {_TINT}; stroke: var(--k); }}\n"
        ".trajectories rect.paper { fill-opacity: 1; stroke: none; }\n"
        ".trajectories .given rect { fill: none; stroke-dasharray: 3 3; }\n"
        ".trajectories .line { fill: none; stroke: var(--k); stroke-width: 1.3; opacity: 0.75; }\n"
        ".trajectories .point { fill: var(--k); stroke: none; }\n"
        f".trajectories text {{ font: {WORD_SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, "
        '"DejaVu Sans Mono", monospace; fill: var(--ink); white-space: pre; }\n'
        f".trajectories text.number {{ font-size: {NUMBER_SIZE}px; fill: var(--soft); }}\n"
        ".trajectories text.heading, .trajectories text.row { font-weight: 600; }\n"
    )


STYLE = _style()


def _box_svg(box: Box) -> str:
    kind = f"{box.kind} given" if box.given else box.kind
    return (
        f'<g class="{kind}"><title>{escape(box.hint)}</title>'
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{_BOX:.1f}" rx="4"/>'
        f'<text x="{box.middle:.1f}" y="{box.y + _WORD_LINE:.1f}" text-anchor="middle">'
        f"{escape(box.word)}</text>"
        f'<text class="number" x="{box.middle:.1f}" y="{box.y + _NUMBER_LINE:.1f}" text-anchor="middle">'
        f"{escape(box.number)}</text></g>"
    )


def _arrow_svg(arrow: Arrow) -> str:
    x, y, bend, to_x, to_y = arrow.x, arrow.y, _BETWEEN_ROWS / 2, arrow.to_x, arrow.to_y - _HEAD
    return (
        f'<g class="{arrow.kind}"><path class="line" d="M{x:.1f} {y:.1f}'
        f'C{x:.1f} {y + bend:.1f} {to_x:.1f} {to_y - bend:.1f} {to_x:.1f} {to_y:.1f}"/>'
        f'<path class="point" d="M{to_x - 3.5:.1f} {to_y - 2:.1f}h7L{to_x:.1f} {arrow.to_y:.1f}z"/>'
        "</g>"
    )


# --- matplotlib ----------------------------------------------------------------------------------


def _draw_arrow(axes: Any, arrow: Arrow) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Curve

    x, y, bend, to_x, to_y = arrow.x, arrow.y, _BETWEEN_ROWS / 2, arrow.to_x, arrow.to_y - _HEAD
    curve = Curve(
        [(x, y), (x, y + bend), (to_x, to_y - bend), (to_x, to_y)],
        [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
    )
    colour = LIGHT[arrow.kind]
    axes.add_patch(PathPatch(curve, fill=False, edgecolor=colour, linewidth=0.9, alpha=0.75))
    point = [(to_x - 3.5, to_y - 2), (to_x + 3.5, to_y - 2), (to_x, arrow.to_y)]
    axes.add_patch(Polygon(point, facecolor=colour, edgecolor="none"))


def _draw_box(axes: Any, box: Box) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

    colour = LIGHT[box.kind]
    axes.add_patch(
        FancyBboxPatch(
            (box.x, box.y),
            box.width,
            _BOX,
            boxstyle="round,pad=0,rounding_size=4",
            facecolor="none" if box.given else to_rgba(colour, _TINT),
            edgecolor=colour,
            linewidth=0.8,
            linestyle="--" if box.given else "-",
        )
    )
    _draw_text(axes, box.middle, box.y + _WORD_LINE, box.word, WORD_SIZE, LIGHT["ink"], "center")
    _draw_text(
        axes, box.middle, box.y + _NUMBER_LINE, box.number, NUMBER_SIZE, LIGHT["soft"], "center"
    )


def _draw_text(
    axes: Any,
    x: float,
    y: float,
    text: str,
    size: int,
    colour: str,
    anchor: str,
    weight: str = "normal",
) -> None:
    points = size * 72 / 100  # the figure has 100 pixels to the inch
    look = {"fontsize": points, "family": "monospace", "color": colour, "weight": weight}
    axes.text(x, y, _printable(text), ha=anchor, va="baseline", parse_math=False, **look)
