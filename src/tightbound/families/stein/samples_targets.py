"""A proposal beside the known density it is fitted to, as the report draws it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.families.stein.model_target import AbstractTarget
from tightbound.inference.predictive import posterior_draws
from tightbound.models.base import AbstractProposal
from tightbound.models.mixture import Mixture
from tightbound.report.json_numbers import numbers

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

_NUM_CELLS = {1: 241, 2: 32}  # of an axis of the grid, by dimension
_TAIL = 1e-3  # of the draws, left outside the grid on either side
_BEYOND = 0.1  # of the grid's range, added on either side


def write_target(
    setup: "Setup", state: "TrainState", folder: Path, *, num: int, seed: int
) -> list[Path]:
    """`target-step-N.json`: in one or two dimensions the densities on a grid, of the target, of the
    proposal and of its components, or the places of components that are points; in more the mean and
    the variance of every dimension, from `num` draws of every component."""
    from tightbound.train.folder import write_whole

    model, proposal = state.model, setup.evaluated(state.proposal)
    assert isinstance(model, AbstractTarget)
    draw_key, target_key = jax.random.split(jax.random.key(seed))
    x = jax.tree.map(jnp.asarray, setup.data["train"].take(np.arange(1)))
    drawn = np.asarray(
        posterior_draws(model, proposal, x, num_samples=num, key=draw_key), np.float64
    )[:, :, 0]
    dimension = drawn.shape[-1]
    if dimension in _NUM_CELLS:
        of_x = jax.tree.map(lambda leaf: leaf[0], x.x)
        found = _densities(model, proposal, of_x, drawn, setup.is_bound, target_key)
    else:
        found = _moments(model, drawn)
    step = int(state.step)
    document = {"schema": 1, "step": step, "dimension": dimension, **found}
    path = folder / f"target-step-{step:08d}.json"
    write_whole(path, json.dumps(document) + "\n")
    return [path]


def _densities(
    model: AbstractTarget,
    proposal: AbstractProposal,
    x: Array,
    drawn: Float[np.ndarray, "component sample latent"],
    has_density: bool,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    """On a grid that holds the draws of both."""
    dimension = drawn.shape[-1]
    of_target = np.asarray(
        jax.vmap(model.sample_prior)(jax.random.split(key, drawn.shape[1])), np.float64
    )
    every = np.concatenate([of_target, drawn.reshape(-1, dimension)])
    low, high = np.quantile(every, [_TAIL, 1 - _TAIL], axis=0)
    margin = _BEYOND * (high - low)
    axes = np.linspace(low - margin, high + margin, _NUM_CELLS[dimension]).T
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dimension)
    found = {
        "kind": "density",
        "axes": [numbers(axis) for axis in axes],
        "target": numbers(_density(lambda z: model.law().log_prob(z), grid)),
    }
    if not has_density:
        return found | {"points": [numbers(place) for place in drawn[:, 0]]}
    q: Any = proposal.proposal(x)
    parts = None
    if isinstance(proposal, Mixture):
        by_component = _density(q.component_log_probs, grid)
        parts = [numbers(density) for density in by_component.T]
    return found | {"proposal": numbers(_density(q.log_prob, grid)), "components": parts or []}


def _density(log_prob: Any, grid: Float[np.ndarray, "cells latent"]) -> np.ndarray:
    """exp log_prob at every cell, cells first."""
    return np.exp(np.asarray(jax.vmap(log_prob)(jnp.asarray(grid)), np.float64))


def _moments(
    model: AbstractTarget, drawn: Float[np.ndarray, "component sample latent"]
) -> dict[str, Any]:
    """Mean and variance of every dimension: of all draws, of each component's own, of the target."""
    law: Any = model.law()
    of_all = drawn.reshape(-1, drawn.shape[-1])
    square = np.square(of_all - of_all.mean(0))
    return {
        "kind": "moments",
        "num_draws": len(of_all),
        "target": {
            "mean": numbers(np.asarray(law.mean, float)),
            "variance": numbers(np.asarray(law.variance, float)),
        },
        "proposal": {
            "mean": numbers(of_all.mean(0)),
            "variance": numbers(square.mean(0)),
            "variance_error": numbers(square.std(0) / np.sqrt(len(of_all))),
        },
        "components": [numbers(own.var(0)) for own in drawn],
    }
