"""Token drop is a law over strings.

Oracle: enumeration of sets of words, round by round, in Python; trajectories of words are then added up
by the strings that they spell. Two sampled tests; level 1e-3 for the file, keys fixed.
"""

import itertools
import math
from collections import defaultdict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2

from tightbound.data.sentences import PAD, Sentence
from tightbound.families.edits.noising import waiting_rounds
from tightbound.families.edits.token_drop import TokenDrop, log_embeddings
from tightbound.families.edits.trajectory import Trajectory

A, B, C = 4, 5, 6
SENTENCES = {"aba": [A, B, A], "aaba": [A, A, B, A], "aaaa": [A, A, A, A], "abca": [A, B, C, A]}
LENGTH = 4
LAWS = [TokenDrop(0.3, 3), TokenDrop(0.6, 3, collapse=True)]


def sentence(words, length=LENGTH):
    return Sentence(padded(words, length), np.asarray(0, np.int32))


def padded(words, length=LENGTH):
    return np.array([*words, *[PAD] * (length - len(words))], np.int32)


def trajectories(every, max_steps, length=LENGTH):
    """Tuples of strings as one `Trajectory` with a leading axis."""
    nothing = padded([], length)
    rows = [
        [*[padded(words, length) for words in z], *[nothing] * (max_steps - len(z))] for z in every
    ]
    num_steps = jnp.asarray([len(z) for z in every])
    return jax.vmap(Trajectory)(jnp.asarray(np.array(rows)), num_steps)


def enumerated(words, probability, max_steps, collapse):
    """{trajectory of strings: probability}, from every way through the sets of words."""

    def rounds(left):
        """What can be left of a set after one round, with its probability."""
        law = {}
        for kept in itertools.chain.from_iterable(
            itertools.combinations(left, size) for size in range(len(left) + 1)
        ):
            dropped = len(left) - len(kept)
            law[kept] = probability**dropped * (1 - probability) ** len(kept)
        if collapse:
            unchanged = law.pop(left)
            law = {kept: p / (1 - unchanged) for kept, p in law.items()}
        return law

    everything = tuple(range(len(words)))
    going, law = {(everything,): 1.0}, defaultdict(float)
    while going:
        path, p = going.popitem()
        following = {(): 1.0} if len(path) == max_steps else rounds(path[-1])
        for kept, factor in following.items():
            if kept:
                going[(*path, kept)] = p * factor
            else:
                spelled = tuple(tuple(words[i] for i in kept) for kept in reversed(path))
                law[spelled] += p * factor
    return dict(law)


def log_prob(law, words, every):
    """log q of every one of these trajectories, in one compiled call of a fixed size."""
    filled = [*every, *[every[0]] * (256 - len(every))]
    found = scores(law, sentence(words), trajectories(filled, law.max_steps))
    return np.asarray(found)[: len(every)]


@eqx.filter_jit
def scores(law, x, values):
    return jax.vmap(law.proposal(x).log_prob)(values)


@eqx.filter_jit
def draws(law, x, keys):
    return jax.vmap(law.proposal(x).sample)(keys)


@eqx.filter_jit
def scored_draws(law, x, keys):
    distribution = law.proposal(x)
    drawn = jax.vmap(distribution.sample)(keys)
    return drawn, jax.vmap(distribution.log_prob)(drawn)


def as_tuples(drawn):
    """The strings drawn, as the keys of `enumerated`."""
    strings, num_steps = np.asarray(drawn.strings), np.asarray(drawn.num_steps)
    return [
        tuple(tuple(word for word in row.tolist() if word != PAD) for row in z[:steps])
        for z, steps in zip(strings, num_steps, strict=True)
    ]


