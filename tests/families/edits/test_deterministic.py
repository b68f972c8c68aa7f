"""Laws with one trajectory: what it is, by hand, and that nothing else has probability."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.data.sentences import PAD, Sentence
from tightbound.families.edits.deterministic import Halving, OneShot, PrefixGrowth, Remap

KEY = jax.random.key(0)
INVERSE = (0, 1, 2, 6, 5, 3, 4)


def sentence(words, num_given=0, length=9):
    tokens = np.full(length, PAD, np.int32)
    tokens[: len(words)] = words
    return Sentence(tokens, np.asarray(num_given, np.int32))


@eqx.filter_jit
def draw(law, x):
    return law.proposal(x).sample(KEY)


def strings_of(trajectory):
    """The strings as lists of words, without their padding; every further row must be empty."""
    rows = np.asarray(trajectory.strings)
    assert (rows[trajectory.num_steps :] == PAD).all()
    return [row[row != PAD].tolist() for row in rows[: trajectory.num_steps]]


@pytest.mark.parametrize(
    ("law", "num_words", "num_given", "lengths"),
    [
        (Halving(5), 8, 0, [1, 2, 4, 8]),
        (Halving(5), 7, 0, [1, 2, 4, 7]),
        (Halving(5), 1, 0, [1]),
        (Halving(5), 8, 2, [2, 4, 8]),
        (Halving(5), 8, 3, [2, 4, 8]),
        (Halving(3), 8, 0, [2, 4, 8]),
        (PrefixGrowth(3, max_steps=5), 7, 0, [1, 4, 7]),
        (PrefixGrowth(3, max_steps=5), 6, 0, [3, 6]),
        (PrefixGrowth(3, max_steps=5), 7, 4, [4, 7]),
        (PrefixGrowth(1, max_steps=4), 7, 0, [4, 5, 6, 7]),
        (OneShot(), 7, 0, [7]),
        (OneShot(max_steps=3), 7, 0, [7]),
    ],
)
def test_strings_are_prefixes_of_the_lengths_counted_back_from_the_sentence(
    law, num_words, num_given, lengths
):
    """By hand; the sentence is the last string."""
    words = list(range(3, 3 + num_words))
    trajectory = draw(law, sentence(words, num_given))
    assert strings_of(trajectory) == [words[:length] for length in lengths]


def test_remapping_writes_every_word_in_the_other_alphabet_and_padding_as_padding():
    """By hand."""
    law = Remap(INVERSE)
    assert strings_of(draw(law, sentence([3, 6, 3, 5]))) == [[6, 4, 6, 3], [3, 6, 3, 5]]
    wider = Remap(INVERSE, max_steps=4)
    assert strings_of(draw(wider, sentence([5]))) == [[3], [5]]


@pytest.mark.parametrize("law", [Halving(4), PrefixGrowth(2, 4), Remap(INVERSE), OneShot(2)])
def test_the_one_trajectory_has_log_q_zero_and_any_other_minus_infinity(law):
    """Definition, with one word changed, one step less and another sentence's trajectory."""
    drawn = draw(law, sentence([3, 4, 5, 6, 3]))
    others = [
        eqx.tree_at(lambda z: z.strings, drawn, drawn.strings.at[0, 0].set(4)),
        eqx.tree_at(lambda z: z.num_steps, drawn, drawn.num_steps - 1),
        draw(law, sentence([4, 4, 5, 6, 3])),
    ]

    @jax.jit
    def log_prob(z):
        return law.proposal(sentence([3, 4, 5, 6, 3])).log_prob(z)

    assert log_prob(drawn) == 0.0
    assert [float(log_prob(other)) for other in others] == [-np.inf] * 3


@pytest.mark.parametrize("law", [Halving(4), PrefixGrowth(2, 4), Remap(INVERSE), OneShot(2)])
def test_neither_padding_keys_nor_neighbours_change_the_trajectory(law):
    """Identity, over a compiled batch and sentence by sentence with less padding."""
    words = [[3, 4, 5, 6, 3], [5], [6, 6]]
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *map(sentence, words))

    @jax.jit
    @jax.vmap
    def both(x, key):
        distribution = law.proposal(x)
        drawn = distribution.sample(key)
        return drawn, distribution.log_prob(drawn)

    drawn, log_q = both(batch, jax.random.split(KEY, 3))
    assert_array_equal(log_q, np.zeros(3))
    for row, own in enumerate(words):
        alone = draw(law, sentence(own, length=5))
        together = jax.tree.map(lambda leaf, row=row: leaf[row], drawn)
        assert strings_of(together) == strings_of(alone)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Halving(0), "`max_steps` of Halving is 0, but its trajectories need 1"),
        (lambda: Remap(INVERSE, max_steps=1), "Remap is 1, but its trajectories need 2"),
        (lambda: PrefixGrowth(0, 3), "grow by 0 words never end; give at least 1"),
        (lambda: Remap((0, 1, 2, 4, 0)), "Word 4 would be written as 0, .* words are 3 to 4"),
    ],
)
def test_a_law_that_cannot_be_meant_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_laws_say_their_names_and_are_exact():
    laws = [Halving(4), PrefixGrowth(2, 4), Remap(jnp.asarray(INVERSE)), OneShot()]
    assert [law.description for law in laws] == [
        "halving",
        "prefixes growing by 2",
        "remapped words",
        "one step",
    ]
    assert all(law.is_exact for law in laws)
