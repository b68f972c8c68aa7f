"""Oracle: every order, map and alternative summed one by one in NumPy."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.data.sequences import Sequence
from tightbound.families.language.contexts import Nothing, Window
from tightbound.families.language.emissions import VectorEmission
from tightbound.families.language.maps import Gate, MapMixture, Permutations
from tightbound.families.language.structure import Direct

KEY = jax.random.key(0)


def vector_emission(tiny):
    return VectorEmission(tiny.size, tiny.size, tiny.num_classes, key=jax.random.key(1))


@pytest.mark.parametrize(("num_words", "is_mixture"), [(3, True), (2, False)])
def test_all_orders_of_the_window_are_averaged(tiny, num_words, is_mixture):
    """Oracle: enumeration; planted, the emission of the average order is told apart."""
    emission = tiny.mixture() if is_mixture else vector_emission(tiny)
    structure = Permutations(num_words, tiny.size, emission, key=KEY)
    model = tiny.model(tiny.shaken(structure, 1.0), Window(tiny.size, num_words))
    plain = tiny.plain
    structure = plain.in_numpy(model.structure)
    maps, table = structure.maps, plain.table(model)
    orders = list(itertools.permutations(range(num_words)))

    def features(contexts, i):
        words = contexts[i].reshape(num_words, tiny.size)
        return [sum(maps[j] @ words[order[j]] for j in range(num_words)) for order in orders]

    def averaged(contexts, i):
        every = [plain.emission(structure.emission, f, table) for f in features(contexts, i)]
        return sum(every) / math.factorial(num_words)

    def average_order(contexts, i):
        return plain.emission(structure.emission, np.mean(features(contexts, i), axis=0), table)

    assert tiny.largest_difference(model, tiny.strings, averaged, num_words) < 1e-10
    assert tiny.largest_difference(model, tiny.strings, average_order, num_words) > 1e-2


@pytest.mark.parametrize(
    ("num_maps", "unigram", "learned_weights", "is_mixture"),
    [(3, False, False, False), (1, True, True, True), (2, True, True, False)],
)
def test_maps_of_the_context_are_summed_out(tiny, num_maps, unigram, learned_weights, is_mixture):
    """Oracle: enumeration; planted, maps that are averaged before the emission are told apart."""
    emission = tiny.mixture() if is_mixture else vector_emission(tiny)
    structure = MapMixture(
        2 * tiny.size,
        tiny.size,
        emission,
        num_maps=num_maps,
        unigram=unigram,
        learned_weights=learned_weights,
        key=KEY,
    )
    model = tiny.model(tiny.shaken(structure, 1.0), Window(tiny.size, 2))
    plain = tiny.plain
    structure = plain.in_numpy(model.structure)
    table, number = plain.table(model), num_maps + unigram
    weights = np.full(number, 1 / number)
    if learned_weights:
        weights = plain.softmax(structure.weight_logits)
        assert np.ptp(weights) > 0.1

    def features(contexts, i):
        of_maps = [m @ contexts[i] for m in structure.maps]
        return of_maps + ([structure.unigram] if unigram else [])

    def summed(contexts, i):
        every = [plain.emission(structure.emission, f, table) for f in features(contexts, i)]
        return weights @ np.array(every)

    def averaged_before(contexts, i):
        mean = weights @ np.array(features(contexts, i))
        return plain.emission(structure.emission, mean, table)

    assert tiny.largest_difference(model, tiny.strings, summed, 2) < 1e-10
    assert tiny.largest_difference(model, tiny.strings, averaged_before, 2) > 1e-2


def test_the_gate_sums_fixed_vectors_and_the_rotated_word(tiny):
    """Oracle: enumeration, with R by a plain inverse; planted, a word that is not rotated is told
    apart."""
    model = tiny.model(tiny.shaken(Gate(tiny.size, tiny.size, 3, tiny.num_symbols, key=KEY)))
    plain = tiny.plain
    structure = plain.in_numpy(model.structure)
    skew = structure.skew - structure.skew.T
    one = np.eye(tiny.size)
    rotation = (one - skew) @ np.linalg.inv(one + skew)
    table = plain.table(model)

    def summed(contexts, i, rotation=rotation):
        context = contexts[i]
        gate = plain.softmax(structure.weights @ context + structure.weight_bias)
        vectors = [*structure.components.vectors, rotation @ context]
        return sum(g * plain.softmax(table @ v) for g, v in zip(gate, vectors, strict=True))

    assert tiny.largest_difference(model, tiny.strings, summed) < 1e-10
    still = lambda contexts, i: summed(contexts, i, one)  # noqa: E731
    assert tiny.largest_difference(model, tiny.strings, still) > 1e-2


def test_the_rotation_keeps_lengths_wherever_training_takes_it(tiny):
    """Identity: R R^T = I and det R = 1 for any parameters."""
    gate = tiny.shaken(Gate(tiny.size, tiny.size, 3, tiny.num_symbols, key=KEY), 5.0)
    rotation = np.asarray(gate.rotation())
    assert_allclose(rotation @ rotation.T, np.eye(tiny.size), atol=1e-12)
    assert_allclose(np.linalg.det(rotation), 1.0, rtol=1e-12)
    assert np.abs(rotation - np.eye(tiny.size)).max() > 0.5


def test_components_without_context_differ_and_are_trained_apart(tiny):
    """Oracle: the rank of the gradient at the start. Three different vectors are moved in three
    directions; planted, equal ones are moved in one, and stay copies of each other."""
    model = tiny.model(Direct(tiny.mixture(1)), Nothing())
    tokens = jnp.asarray(tiny.strings.x.values[tiny.strings.whole][5:40:7])

    @eqx.filter_jit
    def gradient(model):
        def log_p(vectors):
            at = lambda m: m.structure.emission.components.vectors  # noqa: E731
            changed = eqx.tree_at(at, model, vectors)
            x = Sequence(tokens, jnp.ones(tokens.shape, bool))
            return jax.vmap(lambda x: changed.score(x, None)["token"])(x).sum()

        return jax.grad(log_p)(model.structure.emission.components.vectors)

    components = lambda m: m.structure.emission.components  # noqa: E731
    vectors = components(model).vectors
    equal = eqx.tree_at(
        lambda m: (components(m).vectors, components(m).log_scale),
        model,
        (jnp.broadcast_to(vectors[:1], vectors.shape), jnp.zeros(len(vectors))),
    )
    assert np.linalg.matrix_rank(gradient(model), rtol=1e-6) == 3
    assert np.linalg.matrix_rank(gradient(equal), rtol=1e-6) == 1


def test_what_cannot_be_built_is_refused(tiny):
    with pytest.raises(ValueError, match=r"a window of 6 words .* Give a window of 1 to 5 words"):
        Permutations(6, tiny.size, tiny.mixture(), key=KEY)
    with pytest.raises(ValueError, match="0 maps of the context were asked for; give at least 1"):
        MapMixture(*(4, 4, tiny.mixture()), num_maps=0, unigram=True, learned_weights=True, key=KEY)
    with pytest.raises(ValueError, match=r"of size 4, but its context has size 8. Use"):
        Gate(8, 4, 3, tiny.num_symbols, key=KEY)
