"""The variational recurrent network, with its ablations, and the proposals that go along a state."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.sequences import Sequence
from tightbound.families.family import Family
from tightbound.families.sequences import FAMILY
from tightbound.models.base import Distribution
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, as_vector
from tightbound.nn.activations import softplus
from tightbound.nn.outputs import AbstractOutput
from tightbound.terms import Kind

CellName = Literal["gru", "lstm"]


class VRNN(AbstractStateful):
    """h_t = cell([f_x(x_t), f_z(z_t)], h_{t-1}), and at every step

        z_t ~ N(m(h_{t-1}), diag s(h_{t-1})^2),   x_t ~ output(g(f_z(z_t), h_{t-1})).

    Chung et al. 2015 (arXiv:1506.02216), eq. 5 to 8; the paper's phi are the f here. Without a prior
    network z_t ~ N(0, I), their VRNN-I; with `latent_size` 0 it is a recurrent network. The scale of
    z is `min_scale` + softplus.
    """

    family: ClassVar[Family] = FAMILY

    observation_features: eqx.nn.MLP  # f_x before its last activation
    latent_features: eqx.nn.MLP | None  # f_z before its last activation
    prior_network: eqx.nn.MLP | None  # m and s
    decoder: eqx.nn.MLP  # g
    cell: eqx.nn.GRUCell | eqx.nn.LSTMCell
    output: AbstractOutput
    activation: Callable[[Array], Array] = eqx.field(static=True)
    latent_size: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    min_scale: float = eqx.field(static=True)

    def __init__(
        self,
        obs_size: int,
        latent_size: int,
        output: AbstractOutput,
        *,
        num_features: int,
        hidden_size: int,
        network_size: int,
        depth: int = 1,
        cell: CellName = "gru",
        learned_prior: bool = True,
        min_scale: float = 1e-3,
        activation: Callable[[Array], Array] = jax.nn.relu,
        first_features: Float[Array, " features"] | None = None,
        num_steps: int = 100,
        key: PRNGKeyArray,
    ):
        """`obs_size` counts the numbers of one observation, `num_features` those that `output` takes;
        `first_features` is the bias of these at the start (what the data ask for on average)."""
        keys = iter(jax.random.split(key, 5))
        size = network_size

        def network(size_in: int, size_out: int) -> eqx.nn.MLP:
            return eqx.nn.MLP(size_in, size_out, size, depth, activation, key=next(keys))

        def features(size_in: int) -> eqx.nn.MLP:
            # Its last activation is ours to apply: an `MLP` of depth 0 would leave it out.
            return eqx.nn.MLP(size_in, size, size, depth - 1, activation, key=next(keys))

        self.observation_features = features(obs_size)
        self.latent_features = features(latent_size) if latent_size else None
        has_prior = learned_prior and latent_size > 0
        self.prior_network = network(hidden_size, 2 * latent_size) if has_prior else None
        from_latents = size if latent_size else 0
        decoder = network(from_latents + hidden_size, num_features)
        if first_features is not None:
            decoder = eqx.tree_at(lambda net: net.layers[-1].bias, decoder, first_features)
        self.decoder = decoder
        kind = eqx.nn.GRUCell if cell == "gru" else eqx.nn.LSTMCell
        self.cell = kind(size + from_latents, hidden_size, key=next(keys))
        self.output = output
        self.activation = activation
        self.latent_size = latent_size
        self.num_steps = num_steps
        self.min_scale = min_scale

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        latents = {"z": Kind.LATENT} if self.latent_size else {}
        return latents | dict.fromkeys(self.output.sites, Kind.OBSERVED)

    def init(self) -> PyTree[Array]:
        zeros = jnp.zeros(self.cell.hidden_size)
        return zeros if isinstance(self.cell, eqx.nn.GRUCell) else (zeros, zeros)

    def read(self, x_t: PyTree[Array]) -> Float[Array, " features"]:
        return self.activation(self.observation_features(as_vector(x_t)))

    def memory(self, state: PyTree[Array]) -> Float[Array, " hidden"]:
        return state if isinstance(self.cell, eqx.nn.GRUCell) else state[0]

    def prior(self, state: PyTree[Array], clock: Int[Array, ""]) -> dist.Distribution:
        if self.prior_network is None:
            return diagonal(jnp.zeros(2 * self.latent_size), None)
        return diagonal(self.prior_network(self.memory(state)), self.min_scale)

    def likelihood(self, state: PyTree[Array], z: Float[Array, " latent"]) -> Distribution:
        return self.output(self.decoder(self._with_latents(self.memory(state), z)))

    def advance(
        self,
        state: PyTree[Array],
        z: Float[Array, " latent"],
        reading: Float[Array, " features"],
    ) -> PyTree[Array]:
        return self.cell(self._with_latents(reading, z), state)

    def _with_latents(
        self, others: Float[Array, " others"], z: Float[Array, " latent"]
    ) -> Float[Array, " all"]:
        if self.latent_features is None:
            return others
        return jnp.concatenate([self.activation(self.latent_features(z)), others])


def diagonal(features: Float[Array, " features"], min_scale: float | None) -> dist.Distribution:
    """N(mean, diag scale^2) of the two halves of `features`: the mean, and the scale less its floor
    before softplus. Without a floor the scale is 1."""
    mean, raw = jnp.split(features, 2)
    scale = jnp.ones_like(mean) if min_scale is None else min_scale + softplus(raw)
    return dist.Normal(mean, scale).to_event(1)


class StepProposal(AbstractStepwise):
    """q(z_t | h_{t-1}, c_t) = N(m, diag s^2), both from one network of h and c.

    c_t is what the model reads of x_t (Chung et al. 2015, eq. 9), or, with `backward`, the state
    of a GRU that has read x_T, ..., x_t: the smoothing proposal of Fraccaro et al. 2016
    (arXiv:1605.07571, eq. 8) and of Krishnan et al. 2017 (arXiv:1609.09869, sec. 3).
    """

    network: eqx.nn.MLP
    backward: eqx.nn.GRUCell | None
    min_scale: float = eqx.field(static=True)

    def __init__(
        self,
        reading_size: int,
        memory_size: int,
        latent_size: int,
        *,
        network_size: int,
        depth: int = 1,
        smoothing: bool = False,
        min_scale: float = 1e-3,
        activation: Callable[[Array], Array] = jax.nn.relu,
        key: PRNGKeyArray,
    ):
        network_key, backward_key = jax.random.split(key)
        context_size = network_size if smoothing else reading_size
        self.backward = (
            eqx.nn.GRUCell(reading_size, context_size, key=backward_key) if smoothing else None
        )
        self.network = eqx.nn.MLP(
            context_size + memory_size,
            2 * latent_size,
            network_size,
            depth,
            activation,
            key=network_key,
        )
        self.min_scale = min_scale

    def context(
        self, model: Any, x: Sequence, readings: PyTree[Array]
    ) -> Float[Array, "time context"]:
        vectors = jax.vmap(as_vector)(readings)
        cell = self.backward
        if cell is None:
            return vectors

        def step(state, inputs):
            vector, real = inputs
            state = jnp.where(real, cell(vector, state), state)
            return state, state

        start = jnp.zeros(cell.hidden_size)
        return jax.lax.scan(step, start, (vectors, x.mask), reverse=True)[1]

    def propose(
        self,
        model: AbstractStateful,
        state: PyTree[Array],
        context: Float[Array, " context"],
        clock: Int[Array, ""],
    ) -> dist.Distribution:
        features = self.network(jnp.concatenate([context, model.memory(state)]))
        return diagonal(features, self.min_scale)
