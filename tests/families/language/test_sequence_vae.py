"""A sequence VAE is a probability model over strings, reads what it may, and no padding."""

import itertools
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import Batch
from tightbound.data.sentences import EOS, PAD, UNKNOWN
from tightbound.data.sequences import Sequence
from tightbound.families.edits.exact import quadrature_log_marginal
from tightbound.families.language.build_latents import sequence_vae
from tightbound.families.language.encoders import AtOnceEncoder, RecurrentEncoder
from tightbound.families.language.inputs import normalise, shifted
from tightbound.families.language.sequence_vae import RecurrentDecoder
from tightbound.families.language.settings import LanguageModelSettings, LatentSettings
from tightbound.families.language.twin import language_twin
from tightbound.inference.weigh import weigh

TOKENS = jnp.array([4, 3, 4, 5, EOS])
NUM_POSITIONS = 7
PADDING = jnp.array([5, 4])  # what a careless reader would take for words
SIDES = ("recurrent", "linear", "two-layer")
Z = jnp.array([0.7, -1.3])


def settings_of(kind: Any = "gaussian", side: Any = "recurrent", **changes: Any):
    word_dropout = changes.pop("word_dropout", 0.0)
    latent = LatentSettings(kind, 2, side, side, word_dropout=word_dropout)
    changes.setdefault("context", "gru")
    return LanguageModelSettings(
        size=5, num_components=3, emission="mixture", latent=latent, **changes
    )


@cache
def pair_of(kind="gaussian", side="recurrent", **changes):
    settings = settings_of(kind, side, **changes)
    return sequence_vae(settings, 6, NUM_POSITIONS, jax.random.key(0))


@cache
def twin_of(kind="gaussian", side="recurrent"):
    twin = language_twin(settings_of(kind, side), jax.random.key(1))
    return twin.model, twin.proposal, jax.tree.map(jnp.asarray, twin.observations)


def whole(tokens):
    return Sequence(tokens, jnp.ones(len(tokens), bool))


def tokens_score(model, x, z):
    return eqx.filter_jit(model.score)(x, z)["token"]


# --- normalisation -------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["recurrent", "two-layer"])
def test_given_z_all_strings_of_two_words_sum_to_one(side):
    """Enumeration: 7 ended strings and 8 that three symbols cut short, for two z. Planted: without
    the scores of EOS."""
    model, _, every_x = twin_of(side=side)
    z = jnp.array([[0.7], [-2.0]])
    score = jax.vmap(jax.vmap(model.score, in_axes=(0, None)), in_axes=(None, 0))
    log_p = jax.jit(score)(every_x, z)["token"]
    assert log_p.shape == (2, 15, 3)
    assert_allclose(np.exp(log_p.sum(-1)).sum(-1), 1.0, rtol=1e-12)
    endless = jnp.where((every_x.values != EOS)[None], log_p, 0.0)
    assert (np.exp(endless.sum(-1)).sum(-1) > 1.3).all()


@pytest.mark.parametrize(("kind", "values"), [("bernoulli", (0, 1)), ("ternary", (-1, 0, 1))])
def test_discrete_latents_and_strings_together_sum_to_one(kind, values):
    """Enumeration of every (x, z) of two units, and of q(z | x) for one x."""
    model, proposal = pair_of(kind)
    every_z = jnp.array(list(itertools.product(values, repeat=2)))
    _, _, every_x = twin_of()

    @eqx.filter_jit
    def log_joint(model):
        score = jax.vmap(jax.vmap(model.score, in_axes=(None, 0)), in_axes=(0, None))
        return sum(term.sum(-1) for term in score(every_x, every_z).values())

    # the model knows one more word than the twin's: of it, strings of three are missing
    words = jnp.array([UNKNOWN, 4, 5])
    missing = [
        row for n in range(1, 4) for row in itertools.product(words, repeat=n) if 5 in map(int, row)
    ]
    rows = jnp.array([[*row, *[EOS, PAD][: 3 - len(row)]] for row in missing])
    also = Sequence(rows, rows != PAD)
    every_x = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), every_x, also)
    assert_allclose(np.exp(log_joint(model)).sum(), 1.0, rtol=1e-12)
    log_q = jax.jit(jax.vmap(proposal.proposal(whole(TOKENS)).log_prob))(every_z)
    assert_allclose(np.exp(log_q).sum(), 1.0, rtol=1e-12)


