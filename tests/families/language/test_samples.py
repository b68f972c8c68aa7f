"""Texts drawn from language models, and what is written of a run."""

import json
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from fixtures.reports import page
from tightbound.commands import sample
from tightbound.data.sentences import BOS, EOS, PAD
from tightbound.data.sequences import Sequence
from tightbound.data.token_split import token_splits
from tightbound.data.vocabulary import Vocabulary, character_vocabulary, word_vocabulary
from tightbound.errors import UserError
from tightbound.families.language.build import language_model
from tightbound.families.language.build_latents import sequence_vae
from tightbound.families.language.details import Details
from tightbound.families.language.draws import draw_texts_at
from tightbound.families.language.profile import by_position, likeliest, rows_from
from tightbound.families.language.samples import (
    LanguageSamples,
    ShownText,
    as_written,
    given_tokens,
    mixtures,
    texts_asked_for,
)
from tightbound.families.language.settings import LanguageModelSettings, LatentSettings
from tightbound.families.lookup import find_recipe
from tightbound.families.settings import with_settings
from tightbound.models.wrappers import Noiseless
from tightbound.report.contents import read_contents
from tightbound.runs.training import TrainOptions, begin
from tightbound.train.folder import RunFolder
from tightbound.train.run import first_state, run

SYMBOLS, LENGTH = 6, 3
SMALL = LanguageModelSettings("tanh", size=4, num_components=3, num_starts=2)
NOTHING_GIVEN = jnp.full(LENGTH, PAD, jnp.int32)
RUN = {
    "data": {"max_rows": 40},
    "model": {"size": 4, "num_components": 3, "context": "gru"},
    "run": {"batch_size": 8, "evaluate_samples": 1},
}
VAE = LanguageModelSettings(
    "tanh", emission="vector", size=4, latent=LatentSettings("gaussian", size=2)
)


@pytest.fixture(scope="module")
def model():
    """Two starts that say different things."""
    made = language_model(SMALL, SYMBOLS, LENGTH, jax.random.key(0))
    return eqx.tree_at(
        lambda m: (m.context.starts, m.start_logits, m.structure.emission.weights),
        made,
        (
            jax.tree.map(lambda leaf: 40 * leaf, made.context.starts),
            jnp.array([0.4, -0.4]),
            3 * made.structure.emission.weights,
        ),
    )


@pytest.fixture(scope="module")
def vae():
    return sequence_vae(VAE, SYMBOLS, LENGTH, jax.random.key(1))


@eqx.filter_jit
def drawn(model, given, keys, temperature):
    return jax.vmap(lambda key: model.continued(given, key, temperature))(keys)


@eqx.filter_jit
def scores(model, tokens):
    return jax.vmap(lambda t: model.score(Sequence(t, t != PAD), jnp.zeros(0))["token"])(tokens)


def test_a_drawn_text_has_the_log_p_that_the_model_scores_it_with(model):
    """Identity: token by token `score`, the starts summed out, at any temperature; padding after the
    end, and the given token kept."""
    keys = jax.random.split(jax.random.key(1), 40)
    given = NOTHING_GIVEN.at[0].set(5)
    for first, temperature in ((NOTHING_GIVEN, 1.0), (given, 0.4)):
        texts = drawn(model, first, keys, jnp.asarray(temperature))
        assert_allclose(texts.log_p, scores(model, texts.tokens), rtol=1e-9, atol=1e-12)
        tokens = np.asarray(texts.tokens)
        ended = np.cumsum(tokens == EOS, axis=1) - (tokens == EOS) > 0
        assert np.array_equal(tokens == PAD, ended)
        if first is given:
            assert np.all(tokens[:, 0] == 5)
    late = np.roll(np.asarray(texts.log_p), 1, axis=1)  # planted: one position late
    assert np.abs(late - np.asarray(scores(model, texts.tokens))).max() > 0.1


def test_what_follows_a_given_token_is_drawn_as_bayes_rule_has_it(model):
    """Monte Carlo against p(second | first) of `distributions`, 20,000 draws, every class within its
    standard errors at a level of 1e-3 over the classes. Drawing from the starts as they are before the
    first token is seen is off by more than eight."""
    given = NOTHING_GIVEN.at[0].set(4)
    num = 20_000
    texts = drawn(model, given, jax.random.split(jax.random.key(2), num), jnp.asarray(1.0))
    frequency = np.bincount(np.asarray(texts.tokens)[:, 1] - EOS, minlength=4) / num
    x = Sequence(given.at[1].set(EOS), np.array([True, True, False]))
    p = np.exp(np.asarray(eqx.filter_jit(model.distributions)(x)))[1]
    errors = np.sqrt(p * (1 - p) / num)
    assert np.all(np.abs(frequency - p) < 4.1 * errors)
    by_start = eqx.filter_jit(lambda m: m.all_log_probs(m.contexts(x.values)))(model)
    blind = np.exp(np.asarray(by_start))[:, 1]
    planted = np.asarray(jax.nn.softmax(model.start_logits)) @ blind
    assert np.max(np.abs(planted - p) / errors) > 8


