"""A guarded optimiser takes no gradient that is no number, and otherwise changes nothing.

Oracle: the optimiser itself, on the gradients before the bad one.
"""

from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import training_batches
from tightbound.train.checkpoint import checkpoints, load_state
from tightbound.train.guard import guarded, stopped_at
from tightbound.train.loop import fit
from tightbound.train.run import first_state, run

GUARDED = guarded(optax.adam(0.1))
PARAMETERS = {"mean": jnp.array([0.5, -1.0]), "scale": jnp.array(2.0)}


def gradients(bad=None, at=2):
    """Six gradients, one entry of that at index `at` being `bad`."""
    random = np.random.default_rng(0)
    means, scales = random.normal(size=(6, 2)), random.normal(size=6)
    if bad is not None:
        means[at, 1] = bad
    return [
        {"mean": jnp.array(m), "scale": jnp.array(s)} for m, s in zip(means, scales, strict=True)
    ]


def followed(optimiser, gradients):
    """Parameters and the optimiser's state before every update and after the last."""

    @jax.jit
    def step(parameters, state, gradient):
        updates, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state

    states = [(PARAMETERS, optimiser.init(PARAMETERS))]
    for gradient in gradients:
        states.append(step(*states[-1], gradient))
    return states


def assert_same(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert_array_equal(one, other, strict=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_from_the_first_bad_gradient_on_nothing_moves(bad):
    """To the bit: parameters and Adam's moments are those after the two good updates, also once
    gradients are good again. Planted: Adam alone, whose parameters are no numbers for ever."""
    rule = optax.adam(0.1)
    before, moments = followed(rule, gradients())[2]
    states = followed(GUARDED, gradients(bad))
    for parameters, state in states[2:]:
        assert_same(parameters, before)
        assert_same(state.inner, moments)
    assert [stopped_at(state) for _, state in states] == [None, None, None, 2, 2, 2, 2]
    (parameters, _) = followed(rule, gradients(bad))[-1]
    assert np.isnan(parameters["mean"][1])


def test_good_gradients_are_taken_as_without_a_guard_to_the_bit():
    """Oracle: Adam alone, on the same gradients."""
    plain, guard = followed(optax.adam(0.1), gradients()), followed(GUARDED, gradients())
    for (parameters, state), (others, its) in zip(plain, guard, strict=True):
        assert_same((parameters, state), (others, its.inner))


def test_a_healthy_run_is_the_same_with_and_without_a_guard(make_setup):
    """Oracle: the unguarded run through `fit`, ten updates, to rounding: the compiled step adds up in
    another order where the update is a branch."""

    def after(optimiser):
        setup = make_setup(optimiser=optimiser)
        batches = islice(training_batches(setup.data["train"], 4, seed=0), 10)
        at = {"key": jax.random.key(0)}
        *_, last = fit(first_state(setup), batches, setup.objective, setup.optimiser, **at)
        return last.state

    plain, guard = after(optax.adam(0.1)), after(GUARDED)
    expected = jax.tree.leaves((plain.model, plain.proposal, plain.opt_state))
    found = jax.tree.leaves((guard.model, guard.proposal, guard.opt_state.inner))
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=1e-13)
    assert stopped_at(guard.opt_state) is None
    assert stopped_at(plain.opt_state) is None  # there is no guard to ask


def poisoned_at(setup, step_of_poison):
    """The setup's objective, no number at a single step: a gradient norm that is logged later is fine."""

    def objective(*args, step, **kwargs):
        surrogate, terms = setup.objective(*args, step=step, **kwargs)
        return jnp.where(step == step_of_poison, jnp.nan, 1.0) * surrogate, terms

    return objective


def test_a_run_that_was_refused_a_gradient_ends_and_saves_only_numbers(make_setup, folder):
    """Update 5 is poisoned and update 6, which is logged, is not: the run ends there all the same,
    with the parameters of update 4. Planted: without a guard they are no numbers."""
    setup = make_setup()
    ends = {}
    for name, optimiser in (("guarded", GUARDED), ("plain", optax.adam(0.1))):
        its = make_setup(objective=poisoned_at(setup, 4), optimiser=optimiser, evaluate_every=100)
        path = type(folder)(folder.path / name)
        values = []
        for progress in run(its, path):
            values.append(float(progress.state.proposal.mean))
        ends[name] = (progress.step, progress.status), values, its, path
    (end, values, its, path), (_, plain, *_) = ends["guarded"], ends["plain"]
    assert end == (6, "not finite")
    assert values[4] == values[5] == values[6]
    assert np.isfinite(values).all()
    assert np.isnan(plain[5:]).all()
    saved, _ = checkpoints(path.checkpoints)
    assert [checkpoint.step for checkpoint in saved] == [0, 3]
    state = load_state(saved[-1], first_state(its))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.proposal))
    assert stopped_at(state.opt_state) is None


def test_an_update_that_is_no_number_is_refused_though_its_gradient_is_one():
    """To the bit: nothing moves, and it is said after how many updates. Planted: the rule unguarded."""
    rule = optax.scale(jnp.inf)
    parameters = jnp.array([1.0, 2.0])
    guard = guarded(rule)
    updates, state = guard.update(jnp.ones(2), guard.init(parameters), parameters)
    assert_array_equal(updates, np.zeros(2))
    assert stopped_at(state) == 0
    assert not np.isfinite(rule.update(jnp.ones(2), rule.init(parameters))[0]).any()
