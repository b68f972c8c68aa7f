"""What a record of `steps.jsonl` says of a training batch and of the held-out split."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array

from tightbound.estimators.bounds import bound_estimate
from tightbound.estimators.estimate import Bound, finite_or_text
from tightbound.estimators.prediction import error_over_shared_draws
from tightbound.estimators.weights import ess_fraction
from tightbound.evaluation import Evaluation
from tightbound.train.loop import StepEvidence

MOST_NAMED = 10  # rows


def step_report(
    evidence: StepEvidence, split: str, is_bound: bool, *, num_particles: int | None = None
) -> dict[str, Any]:
    """What one training batch says: its bound (the ELBO, or that of a filter) as an `Estimate`, by
    site, the loss that was differentiated, the gradient's norm and the effective sample size of its
    weights."""
    log_weights = np.asarray(evidence.log_weights)
    return {
        "bound": _bound(log_weights, split, "lower" if is_bound else "none", num_particles),
        "sites": _site_report(evidence.log_p, evidence.log_q),
        "loss": finite_or_text(float(evidence.loss)),
        "gradient_norm": finite_or_text(float(evidence.gradient_norm)),
        **_ess_report(log_weights),
    }


def held_out_report(evaluation: Evaluation, is_bound: bool) -> dict[str, Any]:
    """What the held-out split says: its bound as an `Estimate`, by site, and the weights' ESS."""
    log_weights, num_particles = evaluation.log_weights, evaluation.num_particles
    kind = evaluation.kind_of_bound(is_bound)
    bound = _bound(log_weights, evaluation.split, kind, num_particles)
    if evaluation.draws_are_shared:
        bound["monte_carlo_error"] = error_over_shared_draws(log_weights, 0.0)
    return {
        "bound": bound,
        "sites": _site_report(evaluation.log_p, evaluation.log_q),
        **_ess_report(evaluation.log_weights),
    }


def _bound(
    log_weights: np.ndarray, split: str, kind: Bound, num_particles: int | None
) -> dict[str, Any]:
    name = "elbo" if num_particles is None else "fivo"
    return bound_estimate(
        log_weights, bound=name, split=split, num_particles=num_particles, kind=kind
    ).to_json()


def _ess_report(log_weights: np.ndarray) -> dict[str, float]:
    """The mean effective sample size as a fraction of the draws; nothing for one draw, whose is 1
    whatever the proposal, or for weights that have none."""
    fraction = float(ess_fraction(log_weights).mean())
    return {"ess_fraction": fraction} if len(log_weights) > 1 and np.isfinite(fraction) else {}


def _site_report(
    log_p: Mapping[str, Array | np.ndarray], log_q: Mapping[str, Array | np.ndarray]
) -> dict[str, dict[str, float | str]]:
    """Mean log p and log q of every site, in nats per sequence."""
    report = {name: {"log_p": finite_or_text(float(v.mean()))} for name, v in log_p.items()}
    for name, value in log_q.items():
        report[name]["log_q"] = finite_or_text(float(value.mean()))
    return report


def not_finite_in_step(evidence: StepEvidence) -> dict[str, Any]:
    """Which rows of a training batch have a site whose log p or log q is not finite; where none has, it is
    the gradient."""
    return _not_finite(evidence.log_p, evidence.log_q, np.asarray(evidence.rows), "train")


def not_finite_in_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """The same of the held-out split."""
    rows = np.asarray(evaluation.rows)
    return _not_finite(evaluation.log_p, evaluation.log_q, rows, evaluation.split)


def _not_finite(
    log_p: Mapping[str, Any], log_q: Mapping[str, Any], rows: np.ndarray, split: str
) -> dict[str, Any]:
    """The entry `not_finite` of a record. An infinite log p may be meant (an impossible x), NaN may not:
    where a row has a NaN, rows without one are not named."""
    both = {name: [log[name] for log in (log_p, log_q) if name in log] for name in log_p}
    values = {name: np.stack([np.asarray(v) for v in logs]) for name, logs in both.items()}
    isnt = {name: ~np.isfinite(v).all(axis=(0, 1)) for name, v in values.items()}
    is_nan = {name: np.isnan(v).any(axis=(0, 1)) for name, v in values.items()}
    bad = is_nan if any(mask.any() for mask in is_nan.values()) else isnt
    of_rows = np.any(list(bad.values()), axis=0) if bad else np.zeros(len(rows), bool)
    if len(of_rows) != len(rows):  # points that share their latents are one sequence
        rows = np.arange(len(of_rows))
    return {
        "split": split,
        "sites": [name for name, mask in bad.items() if mask.any()],
        "rows": [int(row) for row in rows[of_rows][:MOST_NAMED]],
        "num_rows": int(of_rows.sum()),
        "of": len(of_rows),
    }
