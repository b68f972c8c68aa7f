"""Oracles: the referee's one big Gaussian, and the identity p(x, z) = p(z | x) p(x)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.families.edits.exact import dense_gaussian
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractProposal
from tightbound.models.lgssm import LGSSMOptimal, LGSSMSmoothing, LinearGaussianSSM
from tightbound.models.posterior import ExactPosterior
from tightbound.models.stateful import Guided

LENGTHS = jnp.array([5, 3, 1])
MASK = jnp.broadcast_to(jnp.arange(5), (3, 5)) < LENGTHS[:, None]


@pytest.fixture(scope="module")
def model():
    """Two latents, three observed dimensions, no symmetry that could hide a transposed matrix."""
    keys = jax.random.split(jax.random.key(0), 4)
    noise = [jnp.eye(n) + 0.4 * jnp.tril(jax.random.normal(keys[n], (n, n)), -1) for n in (2, 3)]
    return LinearGaussianSSM(
        initial_mean=jnp.array([1.0, -0.5]),
        initial_scale=1.5 * noise[0],
        transition_weight=jnp.array([[0.9, 0.3], [-0.2, 0.7]]),
        transition_scale=0.6 * noise[0],
        emission_weight=jax.random.normal(keys[0], (3, 2)),
        emission_scale=0.8 * noise[1],
        num_steps=5,
    )


@pytest.fixture(scope="module")
def x(model):
    """Sequences of lengths 5, 3 and 1, padded to 5."""

    @jax.vmap
    def draw(keys):
        return model.sample_likelihood(model.sample_prior(keys[0]), keys[1])

    return Sequence(jax.jit(draw)(jax.random.split(jax.random.key(1), (3, 2))).values, MASK)


def referee(model, values):
    def cov(scale):
        return np.asarray(scale) @ np.asarray(scale).T

    return dense_gaussian(
        np.asarray(model.initial_mean),
        cov(model.initial_scale),
        np.asarray(model.transition_weight),
        cov(model.transition_scale),
        np.asarray(model.emission_weight),
        cov(model.emission_scale),
        np.asarray(values),
    )


def test_log_marginal_is_one_big_gaussian(model, x):
    """Oracle: the dense joint of all steps, the real part of a sequence alone."""
    found = jax.jit(jax.vmap(model.log_marginal))(x)
    for row, length in enumerate(LENGTHS):
        expected, _, _ = referee(model, x.values[row, :length])
        assert_allclose(found[row], expected, rtol=1e-12)


def test_posterior_marginals_are_those_of_one_big_gaussian(model, x):
    """Oracle: the dense joint, conditioned at once."""
    means, covs = jax.jit(jax.vmap(lambda x: model.posterior(x).marginals()))(x)
    for row, length in enumerate(LENGTHS):
        _, mean, cov = referee(model, x.values[row, :length])
        assert_allclose(means[row, :length], mean, rtol=1e-9, atol=1e-12)
        assert_allclose(covs[row, :length], cov, rtol=1e-9, atol=1e-12)


def test_every_weight_is_the_marginal_when_the_proposal_is_the_posterior(model, x):
    """Identity: if q = p(z | x), every weight is p(x), whatever the length."""
    batch = Batch(x, MASK, LENGTHS, jnp.arange(3))
    terms = eqx.filter_jit(weigh)(
        model, ExactPosterior(model), batch, num_samples=6, key=jax.random.key(2)
    )
    expected = jnp.broadcast_to(jax.jit(jax.vmap(model.log_marginal))(x), (6, 3))
    assert_allclose(terms.log_weights, expected, rtol=1e-10)


def test_a_posterior_without_its_gain_shows_in_the_weights(model, x):
    """The identity above must fail when the positions are drawn independently of each other."""

    class WithoutGain(AbstractProposal):
        model: LinearGaussianSSM

        def proposal(self, x):
            posterior = self.model.posterior(x)
            return eqx.tree_at(lambda q: q.gain, posterior, jnp.zeros_like(posterior.gain))

    batch = Batch(x, MASK, LENGTHS, jnp.arange(3))
    terms = eqx.filter_jit(weigh)(
        model, WithoutGain(model), batch, num_samples=6, key=jax.random.key(2)
    )
    assert jnp.ptp(terms.log_weights[:, 0]) > 0.1


def test_what_stands_at_padding_changes_nothing(model, x):
    """Law: NaN at padding gives the same bits; and without the mask it would show."""
    other = jnp.where(MASK[:, :, None], x.values, jnp.nan)
    log_marginal = jax.jit(jax.vmap(model.log_marginal))
    assert_array_equal(log_marginal(Sequence(other, MASK)), log_marginal(x))
    assert not jnp.isfinite(log_marginal(Sequence(other, jnp.ones_like(MASK)))[1:]).any()


def test_increments_of_the_optimal_proposal_do_not_depend_on_the_draw(model, x):
    """Identity: p(z | z', x) q-weights are p(x_t | z'); at clock 0, p(x_0) of the referee."""
    particle = Guided(model, LGSSMOptimal())
    step = jax.jit(jax.vmap(particle.step, in_axes=(None, None, None, 0)))
    keys = jax.random.split(jax.random.key(3), 8)
    guides = particle.inputs(jax.tree.map(lambda leaf: leaf[0], x))
    x_t = jax.tree.map(lambda leaf: leaf[0], guides)
    for clock, state in [(0, jnp.zeros(2)), (4, jnp.array([0.3, -1.0]))]:
        _, scores = step(state, x_t, jnp.array(clock), keys)
        (log_p, log_q), (log_likelihood, _) = scores["z"], scores["x"]
        increments = log_p - log_q + log_likelihood
        assert_allclose(increments, jnp.full(8, increments[0]), rtol=1e-10)
        if clock == 0:
            assert_allclose(increments[0], referee(model, x_t.values[None])[0], rtol=1e-10)


@pytest.mark.parametrize("num_samples", [1, 3])
def test_every_weight_of_the_smoothing_proposal_is_the_marginal_likelihood(model, x, num_samples):
    """Identity: q(z_t | z_{t-1}, x_{t:}) multiplies to the posterior, so p(x, z) / q(z | x) = p(x), for
    any draw, masked and unequal lengths included. Oracle: the Kalman filter."""
    batch = Batch(x=x, mask=x.mask, num_units=x.mask.sum(1), rows=jnp.arange(len(x.mask)))
    weigh_jitted = eqx.filter_jit(weigh)
    terms = weigh_jitted(
        model, LGSSMSmoothing(), batch, num_samples=num_samples, key=jax.random.key(4)
    )
    exact = jax.vmap(model.log_marginal)(x)
    assert_allclose(
        terms.log_weights, jnp.broadcast_to(exact, (num_samples, len(exact))), rtol=1e-10
    )
    plain = weigh_jitted(
        model, LGSSMOptimal(), batch, num_samples=num_samples, key=jax.random.key(4)
    )
    off = jnp.abs(plain.log_weights / exact[None] - 1)
    assert (off[:, :2] > 1e-4).all()  # of a single step both are the posterior
