"""Language models whose softmax is trained on drawn classes, or by clusters. Oracles: the estimators' formulas in
NumPy on the classes that were drawn, and sums over all classes."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit, log_softmax, logsumexp

from fixtures.examinations import TRAPS
from tightbound.data.sentences import EOS
from tightbound.data.sequences import sequence_split
from tightbound.diagnose.checks.gradient import gradient_is_the_slope
from tightbound.diagnose.checks.objective import objective_is_its_claim
from tightbound.diagnose.checks.probability import rows_are_scored_alone
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws.objective import objective
from tightbound.errors import UserError
from tightbound.estimators.class_proposals import class_proposal
from tightbound.families.language.build_softmax import on_drawn_classes
from tightbound.families.language.emissions_sampled import LearnedNormaliser, ShiftedByProposal
from tightbound.families.language.on_drawn_classes import OnDrawnClasses
from tightbound.families.language.pair import model_and_proposal
from tightbound.families.language.settings import (
    LanguageModelSettings,
    LatentSettings,
    StructureSettings,
)
from tightbound.families.language.settings_softmax import SoftmaxSettings
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.train.objective import Claim, Objective, mixes_rows, values_are_bounds
from tightbound.train.run import first_state
from tightbound.train.truncated import Truncated
from tightbound.unread import replaced

COUNTS = np.array([40, 3, 25, 9, 1, 0, 14])
NUM_CLASSES, LENGTH = len(COUNTS), 4
ROWS = [np.array([4, 7, 3, 2], np.int32), np.array([8, 2], np.int32)]
BATCH = sequence_split("train", ROWS).take(np.arange(2))
KEY, STEP = jax.random.key(3), jnp.asarray(0)
PLAIN = LanguageModelSettings("window", emission="vector", size=3, window=2, normalisation="none")


def settings(kind, **own):
    own = {"num_samples": 5, **own} if kind not in ("exact", "adaptive", "two-level") else own
    emission = "matrix" if kind in ("adaptive", "two-level") else "vector"
    return replace(PLAIN, emission=emission, softmax=SoftmaxSettings(kind, **own))


def pair_of(model_settings):
    """Model and proposal, with a bias at no class that is 0."""
    made, proposal = model_and_proposal(
        model_settings, NUM_CLASSES + EOS, LENGTH, True, jax.random.key(0), COUNTS
    )
    leaves, tree = jax.tree.flatten(eqx.filter(made, eqx.is_inexact_array))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        leaf + 0.3 * jax.random.normal(k, leaf.shape) for leaf, k in zip(leaves, keys, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(tree, noisy), made), proposal


KINDS = {
    "importance": {},
    "with-target": {"tilt": 0.5},
    "candidates": {"proposal": "unigram-0.75"},
    "nce": {"learned_normaliser": True},
    "negative": {"proposal": "unigram-0.75"},
}


def by_hand(kind, scores, target, drawn, log_q, log_z, log_q_of_negative):
    """The value of one position, in NumPy."""
    m, corrected = len(drawn), scores[drawn] - log_q[drawn]
    match kind:
        case "importance":
            return scores[target] - logsumexp(corrected) + np.log(m)
        case "with-target":
            others = np.exp(corrected)[drawn != target].sum() / m
            return scores[target] - np.log(np.exp(scores[target]) + others)
        case "candidates":
            own = scores[target] - log_q[target]
            return own - logsumexp([own, *corrected])
        case "nce":
            noise = np.log(m) + log_q + log_z
            log_h = np.log(expit(scores[target] - noise[target]))
            return log_h + np.log(expit(noise[drawn] - scores[drawn])).sum()
        case "negative":
            scores = scores - log_q_of_negative
            return np.log(expit(scores[target])) + np.log(expit(-scores[drawn])).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_the_estimator_of_every_token_on_classes_drawn_once(kind):
    """Oracle: the formulas in NumPy. Evaluation has the exact softmax of the same scores, and the record says
    that the values of training are no bounds. Planted: draws of another key give another value."""
    chosen = settings(kind, **KINDS[kind])
    model, proposal = pair_of(chosen)
    raised = on_drawn_classes(Objective(), chosen.softmax, COUNTS)
    emission = model.structure.emission

    @eqx.filter_jit
    def ask(model, key):
        value, terms = raised(model, proposal, BATCH, key=key, step=STEP)
        contexts = jax.vmap(lambda x: model.contexts(jnp.asarray(x.values))[0])(BATCH.x)
        products = jax.vmap(lambda c: emission.inner_products(c, model.embedding[EOS:]))(contexts)
        scores = jnp.einsum("rts,cs->rtc", products.vectors, products.matrix[0])
        log_p = jax.vmap(model.all_log_probs)(contexts[:, None])[:, 0]
        return value, terms.log_weights[0], scores + products.bias[:, None], log_p, contexts

    value, log_weights, scores, log_p, contexts = map(np.asarray, ask(model, KEY))
    assert_allclose(log_p, log_softmax(scores, axis=-1), rtol=1e-9)
    drawn = raised.draw(model, BATCH, jax.random.fold_in(KEY, 0x50F7))
    log_z = np.zeros(scores.shape[:2])
    if kind == "nce":
        assert isinstance(emission, LearnedNormaliser)
        log_z = contexts @ np.asarray(emission.weights) + np.asarray(emission.bias)
    shift = np.zeros(NUM_CLASSES)
    if kind == "negative":
        assert isinstance(emission, ShiftedByProposal)
        shift = 0.75 * np.log1p(COUNTS)
    wanted = [
        sum(
            by_hand(
                kind, scores[r, t], token - EOS, *map(np.asarray, (drawn.classes, drawn.log_q)),
                log_z[r, t], shift,
            )
            for t, token in enumerate(row)
        )
        for r, row in enumerate(ROWS)
    ]  # fmt: skip
    assert_allclose(log_weights, wanted, rtol=1e-9)
    assert_allclose(value, np.mean(wanted), rtol=1e-9)
    assert abs(ask(model, jax.random.key(9))[0] - value) > 1e-3
    assert not values_are_bounds(raised)
    assert mixes_rows(raised) == (kind == "with-target")


def test_samples_from_the_batch_are_its_words():
    chosen = settings("with-target", proposal="batch")
    raised = on_drawn_classes(Objective(), chosen.softmax, COUNTS)
    drawn = raised.draw(pair_of(chosen)[0], BATCH, KEY)
    assert set(np.asarray(drawn.classes) + EOS) <= set(np.concatenate(ROWS))
    assert mixes_rows(raised)


def test_a_latent_for_the_whole_sequence_is_weighed_beside_drawn_classes():
    """Identity: log p(z) - log q(z) is what it is under the exact softmax; the words' part is not."""
    chosen = replace(
        PLAIN, softmax=SoftmaxSettings("importance", 5), context="gru", window=5,
        latent=LatentSettings("gaussian", size=2),
    )  # fmt: skip
    model, proposal = pair_of(chosen)
    ask = eqx.filter_jit(lambda f, m: f(m, proposal, BATCH, key=KEY, step=STEP)[1])
    exact = ask(Objective(), model)
    drawn = ask(on_drawn_classes(Objective(), chosen.softmax, COUNTS), model)
    assert_allclose(drawn.log_prior - drawn.log_proposal, exact.log_prior - exact.log_proposal)
    assert np.abs(drawn.log_likelihood - exact.log_likelihood).max() > 1e-2


