"""What parts of a language model have learned, held against sums done by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.data.sentences import EOS
from tightbound.data.sequences import Sequence
from tightbound.data.token_split import token_splits
from tightbound.families.language.build import language_model
from tightbound.families.language.history import (
    evenly_chosen,
    frequency_bands,
    language_history,
    norm_quantiles,
)
from tightbound.families.language.inputs import shifted
from tightbound.families.language.parts import (
    alignment_priors,
    attention_weights,
    choice_shares,
    choices_of,
    component_log_joint,
    component_weights,
    component_words,
    distance_priors,
    log_starts,
    slot_weights,
    transition,
)
from tightbound.families.language.settings import LanguageModelSettings, StructureSettings

SYMBOLS, LENGTH = 7, 4
X = Sequence(np.array([4, 6, 3, EOS], np.int32), np.ones(LENGTH, bool))


def settings(context, emission="mixture", **choices):
    structure = StructureSettings(**choices.pop("structure", {}))
    sizes = {"size": 4} if emission == "vector" else {"size": 4, "num_components": 3}
    return LanguageModelSettings(context, structure, emission, **sizes, **choices)


TABLE = {
    "direct, 2 starts": settings("tanh", num_starts=2),
    "parents": settings("previous", structure={"kind": "parents", "num_maps": 2}),
    "two parents": settings("previous", structure={"kind": "two-parents"}),
    "local hmm": settings("previous", structure={"kind": "local-hmm"}),
    "word chain": settings("previous", structure={"kind": "word-chain", "num_words": 2}),
    "slots": settings("previous", structure={"kind": "slots", "num_slots": 2}),
    "slot chain": settings("previous", structure={"kind": "slot-chain", "num_slots": 2}),
    "gate": settings("previous", structure={"kind": "gate"}),
    "gpt": settings("gpt", "vector", normalisation="none", num_heads=2, num_layers=1),
}


def made(name):
    """A tiny model of the row, with parameters that are all different."""
    model = language_model(TABLE[name], SYMBOLS, LENGTH, jax.random.key(3))
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)
    keys = jax.random.split(jax.random.key(4), len(leaves))
    moved = [
        a + 0.5 * jax.random.normal(k, a.shape, a.dtype) for a, k in zip(leaves, keys, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(tree, moved), static)


def say(function, *arguments):
    """The function's answer, compiled, in NumPy."""
    return jax.tree.map(np.asarray, eqx.filter_jit(function)(*arguments))


def softmax(logits, axis=-1):
    odds = np.exp(logits - np.max(logits, axis=axis, keepdims=True))
    return odds / odds.sum(axis=axis, keepdims=True)


def test_an_alignment_prior_is_a_softmax_over_the_positions_so_far():
    """Oracle: the softmax of each row's first entries, in NumPy; of two parents, over pairs."""
    model = made("parents")
    [prior] = say(alignment_priors, model.structure).values()
    logits = np.asarray(model.structure.prior_logits)
    for i in range(LENGTH):
        assert_allclose(prior[i, : i + 1], softmax(logits[i, : i + 1]), rtol=1e-12)
        assert not prior[i, i + 1 :].any()

    structure = made("two parents").structure
    first, second = say(alignment_priors, structure).values()
    pairs = np.asarray(structure.prior_logits)[2, :3, :3]
    joint = softmax(pairs.ravel()).reshape(3, 3)
    assert_allclose(first[2, :3], joint.sum(1), rtol=1e-12)
    assert_allclose(second[2, :3], joint.sum(0), rtol=1e-12)
    assert np.abs(first[2, :3] - joint.sum(0)).max() > 0.01  # planted: the other axis summed out


def test_nothing_is_drawn_of_a_prior_that_is_not_learned():
    """Identity: a uniform prior has no logits."""
    uniform = settings("previous", structure={"kind": "parents", "learned_prior": False})
    model = language_model(uniform, SYMBOLS, LENGTH, jax.random.key(0))
    assert alignment_priors(model.structure) == {}
    assert distance_priors(model.structure) is None


