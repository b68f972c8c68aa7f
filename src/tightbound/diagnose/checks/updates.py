"""TB210, TB211, TB219 and TB223: is an update too large, too small, or nothing?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.evidence import Evidence, Line
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

ROWS_INTERFERE = Cause(
    "rows_interfere",
    "A step on one batch takes more from other rows than it gives: the learning rate is too high for "
    "so small a batch, so the bound jumps although the gradient is right.",
    "Lower the learning rate, warm it up, or put more rows into a batch.",
)
RATE_TOO_HIGH = Cause(
    "learning_rate_too_high",
    "The update overshoots: it makes the bound of its own batch much worse while a fraction of it "
    "makes it better.",
    "Divide the learning rate by 10 to 30, or warm it up.",
)
RATE_TOO_LOW = Cause(
    "learning_rate_too_low",
    "Thirty times the update would still raise the bound, at step after step.",
    "Multiply the learning rate by 10 to 30.",
)
UPDATES_STOPPED = Cause(
    "updates_stopped",
    "Updates are nothing although gradients are not: the learning rate has gone to zero, by a schedule "
    "that ends before training does or that was given other steps than the run has.",
    "Let the schedule end where the run ends; print its value at the steps named.",
)


def updates_do_not_overshoot(
    history: Sequence[Evidence], *, share: float = 0.1, num_errors: float = 5.0, fall: float = 0.5
) -> Finding:
    """TB210. Does an update make its own batch much worse while a fraction of it makes it better?

    Reads the bound along the actual update on fixed draws, paired by row. Measured: the largest
    loss of a whole update, as a share of the bound's size (at least 1 nat), among updates of which
    a fifth or less gains, beyond `num_errors` standard errors over rows; or, where it is larger, the same
    with the change of every row capped at the bound's size. Rows may lose so unequally (a rate a hundred
    times too high) that the mean loss has an error as large as itself, although every row loses all it
    had. An update that ends where the bound is not finite loses everything. Undecided where the bound
    before an update is not finite, or that of every fraction of it.

    Fault also where a model without latents, whose bound is what is trained, is worse at the last probe
    than untrained by more than `fall` of the bound's size: each update then mends what others broke.
    """
    code, check = "TB210", "updates_do_not_overshoot"
    losses = {step: _loss_of_a_whole_update(line, num_errors) for step, line in _lines(history)}
    if not losses:
        return not_run(code, check, "the bound along the update was not gathered")
    step, worst = max(losses.items(), key=lambda item: np.nan_to_num(item[1], nan=-1.0))
    unknown = [step for step, loss in losses.items() if np.isnan(loss)]
    fallen = _fall_since_the_start(history)
    fault = worst > share or fallen > fall
    if fallen > fall and not worst > share:
        verdict, where, worst, share = Verdict.FAULT, f"step {history[-1].step}", fallen, fall
        meaning = (
            f"At {where} the bound is {fallen:.0%} of its size below that of the untrained model."
        )
    elif fault:
        verdict, where = Verdict.FAULT, f"step {step}"
        meaning = f"The update after {where} loses {worst:.0%} of the bound on its own batch; a "
        meaning += "fraction of it gains."
    elif unknown:
        verdict, where = Verdict.UNDECIDED, f"step {unknown[0]}"
        meaning = f"The bound along the update after {where} is not finite."
    else:
        verdict, where = Verdict.OK, "every probed update"
        meaning = "No probed update overshoots."
    causes = (with_multiples(RATE_TOO_HIGH, history, step),) if fault else ()
    return Finding(
        code, check, verdict, worst, share, "of the bound's size", where, meaning, causes
    )


def with_multiples(cause: Cause, history: Sequence[Evidence], step: int) -> Cause:
    """The cause with the advice that the line of one probe gives: which multiple of the update gains
    most; of components and model apart where each was moved alone. Without a finite line, by what the
    update is of the parameters."""
    evidence = next(evidence for evidence in history if evidence.step == step)
    line, components = evidence.line, evidence.components
    if line is None:
        return cause
    parts = {"the learning rate": line.same.mean(1) - line.same[0].mean()}
    if components is not None and len(components.gains) == 2:
        names = ("that of the components", "that of the model")
        parts = dict(zip(names, components.gains, strict=True))
    said = []
    for name, gains in parts.items():
        best = _best_multiple(line.multiples, gains)
        if best is None:
            continue
        if best == 0:
            said.append(f"lower {name} to less than {_fraction(_smallest(line.multiples))}")
        elif best < 1:
            said.append(f"lower {name} to about {_fraction(best)}")
        else:
            said.append(f"{name} may stay")
    if not said:
        return with_update_ratio(cause, evidence)
    advice = ", ".join(said)
    return replace(cause, advice=f"Along the update of step {step}: {advice}; or warm it up.")


def _best_multiple(multiples: np.ndarray, gains: np.ndarray) -> float | None:
    """The multiple of the update that gains most, 0 where none gains; None without a bound to begin
    with."""
    if not np.isfinite(gains[multiples == 0.0]).all():
        return None
    gains = np.where(np.isfinite(gains), gains, -np.inf)
    return float(multiples[gains.argmax()])


def _smallest(multiples: np.ndarray) -> float:
    return float(multiples[multiples > 0].min())


def _fraction(multiple: float) -> str:
    return "a tenth" if np.isclose(multiple, 0.1) else f"1/{1 / multiple:.0f}"


def with_update_ratio(cause: Cause, evidence: Evidence) -> Cause:
    """The advice that the size of an update gives: a thousandth of the parameters' is usual."""
    gradients = evidence.gradients
    if gradients is None or not len(gradients.modules):
        return cause
    ratios = gradients.update_norm / np.maximum(gradients.parameter_norm, 1e-30)
    if not np.isfinite(ratios).all() or not ratios.max() > 1e-3:
        return cause
    module, largest = gradients.modules[ratios.argmax()], ratios.max()
    return replace(
        cause,
        advice=f"An update is {largest:.2g} of the size of {module}, where 0.001 is usual: divide the "
        f"learning rate by about {largest / 1e-3:.0f}.",
    )


