"""The law of trajectories and edits. Oracle: enumeration of everything a tiny model can write (two
words, strings of at most three, at most two strings: 14,394 sequences of edits), and identities."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.sentences import BOS, EOS, PAD, Sentence
from tightbound.families.edits.exact import all_edits, all_writings, enumerate_edits
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.network import CPY, END, INS, SUB, Decision, EditNetwork, Source
from tightbound.families.edits.trajectory import Edits, Trajectory

A, B = 3, 4
NOTHING_GIVEN = jnp.zeros((), int)
MODES = ("edits", "edits-within", "tokens")
decide, is_slot = EditNetwork.decide, Source.is_slot


def total_probability(sites):
    return np.exp(sum(np.asarray(term).sum(-1) for term in sites.values())).sum()


@pytest.mark.parametrize(
    ("handed_on", "settings", "num_rows"),
    [
        *(("edits", {}, 14_394), ("edits-within", {}, 14_394), ("tokens", {}, 1_698)),
        ("edits", {"ops": "insert"}, 240),
    ],
)
def test_everything_a_model_can_write_has_probability_one(table_of, handed_on, settings, num_rows):
    """Enumeration of all trajectories and edits, deep, static and with edits that sum out."""
    table = table_of(handed_on, **settings)
    assert len(table.log_p) == num_rows
    assert_allclose(table.probability.sum(), 1.0, rtol=1e-10)
    assert len(table.log_p_of_trajectories()) == 15 + 15**2


def no_end_at_the_cap(self, state, position, source):
    """Bug: a string at the length cap may go on."""
    return decide(self, state, jnp.minimum(position, self.max_length - 1), source)


def begin_can_be_copied(self, state, position, source):
    """Bug: the pointer is masked at padding only, so mass goes to BOS and EOS."""
    right = decide(self, state, position, source)
    pointer = source.index_keys @ self.index_query(state) / self.size**0.5
    index = jax.nn.log_softmax(jnp.where(source.is_slot, pointer, -1e30))
    return Decision(right.op, right.token, index)


def marks_can_be_inserted(self, state, position, source):
    """Bug: PAD, BOS and EOS have a share of the token head."""
    right = decide(self, state, position, source)
    return Decision(
        right.op, jax.nn.log_softmax(self.embedding @ state + self.token_bias), right.index
    )


@pytest.mark.parametrize("wrong", [no_end_at_the_cap, begin_can_be_copied, marks_can_be_inserted])
def test_mass_that_leaks_is_missed(table_of, scores_anew, monkeypatch, wrong):
    """The enumeration above must not give 1 for a model with a mask forgotten."""
    table = table_of("tokens")
    monkeypatch.setattr(EditNetwork, "decide", wrong)
    sites = scores_anew(table.model, table.trajectories, table.edits, NOTHING_GIVEN)
    assert total_probability(sites) < 0.99


def test_without_a_forced_stop_mass_is_missed(table_of):
    """The same for a law of T that lets trajectories at the step cap go on."""
    table = table_of("edits")
    hazard = jax.nn.log_sigmoid(30.0 * table.model.step_hazard[-1])
    unforced = table.log_p + np.where(table.num_steps == 2, hazard, 0.0)
    assert np.exp(unforced).sum() < 0.8


def test_at_the_caps_the_end_and_the_stop_are_certain(table_of):
    """Identity: the end of a string of three words scores 0, any other end less; the law of T is
    that of its hazards, sigmoid(30 h)."""
    table = table_of("edits")
    grid = table.sites["end"].reshape(-1, 2, 4)
    assert_array_equal(grid[:, :, 3], 0.0)
    lengths = table.lengths
    steps = np.arange(2) < table.num_steps[:, None]
    for length in range(3):
        here = (lengths == length) & steps
        assert (grid[here][:, length] < 0).all()
    stops = table.num_steps == 1
    assert_allclose(table.probability[stops].sum(), jax.nn.sigmoid(-0.6), rtol=1e-10)


@pytest.fixture(scope="module")
def longer(table_of):
    """The same law with longer arrays: caps of 9 words and 4 strings, the second one the last; and
    the table's rows that the old length cap did not touch, padded."""
    table = table_of("edits")
    more = EditModel(
        5,
        9,
        4,
        size=8,
        num_heads=2,
        hidden_size=8,
        num_layers=1,
        embedding_scale=1.0,
        condition_on_step=True,
        key=jax.random.key(0),
    )
    depth = jnp.full((4, 8), 100.0).at[:2].set(table.model.network.depth)
    hazard = jnp.array([table.model.step_hazard[0], 100.0, -1.0, 3.0])
    more = eqx.tree_at(lambda m: (m.network.depth, m.step_hazard), more, (depth, hazard))
    kept = np.flatnonzero((table.lengths <= 2).all(1))

    def pad(leaf, size):
        wider = ((0, 0), (0, 2), (0, size - leaf.shape[2]))
        return jnp.pad(leaf[kept], wider)

    trajectories = jax.vmap(Trajectory)(
        pad(table.trajectories.strings, 9), table.trajectories.num_steps[kept]
    )
    edits = jax.vmap(Edits)(pad(table.edits.op, 10), pad(table.edits.index, 10))
    return more, trajectories, edits, table.log_p[kept]


