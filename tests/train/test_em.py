"""Monte Carlo EM against Fisher's identity by enumeration, and the other objectives by identities.

One sampled test, its keys fixed beforehand: five projections within 3.8 standard errors (level 1e-3).
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp, softmax

from tightbound.data.batch import Batch
from tightbound.data.sentences import BOS, EOS, NUM_MARKS, PAD, Sentence
from tightbound.families.edits.alignment import align
from tightbound.families.edits.deterministic import PointMass
from tightbound.families.edits.exact import all_edits, enumerate_edits
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.trajectory import Trajectory
from tightbound.models.base import AbstractProposal
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.terms import LogTerms
from tightbound.train.em import (
    Exchangeable,
    MonteCarloEM,
    Supervised,
    heads_averaged_apart,
    total_score,
    weigh_one_path,
)

A, B = 3, 4
Z = Trajectory(jnp.array([[A, B], [B, A]]), jnp.array(2))
X = Sentence(Z.last, jnp.array(0))
STEP = jnp.zeros((), int)


class Fixed(AbstractProposal):
    """The one trajectory, whatever the sentence."""

    z: Trajectory

    def proposal(self, x):
        return PointMass(self.z)


def tiny_model(handed_on):
    return EditModel(
        5,
        2,
        2,
        size=4,
        num_heads=1,
        hidden_size=4,
        num_layers=1,
        handed_on=handed_on,
        embedding_scale=1.0,
        key=jax.random.key(0),
    )


def batch_of(rows):
    x = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(rows), *leaf.shape)), X)
    return Batch(x, x.tokens != PAD, jnp.full(len(rows), 2), jnp.asarray(rows))


def total(model, edits):
    return jnp.concatenate(list(model.score(X, (Z, edits)).values())).sum()


@eqx.filter_jit
def by_enumeration(model):
    """Of every way to write the strings: log p(x, z, e) and its gradient."""
    of_edits = eqx.filter_value_and_grad(total)
    log_p, gradients = jax.vmap(lambda e: of_edits(model, e))(all_edits(model, Z))
    return log_p, jax.vmap(lambda tree: ravel_pytree(tree)[0])(gradients)


@pytest.fixture(scope="module")
def deep():
    model = tiny_model("edits")
    return model, *map(np.asarray, by_enumeration(model))


def test_the_posterior_mean_of_the_gradient_is_the_gradient_of_log_p(deep):
    """Fisher's identity by enumeration, where edits are handed on; the plain mean does not give it."""
    model, log_p, gradients = deep
    exact = eqx.filter_jit(eqx.filter_grad(lambda model: enumerate_edits(model, X, Z)))(model)
    exact, _ = ravel_pytree(exact)
    assert_allclose(softmax(log_p) @ gradients, exact, atol=1e-12)
    assert np.abs(gradients.mean(0) - exact).max() > 0.1


def test_monte_carlo_em_follows_the_gradient_of_log_p():
    """Oracle: the gradient by enumeration, where the E-step's draws are exact ("tokens" handed on):
    2,000 gradients of the objective as shipped, along five directions. Taught with edits drawn alike,
    the gradient is elsewhere."""
    model = tiny_model("tokens")
    num_keys = 2_000

    @eqx.filter_jit
    def gradients(model, keys):
        def of_key(key):
            def value(model):
                return MonteCarloEM()(model, Fixed(Z), batch_of([0]), key=key, step=STEP)[0]

            return ravel_pytree(eqx.filter_grad(value)(model))[0]

        return jax.vmap(of_key)(keys)

    found = np.asarray(gradients(model, jax.random.split(jax.random.key(1), num_keys)))
    log_p, by_edit = map(np.asarray, by_enumeration(model))
    exact = softmax(log_p) @ by_edit
    directions = np.random.default_rng(0).normal(size=(found.shape[1], 5))
    along = found @ directions
    standard_error = along.std(0, ddof=1) / np.sqrt(num_keys)
    assert (np.abs(along.mean(0) - exact @ directions) < 3.8 * standard_error).all()
    alike = by_edit.mean(0) @ directions
    assert np.median(np.abs(alike - exact @ directions) / standard_error) > 8


