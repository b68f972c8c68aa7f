"""What every chart is made of: a figure, its drawing and legend, the axes, the places of a pointer."""

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from tightbound.report.draw.scales import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    log_ticks,
    tick_labels,
    ticks,
)


def figure(title: str, note: str, legend: str, drawing: str) -> str:
    """A chart as the page has it, under its title."""
    caption = f"<strong>{escape(title)}</strong>" + (
        f" <span>{escape(note)}</span>" if note else ""
    )
    return f'<figure class="chart"><figcaption>{caption}</figcaption>{legend}{drawing}</figure>'


def svg(drawing: Sequence[str], points: Sequence[list], *, height: int = HEIGHT) -> str:
    """A drawing WIDTH wide; `points` are where a pointer is told something, each a `point`."""
    data = escape(json.dumps(list(points), ensure_ascii=False, allow_nan=False))
    pointer = f'<line class="pointer" x1="0" x2="0" y1="{TOP}" y2="{height - BOTTOM}" hidden=""/>'
    body = "".join(drawing)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" data-points="{data}">{body}{pointer}</svg>'
    )


def empty(reason: str) -> str:
    """What stands in place of a drawing."""
    return f'<p class="empty">{escape(reason)}</p>'


def legend_of(entries: Sequence[tuple[str, int]]) -> str:
    items = (f'<li class="c{colour}">{escape(name)}</li>' for name, colour in entries)
    return f'<ul class="legend">{"".join(items)}</ul>'


def axes(
    frame: Frame,
    x_label: str,
    y_label: str,
    *,
    across: Sequence[float] | None = None,
    up: Sequence[float] | None = None,
) -> str:
    """`across` and `up` are the ticks of x and y, round numbers where none are given."""
    parts = []
    across = ticks(*frame.x) if across is None else across
    if up is None:
        up = log_ticks(*frame.y) if frame.log_y else ticks(*frame.y)
    for y, label in zip(frame.down(np.array(up)), tick_labels(list(up)), strict=True):
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
    for x, label in zip(frame.across(np.array(across)), tick_labels(list(across)), strict=True):
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>'
        )
    base = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(f'<text class="axis-name" x="4" y="14">{escape(y_label)}</text>')
    parts.append(axis_name(x_label, HEIGHT - 8))
    return "".join(parts)


def upright_grid(frame: Frame, bottom: int) -> str:
    """The lines and numbers of an x axis below rows."""
    across = ticks(*frame.x)
    return "".join(
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
        for x, label in zip(frame.across(np.array(across)), tick_labels(across), strict=True)
    )


def axis_name(label: str, y: int) -> str:
    """What runs along x, at the right below the drawing."""
    return (
        f'<text class="axis-name" x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">'
        f"{escape(label)}</text>"
    )


def point(x: float, y: float | None, text: str) -> list:
    """What a pointer is told near (x, y), or wherever it is near x."""
    return [round(float(x), 1), None if y is None else round(float(y), 1), text]
