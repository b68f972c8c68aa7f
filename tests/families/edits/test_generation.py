"""Text from a tiny model against the enumerated law of everything it can write.

Sampled tests: chi-square at level 2e-4 each (five in all), keys fixed beforehand; a law that is wrong
in one thing is more than 8 standard errors away.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.stats import chi2

from tightbound.data.sentences import PAD
from tightbound.families.edits.generation import generate
from tightbound.families.edits.network import CPY, INS, Decision, EditNetwork
from tightbound.families.edits.trajectory import Trajectory

A, B = 3, 4
NUM_DRAWS = 20_000
NO_PREFIX = (PAD, PAD)


@pytest.fixture(scope="module")
def small(table_of):
    return table_of("edits", max_length=2)


@pytest.fixture(scope="module")
def draw(small):
    """(key, prefix, first strings) -> 20,000 trajectories with edits, in one compiled call."""

    @jax.jit
    def many(key, prefix, strings, num_strings):
        start = Trajectory(strings, num_strings)
        keys = jax.random.split(key, NUM_DRAWS)
        return jax.vmap(lambda key: generate(small.model, key, prefix=prefix, start=start))(keys)

    def draw(key, prefix=NO_PREFIX, strings=()):
        rows = np.zeros((2, 2), int)
        for row, string in zip(rows, strings, strict=False):
            row[:] = string
        return many(key, jnp.array(prefix), jnp.asarray(rows), jnp.asarray(len(strings)))

    return draw


def codes(trajectories, edits):
    """A number for every (trajectory, edits): the same for the same."""
    num_draws = len(edits.op)
    parts = (trajectories.strings, trajectories.num_steps[:, None], edits.op, edits.index)
    table = np.concatenate([np.asarray(part).reshape(num_draws, -1) for part in parts], 1)
    return table @ 5 ** np.arange(table.shape[1], dtype=np.int64)


def counts_of(table, drawn):
    """How often each row of the table was drawn; everything that was drawn is in the table."""
    places = {code: row for row, code in enumerate(codes(table.trajectories, table.edits).tolist())}
    assert len(places) == len(table.log_p)
    return np.bincount([places[code] for code in codes(*drawn).tolist()], minlength=len(places))


def chi_square(counts, probability):
    """The statistic and its degrees of freedom; rows expected fewer than 10 times are one cell."""
    expected = counts.sum() * probability
    rare = expected < 10
    assert (counts[probability == 0] == 0).all()
    observed, expected = (
        np.array([*values[~rare], values[rare].sum()]) for values in (counts, expected)
    )
    kept = expected > 0
    return ((observed - expected)[kept] ** 2 / expected[kept]).sum(), kept.sum() - 1


def agrees(counts, probability):
    statistic, freedom = chi_square(counts, probability)
    return freedom > 5 and statistic < chi2.ppf(1 - 2e-4, freedom)


def is_far_off(counts, probability):
    statistic, freedom = chi_square(counts, probability)
    return (statistic - freedom) / np.sqrt(2 * freedom) > 8


def test_trajectories_and_edits_come_as_often_as_they_are_probable(small, draw):
    """Oracle: p(x, z, e) of all 368; a law whose operations are equally likely is far off."""
    counts = counts_of(small, draw(jax.random.key(0)))
    assert agrees(counts, small.probability)
    ops = sum(small.sites[name].sum(-1) for name in ("first op", "op"))
    without = np.exp(small.log_p - ops) * 3.0 ** -small.lengths.sum(-1)
    assert is_far_off(counts, without / without.sum())


def test_after_first_strings_the_rest_follows_its_conditional_law(small, draw):
    """Oracle: p(x_2, e_2 | x_1 = ba, T > 1), by dividing."""
    first = (np.asarray(small.trajectories.strings)[:, 0] == [B, A]).all(1) & (small.num_steps == 2)
    probability = np.where(first, small.probability, 0.0)
    counts = counts_of(small, draw(jax.random.key(1), strings=[(B, A)]))
    assert agrees(counts, probability / probability.sum())
    unconditional = np.where(first, np.repeat(1.0, len(first)), 0.0)
    assert is_far_off(counts, unconditional / unconditional.sum())


def test_a_prefix_begins_every_string_and_the_rest_follows(small, draw, scores):
    """Oracle: the law given that b is inserted, then copied: scored but for b, it sums to one."""
    log_p = sum(scores(small.model, small.trajectories, small.edits, jnp.array(1)).values())
    is_step = np.arange(2) < small.num_steps[:, None]
    op, index = (np.asarray(leaf)[:, :, 0] for leaf in (small.edits.op, small.edits.index))
    begins = np.asarray(small.trajectories.strings)[:, :, 0] == B
    taken = begins & (op == [INS, CPY]) & (index == [0, 1])
    probability = np.where((taken | ~is_step).all(1), np.exp(np.asarray(log_p).sum(-1)), 0.0)
    counts = counts_of(small, draw(jax.random.key(2), prefix=(B, PAD)))
    assert agrees(counts, probability)
    scored = np.where(probability > 0, small.probability, 0.0)
    assert is_far_off(counts, scored / scored.sum())


def test_a_temperature_sharpens_every_head(small, scores_anew, monkeypatch):
    """Oracle: the table of a model whose heads are raised to the power 1/T and normalised."""
    temperature = 0.5

    @jax.jit
    def many(keys):
        return jax.vmap(lambda key: generate(small.model, key, temperature=temperature))(keys)

    drawn = many(jax.random.split(jax.random.key(3), NUM_DRAWS))
    decide = EditNetwork.decide

    def sharper(self, state, position, source):
        heads = decide(self, state, position, source)
        return Decision(
            *(
                jax.nn.log_softmax(head / temperature)
                for head in (heads.op, heads.token, heads.index)
            )
        )

    monkeypatch.setattr(EditNetwork, "decide", sharper)
    sites = scores_anew(small.model, small.trajectories, small.edits, jnp.array(0))
    counts = counts_of(small, drawn)
    assert agrees(counts, np.exp(np.asarray(sum(sites.values())).sum(-1)))
    assert is_far_off(counts, small.probability)


def test_where_all_strings_are_given_only_the_edits_are_drawn(small, draw, names):
    """Identity: a draw has a row in the table only if its edits write its strings; the sentence is
    the last string."""
    trajectories, edits = draw(jax.random.key(4), strings=[(A, B), (B, B)])
    assert set(names(trajectories)) == {((A, B), (B, B))}
    assert (counts_of(small, (trajectories, edits)) > 0).sum() > 8
    z = jax.tree.map(lambda leaf: leaf[0], (trajectories, edits))
    assert_array_equal(small.model.sample_likelihood(z, jax.random.key(0)).tokens, [B, B])


def test_given_words_are_copied_in_first_strings_too(draw):
    """Identity: of bb after ba, with b given, only the edit of the second b is drawn."""
    _, edits = draw(jax.random.key(5), prefix=(B, PAD), strings=[(B, A), (B, B)])
    assert_array_equal(edits.op[:, 1, 0], CPY)
    assert_array_equal(edits.index[:, 1, 0], 1)
    assert len(np.unique(edits.op[:, 1, 1])) > 1


def test_a_temperature_that_cannot_be_meant_is_refused(small):
    with pytest.raises(ValueError, match=r"temperature is 0\.0; give a positive one"):
        generate(small.model, jax.random.key(0), temperature=0.0)
