"""A mixture of proposals is scored, drawn and weighed as the law that it is.

Oracles: SciPy's densities; counts; the law that a mean weight is p(x), where that is known; a single
proposal, which a mixture of its copies must equal.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp, softmax
from scipy.stats import norm

from tightbound.data.batch import Batch, rows
from tightbound.evaluation import evaluate
from tightbound.inference.weigh import weigh
from tightbound.models.deep_vae import DeepProposal, DeepVAE
from tightbound.models.lgssm import LGSSMOptimal
from tightbound.models.mean_field import PointMass
from tightbound.models.mixture import Mixture, mixture, mixtures
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.models.vae import GaussianProposal
from tightbound.nn.outputs import BernoulliOutput

LIMIT = norm.isf(1e-3 / 3 / 2)  # three sampled statistics in this file, at level 1e-3 together
X = jnp.array([0.8, -0.5, 1.1])


def gaussian(key):
    return GaussianProposal(3, 2, hidden_size=3, key=key)


def deep(key):
    return DeepProposal(3, 2, 1, hidden_size=3, top_hidden_size=3, key=key)


@pytest.fixture(scope="module")
def three():
    return mixture(gaussian, 3, key=jax.random.key(0))


def test_the_density_is_the_mean_of_scipys_densities_of_the_components(three):
    """Oracle: SciPy at every component's own mean and scale, made one by one. Planted: the mean of
    log-densities, which is lower."""
    z = jnp.array([0.3, -0.9])
    q = three.proposal(X)
    propose = eqx.filter_jit(lambda proposal: proposal.proposal(X))
    each = [propose(gaussian(key)) for key in jax.random.split(jax.random.key(0), 3)]
    log_q = np.array([norm.logpdf(z, p.base_dist.loc, p.base_dist.scale).sum() for p in each])
    assert_allclose(eqx.filter_jit(q.component_log_probs)(z), log_q, rtol=1e-10)
    found, shares = eqx.filter_jit(lambda q, z: (q.log_prob(z), q.responsibilities(z)))(q, z)
    assert_allclose(found, logsumexp(log_q) - np.log(3), rtol=1e-10)
    assert_allclose(shares, softmax(log_q), rtol=1e-10)
    assert_allclose(shares.sum(), 1.0, rtol=1e-14)
    assert found - log_q.mean() > 1e-3


# Points tell which component a draw is of: each is its component's number.

NUMBERED = Mixture(
    PointMass(lambda key: jnp.arange(3.0), key=jax.random.key(0)),
    PointMass(lambda key: None, key=jax.random.key(0)),
)


def strata(num_draws, num_keys):
    """The component of every draw, (key, draw)."""
    q = NUMBERED.proposal(X)
    keys = jax.random.split(jax.random.key(1), num_keys)
    draws = jax.vmap(lambda key: q.sample_strata(jax.random.split(key, num_draws)))
    return np.asarray(jax.jit(draws)(keys)).astype(int)


@pytest.mark.parametrize(
    "num_draws", [2, 6, 8]
)  # fewer than components, twice as many, and two over
def test_draws_are_spread_over_components_as_evenly_as_they_can_be(num_draws):
    """By counting: every component has floor(n / m) draws or one more, draw s is of component s mod m
    where they come out even, and those left over are of any component."""
    found = strata(num_draws, 200)
    counts = np.stack([np.bincount(row, minlength=3) for row in found])
    num_even = num_draws - num_draws % 3
    assert set(counts.ravel()) == {num_draws // 3, -(-num_draws // 3)}
    assert_array_equal(found[:, :num_even], np.tile(np.arange(num_even) % 3, (200, 1)))
    assert all(set(left_over) == {0, 1, 2} for left_over in found[:, num_even:].T)


def test_a_mean_over_strata_is_on_average_one_under_the_mixture():
    """Closed form: the mean of the components' numbers is 1, by the standard error over 4,000 keys
    with four draws of three components. Planted: the draw left over always of the first."""
    found = strata(4, 4000)
    error = found.mean(1).std() / np.sqrt(len(found))
    assert abs(found.mean() - 1) < LIMIT * error
    assert abs(found[:, [0, 1, 2, 0]].mean() - 1) > 8 * error


def test_single_draws_are_of_all_components_equally():
    """Closed form: each of three has a third of 4,000 draws, by the standard error of the first's
    share."""
    q = NUMBERED.proposal(X)
    draws = jax.jit(jax.vmap(q.sample))(jax.random.split(jax.random.key(2), 4000))
    share = float((draws == 0).mean())
    assert abs(share - 1 / 3) < LIMIT * np.sqrt(2 / 9 / 4000)
    assert set(np.asarray(draws)) == {0.0, 1.0, 2.0}


def test_the_mean_weight_of_draws_in_strata_is_the_marginal(three):
    """Law: E[1/K sum_k w_k] = p(x), here with 4 draws of 3 components over 20,000 rows of one x, p(x) by
    probabilistic PCA's closed form. Planted: the draws of the first component alone, scored by all."""
    model = ProbabilisticPCA(3, 2, key=jax.random.key(3))
    num_rows = 20_000
    batch = Batch(
        jnp.tile(X, (num_rows, 1)),
        jnp.ones((num_rows, 1), bool),
        jnp.ones(num_rows, int),
        jnp.arange(num_rows),
    )
    terms = eqx.filter_jit(weigh)(model, three, batch, num_samples=4, key=jax.random.key(4))
    ratios = np.exp(np.asarray(terms.log_weights - model.log_marginal(X)))

    def z_score(values):
        return abs(values.mean() - 1) / (values.std() / np.sqrt(num_rows))

    assert z_score(ratios.mean(0)) < LIMIT
    assert z_score(ratios[0]) > 8