def test_padding_changes_nothing(longer, scores):
    """Law: longer rows and more of them, with anything in the parameters that belong to them."""
    more, trajectories, edits, expected = longer
    sites = scores(more, trajectories, edits, NOTHING_GIVEN)
    assert len(expected) > 300
    assert_allclose(sum(term.sum(-1) for term in sites.values()), expected, rtol=1e-10)


def test_padding_that_a_batch_shares_is_left_out_and_changes_nothing(longer):
    """Law: strings of two words in arrays of nine are computed at a third of the width."""
    more, trajectories, edits, expected = longer

    @eqx.filter_jit
    def batched(model, trajectories, edits):
        def one(trajectory, edits):
            return model.score(of(trajectory), (trajectory, edits), axis_name="batch")

        return jax.vmap(one, axis_name="batch")(trajectories, edits)

    found = sum(term.sum(-1) for term in batched(more, trajectories, edits).values())
    assert_allclose(found, expected, rtol=1e-10)


def test_a_source_mask_forgotten_shows_in_the_padding(longer, scores_anew, monkeypatch):
    """The law above must fail for a decoder that attends to padding."""
    more, trajectories, edits, expected = longer
    monkeypatch.setattr(Source, "is_slot", property(lambda self: self.tokens >= PAD))
    sites = scores_anew(more, trajectories, edits, NOTHING_GIVEN)
    found = sum(term.sum(-1) for term in sites.values())
    assert np.median(np.abs(found - expected)) > 0.01


def test_the_mean_of_the_gradient_is_zero_under_the_model(tiny_model):
    """Identity: the sum over everything of p grad log p is grad 1 = 0, so no gradient is NaN, in
    padded rows and empty strings either. With a key, but dropout 0, the score is the same."""
    trajectories, edits = all_writings(tiny_model("edits", max_length=2))

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradient(model, weights):
        def one(trajectory, edits):
            sites = model.score(of(trajectory), (trajectory, edits), key=jax.random.key(1))
            return sum(term.sum() for term in sites.values())

        log_p = jax.vmap(one)(trajectories, edits)
        return weights @ log_p, log_p

    def largest(tree):
        return max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree))

    model = tiny_model("edits", max_length=2)
    _, log_p = gradient(model, jnp.ones(len(edits.op)))
    probability = jnp.exp(log_p)
    assert_allclose(probability.sum(), 1.0, rtol=1e-10)
    assert largest(gradient(model, probability)[0]) < 1e-10
    of_two_strings = jnp.where(trajectories.num_steps == 2, probability, 0.0)
    assert largest(gradient(model, of_two_strings)[0]) > 0.1


def test_given_words_are_certain_and_not_scored(table_of, scores):
    """Enumeration: given that every string begins with b, which is inserted, then copied, all ways to
    go on have probability one; nothing is scored at the given position."""
    table = table_of("edits")
    given = np.asarray(table.trajectories.strings[:, :, 0]) == B
    taken = (table.edits.op[:, :, 0] == jnp.array([[INS, CPY]])) & (
        table.edits.index[:, :, 0] == jnp.array([[0, 1]])
    )
    is_step = np.arange(2) < table.num_steps[:, None]
    rows = np.flatnonzero(((given & np.asarray(taken)) | ~is_step).all(1))
    sites = scores(table.model, table.trajectories, table.edits, jnp.ones((), int))
    sites = {name: term[rows] for name, term in sites.items()}
    assert len(rows) > 500
    assert_allclose(total_probability(sites), 1.0, rtol=1e-10)
    for name, term in sites.items():
        if name != "steps":
            assert_array_equal(term.reshape(-1, 2, 4)[:, :, 0], 0.0)
    as_free = {name: term[rows] for name, term in table.sites.items()}
    assert total_probability(as_free) < 0.5  # were they scored


