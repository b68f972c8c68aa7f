"""Leaf pruning is a law over strings.

Oracle: sets of words, round by round, in a Python dictionary, added up by the strings that the kept
rounds spell. One sampled test; level 1e-3, key fixed.
"""

import functools
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
from tightbound.families.edits.pruning import LeafPruning
from tightbound.families.edits.token_drop import TokenDrop
from tightbound.families.edits.trajectory import Trajectory

A, B, C, D = 4, 5, 6, 7
CASES = {
    "repeated, chain": ([A, B, A], [-1, 0, 1]),
    "repeated, head last": ([A, B, A], [2, 2, -1]),
    "repeated, forest": ([A, B, A], [-1, -1, 1]),
    "twice repeated, chain": ([A, A, B, A], [1, 2, 3, -1]),
    "twice repeated, star": ([A, A, B, A], [2, 2, -1, 2]),
    "twice repeated, tree": ([A, A, B, A], [1, -1, 1, 2]),
    "twice repeated, forest": ([A, A, B, A], [-1, 0, -1, 2]),
    "all equal, tree": ([A, A, A, A], [-1, 0, 0, 2]),
    "all different, tree": ([A, B, C, D], [1, 3, 1, -1]),
    "one word": ([A], [-1]),
}
LAWS = [
    LeafPruning(0.5, max_strings=4),
    LeafPruning(0.4, min_strings=3, max_strings=4),
    LeafPruning(0.6, thin=2, max_strings=3),
    LeafPruning(0.6, thin=2, min_strings=2, max_strings=3),
]
LENGTH, WAYS = 4, 24


def sentence(words, heads, length=LENGTH, num_ways=WAYS):
    """A sentence with all its swaps, the identity first."""
    places = [[i for i, word in enumerate(words) if word == kind] for kind in set(words)]
    swaps = np.full((num_ways, length), -1, np.int32)
    each = itertools.product(*map(itertools.permutations, places))
    for way, orders in enumerate(each):
        swaps[way] = np.arange(length)
        for place, order in zip(places, orders, strict=True):
            swaps[way, place] = order
    return Sentence(
        padded(words, length),
        np.asarray(0, np.int32),
        np.array([*heads, *[-1] * (length - len(heads))], np.int32),
        swaps,
    )


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


def enumerated(words, heads, law):
    """{trajectory of strings: probability} without the filter on few strings, nor renormalised."""

    def rounds(left):
        leaves = [v for v in left if not any(heads[c] == v for c in left)]
        for size in range(len(leaves) + 1):
            for gone in itertools.combinations(leaves, size):
                chance = (1 - law.keep) ** size * law.keep ** (len(leaves) - size)
                yield tuple(v for v in left if v not in gone), chance

    ended = defaultdict(float)
    going = {((tuple(words),), tuple(range(len(words)))): 1.0}
    for index in range(1, law.thin * law.max_strings + 1):
        following = defaultdict(float)
        for (strings, left), p in going.items():
            for rest, chance in rounds(left):
                if not rest:
                    ended[strings[::-1]] += p * chance
                elif index % law.thin:
                    following[strings, rest] += p * chance
                else:
                    spelled = tuple(words[v] for v in rest)
                    following[(*strings, spelled), rest] += p * chance
        going = following
    return dict(ended)


@functools.cache
def unfiltered(name, law):
    return enumerated(*CASES[name], law)


def filtered(name, law):
    """The law under test, and the log of the probability of its condition."""
    accepted = {z: p for z, p in unfiltered(name, law).items() if len(z) >= law.min_strings}
    total = sum(accepted.values())
    return {z: p / total for z, p in accepted.items()}, math.log(total) if total else -math.inf


def log_prob(law, x, every):
    """log q of every one of these trajectories, in one compiled call of a fixed size."""
    filled = [*every, *[every[0]] * (256 - len(every))]
    return np.asarray(scores(law, x, trajectories(filled, law.max_steps)))[: len(every)]


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


