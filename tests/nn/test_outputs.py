"""Output laws are probability distributions with the parameters they were given."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from scipy.stats import bernoulli, norm

from tightbound.nn.outputs import BernoulliOutput, GaussianOutput

FEATURES = jnp.array([0.3, -1.2, 2.0])


def test_bernoulli_sums_to_one_and_agrees_with_scipy():
    """Enumeration over all bits; the oracle of each is SciPy's mass at the logistic function."""
    law = BernoulliOutput()(FEATURES)
    bits = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    log_prob = np.array([law.log_prob(x) for x in bits])
    assert_allclose(np.exp(log_prob).sum(), 1.0, rtol=1e-14)
    assert_allclose(log_prob, bernoulli.logpmf(bits, expit(FEATURES)).sum(1), rtol=1e-12)
    assert_allclose(law.mean, expit(FEATURES), rtol=1e-14)


def test_gaussian_integrates_to_one_and_agrees_with_scipy():
    """Midpoint rule over one pixel, exact to rounding for a Gaussian; SciPy for three."""
    output = GaussianOutput(scale=0.7, min_scale=0.2)
    law = output(FEATURES)
    x = np.array([0.1, -1.0, 5.0])
    assert_allclose(law.log_prob(x), norm.logpdf(x, FEATURES, 0.7).sum(), rtol=1e-12)
    grid = np.arange(-10.0, 10.0, 0.05)
    one_pixel = output(jnp.array([0.3]))
    density = np.exp(jax.vmap(one_pixel.log_prob)(grid[:, None]))
    assert_allclose(density.sum() * 0.05, 1.0, rtol=1e-12)


@pytest.mark.parametrize("output", [BernoulliOutput(), GaussianOutput(scale=0.7)])
def test_features_are_as_many_as_entries(output):
    """And the law of so many has one event of that size."""
    assert output.num_features(3) == 3
    assert output.sites == ("x",)
    assert output(FEATURES).event_shape == (3,)


@pytest.mark.parametrize("scale", [1e-3, 0.05, 1.0, 255.0])
def test_the_scale_begins_where_it_was_told_to(scale):
    """Identity, in 32 bits too, where e^255 is infinite. Planted: the textbook inverse softplus."""
    assert_allclose(GaussianOutput(scale=scale).scale, scale, rtol=1e-12)
    with jax.enable_x64(False):
        assert_allclose(GaussianOutput(scale=scale).scale, scale, rtol=1e-5)
        textbook = jax.nn.softplus(jnp.log(jnp.expm1(jnp.asarray(scale))))
        assert np.isfinite(textbook) == (scale < 80)


def test_the_scale_never_falls_below_its_floor():
    """However far training pushes the raw parameter down."""
    output = GaussianOutput(scale=1.0, min_scale=0.05)
    pushed = eqx.tree_at(lambda o: o.raw_scale, output, jnp.asarray(-1e4))
    assert pushed.scale == 0.05
    assert_allclose(pushed(FEATURES).log_prob(FEATURES), 3 * norm.logpdf(0.0, 0.0, 0.05))


def test_a_learned_scale_has_the_gradient_of_its_density():
    """Closed form: d/ds log N(x; m, s) = (r^2 / s^2 - 1) / s summed, times softplus' slope."""

    def log_prob(output):
        return output(FEATURES).log_prob(FEATURES + 2.0)

    output = GaussianOutput(scale=0.8)
    gradient = eqx.filter_grad(log_prob)(output).raw_scale
    by_hand = 3 * (4.0 / 0.64 - 1.0) / 0.8 * expit(float(output.raw_scale))
    assert_allclose(gradient, by_hand, rtol=1e-10)


def test_a_scale_that_is_not_learned_is_no_parameter():
    """Nothing to differentiate, nothing for the optimiser to move; the law is the same."""
    fixed, learned = GaussianOutput(scale=0.8, learned=False), GaussianOutput(scale=0.8)
    assert not jax.tree.leaves(fixed)
    assert_allclose(fixed.scale, learned.scale, rtol=1e-12)


@pytest.mark.parametrize(("scale", "min_scale"), [(0.1, 0.1), (0.05, 0.1), (1.0, -0.1)])
def test_a_scale_that_is_not_above_its_floor_is_refused(scale, min_scale):
    """The sentence gives both numbers."""
    with pytest.raises(ValueError, match=rf"scale is {scale} and its floor {min_scale}, but"):
        GaussianOutput(scale=scale, min_scale=min_scale)
