"""A run as one HTML file that works offline: nothing in it is loaded from anywhere.

Everything that comes from files is escaped, and the page's own policy lets only its own script
run, so a hostile note stays a note.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tightbound.diagnose.finding import Finding, Verdict
from tightbound.diagnose.findings import WORDS, by_verdict, measurement, not_checked, summary
from tightbound.estimators.estimate import Estimate
from tightbound.families.family import Family
from tightbound.report.baselines import best_baseline, held_against
from tightbound.report.contents import RunContents, read_contents
from tightbound.report.panels import (
    bound_panels,
    gradient_panels,
    latent_panels,
    site_panels,
    weight_panels,
    why_panels,
)
from tightbound.report.sections import Sections, charts_section, table_html
from tightbound.report.series import bound_series
from tightbound.report.tables import (
    Table,
    estimate_column,
    how_made,
    noun_of,
    short_form,
    unit_and_claim,
)
from tightbound.train.folder import RunFolder, write_whole

MOST_SAMPLES = 12  # pictures in the page, the newest
CLASSES = {
    Verdict.FAULT: "fault",
    Verdict.UNDECIDED: "undecided",
    Verdict.NOT_RUN: "not-run",
    Verdict.OK: "passed",
}


def write_report(folder: RunFolder, family: Family | None = None) -> Path:
    """Write `report.html` into the run folder and return its path; with what the run's family adds.
    UserError where it is no run."""
    path = folder.path / "report.html"
    contents = read_contents(folder)
    panels = None if family is None else family.load("panels")
    write_whole(path, page(contents, Sections() if panels is None else panels(contents)))
    return path


def page(contents: RunContents, own: Sections = Sections()) -> str:  # noqa: B008
    """The whole document."""
    style = Path(__file__).with_name("page.css").read_text() + own.style
    script = Path(__file__).with_name("page.js").read_text()
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; "
        f"script-src {_digest(script)}"
    )
    sections = [
        _header(contents),
        _headline(contents),
        _findings(contents),
        charts_section("What each site adds", site_panels(contents), "no records yet"),
        charts_section("Weights", weight_panels(contents), "no records and no evidence yet"),
        charts_section("Latents", latent_panels(contents), "no evidence files with latents"),
        own.charts,
        charts_section("Gradients", gradient_panels(contents), "no evidence files with gradients"),
        _why(contents),
        own.drawn,
        _samples(contents, own),
        _not_checked(contents),
        _settings(contents),
    ]
    title = escape(f"{contents.recipe.get('name', contents.path.name)} - tightbound")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + f'\n<p id="script-error"></p>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def flattened(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names, as they are typed on the command line."""
    rows = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += flattened(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _header(contents: RunContents) -> str:
    recipe, environment = contents.recipe, contents.environment
    versions = environment.get("versions", {})
    facts = [
        f"recipe {recipe.get('recipe', 'unknown')}",
        f"seed {recipe.get('seed', 'unknown')}",
        f"started {recipe['started']}" if recipe.get("started") else "",
        f"from {recipe['init_from']}" if recipe.get("init_from") else "",
        f"commit {environment['commit']}" if environment.get("commit") else "",
        *(f"{name} {versions[name]}" for name in ("tightbound", "jax") if name in versions),
        str(environment.get("device", "")),
    ]
    note = f'<p class="note">{escape(str(recipe["note"]))}</p>' if recipe.get("note") else ""
    return (
        f"<header><h1>{escape(str(recipe.get('name', contents.path.name)))}</h1>"
        f'<p class="soft">{escape(" · ".join(fact for fact in facts if fact))}</p>{note}</header>'
    )


def _headline(contents: RunContents) -> str:
    """The newest held-out bound (the training batch's where there is none) against the baselines."""
    held_out = bound_series(contents.records, "held_out")
    series = held_out if held_out.estimates else bound_series(contents.records, "train")
    if not series.estimates:
        return "<h2>Bound</h2><p>No step has been recorded yet.</p>"
    newest, step = series.estimates[-1], series.steps[-1]
    value, paren, draws = short_form(newest).partition("(")
    errors = f"± is the standard error over {noun_of(newest.unit)}s"
    errors += "." if newest.monte_carlo_error is None else "; draws, the error over draws."
    charts = "".join(bound_panels(contents))
    return (
        '<section class="top"><div>'
        f'<p class="headline">{escape(value.strip())} <small>{escape(paren + draws)}</small></p>'
        f"<p>{escape(unit_and_claim(newest))}</p>"
        f'<p class="soft">{escape(how_made(newest))}, on {escape(newest.split)}, at step {step}. '
        f"{escape(errors)}</p>"
        f'{_against(newest, contents.baselines)}</div><div class="stack">{charts}</div></section>'
    )


def _against(bound: Estimate, baselines: Mapping[str, Estimate]) -> str:
    found = best_baseline(baselines)
    if found is None:
        return '<p class="soft">No baseline was recorded to hold it against.</p>'
    name, best = found
    heading, cells = estimate_column("baseline", list(baselines.values()))
    table = Table("", ("", heading), tuple(zip(baselines, cells, strict=True)))
    words = held_against(bound, best)
    return (
        f"<p>It is <strong>{words}</strong> the best baseline, {escape(name)}.</p>"
        f"{table_html(table)}"
    )


def _findings(contents: RunContents) -> str:
    if contents.findings is None:
        return (
            "<h2>Findings</h2><p>Nobody has looked yet: "
            f"<code>tightbound doctor {escape(str(contents.path))}</code> judges this run.</p>"
        )
    ordered = by_verdict(contents.findings)
    passed = [_finding(finding) for finding in ordered if finding.verdict is Verdict.OK]
    not_run = [_finding(finding) for finding in ordered if finding.verdict is Verdict.NOT_RUN]
    others = [
        _finding(finding)
        for finding in ordered
        if finding.verdict not in (Verdict.OK, Verdict.NOT_RUN)
    ]
    return (
        f'<h2>Findings</h2><p>{escape(summary(ordered))}, <span class="soft">from the evidence up '
        f"to step {contents.findings_step}. What was not checked is listed below.</span></p>"
        f"{''.join(others)}{_cards('not run', not_run)}{_cards('passed', passed)}"
    )


def _cards(what: str, cards: Sequence[str]) -> str:
    """Cards behind one line that opens; nothing where there are none."""
    if not cards:
        return ""
    return f"<details><summary>{len(cards)} {what}</summary>{''.join(cards)}</details>"


def _finding(finding: Finding) -> str:
    causes = "".join(
        f"<li><strong>{escape(cause.name)}</strong>: {escape(cause.meaning)}<br>"
        f"To change: {escape(cause.advice)}</li>"
        for cause in finding.causes
    )
    measured = measurement(finding)
    return (
        f'<article class="finding {CLASSES[finding.verdict]}">'
        f'<h3><span class="badge">{WORDS[finding.verdict]}</span> {escape(finding.code)} '
        f"{escape(finding.check)}</h3><p>{escape(finding.meaning)}</p>"
        + (f'<p class="soft">{escape(measured)}</p>' if measured else "")
        + (f'<p>Causes, likeliest first:</p><ol class="causes">{causes}</ol>' if causes else "")
        + "</article>"
    )


def _why(contents: RunContents) -> str:
    if contents.why is None:
        return ""
    change = Estimate.from_json(contents.why["change"])
    between = f"From step {contents.why['from']} to step {contents.why['to']}"
    modules = contents.why.get("modules", {})
    return (
        f"<h2>Why the bound moved</h2><p>{escape(between)}, on the same draws: "
        f"<strong>{escape(str(change))}</strong>.</p>"
        f'<div class="charts">{"".join(why_panels(contents))}</div>'
        f"{_site_by_module(modules) if modules else ''}"
    )


def _site_by_module(modules: Mapping[str, Mapping[str, Any]]) -> str:
    """What each module's motion did to each site; together they are the change."""
    columns = list(dict.fromkeys(name for row in modules.values() for name in row))
    rows = tuple(
        (site, *(f"{float(row[c]):+.3g}" if c in row else "" for c in columns))
        for site, row in modules.items()
    )
    table = Table("", ("site, nats per sequence", *columns), rows)
    return f"<p>By site and module, along the straight line between the two:</p>{table_html(table)}"


def _samples(contents: RunContents, own: Sections) -> str:
    samples = contents.samples
    if not samples and (own.drawn or own.charts):
        return ""
    if not samples:
        return (
            '<h2>Samples</h2><p class="soft">None: <code>tightbound sample</code> draws them.</p>'
        )
    shown = samples[-MOST_SAMPLES:]
    left_out = (
        f"<p>The newest {len(shown)} of {len(samples)} files.</p>" if shown != samples else ""
    )
    return f'<h2>Samples</h2>{left_out}<div class="samples">{"".join(map(_sample, shown))}</div>'


def _sample(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.stem)
    by_component = path.stem.startswith("components-")
    lines = ": held-out images, then line by line what every component makes of them"
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
        f"<figcaption>{name}{lines if by_component else ''}</figcaption></figure>"
    )


def _not_checked(contents: RunContents) -> str:
    if contents.findings is None:
        gaps: Iterable[str] = ["everything: no check has been run on this folder"]
    else:
        gaps = not_checked(contents.findings) or ["nothing was left out by the checks above"]
    items = "".join(f"<li>{escape(gap)}</li>" for gap in gaps)
    return f"<h2>Not checked</h2><ul>{items}</ul>"


def _settings(contents: RunContents) -> str:
    settings = Table(
        "", ("setting", "value"), tuple(flattened(contents.recipe.get("settings", {})))
    )
    environment = Table("", ("environment", ""), tuple(flattened(contents.environment)))
    return (
        f"<h2>Settings</h2><details open><summary>{len(settings.rows)} settings</summary>"
        f"{table_html(settings)}</details>"
        f"<details><summary>Environment</summary>{table_html(environment)}</details>"
    )
