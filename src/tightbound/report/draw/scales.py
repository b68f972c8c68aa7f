"""From data to pixels: the frame of a chart, its range and its round numbers."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 68, 28, 26, 46
LARGEST = 1e100


@dataclass(frozen=True)
class Frame:
    """Where data lie on the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_y: bool = False

    def across(self, x: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        """Pixels from the left."""
        low, high = self.x
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(self, y: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
        """Pixels from the top; NaN for what a logarithmic axis cannot show."""
        low, high = (math.log10(v) for v in self.y) if self.log_y else self.y
        if self.log_y:
            y = np.log10(np.where(y > 0, y, np.nan))
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers inside [low, high], 1, 2 or 5 times a power of ten apart, about `count` steps;
    `whole` leaves out what lies between whole numbers, as of steps."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.15g}") for i in range(first, last + 1)]


def ticks_at(values: Float[np.ndarray, " values"]) -> list[float]:
    """Ticks of an axis that spans these values: one alone where they are one, and whole numbers where
    they are whole."""
    if values.min() == values.max():
        return [float(values[0])]
    return ticks(*span(values), whole=bool((values == np.round(values)).all()))


def groups_of_near(heights: Float[np.ndarray, " values"], gap: float) -> list[list[int]]:
    """The values' places, lowest first, in groups whose lowest members are at least `gap` apart: names
    written once a group never lie over each other."""
    groups: list[list[int]] = []
    for place in np.argsort(heights, kind="stable"):
        if groups and heights[place] - heights[groups[-1][0]] < gap:
            groups[-1].append(int(place))
        else:
            groups.append([int(place)])
    return groups


def tick_labels(values: list[float]) -> list[str]:
    """As short as keeps them apart: six digits where that is enough."""
    for digits in range(6, 17):
        labels = [f"{value:.{digits}g}" for value in values]
        if len(set(labels)) == len(values):
            return labels
    return [repr(value) for value in values]


def log_ticks(low: float, high: float) -> list[float]:
    """At most seven powers of ten inside [low, high]; where fewer than three lie there, 2 and 5
    times them too; where that is not three either, evenly spaced round numbers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    powers = [10.0**p for p in range(first, last + 1) if low <= 10.0**p <= high]
    if len(powers) >= 3:
        return powers[:: math.ceil(len(powers) / 7)]
    finer = [m * 10.0**p for p in range(first, last + 1) for m in (1, 2, 5)]
    finer = [tick for tick in finer if low <= tick <= high]
    return finer if len(finer) >= 3 else [tick for tick in ticks(low, high) if tick > 0]


def padded(values: Float[np.ndarray, " values"], *, log: bool = False) -> tuple[float, float]:
    """The range of the finite values and a margin; (0, 1), or (0.1, 10) on a logarithmic axis,
    where there are none.

    What is not below `LARGEST` counts as infinite (differences of such numbers overflow), and on
    a logarithmic axis what is not above its inverse counts as zero.
    """
    values = values.astype(np.float64)  # LARGEST is infinite in 32 bits
    shown = values[np.abs(values) < LARGEST]
    if log:
        shown = shown[shown > 1 / LARGEST]
    if not len(shown):
        return (0.1, 10.0) if log else (0.0, 1.0)
    low, high = float(shown.min()), float(shown.max())
    if log:
        margin = (high / low) ** 0.06 if high > low else 2.0
        return low / margin, high * margin
    margin = 0.06 * (high - low) or (max(0.05 * abs(high), 1e-12) if high else 1.0)
    return low - margin, high + margin


def span(values: Float[np.ndarray, " values"]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)
