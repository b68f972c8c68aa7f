"""TB212 to TB215: how does the optimiser answer a gradient?"""

from tightbound.diagnose.evidence import Optimiser
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

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