def test_decision_classes_are_a_partition_of_what_is_scored(table_of):
    """Identity: at every place only one of first word, other word and end has terms, whose head
    'op' is there in each."""
    table = table_of("edits")
    used = [table.sites[name] != 0.0 for name in ("first op", "op", "end")]
    assert (sum(mask.astype(int) for mask in used) <= 1).all()
    lengths = table.lengths
    assert_array_equal(used[0].reshape(-1, 2, 4)[:, :, 0], lengths > 0)
    assert_array_equal(used[1].reshape(-1, 2, 4).sum(-1), np.maximum(lengths - 1, 0))


def test_the_edits_of_a_trajectory_are_all_that_write_it(table_of):
    """Enumeration: adding up the rows of a trajectory in the table of everything, or only its own
    edits, gives the same log p(x, z). Counts: 1 + #{equal words} + #{words} ways for a word."""
    table = table_of("edits")
    expected = table.log_p_of_trajectories()
    for words, count in {((), (A,)): 1, ((B, B, B), (B,)): 7, ((A, B), (B, A, A)): 64}.items():
        z = trajectory_of(words)
        assert len(all_edits(table.model, z).op) == count
    x = of(z)
    exact = eqx.filter_jit(lambda model: enumerate_edits(model, x, z))
    assert_allclose(exact(table.model), expected[words], rtol=1e-10)


@pytest.mark.parametrize("handed_on", MODES)
def test_the_law_of_first_words_is_that_of_the_first_decision(table_of, handed_on):
    """Oracle: teacher forcing of every trajectory whose first string begins with a word. The last term is
    an identity: a law sums to one."""
    table = table_of(handed_on)
    log_p = np.asarray(table.model.first_words())
    first = np.asarray(table.trajectories.strings)[:, 0, 0]
    scored = table.sites["first token"][first != PAD, 0]
    assert_allclose(scored, log_p[first[first != PAD] - A], rtol=1e-9)
    assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-12)


def trajectory_of(words):
    strings = np.zeros((2, 3), int)
    for row, string in zip(strings, words, strict=True):
        row[: len(string)] = string
    return Trajectory(jnp.asarray(strings), jnp.asarray(2))


def of(z, num_given=0):
    return Sentence(z.last, jnp.asarray(num_given))


def test_too_many_edits_are_refused(table_of):
    z = Trajectory(jnp.full((2, 7), A), jnp.asarray(2))
    with pytest.raises(ValueError, match="written by 170,859,375 sequences of edits, more than"):
        enumerate_edits(table_of("edits").model, of(z), z)


def test_the_smallest_model_is_enumerated_by_hand(tiny_model):
    """One word at most and one string: the empty one, a and b."""
    trajectories, edits = all_writings(tiny_model("edits", max_length=1, max_steps=1))
    assert_array_equal(trajectories.strings, [[[PAD]], [[A]], [[B]]])
    assert_array_equal(edits.op, [[[END, INS]], [[INS, END]], [[INS, END]]])


def test_another_filter_leaves_the_law_alone(tiny_model):
    """Identity: the same arrays, other settings, and those not named as they were."""
    model = tiny_model("edits")
    other = model.with_filter(num_particles=7, temperature=2.0)
    assert (other.num_particles, other.temperature) == (7, 2.0)
    assert (other.threshold, other.every) == (model.threshold, model.every)
    assert all(
        one is two for one, two in zip(jax.tree.leaves(model), jax.tree.leaves(other), strict=True)
    )


@pytest.mark.parametrize(
    ("handed_on", "settings", "sentence"),
    [
        ("edits", {"num_particles": 0}, "`num_particles` is 0, but a filter needs at least one"),
        ("edits", {"temperature": 0.0}, "temperature is 0.0; give a positive one"),
        ("tokens", {"temperature": 2.0}, "sum out exactly and there is nothing to flatten"),
    ],
)
def test_filters_that_cannot_be_meant_are_refused(tiny_model, handed_on, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        tiny_model(handed_on, **settings)
    with pytest.raises(ValueError, match=sentence):
        tiny_model(handed_on).with_filter(**settings)


def test_marks_are_where_they_are_meant_to_be():
    assert (PAD, BOS, EOS) == (0, 1, 2)
    assert (INS, CPY, SUB, END) == (0, 1, 2, 3)
