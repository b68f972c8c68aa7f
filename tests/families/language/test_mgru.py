"""Oracles: the formula of every mutation in NumPy, written out one by one, and the single-gate unit that
the unit without mutations is."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.families.language.cells import SingleGate
from tightbound.families.language.contexts import Recurrent
from tightbound.families.language.mgru import MGRU

NUM_INPUTS, SIZE, LENGTH = 3, 6, 5
INPUTS = 2 * jax.random.normal(jax.random.key(0), (LENGTH, NUM_INPUTS))


def make(mutations):
    cell = MGRU(
        NUM_INPUTS, SIZE, mutations=mutations, num_positions=LENGTH + 1, key=jax.random.key(1)
    )
    cell = eqx.tree_at(lambda cell: cell.from_state, cell, 4 * cell.from_state)
    if 10 in mutations:
        prior = jax.random.normal(jax.random.key(2), (LENGTH + 1,))
        cell = eqx.tree_at(lambda cell: cell.distance_logits, cell, prior)
    if 11 in mutations:
        cell = eqx.tree_at(lambda cell: cell.bilinear, cell, 10 * cell.bilinear)
    return cell


@eqx.filter_jit
def outputs(cell, inputs=INPUTS):
    """What is read of every state."""
    return Recurrent(cell, None, key=jax.random.key(0))(inputs)[0]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def half_log_odds(h):
    return np.log(h / (1 - h)) / 2


# (gate's argument of h, next state of (f, h, a, W x), output of h); a is the carried state.
FORMULAS = {
    (): (lambda h: h, lambda f, h, a, wx: (1 - f) * h + f * np.tanh(wx), lambda h: h),
    (0,): (lambda h: 0 * h, lambda f, h, a, wx: (h + np.tanh(wx)) / 2, lambda h: h),
    (1,): (lambda h: h, lambda f, h, a, wx: (1 - f) * h, lambda h: h),
    (2,): (lambda h: h, lambda f, h, a, wx: f * np.tanh(wx), lambda h: h),
    (3,): (lambda h: h, lambda f, h, a, wx: (1 - f) * h, lambda h: h),
    (4,): (lambda h: h, lambda f, h, a, wx: (1 - f) * h + f * sigmoid(wx), lambda h: h),
    (1, 4): (lambda h: h, lambda f, h, a, wx: (1 - f) * h + f / 2, lambda h: h),
    (5,): (lambda h: h, lambda f, h, a, wx: h + f * np.tanh(wx), lambda h: h),
    (2, 5): (lambda h: h, lambda f, h, a, wx: f * (h + np.tanh(wx)), lambda h: h),
    (6,): (
        lambda h: h - 0.5,
        lambda f, h, a, wx: (1 - f) * h + f * np.tanh(wx),
        lambda h: h - 0.5,
    ),
    (4, 6): (
        lambda h: h - 0.5,
        lambda f, h, a, wx: (1 - f) * h + f * sigmoid(wx),
        lambda h: h - 0.5,
    ),
    (4, 6, 7): (
        lambda h: h,
        lambda f, h, a, wx: (1 - f) * h + f * sigmoid(wx),
        lambda h: h - 0.5,
    ),
    (4, 6, 8): (
        lambda h: h - 0.5,
        lambda f, h, a, wx: (1 - f) * h + f * sigmoid(wx),
        lambda h: h,
    ),
    (4, 6, 9): (
        half_log_odds,
        lambda f, h, a, wx: (1 - f) * h + f * sigmoid(wx),
        half_log_odds,
    ),
    (10,): (lambda h: h, lambda f, h, a, wx: (1 - f) * a + f * np.tanh(wx), lambda h: h),
    (4, 6, 10): (
        lambda h: h - 0.5,
        lambda f, h, a, wx: (1 - f) * a + f * sigmoid(wx),
        lambda h: h - 0.5,
    ),
    (4, 6, 11): (
        lambda h: h - 0.5,
        lambda f, h, a, wx: (1 - f) * a + f * sigmoid(wx),
        lambda h: h - 0.5,
    ),
    (10, 11): (lambda h: h, lambda f, h, a, wx: (1 - f) * a + f * np.tanh(wx), lambda h: h),
}


def carried(cell, states, without_present=False):
    """a of all states so far, entry by entry; with the bug of leaving out the present one."""
    past = states[:-1] if without_present and len(states) > 1 else states
    mean = np.zeros(SIZE)
    for d in range(SIZE):
        logits = np.zeros(len(past))
        for j, state in enumerate(past):
            if cell.distance_logits is not None:
                logits[j] += cell.distance_logits[len(states) - 1 - j]
            if cell.bilinear is not None:
                head = 4 * d // SIZE
                logits[j] += states[-1] @ np.asarray(cell.bilinear[head]) @ state
        weights = np.exp(logits) / np.exp(logits).sum()
        mean[d] = sum(w * state[d] for w, state in zip(weights, past, strict=True))
    return mean


def by_hand(cell, formula, **bug):
    seen, following, output = formula
    states, read = [np.full(SIZE, 0.5 if 6 in cell.mutations else 0.0)], []
    for x in np.asarray(INPUTS):
        h = states[-1]
        f = sigmoid(np.asarray(cell.from_state) @ seen(h))
        states.append(
            following(f, h, carried(cell, states, **bug), np.asarray(cell.from_input) @ x)
        )
        read.append(output(states[-1]))
    return np.array(read)


@pytest.mark.parametrize("mutations", FORMULAS)
def test_every_mutation_is_its_formula(mutations):
    """Oracle: the formula of the table, step by step in NumPy. Planted: without the mutations that are
    asked for, nothing fits."""
    cell = make(mutations)
    found = outputs(cell)
    assert_allclose(found, by_hand(cell, FORMULAS[mutations]), rtol=1e-12, atol=1e-14)
    if mutations:
        assert np.abs(found - by_hand(cell, FORMULAS[()])).max() > 1e-3


def test_a_carry_without_the_present_state_is_told_from_one_with_it():
    """Planted: attention over the states before the present one only."""
    cell = make((4, 6, 10))
    wrong = by_hand(cell, FORMULAS[4, 6, 10], without_present=True)
    assert np.abs(outputs(cell) - wrong).max() > 1e-3


def test_without_mutations_it_is_the_single_gate_unit_with_four():
    """Identity: mutations 0, 2, 4 and 5 of the single-gate unit take away what this one never had."""
    cell = make(())
    host = SingleGate(NUM_INPUTS, SIZE, mutations=(0, 2, 4, 5), key=jax.random.key(3))
    host = eqx.tree_at(
        lambda host: (host.state_to_gate, host.input_to_candidate),
        host,
        (cell.from_state, cell.from_input),
    )
    assert_allclose(outputs(cell), outputs(host), rtol=1e-12)


@pytest.mark.parametrize("mutations", [(4, 6), (4, 6, 10), (4, 6, 11)])
def test_a_mixture_of_bernoulli_means_stays_a_mean(mutations):
    """Identity: means of means lie between 0 and 1, and as read between -1/2 and 1/2. Planted: with
    nothing forgotten (5) the state leaves them."""
    inputs = 100 * INPUTS
    assert np.abs(outputs(make(mutations), inputs)).max() <= 0.5
    assert np.abs(outputs(make((*mutations, 5)), inputs)).max() > 0.5


def test_log_odds_of_a_saturated_state_are_finite():
    """Closed form: arctanh at the edge that is kept, for a state of exactly 1."""
    cell = make((2, 4, 6, 9))
    assert_allclose(cell.read(jnp.ones(SIZE)), np.full(SIZE, np.arctanh(1 - 2e-6)), rtol=1e-9)


def test_what_is_remembered_is_not_learned():
    """Shapes: a start is learned, the room for states to come is not."""
    context = Recurrent(make((10,)), 2, key=jax.random.key(4))
    assert context.starts.shape == (2, SIZE)
    run = eqx.filter_jit(lambda context: context(INPUTS))
    runs = run(context)
    one = eqx.tree_at(lambda context: context.starts, context, context.starts[1:])
    assert_allclose(runs[1], run(one)[0], rtol=1e-13)
    assert np.abs(runs[0] - runs[1]).max() > 1e-3


def test_dropout_of_the_state_reaches_what_is_remembered_too():
    """Closed form: with all of the state dropped, all that is remembered is 0 and 2 and 10 agree."""
    cell, nothing = make((10,)), jnp.zeros(SIZE)
    candidate = cell.project(INPUTS)[0]
    state = cell.begin(jnp.ones(SIZE))
    step = jax.jit(lambda state: cell.step(cell.masked(state, nothing), candidate))
    for _ in range(2):
        state = step(state)
    assert_allclose(cell.read(state), candidate / 2, rtol=1e-13)
    assert_array_equal(state.past, jnp.zeros_like(state.past))
    bare = make(())
    assert_array_equal(bare.masked(jnp.ones(SIZE), nothing), nothing)


@pytest.mark.parametrize(
    ("mutations", "message"),
    [
        ((7,), "Mutation 7 changes what mutation 6 centres, .* Add 6, or leave out 7."),
        ((4, 8), "Mutation 8 changes what mutation 6 centres"),
        ((4, 9), "Mutation 9 changes what mutation 6 centres"),
        ((6, 9), "Mutation 9 reads the state as probabilities, which takes 4 and rules out 5"),
        ((4, 5, 6, 9), "Mutation 9 reads the state as probabilities"),
        ((12,), "this cell has those from 0 to 11"),
    ],
)
def test_mutations_without_meaning_are_refused(mutations, message):
    with pytest.raises(ValueError, match=message):
        make(mutations)


def test_more_steps_than_it_remembers_are_refused():
    cell = make((10,))
    with pytest.raises(ValueError, match=r"A sequence of 7 steps came, but the cell remembers 6."):
        cell.project(jnp.zeros((LENGTH + 2, NUM_INPUTS)))
