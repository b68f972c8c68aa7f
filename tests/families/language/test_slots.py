"""Oracles: enumeration of every chain of positions in plain Python, formulas in NumPy, and for the
network over slots Equinox's own cell on the enumerated means."""

import itertools
from math import exp

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.families.language.emissions import MatrixEmission
from tightbound.families.language.slots import SlotChain, Slots

NUM_SLOTS, NUM_FEATURES, NUM_CLASSES, LENGTH, NUM_STATES = 3, 2, 3, 4, 2
CONTEXTS = jax.random.normal(jax.random.key(0), (LENGTH, NUM_FEATURES))
TABLE = jnp.zeros((NUM_CLASSES, 1))
AFFINITIES = ["linear", "log-softmax", "states", "log-softmax-states"]


@eqx.filter_jit
def log_probs(structure, contexts):
    """log p of every class at every position."""
    positions, asked = jnp.arange(len(contexts)), jnp.arange(NUM_CLASSES)
    return jax.vmap(lambda i: structure.log_probs(contexts, i, asked, TABLE))(positions)


def softmax(logits, axis=-1):
    weights = np.exp(np.asarray(logits))
    return weights / weights.sum(axis, keepdims=True)


def emit(emission, features):
    """p(class | features) of a `MatrixEmission`."""
    return softmax(np.asarray(emission.matrix) @ features + np.asarray(emission.bias))


def make_slots():
    emission_key, slots_key, prior_key = jax.random.split(jax.random.key(1), 3)
    emission = MatrixEmission(NUM_SLOTS * NUM_FEATURES, NUM_CLASSES, key=emission_key)
    slots = Slots(NUM_FEATURES, LENGTH + 1, emission, num_slots=NUM_SLOTS, key=slots_key)
    prior = jax.random.normal(prior_key, slots.distance_logits.shape)
    return eqx.tree_at(lambda slots: slots.distance_logits, slots, prior)


def slots_by_hand(slots, position, num_seen=None):
    """p(class) at a position; `num_seen` plants the bug of more inputs than there were."""
    seen = range(position + 1 if num_seen is None else num_seen)
    contexts, address = np.asarray(CONTEXTS), np.asarray(slots.address)
    taken = []
    for m in range(NUM_SLOTS):
        prior = [float(slots.distance_logits[max(position - j, 0), m]) for j in seen]
        weights = softmax([p + address[m] @ contexts[j] for p, j in zip(prior, seen, strict=True)])
        taken.append(sum(w * contexts[j] for w, j in zip(weights, seen, strict=True)))
    return emit(slots.emission, np.concatenate(taken))


def make_chain(affinity="linear", reads="last"):
    emission_key, chain_key = jax.random.split(jax.random.key(2))
    chain = SlotChain(
        NUM_FEATURES,
        MatrixEmission(NUM_FEATURES, NUM_CLASSES, key=emission_key),
        num_slots=NUM_SLOTS,
        affinity=affinity,
        reads=reads,
        num_states=NUM_STATES,
        key=chain_key,
    )
    return eqx.tree_at(lambda chain: chain.moves, chain, jnp.array([1.5, -1.0, 0.3]))


def affinities(chain):
    """Of every word and slot, by the four formulas."""
    contexts, slots = np.asarray(CONTEXTS), np.asarray(chain.affinity.slots)
    table = np.zeros((LENGTH, NUM_SLOTS))
    for j, m in itertools.product(range(LENGTH), range(NUM_SLOTS)):
        match chain.affinity.kind:
            case "linear":
                table[j, m] = slots[m] @ contexts[j]
            case "log-softmax":
                table[j, m] = np.log(softmax(slots @ contexts[j])[m])
            case "states":
                state = softmax(np.asarray(chain.affinity.states) @ contexts[j])
                table[j, m] = np.log(softmax(slots[m]) @ state)
            case "log-softmax-states":
                state = softmax(np.asarray(chain.affinity.states) @ contexts[j])
                table[j, m] = np.log(softmax(slots @ state)[m])
    return table


def enumerated_marginals(chain, position, *, forward_moves=False, every_move=False):
    """P(j_m = j) by every chain j_1 .. j_N; with a bug planted, if asked for."""
    table, (one_back, stay, elsewhere) = affinities(chain), (float(w) for w in chain.moves)

    def move(a, b):
        back = b - a if forward_moves else a - b
        return one_back if back == 1 else stay if back == 0 else elsewhere

    def log_step(a, b, m):
        factor = lambda b: move(a, b) + table[b, m]  # noqa: E731
        if every_move:  # normalised at every move, as a hidden Markov model would be
            return factor(b) - np.log(sum(exp(factor(c)) for c in range(position + 1)))
        return factor(b)

    marginals = np.zeros((NUM_SLOTS, LENGTH))
    for places in itertools.product(range(position + 1), repeat=NUM_SLOTS):
        moves = itertools.pairwise((position, *places))
        weight = exp(sum(log_step(a, b, m) for m, (a, b) in enumerate(moves)))
        for m, place in enumerate(places):
            marginals[m, place] += weight
    return marginals / marginals.sum(1, keepdims=True)


def enumerated_last(chain, position, **bug):
    marginals = enumerated_marginals(chain, position, **bug)[-1]
    return sum(
        p * emit(chain.emission, np.asarray(c)) for p, c in zip(marginals, CONTEXTS, strict=True)
    )


