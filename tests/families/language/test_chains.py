"""Oracles: enumeration of every path of states in plain Python, and the mixture that a chain becomes
where its transition does nothing."""

import itertools
from math import exp, log

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.families.language.chains import LocalHMM, WordChain
from tightbound.families.language.emissions import Components, MixtureEmission

NUM_STATES, NUM_FEATURES, NUM_CLASSES, LENGTH = 3, 2, 3, 4
CONTEXTS = jax.random.normal(jax.random.key(0), (LENGTH, NUM_FEATURES))
TABLE = jax.random.normal(jax.random.key(1), (NUM_CLASSES, 2))
COMPONENTS = Components("free", NUM_STATES, 2, NUM_CLASSES, key=jax.random.key(2))
EMITTED = np.asarray(jax.nn.softmax(COMPONENTS.vectors, axis=-1))  # P(class | state)


@eqx.filter_jit
def log_probs(structure, contexts):
    """log p of every class at every position."""
    positions, asked = jnp.arange(len(contexts)), jnp.arange(NUM_CLASSES)
    return jax.vmap(lambda i: structure.log_probs(contexts, i, asked, TABLE))(positions)


def make_word_chain(num_words):
    chain = WordChain(NUM_FEATURES, COMPONENTS, num_words=num_words, key=jax.random.key(3))
    bias = jax.random.normal(jax.random.key(4), chain.bias.shape)
    return eqx.tree_at(lambda chain: chain.bias, chain, bias)


def enumerated_hmm(model, context, transposed=False):
    """p(class | context), path by path."""
    state_logits = np.asarray(model.weights) @ np.asarray(context) + np.asarray(model.weight_bias)
    state = np.exp(state_logits) / np.exp(state_logits).sum()
    rows = np.exp(np.asarray(model.transition_logits))
    rows = rows / rows.sum(1, keepdims=True)
    rows = rows.T if transposed else rows
    p = np.zeros(NUM_CLASSES)
    for before, after in itertools.product(range(NUM_STATES), repeat=2):
        p += state[before] * rows[before, after] * EMITTED[after]
    return p


def enumerated_chain(model, contexts, position, *, step_by_step=False, newest_first=False):
    """p(class | words), path by path; with a bug planted, if asked for."""
    words = [position - back for back in range(model.num_words)]
    words = words if newest_first else words[::-1]
    psi = []
    for word in words:
        context = np.asarray(contexts)[word] if word >= 0 else np.zeros(NUM_FEATURES)
        psi.append(np.asarray(model.weights) @ context + np.asarray(model.bias))
    if step_by_step:  # as a hidden Markov model would be
        psi = [table - np.log(np.exp(table).sum(1, keepdims=True)) for table in psi]
    total, p = 0.0, np.zeros(NUM_CLASSES)
    for path in itertools.product(range(NUM_STATES), repeat=model.num_words + 1):
        weight = exp(
            sum(table[a, b] for table, (a, b) in zip(psi, itertools.pairwise(path), strict=True))
        )
        total += weight
        p += weight * EMITTED[path[-1]]
    return p / total


def test_a_local_hmm_is_the_sum_over_both_states():
    """Oracle: enumeration. Planted: the transition read from the column to the row is far off."""
    model = LocalHMM(NUM_FEATURES, COMPONENTS, key=jax.random.key(5))
    found = np.exp(log_probs(model, CONTEXTS))
    assert_allclose(found, [enumerated_hmm(model, c) for c in CONTEXTS], rtol=1e-12)
    wrong = np.array([enumerated_hmm(model, c, transposed=True) for c in CONTEXTS])
    assert np.abs(found - wrong).max() > 1e-2


def test_a_local_hmm_that_stays_where_it_is_is_a_mixture():
    """Identity: T = I leaves sum_z P(z | c) P(s | z)."""
    model = LocalHMM(NUM_FEATURES, COMPONENTS, key=jax.random.key(5))
    mixture = MixtureEmission(NUM_FEATURES, COMPONENTS, key=jax.random.key(6))
    mixture = eqx.tree_at(lambda m: m.weights, mixture, model.weights)
    staying = eqx.tree_at(lambda m: m.transition_logits, model, 1e4 * jnp.eye(NUM_STATES))
    asked = jnp.arange(NUM_CLASSES)
    expected = [mixture.log_probs(c, asked, TABLE) for c in CONTEXTS]
    assert_allclose(log_probs(staying, CONTEXTS), expected, rtol=1e-12)


def test_a_state_of_probability_zero_leaves_the_gradient_finite():
    """Two of three states underflow: the logarithm of their probability has no finite slope."""
    model = LocalHMM(NUM_FEATURES, COMPONENTS, key=jax.random.key(5))
    bias = jnp.array([0.0, -1e5, -1e5])
    model = eqx.tree_at(
        lambda m: (m.weight_bias, m.transition_logits), model, (bias, 1e4 * jnp.eye(NUM_STATES))
    )
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: log_probs(m, CONTEXTS).sum()))(model)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("num_words", [1, 2, 3])
def test_a_word_chain_is_the_sum_over_every_path_of_states(num_words):
    """Oracle: enumeration, with zeros for the words before the first."""
    model = make_word_chain(num_words)
    expected = [enumerated_chain(model, CONTEXTS, i) for i in range(LENGTH)]
    assert_allclose(np.exp(log_probs(model, CONTEXTS)), expected, rtol=1e-12)


@pytest.mark.parametrize("bug", ["step_by_step", "newest_first"])
def test_enumeration_tells_a_word_chain_from_its_planted_bugs(bug):
    """Planted: normalised word by word, or the words in the wrong order."""
    model = make_word_chain(2)
    wrong = [enumerated_chain(model, CONTEXTS, i, **{bug: True}) for i in range(LENGTH)]
    assert np.abs(np.exp(log_probs(model, CONTEXTS)) - wrong).max() > 1e-2


def test_words_to_come_and_words_further_back_leave_a_word_chain_alone():
    """Identity, bit for bit: position 2 of a chain over two words reads contexts 1 and 2."""
    model = make_word_chain(2)
    found = log_probs(model, CONTEXTS)
    others = log_probs(model, CONTEXTS.at[jnp.array([0, 3])].add(1.0))
    assert (found[2] == others[2]).all()
    assert (found[3] != others[3]).any()


def test_a_word_chain_with_one_state_emits_that_state():
    """Closed form: whatever the words, the one component."""
    components = Components("free", 1, 2, NUM_CLASSES, key=jax.random.key(7))
    model = WordChain(NUM_FEATURES, components, num_words=2, key=jax.random.key(8))
    emitted = np.asarray(components.vectors[0])
    expected = emitted - log(np.exp(emitted).sum())
    assert_allclose(log_probs(model, CONTEXTS), np.tile(expected, (LENGTH, 1)), rtol=1e-12)


def test_a_word_chain_without_words_is_refused():
    with pytest.raises(ValueError, match=r"A chain over 0 words was asked for; give at least 1."):
        WordChain(NUM_FEATURES, COMPONENTS, num_words=0, key=jax.random.key(0))
