"""A wrapper switches off one thing and leaves everything else as it was."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import rows
from tightbound.inference.weigh import weigh
from tightbound.models.deep_vae import DeepProposal
from tightbound.models.vae import VAE, GaussianProposal
from tightbound.models.wrappers import Noiseless, SquaredError
from tightbound.nn.outputs import BernoulliOutput

X = jnp.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
DEEP = DeepProposal(6, 3, 2, hidden_size=5, top_hidden_size=4, key=jax.random.key(3))
FLAT = GaussianProposal(6, 2, hidden_size=5, key=jax.random.key(2))


@pytest.fixture(scope="module")
def model():
    return VAE(6, 2, BernoulliOutput(), hidden_size=5, key=jax.random.key(0))


@pytest.mark.parametrize("inner", [FLAT, DEEP], ids=["one layer", "two layers"])
def test_noiseless_draws_are_the_mean_whatever_the_key_and_scored_by_the_proposal(inner):
    """Identity with the inner proposal's mean and its log-density there. Planted: a draw."""
    found, q = Noiseless(inner).proposal(X), inner.proposal(X)
    for seed in (0, 1):
        for drawn, mean in zip(
            jax.tree.leaves(found.sample(jax.random.key(seed))),
            jax.tree.leaves(q.mean),
            strict=True,
        ):
            assert_array_equal(drawn, mean)
    scores = zip(
        jax.tree.leaves(found.log_prob(q.mean)), jax.tree.leaves(q.log_prob(q.mean)), strict=True
    )
    for score, expected in scores:
        assert_array_equal(score, expected)
    noisy = jax.tree.leaves(q.sample(jax.random.key(0)))
    assert np.abs(noisy[0] - jax.tree.leaves(q.mean)[0]).max() > 1e-3


@pytest.mark.parametrize(("path", "is_held"), [("full", False), ("stop_proposal", True)])
def test_a_noiseless_proposal_can_be_held_constant_under_differentiation(model, path, is_held):
    """Law of `path`: "stop_proposal" leaves the second half of the network, which only log q reads,
    without a gradient; "full" gives each log-scale exactly -1, as d log q(mean) / d log s."""
    batch = rows("train", X[None]).take(np.array([0]))

    @eqx.filter_jit
    def log_q(proposal):
        terms = weigh(model, proposal, batch, num_samples=1, key=jax.random.key(0), path=path)
        return terms.log_proposal.sum()

    gradient = eqx.filter_grad(log_q)(Noiseless(FLAT)).inner.encoder.layers[-1].bias
    assert_allclose(gradient[2:], 0.0 if is_held else -1.0, rtol=1e-12)


def test_squared_error_replaces_the_density_of_x_and_nothing_else(model):
    """By hand: minus half the squared distance to the output's mean. Planted: the density itself."""
    wrapped, z = SquaredError(model), jnp.array([0.7, -1.3])
    inner, found = model.score(X, z), wrapped.score(X, z)
    distance = X - np.asarray(model.likelihood(z).mean)
    assert_allclose(found["x"], [-0.5 * np.square(distance).sum()], rtol=1e-13)
    assert abs(found["x"] - inner["x"]) > 0.1
    assert_array_equal(found["z"], inner["z"])
    assert wrapped.kinds == model.kinds
    key = jax.random.key(5)
    assert_array_equal(wrapped.sample_prior(key), model.sample_prior(key))
    assert_array_equal(wrapped.sample_likelihood(z, key), model.sample_likelihood(z, key))
