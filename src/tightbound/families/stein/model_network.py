"""A Bayesian neural network: every weight and bias is a latent, shared by all points of a data set."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray, Real

from tightbound.families.stein.response import AbstractResponse
from tightbound.models.point_model import AbstractPointModel


class NetworkParameters(eqx.Module):
    """The latents of a network, layer by layer, and the log precision of its targets."""

    weights: tuple[Float[Array, "_ _"], ...]  # (outputs, inputs) of each layer
    biases: tuple[Float[Array, " _"], ...]
    log_precision: Float[Array, ""] | None  # log tau; None for classes, or where tau is known


class BayesianNetwork(AbstractPointModel):
    """W_l ~ N(0, s_l^2),  b_l ~ N(0, 1),  y_i | x_i, theta ~ response(W_L h_(L-1) + b_L),
    h_l = activation(W_l h_(l-1) + b_l),  h_0 = x_i / input_scale.

    The prior of Rønning et al. 2024 (arXiv:2410.22948) has s_l = 1 and, for a regression, the noise
    precision Gamma(1, 0.1) of `NormalResponse`. With `scale_by_fan_in` the weights of a layer with n
    inputs have s_l = 1 / sqrt(n), so that a wide layer does not widen the function (Neal 1996, ch. 2);
    the biases keep 1. Inputs may be bytes: `input_scale` 255 reads them from 0 to 1.
    """

    response: AbstractResponse
    layer_sizes: tuple[int, ...] = eqx.field(static=True)  # inputs, hidden, ..., features
    activation: Callable[[Array], Array] = eqx.field(static=True)
    scale_by_fan_in: bool = eqx.field(static=True)
    input_scale: float = eqx.field(static=True)
    num_points: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        response: AbstractResponse,
        hidden_sizes: Sequence[int] = (50, 50),
        activation: Callable[[Array], Array] = jax.nn.relu,
        *,
        scale_by_fan_in: bool = False,
        input_scale: float = 1.0,
        num_points: int = 10,
    ):
        sizes = (in_size, *hidden_sizes)
        if min(*sizes, num_points) < 1:
            raise ValueError(
                f"A network on {in_size} inputs with the hidden sizes {tuple(hidden_sizes)}, for "
                f"drawn data sets of {num_points} points, was asked for; give at least 1 of each."
            )
        if not input_scale > 0:
            raise ValueError(
                f"The input scale is {input_scale}, but inputs are divided by it: give a positive "
                "number, 255 for bytes."
            )
        self.response = response
        self.layer_sizes = (*sizes, response.num_features)
        self.activation = activation
        self.scale_by_fan_in = scale_by_fan_in
        self.input_scale = float(input_scale)
        self.num_points = num_points

    def sample_prior(self, key: PRNGKeyArray) -> NetworkParameters:
        *layer_keys, response_key = jax.random.split(key, len(self.layer_sizes))
        weights, biases = [], []
        for layer_key, (fan_in, fan_out) in zip(
            layer_keys, pairwise(self.layer_sizes), strict=True
        ):
            weight_key, bias_key = jax.random.split(layer_key)
            noise = jax.random.normal(weight_key, (fan_out, fan_in))
            weights.append(self._weight_scale(fan_in) * noise)
            biases.append(jax.random.normal(bias_key, (fan_out,)))
        log_precision = self.response.sample_prior(response_key)
        return NetworkParameters(tuple(weights), tuple(biases), log_precision)

    def log_prior(self, theta: NetworkParameters) -> Float[Array, ""]:
        """log p(theta) over all layers and the log precision, in nats."""
        log_p = self.response.log_prior(theta.log_precision)
        for weight, bias in zip(theta.weights, theta.biases, strict=True):
            log_p += norm.logpdf(weight, scale=self._weight_scale(weight.shape[1])).sum()
            log_p += norm.logpdf(bias).sum()
        return log_p

    def likelihood(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: NetworkParameters
    ) -> dist.Distribution:
        return self.response.law(self.features(inputs, theta), theta.log_precision)

    def expected(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: NetworkParameters
    ) -> Float[Array, " *outputs"]:
        return self.response.expected(self.features(inputs, theta))

    def features(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: NetworkParameters
    ) -> Float[Array, " features"]:
        """What the last layer gives for one point: its mean, or a logit for every class."""
        hidden = jnp.asarray(inputs, theta.weights[0].dtype) / self.input_scale
        *inner, (last_weight, last_bias) = zip(theta.weights, theta.biases, strict=True)
        for weight, bias in inner:
            hidden = self.activation(weight @ hidden + bias)
        return last_weight @ hidden + last_bias

    def sample_inputs(self, key: PRNGKeyArray) -> Float[Array, "points inputs"]:
        """Standard normal after the division by `input_scale`."""
        return self.input_scale * jax.random.normal(key, (self.num_points, self.layer_sizes[0]))

    def _weight_scale(self, fan_in: int) -> float:
        """The prior's standard deviation of a weight in a layer with so many inputs."""
        return fan_in**-0.5 if self.scale_by_fan_in else 1.0
