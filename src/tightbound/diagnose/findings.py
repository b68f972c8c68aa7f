"""Findings together, in plain words: their order, what was measured, and always what was not checked."""

from collections.abc import Sequence
from html import escape

from tightbound.diagnose.finding import Finding, Verdict

ORDER = (Verdict.FAULT, Verdict.UNDECIDED, Verdict.NOT_RUN, Verdict.OK)
WORDS = {
    Verdict.FAULT: "FAULT",
    Verdict.UNDECIDED: "UNDECIDED",
    Verdict.NOT_RUN: "NOT RUN",
    Verdict.OK: "OK",
}


class Findings(tuple[Finding, ...]):
    """Findings in the order they should be read; prints as the commands print them."""

    @property
    def faults(self) -> "Findings":
        """Those that are faults."""
        return Findings(finding for finding in self if finding.verdict is Verdict.FAULT)

    def __str__(self) -> str:
        return findings_text(self)

    def _repr_html_(self) -> str:
        """How a notebook shows them."""
        return findings_html(self)


def by_verdict(findings: Sequence[Finding]) -> list[Finding]:
    """What needs a person first: faults, then undecided, not run and passed. Within each the given
    order stays: the doctor names what explains the rest before what it brings with it."""
    return sorted(findings, key=lambda finding: ORDER.index(finding.verdict))


def summary(findings: Sequence[Finding]) -> str:
    """One line: `1 FAULT, 0 UNDECIDED, 2 NOT RUN, 9 OK`."""
    count = {verdict: sum(f.verdict is verdict for f in findings) for verdict in ORDER}
    return ", ".join(f"{count[verdict]} {WORDS[verdict]}" for verdict in ORDER)


def measurement(finding: Finding) -> str:
    """Measured against threshold, with the unit and the place; empty where nothing was measured."""
    parts = []
    if finding.measured is not None:
        parts.append(f"measured {_quantity(finding.measured, finding.unit)}")
    if finding.threshold is not None:
        parts.append(f"threshold {_quantity(finding.threshold, finding.unit)}")
    text = ", ".join(parts)
    return f"{text} ({finding.where})" if text and finding.where else text or finding.where


def not_checked(findings: Sequence[Finding]) -> list[str]:
    """Everything the findings left out, each once, with the check that left it out."""
    gaps = (f"{f.code} {f.check}: {gap}" for f in by_verdict(findings) for gap in f.not_checked)
    return list(dict.fromkeys(gaps))


def findings_text(findings: Sequence[Finding]) -> str:
    """All of it as plain text that ends in a newline. Skipped is not passed: the last paragraph
    says what was not checked, even where that is nothing."""
    blocks = [summary(findings), *map(finding_text, telling(findings))]
    if passed(findings):
        blocks.append("\n".join(["Passed:", *(f"  - {line}" for line in passed(findings))]))
    gaps = not_checked(findings) or ["nothing was left out by these checks"]
    blocks.append("\n".join(["Not checked:", *(f"  - {gap}" for gap in gaps)]))
    return "\n\n".join(blocks) + "\n"


def telling(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that ask something of a person: faults and what is undecided."""
    asking = (Verdict.FAULT, Verdict.UNDECIDED)
    return [finding for finding in by_verdict(findings) if finding.verdict in asking]


def passed(findings: Sequence[Finding]) -> list[str]:
    """One line for every check that found nothing wrong: `TB101 likelihood_is_normalised: ...`."""
    return [
        f"{finding.code} {finding.check}: {measurement(finding)}"
        for finding in by_verdict(findings)
        if finding.verdict is Verdict.OK
    ]


def finding_text(finding: Finding) -> str:
    """One finding in full: verdict, meaning, measurement, ranked causes with advice."""
    lines = [f"{WORDS[finding.verdict]}  {finding.code} {finding.check}", f"  {finding.meaning}"]
    if measurement(finding):
        lines.append(f"  {measurement(finding)}")
    if finding.causes:
        lines.append("  Causes, likeliest first:")
    for rank, cause in enumerate(finding.causes, start=1):
        lines.append(f"    {rank}. {cause.name}: {cause.meaning}")
        lines.append(f"       To change: {cause.advice}")
    return "\n".join(lines)


def _quantity(value: float, unit: str) -> str:
    """Four digits, or the whole part of a number of five or six; beyond, scientific."""
    number = f"{value:.0f}" if 9999.5 <= abs(value) < 999_999.5 else f"{value:.4g}"
    return f"{number} {unit}".rstrip()


def findings_html(findings: Sequence[Finding]) -> str:
    """For a notebook: the faults and what is undecided in a table, the rest counted."""
    rows = "".join(
        f"<tr><td><b>{WORDS[f.verdict]}</b></td><td>{escape(f.code)}</td>"
        f"<td style='text-align:left'>{escape(f.meaning)}<br><small>{escape(measurement(f))}</small>"
        f"</td><td style='text-align:left'>{escape(f.advice)}</td></tr>"
        for f in telling(findings)
    )
    head = "<tr><th></th><th>code</th><th>what was found</th><th>what to change</th></tr>"
    gaps = "".join(f"<li>{escape(gap)}</li>" for gap in not_checked(findings))
    return (
        f"<p><b>{summary(findings)}</b></p>"
        + (f"<table>{head}{rows}</table>" if rows else "")
        + (f"<details><summary>not checked</summary><ul>{gaps}</ul></details>" if gaps else "")
    )
