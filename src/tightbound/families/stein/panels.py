"""What a report draws of a mixture of proposals: its components over training, what they predict, and
where they lie beside a known density."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tightbound.report.contents import RunContents, read_arrays, step_of
from tightbound.report.draw.charts import Curve, Level, column_chart, line_chart, scatter
from tightbound.report.draw.heat_map import Facet, heat_map
from tightbound.report.panels import MOST_FILES, colour_of, evenly_spaced
from tightbound.report.sections import Sections, charts_section

_FIELDS = (
    *("entropy", "usage", "bound", "gradient_norm"),
    *("attraction_norm", "repulsion_norm", "distance"),
)
_NAMED = 5  # curves of components with colours of their own; more are drawn thin, in one
_MOST_FACETS = 4  # components drawn one by one in two dimensions
_SECOND = 2  # the colour of what the main curve is held against


def sections(contents: RunContents) -> Sections:
    """The components over training, predictions of points, and a known density beside its proposal."""
    parts = {
        "Against the target": target_panels(contents.newest("target-step")),
        "Predictions": prediction_panels(contents.newest("prediction-step")),
        "Components of the mixture": component_panels(contents.evidence),
    }
    shown = [charts_section(title, charts, "") for title, charts in parts.items() if charts]
    return Sections("".join(shown))


def component_panels(evidence: Sequence[Path]) -> list[str]:
    """Charts of the probes' components; none where no probe saw a mixture."""
    history = _History(evenly_spaced(evidence, MOST_FILES))
    if not len(history.steps):
        return []
    return [
        _entropy_panel(history),
        _usage_panel(history),
        _by_component(
            history,
            "bound",
            "Bound of every component",
            "nats per sequence",
            "E[log p − log q] of a component's own draws, q the whole mixture, on the probe's rows. A "
            "component far below the others covers what they do not, or has not arrived.",
        ),
        _by_component(
            history,
            "gradient_norm",
            "Gradient norm by component",
            "norm",
            "Of the bound in a component's own parameters, before the kernel. It is no loss: it grows with "
            "the parameters' number.",
            log_y=True,
        ),
        *_force_panel(history),
        *_distance_panel(history),
    ]


def prediction_panels(prediction: Mapping[str, Any] | None) -> list[str]:
    """The charts of a `prediction-step-N.json`; none without one."""
    if prediction is None:
        return []
    return {"curve": _curve_panels, "pairs": _pair_panels, "classes": _class_panels}[
        prediction["kind"]
    ](prediction)


def target_panels(target: Mapping[str, Any] | None) -> list[str]:
    """The charts of a `target-step-N.json`; none without one."""
    if target is None:
        return []
    if target["kind"] == "moments":
        return [_moment_panel(target, "variance"), _moment_panel(target, "mean")]
    return [_density_panel(target) if target["dimension"] == 1 else _density_maps(target)]


class _History:
    """The components in those files that have them, oldest first."""

    def __init__(self, evidence: Sequence[Path]):
        names = [f"components.{field}" for field in _FIELDS]
        found = [(step_of(path), read_arrays(path, names)) for path in evidence]
        having = [(step, arrays) for step, arrays in found if len(arrays) == len(names)]
        self.steps = np.array([step for step, _ in having], float)
        self._arrays = [arrays for _, arrays in having]

    def of(self, field: str) -> list[Float[np.ndarray, "..."]]:
        """A field of `diagnose.evidence.Components` at every step."""
        return [np.asarray(arrays[f"components.{field}"], float) for arrays in self._arrays]


def _entropy_panel(history: _History) -> str:
    entropies, num = history.of("entropy"), len(history.of("usage")[-1])
    mean = np.array([values.mean() for values in entropies])
    low, high = (np.array([np.quantile(v, p) for v in entropies]) for p in (0.1, 0.9))
    labels = tuple(
        f"{m:.3g} ({lo:.3g} to {hi:.3g})" for m, lo, hi in zip(mean, low, high, strict=True)
    )
    most = float(np.log(num))
    return line_chart(
        "Entropy of responsibilities",
        [Curve("mean over rows", history.steps, mean, labels, low, high)],
        y_label="nats",
        levels=[Level(f"log {num}: all alike", most)],
        y_range=(-0.04 * (most or 1.0), 1.12 * (most or 1.0)),
        note="Which component drew z, as z itself tells: 0 where components are apart. Band: a tenth "
        "to nine tenths of the probe's rows.",
    )


def _usage_panel(history: _History) -> str:
    usage = history.of("usage")[-1]
    share = 1 / len(usage)
    return column_chart(
        "Usage by component",
        [f"component {i}" for i in range(len(usage))],
        usage,
        (usage >= 0.1 * share).tolist(),
        x_label="components, in their order",
        y_label="share of the normalised weights",
        note=f"Mean over the probe's rows, step {history.steps[-1]:.0f}; {share:.3g} where all are worth "
        "the same. Grey: less than a tenth of that.",
    )


