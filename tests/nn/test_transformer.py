"""Attention by hand in NumPy, and blocks whole against step by step."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.nn.transformer import Attention, Block, KeyValue, sinusoids

SIZE, HEADS, POSITIONS, SLOTS = 6, 2, 5, 4


def block(**settings):
    settings = {"attends_to_source": True} | settings
    return Block(SIZE, HEADS, 7, key=jax.random.key(0), **settings)


@pytest.fixture(scope="module")
def states():
    return jax.random.normal(jax.random.key(1), (POSITIONS, SIZE))


@pytest.fixture(scope="module")
def source():
    """Keys and values of four slots, the last of them padding."""
    entries = jax.random.normal(jax.random.key(2), (2, SLOTS, HEADS, SIZE // HEADS))
    return KeyValue(*entries), jnp.array([True, True, True, False])


CAUSAL = jnp.tri(POSITIONS, dtype=bool)


def attention_by_hand(attention, states, keys, values, mask):
    """softmax(q k / sqrt(d)) v, position by position and head by head."""
    part = SIZE // HEADS
    query = states @ np.asarray(attention.query.weight).T
    rows = []
    for i in range(len(states)):
        heads = []
        for h in range(HEADS):
            slots = np.flatnonzero(mask[i])
            logits = [query[i, h * part : (h + 1) * part] @ keys[s, h] for s in slots]
            weights = np.exp(np.array(logits) / np.sqrt(part))
            heads.append(
                sum(w * values[s, h] for w, s in zip(weights, slots, strict=True)) / weights.sum()
            )
        rows.append(np.asarray(attention.output.weight) @ np.concatenate(heads))
    return np.array(rows)


def test_attention_is_that_of_the_formula(states):
    """Oracle: loops in NumPy, in 64 bits, under a causal mask and one with a gap."""
    attention = Attention(SIZE, HEADS, key=jax.random.key(3))
    read = attention.read(states)
    gap = CAUSAL & (jnp.arange(POSITIONS) != 1)[None]
    for mask in (CAUSAL, gap | jnp.eye(POSITIONS, dtype=bool)):
        found = eqx.filter_jit(attention)(states, read, mask)
        arrays = (states, read.key, read.value, mask)
        expected = attention_by_hand(attention, *map(np.asarray, arrays))
        assert_allclose(found, expected, rtol=1e-12)
    part = (np.asarray(states) @ np.asarray(attention.key.weight).T).reshape(
        -1, HEADS, SIZE // HEADS
    )
    assert_allclose(read.key, part, rtol=1e-12)


def test_a_softmax_in_32_bits_would_show(states):
    """The oracle above must fail for attention whose weights are rounded on the way."""
    attention = Attention(SIZE, HEADS, key=jax.random.key(3))
    read = attention.read(states)
    query = jax.vmap(attention.query)(states).reshape(1, POSITIONS, HEADS, -1)
    rounded = jax.nn.dot_product_attention(
        query, read.key[None], read.value[None], mask=CAUSAL[None, None]
    )
    found = jax.vmap(attention.output)(rounded.reshape(POSITIONS, SIZE))
    expected = attention_by_hand(
        attention, *map(np.asarray, (states, read.key, read.value, CAUSAL))
    )
    assert 1e-9 < np.abs(found - expected).max() < 1e-6


def step_by_step(block, states, source, mask):
    """The block's output position by position, from an empty cache of one slot too many."""
    zeros = jnp.zeros((POSITIONS + 1, HEADS, SIZE // HEADS))

    def one(cache, inputs):
        position, state = inputs
        state, cache = block.step(state, cache, position, source, mask)
        return cache, state

    return jax.lax.scan(one, KeyValue(zeros, zeros), (jnp.arange(POSITIONS), states))[1]


@pytest.mark.parametrize("norm_place", ["pre", "post"])
def test_step_by_step_with_a_cache_is_the_whole_pass(states, source, norm_place):
    """Identity, under a causal mask; a cache read one slot too far is not it."""
    decoder = block(norm_place=norm_place)
    whole = eqx.filter_jit(decoder)(states, CAUSAL, *source)
    found = eqx.filter_jit(step_by_step)(decoder, states, *source)
    assert_allclose(found, whole, rtol=1e-10)
    ahead = eqx.filter_jit(decoder)(states, CAUSAL | jnp.eye(POSITIONS, k=1, dtype=bool), *source)
    assert (np.abs(ahead - whole)[:-1].max(1) > 1e-3).all()


@pytest.mark.parametrize("norm_place", ["pre", "post"])
def test_what_the_masks_hide_changes_nothing(states, source, norm_place):
    """Law: NaN-free values of any size in hidden positions and slots, and the gradient to them is 0."""
    decoder = block(norm_place=norm_place)
    read, seen = source
    seen_row = jnp.broadcast_to(jnp.arange(POSITIONS) < 3, (POSITIONS, POSITIONS))

    @eqx.filter_jit
    def run(states, read):
        return decoder(states, seen_row, read, seen)[:3]

    changed = KeyValue(read.key.at[3].set(50.0), read.value.at[3].set(-9.0))
    assert_array_equal(run(states.at[3:].set(7.0), changed), run(states, read))
    gradient = jax.grad(lambda states: run(states, read).sum() + (run(states, read) ** 2).sum())(
        states
    )
    assert_array_equal(gradient[3:], jnp.zeros((2, SIZE)))
    assert (run(states.at[2].set(7.0), read)[:2] != run(states, read)[:2]).any()


def test_norms_stand_where_they_are_meant_to(states):
    """Oracle: x + f(norm(x)) and norm(x + f(x)) written out, for an encoder's two branches."""
    mask = jnp.ones((POSITIONS, POSITIONS), bool)
    for place in ("pre", "post"):
        encoder = block(attends_to_source=False, norm_place=place)
        first, last = (jax.vmap(norm) for norm in encoder.norms)

        def attend(x, encoder=encoder):
            return encoder.self_attention(x, encoder.self_attention.read(x), mask)

        def perceptron(x, encoder=encoder):
            return jax.vmap(encoder.narrow)(jax.nn.relu(jax.vmap(encoder.widen)(x)))

        if place == "pre":
            middle = states + attend(first(states))
            expected = middle + perceptron(last(middle))
        else:
            middle = first(states + attend(states))
            expected = last(middle + perceptron(middle))
        assert_allclose(eqx.filter_jit(encoder)(states, mask), expected, rtol=1e-12)


def test_a_condition_says_nothing_at_first_and_something_once_learned(states):
    """Identity: the map of the condition is zero at first, so the block is the unconditioned one."""
    mask = jnp.ones((POSITIONS, POSITIONS), bool)
    plain = block(attends_to_source=False)
    adaptive = block(attends_to_source=False, condition_size=3)
    run = eqx.filter_jit(lambda block, condition: block(states, mask, condition=condition))
    one, other = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.0, 1.0, 1.0])
    assert_allclose(run(adaptive, one), run(plain, None), rtol=1e-12)
    learned = eqx.tree_at(lambda b: b.modulation.weight, adaptive, replace_fn=lambda w: w + 0.1)
    assert (np.abs(run(learned, one) - run(learned, other)).max(1) > 1e-3).all()


def test_dropout_needs_a_key_and_leaves_the_mean_alone(states, source):
    """Without a key nothing is dropped; with one, two keys differ."""
    decoder, careless = block(), block(dropout=0.5)
    run = eqx.filter_jit(lambda block, key: block(states, CAUSAL, *source, key=key))
    assert_array_equal(run(careless, None), run(decoder, None))
    assert_array_equal(run(decoder, jax.random.key(0)), run(decoder, None))
    assert (run(careless, jax.random.key(0)) != run(careless, jax.random.key(1))).any()


def test_position_signals_are_sines_and_cosines():
    """Oracle: the formula for single entries; each pair of columns has length one."""
    signals = np.asarray(sinusoids(9, 4))
    assert signals.shape == (9, 4)
    assert_allclose(signals[7], [np.sin(7), np.cos(7), np.sin(0.07), np.cos(0.07)], rtol=1e-12)
    assert_allclose((signals**2).mean(1), np.full(9, 0.5), rtol=1e-12)
    assert_array_equal(np.asarray(sinusoids(20, 4))[:9], signals)


def test_a_size_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="size of 6 cannot be shared among 4 heads; give a multip"):
        Attention(6, 4, key=jax.random.key(0))
