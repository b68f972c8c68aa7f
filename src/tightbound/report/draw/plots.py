"""The bound over training as a PNG, for papers and READMEs; `html.py` draws its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tightbound.estimators.estimate import Estimate
from tightbound.report.draw.figures import save_figure
from tightbound.report.draw.scales import groups_of_near
from tightbound.report.panels import thinned
from tightbound.report.series import BoundSeries, History, bound_range, bound_series
from tightbound.report.tables import unit_and_claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_SHARE = 0.06  # of the axes' height: a line of text


def plot_bound(history: History, baselines: Mapping[str, Estimate], path: Path) -> None:
    """Train and held-out bound with a band of two standard errors over sequences, and the
    baselines that lie in the frame. ValueError where there is no record.

    Of points of one data set, whose training bounds log p of them all, the held-out figure
    per point stands in axes of its own.
    """
    # Not at the top: matplotlib is an extra. A Figure of its own needs no display and no state.
    from matplotlib.figure import Figure

    train, held_out = bound_series(history, "train"), bound_series(history, "held_out")
    if not (len(held_out) or len(train)):
        raise ValueError("There is no bound to plot: the run has neither 'train' nor 'held_out'.")
    nothing = bound_series(History(), "train")
    apart = history.pooled and len(train) and len(held_out)
    parts = [(nothing, held_out), (train, nothing)] if apart else [(train, held_out)]
    figure = Figure(figsize=(7, 4 * len(parts)), dpi=150, layout="constrained")
    for axes, (of_train, of_held_out) in zip(
        figure.subplots(len(parts), squeeze=False)[:, 0], parts, strict=True
    ):
        _draw(axes, of_train, of_held_out, baselines if len(of_held_out) or not apart else {})
    figure.legend(frameon=False, fontsize=8, loc="outside upper left", ncols=2)
    save_figure(figure, path)


def _draw(
    axes: "Axes", train: BoundSeries, held_out: BoundSeries, baselines: Mapping[str, Estimate]
) -> None:
    newest = held_out.newest or train.newest
    assert newest is not None
    if len(train):
        style = {"color": "#c4570a", "linewidth": 0.8, "alpha": 0.7}
        curve = thinned("train", train.steps, train.values)
        axes.plot(curve.x, curve.y, label="train", **style)
        if curve.low is not None and curve.high is not None:  # a long run: means, with their range
            axes.fill_between(curve.x, curve.low, curve.high, color=style["color"], alpha=0.2, lw=0)
    if len(held_out):
        margin = 2 * held_out.standard_errors
        low, high = held_out.values - margin, held_out.values + margin
        label = f"held-out: {newest.split}"
        axes.fill_between(held_out.steps, low, high, color="#1f5fa8", alpha=0.2, linewidth=0)
        axes.plot(held_out.steps, held_out.values, "o-", color="#1f5fa8", ms=3, label=label)
    low, high = bound_range(train, held_out, list(baselines.values()))
    inside = {name: e.value for name, e in baselines.items() if low <= e.value <= high}
    names, values = list(inside), np.array(list(inside.values()), float)
    for value in values:
        axes.axhline(value, color="black", linestyle="--", linewidth=0.8, alpha=0.6)
    for group in groups_of_near((high - values) / (high - low), _LABEL_SHARE):
        axes.annotate(
            ", ".join(names[i] for i in group),
            (1, values[group[0]]),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    axes.set(xlabel="step", ylabel=unit_and_claim(newest), ylim=(low, high))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
