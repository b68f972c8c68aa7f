"""The arms of a sweep side by side, with error bars, as SVG and PNG for papers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tightbound.estimators.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BEST, _OTHERS = "#1f5fa8", "#7a7f87"


def plot_sweep(document: Mapping[str, Any], paths: Sequence[Path]) -> None:
    """One row per arm, the best on top; on the left their figures, on the right their paired
    differences to the best, where the arms are ranked. Bars are two standard errors.

    On the left the error is over seeds and over sequences together. On the same sequences arms rise
    and fall together, so arms whose bars overlap there may be told apart: the right side shows it.
    Blue arms are the best or tied with it, by p values adjusted for all pairs, as in the table.
    """
    # Not at the top: matplotlib is an extra. A Figure of its own needs no display and no state.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    arms = document["arms"]
    top = {arms[0]["arm"], *arms[0]["tied_with"]}
    colours = [_BEST if arm["arm"] in top else _OTHERS for arm in arms]
    is_ranked = any(arm["over_best"] is not None for arm in arms)
    figure = Figure(
        figsize=(9 if is_ranked else 7, 1.2 + 0.34 * len(arms)), dpi=150, layout="constrained"
    )
    panels = figure.subplots(1, 2 if is_ranked else 1, sharey=True, squeeze=False)[0]
    _draw_figures(panels[0], arms, colours)
    panels[0].set_title("± 2 standard errors; blue: best, or tied with it", fontsize=8, loc="left")
    panels[0].set_xlabel(f"{Estimate.from_json(arms[0]['estimate']).unit}, {document['split']}")
    if is_ranked:
        _draw_differences(panels[1], arms, colours)
        panels[1].set_title("the same sequences and seeds, paired", fontsize=8, loc="left")
        panels[1].set_xlabel("over the best arm")
    panels[0].set_yticks(range(len(arms)), [arm["arm"] for arm in arms], fontsize=8)
    panels[0].invert_yaxis()
    for axes in panels:
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    with rc_context({"svg.hashsalt": "tightbound"}):  # the same table gives the same file
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, metadata=metadata)


def _draw_figures(axes: "Axes", arms: Sequence[Mapping[str, Any]], colours: Sequence[str]) -> None:
    """A dot at every arm's mean, small dots above it for its runs."""
    for row, (arm, colour) in enumerate(zip(arms, colours, strict=True)):
        estimate = Estimate.from_json(arm["estimate"])
        error = 2 * np.hypot(estimate.standard_error or 0.0, arm["seed_error"] or 0.0)
        runs = list(arm["by_seed"].values())
        axes.plot(runs, [row - 0.25] * len(runs), ".", color=colour, ms=4, alpha=0.6)
        axes.errorbar(estimate.value, row, xerr=error, fmt="o", color=colour, ms=5, capsize=3)


def _draw_differences(
    axes: "Axes", arms: Sequence[Mapping[str, Any]], colours: Sequence[str]
) -> None:
    """A dot at every arm's paired difference to the best; arms that have none are left out."""
    axes.axvline(0, color="black", linewidth=0.8, alpha=0.6)
    for row, (arm, colour) in enumerate(zip(arms, colours, strict=True)):
        pair = arm["over_best"]
        if pair is not None and pair["num_seeds"]:
            error = 2 * (pair["standard_error"] or 0.0)
            axes.errorbar(
                pair["difference"], row, xerr=error, fmt="o", color=colour, ms=5, capsize=3
            )
