"""TB21x: does a step do what a step should?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.evidence import Evidence, Guard, Line, Optimiser
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
MODULE_FROZEN = Cause(
    "module_never_moves",
    "The optimiser leaves this module alone whatever its gradient is.",
    "Check which parameters the optimiser was given.",
)
NOT_RESET = Cause(
    "gradient_not_reset",
    "A gradient goes on moving the parameters long after it was given: it is accumulated and never "
    "cleared.",
    "Clear the gradient after every update.",
)
BATCHES_DROPPED = Cause(
    "batches_dropped",
    "Some gradients never move anything: accumulation keeps only one batch out of several.",
    "Average the accumulated gradients instead of overwriting them.",
)
EVERYTHING_CLIPPED = Cause(
    "everything_clipped",
    "A tenth of the gradient gives the same update: every entry is cut to the clip's threshold, and "
    "only signs are left.",
    "Raise the threshold far above a typical entry, or clip the norm.",
)
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
    causes = (_with_multiples(RATE_TOO_HIGH, history, step),) if fault else ()
    return Finding(
        code, check, verdict, worst, share, "of the bound's size", where, meaning, causes
    )


def _with_multiples(cause: Cause, history: Sequence[Evidence], step: int) -> Cause:
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
        return _with_update_ratio(cause, evidence)
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


def _with_update_ratio(cause: Cause, evidence: Evidence) -> Cause:
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
    raised = [(step, own, other) for step, (own, other) in gains if own > 0]
    if len(raised) < 6:
        return not_run(code, check, "fewer than six probed updates raised their own batch's bound")
    harmful = [-other > max(least, 0.5 * own) for _, own, other in raised]
    measured = float(np.mean(harmful))
    fault = measured > share
    known = not np.isnan([both for _, both in gains]).any()
    worst_step, own, other = min(raised, key=lambda item: np.nan_to_num(item[2], nan=np.inf))
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK if known else Verdict.UNDECIDED,
        measured,
        share,
        "of the probed updates",
        f"worst at step {worst_step}",
        f"Of {len(raised)} updates that raised their own batch {sum(harmful)} lowered other rows; the "
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
    seen = [(step, line) for step, line in _lines(history) if step >= 4]
    if not seen or history[-1].step < first_step:
        return not_run(code, check, f"fewer than {first_step} steps were probed")
    lines = [line for step, line in seen if ahead[step] <= rise]
    if len(lines) < min(3, len(seen)):
        times = ahead[seen[-1][0]]
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


def every_module_moves(optimiser: Optimiser | None) -> Finding:
    """TB212. Does a gradient move every module?  Measured: how many it does not."""
    code, check = "TB212", "every_module_moves"
    if optimiser is None or len(optimiser.modules) == 0:
        return not_run(code, check, "the optimiser was not asked")
    frozen = [str(name) for name in optimiser.modules[~optimiser.moved]]
    return Finding(
        code,
        check,
        Verdict.FAULT if frozen else Verdict.OK,
        float(len(frozen)),
        0.0,
        "modules",
        ", ".join(frozen) or "all modules",
        f"The optimiser never moves {', '.join(frozen)}."
        if frozen
        else "A gradient moves every module.",
        (MODULE_FROZEN,) if frozen else (),
    )


def _was_asked(optimiser: Optimiser, most: int = 32) -> bool:
    """Whether it moved twice, and often enough to be asked sixty times."""
    return 0 < optimiser.gradients_per_update <= most


def _why_not_asked(optimiser: Optimiser | None) -> str:
    """The reason why nothing is known of an optimiser's answers."""
    if optimiser is None:
        return "the optimiser was not asked"
    if optimiser.gradients_per_update == 0:
        return "the optimiser did not move twice, however many gradients it was given"
    return (
        f"one update comes of {optimiser.gradients_per_update} gradients: asking it takes too long"
    )


