"""TB6xx: is the reported number the one it is called, possible, and worth reporting?"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.checks.data import OVERLAP
from tightbound.diagnose.checks.steps import FUTURE_READ
from tightbound.diagnose.evidence import Evaluator, Reported
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run
from tightbound.estimators.estimate import Estimate

EVALUATED_LAW = Cause(
    "evaluation_law_differs",
    "The evaluator makes other data of the same rows than training does: no noise, or another noise.",
    "Evaluate under the law of training, or report both and say so.",
)
EVALUATED_SCALE = Cause(
    "evaluation_reduced_differently",
    "The evaluator's scores are a multiple of the true ones: averaged over pixels, or per batch.",
    "Sum per sequence; divide by units only in the unit's name.",
)
AVERAGED_PER_SEQUENCE = Cause(
    "averaged_per_sequence",
    "Every sequence's score is divided by its own number of units before the mean is taken: a mean of "
    "means, in which a unit of a short sequence weighs more than one of a long sequence.",
    "Divide the sum of all nats by the sum of all units, once.",
)
EVALUATED_UNITS = Cause(
    "evaluation_counts_other_units",
    "Nats per unit divide by another number of units than the data state: an end that is scored and "
    "not counted, padding that is counted.",
    "Count exactly what is scored: the real units, the end among them where it is scored.",
)
EVALUATED_CONSTANT = Cause(
    "evaluation_constant",
    "The evaluator adds a constant: a dropped normaliser, a missing log K.",
    "Report the sum of the sites.",
)
EVALUATED_SITE = Cause(
    "evaluation_drops_a_site",
    "A site is missing from the reported number.",
    "Report the sum of all sites.",
)
EVALUATED_NETWORK = Cause(
    "evaluation_network_differs",
    "The evaluator runs another network than training does: a mask, a cache, a dropout, a mode.",
    "Score one batch in both modes before training and compare.",
)
EVALUATION_TRAINS = Cause(
    "evaluation_changes_parameters",
    "Parameters are different after an evaluation: it trains on what it evaluates.",
    "Evaluate on a copy, and never call the training step there.",
)
EVALUATED_UNDER_OTHER_LAW = Cause(
    "evaluated_under_another_law",
    "Held-out numbers draw their latents from another law than training does. The bound is log p(x) "
    "less KL(q || p(z | x)): the surer the model of the trained law, the larger that KL, without limit.",
    "Evaluate under the law of training, or train under the law of evaluation.",
)
NORMALISER_DISCARDED = Cause(
    "normaliser_discarded",
    "The evaluator reports the log of a normalised weight, about minus the log of the number of "
    "particles: the normaliser, which is the estimate, was thrown away.",
    "Add log sum_n W_n w_n of every step before the weights are normalised.",
)
REPORT_IS_NOT_THE_BOUND = Cause(
    "report_is_not_the_bound",
    "The number in the run's record is not the mean of the rows' bounds at that step: of other rows, of "
    "older parameters, of a mean over batches of unequal size, or of another quantity.",
    "Report the mean over all rows of what `evaluate` gives for the parameters of that step.",
)
UNDER_BASELINE = Cause(
    "under_the_baseline",
    "The trained model is worse than a baseline without latents.",
    "Look at the findings above; then train longer.",
)


def evaluator_is_plain(evidence: Evaluator | None, *, tolerance: float = 1e-3) -> Finding:
    """TB601. Does the run's evaluator report what plain evaluation reports?

    Oracle: `evaluate` on the same rows and draws. Measured: the largest difference of a site's
    score, relative to the scores' size, or of a row's number of units, relative to that. Undecided
    where plain evaluation is not finite.
    """
    code, check = "TB601", "evaluator_is_plain"
    if evidence is None or evidence.expected.size == 0:
        return not_run(code, check, "the evaluator was not called")
    off = _differences(evidence.reported, evidence.expected)
    units_off = _units_difference(evidence)
    measured = float(np.maximum(off.max(), units_off))
    if not np.isfinite(evidence.expected).all():
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.OK if measured <= tolerance else Verdict.FAULT
    fault = verdict is Verdict.FAULT
    where = ", ".join(map(str, evidence.names[~(off <= tolerance)]))
    return Finding(
        code,
        check,
        verdict,
        measured,
        tolerance,
        "of the scores' size",
        f"site {where}" if where else "all sites",
        f"The evaluator reports {evidence.reported.sum(0).mean():.5g} nats per sequence where the same "
        f"draws give {evidence.expected.sum(0).mean():.5g}."
        if where or not units_off
        else f"The evaluator counts {evidence.reported_units.mean():.5g} units per sequence where there "
        f"are {evidence.expected_units.mean():.5g}.",
        _evaluation_causes(evidence, tolerance) if fault else (),
    )


def _units_difference(evidence: Evaluator) -> float:
    """Largest difference of a row's number of units, relative to that number (at least 1)."""
    off = np.abs(evidence.reported_units - evidence.expected_units)
    return float((off / np.maximum(evidence.expected_units, 1)).max(initial=0.0))


