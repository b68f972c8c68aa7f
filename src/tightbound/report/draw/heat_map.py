"""Tables of shares as inline SVG: the larger a share, the stronger its cell. Several tables over the
same names stand side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

from tightbound.report.draw.charts import axis_name, empty, figure, point, svg
from tightbound.report.draw.scales import RIGHT, WIDTH

_LARGEST_CELL = 24.0  # pixels
_LETTER = 5.4  # pixels of a letter of a name
_PLAIN = 12.0  # pixels at the left and above where there are no names
_GAP, _HEADING, _FOOT = 16.0, 18.0, 30.0
_LONGEST_NAME = 18  # characters
_SMALLEST_NAMED = 8.5  # pixels of a cell below which its row and column have no name
FAINTEST = 0.004  # of the largest share: cells below are left out


@dataclass(frozen=True)
class Facet:
    """One table of shares, none negative."""

    name: str
    values: Float[np.ndarray, "rows columns"]


def heat_map(
    title: str,
    facets: Sequence[Facet],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    x_label: str,
    y_label: str,
    per_line: int = 2,
    note: str = "",
) -> str:
    """A chart of the facets, in their order, `per_line` beside each other, row 0 on top.

    All facets have the same scale: the strongest cell is the largest share of all, which the caption
    names. Names are left out where cells are too small for them; a pointer is told them everywhere.
    """
    largest = max((float(np.nanmax(f.values, initial=0.0)) for f in facets), default=0.0)
    if not 0 < largest < np.inf:
        return figure(title, note, "", empty("no finite value was recorded"))
    per_line = min(per_line, len(facets))
    left, top = _room(rows), _room(columns)
    named = _cell(len(columns), per_line, left) >= _SMALLEST_NAMED
    if not named:
        left = top = _PLAIN
    cell = _cell(len(columns), per_line, left)
    width, height = cell * len(columns), cell * len(rows)
    drawing, points = [], []
    for index, facet in enumerate(facets):
        line, place = divmod(index, per_line)
        x0 = left + place * (width + _GAP)
        y0 = top + _HEADING + line * (height + _GAP + _HEADING)
        drawing += [_box(facet.name, x0, y0, width, height), _cells(facet, x0, y0, cell, largest)]
        points += _told(facet, rows, columns, x0, y0, cell, largest)
        if named and place == 0:
            drawing.append(_row_names(rows, x0, y0, cell))
        if named and line == 0:
            drawing.append(_column_names(columns, x0, top, cell))
    num_lines = -(-len(facets) // per_line)
    bottom = top + num_lines * (height + _GAP + _HEADING)
    drawing.append(axis_name(f"down: {y_label}; across: {x_label}", round(bottom) + 10))
    note = f"{note} Strongest cell: {largest:.2g}.".strip()
    return figure(title, note, "", svg(drawing, points, height=round(bottom + _FOOT)))


def _room(names: Sequence[str]) -> float:
    """Pixels that the longest name takes."""
    return _PLAIN + _LETTER * max(len(_short(name)) for name in names)


def _cell(num_columns: int, per_line: int, left: float) -> float:
    """Pixels of a cell, so that a line of facets is as wide as a chart."""
    room = WIDTH - left - RIGHT - _GAP * (per_line - 1)
    return min(room / (per_line * num_columns), _LARGEST_CELL)


def _box(name: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<text class="name" x="{x:.1f}" y="{y - 5:.1f}">{escape(name)}</text>'
        f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )


def _cells(facet: Facet, x0: float, y0: float, cell: float, largest: float) -> str:
    rects = (
        f'<rect x="{x0 + column * cell:.1f}" y="{y0 + row * cell:.1f}" width="{cell:.1f}" '
        f'height="{cell:.1f}" fill-opacity="{facet.values[row, column] / largest:.2f}"/>'
        for row, column in _shown(facet, largest)
    )
    return f'<g class="cells c1">{"".join(rects)}</g>'


def _told(
    facet: Facet,
    rows: Sequence[str],
    columns: Sequence[str],
    x0: float,
    y0: float,
    cell: float,
    largest: float,
) -> list[list]:
    return [
        point(
            x0 + (column + 0.5) * cell,
            y0 + (row + 0.5) * cell,
            f"{facet.name}\n{rows[row]} ← {columns[column]}\n{facet.values[row, column]:.2g}",
        )
        for row, column in _shown(facet, largest)
    ]


def _shown(facet: Facet, largest: float) -> list[tuple[int, int]]:
    """The cells that can be seen; what is not finite is none of them."""
    found = np.argwhere(np.nan_to_num(facet.values) >= FAINTEST * largest)
    return [(int(row), int(column)) for row, column in found]


def _row_names(rows: Sequence[str], x0: float, y0: float, cell: float) -> str:
    return "".join(
        f'<text class="tiny" x="{x0 - 4:.1f}" y="{y0 + (i + 0.5) * cell + 3:.1f}" '
        f'text-anchor="end">{escape(_short(name))}</text>'
        for i, name in enumerate(rows)
    )


def _column_names(columns: Sequence[str], x0: float, bottom: float, cell: float) -> str:
    """Upright, read from below."""
    parts = []
    for i, name in enumerate(columns):
        x, y = x0 + (i + 0.5) * cell + 3, bottom - 2
        parts.append(
            f'<text class="tiny" transform="translate({x:.1f} {y:.1f}) rotate(-90)">'
            f"{escape(_short(name))}</text>"
        )
    return "".join(parts)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
