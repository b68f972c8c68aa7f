"""A sweep's document -> its table in every format, and the sentence that says what it shows."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tightbound.estimators.estimate import Estimate
from tightbound.report.tables import Table, as_csv, as_markdown, as_text

SweepFormat = Literal["text", "markdown", "csv", "latex"]
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def sweep_table(document: Mapping[str, Any]) -> Table:
    """One row per arm that has a finished run, the best first; numbers as in `sweep --json`.

    "± seeds" and "± sequences" are the standard errors of the mean; "over best" is the paired
    difference to the best arm with its own error, "p" that pair's p value, adjusted for all pairs.
    """
    arms = document["arms"]
    place = {arm["arm"]: number for number, arm in enumerate(arms, start=1)}
    has_faults = any(arm["faults"] for arm in arms)
    columns = (
        *("#", "arm", "seeds", _measured(arms), "± seeds", "± sequences", "over best", "±", "p"),
        *("rank", "tied with"),
        *(("faults",) if has_faults else ()),
    )
    rows = tuple(
        (
            *(str(place[arm["arm"]]), arm["arm"], str(arm["num_seeds"])),
            *_numbers(arm),
            "" if arm["ranks"] is None else _ranks(*arm["ranks"]),
            ", ".join(map(str, sorted(place[other] for other in arm["tied_with"]))),
            *((" ".join(arm["faults"]),) if has_faults else ()),
        )
        for arm in arms
    )
    return Table(f"{document['recipe']} on {document['split']}", columns, rows)


def sweep_verdict(document: Mapping[str, Any]) -> str:
    """What the table shows, in a sentence or two: the best arm, or the tie at the top."""
    arms = document["arms"]
    if not arms:
        return "No arm has a finished run yet."
    best, ties = arms[0], arms[0]["tied_with"]
    if len(arms) == 1:
        return f"{best['arm']} is the only arm with a finished run."
    if document["not_ranked"] is not None:
        return document["not_ranked"]
    num_pairs = len(arms) * (len(arms) - 1) // 2
    how = (
        f"Paired by seed and over {document['num_sequences']} sequences; p values adjusted for "
        f"{num_pairs} pair{'s' if num_pairs > 1 else ''} (Holm), told apart at {document['level']:.0%}."
    )
    if document["num_groups"] is not None:
        how += f" Errors over sequences are clustered by {document['num_groups']} groups."
    if best["num_seeds"] == 1:
        how += (
            " One seed: the errors are over sequences alone, so this compares runs, not settings."
        )
    if not ties:
        return f"{best['arm']} is the best. {how}"
    others = "any other arm" if len(ties) == len(arms) - 1 else ", ".join(ties)
    return f"A tie at the top: {best['arm']} has the best mean, but is not told apart from {others}. {how}"


def render_sweep(document: Mapping[str, Any], table_format: SweepFormat) -> str:
    """The table, with what it shows below it (CSV has the table alone)."""
    table, verdict = sweep_table(document), sweep_verdict(document)
    match table_format:
        case "text":
            return f"{as_text(table)}\n{verdict}\n"
        case "markdown":
            return f"{as_markdown(table)}\n{verdict}\n"
        case "csv":
            return as_csv(table)
        case "latex":
            return as_latex(table, verdict)


def as_latex(table: Table, note: str) -> str:
    """A `table` with rules of the booktabs package; the title is its caption, the note follows it."""
    words = {"arm", "rank", "tied with", "faults"}
    columns = "".join("l" if column in words else "r" for column in table.columns)
    line = lambda cells: " & ".join(map(escape_latex, cells)) + r" \\"  # noqa: E731
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.title)}. {escape_latex(note)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line(table.columns),
            r"\midrule",
            *map(line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape_latex(text: str) -> str:
    """Every character as itself."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], text)


def _measured(arms: Sequence[Mapping[str, Any]]) -> str:
    """The unit, with the claim where all arms share it."""
    estimates = [Estimate.from_json(arm["estimate"]) for arm in arms]
    claims = {"upper": "upper bound", "lower": "lower bound", "exact": "exact", "none": "no bound"}
    shared = {claims[estimate.bound] for estimate in estimates}
    unit = estimates[0].unit if estimates else "nats per unit"
    return f"{unit} ({shared.pop()})" if len(shared) == 1 else unit


def _numbers(arm: Mapping[str, Any]) -> tuple[str, ...]:
    """The mean, its errors, and the difference to the best arm, to two digits of the errors."""
    estimate, difference = Estimate.from_json(arm["estimate"]), arm["over_best"]
    smallest = min((e for e in (arm["seed_error"], estimate.standard_error) if e), default=None)
    mean = _rounded(estimate.value, smallest)
    errors = (_rounded(error, error) for error in (arm["seed_error"], estimate.standard_error))
    if difference is None:
        return mean, *errors, "", "", ""
    error, p = difference["standard_error"], difference["adjusted_p_value"]
    if difference["num_seeds"] == 0:
        return mean, *errors, "", "", ""
    return (
        *(mean, *errors, _rounded(difference["difference"], error, "+"), _rounded(error, error)),
        "<0.0001" if p < 1e-4 else f"{p:.4f}",
    )


def _rounded(value: float | None, error: float | None, sign: str = "") -> str:
    """With two significant digits of the error; four decimals where there is none."""
    if value is None:
        return ""
    digits = 4 if not error else min(max(1 - _exponent(error), 0), 8)
    return f"{value:{sign}.{digits}f}"


def _exponent(error: float) -> int:
    return int(f"{error:e}".partition("e")[2])


def _ranks(lowest: int, highest: int) -> str:
    return str(lowest) if lowest == highest else f"{lowest} to {highest}"
