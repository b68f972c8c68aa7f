"""Numbers as JSON has them: few digits, and nothing that is not finite."""

import numpy as np
from jaxtyping import Array, Float


def number(value: float | np.floating) -> float | None:
    """Four significant digits; None where it is not finite."""
    return float(f"{value:.4g}") if np.isfinite(value) else None


def numbers(values: Float[Array | np.ndarray, " values"]) -> list[float | None]:
    """`number` of each."""
    return [number(value) for value in np.asarray(values).tolist()]