def test_the_prior_of_a_distance_is_the_softmax_of_its_logits():
    """Oracle: at the last position all distances are possible, so the softmax over all of them."""
    structure = made("slots").structure
    prior = say(distance_priors, structure)
    assert_allclose(prior, softmax(np.asarray(structure.distance_logits), axis=0).T, rtol=1e-12)


def test_the_attention_shown_is_the_attention_used():
    """Identity: the context of a GPT from the weights that are shown, block by block, is its own.
    Weights of states that were not normalised do not give it."""
    model = made("gpt")
    context, tokens = model.context, jnp.asarray(X.values)
    weights = say(attention_weights, model, tokens)
    assert_allclose(weights.sum(-1), 1.0, rtol=1e-12)
    assert not weights[..., ~np.tri(LENGTH, dtype=bool)].any()  # causal
    inputs = shifted(tokens, model.embedding)

    def from_weights(weights):
        states = inputs + context.positions[:LENGTH]
        for block, heads in zip(context.blocks, weights, strict=True):
            attention = block.self_attention
            values = attention.read(jax.vmap(block.norms[0])(states)).value
            attended = jnp.einsum("hps,shd->phd", heads, values).reshape(states.shape)
            states = states + jax.vmap(attention.output)(attended)
            states = states + block._perceptron(jax.vmap(block.norms[-1])(states))
        return jax.vmap(context.norm)(states)

    own = say(context, inputs)[0]
    assert_allclose(say(from_weights, weights), own, rtol=1e-9)
    mixed_up = weights[:, ::-1]  # planted: the heads in another order
    assert np.abs(say(from_weights, mixed_up) - own).max() > 1e-3


def test_the_slots_shown_are_those_that_the_emission_reads():
    """Identity: the emission of the means under these weights is the model's own distribution."""
    model = made("slots")
    weights = say(slot_weights, model, X)
    assert_allclose(weights.sum(-1), 1.0, rtol=1e-12)
    assert not weights[:, ~np.tri(LENGTH, dtype=bool)].any()
    own = say(lambda m: m.distributions(X), model)
    table, every = model.embedding[EOS:], jnp.arange(model.num_classes)

    def from_weights(weights):
        contexts = model.contexts(jnp.asarray(X.values))[0]
        taken = jnp.einsum("mtj,jf->tmf", weights, contexts).reshape(LENGTH, -1)
        read = lambda features: model.structure.emission.log_probs(features, every, table)  # noqa: E731
        return jax.vmap(read)(taken)

    assert_allclose(say(from_weights, weights), own, rtol=1e-9)
    assert np.abs(say(from_weights, weights[::-1]) - own).max() > 1e-3  # planted: slots swapped


def test_the_last_slot_of_a_chain_mixes_to_the_models_distribution():
    """Identity: sum_j P(j_N = j) p(class | c_j) is p(class), the chain being summed out."""
    model = made("slot chain")
    weights = say(slot_weights, model, X)
    table, every = model.embedding[EOS:], jnp.arange(model.num_classes)

    def by_position():
        contexts = model.contexts(jnp.asarray(X.values))[0]
        return jax.vmap(lambda c: model.structure.emission.log_probs(c, every, table))(contexts)

    own = np.exp(say(lambda m: m.distributions(X), model))
    p = np.exp(say(by_position))
    assert_allclose(weights[-1] @ p, own, rtol=1e-9)
    assert np.abs(weights[0] @ p - own).max() > 1e-3  # planted: the first slot instead