def _fall_since_the_start(history: Sequence[Evidence]) -> float:
    """How far the bound of the probe's training rows is below that at step 0, as a share of its size (at
    least 1 nat), of a model whose sites are all observed; 0 of any other, which may be annealed."""
    first, last = history[0], history[-1]
    if first.step != 0 or first.sites is None or not first.sites.observed.all():
        return 0.0
    if (
        first.line is None
        or last.line is None
        or not min(first.line.same.size, last.line.same.size)
    ):
        return 0.0
    before, after = float(first.line.same[0].mean()), float(last.line.same[0].mean())
    if not np.isfinite([before, after]).all():
        return 0.0
    return (before - after) / max(1.0, abs(before))


def updates_help_other_rows(
    history: Sequence[Evidence], *, least: float = 0.1, share: float = 0.5
) -> Finding:
    """TB219. Does an update on one batch undo what others had?

    Reads the bound of other training rows along the actual update. Measured: of at least six probed
    updates that raise the bound of their own batch, the share that lower that of the others by more
    than `least` nats and by more than half of the gain. Fault where more than `share` of them do:
    the rows interfere, and one step on one of them is no step on the objective. Others whose bound
    is not finite after the update lost everything; undecided where it was not before.
    """
    code, check = "TB219", "updates_help_other_rows"
    gains = [(step, _gains(line)) for step, line in _lines(history) if line.other.size > 0]
    helpful = [(step, own, other) for step, (own, other) in gains if own > 0]
    if len(helpful) < 6:
        return not_run(code, check, "fewer than six probed updates raised their own batch's bound")
    harmful = [-other > max(least, 0.5 * own) for _, own, other in helpful]
    measured = float(np.mean(harmful))
    fault = measured > share
    known = not np.isnan([both for _, both in gains]).any()
    worst_step, own, other = min(helpful, key=lambda item: np.nan_to_num(item[2], nan=np.inf))
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK if known else Verdict.UNDECIDED,
        measured,
        share,
        "of the probed updates",
        f"worst at step {worst_step}",
        f"Of {len(helpful)} updates that raised their own batch {sum(harmful)} lowered other rows; the "
        f"worst gave {own:+.3g} and took {other:+.3g} nats per sequence.",
        (ROWS_INTERFERE,) if fault else (),
    )


