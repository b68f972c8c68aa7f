"""OWN101: are counts drawn at the rate that scores them?"""

import numpy as np

from own_family.evidence import Counts
from tightbound.diagnose.case import Check
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

ANOTHER_RATE = Cause(
    "drawn_at_another_rate",
    "Counts are drawn at another rate than the one log p(x | z) is computed with.",
    "Draw and score through one distribution object.",
)


def counts_have_their_rate(counts: Counts | None, *, num_errors: float = 6.0) -> Finding:
    """OWN101. Is E[(x - rate) / sqrt(rate)] zero for the model's own draws?  Oracle: a Poisson law's mean.

    Fault beyond `num_errors` standard errors over draws; undecided where they are not finite.
    """
    code, check = "OWN101", "counts_have_their_rate"
    if counts is None:
        return not_run(code, check, "no counts were drawn")
    mean = float(counts.excess.mean())
    error = float(counts.excess.std(ddof=1) / np.sqrt(len(counts.excess)))
    if not np.isfinite(mean):
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.FAULT if abs(mean) > num_errors * error else Verdict.OK
    return Finding(
        code,
        check,
        verdict,
        mean,
        num_errors * error,
        "standard deviations",
        f"{len(counts.excess)} draws of the model",
        f"Drawn counts lie {mean:+.3g} standard deviations from their rate on average.",
        (ANOTHER_RATE,) if verdict is Verdict.FAULT else (),
    )


CHECKS = (
    Check(
        "OWN101",
        lambda case: counts_have_their_rate(case.newest_of("counts", Counts)),
        after="TB103",
    ),
)
