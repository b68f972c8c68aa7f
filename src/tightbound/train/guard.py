"""An optimiser that stops at the first gradient that is no number, and keeps what it had."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree


class GuardState(NamedTuple):
    """The guarded optimiser's own state, and when it was stopped."""

    inner: PyTree
    seen: Int[Array, ""]  # gradients that were taken
    stopped: Int[Array, ""]  # 1 once one was refused


def guarded(optimiser: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimiser until a gradient, or the update made of it, has a norm that is not finite;
    from then on no update.

    Neither parameters nor the optimiser's state see the bad gradient or any after it: the state is
    that of step `seen`, from which the step can be repeated and looked at. A select, which copies
    every array: a branch keeps XLA from sharing the work between cores, and takes longer by more.
    """

    def init(params):
        zero = jnp.zeros((), jnp.int32)
        return GuardState(optimiser.init(params), zero, zero)

    def update(updates, state, params=None):
        steps, inner = optimiser.update(updates, state.inner, params)
        norms = optax.tree.norm(updates), optax.tree.norm(steps)
        is_taken = jnp.isfinite(norms[0]) & jnp.isfinite(norms[1]) & (state.stopped == 0)

        def chosen(new: PyTree, old: PyTree) -> PyTree:
            return jax.tree.map(lambda n, o: jnp.where(is_taken, n, o), new, old)

        count = is_taken.astype(jnp.int32)
        stopped = jnp.maximum(state.stopped, 1 - count)
        kept = GuardState(chosen(inner, state.inner), state.seen + count, stopped)
        return chosen(steps, optax.tree.zeros_like(steps)), kept

    return optax.GradientTransformation(init, update)


def stopped_at(opt_state: PyTree) -> int | None:
    """The number of updates after which a guard refused a gradient; None where none did, or there is
    no guard. Waits for the device."""
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, GuardState))
    guards = [node for node in nodes if isinstance(node, GuardState)]
    stopped = [int(guard.seen) for guard in guards if int(guard.stopped)]
    return min(stopped) if stopped else None
