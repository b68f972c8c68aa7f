"""TB111 to TB113: does a model that goes step by step keep to what its steps may know?

All three are identities: in 32 bits they hold to a few 1e-7 of the scores' size, and the tolerance
leaves rounding of long sums a factor of some hundred.
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

_NOT_STEPWISE = "the model and its proposal do not go step by step"


def padding_counts_for_nothing(steps: Steps | None, *, tolerance: float = 1e-4) -> Finding:
    """TB111. Does appended padding leave every log-weight alone?  Oracle: the same rows and draws
    without it. Measured: the largest change, relative to the log-weight's size."""
    code, check = "TB111", "padding_counts_for_nothing"
    if steps is None or steps.padding_change.size == 0:
        return not_run(code, check, _NOT_STEPWISE)
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
        return not_run(code, check, _NOT_STEPWISE)
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