def _differences(
    reported: Float[np.ndarray, "site rows"], expected: Float[np.ndarray, "site rows"]
) -> Float[np.ndarray, " site"]:
    """Largest difference of each site, relative to the size of all scores (at least 1 nat)."""
    with np.errstate(invalid="ignore"):  # inf - inf
        return np.abs(reported - expected).max(1) / max(1.0, float(np.abs(expected).max()))


def _evaluation_causes(evidence: Evaluator, tolerance: float) -> tuple[Cause, ...]:
    """Which wrong evaluation explains the differences, tried from the most to the least specific."""
    off = ~(_differences(evidence.reported, evidence.expected) <= tolerance)
    if not off.any():
        return (EVALUATED_UNITS, EVALUATED_NETWORK)
    got, want = evidence.reported[off], evidence.expected[off]
    if not np.isfinite(got).all():
        return (EVALUATED_NETWORK,)
    # where the bound itself is near -log N, nothing can be concluded from being near it
    near, so_is_bound = (
        _are_normalised_weights(scores, evidence.num_particles)
        for scores in (evidence.reported, evidence.expected)
    )
    if near and not so_is_bound and got.any():
        return (NORMALISER_DISCARDED, EVALUATED_NETWORK)
    difference = got - want
    scale = (got * want).sum(1) / np.maximum((want**2).sum(1), 1e-12)
    residual = np.abs(got - scale[:, None] * want).max(1)
    proportional = bool((residual < 0.01 * np.abs(want).max(1)).all())
    causes = []
    units = np.maximum(evidence.expected_units, 1)
    times_units = np.abs(got * units - want).max(1)
    if units.max() > 1 and (times_units < 1e-3 * np.abs(want).max(1)).all():
        causes.append(AVERAGED_PER_SEQUENCE)
    if (got == 0).all():
        causes.append(EVALUATED_SITE)
    elif proportional and (np.abs(scale - 1) > 0.01).all():
        causes.append(EVALUATED_SCALE)
    if (np.ptp(difference, axis=1) < 0.01).all():
        causes.append(EVALUATED_CONSTANT)
    saturated = _differences(evidence.reported_saturated, evidence.expected_saturated)
    if (saturated <= tolerance).all():
        causes.append(EVALUATED_LAW)
    return (*causes, EVALUATED_NETWORK)


def _are_normalised_weights(scores: Float[np.ndarray, "site rows"], num_particles: int) -> bool:
    """Whether every row's sum is about the log of one of `num_particles` normalised weights."""
    return num_particles > 1 and bool((np.abs(scores.sum(0) + np.log(num_particles)) < 1.5).all())


def report_is_the_bound(
    evidence: Reported | None, *, num_errors: float = 5.0, rounding: float = 1e-4
) -> Finding:
    """TB610. Is the held-out bound that a run reports the bound of its rows at that step?

    Oracle: `evaluate` of the same state, on the same rows. Measured: the larger of two differences, as
    a share of the bound's size (at least 1 nat): the stated number less the mean over rows of the run's
    evaluator, and its rows less those of `evaluate`, on average. Fault beyond `rounding` of that size
    where, for the second, it is also beyond `num_errors` standard errors of the paired difference; or
    where the evaluator gives another number of rows than there are. Undecided where the bound is not
    finite.
    """
    code, check = "TB610", "report_is_the_bound"
    if evidence is None or evidence.by_plain.size == 0 or evidence.by_evaluator.size == 0:
        return not_run(code, check, "no held-out bound was reported at a step that was probed")
    every, plain = evidence.by_evaluator, evidence.by_plain
    complete = len(every) == evidence.num_rows
    size = max(1.0, float(np.abs(plain).max()))
    same = min(len(every), len(plain))
    with np.errstate(invalid="ignore"):  # inf - inf
        paired = every[:same] - plain[:same]
        stated_off = abs(evidence.stated - float(every.mean())) / size
        rows_off = abs(float(paired.mean())) / size
        error = num_errors * float(paired.std()) / np.sqrt(same) / size
    measured = float(np.maximum(stated_off, rows_off))
    known = bool(np.isfinite(plain).all() and np.isfinite(every).all())
    wrong = not stated_off <= rounding or not rows_off <= max(rounding, error) or not complete
    verdict = Verdict.UNDECIDED if not known else Verdict.FAULT if wrong else Verdict.OK
    said = f"The run states {evidence.stated:.6g} nats per sequence; its evaluator gives "
    said += (
        f"{every.mean():.6g} for {len(every)} of {evidence.num_rows} rows, and differs from plain "
    )
    said += f"evaluation by {paired.mean():.3g}."
    return Finding(
        code,
        check,
        verdict,
        measured,
        rounding,
        "of the bound's size",
        f"held-out rows, {same} of them also by plain evaluation",
        said,
        (REPORT_IS_NOT_THE_BOUND,) if verdict is Verdict.FAULT else (),
    )


