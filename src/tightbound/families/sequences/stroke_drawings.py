"""Contact sheets of pen strokes as SVG and PNG, from one layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

LineKind = Literal["real", "given", "drawn"]

LIGHT: Mapping[str, str] = {
    **{"real": "#1d2126", "given": "#6b6b6b", "drawn": "#1f5fa8"},
    **{"paper": "#ffffff", "rule": "#dfe2e6", "soft": "#5c6570"},
}
DARK: Mapping[str, str] = {
    **{"real": "#e6e8ea", "given": "#a0a0a0", "drawn": "#6fb1ff"},
    **{"paper": "#1b1f23", "rule": "#333a41", "soft": "#9aa5b0"},
}
SHEET_WIDTH = 1080.0  # pixels, the width of a report's column
_INK = 1.6  # width of a line
_GAP, _INNER, _CAPTION, _TYPE = 10.0, 8.0, 18.0, 11
_SHAPES = (0.35, 1.0)  # of a cell, height over width


@dataclass(frozen=True)
class Line:
    """A polyline whose y grows upwards; one point is a dot."""

    points: Float[np.ndarray, "points 2"]
    kind: LineKind


@dataclass(frozen=True)
class StrokePicture:
    """One path of a sheet, and what stands above it."""

    name: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Caption:
    """What stands above a picture, at its baseline."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Sheet:
    """Everything on the page, in pixels from its upper left corner."""

    width: float
    height: float
    cells: tuple[tuple[float, float, float, float], ...]  # x, y, width, height
    lines: tuple[Line, ...]
    captions: tuple[Caption, ...]


def lay_out(pictures: Sequence[StrokePicture], columns: int) -> Sheet:
    """The pictures in lines of `columns`, each in the middle of its cell.

    All are drawn to one scale, at which the largest real path fills its cell (the largest of all
    where none is real); a larger one is drawn smaller, so that it stays in its own.
    """
    if not pictures or columns < 1:
        raise ValueError(
            f"A sheet needs at least one picture and one column, but there are {len(pictures)} "
            f"pictures and `columns` is {columns}."
        )
    columns = min(columns, len(pictures))
    boxes = [_box(picture) for picture in pictures]
    setting = [
        box
        for box, picture in zip(boxes, pictures, strict=True)
        if any(line.kind == "real" for line in picture.lines)
    ]
    wide, high = np.max([high - low for low, high in setting or boxes], axis=0)
    width = (SHEET_WIDTH - _GAP * (columns + 1)) / columns
    height = width * float(np.clip(high / wide if wide > 0 else 1.0, *_SHAPES))
    room = np.array([width, height]) - 2 * _INNER
    common = _scale(room, np.array([wide, high]))
    cells, lines, captions = [], [], []
    for i, (picture, (low, high)) in enumerate(zip(pictures, boxes, strict=True)):
        row, column = divmod(i, columns)
        x = _GAP + column * (width + _GAP)
        y = _GAP + row * (height + _CAPTION + _GAP) + _CAPTION
        cells.append((x, y, width, height))
        captions.append(Caption(x + 2, y - 5, picture.name))
        scale = min(common, _scale(room, high - low))
        middle = np.array([x + width / 2, y + height / 2])
        for line in picture.lines:
            off = (line.points - (low + high) / 2) * scale
            lines.append(Line(middle + off * np.array([1.0, -1.0]), line.kind))
    num_rows = -(-len(pictures) // columns)
    total = _GAP + num_rows * (height + _CAPTION + _GAP)
    return Sheet(SHEET_WIDTH, total, tuple(cells), tuple(lines), tuple(captions))


def svg_file(sheet: Sheet, title: str) -> str:
    """The sheet as a file of its own, light or dark as its reader likes it."""
    cells = "".join(
        f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="4"/>'
        for x, y, w, h in sheet.cells
    )
    lines = "".join(f'<path class="{line.kind}" d="{_path(line.points)}"/>' for line in sheet.lines)
    captions = "".join(
        f'<text x="{c.x:.1f}" y="{c.y:.1f}">{escape(c.text)}</text>' for c in sheet.captions
    )
    size = f"{sheet.width:.0f} {sheet.height:.0f}"
    width, height = size.split()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {size}"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f'<rect class="paper" width="100%" height="100%"/>{cells}{lines}{captions}</svg>\n'
    )


def write_png(sheet: Sheet, path: Path) -> None:
    """The light sheet as a picture, pixel for pixel."""
    # Not at the top: matplotlib is an extra. A Figure of its own needs no display and no state.
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(sheet.width / 100, sheet.height / 100), dpi=100)
    figure.set_facecolor(LIGHT["paper"])
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, sheet.width), ylim=(sheet.height, 0))
    axes.set_axis_off()
    points = 72 / 100  # the figure has 100 pixels to the inch
    for x, y, width, height in sheet.cells:
        cell = Rectangle((x, y), width, height, fill=False, edgecolor=LIGHT["rule"], linewidth=0.8)
        axes.add_patch(cell)
    for line in sheet.lines:
        x, y = line.points.T
        look = {"color": LIGHT[line.kind], "linewidth": _INK * points}
        if len(x) == 1:
            axes.plot(x, y, marker="o", markersize=2 * _INK * points, **look)
        else:
            axes.plot(x, y, solid_capstyle="round", solid_joinstyle="round", **look)
    for caption in sheet.captions:
        axes.text(caption.x, caption.y, caption.text, fontsize=_TYPE * points, color=LIGHT["soft"])
    figure.savefig(path)


def _box(picture: StrokePicture) -> Float[np.ndarray, "2 2"]:
    """The lowest and the highest x and y."""
    if not picture.lines:
        return np.zeros((2, 2))
    points = np.concatenate([line.points for line in picture.lines])
    return np.stack([points.min(0), points.max(0)])


def _scale(room: Float[np.ndarray, "2"], size: Float[np.ndarray, "2"]) -> float:
    """Pixels per unit at which something of this size fits; a dot fits at any."""
    extent = np.maximum(size, 1e-12)
    return float((room / extent).min())


def _path(points: Float[np.ndarray, "points 2"]) -> str:
    """A line of no length at the first point, so that a dot shows."""
    moves = [f"L{x:.1f} {y:.1f}" for x, y in points[1:]]
    return f"M{points[0, 0]:.1f} {points[0, 1]:.1f}h0{''.join(moves)}"


def _style() -> str:
    def variables(colours: Mapping[str, str]) -> str:
        return "".join(f" --{name}: {colour};" for name, colour in colours.items())

    kinds = "".join(
        f".{kind} {{ stroke: var(--{kind}); }}\n" for kind in ("real", "given", "drawn")
    )
    return (
        f"svg {{{variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ svg {{{variables(DARK)} }} }}\n"
        f"path {{ fill: none; stroke-width: {_INK}; stroke-linecap: round; stroke-linejoin: round; }}\n"
        f"{kinds}.cell {{ fill: none; stroke: var(--rule); }}\n.paper {{ fill: var(--paper); }}\n"
        f"text {{ font: {_TYPE}px system-ui, sans-serif; fill: var(--soft); }}\n"
    )


_STYLE = _style()
