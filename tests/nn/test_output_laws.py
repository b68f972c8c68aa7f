"""What holds for every law whose features a network gives step by step: it integrates to one, its
draws have its mean and variance, and no feature makes its gradient infinite."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.nn.discretised_output import DiscretisedLogisticOutput
from tightbound.nn.gaussian_outputs import (
    BivariateGaussianOutput,
    DiagonalGaussianOutput,
    FullGaussianOutput,
)
from tightbound.nn.mixture_output import MixtureOutput
from tightbound.nn.outputs import GaussianOutput
from tightbound.nn.student_t_output import StudentTOutput

DENSITIES = {
    "shared scale": GaussianOutput(scale=0.7, min_scale=0.1),
    "diagonal": DiagonalGaussianOutput(0.1),
    "full": FullGaussianOutput(0.1),
    "bivariate": BivariateGaussianOutput(0.1),
    "student": StudentTOutput(0.1, df=12.0),
    "student, df by entry": StudentTOutput(0.1, df=None),
    "mixture of shared": MixtureOutput(GaussianOutput(scale=0.7, min_scale=0.1), 3),
    "mixture of diagonal": MixtureOutput(DiagonalGaussianOutput(0.1), 3),
    "mixture of full": MixtureOutput(FullGaussianOutput(0.1), 2),
    "mixture of bivariate": MixtureOutput(BivariateGaussianOutput(0.1), 3),
    "mixture of student": MixtureOutput(StudentTOutput(0.1, df=12.0), 2),
}
LEVELS = {
    "discretised": DiscretisedLogisticOutput(8),
    "mixture of discretised": MixtureOutput(DiscretisedLogisticOutput(8), 2),
}
# A Student-t of a few degrees of freedom has no fourth moment, so its variance no standard error.
WITH_MOMENTS = {n: o for n, o in (DENSITIES | LEVELS).items() if n != "student, df by entry"}

NUM_DRAWS = 20_000


def features_of(output, seed=0):
    return jax.random.normal(jax.random.key(seed), (output.num_features(2),))


@eqx.filter_jit
def integral(output, features):
    """Trapezoids over the plane in t with x = sinh t: the steps are fine near 0, the tails far."""
    t = jnp.arange(-8.0, 8.0, 0.05)
    points = jnp.stack(jnp.meshgrid(jnp.sinh(t), jnp.sinh(t)), -1).reshape(-1, 2)
    weights = jnp.outer(jnp.cosh(t), jnp.cosh(t)).ravel() * 0.05**2
    return jnp.exp(jax.vmap(output(features).log_prob)(points)) @ weights


@pytest.mark.parametrize("name", DENSITIES)
def test_the_density_integrates_to_one(name):
    """Quadrature over both entries, at three draws of the features."""
    output = DENSITIES[name]
    for seed in range(3):
        assert_allclose(integral(output, features_of(output, seed)), 1.0, rtol=1e-6)


def distance(draws, mean, variance):
    """The largest distance of the sample's means and variances, in their standard errors."""
    squares = (draws - mean) ** 2
    return max(
        (np.abs(sample.mean(0) - expected) / (sample.std(0) / np.sqrt(len(sample)))).max()
        for sample, expected in ((draws, mean), (squares, variance))
    )


@eqx.filter_jit
def draws_of(output, features):
    law = output(features)
    keys = jax.random.split(jax.random.key(7), NUM_DRAWS)
    return jax.vmap(law.sample)(keys), law.mean, law.variance


@pytest.mark.parametrize("name", WITH_MOMENTS)
def test_draws_have_the_mean_and_the_variance_that_is_stated(name):
    """Monte Carlo: 12 laws of 2 + 2 moments within 4.3 standard errors (Bonferroni, 1e-3 for the
    file). Planted: features read in the wrong order."""
    output = WITH_MOMENTS[name]
    features = features_of(output)
    draws, *moments = map(np.asarray, draws_of(output, features))
    assert draws.shape == (NUM_DRAWS, 2)
    assert distance(draws, *moments) < 4.3
    _, *reversed_moments = map(np.asarray, draws_of(output, features[::-1]))
    assert distance(draws, *reversed_moments) > 8


@pytest.mark.parametrize("name", DENSITIES | LEVELS)
def test_no_feature_makes_the_score_or_its_gradient_infinite(name):
    """In 32 bits, and in nothing wider: at +-50 in several patterns, and with all scales at their floor."""
    output = jax.tree.map(lambda leaf: leaf.astype(np.float32), (DENSITIES | LEVELS)[name])
    size = output.num_features(2)
    signs = np.random.default_rng(0).choice([-50, 50], (8, size))
    features = jnp.asarray(np.concatenate([signs, np.full((1, size), -50)]), np.float32)

    def score_and_gradient(features, x):
        return jax.value_and_grad(lambda f: output(f).log_prob(x))(features)

    both = jax.jit(jax.vmap(score_and_gradient, (0, None)))
    for x in ([0, 0], [7, 3]):
        score, gradient = both(features, np.array(x, np.float32))
        assert score.dtype == gradient.dtype == np.float32
        assert np.isfinite(score).all()
        assert np.isfinite(gradient).all()