def log_one_path(z, probability, max_steps):
    """The formula that forgets how many ways lead to a string."""
    after = [0, *map(len, z)] if len(z) < max_steps else [*map(len, z)]
    return sum(
        (n - k) * math.log(probability) + k * math.log1p(-probability)
        for k, n in itertools.pairwise(after)
    )


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.description)
@pytest.mark.parametrize("name", SENTENCES)
def test_every_trajectory_of_strings_has_its_enumerated_probability_and_they_sum_to_one(law, name):
    """Enumeration over sets of words. Planted: the formula of one path, which loses the ways that
    equal words make."""
    words = SENTENCES[name]
    expected = enumerated(words, law.probability, law.max_steps, law.collapse)
    every = list(expected)
    found = log_prob(law, words, every)
    assert_allclose(np.exp(found), list(expected.values()), rtol=1e-12)
    assert_allclose(np.exp(found).sum(), 1.0, rtol=1e-12)
    if not law.collapse:
        one_path = sum(math.exp(log_one_path(z, law.probability, law.max_steps)) for z in every)
        assert one_path < 0.99


def test_eight_equal_words_become_four_in_seventy_ways():
    """Closed form: C(8, 4) = 70, 4.248 nats above the formula of one path."""
    z = ((A,) * 4, (A,) * 8)
    law = TokenDrop(0.5, max_steps=3)
    found = scores(law, sentence(z[-1], 8), trajectories([z], 3, 8))[0]
    assert_allclose(found - log_one_path(z, 0.5, 3), math.log(70), rtol=1e-12)


def test_embeddings_of_a_long_string_are_counted_beyond_the_largest_float():
    """Closed form: C(1100, 550) in whole numbers, about 1e330."""
    shorter, longer = padded([A] * 550, 1100), padded([A] * 1100, 1100)
    expected = math.log(math.comb(1100, 550))
    assert expected > np.log(np.finfo(float).max)
    assert_allclose(jax.jit(log_embeddings)(shorter, longer), expected, rtol=1e-12)


def test_every_second_string_of_a_drop_is_a_drop_with_both_chances():
    """Identity: thinning drop p by 2, counted back from x, gives drop 1 - (1 - p)^2. Planted: 2 p."""
    words, p = SENTENCES["aba"], 0.3
    every = enumerated(words, p, 4, collapse=False)
    thinned = defaultdict(float)
    for z, probability in every.items():
        thinned[z[::-1][::2][::-1]] += probability
    found = log_prob(TokenDrop(1 - (1 - p) ** 2, 2), words, list(thinned))
    assert_allclose(np.exp(found), list(thinned.values()), rtol=1e-12)
    wrong = log_prob(TokenDrop(2 * p, 2), words, list(thinned))
    assert np.abs(wrong - found).max() > 0.1


def deviations(counts, probabilities, is_common):
    """(Pearson's X^2 - df) / sqrt(2 df) and its p-value; cells that are not common are one."""
    df = is_common.sum()
    probabilities = np.append(probabilities[is_common], 1 - probabilities[is_common].sum())
    observed = np.append(counts[is_common], counts[~is_common].sum())
    expected = counts.sum() * np.maximum(probabilities, 1e-9)
    statistic = ((observed - expected) ** 2 / expected).sum()
    return (statistic - df) / np.sqrt(2 * df), chi2.sf(statistic, df)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.description)
def test_draws_have_the_law_that_scores_them(law):
    """Chi-squared of 20,000 draws over all trajectories. Planted: a law that never repeats a string
    taken for one that may and the reverse, and a probability off by 0.03."""
    words = SENTENCES["aaba"]
    p, max_steps, collapse = law.probability, law.max_steps, law.collapse
    every = list(enumerated(words, 0.5, max_steps, collapse=False))
    place = {z: index for index, z in enumerate(every)}
    drawn = as_tuples(draws(law, sentence(words), jax.random.split(jax.random.key(7), 20_000)))
    counts = np.bincount([place[z] for z in drawn], minlength=len(every))
    expected = enumerated(words, p, max_steps, collapse)
    is_common = np.array([20_000 * expected.get(z, 0.0) >= 5 for z in every])

    def deviation(law):
        return deviations(counts, np.exp(log_prob(law, words, every)), is_common)

    assert deviation(law)[1] > 5e-4
    assert deviation(TokenDrop(p + 0.03, max_steps, collapse))[0] > 8
    assert deviation(TokenDrop(p, max_steps, not collapse))[0] > 8