@pytest.mark.parametrize(("kind", "own"), [("adaptive", {"clusters": (2, 4)}), ("two-level", {})])
def test_clusters_are_a_law_of_their_own(kind, own):
    """Identity: all classes sum to 1 at every position, and the score of a word is its own among them."""
    model, _ = pair_of(settings(kind, **own))

    @eqx.filter_jit
    def ask(model):
        log_p = jax.vmap(model.distributions)(BATCH.x)
        return log_p, jax.vmap(lambda x: model.score(x, jnp.zeros(0))["token"])(BATCH.x)

    log_p, score = map(np.asarray, ask(model))
    assert_allclose(np.exp(log_p).sum(-1), 1.0, rtol=1e-9)
    for r, row in enumerate(ROWS):
        assert_allclose(score[r, : len(row)], log_p[r, np.arange(len(row)), row - EOS], rtol=1e-9)


def test_it_claims_what_the_inner_objective_claims():
    inner = Objective("elbo", 3)
    claim = OnDrawnClasses(inner, "nce", 2, class_proposal("uniform", COUNTS))
    assert isinstance(claim, Claim)
    assert (claim.estimator, claim.num_samples, claim.path) == ("elbo", 3, "full")
    assert values_are_bounds(inner)
    assert not values_are_bounds(Truncated(inner, 2, 4))


