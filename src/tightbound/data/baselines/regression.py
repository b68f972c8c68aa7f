"""Log-likelihoods of targets that need no network: what a trained regression must beat. NumPy only."""

import math

import numpy as np
from jaxtyping import Float

from tightbound.data.baselines.sequences import RowNats
from tightbound.data.batch import Split
from tightbound.data.point_splits import nats_of_rows
from tightbound.errors import UserError


def regression_baseline_rows(train: Split, held_out: Split) -> dict[str, RowNats]:
    """log p(y) of every row under Gaussians fitted to the training points.

    - "constant-gaussian": N(y; m, s^2), mean and variance of the training targets;
    - "linear-gaussian": N(y; w x + b, s^2) by least squares, s^2 of its residuals.

    Both divide the squares by the points less the coefficients (s^2 is then unbiased), and are left
    out where there are no more points than coefficients. Where `held_out` is explained rather than
    predicted (the training split), its points are one sequence and so is the row: their sum.
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
    return nats_of_rows(nats, held_out)


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
