"""The Student-t output agrees with SciPy, whichever way it gets its degrees of freedom."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import digamma, expit
from scipy.stats import t

from tightbound.nn.student_t_output import StudentTOutput

FLOOR = 0.05
FEATURES = np.array([0.3, -1.2, 0.5, -2.0])
X = np.array([0.4, 8.0])


@eqx.filter_jit
def described(output, features, x):
    """log p(x), mean and variance."""
    law = output(features)
    return law.log_prob(x), law.mean, law.variance


def softplus(raw):
    return np.log1p(np.exp(np.asarray(raw)))


def test_one_shared_df_is_a_parameter_that_begins_where_it_was_told_to():
    """Oracle: SciPy's t; its variance s^2 df / (df - 2)."""
    output = StudentTOutput(FLOOR, df=4.5)
    log_p, mean, variance = described(output, FEATURES, X)
    scale = FLOOR + softplus(FEATURES[2:])
    assert output.num_features(2) == 4
    assert_allclose(output.df, 4.5, rtol=1e-12)
    assert_allclose(log_p, t.logpdf(X, 4.5, FEATURES[:2], scale).sum(), rtol=1e-10)
    assert_allclose(mean, FEATURES[:2])
    assert_allclose(variance, t.var(4.5, FEATURES[:2], scale), rtol=1e-10)


def test_df_by_entry_is_read_after_the_scales():
    """Oracle: SciPy's t with two different degrees of freedom; no parameter of its own is left."""
    output = StudentTOutput(FLOOR, df=None)
    raw = np.array([0.0, 3.0])
    log_p, _, _ = described(output, np.concatenate([FEATURES, raw]), X)
    df, scale = 2.1 + softplus(raw), FLOOR + softplus(FEATURES[2:])
    assert output.num_features(2) == 6
    assert not jax.tree.leaves(output)
    assert_allclose(log_p, t.logpdf(X, df, FEATURES[:2], scale).sum(), rtol=1e-10)


def test_the_shared_df_has_the_gradient_of_its_density():
    """Closed form: the derivative of the log-density by df, times softplus' slope."""
    df, x = 4.5, np.asarray(X)
    output = StudentTOutput(FLOOR, df=df)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda o: described(o, FEATURES, X)[0]))(
        output
    ).raw_df
    square = ((x - FEATURES[:2]) / (FLOOR + softplus(FEATURES[2:]))) ** 2
    by_df = 0.5 * (
        digamma((df + 1) / 2)
        - digamma(df / 2)
        - 1 / df
        - np.log1p(square / df)
        + (df + 1) * square / (df * (df + square))
    )
    assert_allclose(gradient, by_df.sum() * expit(float(output.raw_df)), rtol=1e-9)


def test_df_never_falls_to_where_the_variance_ends():
    """In 32 bits too, however far training pushes it: the variance stays below 21 s^2. Planted: a
    floor of 2 itself."""
    with jax.enable_x64(False):
        pushed = eqx.tree_at(lambda o: o.raw_df, StudentTOutput(FLOOR), jnp.asarray(-1e4))
        _, _, variance = described(pushed, np.zeros(2, np.float32), np.zeros(1, np.float32))
        ratio = variance / (FLOOR + softplus(0.0)) ** 2
        assert_allclose(ratio, 21.0, rtol=1e-4)
        assert np.isinf(t.var(2.0))


def test_what_has_no_variance_is_refused():
    with pytest.raises(
        ValueError, match=r"degrees of freedom are 2.0, but they must lie above 2.1"
    ):
        StudentTOutput(FLOOR, df=2.0)
    with pytest.raises(ValueError, match=r"floor of the output scale is -1.0, but"):
        StudentTOutput(-1.0)
