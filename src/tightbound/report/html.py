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
from tightbound.families.edits.drawings import STYLE, lay_out, svg
from tightbound.families.edits.panels import decision_panels, string_panels
from tightbound.families.language.panels import (
    alternatives_table,
    language_panels,
    language_tables,
)
from tightbound.families.language.token_strips import strip, texts_html
from tightbound.families.sequences.panels import sequence_panels
from tightbound.families.stein.panels import component_panels, prediction_panels, target_panels
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
from tightbound.report.series import bound_series
from tightbound.report.tables import (
    Table,
    estimate_column,
    how_made,
    is_numeric,
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


def write_report(folder: RunFolder) -> Path:
    """Write `report.html` into the run folder and return its path. UserError where it is no run."""
    path = folder.path / "report.html"
    write_whole(path, page(read_contents(folder)))
    return path


def page(contents: RunContents) -> str:
    """The whole document."""
    style = Path(__file__).with_name("page.css").read_text() + STYLE
    script = Path(__file__).with_name("page.js").read_text()
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; "
        f"script-src {_digest(script)}"
    )
    sections = [
        _header(contents),
        _headline(contents),
        _findings(contents),
        _decisions(contents),
        _charts("What each site adds", site_panels(contents), "no records yet"),
        _charts("Weights", weight_panels(contents), "no records and no evidence yet"),
        _charts("Latents", latent_panels(contents), "no evidence files with latents"),
        _mixture(contents),
        _sequences(contents),
        _language(contents),
        _charts("Gradients", gradient_panels(contents), "no evidence files with gradients"),
        _why(contents),
        _trajectories(contents),
        _texts(contents),
        _samples(contents),
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


def table_html(table: Table) -> str:
    """A table's rows; numbers stand to the right."""
    kinds = [' class="number"' if is_numeric(table, c) else "" for c in range(len(table.columns))]

    def line(tag: str, cells: Sequence[str]) -> str:
        cell = (f"<{tag}{k}>{escape(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True))
        return f"<tr>{''.join(cell)}</tr>"

    head = line("th", table.columns) if any(table.columns) else ""
    body = "".join(line("td", row) for row in table.rows)
    return f'<div class="table"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


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


def _charts(title: str, charts: Sequence[str], reason: str) -> str:
    if not charts:
        return f'<h2>{escape(title)}</h2><p class="soft">Not drawn: {escape(reason)}.</p>'
    return f'<h2>{escape(title)}</h2><div class="charts">{"".join(charts)}</div>'


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


def _decisions(contents: RunContents) -> str:
    """Of texts written by edits alone."""
    charts = [*decision_panels(contents.records), *string_panels(contents.by_step)]
    return _charts("Decisions", charts, "") if charts else ""


def _sequences(contents: RunContents) -> str:
    """Of models with a state alone."""
    charts = sequence_panels(contents.profile)
    return _charts("Sequences, step by step", charts, "") if charts else ""


def _mixture(contents: RunContents) -> str:
    """Of proposals that are mixtures, of points that share their latents, and of known densities alone."""
    parts = {
        "Against the target": target_panels(contents.target),
        "Predictions": prediction_panels(contents.prediction),
        "Components of the mixture": component_panels(contents.evidence),
    }
    return "".join(_charts(title, charts, "") for title, charts in parts.items() if charts)


def _language(contents: RunContents) -> str:
    """Of language models alone."""
    profile = contents.language
    if profile is None:
        return ""
    strips = "".join(
        strip(
            f"held-out row {sentence['row']}",
            sentence["tokens"],
            sentence["nats"],
            num_classes=profile["num_classes"],
            alternatives=sentence["alternatives"],
        )
        for sentence in profile["sentences"]
    )
    tables = language_tables(profile)
    given = " given z ~ q(z | x)," if profile["family"] == "sequence VAE" else ""
    others = "".join(_folded(alternatives_table(sentence)) for sentence in profile["sentences"])
    return (
        f"<h2>Token by token</h2><p>Nats below every token,{given} as strongly coloured as a guess among "
        f"all {profile['num_classes']:,} symbols where it cost as much. The last text is the one whose tokens "
        f"cost most.</p>{strips}{others}{_folded(tables[0], is_open=True)}"
        f'<h2>Language model</h2><div class="charts">{"".join(language_panels(profile))}</div>'
        f"{''.join(map(_folded, tables[1:]))}"
    )


def _folded(table: Table, *, is_open: bool = False) -> str:
    state = " open" if is_open else ""
    return f"<details{state}><summary>{escape(table.title)}</summary>{table_html(table)}</details>"


def _texts(contents: RunContents) -> str:
    """What a language model drew."""
    if contents.texts is None or contents.language is None:
        return ""
    texts = texts_html(contents.texts, contents.language["num_classes"])
    return f"<h2>Texts</h2><p>At step {contents.texts['step']}, minus log p of each token in nats.</p>{texts}"


def _trajectories(contents: RunContents) -> str:
    if not contents.trajectories:
        return ""
    shown = contents.trajectories[:MOST_SAMPLES]
    drawing = svg(lay_out(shown), "trajectories of edits")
    return (
        "<h2>Trajectories</h2><p>How texts were written, from the first string to the last. Every "
        "decision has its log p in nats below it, less log q where it was drawn by the filter; a "
        "string's own sum stands at its left.</p>"
        f'<figure class="drawing">{drawing}</figure>'
    )


def _samples(contents: RunContents) -> str:
    samples = contents.samples
    drawn = (contents.trajectories, contents.texts, contents.prediction, contents.target)
    if not samples and any(drawn):
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