# --- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gaussian", "full-gaussian", "bernoulli", "ternary"])
def test_weights_average_to_the_marginal(kind):
    """Monte Carlo within 4.5 standard errors (4 at 1e-3 together: 3.7) of quadrature over one or
    two real latents, or of enumeration. Planted: weights without the proposal."""
    num_draws = 4000
    if "gaussian" in kind:
        model, proposal, _ = twin_of(kind)
        tokens = jnp.array([UNKNOWN, 4, EOS])
        exact = eqx.filter_jit(quadrature_log_marginal)(model, whole(tokens))
    else:
        model, proposal = pair_of(kind)
        tokens = TOKENS
        values = {"bernoulli": (0, 1), "ternary": (-1, 0, 1)}[kind]
        every_z = jnp.array(list(itertools.product(values, repeat=2)))
        score = jax.jit(jax.vmap(lambda z: model.score(whole(tokens), z)))(every_z)
        exact = jax.nn.logsumexp(sum(term.sum(-1) for term in score.values()))
    batch = Batch(
        Sequence(tokens[None], jnp.ones((1, len(tokens)), bool)),
        jnp.ones((1, len(tokens)), bool),
        jnp.array([len(tokens)]),
        jnp.array([0]),
    )
    terms = eqx.filter_jit(weigh)(
        model, proposal, batch, num_samples=num_draws, key=jax.random.key(5)
    )

    def errors_from_exact(log_weights):
        ratio = np.exp(np.asarray(log_weights[:, 0]) - exact)
        return abs(ratio.mean() - 1) / (ratio.std(ddof=1) / np.sqrt(num_draws))

    assert errors_from_exact(terms.log_weights) < 4.5
    assert errors_from_exact(terms.log_joint) > 8.0


# --- what may be read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "context", "mutations"),
    [("recurrent", "gru", ()), ("recurrent", "mgru", (10, 11)), ("linear", "gru", ())],
)
def test_padding_changes_neither_the_scores_nor_the_proposal(side, context, mutations):
    """Identity, with words written into the padding, also for a cell that counts its steps.
    Planted: the padding's mask is forgotten."""
    model, proposal = pair_of(side=side, context=context, mutations=mutations)
    x = whole(TOKENS)
    values = jnp.concatenate([TOKENS, PADDING])
    padded = Sequence(values, jnp.arange(7) < 5)
    forgotten = whole(values)
    score = eqx.filter_jit(model.score)
    short, long = score(x, Z), score(padded, Z)
    assert_allclose(long["token"], [*short["token"], 0, 0], atol=1e-14)
    assert_array_equal(long["z"], short["z"])
    assert np.abs(score(forgotten, Z)["token"][5:]).min() > 0.1
    log_q = jax.jit(lambda x: proposal.proposal(x).log_prob(Z))
    assert_allclose(log_q(padded), log_q(x), rtol=1e-13)
    assert abs(log_q(forgotten) - log_q(x)) > 1e-5


@pytest.mark.parametrize(("normalisation", "leaks"), [("feature", False), ("time", True)])
def test_given_z_the_recurrent_decoder_reads_no_later_word(normalisation, leaks):
    """Law: other words from position 3 on leave the scores before alone. Planted: a statistic over
    time, which moves them."""
    model, _ = pair_of(normalisation=normalisation)
    others = TOKENS.at[3:].set(jnp.array([4, 4]))
    moved = tokens_score(model, whole(others), Z) - tokens_score(model, whole(TOKENS), Z)
    assert (np.abs(moved[:3]).max() > 1e-4) == leaks
    assert np.abs(moved[4]) > 1e-4  # the word before it is another
    if not leaks:
        assert_allclose(moved[:3], 0.0, atol=1e-14)


@pytest.mark.parametrize("side", ["linear", "two-layer"])
def test_a_decoder_of_all_words_at_once_is_given_none(side):
    """Law: a word's score does not depend on any other word, but it does on z."""
    model, _ = pair_of(side=side)
    before = tokens_score(model, whole(TOKENS), Z)
    after = tokens_score(model, whole(TOKENS.at[1].set(5)), Z)
    assert_array_equal(np.delete(after, 1), np.delete(before, 1))
    assert np.abs(tokens_score(model, whole(TOKENS), -Z) - before).min() > 1e-4


@pytest.mark.parametrize("side", SIDES)
def test_the_encoder_reads_every_word(side):
    """Law: the proposal's mean moves with any one of the words."""
    _, proposal = pair_of(side=side)
    mean = jax.jit(jax.vmap(lambda tokens: proposal.proposal(whole(tokens)).mean))
    changed = jnp.stack([TOKENS.at[i].set((TOKENS[i] - 2) % 3 + 3) for i in range(len(TOKENS))])
    moved = mean(changed) - mean(TOKENS[None])
    assert (np.abs(moved).max(1) > 1e-6).all()