def evaluated_under_the_trained_law(evidence: Evaluator | None) -> Finding:
    """TB604. Do held-out numbers draw their latents from the law that is trained on?

    Fault if the two laws have different names. Measured: the plain bound under the trained law less
    that under the law of evaluation, in nats per sequence, on the same rows: what the other law
    costs so far; 0 where it is the same.
    """
    code, check = "TB604", "evaluated_under_the_trained_law"
    if evidence is None or evidence.expected.size == 0:
        return not_run(code, check, "the evaluator was not called")
    fault = evidence.trained_law != evidence.evaluated_law
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = float((evidence.under_trained_law - evidence.expected.sum(0)).mean())
    cost = difference if fault else 0.0
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        cost,
        0.0,
        "nats per sequence",
        "held-out rows",
        f"Training draws latents by {evidence.trained_law!r}, evaluation by "
        f"{evidence.evaluated_law!r}, which costs {cost:.4g} nats per sequence here."
        if fault
        else f"Both draw latents by {evidence.trained_law!r}.",
        (EVALUATED_UNDER_OTHER_LAW,) if fault else (),
    )


def evaluation_leaves_parameters(evidence: Evaluator | None) -> Finding:
    """TB602. Are the parameters the same, to the bit, after an evaluation?"""
    code, check = "TB602", "evaluation_leaves_parameters"
    if evidence is None:
        return not_run(code, check, "the evaluator was not called")
    changed = bool(evidence.parameters_changed)
    return Finding(
        code,
        check,
        Verdict.FAULT if changed else Verdict.OK,
        float(changed),
        0.0,
        "changes",
        "all parameters",
        "Parameters changed during an evaluation."
        if changed
        else "An evaluation changes no parameter.",
        (EVALUATION_TRAINS,) if changed else (),
    )


def bound_beats_the_baselines(
    bound: Estimate | None,
    baselines: Mapping[str, Estimate],
    *,
    finished: bool,
    num_errors: float = 3.0,
) -> Finding:
    """TB603. Is the trained bound above every baseline without latents?

    Fault only for a finished run, beyond `num_errors` standard errors of the bound; undecided where
    it is of a single row, which has no error over rows. A fitted
    density of stored grey levels is no baseline to beat for a model of fixed variance: only
    baselines of probabilities (at most 0 nats) count.
    """
    code, check = "TB603", "bound_beats_the_baselines"
    counted = {name: b for name, b in baselines.items() if not b.value > 0}
    if bound is None or not counted:
        return not_run(
            code, check, "there is no held-out bound, or no baseline for this kind of data"
        )
    # a baseline that is NaN cannot be said to be beaten
    name, best = max(counted.items(), key=lambda item: np.nan_to_num(item[1].value, nan=np.inf))
    margin = num_errors * (bound.standard_error or 0.0)
    if bound.value > best.value + margin:
        verdict = Verdict.OK
    elif bound.value < best.value - margin and finished and bound.standard_error is not None:
        verdict = Verdict.FAULT
    else:
        verdict = Verdict.UNDECIDED
    return Finding(
        code,
        check,
        verdict,
        bound.value,
        best.value,
        bound.unit,
        f"held out, against {name}",
        f"The held-out bound is {bound.value:.5g} nats per sequence; {name} has {best.value:.5g}.",
        (UNDER_BASELINE,) if verdict is Verdict.FAULT else (),
    )


def bound_is_possible(
    bound: Estimate | None, source: Estimate | None, *, num_errors: float = 4.0
) -> Finding:
    """TB605. Is the held-out bound at most what the source of the data itself would reach?

    `source` is the mean log p(x) of held-out rows under the law that drew them, minus its entropy:
    no model is better on average. Fault beyond `num_errors` standard errors of both, finished or not.
    Undecided where the bound or its error is not known.
    """
    code, check = "TB605", "bound_is_possible"
    if bound is None or source is None:
        return not_run(code, check, "there is no held-out bound, or the data's source is not known")
    if bound.bound not in ("lower", "exact"):
        return not_run(code, check, "what is reported of held-out rows is no bound on log p(x)")
    own_error = np.nan if bound.standard_error is None else bound.standard_error
    margin = num_errors * float(np.hypot(own_error, source.standard_error or 0.0))
    excess = bound.value - source.value
    if not np.isfinite([excess, margin]).all():
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.FAULT if excess > margin else Verdict.OK
    return Finding(
        code,
        check,
        verdict,
        bound.value,
        source.value + margin,
        bound.unit,
        "held out, against the source of the data",
        f"The held-out bound is {bound.value:.5g} nats per sequence; the source itself has "
        f"{source.value:.5g}.",
        (FUTURE_READ, OVERLAP) if verdict is Verdict.FAULT else (),
    )
