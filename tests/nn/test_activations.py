"""Activations are the functions they are called after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import erf, expit

from tightbound.nn.activations import activation, softplus

X = jnp.linspace(-6.0, 6.0, 49)


@pytest.mark.parametrize(
    ("name", "formula", "rtol"),
    [
        ("softplus", lambda x: np.logaddexp(0.0, x), 1e-13),
        ("relu", lambda x: np.maximum(x, 0.0), 1e-13),
        ("tanh", np.tanh, 1e-13),
        ("elu", lambda x: np.where(x > 0, x, np.expm1(x)), 1e-13),
    ],
)
def test_an_activation_is_its_formula(name, formula, rtol):
    """Oracle: NumPy."""
    assert_allclose(activation(name)(X), formula(X), rtol=rtol)


def test_gelu_is_the_tanh_approximation_of_the_gaussian_one():
    """Hendrycks & Gimpel 2016: within 5e-4 of x Phi(x)."""
    exact = X * 0.5 * (1.0 + erf(X / np.sqrt(2.0)))
    assert_allclose(activation("gelu")(X), exact, atol=5e-4)


def test_softplus_does_not_overflow_and_its_derivative_is_the_sigmoid():
    """Closed forms, at 0 too, where both halves have a kink. Planted: `maximum`, which halves it."""
    assert_allclose(softplus(jnp.array([800.0, -800.0, -30.0])), [800.0, 0.0, np.exp(-30.0)])
    derivative = jax.vmap(jax.grad(softplus))(X)
    assert_allclose(derivative, expit(X), rtol=1e-12)
    kinked = jax.grad(lambda x: jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x))))
    assert abs(kinked(0.0) - 0.5) > 0.1


def test_an_unknown_activation_is_refused_with_those_there_are():
    """The sentence lists the names."""
    with pytest.raises(
        ValueError, match=r"no activation 'swish'\. There are: softplus, relu, tanh"
    ):
        activation("swish")