def test_the_recurrent_encoder_reads_from_the_last_word_to_the_first():
    """Oracle: the cell stepped by hand over the words in reverse. Planted: in order."""
    _, proposal = pair_of()
    encoder = proposal.encoder
    assert isinstance(encoder, RecurrentEncoder)
    projected = encoder.cell.project(normalise(proposal.embedding[TOKENS], "feature"))

    def by_hand(order):
        state = encoder.cell.init()
        for i in order:
            state = encoder.cell.step(state, projected[i])
        return encoder.head(encoder.cell.read(state))

    mean = proposal.proposal(whole(TOKENS)).mean
    assert_allclose(mean, by_hand([4, 3, 2, 1, 0])[:2], rtol=1e-12)
    assert np.abs(mean - by_hand(range(5))[:2]).max() > 1e-3


def test_the_recurrent_decoder_starts_at_a_linear_map_of_z():
    """Oracle: the cell stepped by hand from W z + b, hidden state and memory. Planted: from its own
    start."""
    model, _ = pair_of(context="lstm")
    decoder = model.decoder
    assert isinstance(decoder, RecurrentDecoder)
    cell = decoder.context.cell
    inputs = normalise(shifted(TOKENS, model.network.embedding), "feature")
    projected = cell.project(inputs)

    def by_hand(state):
        contexts = []
        for i in range(len(TOKENS)):
            state = cell.step(state, projected[i])
            contexts.append(cell.read(state))
        return np.stack(contexts)

    weight, bias = decoder.start.weight, decoder.start.bias
    unravel = ravel_pytree(cell.init())[1]
    found = model.given(Z).contexts(TOKENS)[0]
    assert_allclose(found, by_hand(unravel(weight @ Z + np.asarray(bias))), rtol=1e-12)
    assert np.abs(found - by_hand(cell.init())).max() > 0.01


# --- word dropout --------------------------------------------------------------------------------


def test_left_out_words_are_read_as_unknown_with_the_stated_probability():
    """Enumeration: the mean score under word dropout 0.3 is that over the 4 ways to leave out the
    two words given, within 4.5 standard errors. Planted: probability 0.7. The words that are
    predicted stay, so without a key the score is that of no dropout, to the bit."""
    model, _ = pair_of(word_dropout=0.3)
    tokens = jnp.array([4, 5, EOS])
    keys = jax.random.split(jax.random.key(7), 3000)
    noisy = jax.jit(jax.vmap(lambda key: model.score(whole(tokens), Z, key=key)["token"]))
    drawn = np.asarray(noisy(keys))[:, 2]
    given = model.given(Z)

    @jax.jit
    def score_of_end(read):
        return given.log_probs(given.contexts(read), jnp.zeros(3, int))[0, 2]

    def expected(rate):
        ways = itertools.product([(4, 1 - rate), (UNKNOWN, rate)], [(5, 1 - rate), (UNKNOWN, rate)])
        return sum(p * q * score_of_end(jnp.array([a, b, EOS])) for (a, p), (b, q) in ways)

    error = drawn.std() / np.sqrt(len(drawn))
    assert abs(drawn.mean() - expected(0.3)) < 4.5 * error
    assert abs(drawn.mean() - expected(0.7)) > 8 * error
    plain, _ = pair_of()
    assert_array_equal(tokens_score(model, whole(tokens), Z), tokens_score(plain, whole(tokens), Z))


# --- draws and bad input -------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["recurrent", "linear"])
def test_drawn_strings_have_the_frequencies_of_their_scores(side):
    """Enumeration of the 15 strings: each frequency within 5 standard errors (30 at 1e-3 together:
    4.2). Planted: the strings of another z."""
    model, _, every_x = twin_of(side=side)
    num_draws, z = 4000, jnp.array([2.0])
    draw = jax.jit(jax.vmap(lambda key: model.sample_likelihood(z, key)))
    drawn = draw(jax.random.split(jax.random.key(9), num_draws))
    values = np.where(drawn.mask, drawn.values, PAD)
    frequency = (values[:, None] == np.asarray(every_x.values)).all(-1).mean(0)
    score = jax.jit(jax.vmap(model.score, in_axes=(0, None)))

    def errors_from(z):
        p = np.exp(np.asarray(score(every_x, z)["token"].sum(-1)))
        return (np.abs(frequency - p) / np.sqrt(p * (1 - p) / num_draws)).max()

    assert_allclose(frequency.sum(), 1.0)
    assert errors_from(z) < 5.0
    assert errors_from(-3 * z) > 8.0


def test_a_sequence_longer_than_the_encoder_is_refused():
    encoder = AtOnceEncoder(5, 3, jnp.zeros(4), hidden_size=2, depth=0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="4 symbols came, but the encoder was made for at most 3"):
        encoder(jnp.zeros((4, 5)), jnp.ones(4, bool))


def test_a_word_dropout_beyond_one_is_refused():
    with pytest.raises(ValueError, match=r"word dropout is 1\.5, but it is a probability"):
        pair_of(word_dropout=1.5)
