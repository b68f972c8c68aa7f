"""Log-likelihoods that need no model: what a trained one must beat. NumPy only.

Both fitted baselines see the training rows and two pseudo-images, one all black and one all
white (Laplace smoothing), so that a pixel that never changes in training costs a finite amount.
"""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from tightbound.data.batch import Split
from tightbound.data.labelled import image_of
from tightbound.estimators.estimate import Estimate

_CHUNK = 4096  # rows made floating point at a time


def image_baselines(
    train: Split, held_out: Split, likelihood: Literal["bernoulli", "gaussian"], levels: int
) -> dict[str, Estimate]:
    """The baselines of a likelihood on `held_out`, in nats per sequence; larger is better.

    `levels` is the largest stored value: 255 for grey MNIST, 16 for digits, 1 for bits.
    """
    if likelihood == "bernoulli":
        return {
            "uniform": uniform(held_out),
            "independent-pixel": independent_pixels(train, held_out, levels),
        }
    return {"independent-gaussian": independent_gaussians(train, held_out, levels)}


def uniform(held_out: Split) -> Estimate:
    """-D log 2: every binary image is as likely as any other. The same for all, so without error."""
    num_pixels = image_of(held_out.x).shape[1]
    return _estimate(-num_pixels * math.log(2), 0.0, "uniform", held_out)


def independent_pixels(train: Split, held_out: Split, levels: int) -> Estimate:
    """Independent Bernoulli pixels with the smoothed frequencies of training.

        E[log p(b)] = sum_d p_d log f_d + (1 - p_d) log(1 - f_d),   p = x / levels,
        f_d = (1 + sum_n p_nd) / (2 + N)

    With grey values p this is the expectation over dynamic binarisation, exactly (the standard
    error is over images and leaves out the noise of drawing them); with bits it is log p itself.
    """
    total, _ = _pixel_sums(train, levels)
    frequency = (1 + total) / (2 + len(train))
    log_on, log_off = np.log(frequency), np.log1p(-frequency)
    held = _scaled(image_of(held_out.x), levels)
    nats = held @ (log_on - log_off) + log_off.sum()
    return _estimate(nats.mean(), _error(nats), "independent-pixel", held_out)


def independent_gaussians(train: Split, held_out: Split, levels: int) -> Estimate:
    """Independent Gaussian pixels with the smoothed mean and variance of training.

        E[log p(y)] = sum_d log N(m_d; mean_d, var_d) - s^2 / (2 var_d)

    where y = m is x / levels with s = 0, or, for dequantised grey levels, y is uniform with
    mean m = (x + 1/2) / (levels + 1) and s = 1 / ((levels + 1) sqrt(12)). A density, not a
    probability: it may be positive, and pixels that are always black carry most of it.
    """
    total, total_square = _pixel_sums(train, levels)
    mean = (1 + total) / (2 + len(train))
    variance = (1 + total_square) / (2 + len(train)) - mean**2
    held, noise = _scaled(image_of(held_out.x), levels), 0.0
    if held_out.law == "dequantised grey levels":
        scale = levels / (levels + 1)  # shrink and shift everything as the noising does
        shift = 0.5 / (levels + 1)
        noise = 1 / (12 * (levels + 1) ** 2)
        mean, held, variance = mean * scale + shift, held * scale + shift, variance * scale**2
        variance = variance + noise
    constant = np.log(2 * math.pi * variance) + noise / variance
    squares = (held - mean[None]) ** 2 @ (1 / variance)
    nats = -0.5 * (squares + constant.sum())
    return _estimate(nats.mean(), _error(nats), "independent-gaussian", held_out)


def _pixel_sums(train: Split, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums over rows of p = x / levels and of p^2."""
    x = image_of(train.x)
    total, total_square = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for start in range(0, len(x), _CHUNK):
        part = _scaled(x[start : start + _CHUNK], levels)
        total += part.sum(0)
        total_square += np.einsum("nd,nd->d", part, part)
    return total, total_square


def _scaled(x: np.ndarray, levels: int) -> np.ndarray:
    return np.asarray(x, np.float64) / levels


def _error(nats: Float[np.ndarray, " rows"]) -> float | None:
    """Standard error of the mean over sequences, which one sequence cannot tell."""
    return None if len(nats) < 2 else float(nats.std(ddof=1) / math.sqrt(len(nats)))


def _estimate(value: float, error: float | None, estimator: str, held_out: Split) -> Estimate:
    return Estimate(
        value=float(value),
        standard_error=error,
        monte_carlo_error=None,
        unit="nats per sequence",
        bound="exact",
        estimator=estimator,
        num_samples=0,
        split=held_out.description,
    )
