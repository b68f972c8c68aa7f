"""Log-likelihoods of targets that need no network: what a trained regression must beat. NumPy only."""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

from tightbound.data.baselines.sequences import RowNats
from tightbound.data.batch import Split
from tightbound.data.point_splits import nats_of_rows
from tightbound.errors import UserError


def regression_baseline_rows(train: Split, held_out: Split) -> dict[str, RowNats]:
    """log p(y) of every row under laws that need no network, in nats per point.

    - "constant-gaussian": N(y; m, s^2), mean and variance of the training targets;
    - "linear-gaussian": N(y; w x + b, s^2) by least squares, s^2 of its residuals;
    - "linear-conjugate": w, b and s^2 integrated out (`conjugate_linear`): what the bound of a network
      must be held against, since it too has a prior.

    The first two divide the squares by the points less the coefficients (s^2 is then unbiased), and are
    left out where there are no more points than coefficients. Where `held_out` is explained rather than
    predicted (the training split), its points are one sequence and so is the row: of the fitted laws
    the sum over points, of the conjugate one log p(D).
    """
    target, new_target = _target(train), _target(held_out)
    designs = {
        "constant-gaussian": (_ones(train), _ones(held_out)),
        "linear-gaussian": (_affine(train), _affine(held_out)),
    }
    nats = {
        name: _least_squares_nats(name, design, target, new_design, new_target)
        for name, (design, new_design) in designs.items()
        if len(target) > design.shape[1]
    }
    rows = nats_of_rows(nats, held_out)
    rows["linear-conjugate"] = _conjugate_rows(train, held_out)
    return rows


def conjugate_linear(
    design: Float[np.ndarray, "points features"], target: Float[np.ndarray, " points"]
) -> Float[np.ndarray, ""]:
    """log p(D) of Bayesian linear regression with a normal-inverse-gamma prior, in nats per data set.

        s^2 ~ InvGamma(1/2, 1/2),   w | s^2 ~ N(0, s^2 I),   y | w, s^2 ~ N(X w, s^2 I)

    Bishop 2006, eq. 3.118, with a0 = b0 = 1/2 and unit precision: as much as one point says. The scale
    is that of normalised targets and inputs. `design` has a column of ones for the intercept.
    """
    a, b, _, precision = _normal_inverse_gamma(design, target)
    log_det = np.linalg.slogdet(precision)[1]
    gammas = gammaln(a) - gammaln(0.5)
    powers = 0.5 * math.log(0.5) - a * np.log(b)
    return np.asarray(gammas + powers - 0.5 * log_det - len(target) / 2 * math.log(2 * math.pi))


def _normal_inverse_gamma(
    design: Float[np.ndarray, "points features"], target: Float[np.ndarray, " points"]
):
    """The posterior's a, b, mean of w and precision of w / s."""
    precision = np.eye(design.shape[1]) + design.T @ design
    mean = np.linalg.solve(precision, design.T @ target)
    residual = target - design @ mean
    a = (1 + len(target)) / 2
    b = (1 + residual @ residual + mean @ mean) / 2
    return a, b, mean, precision


def _conjugate_rows(train: Split, held_out: Split) -> RowNats:
    if held_out.pooled and not held_out.given:
        return conjugate_linear(_affine(held_out), _target(held_out))[None]
    a, b, mean, precision = _normal_inverse_gamma(_affine(train), _target(train))
    design = _affine(held_out)
    spread = 1 + np.sum(design * np.linalg.solve(precision, design.T).T, axis=1)
    distance = np.square(_target(held_out) - design @ mean) / (2 * b * spread)
    # Student's t with 2 a degrees of freedom and the squared scale b / a * spread
    level = gammaln(a + 0.5) - gammaln(a) - 0.5 * np.log(2 * math.pi * b * spread)
    return level - (a + 0.5) * np.log1p(distance)


def _least_squares_nats(
    name: str,
    design: Float[np.ndarray, "points features"],
    target: Float[np.ndarray, " points"],
    new_design: Float[np.ndarray, "rows features"],
    new_target: Float[np.ndarray, " rows"],
) -> RowNats:
    weights, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    variance = np.square(target - design @ weights).sum() / (len(target) - rank)
    if not variance > 0:
        raise UserError(
            f"The baseline {name!r} fits the {len(target):,} training targets without error, so its "
            "density has no scale. Are the targets all equal? Give others."
        )
    distance = np.square(new_target - new_design @ weights) / variance
    return -0.5 * (distance + math.log(2 * math.pi * variance))


def _ones(split: Split) -> Float[np.ndarray, "rows 1"]:
    return np.ones((len(split), 1))


def _affine(split: Split) -> Float[np.ndarray, "rows features"]:
    return np.concatenate([_ones(split), np.asarray(split.x.inputs, float)], axis=1)


def _target(split: Split) -> Float[np.ndarray, " rows"]:
    target = np.asarray(split.x.target)
    if target.dtype.kind != "f":
        raise UserError(
            f"The targets of the {split.name} split are of type {target.dtype}, but a Gaussian is a "
            "density of real numbers. Classes need the baselines of a classifier."
        )
    return target.astype(float)
