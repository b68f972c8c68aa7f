"""How does the optimiser answer a gradient: which entries, which modules, how long afterwards?"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, PyTree

from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.modules import module_names, modules
from tightbound.diagnose.probes import Pair
from tightbound.models.mixture import is_mixture
from tightbound.train.setup import Setup

_MOST_CALLS = 4096  # of the optimiser, in search of two updates
_MOST_ACCUMULATED = 32  # gradients in one update that are asked for sixty-four times


def optimiser(setup: Setup, pair: Pair) -> ev.Optimiser:
    """How the optimiser answers made-up gradients, from a fresh state, beyond what it does without
    any (weight decay). The components of a mixture are put where no force acts between them.

    An update is what comes of as many gradients as the optimiser waits for (accumulation), the first
    after one that moved something: a warm-up may start from a rate of 0.
    """
    parameters = _without_forces(eqx.filter(pair, eqx.is_inexact_array))
    flat, unravel = ravel_pytree(parameters)
    # sizes over six decades, both signs: whatever a clip's threshold is, some entries lie below
    sizes = 10.0 ** jax.random.uniform(jax.random.key(1), flat.shape, minval=-6.0, maxval=0.0)
    sign = jnp.where(jax.random.bernoulli(jax.random.key(2), 0.5, flat.shape), 1.0, -1.0)
    gradient = sign * sizes
    even = jnp.arange(flat.size) % 2 == 0

    def answer(states, given):
        """What the gradient changes beyond none, and the states of both."""
        updates, found = [], []
        for state, one in zip(states, (given, jnp.zeros_like(given)), strict=True):
            update, state = setup.optimiser.update(unravel(one), state, parameters)
            updates.append(ravel_pytree(update)[0])
            found.append(state)
        return tuple(found), updates[0] - updates[1]

    @jit_once
    def first_answers():
        """The calls of the first two answers to the same gradient, given again and again; what the first
        is; and the state of an optimiser that was given none until then."""
        start = setup.optimiser.init(parameters)

        def unanswered(carry):
            call, answered, *_ = carry
            return (call < _MOST_CALLS) & (answered[1] < 0)

        def ask(carry):
            call, answered, states, moved, idle = carry
            states, update = answer(states, gradient)
            found = (jnp.abs(update) > 0).any()
            is_first = found & (answered[0] < 0)
            place = jnp.where(is_first, 0, 1)
            answered = jnp.where(found, answered.at[place].set(call), answered)
            keep = lambda new, old: jnp.where(is_first, new, old)  # noqa: E731
            idle = jax.tree.map(keep, states[1], idle)
            return call + 1, answered, states, keep(jnp.abs(update), moved), idle

        carry = (jnp.zeros((), int), jnp.full(2, -1), (start, start), jnp.zeros_like(flat), start)
        _, answered, _, moved, idle = jax.lax.while_loop(unanswered, ask, carry)
        return answered, moved, idle

    answered, first, idle = first_answers()
    names = np.array(module_names(parameters))
    wait = int(answered[1] - answered[0]) if int(answered[1]) >= 0 else 0
    if not 0 < wait <= _MOST_ACCUMULATED:
        nan = float("nan")
        return ev.Optimiser(nan, nan, nan, nan, _any_motion(unravel(first)), names, wait)

    def update_by(states, given, multiples):
        """The update that comes of multiples of one gradient, as many as the optimiser waits for."""

        def one(carry, multiple):
            states, update = answer(carry[0], multiple * given)
            return (states, carry[1] + update), None

        return jax.lax.scan(one, (states, jnp.zeros_like(given)), multiples)[0]

    @jit_once
    def answers(multiples, of_even_entries):
        """The updates to a sequence of multiples of `gradient`; every other entry has its own."""

        def one(states, multiple):
            given = jnp.where(even, multiple[1], multiple[0]) * gradient
            return update_by(states, given, jnp.ones(wait))

        return jax.lax.scan(one, (idle, idle), jnp.stack([multiples, of_even_entries], 1))[1]

    @jit_once
    def sizes_of_answers(multiples):
        """The norms of the updates to multiples of `gradient`, one of them for each call."""

        def one(states, multiples):
            states, update = update_by(states, gradient, multiples)
            return states, jnp.linalg.norm(update)

        return jax.lax.scan(one, (idle, idle), multiples.reshape(-1, wait))[1]

    always = jnp.ones(8)
    constant = answers(always, always)
    # every other entry falls to a tenth: a clipped norm then gives all entries another size
    falling = answers(always, always.at[1:].set(0.1))
    moving = even & (jnp.abs(constant[1]) > 0)
    unanswered = moving & (constant[1] == falling[1])
    none = jnp.zeros(64 * wait)
    calls = wait + np.unique(np.linspace(0, max(wait - 1, 3), 4).astype(int))
    few = none[: 8 * wait] if wait > 1 else none
    single = [sizes_of_answers(few.at[call].set(1.0)) for call in calls]
    pulse = sizes_of_answers(none.at[wait : 2 * wait].set(1.0))
    largest = float(jnp.linalg.norm(constant, axis=1).max())
    # the learning rate is that of the same step: a warm-up would make a late update look large
    later, ongoing = float(pulse[30]), float(sizes_of_answers(jnp.ones_like(none))[30])
    return ev.Optimiser(
        unanswered_share=float(unanswered.sum() / jnp.maximum(moving.sum(), 1)),
        late_motion=float(pulse[-1]) / largest if largest > 0 else 0.0,
        held_motion=later / ongoing if ongoing > 0 else 0.0,
        ignored_share=float(np.mean([not norms.any() for norms in single])),
        moved=_any_motion(unravel(jnp.maximum(first, jnp.abs(constant).max(0)))),
        modules=names,
        gradients_per_update=wait,
    )


def _any_motion(update: PyTree) -> Bool[np.ndarray, " modules"]:
    """Which modules something of this size moves."""
    parts = modules(update).values()
    return np.array([max(float(leaf.max()) for leaf in leaves) > 0 for leaves in parts])


def _without_forces(parameters: PyTree) -> PyTree:
    """The same parameters with every component of a mixture at zero: radial kernels do nothing to what
    is equal, and the linear one nothing to what is at the origin."""

    def of_node(node: Any) -> Any:
        if not is_mixture(node):
            return node
        nowhere = jax.tree.map(jnp.zeros_like, node.components)
        return eqx.tree_at(lambda mixture: mixture.components, node, nowhere)

    return jax.tree.map(of_node, parameters, is_leaf=is_mixture)