def _gains(line: Line) -> tuple[float, float]:
    """What the whole update changes on its own rows and on others, in nats per sequence: -inf where
    the bound is not finite after it, NaN where it was not before."""

    def gain(bound: Float[np.ndarray, "multiple rows"]) -> float:
        before, after = bound[line.multiples == 0.0], bound[line.multiples == 1.0]
        if not np.isfinite(before).all():
            return float("nan")
        return float((after - before).mean()) if np.isfinite(after).all() else -float("inf")

    return gain(line.same), gain(line.other)


def _lines(history: Sequence[Evidence]) -> list[tuple[int, Line]]:
    """Step and line of every probe that looked along an update as far as the checks here need."""
    found = [(evidence.step, evidence.line) for evidence in history if evidence.line is not None]
    return [
        (step, line)
        for step, line in found
        if line.same.size > 0 and np.isin([0.0, 0.1, 1.0, 30.0], line.multiples).all()
    ]


def _loss_of_a_whole_update(line: Line, num_errors: float) -> float:
    """What an update loses, as a share of the bound's size; 0 where it may well lose nothing or where
    no fraction of it gains, NaN where there is no finite bound to compare with."""
    with np.errstate(invalid="ignore"):  # inf - inf
        gain = np.asarray(line.same - line.same[0], np.float64)  # 1e30 squared is no float32
    fractions = (line.multiples > 0) & (line.multiples < 0.2)
    small, whole = gain[fractions].mean(1), gain[line.multiples == 1.0].mean(0)
    if not np.isfinite(line.same[0]).all() or np.isnan(small).all():
        return float("nan")
    if not (small > 0).any():
        return 0.0
    if not np.isfinite(whole).all():
        return float("inf")
    lost = -whole / max(abs(float(line.same[0].mean())), 1.0)
    return max(_sure_mean(some, num_errors) for some in (lost, np.clip(lost, -1.0, 1.0)))


def _sure_mean(lost: Float[np.ndarray, " rows"], num_errors: float) -> float:
    """The mean, or 0 where it is within `num_errors` of its standard errors of nothing."""
    error = lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else np.inf
    return float(lost.mean()) if lost.mean() > num_errors * error else 0.0


def updates_are_large_enough(
    history: Sequence[Evidence],
    *,
    is_bound: bool = True,
    share: float = 0.8,
    ratio: float = 8.0,
    progress: float = 0.01,
    first_step: int = 100,
    rise: float = 2.0,
) -> Finding:
    """TB211. Would thirty times the update still raise the bound, all the time?

    Measured: the share of probed steps from 4 on where 30 updates in one gain more than `ratio`
    times what one gains, on the update's batch and on others. The last three must be among them,
    and step `first_step` behind. Probes are left out at which the optimiser's own schedule is to make updates
    more than `rise` times larger: not run where fewer than three are left. Of a single row, whose bound
    has no noise of a batch, the last gain of thirty must also be more than `progress` of what has been
    gained since step 0: near its end such a run goes straight on, too. Thirty updates that end
    where the bound is not finite gain nothing; undecided where one does, or none at all. Not run where
    the settings say that the scores are no bound: points of SVGD could always gather at the mode.
    """
    code, check = "TB211", "updates_are_large_enough"
    if not is_bound:
        return not_run(code, check, "the settings state no bound that an update should raise")
    ahead = {e.step: 1.0 if e.schedule is None else e.schedule.largest_ahead for e in history}
    probes = [(step, line) for step, line in _lines(history) if step >= 4]
    if not probes or history[-1].step < first_step:
        return not_run(code, check, f"fewer than {first_step} steps were probed")
    lines = [line for step, line in probes if ahead[step] <= rise]
    if len(lines) < min(3, len(probes)):
        times = ahead[probes[-1][0]]
        reason = f"the learning rate is still rising: updates are to be {times:.3g} times larger"
        return not_run(code, check, reason)
    gains = [(_gain(line, 1.0), _gain(line, 30.0)) for line in lines]
    small = [thirty > 0 and thirty > ratio * one for one, thirty in gains]
    measured = float(np.mean(small))
    sites = history[-1].sites
    single = sites is not None and len(sites.num_units) == 1
    slow = not single or gains[-1][1] > progress * _rise(history)
    fault = measured >= share and all(small[-3:]) and slow
    known = np.isfinite([one for one, _ in gains]).all()
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK if known else Verdict.UNDECIDED,
        measured,
        share,
        "of probed steps",
        f"steps 4 to {history[-1].step}",
        f"At {measured:.0%} of probed steps thirty times the update still raises the bound.",
        (RATE_TOO_LOW,) if fault else (),
    )


