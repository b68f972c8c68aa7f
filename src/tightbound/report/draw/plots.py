"""The bound over training as a PNG, for papers and READMEs; `html.py` draws its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tightbound.estimators.estimate import Estimate
from tightbound.report.series import bound_range, bound_series
from tightbound.report.tables import unit_and_claim


def plot_bound(
    records: Sequence[dict[str, Any]], baselines: Mapping[str, Estimate], path: Path
) -> None:
    """Train and held-out bound with a band of two standard errors over sequences, and the
    baselines that lie in the frame. ValueError where there is no record."""
    # Not at the top: matplotlib is an extra. A Figure of its own needs no display and no state.
    from matplotlib.figure import Figure

    train, held_out = bound_series(records, "train"), bound_series(records, "held_out")
    newest = (held_out.estimates or train.estimates)[-1:]
    if not newest:
        raise ValueError("There is no bound to plot: `records` has neither 'train' nor 'held_out'.")
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(train.steps, train.values, color="#c4570a", linewidth=0.8, alpha=0.7, label="train")
    if held_out.estimates:
        margin = 2 * held_out.standard_errors
        low, high = held_out.values - margin, held_out.values + margin
        label = f"held-out: {newest[0].split}"
        axes.fill_between(held_out.steps, low, high, color="#1f5fa8", alpha=0.2, linewidth=0)
        axes.plot(held_out.steps, held_out.values, "o-", color="#1f5fa8", ms=3, label=label)
    low, high = bound_range(train, held_out, list(baselines.values()))
    for name, baseline in baselines.items():
        if low <= baseline.value <= high:
            axes.axhline(baseline.value, color="black", linestyle="--", linewidth=0.8, alpha=0.6)
            axes.annotate(
                name,
                (1, baseline.value),
                xycoords=("axes fraction", "data"),
                xytext=(-4, 3),
                textcoords="offset points",
                ha="right",
                fontsize=8,
            )
    axes.set(xlabel="step", ylabel=unit_and_claim(newest[0]), ylim=(low, high))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside upper left", ncols=2)
    figure.savefig(path)
