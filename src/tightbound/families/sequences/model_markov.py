"""The deep Markov model: a Gaussian chain with a gated transition, seen through a network."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.families.family import Family
from tightbound.families.sequences import FAMILY
from tightbound.models.base import Distribution
from tightbound.models.stateful import AbstractStateSpace
from tightbound.nn.activations import softplus
from tightbound.nn.outputs import AbstractOutput
from tightbound.terms import Kind


class GatedTransition(eqx.Module):
    """N(m, diag s^2) with m = (1 - g) (W z + b) + g h(z) and s = min_scale + softplus(V relu(h(z))).

    Krishnan et al. 2017 (arXiv:1609.09869), sec. 5: the gate g = sigmoid(MLP(z)) lets every
    dimension choose between a linear and a nonlinear step. W starts as the identity, as there.
    """

    gate: eqx.nn.MLP  # g before the sigmoid
    proposed_mean: eqx.nn.MLP  # h
    linear: eqx.nn.Linear  # W, b
    scale: eqx.nn.Linear  # V
    min_scale: float = eqx.field(static=True)

    def __init__(
        self,
        latent_size: int,
        *,
        network_size: int,
        min_scale: float,
        activation: Callable[[Array], Array],
        key: PRNGKeyArray,
    ):
        gate_key, mean_key, linear_key, scale_key = jax.random.split(key, 4)
        sizes = (latent_size, latent_size, network_size, 1, activation)
        self.gate = eqx.nn.MLP(*sizes, key=gate_key)
        self.proposed_mean = eqx.nn.MLP(*sizes, key=mean_key)
        linear = eqx.nn.Linear(latent_size, latent_size, key=linear_key)
        self.linear = eqx.tree_at(
            lambda layer: (layer.weight, layer.bias),
            linear,
            (jnp.eye(latent_size), jnp.zeros(latent_size)),
        )
        self.scale = eqx.nn.Linear(latent_size, latent_size, key=scale_key)
        self.min_scale = min_scale

    def __call__(self, z: Float[Array, " latent"]) -> dist.Distribution:
        gate = jax.nn.sigmoid(self.gate(z))
        proposed = self.proposed_mean(z)
        mean = (1 - gate) * self.linear(z) + gate * proposed
        scale = self.min_scale + softplus(self.scale(jax.nn.relu(proposed)))
        return dist.Normal(mean, scale).to_event(1)


class DeepMarkovModel(AbstractStateSpace):
    """z_0 ~ N(0, I),  z_t ~ gated transition(z_{t-1}),  x_t ~ output(g(z_t)).

    Krishnan et al. 2017 (arXiv:1609.09869), eq. 1 and sec. 5. Its usual proposal is `StepProposal`
    with `smoothing`.
    """

    family: ClassVar[Family] = FAMILY

    gated_transition: GatedTransition
    decoder: eqx.nn.MLP  # g
    output: AbstractOutput
    latent_size: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        latent_size: int,
        output: AbstractOutput,
        *,
        num_features: int,
        network_size: int,
        depth: int = 1,
        min_scale: float = 1e-3,
        activation: Callable[[Array], Array] = jax.nn.relu,
        first_features: Float[Array, " features"] | None = None,
        num_steps: int = 100,
        key: PRNGKeyArray,
    ):
        """`num_features` and `first_features` are as for `VRNN`."""
        transition_key, decoder_key = jax.random.split(key)
        self.gated_transition = GatedTransition(
            latent_size,
            network_size=network_size,
            min_scale=min_scale,
            activation=activation,
            key=transition_key,
        )
        decoder = eqx.nn.MLP(
            latent_size, num_features, network_size, depth, activation, key=decoder_key
        )
        if first_features is not None:
            decoder = eqx.tree_at(lambda net: net.layers[-1].bias, decoder, first_features)
        self.decoder = decoder
        self.output = output
        self.latent_size = latent_size
        self.num_steps = num_steps

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {"z": Kind.LATENT} | dict.fromkeys(self.output.sites, Kind.OBSERVED)

    def initial(self) -> dist.Distribution:
        return dist.Normal(jnp.zeros(self.latent_size), jnp.ones(self.latent_size)).to_event(1)

    def transition(self, z: Float[Array, " latent"]) -> dist.Distribution:
        return self.gated_transition(z)

    def observation(self, z: Float[Array, " latent"]) -> Distribution:
        return self.output(self.decoder(z))
