"""TB216, TB217 and TB221: does training start near the data, stay finite, and rise?"""

from collections.abc import Sequence

import numpy as np

from tightbound.diagnose.checks.updates import RATE_TOO_HIGH, with_multiples, with_update_ratio
from tightbound.diagnose.evidence import Evidence, Guard
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

NOT_FINITE = Cause(
    "not_finite",
    "A NaN or an infinity has reached the bound.",
    "Look at the site and rows named; floor scales and mask by selection.",
)
BOUND_FALLS = Cause(
    "bound_falls",
    "Training lowers the bound that it is to raise: steps are too large for the place it has reached, "
    "or the model is following something else.",
    "Lower the learning rate, or let it decay; `tightbound why` says which site has lost.",
)
INITIAL_SCALE = Cause(
    "initial_scale",
    "The untrained output is far from the data's scale: it is much worse than knowing nothing.",
    "Use the library's initialisation; start output layers near zero.",
)


def values_are_finite(history: Sequence[Evidence]) -> Finding:
    """TB216. Is every score finite?  Names the first step, the sites and the first rows. Measured: how
    many scores are not, of every site, draw and row; where a guard has refused a gradient, of that
    step, replayed, with its components."""
    code, check = "TB216", "values_are_finite"
    probes = [(evidence.step, evidence.sites) for evidence in history if evidence.sites is not None]
    probes = [(step, sites) for step, sites in probes if sites.log_p.size > 0]
    stopped = [e.guard for e in history if e.guard is not None and e.guard.step >= 0]
    if stopped:
        return _refused(code, check, stopped[0], history)
    if not probes:
        return not_run(code, check, "no scored sites were gathered")
    for step, sites in probes:
        bad = ~(np.isfinite(sites.log_p) & np.isfinite(sites.log_q))
        if bad.any():
            names = ", ".join(map(str, sites.names[bad.any((1, 2))]))
            rows = ", ".join(map(str, np.flatnonzero(bad.any((0, 1)))[:5]))
            return Finding(
                code,
                check,
                Verdict.FAULT,
                float(bad.sum()),
                0.0,
                "scores",
                f"step {step}, site {names}, held-out rows {rows}",
                f"Site {names} is not finite at step {step}.",
                (NOT_FINITE, RATE_TOO_HIGH),
            )
    return Finding(
        code,
        check,
        Verdict.OK,
        0.0,
        0.0,
        "scores",
        f"steps {probes[0][0]} to {probes[-1][0]}",
        "Every score is finite.",
    )


def _refused(code: str, check: str, guard: Guard, history: Sequence[Evidence]) -> Finding:
    """What a guard refused, from the replayed step."""
    sites = ", ".join(map(str, guard.names[guard.bad_scores > 0])) or "none"
    parts = [f"site {sites}", f"training rows {', '.join(map(str, guard.rows[:5])) or 'none'}"]
    if len(guard.components):
        parts.insert(1, f"component {', '.join(map(str, guard.components))}")
    # a gradient that is finite may be made an update that is not
    what = "The gradient" if len(guard.modules) else "The update"
    where = f" in {', '.join(map(str, guard.modules))}" if len(guard.modules) else ""
    last = [
        e.step
        for e in history
        if e.step <= guard.step and e.line is not None and np.isfinite(e.line.same[:1]).all()
    ]
    cause = with_multiples(RATE_TOO_HIGH, history, last[-1]) if last else RATE_TOO_HIGH
    return Finding(
        code,
        check,
        Verdict.FAULT,
        float(guard.bad_scores.sum()),
        0.0,
        "scores",
        f"the step after step {guard.step}, {', '.join(parts)}",
        f"{what} after step {guard.step} is not finite{where}; it was refused, and the parameters are those "
        "of that step.",
        (cause, NOT_FINITE),
    )