def test_slots_read_the_means_of_the_inputs_so_far():
    """Oracle: the formula, slot by slot. Planted: a softmax over inputs to come is far off."""
    slots = make_slots()
    found = np.exp(log_probs(slots, CONTEXTS))
    assert_allclose(found, [slots_by_hand(slots, i) for i in range(LENGTH)], rtol=1e-12)
    wrong = [slots_by_hand(slots, i, num_seen=LENGTH) for i in range(LENGTH)]
    assert np.abs(found - wrong).max() > 1e-2


def test_the_prior_of_every_slot_sums_to_one_over_the_past_and_is_nothing_after_it():
    """Identity. Five positions, the sequence being shorter by one."""
    prior = np.exp(jax.vmap(make_slots().log_prior)(jnp.arange(LENGTH + 1)))
    assert_allclose(prior.sum(1), np.ones((LENGTH + 1, NUM_SLOTS)), rtol=1e-12)
    assert all((prior[i, i + 1 :] == 0).all() for i in range(LENGTH + 1))


def test_slots_take_the_mean_inside_the_emission():
    """Enumeration of every (j_1, .., j_N), each choice a slot's own, averages the emission instead and
    is another distribution: the model is not that sum, and says so."""
    slots, last = make_slots(), LENGTH - 1
    weights = np.asarray(slots.weights(CONTEXTS, jnp.array(last)))
    p = np.zeros(NUM_CLASSES)
    for places in itertools.product(range(LENGTH), repeat=NUM_SLOTS):
        features = np.concatenate([np.asarray(CONTEXTS[j]) for j in places])
        weight = np.prod([weights[j, m] for m, j in enumerate(places)])
        p += weight * emit(slots.emission, features)
    assert_allclose(p.sum(), 1.0, rtol=1e-12)
    assert np.abs(np.exp(log_probs(slots, CONTEXTS)[last]) - p).max() > 1e-3


@pytest.mark.parametrize("affinity", AFFINITIES)
def test_a_slot_chain_is_the_sum_over_every_chain_of_positions(affinity):
    """Oracle: enumeration of (j_1, .., j_N) in 0..i, of which the emission reads the last."""
    chain = make_chain(affinity)
    expected = [enumerated_last(chain, i) for i in range(LENGTH)]
    assert_allclose(np.exp(log_probs(chain, CONTEXTS)), expected, rtol=1e-12)


@pytest.mark.parametrize("bug", ["forward_moves", "every_move"])
def test_enumeration_tells_a_slot_chain_from_its_planted_bugs(bug):
    """Planted: moves in the wrong direction, or normalised one by one instead of as a chain."""
    chain = make_chain()
    chain = eqx.tree_at(lambda chain: chain.affinity.slots, chain, 3 * chain.affinity.slots)
    wrong = [enumerated_last(chain, i, **{bug: True}) for i in range(LENGTH)]
    found = np.exp(log_probs(chain, CONTEXTS))
    assert_allclose(found, [enumerated_last(chain, i) for i in range(LENGTH)], rtol=1e-12)
    assert np.abs(found - wrong).max() > 1e-2


def test_forward_backward_gives_the_marginals_of_every_slot():
    """Oracle: enumeration."""
    chain = make_chain("states")
    found = jax.jit(jax.vmap(lambda i: chain.marginals(CONTEXTS, i)))(jnp.arange(LENGTH))
    expected = [enumerated_marginals(chain, i) for i in range(LENGTH)]
    assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_an_lstm_reads_the_expected_words_of_the_slots_in_order():
    """Oracle: enumerated marginals, and Equinox's cell stepped by hand. Planted: the slots in reverse."""
    chain = make_chain(reads="lstm")

    def by_hand(position, order):
        expected = enumerated_marginals(chain, position) @ np.asarray(CONTEXTS)
        state = jnp.zeros(NUM_FEATURES), jnp.zeros(NUM_FEATURES)
        for word in expected[::order]:
            state = chain.reader(jnp.asarray(word), state)
        return emit(chain.emission, np.asarray(state[0]))

    found = np.exp(log_probs(chain, CONTEXTS))
    assert_allclose(found, [by_hand(i, 1) for i in range(LENGTH)], rtol=1e-12)
    assert np.abs(found - [by_hand(i, -1) for i in range(LENGTH)]).max() > 1e-4


@pytest.mark.parametrize("make", [make_slots, make_chain, lambda: make_chain("states", "lstm")])
def test_inputs_to_come_change_nothing_and_gradients_are_finite(make):
    """Identity, bit for bit. The first position has one input only, and everything else forbidden."""
    structure = make()
    changed = CONTEXTS.at[2:].add(5.0)
    found, others = log_probs(structure, CONTEXTS), log_probs(structure, changed)
    assert (found[:2] == others[:2]).all()
    assert (found[2:] != others[2:]).any()
    gradient = eqx.filter_grad(lambda s: log_probs(s, CONTEXTS)[:, 0].sum())(structure)
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in leaves)


def test_no_slots_are_refused():
    emission = make_chain().emission
    with pytest.raises(ValueError, match=r"0 slots were asked for; give at least 1."):
        Slots(NUM_FEATURES, LENGTH, emission, num_slots=0, key=jax.random.key(0))