@eqx.filter_jit
def log_acceptance(law, x):
    return law.log_acceptance(x)


def as_tuples(drawn):
    """The strings drawn, as the keys of `enumerated`."""
    strings, num_steps = np.asarray(drawn.strings), np.asarray(drawn.num_steps)
    return [
        tuple(tuple(word for word in row.tolist() if word != PAD) for row in z[:steps])
        for z, steps in zip(strings, num_steps, strict=True)
    ]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.description)
def test_every_trajectory_of_strings_has_its_enumerated_probability_and_they_sum_to_one(law):
    """Enumeration over sets of words, for every tree; log P(T accepted) too.

    Planted, where words repeat: one labelling alone, which loses mass; and equal words that left
    together counted once per swap, which gains some."""
    lost, gained = [], []
    for name, (words, heads) in CASES.items():
        expected, log_accepted = filtered(name, law)
        every = list(unfiltered(name, law))
        x = sentence(words, heads)
        assert_allclose(log_acceptance(law, x), log_accepted, rtol=1e-11, atol=1e-14)
        found = np.exp(log_prob(law, x, every))
        assert_allclose(found, [expected.get(z, 0.0) for z in every], rtol=1e-11)
        assert_allclose(found.sum(), 1.0, rtol=1e-11)
        if "repeated" in name:
            log_repeats = np.array([log_repeats_of(z) for z in every])
            x.swaps[1:] = -1
            lost.append(np.exp(log_prob(law, x, every) + log_repeats).sum())
            gained.append((found * np.exp(log_repeats)).sum())
    assert max(lost) < 1 + 1e-9
    assert min(lost) < 0.6
    assert max(gained) > 1.01
    assert min(gained) > 1 - 1e-9


def log_repeats_of(z):
    """log of the product of n! over groups of n equal words in equally many strings."""
    counts = [[words.count(kind) for words in ((), *z)] for kind in set(z[-1])]
    new = np.diff(np.array(counts), axis=1).ravel()
    return sum(math.lgamma(n + 1) for n in new)


def test_thinning_is_no_pruning_with_another_chance():
    """The identity of token drop, by which every second string has the law of p^2, must fail on a
    tree: skipped strings have to be summed out."""
    law = LAWS[2]
    x = sentence(*CASES["all different, tree"])
    every = list(unfiltered("all different, tree", law))
    wrong = LeafPruning(law.keep**2, max_strings=law.max_strings)
    assert np.nanmax(np.abs(log_prob(wrong, x, every) - log_prob(law, x, every))) > 0.1


@pytest.mark.parametrize("name", ["aba", "aaba", "aaaa"])
def test_pruning_words_without_a_tree_is_token_drop(name):
    """Identity, with the other law: without edges every word is a leaf. Trajectories below the cap,
    where one law forces the end and the other refuses; less the renormalisation."""
    words = [{"a": A, "b": B}[letter] for letter in name]
    x = sentence(words, [-1] * len(words))
    law, drop = LeafPruning(0.3, max_strings=4), TokenDrop(0.7, 4)
    every = [z for z in enumerated(words, [-1] * len(words), law) if len(z) < 4]
    found = log_prob(law, x, every) + log_acceptance(law, x)
    assert_allclose(found, log_prob(drop, x, every), rtol=1e-11)


def deviations(counts, probabilities, is_common):
    """(Pearson's X^2 - df) / sqrt(2 df) and its p-value; cells that are not common are one."""
    df = is_common.sum()
    probabilities = np.append(probabilities[is_common], 1 - probabilities[is_common].sum())
    observed = np.append(counts[is_common], counts[~is_common].sum())
    expected = counts.sum() * np.maximum(probabilities, 1e-9)
    statistic = ((observed - expected) ** 2 / expected).sum()
    return (statistic - df) / np.sqrt(2 * df), chi2.sf(statistic, df)