@pytest.mark.parametrize("name", ["direct, 2 starts", "parents", "two parents", "word chain"])
def test_components_by_their_weights_are_the_models_distribution(name):
    """Identity: sum_k p(k | x_<t) p(class | k) = p(class | x_<t), whatever the structure chooses on
    the way; and the joint with the token that came sums to its score. Weights of another position do
    not give it."""
    model = made(name)

    def parts(model):
        joint = component_log_joint(model, X)
        scores = model.score(X, jnp.zeros(0))["token"]
        return (
            *(component_weights(model, X), component_words(model)),
            *(joint, scores, model.distributions(X)),
        )

    log_weights, log_words, joint, scores, own = say(parts, model)
    weights = np.exp(log_weights)
    assert_allclose(weights.sum(1), 1.0, rtol=1e-12)
    assert_allclose(weights @ np.exp(log_words), np.exp(own), rtol=1e-9)
    assert_allclose(np.log(np.exp(joint).sum(1)), scores, rtol=1e-9)
    shifted_weights = np.roll(weights, 1, axis=0)  # planted: one position late
    assert np.abs(shifted_weights @ np.exp(log_words) - np.exp(own)).max() > 1e-3


def test_a_word_of_a_sequence_with_several_starts_tells_which_it_was():
    """Oracle: Bayes' rule over two starts, each scored alone, in NumPy."""
    model = made("direct, 2 starts")
    found, log_p = say(
        lambda m: (
            log_starts(m, X),
            m.log_probs(m.contexts(jnp.asarray(X.values)), jnp.asarray(X.values) - EOS),
        ),
        model,
    )
    prior = np.log(softmax(np.asarray(model.start_logits)))
    for t in range(LENGTH):
        assert_allclose(np.exp(found[:, t]), softmax(prior + log_p[:, :t].sum(1)), rtol=1e-9)


@pytest.mark.parametrize("name", ["local hmm", "word chain"])
def test_states_before_a_transition_sum_out_to_the_components(name):
    """Identity: over the states before, pairs sum to p(state after | x_<t), which is the weight of
    that component; over the states after they do not."""
    model = made(name)
    pairs, log_weights = say(lambda m: (transition(m, X), component_weights(m, X)), model)
    assert_allclose(pairs.sum(1), np.exp(log_weights), rtol=1e-9)
    assert np.abs(pairs.sum(2) - np.exp(log_weights)).max() > 1e-3  # planted: transposed


def test_the_last_transition_of_a_chain_is_as_enumerated():
    """Enumeration of the states z_0, z_1, z_2 of a chain over two words, at position 2."""
    model = made("word chain")
    structure = model.structure
    pairs, contexts = say(lambda m: (transition(m, X), m.contexts(jnp.asarray(X.values))[0]), model)
    first, second = (
        np.asarray(structure.weights) @ contexts[t] + np.asarray(structure.bias) for t in (1, 2)
    )
    joint = np.exp(first[:, :, None] + second[None])  # z_0, z_1, z_2
    assert_allclose(pairs[2], joint.sum(0) / joint.sum(), rtol=1e-9)


def test_choices_are_shared_out_by_bayes_rule():
    """Oracle: the alternatives of each choice scored one by one, in NumPy: a start for the sequence, a
    kind of relation and a vector of the gate for every token. What is expected before a token is seen
    is another figure."""
    starts = made("direct, 2 starts")
    assert choices_of(starts) == ["start"]
    _, seen = say(lambda m: choice_shares(m, "start", X), starts)
    tokens = jnp.asarray(X.values)
    log_p = say(lambda m: m.log_probs(m.contexts(tokens), tokens - EOS), starts)
    prior = np.log(softmax(np.asarray(starts.start_logits)))
    assert_allclose(seen, softmax(prior + log_p.sum(1)), rtol=1e-9)

    parents = made("parents")
    assert choices_of(parents) == ["kind of relation"]
    expected, seen = say(lambda m: choice_shares(m, "kind of relation", X), parents)

    def alone(model, kind):
        logits = jnp.where(jnp.arange(2) == kind, 0.0, -1e30)
        one = eqx.tree_at(lambda m: m.structure.kind_logits, model, logits)
        return one.score(X, jnp.zeros(0))["token"]

    by_kind = say(lambda m: jnp.stack([alone(m, kind) for kind in range(2)]), parents)
    log_kind = np.log(softmax(np.asarray(parents.structure.kind_logits)))[:, None]
    assert_allclose(seen, softmax(log_kind + by_kind, axis=0).sum(1), rtol=1e-9)
    assert np.abs(seen - expected).max() > 1e-3  # planted: the prior in its place

    gate = made("gate")
    assert choices_of(gate) == ["vector"]
    expected, seen = say(lambda m: choice_shares(m, "vector", X), gate)
    contexts = np.asarray(gate.contexts(tokens)[0])
    structure, table = gate.structure, np.asarray(gate.embedding)[EOS:]
    gates = softmax(contexts @ np.asarray(structure.weights).T + np.asarray(structure.weight_bias))
    rotated = softmax(contexts @ np.asarray(structure.rotation()).T @ table.T)
    fixed = np.exp(np.asarray(structure.components.log_probs(jnp.arange(5), gate.embedding[EOS:])))
    classes = np.asarray(X.values) - EOS
    of_each = np.stack([*fixed[:, classes], rotated[np.arange(LENGTH), classes]], 1)
    answerable = gates * of_each / (gates * of_each).sum(1, keepdims=True)
    assert_allclose(expected, gates.sum(0), rtol=1e-9)
    assert_allclose(seen, answerable.sum(0), rtol=1e-9)


