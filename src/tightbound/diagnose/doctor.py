"""All checks together: what is known of a run in, ranked findings out. NumPy only."""

from collections.abc import Sequence

from tightbound.diagnose.case import Case, Check, joined
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
