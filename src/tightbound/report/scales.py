"""From data to pixels: the frame of a chart, its range and its round numbers."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 68, 18, 26, 46


@dataclass(frozen=True)
class Frame:
    """Where data lie on the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_y: bool = False

    def across(self, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Pixels from the left."""
        low, high = self.x
        return LEFT + (np.asarray(x, float) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(self, y: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Pixels from the top; NaN for what a logarithmic axis cannot show."""
        low, high = (math.log10(v) for v in self.y) if self.log_y else self.y
        y = np.asarray(y, float)
        if self.log_y:
            y = np.log10(np.where(y > 0, y, np.nan))
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) inside [low, high]."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [low, high], thinned to at most seven; round numbers where fewer than
    two powers lie there."""
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    if len(powers) < 2:
        return [tick for tick in ticks(low, high) if tick > 0]
    return [10.0**p for p in powers[:: math.ceil(len(powers) / 7)]]


def padded(values: Float[np.ndarray, " values"], *, log: bool = False) -> tuple[float, float]:
    """The range of the finite values and a margin; (0, 1) where there are none."""
    finite = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if log:
        margin = (high / low) ** 0.06 if high > low else 2.0
        return low / margin, high * margin
    margin = 0.06 * (high - low) or max(0.05 * abs(high), 1e-6)
    return low - margin, high + margin


def span(values: Float[np.ndarray, " values"]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