def test_parts_that_a_model_has_not_are_none():
    """Identity: a GPT with one softmax has no components, slots or states; a window no attention."""
    gpt = made("gpt")
    assert component_weights(gpt, X) is None
    assert component_log_joint(gpt, X) is None
    assert component_words(gpt) is None
    assert slot_weights(gpt, X) is None
    assert transition(gpt, X) is None
    assert choices_of(gpt) == []
    assert attention_weights(made("slots"), jnp.asarray(X.values)) is None


def test_bands_hold_every_symbol_that_occurs_once_from_frequent_to_rare():
    """Identity: together they are the symbols with a count, and no band is rarer than the next."""
    counts = np.array([0, 9, 0, 3, 3, 50, 1, 2, 8, 7, 7, 0])
    bands = frequency_bands(counts)
    found = np.concatenate([band for _, band in bands])
    assert sorted(found) == np.flatnonzero(counts).tolist()
    assert np.all(np.diff(counts[found]) <= 0)
    assert bands[0][0] == "seen 8 to 50 times"
    assert len(frequency_bands(counts[:6])) == 1


def test_norms_over_training_are_those_of_the_embeddings():
    """Oracle: NumPy's quantiles of row lengths, of models whose embedding is scaled by hand; the norms
    of columns are others."""
    model = made("parents")
    rows = [[3, 4, 5, EOS], [6, 6, 4, EOS], [3, 3, EOS]]
    train = token_splits({"train": rows}, law="")["train"]
    doubled = eqx.tree_at(lambda m: m.embedding, model, 2 * model.embedding)
    history = language_history([(0, model), (10, doubled)], [0, 10], train)
    first, second = history["embedding_norms"]["steps"]
    assert (first["step"], second["step"]) == (0, 10)
    lengths = np.linalg.norm(np.asarray(model.embedding)[2:], axis=1)  # PAD and BOS do not occur
    assert_allclose(first["quantiles"], [np.quantile(lengths, (0.1, 0.5, 0.9))], rtol=1e-3)
    assert_allclose(second["quantiles"], 2 * np.array(first["quantiles"]), rtol=1e-3)
    assert [prior["step"] for prior in history["alignments"]] == [0, 10]
    embedding = np.asarray(model.embedding)
    of_columns = norm_quantiles(embedding.T, [np.arange(4)])  # planted: the other axis
    assert np.abs(of_columns - first["quantiles"]).max() > 0.05


def test_checkpoints_are_chosen_from_first_to_last():
    """Identity: few are all kept; of many, evenly spaced ones with both ends."""
    assert evenly_chosen([1, 2], 6) == [1, 2]
    chosen = evenly_chosen(list(range(0, 1000, 10)), 6)
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 990, 6)
    assert np.ptp(np.diff(chosen)) <= 10
