"""Which charts a report has: each panel reads one part of a run folder and says when it is absent."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from tightbound.estimators.estimate import Estimate
from tightbound.estimators.weights import pareto_shape
from tightbound.report.contents import RunContents, newest_array, read_arrays, step_of
from tightbound.report.draw.charts import (
    NUM_COLOURS,
    Curve,
    Level,
    change_chart,
    column_chart,
    histogram,
    line_chart,
    scatter,
)
from tightbound.report.series import (
    BoundSeries,
    SplitName,
    bound_range,
    bound_series,
    number_series,
    site_series,
)
from tightbound.report.tables import noun_of, short_form, unit_and_claim

MOST_POINTS = 400  # of one curve; a longer series is drawn as means with their range
MOST_FILES = 200  # of evidence: reading more would take longer than the rest of the report
ACTIVE = 0.01  # Burda et al. 2016, sec. 5.3: variance over x of E[z | x], in squared prior scales


def bound_panels(contents: RunContents) -> list[str]:
    """The bound on both splits, with its error band, against the baselines: in one chart where the two
    are in one unit, and in two where they are not."""
    train = bound_series(contents.records, "train")
    held_out = bound_series(contents.records, "held_out")
    units = {estimate.unit for estimate in (*train.estimates, *held_out.estimates)}
    if len(units) < 2:
        return [_bound_panel("Bound over training", train, held_out, contents)] if units else []
    nothing = bound_series([], "train")
    without = replace(contents, baselines={})
    return [
        _bound_panel("Held-out bound over training", nothing, held_out, contents),
        _bound_panel("Bound that is trained", train, nothing, without),
    ]


def _bound_panel(
    title: str, train: BoundSeries, held_out: BoundSeries, contents: RunContents
) -> str:
    newest = (held_out.estimates or train.estimates)[-1]
    curves = [c for c in (_train_curve(train), _held_out_curve(held_out)) if c is not None]
    note = f"Band of held-out: 2 standard errors over {noun_of(newest.unit)}s."
    note = note if held_out.estimates else ""
    if len(train.steps) > MOST_POINTS:
        note += " Train: means of neighbouring records, with their range."
    bad = train.steps[~np.isfinite(train.values)]
    if len(bad):
        note += f" {len(bad)} records are not finite, the first at step {bad[0]}."
    levels = [Level(name, estimate.value) for name, estimate in contents.baselines.items()]
    return line_chart(
        title,
        curves,
        y_label=unit_and_claim(newest),
        levels=levels,
        y_range=bound_range(train, held_out, list(contents.baselines.values())),
        note=note.strip(),
    )


def site_panels(contents: RunContents) -> list[str]:
    """One chart per site: log p - log q. They sum to the bound."""
    split = "held_out" if any("held_out" in r for r in contents.records) else "train"
    steps, added = site_series(contents.records, split)
    series = bound_series(contents.records, split)
    charts = []
    for index, (name, values) in enumerate(added.items()):
        curve = thinned(name, steps, values, colour=colour_of(index))
        charts.append(
            line_chart(f"Site {name}: log p − log q", [curve], y_label=series.estimates[-1].unit)
        )
    return charts


def weight_panels(contents: RunContents) -> list[str]:
    """Effective sample size over training; the newest probe's log-weights and tail indices."""
    curves = []
    splits: tuple[SplitName, ...] = ("held_out", "train")
    for index, split in enumerate(splits):
        steps, fraction = number_series(contents.records, split, "ess_fraction")
        if len(steps):
            curves.append(thinned(split.replace("_", "-"), steps, fraction, colour=index + 1))
    charts = []
    if curves:
        charts.append(
            line_chart(
                "Effective sample size",
                curves,
                y_label="share of the draws (1 is best)",
                y_range=(0.0, 1.04),
            )
        )
    return charts + _newest_weights(contents.evidence)


