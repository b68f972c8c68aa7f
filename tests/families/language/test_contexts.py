"""Oracles: formulas in NumPy, a Transformer's forward pass written from its equations, and for learned
starts a run from each by hand and the mixture over whole sequences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.sequences import Sequence
from tightbound.families.language.cells import LSTM, TanhCell
from tightbound.families.language.contexts import GPT, Nothing, Recurrent, Window
from tightbound.families.language.emissions import MatrixEmission
from tightbound.families.language.model import LanguageModel
from tightbound.families.language.structure import Direct

SIZE, LENGTH = 4, 5
INPUTS = jax.random.normal(jax.random.key(0), (LENGTH, SIZE))


@eqx.filter_jit
def run(context, inputs=INPUTS):
    return context(inputs)


def test_no_context_is_the_same_everywhere():
    """Shape and value, by definition."""
    assert_array_equal(Nothing()(INPUTS), np.ones((1, LENGTH, 1)))


@pytest.mark.parametrize("decay", [False, True])
def test_a_window_has_the_last_words_newest_first_and_zeros_before_the_first(decay):
    """Oracle: word by word. Planted: without the newest word, the bug of the first study, it differs."""
    window, inputs = Window(SIZE, 3, decay=decay), np.asarray(INPUTS)

    def by_hand(first):
        rows = []
        for i in range(LENGTH):
            words = [inputs[i - k] if i >= k else np.zeros(SIZE) for k in range(first, first + 3)]
            rows.append(
                np.concatenate([w * 0.5 ** (k + 1) if decay else w for k, w in enumerate(words)])
            )
        return np.array(rows)

    found = window(INPUTS)
    assert window.size == 3 * SIZE
    assert_array_equal(found[0], by_hand(0))
    assert np.abs(found[0] - by_hand(1)).max() > 0.1


@pytest.mark.parametrize("kind", [TanhCell, LSTM])
@pytest.mark.parametrize("num_starts", [1, 3])
def test_every_learned_start_has_a_run_of_its_own(kind, num_starts):
    """Oracle: the cell stepped by hand from each start."""
    cell = kind(SIZE, SIZE, key=jax.random.key(1))
    context = Recurrent(cell, num_starts, key=jax.random.key(2))
    found = run(context)
    step, projected = eqx.filter_jit(cell.step), cell.project(INPUTS)
    assert found.shape == (num_starts, LENGTH, SIZE)
    for w in range(num_starts):
        state = jax.tree.map(lambda leaf: leaf[w], context.starts)  # noqa: B023
        for t in range(LENGTH):
            state = step(state, projected[t])
            assert_allclose(found[w, t], cell.read(state), rtol=1e-12)


def test_learned_starts_are_a_mixture_over_whole_sequences():
    """Oracle: log sum_w pi_w prod_t p(x_t | x_<t, w), in NumPy from the model's own log p of each start.
    Planted: a mixture token by token is another number."""
    keys = jax.random.split(jax.random.key(3), 4)
    cell = TanhCell(SIZE, SIZE, key=keys[0])
    model = LanguageModel(
        6,
        SIZE,
        Recurrent(cell, 3, key=keys[1]),
        Direct(MatrixEmission(SIZE, 4, key=keys[2])),
        num_positions=LENGTH,
        num_starts=3,
        key=keys[3],
    )
    logits = jnp.array([0.5, -1.0, 0.2])
    model = eqx.tree_at(
        lambda m: (m.start_logits, m.context.starts, m.structure.emission.matrix),
        model,
        (logits, 30 * model.context.starts, 5 * model.structure.emission.matrix),
    )
    x = Sequence(jnp.array([4, 5, 3, 5, 2]), jnp.ones(LENGTH, bool))

    @eqx.filter_jit
    def both(model):
        by_start = model.log_probs(model.contexts(x.values), x.values - 2)
        return model.score(x, jnp.zeros(0))["token"].sum(), by_start

    found, by_start = both(model)
    pi = np.exp(logits) / np.exp(logits).sum()
    assert_allclose(found, np.log(pi @ np.exp(np.asarray(by_start).sum(1))), rtol=1e-12)
    assert np.abs(found - np.log(pi @ np.exp(np.asarray(by_start))).sum()) > 1e-2


def make_gpt():
    """Two blocks of two heads, with norms that scale and shift."""
    gpt = GPT(SIZE, LENGTH + 1, num_heads=2, num_layers=2, key=jax.random.key(4))
    leaves, tree = jax.tree.flatten(gpt)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    noisy = [
        leaf + 0.3 * jax.random.normal(k, leaf.shape) if eqx.is_inexact_array(leaf) else leaf
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)


def layer_norm(norm, x):
    deviation = np.sqrt(x.var(-1, keepdims=True) + norm.eps)
    return (x - x.mean(-1, keepdims=True)) / deviation * np.asarray(norm.weight) + np.asarray(
        norm.bias
    )


def attended(attention, x, causal):
    """softmax(Q K' / sqrt(d)) V, head by head and query by query."""
    q, k, v = (
        x @ np.asarray(linear.weight).T
        for linear in (attention.query, attention.key, attention.value)
    )
    part, rows = SIZE // 2, np.zeros_like(x)
    for head in range(2):
        of = slice(head * part, (head + 1) * part)
        for t in range(len(x)):
            until = t + 1 if causal else len(x)
            logits = k[:until, of] @ q[t, of] / np.sqrt(part)
            weights = np.exp(logits) / np.exp(logits).sum()
            rows[t, of] = weights @ v[:until, of]
    return rows @ np.asarray(attention.output.weight).T


def perceptron(block, x):
    wide = np.maximum(x @ np.asarray(block.widen.weight).T + np.asarray(block.widen.bias), 0)
    return wide @ np.asarray(block.narrow.weight).T + np.asarray(block.narrow.bias)


def forward_pass(gpt, inputs, causal=True):
    x = inputs + np.asarray(gpt.positions)[: len(inputs)]
    for block in gpt.blocks:
        x = x + attended(block.self_attention, layer_norm(block.norms[0], x), causal)
        x = x + perceptron(block, layer_norm(block.norms[1], x))
    return layer_norm(gpt.norm, x)


def test_a_gpt_is_the_forward_pass_of_its_equations():
    """Oracle: NumPy, head by head. Planted: without the causal mask."""
    gpt, inputs = make_gpt(), np.asarray(INPUTS)
    found = np.asarray(run(gpt)[0])
    assert_allclose(found, forward_pass(gpt, inputs), rtol=1e-10, atol=1e-12)
    assert np.abs(found - forward_pass(gpt, inputs, causal=False)).max() > 1e-2


@pytest.mark.parametrize("kind", ["window", "recurrent", "gpt"])
def test_inputs_to_come_change_no_context(kind):
    """Identity, bit for bit."""
    context = {
        "window": Window(SIZE, 3),
        "recurrent": Recurrent(LSTM(SIZE, SIZE, key=jax.random.key(6)), 2, key=jax.random.key(7)),
        "gpt": make_gpt(),
    }[kind]
    found, others = run(context), run(context, INPUTS.at[3:].add(1.0))
    assert_array_equal(found[:, :3], others[:, :3])
    assert (found[:, 3:] != others[:, 3:]).any()


def test_contexts_of_no_words_or_no_starts_are_refused():
    with pytest.raises(ValueError, match=r"A window of 0 words was asked for; give at least 1."):
        Window(SIZE, 0)
    cell = TanhCell(SIZE, SIZE, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"0 learned starts were asked for; give at least 1."):
        Recurrent(cell, 0, key=jax.random.key(0))