def test_draws_have_the_law_that_scores_them():
    """Chi-squared of 20,000 draws over all trajectories, thinned and filtered. Planted: one labelling
    alone, no filter on few strings, and a chance off by 0.03."""
    law, name = LAWS[3], "twice repeated, star"
    x = sentence(*CASES[name])
    every = list(unfiltered(name, law))
    place = {z: index for index, z in enumerate(every)}
    drawn = as_tuples(draws(law, x, jax.random.split(jax.random.key(11), 20_000)))
    counts = np.bincount([place[z] for z in drawn], minlength=len(every))
    is_common = np.array([20_000 * filtered(name, law)[0].get(z, 0.0) >= 5 for z in every])

    def deviation(law, x):
        return deviations(counts, np.exp(log_prob(law, x, every)), is_common)

    assert deviation(law, x)[1] > 1e-3
    assert deviation(law, eqx.tree_at(lambda x: x.swaps, x, None))[0] > 8
    assert deviation(LAWS[2], x)[0] > 8
    assert deviation(LeafPruning(0.63, thin=2, min_strings=2, max_strings=3), x)[0] > 8


def test_a_sentence_that_hardly_any_draw_satisfies_is_not_looked_at_for_ever():
    """A chain of four words needs four rounds, so that with three strings nothing is accepted and with
    four one draw in 2^4, which is looked for and found. One in 20^4 is not."""
    x, keys = sentence([A, B, C, D], [-1, 0, 1, 2]), jax.random.split(jax.random.key(0), 2)
    law = LeafPruning(0.5, max_strings=3)
    assert log_acceptance(law, x) == -np.inf
    drawn, log_q = scored_draws(law, x, keys)
    assert as_tuples(drawn) == [((A, B, C, D),)] * 2
    assert np.isnan(log_q).all()
    drawn, log_q = scored_draws(LAWS[0], x, keys)
    assert_array_equal(drawn.num_steps, [4, 4])
    assert_allclose(log_q, [0.0, 0.0], atol=1e-12)
    seldom = LeafPruning(0.95, max_strings=4)
    assert_allclose(log_acceptance(seldom, x), 4 * math.log(0.05), rtol=1e-9)
    assert np.isnan(eqx.filter_jit(seldom.proposal)(x).log_acceptance)


def test_a_long_sentence_does_not_underflow():
    """Closed form: 1,500 words below one head, all gone in the first round, the head in the third; the
    probability itself is below the smallest float."""
    length = 1501
    words, heads = tuple(range(3, 3 + length)), np.where(np.arange(length) == 0, -1, 0)
    x = Sentence(np.array(words), np.asarray(0), heads)
    law = LeafPruning(0.5, max_strings=20)
    found = scores(law, x, trajectories([((3,), (3,), words)], 20, length))[0]
    expected = 1500 * math.log(0.5) + 2 * math.log(0.5)
    assert expected < np.log(np.finfo(float).tiny)
    assert_allclose(found + log_acceptance(law, x), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "z",
    [
        ((A, A, B), (A, A, B, A)[:3]),
        ((C,), (A, A, B, A)),
        ((B, A, A), (A, A, B, A)),
        ((), (A, A, B, A)),
        ((A, B), (A,), (A, A, B, A)),
        ((PAD, A), (A, A, B, A)),
        ((A, A, A), (A, A, B, A)),
        ((A, A, B, A),),
        (),
    ],
)
def test_what_cannot_be_has_log_q_minus_infinity(z):
    """Definition: another sentence, a foreign word, another order, an empty string, a string that
    grew, a gap, a head gone before its children, fewer strings than asked for, and none at all."""
    law = LeafPruning(0.5, min_strings=2, max_strings=4)
    x = sentence([A, A, B, A], [2, 2, -1, 2])
    assert log_prob(law, x, [z])[0] == -np.inf