def _by_component(
    history: _History, field: str, title: str, y_label: str, note: str, *, log_y: bool = False
) -> str:
    curves = _component_curves(history.steps, np.array(history.of(field)).T)
    return line_chart(title, curves, y_label=y_label, log_y=log_y, note=note)


def _force_panel(history: _History) -> list[str]:
    """Both parts of the Stein force, each as its mean over components; nothing without a repulsion."""
    parts = {
        name: np.array(history.of(f"{name}_norm")).mean(1) for name in ("attraction", "repulsion")
    }
    if not (parts["repulsion"] > 0).any():
        return []
    curves = [
        _curve(name, history.steps, norms, colour=colour_of(index))
        for index, (name, norms) in enumerate(parts.items())
    ]
    return [
        line_chart(
            "Stein force",
            curves,
            y_label="norm, mean over components",
            log_y=True,
            note="What moves the components: towards the target, and from each other. Neither is a bound, "
            "and neither need fall.",
        )
    ]


def _distance_panel(history: _History) -> list[str]:
    distance = history.of("distance")[-1]
    if len(distance) < 2:
        return []
    names = [f"component {i}" for i in range(len(distance))]
    return [
        heat_map(
            "Distance between components",
            [Facet(f"step {history.steps[-1]:.0f}", distance)],
            names,
            names,
            x_label="component",
            y_label="component",
            per_line=1,
            note="Of their parameters, over the root mean square of the two norms: about 1.4 for unrelated "
            "ones, 0 for equal ones, which nothing drives apart.",
        )
    ]


def _curve_panels(prediction: Mapping[str, Any]) -> list[str]:
    inputs, every = _array(prediction["inputs"]), prediction["all"]
    mean, spread = _array(every["mean"]), _array(every["spread"])
    noisy = _array(every["target_spread"])
    train = prediction["train"]
    points = Curve(
        "training points",
        _array(train["inputs"]),
        _array(train["target"]),
        tuple(f"{y:.3g}" for y in _array(train["target"])),
        colour=_SECOND,
        dots=True,
    )
    whole = [
        _curve("with noise", inputs, mean, margin=2 * noisy, colour=8, quiet=True),
        _curve("mean", inputs, mean, margin=2 * spread),
        points,
    ]
    parts = _component_curves(
        inputs,
        np.array([_array(c["mean"]) for c in prediction["components"]]),
        2 * np.array([_array(c["spread"]) for c in prediction["components"]]),
    )
    where = f"{prediction['split']}, step {prediction['step']}"
    return [
        line_chart(
            "What is predicted",
            whole,
            y_label="target, as the model sees it",
            x_label="input",
            note=f"Of all components, from {where}. Bands: 2 standard deviations, of the mean over draws "
            "of the latents, and of a target with its noise. Bands should open where no points are.",
        ),
        line_chart(
            "What every component predicts",
            [*parts, points],
            y_label="target, as the model sees it",
            x_label="input",
            note="Mean of each; bands: 2 standard deviations over its own draws of the latents. Where they "
            "part, the mixture knows that it does not know.",
        ),
    ]


def _pair_panels(prediction: Mapping[str, Any]) -> list[str]:
    observed, mean = _array(prediction["observed"]), _array(prediction["mean"])
    levels = _array(prediction["levels"])
    where = f"{len(observed)} points of {prediction['split']}, step {prediction['step']}"
    return [
        scatter(
            "Predicted and observed",
            mean,
            observed,
            x_label="predictive mean",
            y_label="observed",
            note=f"{where}, in the data's own units where they are known.",
        ),
        line_chart(
            "Coverage of central intervals",
            [
                _curve("observed", levels, _array(prediction["coverage"])),
                _curve("as stated", levels, levels, colour=8, quiet=True),
            ],
            y_label="share of targets inside",
            x_label="share that the interval should hold",
            y_range=(0.0, 1.04),
            note=f"{where}. Below the straight line predictions are too sure, above it too careful.",
        ),
    ]


def _class_panels(prediction: Mapping[str, Any]) -> list[str]:
    confidence, accuracy = _array(prediction["confidence"]), _array(prediction["accuracy"])
    labels = tuple(
        f"{a:.3g} of {n} points" for a, n in zip(accuracy, prediction["points"], strict=True)
    )
    return [
        line_chart(
            "Confidence and accuracy",
            [
                Curve("observed", confidence, accuracy, labels),
                _curve("as stated", confidence, confidence, colour=8, quiet=True),
            ],
            y_label="share that is right",
            x_label="probability of the likeliest class",
            y_range=(0.0, 1.04),
            note=f"{sum(prediction['points'])} points of {prediction['split']}, step "
            f"{prediction['step']}, in bins that have some. Below the straight line predictions are too "
            "sure.",
        )
    ]