def test_a_text_at_a_low_temperature_is_the_likeliest_word_after_word(model):
    """Identity: at a temperature near 0 every token is the argmax of `distributions`."""
    texts = drawn(model, NOTHING_GIVEN, jax.random.split(jax.random.key(3), 2), jnp.asarray(1e-3))
    tokens = texts.tokens[0]
    x = Sequence(tokens, tokens != PAD)
    likely = EOS + np.asarray(eqx.filter_jit(model.distributions)(x).argmax(1))
    there = np.asarray(tokens) != PAD
    assert np.array_equal(np.asarray(tokens)[there], likely[there])


def test_texts_between_two_latents_begin_and_end_at_them(vae):
    """Identity: mixtures with the shares 0 and 1 are the latents themselves, and with the same noise
    write the same texts; whole numbers have no mixtures."""
    model, _ = vae
    z = jnp.array([[0.3, -2.0], [1.5, 0.4]])
    for spherical in (False, True):
        mixed, shares = mixtures(z, 3, spherical=spherical)
        assert shares == [0.0, 0.5, 1.0]
        assert_allclose(np.asarray(mixed)[[0, 2]], np.asarray(z), rtol=1e-9)
    key = jax.random.key(4)
    write = lambda z: draw_texts_at(  # noqa: E731
        model, z, NOTHING_GIVEN, jnp.broadcast_to(key, (len(z),)), jnp.asarray(1.0)
    )
    ends, along = write(z), write(mixed[jnp.array([0, 2])])
    assert np.array_equal(ends.tokens, along.tokens)
    with pytest.raises(UserError, match="whole numbers, with nothing between them"):
        mixtures(jnp.array([[1, 0], [0, -1]]), 3, spherical=False)


def test_the_likeliest_symbols_are_those_of_the_distribution(model):
    """Oracle: the distribution sorted in NumPy; all symbols together have probability 1."""
    x = Sequence(jnp.array([[4, 5, EOS], [3, EOS, PAD]]), jnp.array([[True] * 3, [1, 1, 0]], bool))
    log_p, symbols = likeliest(model, x, jnp.zeros((2, 0)), model.num_classes)
    first = jax.tree.map(lambda leaf: leaf[0], x)
    own = np.asarray(eqx.filter_jit(model.distributions)(first))
    assert_allclose(np.asarray(log_p)[0], -np.sort(-own, axis=1), rtol=1e-12)
    assert np.array_equal(np.asarray(symbols)[0], EOS + np.argsort(-own, axis=1))
    assert_allclose(np.exp(np.asarray(log_p)).sum(-1), 1.0, rtol=1e-12)


def test_the_loss_by_position_is_the_mean_over_rows_that_have_it():
    """Oracle: means and standard errors by hand; what is masked is not read."""
    nats = np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]])
    found = by_position(nats, np.array([[True, True, False], [True, False, False]]))
    assert found == {"position": [1, 2], "mean": [2.0, 2.0], "error": [1.0, None], "rows": [2, 1]}


def test_a_prefix_is_read_in_the_symbols_of_the_run():
    """Oracle: the vocabulary's own numbers; a begin symbol comes first where the run's rows have one."""
    words = word_vocabulary([["the", "cat"]], min_count=1)
    letters = character_vocabulary(["the cat"])
    plain = token_splits({"train": [[4, EOS]]}, law="")["train"]
    begun = token_splits({"train": [[BOS, 4, EOS]]}, law="")["train"]
    assert given_tokens(plain, words, "cat the", 4).tolist() == [
        *words.encode(["cat", "the"]),
        0,
        0,
    ]
    assert given_tokens(begun, letters, "ca", 4).tolist() == [BOS, *letters.encode("ca"), PAD]
    with pytest.raises(UserError, match="--prefix has 'dog', which this run's vocabulary does not"):
        given_tokens(plain, words, "the dog", 4)
    with pytest.raises(
        UserError, match="--prefix has 4 symbols, but this run's texts have at most 4"
    ):
        given_tokens(plain, letters, "that", 4)


def test_a_text_is_written_with_log_p_of_every_token():
    """Identity: the total is their sum; a begin symbol is neither counted nor called given."""
    text = ShownText("drawn", ("<bos>", "the", "cat"), (None, -1.25, -0.5), 2)
    written = as_written([text], ["A note."])
    first = "drawn, 1 given, without an end, log p -1.75 nats"
    assert written == f"A note.\n\n{first}\n  <bos>  the -1.25  cat -0.50\n"
    ended = ShownText("drawn", ("cat", "<eos>"), (-1.25, -0.5), 0)
    assert as_written([ended], []) == "drawn, log p -1.75 nats\n  cat -1.25  <eos> -0.50\n"
    assert text.to_json()["nats"] == [None, 1.25, 0.5]


