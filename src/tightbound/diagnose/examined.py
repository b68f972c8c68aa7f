"""What was saved of draws, or of a filter, as findings and as numbers. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.checks import (
    evaluation,
    filters,
    latents,
    populations,
    probability,
    saved,
    weights,
)
from tightbound.diagnose.evidence import Evidence, Filters, Joint, Scores, Sites
from tightbound.diagnose.finding import Finding, Verdict, not_run
from tightbound.diagnose.findings import Findings, by_verdict
from tightbound.diagnose.saved import PARTS, SavedSteps, SavedWeights, steps_from, weights_from
from tightbound.estimators.estimate import Bound, Estimate
from tightbound.estimators.host import (
    bounds_of_weights,
    effective_share,
    mean_of_draws,
    step_weights,
)
from tightbound.estimators.units import Unit, in_unit

# A FAULT of these takes from a number that it bounds log p(x).
_NO_BOUND = {
    *("TB117", "TB118", "TB119", "TB122", "TB301", "TB302"),
    *("TB305", "TB306", "TB307", "TB308", "TB605"),
}
_SAVED = "what was saved"


@dataclass(frozen=True)
class Examined:
    """What was saved, as numbers and as findings."""

    estimates: tuple[Estimate, ...]
    findings: Findings


def judge_weights(log_weights: object = None, **beside: object) -> Findings:
    """What log-weights show, whoever saved them: log p(x, z) - log q(z | x), in nats, of shape (samples,
    sequences). Lists, arrays or tensors.

    Beside them, by name, whatever else there is: `log_p_x`, `log_p_z` and `log_q`, of the same shape;
    `num_units` of each sequence; `levels` of discrete data; `has_latents=False` where nothing was drawn.
    """
    return examine_weights(log_weights, **beside).findings


def examine_weights(log_weights: object = None, **beside: object) -> Examined:
    """The findings of `judge_weights`, and the bound, the KL and the reconstruction as numbers."""
    return of_weights(weights_from({"log_weights": log_weights, **beside}))


def examine_steps(**arrays: object) -> Examined:
    """The findings and numbers of a filter's record: `log_increments` and `ancestors`, of shape (time,
    particles, sequences), `resampled`, `mask` and `ess`, (time, sequences), as in `StepTerms`. `mask`, `ess`,
    `num_units` and `log_marginal`, log p(x) of each sequence where it is known, may be left out."""
    return of_steps(steps_from(arrays))


def of_weights(kept: SavedWeights, *, split: str = "saved draws") -> Examined:
    """Every number and every finding that log-weights and their parts allow."""
    bounds = bounds_of_weights(
        kept.log_weights,
        units=_units(kept.num_units, kept.levels),
        num_units=kept.num_units,
        kind="lower" if kept.has_latents else "exact",
        split=split,
    )
    found = [
        saved.weights_are_logs(kept.log_weights),
        saved.axes_stand_in_order(kept.log_weights),
        *_of_discrete_data(kept, bounds),
        _weight_is_the_joint(kept),
        weights.weights_are_finite(kept.log_weights),
        weights.weights_keep_the_evidence(kept.log_weights),
        *_of_latents(kept),
        weights.draws_differ(kept.log_weights, has_latents=kept.has_latents),
        weights.tails_are_light_enough(kept.log_weights),
    ]
    estimates = [replace(bound, bound=_claim(bound.bound, found)) for bound in bounds]
    if kept.log_ratio is not None:
        estimates.append(mean_of_draws(kept.log_ratio, estimator="kl", split=split))
    if kept.reconstruction is not None and kept.has_latents:
        estimates.append(
            mean_of_draws(kept.reconstruction, estimator="reconstruction", split=split)
        )
    return Examined(tuple(estimates), Findings(by_verdict(found)))


def of_steps(kept: SavedSteps, *, split: str = "saved particles") -> Examined:
    """Every number and every finding that the record of a filter allows."""
    evidence, before, after = step_weights(kept.log_increments, kept.resampled, kept.mask)
    steps, sequences = np.nonzero(kept.mask)
    increments = kept.log_increments[steps, :, sequences].T  # particles, real steps

    def place(index: int) -> str:
        return f"step {steps[index]} of sequence {sequences[index]}"

    found = [
        weights.weights_are_finite(increments, name_of=place),
        weights.weights_keep_the_evidence(increments, row="step"),
        populations.steps_agree(kept.ancestors, kept.resampled, kept.mask, kept.ess, after),
        populations.ancestors_follow_the_weights(kept.ancestors, before, kept.resampled, kept.mask),
        _filter_is_unbiased(kept, evidence),
    ]
    num_particles = kept.log_increments.shape[1]
    estimates = [
        in_unit(
            evidence.sum(axis=0),
            unit,
            num_units=kept.num_units,
            bound="lower",
            estimator=f"fivo-{num_particles}",
            num_samples=1,
            split=split,
        )
        for unit in _units(kept.num_units, None)
    ]
    estimates = [replace(bound, bound=_claim(bound.bound, found)) for bound in estimates]
    share = effective_share(after, kept.mask, split=split)
    return Examined((*estimates, share), Findings(by_verdict(found)))


def _claim(kind: Bound, found: Sequence[Finding]) -> Bound:
    """What the bound's number may call itself beside these findings."""
    wrong = {finding.code for finding in found if finding.verdict is Verdict.FAULT}
    return "none" if wrong & _NO_BOUND else kind


