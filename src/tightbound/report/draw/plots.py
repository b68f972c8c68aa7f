"""The bound over training as a PNG, for papers and READMEs; `html.py` draws its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tightbound.estimators.estimate import Estimate
from tightbound.report.draw.scales import groups_of_near
from tightbound.report.series import BoundSeries, bound_range, bound_series, in_own_units
from tightbound.report.tables import unit_and_claim

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_SHARE = 0.06  # of the axes' height: a line of text


def plot_bound(
    records: Sequence[dict[str, Any]],
    baselines: Mapping[str, Estimate],
    path: Path,
    *,
    pooled: bool = False,
) -> None:
    """Train and held-out bound with a band of two standard errors over sequences, and the
    baselines that lie in the frame. ValueError where there is no record.

    Of points of one data set (`pooled`), whose training bounds log p of them all, the held-out figure
    per point stands in axes of its own.
    """
    # Not at the top: matplotlib is an extra. A Figure of its own needs no display and no state.
    from matplotlib.figure import Figure

    records = in_own_units(records, pooled=pooled)
    train, held_out = bound_series(records, "train"), bound_series(records, "held_out")
    if not (held_out.estimates or train.estimates):
        raise ValueError("There is no bound to plot: `records` has neither 'train' nor 'held_out'.")
    nothing = bound_series([], "train")
    apart = pooled and train.estimates and held_out.estimates
    parts = [(nothing, held_out), (train, nothing)] if apart else [(train, held_out)]
    figure = Figure(figsize=(7, 4 * len(parts)), dpi=150, layout="constrained")
    for axes, (of_train, of_held_out) in zip(
        figure.subplots(len(parts), squeeze=False)[:, 0], parts, strict=True
    ):
        _draw(axes, of_train, of_held_out, baselines if of_held_out.estimates or not apart else {})
    figure.legend(frameon=False, fontsize=8, loc="outside upper left", ncols=2)
    figure.savefig(path)


def _draw(
    axes: "Axes", train: BoundSeries, held_out: BoundSeries, baselines: Mapping[str, Estimate]
) -> None:
    newest = (held_out.estimates or train.estimates)[-1]
    if train.estimates:
        style = {"color": "#c4570a", "linewidth": 0.8, "alpha": 0.7}
        axes.plot(train.steps, train.values, label="train", **style)
    if held_out.estimates:
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
