"""Small charts as inline SVG: nothing to load, they follow the page's light or dark colours, and
they print. Plotly would add 4.8 MB of script to every report.

A chart is a `<figure>` of text. What a pointer shows is in `data-points`, read by `page.js`.
Coordinates in the SVG are pixels of a frame WIDTH wide, scaled to the page's column.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

from tightbound.report.draw.scales import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    groups_of_near,
    log_ticks,
    padded,
    span,
    tick_labels,
    ticks,
    ticks_at,
)

NUM_COLOURS = 8
_ROW = 30  # pixels of a row of bars
MARKED = 60  # a curve of fewer points shows them
_LABEL_GAP = (
    20.0  # pixels from one level's name to the next: a line of text, on a narrow screen too
)
_LABEL_LENGTH = 36  # characters of the names of levels that lie together

# A drawing inside the drawing cuts off what lies outside the frame, without an id to refer to. It is
# a little wider than the frame, for the dots at its ends.
_INSIDE = (
    f'<svg x="{LEFT - 4}" y="{TOP}" width="{WIDTH - LEFT - RIGHT + 8}" '
    f'height="{HEIGHT - TOP - BOTTOM}" '
    f'viewBox="{LEFT - 4} {TOP} {WIDTH - LEFT - RIGHT + 8} {HEIGHT - TOP - BOTTOM}">'
)


@dataclass(frozen=True)
class Curve:
    """One line of a chart; it has a gap wherever `y` is not finite."""

    name: str  # "": no legend and no pointer tells of it
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    labels: tuple[str, ...]  # what a pointer is told at each point
    low: Float[np.ndarray, " points"] | None = None  # the band around it
    high: Float[np.ndarray, " points"] | None = None
    colour: int = 1  # 1 to NUM_COLOURS; page.css says which they are
    quiet: bool = False  # drawn thin: context, not the subject
    dots: bool = False  # single points that no line joins


@dataclass(frozen=True)
class Level:
    """A value to hold the curves against, drawn as a dashed line."""

    name: str
    value: float


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    y_label: str,
    x_label: str = "step",
    levels: Sequence[Level] = (),
    y_range: tuple[float, float] | None = None,
    log_y: bool = False,
    note: str = "",
) -> str:
    """Curves over a common x. `y_range` cuts the frame; the note says which levels lie outside it and
    which curves leave it."""
    shown = np.concatenate([np.zeros(0), *(c.y for c in curves)])
    shown = shown[shown > 0] if log_y else shown
    if not np.isfinite(shown).any():
        return figure(title, note, "", empty("no finite value was recorded"))
    if y_range is None:
        spread = [v for c in curves for v in (c.low, c.high) if v is not None and not log_y]
        y_range = padded(np.concatenate([shown, *spread]), log=log_y)
    along = np.concatenate([c.x for c in curves])
    frame = Frame(span(along), y_range, log_y)
    inside = [level for level in levels if y_range[0] <= level.value <= y_range[1]]
    together = _together(inside, frame)
    outside = [level for level in levels if level not in inside]
    folded = [level for group in together if not _fits(group) for level in group]
    sentences = [
        *_leaving(curves, y_range, x_label),
        f"Close together: {_with_values(folded)}." if folded else "",
        f"Outside the frame: {_with_values(outside)}." if outside else "",
    ]
    note = " ".join(sentence for sentence in (note, *sentences) if sentence)
    drawing = [
        _axes(frame, x_label, y_label, across=ticks_at(along)),
        _INSIDE,
        *(_band(c, frame) for c in curves),
        *(_line(c, frame) for c in curves),
        "</svg>",
        *(_levels(group, frame) for group in together),
    ]
    named = [curve for curve in curves if curve.name]
    legend = _legend([(c.name, c.colour) for c in named])
    return figure(title, note, legend, svg(drawing, _line_points(named, frame, x_label)))


def column_chart(
    title: str,
    names: Sequence[str],
    heights: Float[np.ndarray, " columns"],
    highlighted: Sequence[bool],
    *,
    x_label: str,
    y_label: str,
    note: str = "",
) -> str:
    """One column per name, from 0 up; columns that are not highlighted are grey."""
    if not np.isfinite(heights).any():
        return figure(title, note, "", empty("no finite value was recorded"))
    frame = Frame((0.0, float(len(heights))), (0.0, padded(np.append(heights, 0.0))[1]))
    columns = zip(heights, highlighted, strict=True)
    bars = [
        _bar(frame, (i + 0.1, i + 0.9), float(h), 1 if lit else None)
        for i, (h, lit) in enumerate(columns)
        if np.isfinite(h)
    ]
    middles = frame.across(np.arange(len(heights)) + 0.5)
    points = [
        point(x, None, f"{name}\n{h:.3g}")
        for x, name, h in zip(middles, names, heights, strict=True)
    ]
    axes = _axes(frame, x_label, y_label, across=())
    return figure(title, note, "", svg([axes, *bars], points))


def histogram(
    title: str,
    values: Float[np.ndarray, " values"],
    *,
    x_label: str,
    rule: Level | None = None,
    note: str = "",
) -> str:
    """Counts of the finite values in 40 equal bins; what is not finite is counted in the note."""
    finite = values[np.isfinite(values)]
    if len(finite) < len(values):
        note = f"{note} {len(values) - len(finite)} of {len(values)} are not finite.".strip()
    if not len(finite):
        return figure(title, note, "", empty("no finite value was recorded"))
    marks = finite if rule is None else np.append(finite, rule.value)
    counts, edges = np.histogram(finite, bins=40, range=padded(marks))
    frame = Frame((float(edges[0]), float(edges[-1])), (0.0, 1.08 * float(counts.max())))
    bars = [
        _bar(frame, (low, high), float(count), 1)
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    points = [
        point(x, None, f"{low:.3g} to {high:.3g}\n{count} of {len(values)}")
        for x, low, high, count in zip(
            frame.across((edges[:-1] + edges[1:]) / 2), edges[:-1], edges[1:], counts, strict=True
        )
    ]
    drawing = [_axes(frame, x_label, "count"), *bars]
    if rule is not None:
        [x] = frame.across(np.array([rule.value]))
        drawing.append(
            f'<line class="level" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="level-name" x="{x - 5:.1f}" y="{TOP + 12}" text-anchor="end">'
            f"{escape(rule.name)}</text>"
        )
    return figure(title, note, "", svg(drawing, points))


def scatter(
    title: str,
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    *,
    x_label: str,
    y_label: str,
    note: str = "",
) -> str:
    """One dot per pair; pairs that are not finite are left out."""
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return figure(title, note, "", empty("no finite value was recorded"))
    frame = Frame(padded(x[finite]), padded(y[finite]))
    rows = np.flatnonzero(finite)
    across, down = frame.across(x[finite]), frame.down(y[finite])
    dots = [
        f'<circle class="dot c1" cx="{a:.1f}" cy="{d:.1f}" r="3.2"/>'
        for a, d in zip(across, down, strict=True)
    ]
    points = [
        point(a, d, f"row {row}\n{x[row]:.3g}, {y[row]:.3g}")
        for a, d, row in zip(across, down, rows, strict=True)
    ]
    return figure(title, note, "", svg([_axes(frame, x_label, y_label), *dots], points))


def change_chart(
    title: str,
    names: Sequence[str],
    values: Float[np.ndarray, " names"],
    errors: Float[np.ndarray, " names"],
    labels: Sequence[str],
    *,
    x_label: str,
    note: str = "",
) -> str:
    """Signed bars from zero, one row per name, with whiskers of two standard errors."""
    whiskers = np.where(np.isfinite(errors), 2 * errors, 0.0)
    ends = np.concatenate([values - whiskers, values + whiskers, [0.0]])
    if not np.isfinite(values).any():
        return figure(title, note, "", empty("no finite value was recorded"))
    bottom = TOP + _ROW * len(names)
    frame = Frame(padded(ends[np.isfinite(ends)]), (0.0, 1.0))
    [zero] = frame.across(np.array([0.0]))
    drawing, points = [_upright_grid(frame, bottom)], []
    rows = zip(names, values, whiskers, labels, strict=True)
    for i, (name, value, whisker, label) in enumerate(rows):
        middle = TOP + _ROW * (i + 0.5)
        if np.isfinite(value):
            low, end, high = frame.across(np.array([value - whisker, value, value + whisker]))
            drawing.append(
                f'<rect class="bar c{1 if value >= 0 else 2}" x="{min(zero, end):.1f}" '
                f'y="{middle - 9:.1f}" width="{max(abs(end - zero), 0.5):.1f}" height="18"/>'
                f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
            )
            points.append(point(end, middle, f"{name}\n{label}"))
        drawing.append(
            f'<text class="name" x="{LEFT + 4}" y="{middle + 4:.1f}">{escape(name)}</text>'
        )
    drawing.append(f'<line class="axis" x1="{zero:.1f}" x2="{zero:.1f}" y1="{TOP}" y2="{bottom}"/>')
    drawing.append(axis_name(x_label, bottom + 38))
    return figure(title, note, "", svg(drawing, points, height=bottom + BOTTOM))


def stacked_chart(
    title: str,
    names: Sequence[str],
    parts: Mapping[str, Float[np.ndarray, " names"]],
    errors: Float[np.ndarray, " names"],
    *,
    x_label: str,
    y_label: str,
    note: str = "",
) -> str:
    """One row per name: its parts end to end from zero, losses to the left and gains to the right,
    with a dot at their sum and whiskers of two standard errors around it."""
    values = np.array(list(parts.values()))
    if not np.isfinite(values).any():
        return figure(title, note, "", empty("no finite value was recorded"))
    values = np.where(np.isfinite(values), values, 0.0)
    totals, whiskers = values.sum(0), np.where(np.isfinite(errors), 2 * errors, 0.0)
    reach = np.stack([np.minimum(values, 0).sum(0), np.maximum(values, 0).sum(0)])
    ends = np.concatenate([reach.ravel(), totals - whiskers, totals + whiskers])
    frame = Frame(padded(ends), (0.0, 1.0))
    bottom = TOP + _ROW * len(names)
    drawing, points = [_upright_grid(frame, bottom)], []
    for i, name in enumerate(names):
        middle, left, right = TOP + _ROW * (i + 0.5), 0.0, 0.0
        for colour, (part, value) in enumerate(zip(parts, values[:, i], strict=True), start=1):
            begin = left if value < 0 else right
            left, right = left + min(value, 0.0), right + max(value, 0.0)
            low, high = np.sort(frame.across(np.array([begin, begin + value])))
            drawing.append(
                f'<rect class="bar c{colour}" x="{low:.1f}" y="{middle - 9:.1f}" '
                f'width="{high - low:.1f}" height="18"/>'
            )
            told = f"{y_label} {name}, {part}\n{value:.3g}"
            points.append(point((low + high) / 2, middle, told))
        whisker = np.array([-whiskers[i], 0.0, whiskers[i]])
        low, sum_at, high = frame.across(totals[i] + whisker)
        drawing.append(
            f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}"/>'
            f'<circle class="total" cx="{sum_at:.1f}" cy="{middle}" r="3"/>'
            f'<text x="{LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        told = f"{y_label} {name}, sum\n{totals[i]:.3g} ± {whiskers[i] / 2:.2g}"
        points.append(point(sum_at, middle, told))
    [zero] = frame.across(np.array([0.0]))
    drawing.append(f'<line class="axis" x1="{zero:.1f}" x2="{zero:.1f}" y1="{TOP}" y2="{bottom}"/>')
    drawing.append(f'<text class="axis-name" x="4" y="14">{escape(y_label)}</text>')
    drawing.append(axis_name(x_label, bottom + 38))
    legend = _legend([(part, colour) for colour, part in enumerate(parts, start=1)])
    return figure(title, note, legend, svg(drawing, points, height=bottom + BOTTOM))


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


def _legend(entries: Sequence[tuple[str, int]]) -> str:
    items = (f'<li class="c{colour}">{escape(name)}</li>' for name, colour in entries)
    return f'<ul class="legend">{"".join(items)}</ul>'


def _axes(
    frame: Frame, x_label: str, y_label: str, *, across: Sequence[float] | None = None
) -> str:
    """`across` are the ticks of x, round numbers where there are none."""
    parts = []
    across = ticks(*frame.x) if across is None else across
    up = log_ticks(*frame.y) if frame.log_y else ticks(*frame.y)
    for y, label in zip(frame.down(np.array(up)), tick_labels(up), strict=True):
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


def _upright_grid(frame: Frame, bottom: int) -> str:
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


def _line(curve: Curve, frame: Frame) -> str:
    kind = "line quiet" if curve.quiet else "line"
    across, down = frame.across(curve.x), frame.down(curve.y)
    if curve.dots:
        return "".join(
            f'<circle class="dot c{curve.colour}" cx="{a:.1f}" cy="{d:.1f}" r="3.2"/>'
            for a, d in zip(across, down, strict=True)
            if np.isfinite(d)
        )
    parts = [f'<path class="{kind} c{curve.colour}" d="{_path(across, down)}"/>']
    if len(curve.x) < MARKED and not curve.quiet:
        parts += [
            f'<circle class="mark c{curve.colour}" cx="{a:.1f}" cy="{d:.1f}" r="2.6"/>'
            for a, d in zip(across, down, strict=True)
            if np.isfinite(d)
        ]
    return "".join(parts)


def _path(across: Float[np.ndarray, " points"], down: Float[np.ndarray, " points"]) -> str:
    """Every stretch of finite points starts with a line of no length, so that a point alone between
    gaps shows as a dot."""
    commands, pen_down = [], False
    # A coordinate far outside the frame (a bound of -1e30) is no valid SVG number in some browsers.
    for x, y in zip(across, np.clip(down, -1e4, 1e4), strict=True):
        if np.isfinite(x) and np.isfinite(y):
            commands.append(f"L{x:.1f} {y:.1f}" if pen_down else f"M{x:.1f} {y:.1f}h0")
        pen_down = bool(np.isfinite(x) and np.isfinite(y))
    return "".join(commands)


def _band(curve: Curve, frame: Frame) -> str:
    """The band, closed stretch by stretch: nothing is drawn across a gap."""
    if curve.low is None or curve.high is None:
        return ""
    across = frame.across(curve.x)
    low, high = (np.clip(frame.down(v), -1e4, 1e4) for v in (curve.low, curve.high))
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(across)
    stretches = np.split(np.arange(len(known)), np.flatnonzero(np.diff(known)) + 1)
    polygons = []
    for stretch in stretches:
        if len(stretch) and known[stretch[0]]:
            there = [f"{across[i]:.1f},{high[i]:.1f}" for i in stretch]
            back = [f"{across[i]:.1f},{low[i]:.1f}" for i in stretch[::-1]]
            polygons.append(
                f'<polygon class="band c{curve.colour}" points="{" ".join(there + back)}"/>'
            )
    return "".join(polygons)


def _together(levels: Sequence[Level], frame: Frame) -> list[list[Level]]:
    """Levels whose names would lie over each other, the highest of each group first."""
    down = frame.down(np.array([level.value for level in levels]))
    return [[levels[i] for i in group] for group in groups_of_near(down, _LABEL_GAP)]


def _levels(group: Sequence[Level], frame: Frame) -> str:
    """A dashed line for each, and above the highest the names of all, or how many there are."""
    down = frame.down(np.array([level.value for level in group]))
    name = ", ".join(level.name for level in group)
    if not _fits(group):
        name = f"{group[0].name} and {len(group) - 1} more"
    lines = "".join(
        f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        for y in down
    )
    return (
        f'{lines}<text class="level-name" x="{WIDTH - RIGHT - 4}" y="{down[0] - 5:.1f}" '
        f'text-anchor="end">{escape(name)}</text>'
    )


def _fits(group: Sequence[Level]) -> bool:
    return len(group) == 1 or len(", ".join(level.name for level in group)) <= _LABEL_LENGTH


def _with_values(levels: Sequence[Level]) -> str:
    return ", ".join(f"{level.name} ({level.value:.5g})" for level in levels)


def _leaving(curves: Sequence[Curve], y_range: tuple[float, float], x_label: str) -> list[str]:
    """For each side of the frame, a sentence with the curves that leave it there, and how far."""
    beyond: dict[str, list[str]] = {"Below": [], "Above": []}
    for curve in curves:
        y = np.where(np.isfinite(curve.y), curve.y, np.nan)
        if not curve.name or np.isnan(y).all():
            continue
        lowest, highest = int(np.nanargmin(y)), int(np.nanargmax(y))
        told = lambda at: f"{curve.name} ({y[at]:.5g} at {x_label} {curve.x[at]:.15g})"  # noqa: E731, B023
        if y[lowest] < y_range[0]:
            beyond["Below"].append(told(lowest))
        if y[highest] > y_range[1]:
            beyond["Above"].append(told(highest))
    return [f"{side} the frame: {', '.join(names)}." for side, names in beyond.items() if names]


def _bar(frame: Frame, span: tuple[float, float], height: float, colour: int | None) -> str:
    left, right = frame.across(np.array(span))
    [top], base = frame.down(np.array([height])), HEIGHT - BOTTOM
    kind = "bar" if colour is None else f"bar c{colour}"
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{max(base - top, 1):.1f}"/>'
    )


def _line_points(curves: Sequence[Curve], frame: Frame, x_label: str) -> list[list]:
    """What a pointer is told at every x: all curves that have a point there."""
    told: dict[float, list[str]] = {}
    for curve in curves:
        for x, label in zip(curve.x, curve.labels, strict=True):
            told.setdefault(float(x), []).append(f"{curve.name} {label}")
    across = frame.across(np.array(sorted(told)))
    return [
        point(at, None, "\n".join([f"{x_label} {x:.15g}", *told[x]]))
        for at, x in zip(across, sorted(told), strict=True)
    ]


def point(x: float, y: float | None, text: str) -> list:
    """What a pointer is told near (x, y), or wherever it is near x."""
    return [round(float(x), 1), None if y is None else round(float(y), 1), text]