def _units(num_units: np.ndarray | None, levels: int | None) -> tuple[Unit, ...]:
    """Per unit too where a sequence has several, and in bits where a unit has so many levels."""
    if num_units is None or (num_units == 1).all():
        return ("nats per sequence",)
    per_unit: tuple[Unit, ...] = ("nats per sequence", "nats per unit")
    return per_unit if levels is None else (*per_unit, "bits per unit")


def _of_discrete_data(kept: SavedWeights, bounds: Sequence[Estimate]) -> list[Finding]:
    """TB118 of log p(x | z), and TB605 of the bound: log p(x) of discrete data is at most 0."""
    names = ("discrete_probability_is_at_most_one", "bound_is_possible")
    if kept.levels is None:
        reason = "no `levels` were given: of real data a log-density may be above 0"
        return [
            not_run(code, name, reason)
            for code, name in zip(("TB118", "TB605"), names, strict=True)
        ]
    causes = probability.causes_of_levels(kept.levels)
    first = not_run("TB118", names[0], "no `log_p_x` was given")
    if kept.reconstruction is not None:
        first = probability.discrete_probability_is_at_most_one(
            Joint(
                record=kept.log_weights,
                asked=kept.log_weights,
                names=np.array(["x"]),
                discrete=np.array([True]),
                largest_log_p=np.array([kept.reconstruction.max()]),
            ),
            rows=_SAVED,
            causes=causes,
        )
    most = Estimate(0.0, 0.0, None, "nats per sequence", "exact", "log_marginal", 0, "")
    second = evaluation.bound_is_possible(
        bounds[0], most, where=_SAVED, limit="of discrete data it is at most", causes=causes
    )
    return [first, second]


def _weight_is_the_joint(kept: SavedWeights) -> Finding:
    code, check, asked = "TB119", "weight_is_the_joint", kept.summed
    if asked is None:
        missing = ", ".join(f"`{name}`" for name in PARTS if getattr(kept, name) is None)
        return not_run(code, check, f"not all parts were given: no {missing}")
    if kept.is_summed:
        return not_run(code, check, "no `log_weights` were given: they were summed of the parts")
    joint = Joint(kept.log_weights, asked, np.zeros(0, str), np.zeros(0, bool), np.zeros(0))
    return probability.weight_is_the_joint(joint, rows=_SAVED)


def _of_latents(kept: SavedWeights) -> list[Finding]:
    """TB117, TB401 and TB402, from what a draw costs and what it gives."""
    names = {
        "TB117": "kl_is_not_negative",
        "TB402": "likelihood_listens",
        "TB401": "latents_are_used",
    }
    log_ratio, reconstruction = kept.log_ratio, kept.reconstruction
    if log_ratio is None or reconstruction is None:
        reason = "the KL is not known: give `log_p_x`, or `log_p_z` and `log_q`"
        if not kept.has_latents:
            reason = "the model has no latents"
        elif not kept.kl_is_known:
            reason = "a filter has estimated part of log p(z): what is left is no KL"
        return [not_run(code, name, reason) for code, name in names.items()]
    nothing = np.zeros_like(log_ratio)
    sites = Sites(
        names=np.array(["x", "z"]),
        observed=np.array([True, False]),
        log_p=np.stack([reconstruction, -log_ratio]),
        log_q=np.stack([nothing, nothing]),
        num_units=np.ones(log_ratio.shape[1], np.int64),
    )
    history = [Evidence(step=0, sites=sites)]
    with np.errstate(invalid="ignore"):  # inf - inf
        spread = [np.ptp(part, axis=0).max() for part in (log_ratio, kept.log_weights)]
        slope = np.ptp(reconstruction, axis=0).max()
    scores = Scores(np.zeros(0), np.zeros(0), float(max(spread)), float(slope))
    if not log_ratio.any():
        reason = "log q(z | x) is log p(z) at every draw, to the bit: the proposal is the prior"
        used = not_run("TB401", names["TB401"], reason)
    else:
        used = latents.latents_are_used(history, first_step=0, where=_SAVED)
    listens = latents.likelihood_listens(scores)
    if len(log_ratio) < 2:
        listens = not_run("TB402", names["TB402"], "needs two draws of each sequence")
    return [latents.kl_is_not_negative(history, where=_SAVED), listens, used]


def _filter_is_unbiased(kept: SavedSteps, evidence: Float[np.ndarray, "time sequences"]) -> Finding:
    if kept.log_marginal is None:
        reason = "no `log_marginal`, the exact log p(x) of each sequence, was given"
        return not_run("TB122", "filter_evidence_is_unbiased", reason)
    # p-hat / p has mean 1 for every sequence, so that sequences are draws of one ratio.
    log_ratio = (evidence.sum(axis=0) - kept.log_marginal)[None, None]
    group = Filters(
        sources=np.array(["the filter that was saved"]),
        log_ratio=log_ratio,
        log_p=kept.log_marginal.mean(keepdims=True),
        num_steps=len(kept.mask),
        num_particles=kept.log_increments.shape[1],
        resampled_share=float((kept.resampled & kept.mask).any(axis=0).mean()),
    )
    where = f"{len(kept.log_marginal)} sequences, one filter of each"
    return filters.filter_evidence_is_unbiased(group, has_reference=False, where=where)
