"""What a run on points predicts for held-out ones, as the report draws it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from tightbound.data.batch import Split
from tightbound.estimators.prediction import NUM_BINS, both_classes
from tightbound.families.stein.details import target_scale_of
from tightbound.families.stein.figures_points import predictions
from tightbound.report.json_numbers import numbers

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

_NUM_INPUTS = 161  # of a curve
_BEYOND = 0.15  # of the range of the inputs, on either side
_LEVELS = np.arange(1, 20) / 20  # of central intervals


def write_predictions(
    setup: "Setup", state: "TrainState", folder: Path, *, num: int, seed: int
) -> list[Path]:
    """`prediction-step-N.json` from `num` draws of the latents, or one of each component:

    - of one input and a real target: mean and spread along the input, by component and of all;
    - of several inputs: mean and spread at every validation point, and how often central intervals
      hold their target;
    - of classes: how often the likeliest class is right, by how likely it was said to be.
    """
    from tightbound.train.folder import write_whole

    train, valid = setup.data["train"], setup.data["valid"]
    key = jax.random.key(seed)
    if np.asarray(train.x.target).dtype.kind != "f":
        found = _classes(setup, state, valid, num, key)
    elif train.x.inputs.shape[1] == 1:
        found = _curve(setup, state, [train, valid], num, key)
    else:
        found = _pairs(setup, state, valid, num, key)
    step = int(state.step)
    document = {"schema": 1, "step": step, "num_draws": num, **found}
    path = folder / f"prediction-step-{step:08d}.json"
    write_whole(path, json.dumps(document) + "\n")
    return [path]


def _curve(
    setup: "Setup", state: "TrainState", splits: Sequence[Split], num: int, key: PRNGKeyArray
) -> dict[str, Any]:
    points = np.concatenate([split.x.inputs[:, 0] for split in splits]).astype(float)
    margin = _BEYOND * np.ptp(points)
    grid = np.linspace(points.min() - margin, points.max() + margin, _NUM_INPUTS)
    inputs = grid[:, None].astype(np.float32)
    expected, target = predictions(setup, state, inputs, num_samples=num, key=key)
    of_all = _moments(expected.reshape(-1, len(grid)))
    # pooled along the input, where the models here have noise of one size: smooth from few draws
    noise = np.square(target - expected).mean()
    of_targets = np.sqrt(expected.reshape(-1, len(grid)).var(0) + noise)
    return {
        "kind": "curve",
        "split": splits[0].description,
        "train": {
            "inputs": numbers(splits[0].x.inputs[:, 0]),
            "target": numbers(splits[0].x.target),
        },
        "inputs": numbers(grid),
        "all": of_all | {"target_spread": numbers(of_targets)},
        "components": [_moments(of_one) for of_one in expected],
    }


def _pairs(
    setup: "Setup", state: "TrainState", split: Split, num: int, key: PRNGKeyArray
) -> dict[str, Any]:
    expected, target = predictions(setup, state, split.x.inputs, num_samples=num, key=key)
    observed = np.asarray(split.x.target, float)
    drawn, mean = target.reshape(-1, len(observed)), expected.mean((0, 1))
    scale = target_scale_of(setup)
    if scale is not None:
        observed, drawn, mean = (scale.undo(values) for values in (observed, drawn, mean))
    return {
        "kind": "pairs",
        "split": split.description,
        "observed": numbers(observed),
        "mean": numbers(mean),
        "spread": numbers(drawn.std(0)),
        "levels": numbers(_LEVELS),
        "coverage": numbers(coverage(drawn, observed, _LEVELS)),
    }


def _classes(
    setup: "Setup", state: "TrainState", split: Split, num: int, key: PRNGKeyArray
) -> dict[str, Any]:
    expected, _ = predictions(setup, state, split.x.inputs, num_samples=num, key=key)
    by_draw = expected.reshape(-1, *expected.shape[2:])
    shares = (by_draw if by_draw.ndim == 3 else both_classes(by_draw)).mean(0)
    confidence, correct = shares.max(1), shares.argmax(1) == split.x.target
    which = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    counts = np.bincount(which, minlength=NUM_BINS)
    kept = counts > 0

    def mean_of(values) -> list[float | None]:
        sums = np.bincount(which, weights=values, minlength=NUM_BINS)
        return numbers(sums[kept] / counts[kept])

    return {
        "kind": "classes",
        "split": split.description,
        "confidence": mean_of(confidence),
        "accuracy": mean_of(correct),
        "points": counts[kept].tolist(),
    }


def coverage(
    drawn: Float[np.ndarray, "draws points"],
    observed: Float[np.ndarray, " points"],
    levels: Float[np.ndarray, " levels"],
) -> Float[np.ndarray, " levels"]:
    """The share of targets inside the central interval of their draws that should hold `levels` of
    them; the level itself where draws and targets have one law."""
    share_below = (drawn < observed[None]).mean(0)
    return (np.abs(2 * share_below - 1)[None] <= levels[:, None]).mean(1)


def _moments(draws: Float[np.ndarray, "draws points"]) -> dict[str, list[float | None]]:
    return {"mean": numbers(draws.mean(0)), "spread": numbers(draws.std(0))}
