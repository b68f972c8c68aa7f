"""Is the objective what it claims to be: its value, its gradient, and a row's independence of its batch?"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.data.points import PointSet
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.laws.rows import batches_of_claim
from tightbound.diagnose.modules import module_names, module_of
from tightbound.inference.weigh import weigh
from tightbound.train.loop import TrainState
from tightbound.train.objective import Objective, mixes_rows
from tightbound.train.setup import Setup


def objective(setup: Setup, state: TrainState, key: PRNGKeyArray) -> ev.Objective | None:
    """The objective and its claim on the same rows and draws, alone and together."""
    claim = setup.claim
    if claim is None:
        return None
    noise_key, draw_key, direction_key = jax.random.split(key, 3)
    batch, other = batches_of_claim(setup, noise_key)
    size = len(batch.rows)
    half = size // 2
    mixed = jax.tree.map(lambda a, b: jnp.concatenate([a[:half], b[half:]]), batch, other)
    at_step = jnp.asarray(state.step)

    @jit_once
    def both(model, proposal, batch):
        surrogate, terms = setup.objective(model, proposal, batch, key=draw_key, step=at_step)
        if setup.objective is claim:
            return surrogate, surrogate, terms.log_weights
        claimed, _ = claim(model, proposal, batch, key=draw_key, step=at_step)
        return surrogate, claimed, terms.log_weights

    pair = (state.model, state.proposal)
    alone = [
        both(*pair, jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch))
        for row in range(size)
    ]
    together, together_mixed = both(*pair, batch), both(*pair, mixed)
    terms = jit_once(weigh)(*pair, batch, num_samples=claim.num_samples, key=draw_key, path="full")
    weights, weights_mixed = together[2], together_mixed[2]
    if mixes_rows(setup.objective):  # it says so: what must not depend on neighbours is the model
        weights_mixed = jit_once(weigh)(
            *pair, mixed, num_samples=claim.num_samples, key=draw_key, path="full"
        ).log_weights
        weights = terms.log_weights
    neighbour_change = jnp.abs(weights - weights_mixed)[:, :half].max(initial=0.0)
    slopes, slope_modules = _slopes(setup, state, batch, draw_key, direction_key)
    agrees = abs(float(together[0] - together[1])) <= 1e-3 * max(1.0, abs(float(together[1])))
    same_draws = bool(_differences(alone).max() <= _ROUNDING)
    change, full_change = _gradient_changes(setup, state, batch, draw_key, agrees and same_draws)
    return ev.Objective(
        estimator=claim.estimator,
        kl_weight=float(claim.kl_weight(at_step)),
        surrogate=np.array([float(s) for s, _, _ in alone]),
        claimed=np.array([float(c) for _, c, _ in alone]),
        batch_surrogate=float(together[0]),
        batch_claimed=float(together[1]),
        log_likelihood=np.asarray(terms.log_likelihood),
        log_prior=np.asarray(terms.log_prior),
        log_proposal=np.asarray(terms.log_proposal),
        neighbour_change=float(neighbour_change),
        slopes=slopes,
        slope_modules=slope_modules,
        gradient_change=change,
        full_gradient_change=full_change,
        point_weight=float(batch.x.weight.max()) if isinstance(batch.x, PointSet) else 1.0,
    )


_ROUNDING = 1e-4  # of the value: rows that differ by more do not share their draws


def _differences(alone: list[tuple[Array, ...]]) -> Float[np.ndarray, " rows"]:
    """How far the objective of every row alone is from its claim, over the claim's size."""
    surrogate, claimed = (np.array([float(row[i]) for row in alone]) for i in range(2))
    return np.abs(surrogate - claimed) / max(1.0, float(np.abs(claimed).max()))


def _gradient_changes(
    setup: Setup, state: TrainState, batch: Batch, key: PRNGKeyArray, agrees: bool
) -> tuple[float, float]:
    """Where a claim holds parameters constant: the length of the objective's gradient less the
    claim's, on the same draws, over the claim's; and the same with nothing held constant. NaN
    where another path is claimed, or the values differ already; 0 where the objective is the claim."""
    claim = setup.claim
    if not isinstance(claim, Objective) or claim.path != "stop_proposal" or not agrees:
        return float("nan"), float("nan")
    if setup.objective is claim:
        return 0.0, float("nan")
    gradients = [
        gradient_of(function, state, batch, key)
        for function in (setup.objective, claim, replace(claim, path="full"))
    ]
    found, claimed, full = (ravel_pytree(gradient)[0] for gradient in gradients)
    length = jnp.maximum(jnp.linalg.norm(claimed), 1e-30)
    return (
        float(jnp.linalg.norm(found - claimed) / length),
        float(jnp.linalg.norm(found - full) / length),
    )


def gradient_of(
    function: Callable[..., Any], state: TrainState, batch: Batch, key: PRNGKeyArray
) -> PyTree:
    """The gradient of an objective's value."""
    parameters, static = eqx.partition((state.model, state.proposal), eqx.is_inexact_array)

    @jit_once
    def gradient(parameters, batch):
        def value(parameters):
            model, proposal = eqx.combine(parameters, static)
            return function(model, proposal, batch, key=key, step=jnp.asarray(state.step))[0]

        return jax.grad(value)(parameters)

    return gradient(parameters, batch)


def _slopes(
    setup: Setup,
    state: TrainState,
    batch: Batch,
    key: PRNGKeyArray,
    direction_key: PRNGKeyArray,
) -> tuple[Float[np.ndarray, "directions two"], np.ndarray]:
    """The objective's slope along one random direction per module: autodiff, and a central
    difference of its value on the same draws. Only where the value itself is differentiated."""
    assert setup.claim is not None
    if setup.claim.estimator in ("vimco", "wake-sleep", "fivo") or setup.claim.path != "full":
        return np.zeros((0, 2)), np.zeros(0, np.str_)
    parameters, static = eqx.partition((state.model, state.proposal), eqx.is_inexact_array)
    names = module_names(parameters)

    def value(parameters):
        model, proposal = eqx.combine(parameters, static)
        return setup.objective(model, proposal, batch, key=key, step=jnp.asarray(state.step))[0]

    def direction(name, key):
        """A random direction of unit length within one module."""
        flat, unravel = ravel_pytree(parameters)
        noise = unravel(jax.random.normal(key, flat.shape))
        inside = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if module_of(path) == name else jnp.zeros_like(leaf), noise
        )
        return optax.tree.scale(1 / optax.tree.norm(inside), inside)

    @jit_once
    def slopes(parameters, direction):
        gradient = jax.grad(value)(parameters)
        autodiff = sum(
            jnp.vdot(g, d)
            for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        width = 0.02

        def value_at(distance):
            return value(jax.tree.map(lambda p, d: p + distance * d, parameters, direction))

        return jnp.stack([autodiff, (value_at(width) - value_at(-width)) / (2 * width)])

    pairs = []
    for name, repeat in itertools.product(names, range(3)):
        key_here = jax.random.fold_in(direction_key, 100 * names.index(name) + repeat)
        pairs.append(np.asarray(slopes(parameters, direction(name, key_here))))
    return np.array(pairs), np.repeat(np.array(names), 3)
