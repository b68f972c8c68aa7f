"""TB111 to TB114: does a model of sequences keep to what its steps may know, and does it know that?

The first three are identities: in 32 bits they hold to a few 1e-7 of the scores' size, and the
tolerance leaves rounding of long sums a factor of some hundred.
"""

import numpy as np

from tightbound.diagnose.evidence import Steps
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

PADDING_COUNTED = Cause(
    "padding_counted",
    "Padded steps are scored like real ones: the mask is missing, or true everywhere.",
    "Select the scores of real steps by the mask before anything is summed.",
)
PADDING_READ = Cause(
    "padding_drives_the_state",
    "Padding is not scored, but it moves a recurrent state that real steps read.",
    "Where the mask is false keep the state as it was, backward passes included.",
)
STEPS_DIFFER = Cause(
    "steps_and_sequence_scored_apart",
    "Going step by step and scoring a whole sequence give the same choices different scores: a state "
    "that one of the two resets, drops or computes otherwise.",
    "Score both ways through one step function, and compare them on one draw.",
)
FUTURE_READ = Cause(
    "future_read_by_the_model",
    "The score of a step depends on observations after it: a statistic over the time axis, a "
    "bidirectional network, an input shifted the wrong way.",
    "Give the generative model x before t alone; only the proposal may look ahead.",
)
NEWEST_LEFT_OUT = Cause(
    "newest_step_left_out",
    "The score of a step depends on steps further back but not on the one before it: a window that is "
    "cut one step too early, or an input that is shifted twice.",
    "Give the step all of x before it: shift the inputs once, and end the window at t - 1.",
)

_NOT_STEPWISE = "the model and its proposal do not go step by step"
_NO_SEQUENCES = "the data are no sequences"


def padding_counts_for_nothing(steps: Steps | None, *, tolerance: float = 1e-4) -> Finding:
    """TB111. Does appended padding leave every log-weight alone?  Oracle: the same rows and draws
    without it. Measured: the largest change, relative to the log-weight's size."""
    code, check = "TB111", "padding_counts_for_nothing"
    if steps is None or steps.padding_change.size == 0:
        return not_run(code, check, _NO_SEQUENCES)
    measured = float(steps.padding_change.max())
    counted = steps.padding_counted > 0
    fault = counted or not measured <= tolerance
    causes = (PADDING_COUNTED, PADDING_READ) if counted else (PADDING_READ, PADDING_COUNTED)
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        tolerance,
        "of the log-weight's size",
        f"{len(steps.padding_change)} training rows, as the objective scores them",
        f"More padding moves a log-weight by {measured:.3g} of its size; {steps.padding_counted} "
        "padded positions are counted as real.",
        causes if fault else (),
    )


def steps_score_as_the_whole_does(steps: Steps | None, *, tolerance: float = 1e-4) -> Finding:
    """TB112. Are the weights of a filter those of its particles' own histories?  Oracle: `score` and
    log q of the whole sequences. Measured: the largest difference over steps and surviving particles
    of a filter that resamples at every step, relative to the scores' size."""
    code, check = "TB112", "steps_score_as_the_whole_does"
    if steps is None or steps.descent_change.size == 0:
        return not_run(code, check, _NOT_STEPWISE)
    measured = float(steps.descent_change.max())
    fault = not measured <= tolerance
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        tolerance,
        "of the scores' size",
        f"particles of {len(steps.descent_change)} training rows after resampling",
        f"A particle's steps and its whole history are scored {measured:.3g} of their size apart.",
        (STEPS_DIFFER,) if fault else (),
    )


def past_ignores_the_future(steps: Steps | None, *, tolerance: float = 1e-4) -> Finding:
    """TB113. Is log p of the first steps the same whatever follows?  Measured: the largest change of
    such a score when later observations are exchanged, relative to the scores' size."""
    code, check = "TB113", "past_ignores_the_future"
    if steps is None or steps.future_change.size == 0:
        return not_run(code, check, _NO_SEQUENCES)
    measured = float(np.max(steps.future_change))
    fault = not measured <= tolerance
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        tolerance,
        "of the scores' size",
        f"log p(x, z) of {len(steps.future_change)} training rows",
        f"Another future moves the score of a step before it by {measured:.3g} of its size.",
        (FUTURE_READ,) if fault else (),
    )


def steps_see_the_one_before(
    steps: Steps | None, *, share: float = 1e-3, tolerance: float = 1e-4
) -> Finding:
    """TB114. Where earlier steps have a say in log p(x_t), has the one before?

    Measured: the change by x_{t-1} over the largest by a step further back. Fault where it is `share`
    or less and some step further back moves the score by more than `tolerance` of its size. A model
    that reads nothing is no fault, and is said to.
    """
    code, check = "TB114", "steps_see_the_one_before"
    if steps is None or len(steps.lag_change) < 2:
        return not_run(code, check, _NO_SEQUENCES)
    newest, further = float(steps.lag_change[0]), steps.lag_change[1:]
    lag, most = int(np.argmax(further)) + 2, float(np.max(further))
    known = bool(np.isfinite(steps.lag_change).all())
    fault = known and most > tolerance and newest <= share * most
    if fault:
        meaning = (
            f"x_(t-{lag}) moves log p(x_t) by {most:.3g} of its size, x_(t-1) by {newest:.3g}."
        )
    elif known and max(newest, most) <= tolerance:
        meaning = (
            "No earlier step has a say in log p(x_t): given the latents, steps are independent."
        )
    else:
        meaning = f"Another x_(t-1) moves log p(x_t) by {newest:.3g} of its size."
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK if known else Verdict.UNDECIDED,
        newest / most if most > tolerance else None,
        share,
        "of the largest change by a step further back",
        f"{len(steps.lag_change)} lags, a few steps of training rows",
        meaning,
        (NEWEST_LEFT_OUT,) if fault else (),
    )