def _density_panel(target: Mapping[str, Any]) -> str:
    """In one dimension: the target, the proposal, and a share of it for every component."""
    [axis] = target["axes"]
    grid, density = _array(axis), _array(target["target"])
    curves = [_curve("target", grid, density, colour=_SECOND)]
    if "points" in target:
        places = np.array(target["points"], float)[:, 0]
        height = np.interp(places, grid, density)
        labels = tuple(f"at {place:.3g}" for place in places)
        curves.append(Curve("components, points", places, height, labels, dots=True))
    else:
        components = [_array(part) / len(target["components"]) for part in target["components"]]
        curves += [
            _curve("" if index else "components", grid, part, colour=8, quiet=True)
            for index, part in enumerate(components)
        ]
        curves.append(_curve("proposal", grid, _array(target["proposal"])))
    return line_chart(
        "Target and proposal",
        curves,
        y_label="density",
        x_label="z",
        note=f"Step {target['step']}. Components are drawn with their share of the mixture, so that they "
        "add up to it; a component without a density is a point.",
    )


def _density_maps(target: Mapping[str, Any]) -> str:
    """In two dimensions: tables of density, the first axis to the right."""
    first, second = (_array(axis) for axis in target["axes"])

    def facet(name: str, values: Sequence[float | None]) -> Facet:
        table = np.nan_to_num(_array(values)).reshape(len(first), len(second))
        return Facet(name, table.T[::-1])

    facets = [facet("target", target["target"])]
    left_out = ""
    if "points" in target:
        facets.append(Facet("components, points", _counts(target, first, second)))
    else:
        parts = target["components"]
        facets.append(facet("proposal", target["proposal"]))
        facets += [
            facet(f"component {i}", (_array(part) / len(parts)).tolist())
            for i, part in enumerate(parts[:_MOST_FACETS])
        ]
        if len(parts) > _MOST_FACETS:
            left_out = f" The first {_MOST_FACETS} of {len(parts)} components."
    return heat_map(
        "Target and proposal",
        facets,
        [f"{value:.3g}" for value in second[::-1]],
        [f"{value:.3g}" for value in first],
        x_label="first dimension of z",
        y_label="second dimension of z",
        per_line=3,
        note=f"Densities, components with their share of the mixture, step {target['step']}; from "
        f"{first[0]:.3g} to {first[-1]:.3g} across, {second[0]:.3g} to {second[-1]:.3g} upwards.{left_out}",
    )


def _counts(
    target: Mapping[str, Any],
    first: Float[np.ndarray, " cells"],
    second: Float[np.ndarray, " cells"],
) -> Float[np.ndarray, "cells cells"]:
    """How many points are nearest to each cell, the second axis upwards."""
    table = np.zeros((len(second), len(first)))
    for x, y in np.array(target["points"], float):
        table[-1 - np.abs(second - y).argmin(), np.abs(first - x).argmin()] += 1
    largest = np.nanmax(_array(target["target"]))
    return table * largest / table.max()


def _moment_panel(target: Mapping[str, Any], what: str) -> str:
    """In many dimensions: one number for each, against the target's."""
    values = _array(target["proposal"][what])
    place = np.arange(len(values), dtype=float)
    margin = 2 * _array(target["proposal"]["variance_error"]) if what == "variance" else None
    curves = [_curve("proposal", place, values, margin=margin)]
    note = f"Of {target['num_draws']:,} draws, step {target['step']}."
    if what == "variance":
        inside = np.array([_array(part) for part in target["components"]]).mean(0)
        if len(target["components"]) > 1:
            curves.append(_curve("inside components, mean", place, inside, colour=8, quiet=True))
        average, wanted = values.mean(), _array(target["target"][what]).mean()
        note += (
            f" Average over dimensions {average:.3g}, of the target {wanted:.3g}. Band: 2 standard errors. "
            "What the components lack, their distance must make up."
        )
    curves.append(_curve("target", place, _array(target["target"][what]), colour=_SECOND))
    return line_chart(
        f"{what.capitalize()} by dimension", curves, y_label=what, x_label="dimension", note=note
    )


def _component_curves(
    x: Float[np.ndarray, " points"],
    values: Float[np.ndarray, "component points"],
    margins: Float[np.ndarray, "component points"] | None = None,
) -> list[Curve]:
    """A curve for each; of many, thin ones of one colour under one name, and without bands."""
    if len(values) <= _NAMED:
        return [
            _curve(
                f"component {i}",
                x,
                y,
                margin=None if margins is None else margins[i],
                colour=_colour_beside_points(i),
            )
            for i, y in enumerate(values)
        ]
    return [
        _curve("" if i else f"{len(values)} components", x, y, quiet=True)
        for i, y in enumerate(values)
    ]


def _colour_beside_points(index: int) -> int:
    """Colours in turn, without that of the points."""
    return index + 1 if index + 1 < _SECOND else index + 2


def _curve(
    name: str,
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    *,
    margin: Float[np.ndarray, " points"] | None = None,
    colour: int = 1,
    quiet: bool = False,
) -> Curve:
    low, high = (None, None) if margin is None else (y - margin, y + margin)
    return Curve(name, x, y, tuple(f"{value:.3g}" for value in y), low, high, colour, quiet)


def _array(values: Sequence[float | None]) -> Float[np.ndarray, " values"]:
    """None, which stands for what is not finite, as NaN."""
    return np.array([np.nan if value is None else value for value in values], float)
