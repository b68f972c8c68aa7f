"""The optimiser made wrong."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax

from tightbound.train.setup import Setup


def with_optimiser(
    change: Callable[[optax.GradientTransformation], optax.GradientTransformation],
) -> Callable[[Setup], Setup]:
    return lambda setup: replace(setup, optimiser=change(setup.optimiser))


def scaled(factor: float):
    return lambda inner: optax.chain(inner, optax.scale(factor))


def stopping_after(num_steps: int):
    """A schedule that has come to its end: updates after so many steps are nothing."""
    left = optax.piecewise_constant_schedule(1.0, {num_steps: 0.0})
    return lambda inner: optax.chain(inner, optax.scale_by_schedule(left))


def accumulating(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Gradients add up and are never cleared."""
    return forgetting_every(None)(inner)


def forgetting_every(
    num_steps: int | None,
) -> Callable[[optax.GradientTransformation], optax.GradientTransformation]:
    """Every step is given the sum of the gradients since step 0, `num_steps`, 2 `num_steps`, ...; None
    never forgets."""

    def init(params):
        return jnp.zeros((), jnp.int32), optax.tree.zeros_like(params)

    def update(updates, state, params=None):
        count, total = state
        forgets = False if num_steps is None else count % num_steps == 0
        kept = jnp.where(forgets, 0.0, 1.0)
        total = jax.tree.map(lambda old, new: (kept * old + new).astype(new.dtype), total, updates)
        return total, (count + 1, total)

    summed = optax.GradientTransformation(init, update)
    return lambda inner: optax.chain(summed, inner)


def dropping(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Accumulation over four batches that keeps the last one only."""

    def init(params):
        return inner.init(params), jnp.zeros((), jnp.int32)

    def update(updates, state, params=None):
        inner_state, count = state
        stepped, new_state = inner.update(updates, inner_state, params)
        due = (count + 1) % 4 == 0
        choose = lambda new, old: jnp.where(due, new, old)  # noqa: E731
        updates = jax.tree.map(lambda new: choose(new, jnp.zeros_like(new)), stepped)
        return updates, (jax.tree.map(choose, new_state, inner_state), count + 1)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def clipping(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.clip(1e-8), inner)


def freezing_proposal(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Updates of the proposal are dropped: it was not among the parameters handed over."""

    def update(updates, state, params=None):
        updates, state = inner.update(updates, state, params)
        model, proposal = updates  # pyright: ignore[reportGeneralTypeIssues]
        return (model, jax.tree.map(jnp.zeros_like, proposal)), state

    return optax.GradientTransformation(inner.init, update)  # pyright: ignore[reportArgumentType]
