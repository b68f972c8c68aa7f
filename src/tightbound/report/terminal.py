"""Findings on a terminal: verdict, evidence, ranked causes with advice, and what was not checked."""

import sys
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tightbound.diagnose.finding import Finding, Verdict
from tightbound.diagnose.findings import (
    WORDS,
    findings_text,
    measurement,
    not_checked,
    passed,
    summary,
    telling,
)

STYLES = {
    Verdict.FAULT: "bold white on red",
    Verdict.UNDECIDED: "bold black on yellow",
    Verdict.NOT_RUN: "bold black on cyan",
    Verdict.OK: "bold black on green",
}


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Coloured on a terminal, plain text elsewhere. With `--json` on stdout, give a console that
    writes to stderr."""
    if console.is_terminal:
        console.print(findings_view(findings))
    else:
        console.file.write(findings_text(findings))


def findings_view(findings: Sequence[Finding]) -> RenderableType:
    """The same words as `findings_text`, with verdicts that catch the eye. What comes from
    findings is shown as it is: brackets in it are no markup."""
    gaps = not_checked(findings) or ["nothing was left out by these checks"]
    return Group(
        Text(summary(findings), style="bold"),
        *(_view(finding) for finding in telling(findings)),
        Text("\nPassed", style="bold"),
        *(_indented(f"- {line}", 2, "dim") for line in passed(findings)),
        Text("\nNot checked", style="bold"),
        *(_indented(f"- {gap}", 2, "dim") for gap in gaps),
    )


def _view(finding: Finding) -> RenderableType:
    badge = Text(f" {WORDS[finding.verdict]} ", style=STYLES[finding.verdict])
    head = Text.assemble("\n", badge, " ", (finding.code, "bold"), f" {finding.check}")
    parts: list[RenderableType] = [head, _indented(finding.meaning, 2)]
    if measurement(finding):
        parts.append(_indented(measurement(finding), 2, "dim"))
    if finding.causes:
        parts.append(_indented("Causes, likeliest first:", 2))
    for rank, cause in enumerate(finding.causes, start=1):
        name = Text.assemble(f"{rank}. ", (cause.name, "bold"), f": {cause.meaning}")
        parts += [_indented(name, 4), _indented(f"To change: {cause.advice}", 7, "green")]
    return Group(*parts)


def _indented(text: str | Text, columns: int, style: str = "") -> Padding:
    body = text if isinstance(text, Text) else Text(text, style=style)
    return Padding(body, (0, 0, 0, columns))


def say(text: str = "") -> None:
    """A line for a person, on stderr: stdout belongs to the result."""
    print(text, file=sys.stderr, flush=True)