def test_draws_of_a_sentence_are_averaged_each_with_a_filter_of_its_own():
    """Identity: three draws of row 5 are one draw each of rows 15, 16 and 17, under one key."""
    model, key = tiny_model("edits"), jax.random.key(2)

    @eqx.filter_jit
    def run(model, rows, times):
        return MonteCarloEM(times)(model, Fixed(Z), batch_of(rows), key=key, step=STEP)

    value, terms = run(model, [5], 3)
    expected, apart = run(model, [15, 16, 17], 1)
    assert_allclose(value, expected, rtol=1e-12)
    assert_allclose(terms.log_weights, apart.log_weights.T, rtol=1e-12)
    assert len(set(np.asarray(terms.log_weights).ravel().tolist())) > 1
    assert_array_equal(terms.num_units, [2])


def test_one_path_is_below_the_sum_over_all_by_its_share(deep):
    """Oracle: log p(x, z, e*) = log p(x, z) + log p(e* | x, z) by enumeration; with q certain of z
    the weight is the joint. The supervised objective has the same terms, and their mean as value."""
    model, log_p, _ = deep
    posterior, log_joint = softmax(log_p), logsumexp(log_p)
    every, chosen = all_edits(model, Z), align(Z)
    same = (every.op == chosen.op[None]) & (every.index == chosen.index[None])
    share = posterior[np.flatnonzero(same.all((1, 2)))]
    assert share.shape == (1,)
    one_path = eqx.filter_jit(weigh_one_path)(
        model, Fixed(Z), batch_of([0, 1]), align, key=jax.random.key(0)
    )
    expected = np.full((1, 2), log_joint + np.log(share[0]))
    assert_allclose(one_path.log_weights, expected, rtol=1e-12)
    assert (one_path.log_weights < log_joint - 0.1).all()
    assert [site.name for site in one_path.sites] == list(model.kinds)
    value, terms = eqx.filter_jit(Supervised(align))(
        model, Fixed(Z), batch_of([0, 1]), key=jax.random.key(0), step=STEP
    )
    assert_allclose(value, expected[0, 0], rtol=1e-12)
    assert_allclose(terms.log_weights, expected, rtol=1e-12)


@dataclass(frozen=True)
class Remembers:
    """An objective that keeps the models it was asked about."""

    seen: list
    estimator: str = "remembered"

    def __call__(self, model, proposal, batch, *, key, step):
        self.seen.append(model)
        return jnp.zeros(()), LogTerms((), batch.num_units)


def test_exchangeable_words_are_new_for_every_batch_and_marks_are_not():
    """Identity: everything but the embeddings of words is what it was, the marks' embeddings too;
    another key gives other words."""
    model, inner = tiny_model("edits"), Remembers([])
    for key in jax.random.split(jax.random.key(3)):
        Exchangeable(inner)(model, Fixed(Z), batch_of([0]), key=key, step=STEP)
    marks, old = jnp.array([PAD, BOS, EOS]), model.network.embedding
    for seen in inner.seen:
        new = seen.network.embedding
        assert_array_equal(new[marks], old[marks])
        assert (new[NUM_MARKS:] != old[NUM_MARKS:]).all()
        assert eqx.tree_equal(eqx.tree_at(lambda m: m.network.embedding, seen, old), model)
    one, other = (seen.network.embedding[NUM_MARKS:] for seen in inner.seen)
    assert (one != other).all()
    assert Exchangeable(inner).estimator == "remembered"


def test_a_total_adds_sites_up_and_three_separate_means_do_not():
    """By hand: two sequences; one site has two decisions, the other four."""
    score = {
        "op": jnp.array([[-1.0, -3.0], [0.0, 0.0]]),
        "token": jnp.array([[-2.0, -2.0], [-4.0, -8.0]]),
    }
    assert_allclose(total_score(score), -10.0)
    assert_allclose(heads_averaged_apart(score), -2.0 - 4.0)


def test_a_model_without_choices_of_its_own_is_refused():
    model = ProbabilisticPCA(2, 1, key=jax.random.key(0))
    with pytest.raises(
        ValueError, match="ProbabilisticPCA has no choices of its own that a filter"
    ):
        MonteCarloEM()(model, Fixed(Z), batch_of([0]), key=jax.random.key(0), step=STEP)
