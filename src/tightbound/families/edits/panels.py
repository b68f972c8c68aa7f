"""What a report draws of a text written by edits: its bound by class of decision, and by string."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.families.edits.drawings import STYLE, lay_out, svg
from tightbound.families.edits.in_words import DrawnTrajectory
from tightbound.report.contents import RunContents
from tightbound.report.draw.charts import line_chart, stacked_chart
from tightbound.report.draw.scales import padded
from tightbound.report.html import MOST_SAMPLES
from tightbound.report.panels import colour_of, thinned
from tightbound.report.sections import Sections, charts_section
from tightbound.report.series import LOWEST_SHARE, site_series

DECISIONS: Mapping[str, tuple[str, ...]] = {
    "words": (
        *("first op", "first token", "first index"),
        *("op", "token", "index", "choice"),
    ),
    "end": ("end",),
    "steps": ("steps",),
    "proposal": ("proposal",),
    "reweighting": ("reweighting",),
}
"""All sites of the family by what was decided. Words are net: the choice among the edits that write
the same word is large, and no loss."""
WORDS: Mapping[str, tuple[str, ...]] = {
    "first word": ("first op", "first token", "first index"),
    "other words": ("op", "token", "index"),
    "choice": ("choice",),
}
HEADS: Mapping[str, tuple[str, ...]] = {
    "op": ("first op", "op"),
    "token": ("first token", "token"),
    "index": ("first index", "index"),
}


def sections(contents: RunContents) -> Sections:
    """The bound by decision and by string; texts with the edits that wrote them."""
    charts = [*decision_panels(contents.records), *string_panels(contents.document("by_step"))]
    shown = _trajectories(contents)[:MOST_SAMPLES]
    drawn = ""
    if shown:
        drawing = svg(lay_out(shown), "trajectories of edits")
        drawn = (
            "<h2>Trajectories</h2><p>How texts were written, from the first string to the last. Every "
            "decision has its log p in nats below it, less log q where it was drawn by the filter; a "
            "string's own sum stands at its left.</p>"
            f'<figure class="drawing">{drawing}</figure>'
        )
    return Sections(charts_section("Decisions", charts, "") if charts else "", drawn, STYLE)


def _trajectories(contents: RunContents) -> list[DrawnTrajectory]:
    """The newest held-out text explained, and the newest texts drawn."""
    found = []
    for name in ("explained", "trajectories"):
        document = contents.newest(f"{name}-step")
        try:
            written = () if document is None else document["trajectories"]
            found += [DrawnTrajectory.from_json(trajectory) for trajectory in written]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{contents.newest_path(f'{name}-step')} is damaged: {error!r}. Delete it, or sample again."
            ) from error
    return found


def decision_panels(records: Sequence[dict[str, Any]]) -> list[str]:
    """The held-out bound over training by class of decision and by head; none for other families."""
    steps, added = site_series(records, "held_out")
    if {site for sites in DECISIONS.values() for site in sites} != set(added):
        return []
    return [
        _chart(
            "Bound by class of decision",
            steps,
            together(added, DECISIONS),
            "They sum to the bound. Words: log p of what was written, however it was; proposal: "
            "−log q of the strings.",
        ),
        _chart(
            "Words: first, others, choice",
            steps,
            together(added, WORDS),
            "They sum to the words of the chart before. Choice: the entropy of the ways to write the same "
            "strings, which the bound gets back.",
        ),
        _chart(
            "Words by head",
            steps,
            together(added, HEADS),
            "log p of the edits that were drawn, which of several ways among it.",
        ),
    ]


def string_panels(by_step: Mapping[str, Any] | None) -> list[str]:
    """What each string adds to the bound, by class of decision."""
    if by_step is None or not by_step["strings"]:
        return []
    strings = by_step["strings"]
    classes = {
        name: np.array([float(string["classes"][name]["value"]) for string in strings])
        for name in strings[0]["classes"]
    }
    totals = [Estimate.from_json(string["total"]) for string in strings]
    proposal = Estimate.from_json(by_step["proposal"])
    errors = [np.nan if e.standard_error is None else e.standard_error for e in totals]
    return [
        stacked_chart(
            "Bound by string",
            [str(string["string"]) for string in strings],
            classes,
            np.array(errors, float),
            x_label=proposal.unit,
            y_label="string",
            note=f"{by_step['num_rows']} rows of {proposal.split}, one particle, step "
            f"{by_step['step']}; a row without the string counts as 0. With −log q of all strings, "
            f"{proposal.value:.3g}, they sum to the bound. Whiskers of the sum: 2 standard errors.",
        )
    ]


def together(
    added: Mapping[str, Float[np.ndarray, " records"]], groups: Mapping[str, Sequence[str]]
) -> dict[str, Float[np.ndarray, " records"]]:
    """The sums of each group's sites."""
    return {name: np.sum([added[site] for site in sites], axis=0) for name, sites in groups.items()}


def _chart(
    title: str,
    steps: Int[np.ndarray, " records"],
    series: Mapping[str, Float[np.ndarray, " records"]],
    note: str,
) -> str:
    kept = np.concatenate([_without_lowest(values) for values in series.values()])
    return line_chart(
        title,
        [
            thinned(name, steps, values, colour=colour_of(index))
            for index, (name, values) in enumerate(series.items())
        ],
        y_label="nats per sequence",
        y_range=padded(kept),
        note=note,
    )


def _without_lowest(values: Float[np.ndarray, " records"]) -> Float[np.ndarray, " kept"]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return finite
    return finite[finite >= np.quantile(finite, LOWEST_SHARE, method="lower")]
