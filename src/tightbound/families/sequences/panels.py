"""What a report draws of a run on sequences: its proposal, its output and its KL, step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tightbound.estimators.estimate import Estimate
from tightbound.report.contents import RunContents
from tightbound.report.draw.charts import Curve, column_chart, line_chart
from tightbound.report.panels import colour_of
from tightbound.report.sections import Sections, charts_section

IN_USE = 0.01  # nats per step that a latent's KL must reach to be counted as used
# Of matplotlib, the colours of page.css: --c1, --c2, ...
_COLOURS = ("#1f5fa8", "#c4570a", "#14786a", "#7a3fb5", "#b52a63", "#7d6a00", "#3c7fb0", "#6b6b6b")


@dataclass(frozen=True)
class Panel:
    """Curves over the steps of a sequence."""

    title: str
    curves: tuple[Curve, ...]
    y_label: str
    note: str


def sections(contents: RunContents) -> Sections:
    """What the proposal and the output do, step by step."""
    charts = sequence_panels(contents.newest("profile"))
    return Sections(charts_section("Sequences, step by step", charts, "") if charts else "")


def sequence_panels(profile: Mapping[str, Any] | None) -> list[str]:
    """The charts of a profile; none without one."""
    if profile is None:
        return []
    columns = _latent_columns(profile)
    return [
        *([] if columns is None else [columns]),
        *(
            line_chart(p.title, p.curves, y_label=p.y_label, x_label="step of x", note=p.note)
            for p in panels(profile)
        ),
    ]


def panels(profile: Mapping[str, Any]) -> list[Panel]:
    """KL by step, then latents and outputs of every row that is shown."""
    rows = profile["rows"]
    has_latents = bool(rows and rows[0]["latents"])
    drawn = [_kl_panel(profile)] if has_latents else []
    drawn += [panel for row in rows if has_latents for panel in _latent_panels(row)]
    drawn += [
        _output_panel(row["row"], name, output)
        for row in rows
        for name, output in zip(profile["entries"], row["outputs"], strict=True)
    ]
    return drawn


def latents_in_use(profile: Mapping[str, Any]) -> list[bool]:
    """Which latents have a mean KL of at least `IN_USE` nats per step, counted over sequences."""
    steps = sum(profile["kl_by_step"]["rows"]) / profile["num_rows"]
    return [Estimate.from_json(e).value >= IN_USE * steps for e in profile["kl_by_latent"] or []]


def write_profile(profile: Mapping[str, Any], path: Path) -> None:
    """The same charts as a picture."""
    # Not at the top: matplotlib is an extra. A Figure of its own needs no display and no state.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawn = panels(profile)
    in_use = latents_in_use(profile)
    count = len(drawn) + bool(in_use)
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.6 * columns, 2.9 * rows), dpi=100, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in axes[count:]:
        empty.set_axis_off()
    if in_use:
        _draw_columns(axes.pop(0), profile, in_use)
    for one, panel in zip(axes, drawn, strict=False):
        for curve in panel.curves:
            colour = _COLOURS[curve.colour - 1]
            one.plot(
                curve.x,
                curve.y,
                color=colour,
                linewidth=0.8 if curve.quiet else 1.4,
                marker="." if len(curve.x) == 1 else "",
                label=curve.name,
            )
            if curve.low is not None and curve.high is not None:
                one.fill_between(
                    curve.x, curve.low, curve.high, color=colour, alpha=0.17, linewidth=0
                )
        one.set_title(panel.title, fontsize=9, loc="left", pad=17)  # the legend is below
        one.set_xlabel("step of x", fontsize=8)
        one.set_ylabel(panel.y_label, fontsize=8)
        one.tick_params(labelsize=7)
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
        one.grid(alpha=0.25)
        one.spines[["top", "right"]].set_visible(False)
        one.legend(
            frameon=False,
            fontsize=7,
            ncols=4,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0.2,
            borderpad=0,
            handlelength=1.2,
        )
    figure.savefig(path)


def _draw_columns(axes: Any, profile: Mapping[str, Any], in_use: Sequence[bool]) -> None:
    values, order = _ordered(profile)
    colours = [_COLOURS[0] if in_use[i] else "#c8ccd0" for i in order]
    axes.bar(np.arange(len(values)), values, color=colours)
    axes.set_title(f"KL by latent: {sum(in_use)} of {len(in_use)} in use", fontsize=9, loc="left")
    axes.set_xlabel("latents, busiest first", fontsize=8)
    axes.set_ylabel("nats per sequence", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_xticks([])
    axes.spines[["top", "right"]].set_visible(False)


def _latent_columns(profile: Mapping[str, Any]) -> str | None:
    in_use = latents_in_use(profile)
    if not in_use:
        return None
    values, order = _ordered(profile)
    total = Estimate.from_json(profile["kl"])
    return column_chart(
        "KL by latent",
        [f"latent {i}" for i in order],
        values,
        [in_use[i] for i in order],
        x_label="latents, busiest first",
        y_label="nats per sequence",
        note=f"KL(q || p) over {profile['num_rows']} rows of {profile['split']}, step "
        f"{profile['step']}: {total.value:.3g} nats per sequence in all. {sum(in_use)} of "
        f"{len(in_use)} latents are in use (at least {IN_USE:g} nats per step).",
    )


def _ordered(profile: Mapping[str, Any]) -> tuple[Float[np.ndarray, " latents"], list[int]]:
    """The KL of the latents, largest first, and which they are."""
    values = np.array([Estimate.from_json(e).value for e in profile["kl_by_latent"]], float)
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
    return values[order], order.tolist()


def _kl_panel(profile: Mapping[str, Any]) -> Panel:
    by_step = profile["kl_by_step"]
    mean, error = _array(by_step["mean"]), _array(by_step["error"])
    labels = tuple(
        f"{m:.3g} ± {e:.2g}, {n} rows" for m, e, n in zip(mean, error, by_step["rows"], strict=True)
    )
    steps = np.arange(len(mean), dtype=float)
    curve = Curve("KL(q || p)", steps, mean, labels, mean - 2 * error, mean + 2 * error)
    return Panel(
        "KL by step",
        (curve,),
        "nats",
        f"Mean over those of {profile['num_rows']} held-out rows that are so long; band: 2 standard "
        "errors over them.",
    )


def _latent_panels(row: Mapping[str, Any]) -> list[Panel]:
    """Means and variances apart: bands of several latents would hide each other."""
    note = "Of q(z_t | ...) along one draw of z; the busiest latents by KL."
    drawn = []
    for what in ("mean", "variance"):
        curves = []
        for index, latent in enumerate(row["latents"]):
            values = _array(latent[what])
            name, colour = f"latent {latent['latent']}", colour_of(index)
            curves.append(_curve(name, values, colour=colour))
        title = f"Latent {what}s, held-out row {row['row']}"
        drawn.append(Panel(title, tuple(curves), f"{what} of z", note))
    return drawn


def _output_panel(row: int, name: str, output: Mapping[str, Any]) -> Panel:
    mean, scale = _array(output["mean"]), _array(output["scale"])
    margin, band = 2 * scale, " Band: 2 scales."
    if name == "pen":  # a probability has no scale of its own
        margin, band = None, ""
    return Panel(
        f"Output {name}, held-out row {row}",
        (
            _curve("output", mean, margin),
            _curve("observed", _array(output["observed"]), colour=2, quiet=True),
        ),
        "as the model sees it",
        f"Mean of p(x_t | z_t, ...) at one draw of z from a proposal that may see x_t.{band}",
    )


def _curve(
    name: str,
    values: Float[np.ndarray, " time"],
    margin: Float[np.ndarray, " time"] | None = None,
    *,
    colour: int = 1,
    quiet: bool = False,
) -> Curve:
    steps = np.arange(len(values), dtype=float)
    labels = tuple(f"{value:.3g}" for value in values)
    low, high = (None, None) if margin is None else (values - margin, values + margin)
    return Curve(name, steps, values, labels, low, high, colour, quiet)


def _array(values: Sequence[float | None]) -> Float[np.ndarray, " time"]:
    """None, which stands for what is not finite, as NaN."""
    return np.array([np.nan if value is None else value for value in values], float)
