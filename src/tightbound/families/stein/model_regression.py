"""Bayesian linear regression, in closed form, and logistic regression."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray, Real

from tightbound.data.points import PointSet
from tightbound.families.stein.precision import AbstractPrecision, GammaPrecision
from tightbound.models.point_model import AbstractPointModel


class BayesianLinearRegression(AbstractPointModel):
    """theta ~ N(0, s0^2 I),  y_i | x_i, theta ~ N(theta . f(x_i), s^2).   Bishop 2006, sec. 3.3.

    f(x) is x, and with `bias` a 1 behind it: theta is one vector, the bias last. Both scales are
    known, so log p(D) and the posterior are Gaussian integrals; also in a minibatch, where weight_i
    is a power of point i's likelihood.
    """

    in_size: int = eqx.field(static=True)
    bias: bool = eqx.field(static=True)
    prior_scale: float = eqx.field(static=True)  # s0
    noise_scale: float = eqx.field(static=True)  # s
    num_points: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        *,
        bias: bool = True,
        prior_scale: float = 1.0,
        noise_scale: float = 1.0,
        num_points: int = 10,
    ):
        _check_sizes(in_size, num_points)
        if not (prior_scale > 0 and noise_scale > 0):
            raise ValueError(
                f"The prior scale of a linear regression is {prior_scale} and its noise scale "
                f"{noise_scale}; both must be positive."
            )
        self.in_size = in_size
        self.bias = bias
        self.prior_scale = float(prior_scale)
        self.noise_scale = float(noise_scale)
        self.num_points = num_points

    def sample_prior(self, key: PRNGKeyArray) -> Float[Array, " latent"]:
        return self.prior_scale * jax.random.normal(key, (self.in_size + self.bias,))

    def log_prior(self, theta: Float[Array, " latent"]) -> Float[Array, ""]:
        return norm.logpdf(theta, scale=self.prior_scale).sum()

    def likelihood(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: Float[Array, " latent"]
    ) -> dist.Distribution:
        return dist.Normal(self.expected(inputs, theta), self.noise_scale)

    def expected(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: Float[Array, " latent"]
    ) -> Float[Array, ""]:
        return linear(inputs, theta, self.bias)

    def sample_inputs(self, key: PRNGKeyArray) -> Float[Array, "points inputs"]:
        return jax.random.normal(key, (self.num_points, self.in_size))

    def posterior(self, x: PointSet) -> dist.MultivariateNormal:
        """p(theta | D) = N(A^-1 F^T W y / s^2, A^-1),  A = I / s0^2 + F^T W F / s^2.

        Bishop 2006, eq. 3.50 and 3.51, with the rows f(x_i) of F and W = diag(weight).
        """
        real = jnp.asarray(x.weight) > 0
        # A row times its weight is not 0 where the row holds NaN, so padding is selected away.
        inputs = jnp.where(real[:, None], x.points.inputs, 0.0)
        target = jnp.where(real, x.points.target, 0.0)
        features = jax.vmap(lambda one: _features(one, self.bias))(inputs)
        weighted = features * (x.weight / self.noise_scale**2)[:, None]
        precision = weighted.T @ features + jnp.eye(features.shape[1]) / self.prior_scale**2
        mean = jnp.linalg.solve(precision, weighted.T @ target)
        return dist.MultivariateNormal(mean, precision_matrix=precision)

    def log_marginal(self, x: PointSet) -> Float[Array, ""]:
        """log of the integral of p(theta) prod_i p(y_i | x_i, theta)^weight_i, in nats per data set.

            log p(D) = log p(theta) + sum_i weight_i log p(y_i | x_i, theta) - log p(theta | D)

        holds at any theta; at the posterior's mean no large numbers cancel. It is log p(y | inputs)
        where all weights are 1 or 0. In a minibatch (weights N / n) it is the normaliser of a powered
        likelihood and no unbiased look at log p(D).
        """
        posterior = self.posterior(x)
        theta = jnp.asarray(posterior.mean)
        log_joint = sum(site.sum() for site in self.score(x, theta).values())
        return jnp.asarray(log_joint - posterior.log_prob(theta))


class LogisticParameters(eqx.Module):
    """The latents of a logistic regression: the weights (the bias last) and log alpha."""

    weights: Float[Array, " features"]
    log_precision: Float[Array, ""] | None  # log alpha; None where it is known


class BayesianLogisticRegression(AbstractPointModel):
    """alpha ~ Gamma(a, b),  w ~ N(0, I / alpha),  y_i | x_i, w ~ Bernoulli(sigmoid(w . f(x_i))).

    Liu & Wang 2016 (arXiv:1608.04471), sec. 5, with a = 1 and b = 0.01 (a rate); the latent is
    log alpha. f(x) is x, and with `bias` a 1 behind it. Targets are 0 or 1.
    """

    precision: AbstractPrecision  # of the weights: the prior of alpha, or its value
    in_size: int = eqx.field(static=True)
    bias: bool = eqx.field(static=True)
    num_points: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        *,
        bias: bool = True,
        precision: AbstractPrecision | None = None,
        num_points: int = 10,
    ):
        _check_sizes(in_size, num_points)
        self.precision = GammaPrecision(1.0, 0.01) if precision is None else precision
        self.in_size = in_size
        self.bias = bias
        self.num_points = num_points

    def sample_prior(self, key: PRNGKeyArray) -> LogisticParameters:
        precision_key, weights_key = jax.random.split(key)
        log_precision = self.precision.sample(precision_key)
        noise = jax.random.normal(weights_key, (self.in_size + self.bias,))
        return LogisticParameters(self._scale(log_precision) * noise, log_precision)

    def log_prior(self, theta: LogisticParameters) -> Float[Array, ""]:
        """log p(w | alpha) + log p(log alpha), in nats."""
        scale = self._scale(theta.log_precision)
        log_p = norm.logpdf(theta.weights, scale=scale).sum()
        return log_p + self.precision.log_prob(theta.log_precision)

    def likelihood(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: LogisticParameters
    ) -> dist.Distribution:
        return dist.BernoulliLogits(linear(inputs, theta.weights, self.bias))

    def expected(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: LogisticParameters
    ) -> Float[Array, ""]:
        """The probability of 1."""
        return jax.nn.sigmoid(linear(inputs, theta.weights, self.bias))

    def sample_inputs(self, key: PRNGKeyArray) -> Float[Array, "points inputs"]:
        return jax.random.normal(key, (self.num_points, self.in_size))

    def _scale(self, log_precision: Float[Array, ""] | None) -> Float[Array, ""]:
        """The prior's standard deviation of a weight, alpha^(-1/2)."""
        return jnp.exp(-0.5 * self.precision.log_value(log_precision))


def linear(
    inputs: Real[Array | np.ndarray, " inputs"], weights: Float[Array, " features"], bias: bool
) -> Float[Array, ""]:
    """w . f(x), where f puts a 1 behind the inputs for the bias."""
    return _features(inputs, bias) @ weights


def _features(inputs: Real[Array | np.ndarray, " inputs"], bias: bool) -> Float[Array, " features"]:
    inputs = jnp.asarray(inputs, float)
    return jnp.concatenate([inputs, jnp.ones(1)]) if bias else inputs


def _check_sizes(in_size: int, num_points: int) -> None:
    if in_size < 1 or num_points < 1:
        raise ValueError(
            f"A regression on {in_size} inputs that draws data sets of {num_points} points was "
            "asked for; give at least 1 of each."
        )