def test_models_without_one_softmax_over_scores_are_refused():
    raised = OnDrawnClasses(Objective(), "nce", 2, class_proposal("uniform", COUNTS))
    model, proposal = pair_of(replace(PLAIN, emission="mixture", num_components=2))
    with pytest.raises(
        ValueError, match=r"MixtureEmission gives p.class. as a sum over components"
    ):
        raised(model, proposal, BATCH, key=KEY, step=STEP)
    with pytest.raises(ValueError, match="but ProbabilisticPCA is no language model"):
        raised(ProbabilisticPCA(2, 1, key=KEY), proposal, BATCH, key=KEY, step=STEP)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"emission": "mixture"}, "the emission 'mixture', which normalises its few components"),
        (
            {"structure": StructureSettings("maps")},
            "the structure 'maps', which gives p.word. as a sum",
        ),
    ],
)
def test_settings_without_one_softmax_are_refused_by_name(changes, sentence):
    with pytest.raises(UserError, match=rf"The softmax 'nce' was asked for with {sentence}"):
        pair_of(replace(settings("nce"), **changes))


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(UserError, match=r"'two-level', with matrices of its own, .* 'vector'"):
        pair_of(replace(PLAIN, softmax=SoftmaxSettings("two-level")))
    with pytest.raises(UserError, match=r"`num_samples` was set to 5, .* `kind` is 'exact'"):
        SoftmaxSettings(num_samples=5)
    with pytest.raises(UserError, match=r"`tilt` was set to 0.1, .* `kind` is 'nce'"):
        SoftmaxSettings("nce", tilt=0.1)
    with pytest.raises(UserError, match=r"`tilt` was set to 0.1, .* `proposal` is 'batch'"):
        SoftmaxSettings("importance", proposal="batch", tilt=0.1)
    with pytest.raises(
        UserError, match=r"num_samples` is 7 of 7 classes, but the exact softmax looks"
    ):
        on_drawn_classes(Objective(), SoftmaxSettings("importance", 7), COUNTS)
    with pytest.raises(
        UserError, match=r"`tilt` is 1\.0, but it must be a number from 0 to below 1"
    ):
        SoftmaxSettings("importance", 5, tilt=1.0)
    with pytest.raises(UserError, match=r"`num_samples` is 0, but it must be a whole number of at"):
        SoftmaxSettings("importance", 0)


def test_words_of_neighbours_among_the_draws_are_no_false_alarm():
    """The trap of the drill whose draws are tilted to the batch: its objective is what it claims to be, its
    gradient the slope of it, and its rows are scored alone by the model, which is what TB105 asks."""
    trap = TRAPS["dlm/sampled-softmax"]
    setup = replace(
        trap,
        data=replace(trap.data, max_rows=80),
        model=replaced(trap.model, size=4, context="previous", normalise_contexts=False),
    ).build(0)
    assert mixes_rows(setup.objective)
    assert "Held-out numbers are of the exact softmax" in setup.notes[-1]
    held = objective(setup, first_state(setup), jax.random.key(5))
    for finding in (
        objective_is_its_claim(held),
        gradient_is_the_slope(held),
        rows_are_scored_alone(held),
    ):
        assert finding.verdict is Verdict.OK