@pytest.mark.parametrize("family", ["one site", "two sites"])
def test_a_mixture_of_copies_is_evaluated_as_the_one_that_was_copied(family):
    """Identity: draws of row and number have the same keys, so with K m draws every weight is the same to
    rounding. A proposal that scores choices one by one is mixed by their sum. Planted: a mixture whose
    third component is another."""
    model, make = {
        "one site": (ProbabilisticPCA(3, 2, key=jax.random.key(5)), gaussian),
        "two sites": (
            DeepVAE(
                3, 2, 1, BernoulliOutput(), hidden_size=3, top_hidden_size=3, key=jax.random.key(5)
            ),
            deep,
        ),
    }[family]
    split = rows("test", np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]))
    single = make(jax.random.key(6))

    def log_weights(proposal):
        at = {"num_samples": 6, "key": jax.random.key(7)}
        return evaluate(model, proposal, split, **at).log_weights

    copies = mixture(lambda key: single, 3, key=jax.random.key(0))
    expected = log_weights(single)
    assert_allclose(log_weights(copies), expected, rtol=1e-10)
    other = jax.tree.map(lambda leaf: leaf.at[2].multiply(2.0), eqx.filter(copies, eqx.is_array))
    planted = eqx.combine(other, copies)
    assert np.abs(log_weights(planted) - expected).max() > 0.01


def test_what_components_share_has_no_axis_of_components():
    """By path: the first layer is that of the first component made, and the rest are as without."""
    keys = jax.random.split(jax.random.key(0), 3)
    found = mixture(gaussian, 3, key=jax.random.key(0), shared=lambda path: "layers[0]" in path)
    first = gaussian(keys[0]).encoder.layers[0]
    assert_array_equal(found.shared.encoder.layers[0].weight, first.weight)
    assert found.components.encoder.layers[0].weight is None
    assert found.shared.encoder.layers[1].weight is None
    assert found.num_components == 3
    log_q = [
        eqx.tree_at(lambda p: p.encoder.layers[0], gaussian(key), first).proposal(X).log_prob(X[:2])
        for key in keys
    ]
    assert_allclose(found.proposal(X).component_log_probs(X[:2]), log_q, rtol=1e-10)


def test_mixtures_are_found_wherever_they_are_in_a_tree(three):
    assert mixtures({"model": X, "parts": (three, gaussian(jax.random.key(0)))}) == [three]


def stepwise(key):
    return LGSSMOptimal()


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (gaussian, {"num_components": 0}, "0 components was asked for; it needs at least 1"),
        (stepwise, {}, "LGSSMOptimal goes along a model's state step by step"),
        (gaussian, {"shared": lambda path: True}, "No parameter of GaussianProposal belongs to a"),
    ],
)
def test_what_cannot_be_a_mixture_is_refused(make, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        mixture(make, **({"num_components": 2} | options), key=jax.random.key(0))


def test_the_doubly_reparameterised_path_is_refused_for_draws_in_strata(three):
    """It holds for independent draws only."""
    model = ProbabilisticPCA(3, 2, key=jax.random.key(3))
    batch = Batch(X[None], jnp.ones((1, 1), bool), jnp.ones(1, int), jnp.zeros(1, int))
    with pytest.raises(ValueError, match="'doubly' was combined with a mixture"):
        weigh(model, three, batch, num_samples=3, key=jax.random.key(0), path="doubly")