def gradients_are_forgotten(
    optimiser: Optimiser | None, *, threshold: float = 0.1, held: float = 0.3
) -> Finding:
    """TB213. After one gradient and 60 zero ones, has the motion died away?

    Gradients are counted in updates: where an optimiser accumulates k of them, each stands for k. Measured: the last update's size over the largest one's. Momentum and Adam leave far below 1 %.
    Fault also where an update 29 zero gradients later is more than `held` of that by the same gradient
    at every step, which then is what is measured: sums that are cleared now and then, once an epoch.
    """
    code, check = "TB213", "gradients_are_forgotten"
    if optimiser is None or not _was_asked(optimiser):
        return not_run(code, check, _why_not_asked(optimiser))
    late, still = optimiser.late_motion, optimiser.held_motion
    by_late = not late <= threshold
    fault = by_late or not still <= held
    zeros = 29 if fault and not by_late else 60
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        late if zeros == 60 else still,
        threshold if zeros == 60 else held,
        "of the first updates' size" if zeros == 60 else "of the update by constant gradients",
        f"the optimiser, {zeros} zero gradients after one that was not",
        f"{zeros} zero gradients later the update is still {late if zeros == 60 else still:.1%} of the "
        f"{'first' if zeros == 60 else 'one that the gradient makes when it stays'}.",
        (NOT_RESET,) if fault else (),
    )


def every_gradient_counts(optimiser: Optimiser | None) -> Finding:
    """TB214. Does every gradient move something, sooner or later?  Measured: the share of positions
    in a sequence at which a single gradient never moves anything."""
    code, check = "TB214", "every_gradient_counts"
    if optimiser is None or not _was_asked(optimiser):
        return not_run(code, check, _why_not_asked(optimiser))
    ignored = optimiser.ignored_share
    if ignored == 0.0:
        verdict = Verdict.OK
    elif ignored == 1.0:  # an optimiser that ignores everything moves no module: TB212 says so
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.FAULT
    return Finding(
        code,
        check,
        verdict,
        ignored,
        0.0,
        "of gradients",
        "the optimiser, one gradient among zeros",
        f"{ignored:.0%} of single gradients never move a parameter.",
        (BATCHES_DROPPED,) if verdict is Verdict.FAULT else (),
    )


def clipping_leaves_sizes(optimiser: Optimiser | None, *, threshold: float = 0.9) -> Finding:
    """TB215. Does the size of a gradient still matter?

    The made-up gradient's entries span six decades, 1e-6 to 1. Measured: the share of entries whose
    update is the same for a tenth of the gradient. An honest clip leaves small entries alone.
    """
    code, check = "TB215", "clipping_leaves_sizes"
    if optimiser is None or not _was_asked(optimiser):
        return not_run(code, check, _why_not_asked(optimiser))
    fault = not optimiser.unanswered_share <= threshold
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        optimiser.unanswered_share,
        threshold,
        "of entries",
        "the optimiser, gradient entries from 1e-6 to 1",
        f"For {optimiser.unanswered_share:.0%} of entries a tenth of the gradient gives the same update.",
        (EVERYTHING_CLIPPED,) if fault else (),
    )


def values_are_finite(history: Sequence[Evidence]) -> Finding:
    """TB216. Is every score finite?  Names the first step, the sites and the first rows. Measured: how
    many scores are not, of every site, draw and row; where a guard has refused a gradient, of that
    step, replayed, with its components."""
    code, check = "TB216", "values_are_finite"
    seen = [(evidence.step, evidence.sites) for evidence in history if evidence.sites is not None]
    seen = [(step, sites) for step, sites in seen if sites.log_p.size > 0]
    stopped = [e.guard for e in history if e.guard is not None and e.guard.step >= 0]
    if stopped:
        return _refused(code, check, stopped[0], history)
    if not seen:
        return not_run(code, check, "no scored sites were gathered")
    for step, sites in seen:
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
        f"steps {seen[0][0]} to {seen[-1][0]}",
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
    cause = _with_multiples(RATE_TOO_HIGH, history, last[-1]) if last else RATE_TOO_HIGH
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
    seen = [(e.step, e.line) for e in history if e.line is not None and e.step >= first_step]
    seen = [(step, line) for step, line in seen if (line.multiples == 0).any() and line.same.size]
    if len(seen) < 2:
        return not_run(code, check, f"fewer than two probes from step {first_step} on")
    (start, first), (end, last) = seen[0], seen[-1]
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
        (_with_update_ratio(BOUND_FALLS, history[-1]),) if falls else (),
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
