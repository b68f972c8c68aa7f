"""Predictions of points against their targets -> reported numbers with both their errors. NumPy only.

A draw of the latents predicts all points at once. So the error over draws is that of a mean over
draws of what each of them adds to the figure, to first order; errors of single points, added up as
if each had draws of its own, would be too small. Draws are treated as independent: spread evenly
over the components of a mixture they are a little better than that.
"""

import numpy as np
from jaxtyping import Float, Integer
from scipy.special import logsumexp

from tightbound.estimators.estimate import Bound, Estimate
from tightbound.estimators.units import standard_error

NUM_BINS = 15  # of confidences: Guo et al. 2017, sec. 4


def log_predictive(log_p: Float[np.ndarray, "draws points"], *, split: str) -> Estimate:
    """Mean over points of the log predictive density, in nats per point; larger is better.

        l_i = log 1/S sum_s p(y_i | x_i, theta_s)

    The log of an unbiased estimate: in expectation a lower bound on the log predictive of the q that
    theta is drawn from, and tight as S grows. It bounds nothing of the exact posterior's predictive.
    A point that every draw makes impossible is -inf, with NaN errors.
    """
    log_p = np.asarray(log_p, np.float64)
    return _estimate(
        np.asarray(logsumexp(log_p, axis=0)) - np.log(len(log_p)),
        _influence(log_p, power=1.0),
        num_samples=len(log_p),
        unit="nats per point",
        bound="lower",
        estimator="log-mean-exp",
        split=split,
    )


def error_over_shared_draws(
    log_weights: Float[np.ndarray, "draws points"], power: float
) -> float | None:
    """The error over draws of the mean over points of the log power mean of their weights.

        1/p log 1/S sum_s w_is^p;   p = 0 is the mean of log w (ELBO), 1 the log of the mean (IWAE)

    For draws that all points share. None for a single draw, NaN where a weight is infinite.
    """
    with np.errstate(invalid="ignore"):
        return standard_error(_influence(np.asarray(log_weights, np.float64), power))


def _influence(
    log_weights: Float[np.ndarray, "draws points"], power: float
) -> Float[np.ndarray, " draws"]:
    """What every draw adds to the mean over points of the log power mean, times S, to first order."""
    if power == 0.0:
        return log_weights.mean(1)
    log_powers = power * log_weights
    with np.errstate(invalid="ignore"):  # -inf - -inf, where all draws make a point impossible
        relative = np.exp(log_powers - np.asarray(logsumexp(log_powers, axis=0, keepdims=True)))
    return len(log_weights) * relative.mean(1) / power


def root_mean_square_error(
    predicted: Float[np.ndarray, "draws points"],
    target: Float[np.ndarray, " points"],
    *,
    unit: str,
    split: str,
) -> Estimate:
    """sqrt of the mean over points of (y_i - f_i)^2, f_i the mean over draws; smaller is better.

    Errors by the delta method: those of the mean square, over twice the root. NaN where it is 0.
    """
    predicted = np.asarray(predicted, np.float64)
    residual = target - predicted.mean(0)
    square = np.square(residual)
    slope = -2.0 * (residual[None] * predicted).mean(1)  # of the mean square, draw by draw
    root = float(np.sqrt(square.mean()))
    per_root = 0.5 / root if root > 0 else np.nan
    return _estimate(
        per_root * square,
        per_root * slope,
        value=root,
        num_samples=len(predicted),
        unit=unit,
        estimator="root of the mean square",
        split=split,
    )


def accuracy(
    probabilities: Float[np.ndarray, "draws points classes"],
    target: Integer[np.ndarray, " points"],
    *,
    split: str,
) -> Estimate:
    """The share of points whose likeliest class, by the mean over draws, is their own.

    It has no error over draws: it jumps where two classes are equally likely, so that no first order
    says what another draw would change.
    """
    mean = np.asarray(probabilities, np.float64).mean(0)
    correct = (mean.argmax(1) == target).astype(float)
    return _estimate(
        correct,
        None,
        num_samples=len(probabilities),
        unit="share of points",
        estimator="likeliest class",
        split=split,
    )


def brier_score(
    probabilities: Float[np.ndarray, "draws points classes"],
    target: Integer[np.ndarray, " points"],
    *,
    split: str,
) -> Estimate:
    """Mean over points of sum_c (p_ic - 1[y_i = c])^2, p the mean over draws: from 0 to 2.

    Brier 1950, eq. 2: over all classes, twice the figure that counts one of two. Smaller is better.
    """
    probabilities = np.asarray(probabilities, np.float64)
    off = probabilities.mean(0) - np.eye(probabilities.shape[2])[target]
    slope = 2.0 * np.einsum("pc,spc->s", off, probabilities) / len(target)
    return _estimate(
        np.square(off).sum(1),
        slope,
        num_samples=len(probabilities),
        unit="per point",
        estimator="Brier score",
        split=split,
    )


def calibration_error(
    probabilities: Float[np.ndarray, "draws points classes"],
    target: Integer[np.ndarray, " points"],
    *,
    split: str,
) -> Estimate:
    """Expected calibration error: how far confidence and accuracy lie apart; smaller is better.

        ECE = sum_b n_b / n |accuracy of bin b - mean confidence of bin b|

    Guo et al. 2017 (arXiv:1706.04599), eq. 3, with `NUM_BINS` equal bins of the likeliest class's
    probability (by the mean over draws). Chance keeps it above 0 where every confidence is right, the
    more the fewer points. Errors to first order, bins and their signs held: too small near 0.
    """
    probabilities = np.asarray(probabilities, np.float64)
    chosen = probabilities.mean(0).argmax(1)
    confidence = np.take_along_axis(probabilities, chosen[None, :, None], axis=2)[..., 0]
    mean = confidence.mean(0)
    surplus = (chosen == target) - mean
    which = np.minimum((mean * NUM_BINS).astype(int), NUM_BINS - 1)
    sign = np.sign(np.bincount(which, weights=surplus, minlength=NUM_BINS))[which]
    slope = -(sign[None] * confidence).mean(1)
    return _estimate(
        sign * surplus,
        slope,
        num_samples=len(probabilities),
        unit="share of points",
        estimator=f"{NUM_BINS} bins",
        split=split,
    )


def both_classes(
    probability: Float[np.ndarray, "draws points"],
) -> Float[np.ndarray, "draws points 2"]:
    """The probabilities of 0 and of 1, from that of 1."""
    return np.stack([1.0 - probability, probability], axis=-1)


def _estimate(
    of_points: Float[np.ndarray, " points"],
    of_draws: Float[np.ndarray, " draws"] | None,
    *,
    num_samples: int,
    unit: str,
    estimator: str,
    split: str,
    value: float | None = None,
    bound: Bound = "none",
) -> Estimate:
    """The mean of what every point adds, with the spread of it and of what every draw adds."""
    with np.errstate(invalid="ignore"):  # an infinite figure has no errors
        over_points = standard_error(of_points)
        over_draws = None if of_draws is None else standard_error(of_draws)
    return Estimate(
        value=float(of_points.mean()) if value is None else value,
        standard_error=over_points,
        monte_carlo_error=over_draws,
        unit=unit,
        bound=bound,
        estimator=f"{estimator}, {num_samples} draws",
        num_samples=num_samples,
        split=split,
    )