def updates_have_not_stopped(
    history: Sequence[Evidence],
    *,
    tiny: float = 1e-8,
    still: float = 1e-6,
    least: float = 1e-3,
    share: float = 0.1,
) -> Finding:
    """TB223. Do updates still move the parameters, as long as there is a gradient?

    Measured: the share of the run's steps for which nothing has moved, counted back from the last probe
    while (1) the update is at most `tiny` of the parameters' length, below what 32 bits can add, (2) that
    length is, within `still` of it, what it was at the next probe, and (3) the gradient is at least
    `least` of the run's median one. Assumes that probes see what the run does: (2) leaves out accumulated
    gradients, whose updates are nothing between. Fault beyond `share` over three probes or more, so that
    neither a warm-up from 0 nor a schedule that ends with the run is one; undecided over two.
    """
    code, check = "TB223", "updates_have_not_stopped"
    probed = [(e.step, e.gradients) for e in history if e.gradients is not None]
    if len(probed) < 3 or not all(len(g.modules) for _, g in probed) or probed[-1][0] == 0:
        return not_run(code, check, "fewer than three probes of trained parameters were gathered")
    steps = np.array([step for step, _ in probed])
    parts = [(g.update_norm, g.parameter_norm, g.norm) for _, g in probed]
    lengths = np.array([[np.linalg.norm(of_modules) for of_modules in part] for part in parts]).T
    known = bool(np.isfinite(lengths).all())
    update, parameters, gradient = lengths if known else np.zeros_like(lengths)
    stopped = (update <= tiny * parameters) & (gradient > 0)
    stopped[:-1] &= np.abs(np.diff(parameters)) <= still * parameters[:-1]
    stopped &= gradient >= least * np.median(gradient)
    moving = np.flatnonzero(~stopped)
    num_stopped = len(steps) - 1 - moving[-1] if len(moving) else len(steps)
    since = int(steps[len(steps) - num_stopped]) if num_stopped else int(steps[-1])
    measured = float((steps[-1] - since) / steps[-1]) if known else float("nan")
    long = measured > share
    if not known or (long and num_stopped == 2):
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.FAULT if long and num_stopped >= 3 else Verdict.OK
    fault = verdict is Verdict.FAULT
    return Finding(
        code,
        check,
        verdict,
        measured,
        share,
        "of the run's steps",
        f"steps {since} to {steps[-1]}" if fault else "every probed update",
        f"From step {since} on no parameter moves, with a gradient of length {gradient[-1]:.3g}."
        if fault
        else "Updates move the parameters."
        if known
        else "An update, a gradient or the parameters are not finite.",
        (UPDATES_STOPPED,) if fault else (),
    )


def _rise(history: Sequence[Evidence]) -> float:
    """What the bound of the probe's training rows has gained since step 0; 0 where that is not known."""
    lines = _lines(history)
    (start, first), (_, last) = lines[0], lines[-1]
    with np.errstate(invalid="ignore"):  # inf - inf
        rise = float(last.same[0].mean() - first.same[0].mean())
    return rise if start == 0 and np.isfinite(rise) else 0.0


def _gain(line: Line, multiple: float) -> float:
    """Mean gain of a multiple of the update, on its own batch or on others, whichever is less."""
    with np.errstate(invalid="ignore"):  # inf - inf
        gains = [batch - batch[0] for batch in (line.same, line.other)]
    return float(np.min([gain[line.multiples == multiple].mean() for gain in gains]))