def latent_panels(contents: RunContents) -> list[str]:
    """Which latents the proposal uses, and where it puts the rows of the probe."""
    found = newest_array(contents.evidence, "latents.mean")
    if found is None:
        return []
    step, mean = found
    with np.errstate(invalid="ignore"):
        variance = mean.var(axis=0)
    order = np.argsort(-np.nan_to_num(variance, nan=-1.0), kind="stable")
    num_active = int((variance >= ACTIVE).sum())
    charts = [
        column_chart(
            "Active latents",
            [f"latent {i}" for i in order],
            variance[order],
            [bool(v >= ACTIVE) for v in variance[order]],
            x_label="latents, busiest first",
            y_label="variance over x of E[z | x]",
            note=f"{num_active} of {len(variance)} are active (at least {ACTIVE:g}), step {step}.",
        )
    ]
    if len(order) >= 2:
        first, second = order[:2]
        charts.append(
            scatter(
                "The two busiest latents",
                mean[:, first],
                mean[:, second],
                x_label=f"E[z | x] of latent {first}",
                y_label=f"E[z | x] of latent {second}",
                note=f"{len(mean)} rows of the probe, step {step}.",
            )
        )
    return charts


def gradient_panels(contents: RunContents) -> list[str]:
    """Gradient norm and relative update, module by module."""
    steps, names, norms, ratios = _module_history(evenly_spaced(contents.evidence, MOST_FILES))
    if not names:
        return []
    return [
        _module_chart(
            "Gradient norm by module", steps, names, norms, "norm of the training gradient"
        ),
        _module_chart(
            "Update by module", steps, names, ratios, "norm of update / norm of parameters"
        ),
    ]


def why_panels(contents: RunContents) -> list[str]:
    """The change of the bound between two checkpoints, by site and by group."""
    if contents.why is None:
        return []
    between = f"Step {contents.why['from']} to step {contents.why['to']}, the same draws."
    charts = []
    for key in ("sites", "groups"):
        estimates = {n: Estimate.from_json(e) for n, e in contents.why.get(key, {}).items()}
        if estimates:
            errors = [e.standard_error for e in estimates.values()]
            charts.append(
                change_chart(
                    f"Change of the bound by {key.removesuffix('s')}",
                    list(estimates),
                    np.array([e.value for e in estimates.values()]),
                    np.array([np.nan if e is None else e for e in errors], float),
                    [str(e) for e in estimates.values()],
                    x_label=next(iter(estimates.values())).unit,
                    note=f"{between} Whiskers: 2 standard errors.",
                )
            )
    return charts


def thinned(
    name: str,
    steps: Int[np.ndarray, " records"],
    values: Float[np.ndarray, " records"],
    *,
    colour: int = 1,
    quiet: bool = False,
) -> Curve:
    """The series as at most `MOST_POINTS` means of neighbours, each at its last step.

    The band is the range of the neighbours, which keeps a spike visible that the mean would hide;
    neighbours of which one is not finite are a gap. A short series is drawn as it is.
    """
    edges = np.linspace(0, len(steps), min(len(steps), MOST_POINTS) + 1).astype(int)
    parts = [values[a:b] for a, b in pairwise(edges)]
    with np.errstate(invalid="ignore"):
        mean, low, high = (np.array([f(p) for p in parts]) for f in (np.mean, np.min, np.max))
    labels = tuple(
        f"{part[0]:.4g}" if len(part) == 1 else f"{m:.4g} ({lo:.4g} to {hi:.4g})"
        for part, m, lo, hi in zip(parts, mean, low, high, strict=True)
    )
    whole = len(parts) == len(steps)
    return Curve(
        name,
        steps[edges[1:] - 1].astype(float),
        mean,
        labels,
        None if whole else low,
        None if whole else high,
        colour,
        quiet,
    )


def colour_of(index: int) -> int:
    """Colours in turn."""
    return index % NUM_COLOURS + 1


