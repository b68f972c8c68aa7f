"""Oracles: Equinox's own cells step by step, the Minimal Gated Unit in NumPy, and the formula of every
mutation written out."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.families.language.cells import GRU, LSTM, SingleGate, TanhCell
from tightbound.families.language.contexts import Recurrent
from tightbound.nn.dropout import dropout_mask

NUM_INPUTS, SIZE, LENGTH = 3, 4, 5
INPUTS = jax.random.normal(jax.random.key(0), (LENGTH, NUM_INPUTS))
CELLS = [TanhCell, GRU, LSTM, SingleGate]


def make(kind, **settings):
    """A cell with no parameter at 0."""
    cell = kind(NUM_INPUTS, SIZE, key=jax.random.key(1), **settings)
    leaves, tree = jax.tree.flatten(cell)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    noisy = [leaf + jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


@eqx.filter_jit
def outputs(cell, **dropout):
    """What is read of every state."""
    return Recurrent(cell, None, key=jax.random.key(0))(INPUTS, **dropout)[0]


def library_step(cell):
    """One step of the library's cell, or of the formula where it has none."""
    if isinstance(cell, TanhCell):
        return lambda x, h: jnp.tanh(cell.from_input @ x + cell.from_state @ h + cell.bias)
    assert isinstance(cell, GRU | LSTM)
    return eqx.filter_jit(cell.cell)


@pytest.mark.parametrize("kind", [TanhCell, GRU, LSTM])
def test_a_cell_is_the_library_s_own(kind):
    """Oracle: Equinox's cell, one step after the other. Planted: with two biases or gates exchanged the
    difference is far beyond rounding (the library's parameters in another order)."""
    cell = make(kind)
    step, state, read = library_step(cell), cell.init(), []
    for x in INPUTS:
        state = step(x, state)
        read.append(state[0] if kind is LSTM else state)
    assert_allclose(outputs(cell), read, rtol=1e-12)
    if kind is not TanhCell:
        exchanged = jnp.roll(cell.cell.weight_ih, SIZE, axis=0)
        wrong = eqx.tree_at(lambda cell: cell.cell.weight_ih, cell, exchanged)
        assert np.abs(outputs(wrong) - np.array(read)).max() > 1e-2


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def minimal_gated_unit(cell, *, second_gate=False):
    """Zhou et al. 2016, eq. 6, in NumPy; the planted bug resets by a gate without input."""
    w_f, u_f, b_f, w, u, b = (
        np.asarray(leaf)
        for leaf in (
            cell.input_to_gate,
            cell.state_to_gate,
            cell.gate_bias,
            cell.input_to_candidate,
            cell.state_to_candidate,
            cell.candidate_bias,
        )
    )
    h, states = np.zeros(SIZE), []
    for x in np.asarray(INPUTS):
        f = sigmoid(w_f @ x + u_f @ h + b_f)
        reset = sigmoid(u_f @ h + b_f) if second_gate else f
        h = (1 - f) * h + f * np.tanh(w @ x + u @ (reset * h) + b)
        states.append(h)
    return np.array(states)


def test_the_single_gate_unit_without_mutations_is_the_minimal_gated_unit():
    """Oracle: the paper's equations. Planted: a unit with a second gate, as the GRU has."""
    cell = make(SingleGate)
    assert_allclose(outputs(cell), minimal_gated_unit(cell), rtol=1e-12)
    assert np.abs(outputs(cell) - minimal_gated_unit(cell, second_gate=True)).max() > 1e-2


def next_state(cell, m, x, h):
    """h' with the terms that m switches on, in NumPy."""
    part = jax.tree.map(np.asarray, cell)
    f = sigmoid(
        m[0] * (part.input_to_gate @ x) + m[1] * (part.state_to_gate @ h) + m[2] * part.gate_bias
    )
    c = np.tanh(
        m[3] * (part.input_to_candidate @ x)
        + m[4] * (part.state_to_candidate @ (h * f))
        + m[5] * part.candidate_bias
    )
    return m[6] * (1 - f) * h + m[7] * f * c


REMOVED = {
    0: "input_to_gate",
    1: "state_to_gate",
    2: "gate_bias",
    3: "input_to_candidate",
    4: "state_to_candidate",
    5: "candidate_bias",
}


@pytest.mark.parametrize("index", range(8))
def test_every_mutation_of_the_single_gate_unit_removes_its_term_and_no_other(index):
    """Oracle: the formula with one factor 0; with all at 1 (planted: a mutation ignored) or another at 0
    (planted: the wrong one) it does not fit. Its parameter has no gradient, every other has."""
    cell = make(SingleGate, mutations=(index,))
    x, h = np.asarray(INPUTS[0]), np.array([0.3, -0.5, 0.7, 0.2])

    @eqx.filter_jit
    def step(cell):
        projected = jax.tree.map(lambda leaf: leaf[0], cell.project(INPUTS))
        return cell.step(jnp.asarray(h), projected)

    found = step(cell)
    for other in (*range(8), None):
        m = [float(i != other) for i in range(8)]
        agrees = np.allclose(found, next_state(cell, m, x, h), rtol=1e-12)
        assert agrees == (other == index)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda cell: step(cell).sum()))(cell)
    candidate = {"input_to_candidate", "state_to_candidate", "candidate_bias"}
    idle = {REMOVED[index]} if index in REMOVED else candidate if index == 7 else set()
    for name in REMOVED.values():
        assert np.any(np.asarray(getattr(gradient, name)) != 0) == (name not in idle)


@pytest.mark.parametrize("kind", CELLS)
def test_dropout_of_the_state_has_one_mask_for_all_steps(kind):
    """Oracle: stepping by hand with the mask that the key gives; of an LSTM's state only what is read is
    dropped. Planted: a mask for every step."""
    cell, key = make(kind), jax.random.key(5)
    one = dropout_mask(0.5, (SIZE,), key)
    fresh = [dropout_mask(0.5, (SIZE,), k) for k in jax.random.split(key, LENGTH)]
    step = eqx.filter_jit(cell.step)

    def by_hand(masks):
        state, read = cell.init(), []
        for t, mask in enumerate(masks):
            state = (state[0] * mask, state[1]) if kind is LSTM else state * mask
            state = step(state, jax.tree.map(lambda leaf: leaf[t], cell.project(INPUTS)))  # noqa: B023
            read.append(cell.read(state))
        return np.array(read)

    found = outputs(cell, state_dropout=0.5, key=key)
    assert_allclose(found, by_hand([one] * LENGTH), rtol=1e-12)
    assert np.abs(found - by_hand(fresh)).max() > 1e-2
    assert_allclose(
        outputs(cell, state_dropout=0.5), by_hand([jnp.ones(SIZE)] * LENGTH), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("mutations", "message"),
    [
        ((8,), r"The mutations \[8\] were asked for, .* 0 to 7, each once. Leave out 8."),
        ((-1,), "Leave out -1."),
        ((3, 3), "Leave out what comes twice."),
    ],
)
def test_mutations_that_a_cell_does_not_have_are_refused(mutations, message):
    with pytest.raises(ValueError, match=message):
        SingleGate(2, 2, mutations=mutations, key=jax.random.key(0))
