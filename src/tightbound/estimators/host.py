"""Bounds of weights that are arrays on the host: NumPy and SciPy only, without JAX.

The same numbers as `estimators.bounds` gives, for files that another framework has saved.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

from tightbound.estimators.estimate import Bound, Estimate
from tightbound.estimators.units import Unit, in_unit, per_sequence
from tightbound.estimators.weights import draw_variance


def bounds_of_weights(
    log_weights: Float[np.ndarray, "samples batch"],
    *,
    units: tuple[Unit, ...] = ("nats per sequence",),
    num_units: Int[np.ndarray, " batch"] | None = None,
    kind: Bound = "lower",
    split: str,
) -> tuple[Estimate, ...]:
    """The ELBO and, of two draws or more, the IWAE bound, in each unit.

        L = 1/K sum_k log w_k,   L_K = log 1/K sum_k w_k

    `kind` as in `estimators.bounds.bound_estimate`: what is "exact" is log p(x) itself, once.
    """
    weights = np.asarray(log_weights, np.float64)
    num_samples = len(weights)
    with np.errstate(invalid="ignore"):  # inf - inf
        log_mean = np.asarray(logsumexp(weights, axis=0)) - np.log(num_samples)
        found = [("elbo", weights.mean(axis=0), draw_variance(weights, 0))]
        if num_samples > 1:
            found.append((f"iwae-{num_samples}", log_mean, draw_variance(weights, 1)))
        if kind == "exact":
            num_samples, found = 0, [("log_marginal", log_mean, None)]
        return tuple(
            in_unit(
                values,
                unit,
                num_units=num_units,
                draw_variance=variance,
                bound=kind,
                estimator=name,
                num_samples=num_samples,
                split=split,
            )
            for unit in units
            for name, values, variance in found
        )


def mean_of_draws(
    nats: Float[np.ndarray, "samples batch"], *, estimator: str, split: str
) -> Estimate:
    """The mean of a term over draws and sequences, in nats per sequence, with both its errors: a part of
    the ELBO, and no bound."""
    with np.errstate(invalid="ignore"):  # inf - inf
        return per_sequence(
            nats.mean(axis=0),
            draw_variance=draw_variance(nats, 0),
            bound="none",
            estimator=estimator,
            num_samples=len(nats),
            split=split,
        )


def step_weights(
    log_increments: Float[np.ndarray, "time particles batch"],
    resampled: Bool[np.ndarray, "time batch"],
    mask: Bool[np.ndarray, "time batch"],
) -> tuple[
    Float[np.ndarray, "time batch"],
    Float[np.ndarray, "time particles batch"],
    Float[np.ndarray, "time particles batch"],
]:
    """Each step's log evidence, in nats, and the normalised weights before and after it; those before are
    the ones that a step which resamples chooses ancestors by.

    As `estimators.bounds.step_evidence_and_weights`: steps outside the mask change nothing, and where
    every particle has weight zero the evidence is -inf and the weights are equal.
    """
    num_steps, num_particles, num_sequences = log_increments.shape
    uniform = np.full((num_particles, num_sequences), -np.log(num_particles))
    evidence = np.zeros((num_steps, num_sequences))
    before, after = np.empty(log_increments.shape), np.empty(log_increments.shape)
    log_weights = uniform
    for t in range(num_steps):
        before[t] = np.exp(log_weights)
        start = np.where(resampled[t], uniform, log_weights)
        with np.errstate(invalid="ignore"):  # inf - inf
            total = start + np.where(mask[t], log_increments[t], 0.0)
            step = np.asarray(logsumexp(total, axis=0))
            moved = np.where(np.isneginf(step), uniform, total - step)
        log_weights = np.where(mask[t], moved, log_weights)
        evidence[t] = np.where(mask[t], step, 0.0)
        after[t] = np.exp(log_weights)
    return evidence, before, after


def effective_share(
    weights: Float[np.ndarray, "time particles batch"],
    mask: Bool[np.ndarray, "time batch"],
    *,
    split: str,
) -> Estimate:
    """Effective sample size after a step over the number of particles, from 1/N to 1: the mean over real
    steps, with its error over sequences."""
    num_particles = weights.shape[1]
    share = 1.0 / np.square(weights).sum(axis=1) / num_particles
    real = mask.any(axis=0)
    by_sequence = np.where(mask, share, 0.0).sum(axis=0)[real] / mask.sum(axis=0)[real]
    estimate = per_sequence(by_sequence, bound="none", estimator="ess", num_samples=1, split=split)
    return replace(estimate, unit="of the particles")