def bound_does_not_fall(
    history: Sequence[Evidence],
    *,
    climbs: bool = True,
    share: float = 0.02,
    num_errors: float = 5.0,
    first_step: int = 100,
) -> Finding:
    """TB221. Is the bound that is climbed higher at the last probe than at step `first_step`?

    Reads the bound of the probe's training rows, the same rows and draws at both, paired. Measured:
    how far it has fallen, as a share of its size (at least 1 nat). Fault beyond `share` and
    `num_errors` standard errors, or where it is no longer finite; undecided where it is lower by less.
    `climbs` says that training raises this very bound: a KL weight, another temperature or another
    bound may lower it by right.
    """
    code, check = "TB221", "bound_does_not_fall"
    if not climbs:
        return not_run(code, check, "what is trained is not the ELBO itself")
    probes = [(e.step, e.line) for e in history if e.line is not None and e.step >= first_step]
    probes = [
        (step, line) for step, line in probes if (line.multiples == 0).any() and line.same.size
    ]
    if len(probes) < 2:
        return not_run(code, check, f"fewer than two probes from step {first_step} on")
    (start, first), (end, last) = probes[0], probes[-1]
    before, after = (
        np.concatenate([line.same[line.multiples == 0.0], line.other[line.multiples == 0.0]], 1)
        for line in (first, last)
    )
    size = max(1.0, float(np.abs(before).mean()))
    with np.errstate(invalid="ignore"):  # inf - inf
        fall = np.asarray(before - after, np.float64).ravel() / size  # 1e30 squared is no float32
    measured = float(fall.mean())
    error = float(fall.std(ddof=1) / np.sqrt(len(fall))) if np.isfinite(fall).all() else np.nan
    if not np.isfinite(before).all():
        verdict = Verdict.UNDECIDED
    elif not np.isfinite(after).all():
        verdict, measured = Verdict.FAULT, float("inf")
    elif measured > share and measured > num_errors * error:
        verdict = Verdict.FAULT
    else:
        verdict = Verdict.UNDECIDED if measured > 0 else Verdict.OK
    falls = verdict is Verdict.FAULT
    return Finding(
        code,
        check,
        verdict,
        measured,
        share,
        "of the bound's size",
        f"steps {start} to {end}, training rows",
        f"The bound of step {start} is not finite."
        if not np.isfinite(before).all()
        else f"The bound of the same rows and draws is {measured:.1%} of its size lower at step {end} "
        f"than at step {start}."
        if measured > 0
        else f"The bound has risen by {-measured:.1%} of its size since step {start}.",
        (with_update_ratio(BOUND_FALLS, history[-1]),) if falls else (),
    )


def output_starts_near_the_data(
    first: Evidence, ignorance: float | None, *, per_unit: bool = False, factor: float = 3.0
) -> Finding:
    """TB217. Is the untrained model far worse than knowing nothing?

    Measured: -E log p(x | z) of the untrained model over that of the `ignorance` baseline (uniform
    bits), both in nats per sequence; with `per_unit`, where a sequence is a data set whose points have
    the baseline each, both per unit. Of data without such a baseline: half the width of the middle
    two thirds of x less the output's mean, over the scale of the training data.
    """
    code, check = "TB217", "output_starts_near_the_data"
    if first.sites is None or first.step != 0 or not first.sites.observed.any():
        return not_run(code, check, "the untrained model was not scored")
    if ignorance is None or ignorance >= 0:
        return _means_start_near_the_data(code, check, first, factor)
    scores = first.sites.log_p[first.sites.observed]
    if scores.size == 0:
        return not_run(code, check, "the untrained model was scored on no rows")
    with np.errstate(invalid="ignore"):  # inf - inf
        log_likelihood = float(scores.sum(0).mean())
    if per_unit:
        log_likelihood /= max(float(first.sites.num_units.mean()), 1.0)
    measured = log_likelihood / ignorance
    fault = not measured <= factor
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        factor,
        "times the uniform baseline",
        "step 0, log p(x | z)",
        f"Before training log p(x | z) is {log_likelihood:.5g} nats; knowing nothing gives {ignorance:.5g}.",
        (INITIAL_SCALE,) if fault else (),
    )


def _means_start_near_the_data(code: str, check: str, first: Evidence, factor: float) -> Finding:
    """The same of real-valued data, by the output's means."""
    if first.outputs is None or first.data is None or len(first.data.scale) == 0:
        reason = (
            "there is neither a uniform baseline nor a mean of the output for this kind of data"
        )
        return not_run(code, check, reason)
    quantiles = first.outputs.residual_quantiles
    if len(quantiles) == 0 or not first.data.scale[0] > 0:
        return not_run(code, check, "the untrained output or the data had no scale to compare")
    low, high = np.quantile(quantiles, [1 / 6, 5 / 6])
    with np.errstate(invalid="ignore"):  # inf - inf
        measured = float((high - low) / 2 / first.data.scale[0])
    fault = not measured <= factor
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        factor,
        "times the data's scale",
        "step 0, x less the output's mean",
        f"Before training the output's means are {measured:.3g} times the data's scale away from x.",
        (INITIAL_SCALE,) if fault else (),
    )
