import io

from rich.console import Console

from tightbound.diagnose.finding import Finding, Verdict
from tightbound.diagnose.findings import (
    by_verdict,
    findings_text,
    measurement,
    not_checked,
    summary,
)
from tightbound.report.terminal import print_findings


def printed(findings, *, terminal):
    stream = io.StringIO()
    print_findings(findings, Console(file=stream, width=200, force_terminal=terminal))
    return stream.getvalue()


def test_faults_come_first_and_passed_checks_last(findings):
    """Oracle: the order a person needs, written out."""
    assert [f.code for f in by_verdict(findings)] == ["TB101", "TB401", "TB501", "TB301"]
    assert summary(findings) == "1 FAULT, 1 UNDECIDED, 1 NOT RUN, 1 OK"


def test_plain_text_has_verdict_evidence_ranked_causes_and_advice(findings):
    """Evidence stands apart from interpretation, and the likeliest cause first."""
    text = findings_text(findings)
    assert "FAULT  TB101 objective_is_its_claim" in text
    assert "measured 12.3 nats, threshold 0.1 nats (64 rows, step 1)" in text
    assert text.index("1. kl_sign_flipped") < text.index("2. wrong_axis")
    assert "To change: Subtract log q - log p." in text


def test_what_was_not_checked_is_always_listed(findings):
    """Skipped is not passed: the list is there on a terminal, in a file, and when it is empty."""
    gaps = [
        "TB401 latents_are_used: the KL of single latents: the proposal's density is joint",
        "TB501 labels_fit: the data has no labels",
    ]
    assert not_checked(findings) == gaps
    for terminal in (True, False):
        text = printed(findings, terminal=terminal)
        assert "Not checked" in text
        assert all(gap in text for gap in gaps)
    assert "nothing was left out" in findings_text(findings[:1])
    assert "Not checked" in findings_text([])


def test_only_a_terminal_gets_colour(findings):
    """Oracle: the escape character, and the plain text itself."""
    assert "\x1b[" in printed(findings, terminal=True)
    assert printed(findings, terminal=False) == findings_text(findings)


def test_brackets_in_a_finding_are_shown_and_not_read_as_markup():
    """A tensor's name such as `w[0]` must survive rich."""
    finding = Finding(
        "TB1", "c", Verdict.UNDECIDED, None, None, "", "w[0]", "[red]x[/red] [/nonsense]"
    )
    assert "[red]x[/red] [/nonsense]" in printed([finding], terminal=True)
    assert "w[0]" in printed([finding], terminal=True)


def test_a_finding_without_numbers_still_says_where():
    """Nothing measured: only the place; nothing at all: nothing."""
    finding = Finding("TB1", "c", Verdict.OK, None, None, "nats", "site z", "m")
    assert measurement(finding) == "site z"
    nan = Finding("TB1", "c", Verdict.FAULT, float("nan"), None, "nats", "", "m")
    assert measurement(nan) == "measured nan nats"
