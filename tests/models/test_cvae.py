"""The conditional VAE is a probability model of the image for every label."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from scipy.stats import bernoulli, chisquare, norm

from tightbound.data.labelled import Labelled
from tightbound.models.cvae import ConditionalProposal, ConditionalVAE, one_hot
from tightbound.models.vae import GaussianProposal
from tightbound.nn.outputs import BernoulliOutput

EVERY_X = jnp.array(list(itertools.product([0.0, 1.0], repeat=6)))
Z = jnp.array([0.7, -1.3])


def labelled(image, label):
    return Labelled(image=image, label=np.asarray(label, np.int32))


@pytest.fixture(scope="module")
def model():
    """Weights larger than the initial ones, so that the label matters."""
    model = ConditionalVAE(6, 2, 3, BernoulliOutput(), hidden_size=5, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: 3 * leaf if eqx.is_array(leaf) else leaf, model)


@pytest.mark.parametrize("label", [0, 2])
def test_the_likelihood_sums_to_one_given_any_label(model, label):
    """Enumeration. Planted: summing over the labels too, as if they were modelled."""

    def total(label):
        score = jax.jit(jax.vmap(lambda x: model.score(labelled(x, label), Z)["x"][0]))
        return np.exp(score(EVERY_X)).sum()

    assert_allclose(total(label), 1.0, rtol=1e-13)
    assert sum(map(total, range(3))) > 2.0


def test_the_sites_are_scipys_densities_at_the_decoder_of_latent_and_label(model):
    """Oracle: SciPy. Planted: another label, which must change the image's density."""
    x = labelled(EVERY_X[13], 1)
    probability = expit(model.decoder(np.concatenate([Z, [0.0, 1.0, 0.0]])))
    scores = eqx.filter_jit(model.score)(x, Z)
    assert_allclose(scores["z"], [norm.logpdf(Z).sum()], rtol=1e-13)
    assert_allclose(scores["x"], [bernoulli.logpmf(x.image, probability).sum()], rtol=1e-12)
    assert_allclose(model.residual(x, Z), x.image - probability, rtol=1e-13)
    other = eqx.filter_jit(model.score)(labelled(EVERY_X[13], 2), Z)["x"]
    assert abs(other - scores["x"]) > 1e-3


def test_sampling_draws_labels_uniformly_and_images_given_their_label(model):
    """Chi-squared of the labels, and each pixel's frequency given its label within 4.5 standard
    errors (18 of them: 4.1 at 1e-3 together). Planted: the next label's probabilities."""
    keys = jax.random.split(jax.random.key(8), 6000)
    drawn = jax.jit(jax.vmap(lambda key: model.sample_likelihood(Z, key)))(keys)
    counts = np.bincount(drawn.label, minlength=3)
    assert chisquare(counts).pvalue > 1e-3

    def errors(label, law):
        p = expit(np.asarray(model.decoder(np.concatenate([Z, np.eye(3)[law]]))))
        frequency = np.asarray(drawn.image)[drawn.label == label].mean(0)
        return np.abs(frequency - p).max() / np.sqrt(0.25 / counts[label])

    assert max(errors(label, label) for label in range(3)) < 4.5
    assert max(errors(label, (label + 1) % 3) for label in range(3)) > 8.0


def test_the_prior_does_not_depend_on_the_label(model):
    """p(z | y) = p(z) = N(0, I): the same draw for the same key, scored alike under any label."""
    z = model.sample_prior(jax.random.key(4))
    assert z.shape == (2,)
    scores = [model.score(labelled(EVERY_X[3], label), z)["z"] for label in range(3)]
    assert_allclose(scores, np.full((3, 1), norm.logpdf(z).sum()), rtol=1e-13)


def test_the_proposal_is_the_inner_one_fed_with_the_label():
    """Identity with the inner proposal of the image and the one-hot label."""
    inner = GaussianProposal(6 + 3, 2, hidden_size=5, key=jax.random.key(2))
    proposal = ConditionalProposal(inner, num_labels=3)
    found = proposal.proposal(labelled(EVERY_X[5], 2)).log_prob(Z)
    expected = inner.proposal(jnp.concatenate([EVERY_X[5], jnp.array([0.0, 0.0, 1.0])])).log_prob(Z)
    assert_allclose(found, expected, rtol=1e-13)
    other = proposal.proposal(labelled(EVERY_X[5], 0)).log_prob(Z)
    assert abs(found - other) > 1e-3


def test_one_hot_is_one_at_the_label():
    """By hand."""
    assert_array_equal(one_hot(jnp.asarray(1), 3), [0.0, 1.0, 0.0])
