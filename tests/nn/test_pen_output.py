"""An offset and a pen bit: two sites, one law."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from scipy.stats import bernoulli, norm

from tightbound.data.strokes import Strokes
from tightbound.nn.gaussian_outputs import BivariateGaussianOutput, DiagonalGaussianOutput
from tightbound.nn.mixture_output import MixtureOutput
from tightbound.nn.pen_output import PenOutput

FLOOR = 0.1
FEATURES = jnp.array([0.3, -1.2, 0.5, -2.0, -1.4])
OFFSET = jnp.array([0.4, -1.5])


@pytest.fixture(scope="module")
def output():
    return PenOutput(DiagonalGaussianOutput(FLOOR))


@eqx.filter_jit
def scores_of(output, features, x_t):
    return output(features).log_prob(x_t)


@pytest.mark.parametrize("pen", [0.0, 1.0])
def test_offset_and_pen_are_scored_as_sites_of_their_own(output, pen):
    """Oracle: SciPy's normal and Bernoulli."""
    x_t = Strokes(offset=OFFSET, pen=jnp.asarray(pen))
    scores = scores_of(output, FEATURES, x_t)
    assert sorted(scores) == sorted(output.sites)
    scale = FLOOR + np.log1p(np.exp(np.asarray(FEATURES[2:4])))
    assert_allclose(scores["x"], norm.logpdf(OFFSET, FEATURES[:2], scale).sum(), rtol=1e-12)
    assert_allclose(scores["pen"], bernoulli.logpmf(pen, expit(FEATURES[4])), rtol=1e-12)


def test_the_law_integrates_to_one_over_offsets_and_both_pens(output):
    """Quadrature over the plane, summed over the pen. Planted: a pen that is scored only where it is
    lifted, pen * log p without its other half."""
    law = output(FEATURES)
    x, y = jnp.arange(-8.0, 8.0, 0.1), jnp.arange(-3.5, 1.0, 0.025)
    offsets = jnp.stack(jnp.meshgrid(x, y), -1).reshape(-1, 2)

    @jax.jit
    def integral(pen):
        log_prob = jax.vmap(lambda offset: law.log_prob(Strokes(offset=offset, pen=pen)))
        return jnp.exp(sum(log_prob(offsets).values())).sum() * 0.1 * 0.025

    lifted = integral(1.0)
    assert_allclose(integral(0.0) + lifted, 1.0, rtol=1e-9)
    assert 1.0 + lifted > 1.1  # exp(0) where the pen is down


def test_a_draw_is_one_step_of_strokes_with_a_pen_of_zero_or_one(output):
    """Monte Carlo: the share of lifted pens and the mean offset within 4 standard errors. Planted:
    the logit taken for the probability's complement."""
    law = output(FEATURES)
    draws = jax.jit(jax.vmap(law.sample))(jax.random.split(jax.random.key(4), 4_000))
    assert isinstance(draws, Strokes)
    assert set(np.unique(draws.pen)) == {0.0, 1.0}
    probability = law.mean.pen
    assert_allclose(probability, expit(FEATURES[4]), rtol=1e-12)
    error = np.sqrt(law.variance.pen / 4_000)
    assert abs(draws.pen.mean() - probability) < 4 * error
    assert abs(draws.pen.mean() - (1 - probability)) > 8 * error
    errors = np.sqrt(np.asarray(law.variance.offset) / 4_000)
    assert (np.abs(draws.offset.mean(0) - law.mean.offset) < 4 * errors).all()


def test_features_of_the_pen_come_after_those_of_any_offset():
    """Identity: a mixture of bivariate Gaussians reads all but the last feature."""
    offset = MixtureOutput(BivariateGaussianOutput(FLOOR), 3)
    output = PenOutput(offset)
    assert output.num_features(2) == 3 * 6 + 1
    features = jax.random.normal(jax.random.key(0), (19,))
    scores = scores_of(output, features, Strokes(offset=OFFSET, pen=jnp.ones(())))
    alone = jax.jit(lambda f: offset(f).log_prob(OFFSET))(features[:-1])
    assert_allclose(scores["x"], alone, rtol=1e-12)
    assert_allclose(scores["pen"], np.log(expit(features[-1])), rtol=1e-12)


def test_no_feature_makes_the_score_or_its_gradient_infinite(output):
    """At +-50, in 32 bits."""
    features = 50 * jnp.array([[1, -1, -1, -1, 1], [-1, 1, 1, -1, -1]], jnp.float32)
    x_t = Strokes(offset=jnp.zeros(2, jnp.float32), pen=jnp.ones((), jnp.float32))
    gradients = jax.jit(jax.vmap(jax.jacobian(lambda f: output(f).log_prob(x_t))))(features)
    for gradient in gradients.values():
        assert gradient.dtype == np.float32
        assert np.isfinite(gradient).all()