def test_padding_changes_neither_draws_nor_log_q():
    """Identity, over 64 keys; columns of padding and rows of swaps."""
    law, keys = LAWS[3], jax.random.split(jax.random.key(5), 64)
    words, heads = CASES["twice repeated, tree"]
    short = sentence(words, heads, num_ways=6)
    long = sentence(words, heads, length=7, num_ways=8)
    drawn, log_q = scored_draws(law, short, keys)
    wider, log_q_wider = scored_draws(law, long, keys)
    assert_array_equal(wider.strings[:, :, :4], drawn.strings)
    assert (wider.strings[:, :, 4:] == PAD).all()
    assert_allclose(log_q_wider, log_q, rtol=1e-13)


def test_a_compiled_batch_draws_and_scores_as_one_sentence_at_a_time():
    """Identity, for sentences and trees of different sizes: a row that needs more attempts changes no
    other."""
    law = LAWS[3]
    sentences = [sentence(*case) for case in CASES.values()]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *sentences)
    keys = jax.random.split(jax.random.key(9), len(sentences))

    def both(x, key):
        distribution = law.proposal(x)
        drawn = distribution.sample(key)
        return drawn, distribution.log_prob(drawn)

    drawn, log_q = jax.jit(jax.vmap(both))(batch, keys)
    one = jax.jit(both)
    for row, x in enumerate(sentences):
        alone, log_q_alone = one(x, keys[row])
        assert_array_equal(drawn.strings[row], alone.strings)
        assert_allclose(log_q[row], log_q_alone, rtol=1e-13)


def test_collapsing_repeats_no_string_and_claims_no_law():
    """Its log q is that of the path which never repeated a string, so over the trajectories
    that can be drawn it does not sum to one."""
    name = "twice repeated, tree"
    law = LeafPruning(0.5, max_strings=4, collapse=True)
    assert not law.is_exact
    x = sentence(*CASES[name])
    tuples = as_tuples(draws(law, x, jax.random.split(jax.random.key(2), 512)))
    assert all(len(set(z)) == len(z) for z in tuples)
    every = [z for z in unfiltered(name, law) if len(set(z)) == len(z)]
    assert set(tuples) <= set(every)
    found = log_prob(law, x, every)
    assert_allclose(found, log_prob(LAWS[0], x, every), rtol=1e-12)
    assert np.exp(found).sum() < 0.7


def test_strings_are_counted_before_they_are_merged():
    """Definition of the filter with `collapse`: fewer strings than asked for can be left, and have a
    finite log q."""
    x = sentence(*CASES["twice repeated, star"])
    law = LeafPruning(0.5, min_strings=4, max_strings=4, collapse=True)
    drawn, log_q = scored_draws(law, x, jax.random.split(jax.random.key(2), 64))
    assert set(drawn.num_steps.tolist()) == {2, 3, 4}
    assert np.isfinite(log_q).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LeafPruning(1.0), "kept with probability 1.0; give one between 0 and 1"),
        (lambda: LeafPruning(thin=0), "`thin` is 0; give 1 to keep every string"),
        (lambda: LeafPruning(min_strings=4, max_strings=3), "has 4 to 3 strings. Give 1 <="),
        (
            lambda: LeafPruning().proposal(Sentence(padded([A]), np.asarray(0))),
            "needs a tree over the words, but `heads` of the sentence is None. .* use `TokenDrop`",
        ),
    ],
)
def test_a_law_that_cannot_be_meant_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_laws_say_their_names():
    assert LeafPruning(0.5, 2, 3, 8).description == "leaf pruning 0.5, thinned by 2, 3 to 8 strings"
    collapsed = LeafPruning(0.25, max_strings=4, collapse=True)
    assert collapsed.description == "leaf pruning 0.25, collapsed, 1 to 4 strings"
    assert LAWS[0].is_exact
    assert LAWS[0].max_steps == 4
