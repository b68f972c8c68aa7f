"""All checks together: what is known of a run in, ranked findings out. NumPy only."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.case import Case, Check, joined
from tightbound.diagnose.checks import weights
from tightbound.diagnose.checks.every import CHECKS
from tightbound.diagnose.finding import Finding
from tightbound.diagnose.findings import Findings, by_verdict


def judge(case: Case, own: Sequence[Check] = ()) -> Findings:
    """Every finding about a run, likeliest explanation first; `own` are the checks of its family.

    FAULT first, then UNDECIDED, NOT_RUN, OK; within a verdict in the order of the checks.
    """
    if not case.history:
        raise ValueError("There is no evidence to judge. Run `check`, or train with the doctor on.")
    checks = joined(CHECKS, own)
    return Findings(by_verdict([check.judge(case) for check in checks]))


# The place of findings that are not of a case: what they are named after.
_AFTER = {"TB218": "TB211"}


def ranked(findings: Sequence[Finding]) -> Findings:
    """Findings of general checks in their order, wherever they come from."""
    order = [check.code for check in CHECKS]
    place = {finding.code: _AFTER.get(finding.code, finding.code) for finding in findings}
    known = sorted(
        findings,
        key=lambda f: order.index(place[f.code]) if place[f.code] in order else len(order),
    )
    return Findings(by_verdict(known))


def judge_weights(
    log_weights: Float[np.ndarray, "samples rows"] | None, *, has_latents: bool = True
) -> Findings:
    """What log-weights alone can show, whoever saved them; `has_latents` says whether anything was
    drawn to make them."""
    return Findings(
        by_verdict(
            [
                weights.weights_are_finite(log_weights),
                weights.weights_keep_the_evidence(log_weights),
                weights.draws_differ(log_weights, has_latents=has_latents),
                weights.tails_are_light_enough(log_weights),
            ]
        )
    )