def _train_curve(series: BoundSeries) -> Curve | None:
    if not len(series.steps):
        return None
    curve = thinned("train, one batch each", series.steps, series.values, colour=2, quiet=True)
    if len(curve.x) < len(series.steps):
        return curve
    return replace(curve, labels=tuple(map(short_form, series.estimates)))


def _held_out_curve(series: BoundSeries) -> Curve | None:
    if not len(series.steps):
        return None
    margin = 2 * series.standard_errors
    return Curve(
        f"held-out: {series.estimates[-1].split}",
        series.steps.astype(float),
        series.values,
        tuple(map(short_form, series.estimates)),
        series.values - margin,
        series.values + margin,
        colour=1,
    )


def _newest_weights(evidence: Sequence[Path]) -> list[str]:
    """Of the newest file with sites: the spread of log-weights within each row, and k-hat per row."""
    for path in reversed(evidence):
        found = read_arrays(path, ["sites.log_p", "sites.log_q"])
        if len(found) == 2:
            log_weights = (found["sites.log_p"] - found["sites.log_q"]).sum(0)
            return _weight_charts(log_weights, step_of(path))
    return []


def _weight_charts(log_weights: Float[np.ndarray, "samples rows"], step: int) -> list[str]:
    num_samples, num_rows = log_weights.shape
    where = f"{num_rows} rows of the probe, {num_samples} draws each, step {step}."
    with np.errstate(invalid="ignore"):  # inf - inf stays NaN, and is counted as not finite
        relative = log_weights - np.logaddexp.reduce(log_weights, axis=0) + np.log(num_samples)
    charts = [
        histogram(
            "Log-weights within a row",
            relative.ravel(),
            x_label="log w − log of the row's mean w, nats",
            note=where,
        )
    ]
    if num_samples >= 25:
        threshold = min(1 - 1 / np.log10(num_samples), 0.7)
        shape = pareto_shape(log_weights)
        num_bad = int((shape > threshold).sum())
        charts.append(
            histogram(
                "Tail index of the weights (Pareto k-hat)",
                shape,
                x_label="k-hat, one per row",
                rule=Level(f"trust below {threshold:.2f}", threshold),
                note=f"{num_bad} of {num_rows} rows lie above {threshold:.2f}, step {step}.",
            )
        )
    return charts


def _module_history(
    evidence: Sequence[Path],
) -> tuple[
    Int[np.ndarray, " files"],
    list[str],
    Float[np.ndarray, "files modules"],
    Float[np.ndarray, "files modules"],
]:
    """(steps, modules, gradient norms, update norm over parameter norm) of the files that have them."""
    fields = ("modules", "norm", "update_norm", "parameter_norm")
    steps, rows, names = [], [], []
    for path in evidence:
        found = read_arrays(path, [f"gradients.{field}" for field in fields])
        if len(found) == len(fields):
            modules, norm, update_norm, parameter_norm = (found[f"gradients.{f}"] for f in fields)
            names = [str(name) for name in modules]
            with np.errstate(divide="ignore", invalid="ignore"):
                rows.append((norm, update_norm / parameter_norm))
            steps.append(step_of(path))
    history = np.array(rows, float).reshape(len(steps), 2, len(names))
    return np.array(steps, int), names, history[:, 0], history[:, 1]


def _module_chart(
    title: str,
    steps: Int[np.ndarray, " files"],
    names: list[str],
    values: Float[np.ndarray, "files modules"],
    y_label: str,
) -> str:
    curves = [
        Curve(
            name,
            steps.astype(float),
            values[:, i],
            tuple(f"{v:.3g}" for v in values[:, i]),
            colour=colour_of(i),
        )
        for i, name in enumerate(names)
    ]
    return line_chart(title, curves, y_label=y_label, log_y=True)


def evenly_spaced(paths: Sequence[Path], most: int) -> list[Path]:
    """At most `most` of the paths, evenly spaced, the first and the last among them."""
    if len(paths) <= most:
        return list(paths)
    return [paths[i] for i in np.linspace(0, len(paths) - 1, most).astype(int)]