@pytest.mark.parametrize("collapse", [False, True])
def test_draws_end_in_the_sentence_and_hold_no_more_strings_than_the_cap(collapse):
    """Law, where the cap is nearly always met: strings nest, none is empty, and log q is finite."""
    words = SENTENCES["abca"]
    law = TokenDrop(0.02, max_steps=3, collapse=collapse)
    drawn, log_q = scored_draws(law, sentence(words), jax.random.split(jax.random.key(3), 256))
    tuples = as_tuples(drawn)
    assert all(z[-1] == tuple(words) and min(map(len, z)) > 0 for z in tuples)
    assert np.mean([len(z) == 3 for z in tuples]) > 0.8
    if collapse:
        assert all(len(set(z)) == len(z) for z in tuples)
    assert np.isfinite(log_q).all()


@pytest.mark.parametrize(
    "z",
    [
        ((A, B),),
        ((C,), (A, B, A)),
        ((B, A, A), (A, B, A)),
        ((), (A, B, A)),
        ((A, B), (A,), (A, B, A)),
        ((PAD, A), (A, B, A)),
        (),
    ],
)
def test_what_cannot_be_has_log_q_minus_infinity(z):
    """Definition: another sentence, a foreign word, another order, an empty string, a string that
    grew, a gap, and no string at all."""
    assert log_prob(LAWS[0], SENTENCES["aba"], [z])[0] == -np.inf


def test_strings_after_the_last_have_log_q_minus_infinity():
    """Definition: rows from `num_steps` on hold padding alone."""
    z, law, x = trajectories([((A,), (A, B, A))], 3), LAWS[0], sentence(SENTENCES["aba"])
    assert np.isfinite(scores(law, x, z)[0])
    too_many = eqx.tree_at(lambda z: z.strings, z, z.strings.at[0, 2, 0].set(A))
    assert scores(law, x, too_many)[0] == -np.inf


def test_a_repeated_string_has_log_q_minus_infinity_once_collapsed():
    """Definition."""
    z = ((A,), (A, B, A), (A, B, A))
    assert np.isfinite(log_prob(LAWS[0], SENTENCES["aba"], [z])[0])
    assert log_prob(LAWS[1], SENTENCES["aba"], [z])[0] == -np.inf


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.description)
def test_padding_changes_neither_draws_nor_log_q(law):
    """Identity, over 64 keys. Planted: the words' draws counted from the end of the row."""
    keys = jax.random.split(jax.random.key(5), 64)
    short, long = (sentence(SENTENCES["aba"], length) for length in (3, 7))
    drawn, log_q = scored_draws(law, short, keys)
    wider, log_q_wider = scored_draws(law, long, keys)
    assert_array_equal(wider.strings[:, :, :3], drawn.strings)
    assert (wider.strings[:, :, 3:] == PAD).all()
    assert_allclose(log_q_wider, log_q, rtol=1e-14)

    def from_the_end(length):
        return waiting_rounds(keys[0], 0.3, length)[::-1][:3]

    assert (from_the_end(3) != from_the_end(7)).any()


def test_a_compiled_batch_draws_and_scores_as_one_sentence_at_a_time():
    """Identity, for sentences of different lengths."""
    law = LAWS[0]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *map(sentence, SENTENCES.values()))
    keys = jax.random.split(jax.random.key(9), len(SENTENCES))

    def both(x, key):
        distribution = law.proposal(x)
        drawn = distribution.sample(key)
        return drawn, distribution.log_prob(drawn)

    drawn, log_q = jax.jit(jax.vmap(both))(batch, keys)
    one = jax.jit(both)
    for row, words in enumerate(SENTENCES.values()):
        alone, log_q_alone = one(sentence(words), keys[row])
        assert_array_equal(drawn.strings[row], alone.strings)
        assert_allclose(log_q[row], log_q_alone, rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TokenDrop(0.0, 3), "probability 0.0 is no chain that ends: .* or use `OneShot`"),
        (lambda: TokenDrop(1.0, 3), "give one between 0 and 1"),
        (lambda: TokenDrop(0.5, 0), "`max_steps` is 0, .* give at least 1"),
    ],
)
def test_a_law_that_cannot_be_meant_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_laws_say_their_names_and_are_exact():
    assert LAWS[0].description == "token drop 0.3"
    assert LAWS[1].description == "token drop 0.6, collapsed"
    assert all(law.is_exact for law in LAWS)