def test_rows_begin_with_the_one_asked_for():
    """Identity: the row, those after it, and from the top again."""
    assert rows_from(4, 2).tolist() == [2, 3, 0, 1]
    with pytest.raises(
        UserError, match="--row 4 was asked for, but the held-out split has the rows 0"
    ):
        rows_from(4, 4)


@pytest.fixture(scope="module")
def setup():
    """A tiny untrained model on a few sentences."""
    return with_settings(find_recipe("dlm/toy-grammar"), RUN).build(0)


@pytest.fixture(scope="module")
def language_run(setup, tmp_path_factory):
    """A run of it that has just begun: its first checkpoint is there, and no step is compiled."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "toy")
    recipe = with_settings(find_recipe("dlm/toy-grammar"), RUN)
    begin(recipe, "dlm/toy-grammar", folder, TrainOptions(), setup)
    next(iter(run(setup, folder)))
    return folder


def test_what_is_written_of_a_run_is_what_the_model_says(setup, language_run, capsys):
    """Identity: the nats shown of a held-out row sum to its log p, alternatives are of the position they
    stand at, the shares of components to 1, and the page has all of it and nothing of other families."""
    assert sample.main([str(language_run.path), "--num", "2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [text["name"] for text in printed["texts"]] == ["drawn", "drawn"]
    contents = read_contents(language_run)
    profile = contents.newest("language-step")
    batch = setup.data["valid"].take(np.array([0]))
    log_p = np.asarray(scores(setup.model, jnp.asarray(batch.x.values)))[0]
    shown = profile["sentences"][0]
    assert_allclose(sum(shown["nats"]), -log_p.sum(), rtol=1e-3)
    assert_allclose(sum(profile["usage"]["answerable"]), 1.0, rtol=1e-3)
    for token, nats, others in zip(
        *(shown[k] for k in ("tokens", "nats", "alternatives")), strict=True
    ):
        told = dict(others)
        if token in told:
            assert_allclose(-np.log(told[token]), nats, rtol=2e-3)
    worst = [one["nats"] for one in profile["worst"]]
    assert worst == sorted(worst, reverse=True)
    assert "transitions" not in profile
    html = page(contents)
    for heading in (
        "Token by token",
        "Loss by position",
        "Mixture usage",
        "Embedding norms",
        "Texts",
    ):
        assert heading in html
    for other in ("State transitions", "Attention", "Alignment prior"):
        assert other not in html


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--between", "0", "1"], "--between mixes latents, and this LanguageModel has none"),
        (["--beam"], "--beam is for runs on texts by edits, and"),
        (["--num-steps", "3"], "--num-steps is for runs on sequences, and"),
        (["--prefix", "xyzzy"], "--prefix has 'xyzzy', which this run's vocabulary does not know"),
        (["--row", "-1"], "--row -1 was asked for, but the held-out split has"),
    ],
)
def test_what_cannot_be_meant_is_refused(language_run, options, message):
    """Each of these names the option and what to do instead."""
    with pytest.raises(UserError, match=message):
        sample.main([str(language_run.path), *options])


def test_an_auto_encoder_without_noise_is_not_asked_for_draws_from_its_prior(setup, vae):
    """Identity: texts are reconstructions alone, with a note; the same pair with noise draws as many as
    were asked for, and every held-out text has the log p of `score` at its z."""
    model, proposal = vae
    words = Vocabulary(("<pad>", "<bos>", "<eos>", "<unknown>", "a", "b"), "words")
    rows = [[4, 5, EOS], [5, EOS], [4, 4, EOS]]
    data = token_splits({"train": rows, "valid": rows}, law="")
    noisy = replace(
        setup,
        model=model,
        proposal=proposal,
        data=data,
        details=Details(words),
        run=replace(setup.run, batch_size=3),
    )
    noiseless = replace(noisy, proposal=Noiseless(proposal))
    state = first_state(noisy)
    still = eqx.tree_at(lambda s: s.proposal, state, noiseless.proposal)
    request, key = LanguageSamples(num=2), jax.random.key(5)
    shown, notes = texts_asked_for(noiseless, still, words, request, key)
    assert [text.name for text in shown[:2]] == ["held-out row 0", "drawn at its z"]
    assert len(shown) == 6
    assert notes[0].startswith("Nothing was drawn from the prior")
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), data["valid"].x)
    z = proposal.proposal(x).mean
    assert_allclose(shown[0].log_p, np.asarray(model.score(x, z)["token"]), rtol=1e-6)
    with pytest.raises(UserError, match="--prefix goes on with draws from the prior"):
        texts_asked_for(noiseless, still, words, replace(request, prefix="a"), key)
    shown, notes = texts_asked_for(noisy, state, words, request, key)
    assert [text.name for text in shown[:2]] == ["drawn, z from the prior"] * 2
    assert notes == []
