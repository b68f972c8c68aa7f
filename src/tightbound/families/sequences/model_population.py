"""Theta-logistic growth: an animal population that limits itself, seen through a noisy index."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.sequences import Sequence
from tightbound.families.family import Family
from tightbound.families.sequences import FAMILY
from tightbound.models.stateful import AbstractStateSpace, AbstractStepwise
from tightbound.nn.scales import above_floor, raw_above_floor
from tightbound.terms import Kind

Growth = Literal["exponential", "ricker", "theta-logistic"]


class ThetaLogistic(AbstractStateSpace):
    """z_t = log N_t of a population of size N, in which

        z_t ~ N(z_{t-1} + b0 + b1 exp(b2 z_{t-1}), q^2),   log x_t ~ N(z_t, r^2).

    Peters, Hosack & Hayes 2010 (arXiv:1005.2238). x is the index itself, so its law is log-normal
    and has the unit of the data. Nested in it: b2 = 1 is Ricker's growth, b1 = 0 is exponential.

    b1 = -softplus, since growth that rose with the population would end in infinity; b2 = softplus;
    q and r lie above a floor by a softplus. The law of z_0, N(m, s^2), is given and not learned:
    from one sequence it would learn that sequence's first value.
    """

    family: ClassVar[Family] = FAMILY
    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    growth: Float[Array, ""]  # b0, per step
    raw_limitation: Float[Array, ""] | None  # b1; None for exponential growth
    raw_power: Float[Array, ""] | None  # b2; None where it is 1
    raw_process_scale: Float[Array, ""]  # q
    raw_observation_scale: Float[Array, ""]  # r
    initial_mean: float = eqx.field(static=True)  # m
    initial_scale: float = eqx.field(static=True)  # s
    min_scale: float = eqx.field(static=True)  # of q and r, on the log scale
    num_steps: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        initial_mean: float,
        initial_scale: float,
        growth_law: Growth = "theta-logistic",
        growth: float = 0.1,
        limitation: float = -0.05,
        power: float = 1.0,
        process_scale: float = 0.1,
        observation_scale: float = 0.1,
        min_scale: float = 0.01,
        num_steps: int = 100,
    ):
        """First values; exponential growth has no `limitation` (b1), and only theta-logistic growth
        has a `power` (b2) of its own."""
        if not limitation < 0 < power:
            raise ValueError(
                f"`limitation` is {limitation} and `power` {power}, but a population that limits "
                "itself needs the first below 0 and the second above. For none at all, give "
                "growth_law='exponential'."
            )
        limited = growth_law != "exponential"
        self.growth = jnp.asarray(growth, float)
        self.raw_limitation = raw_above_floor(-limitation, 0.0) if limited else None
        self.raw_power = raw_above_floor(power, 0.0) if growth_law == "theta-logistic" else None
        self.raw_process_scale = raw_above_floor(process_scale, min_scale)
        self.raw_observation_scale = raw_above_floor(observation_scale, min_scale)
        self.initial_mean = initial_mean
        self.initial_scale = initial_scale
        self.min_scale = min_scale
        self.num_steps = num_steps

    @property
    def limitation(self) -> Float[Array, ""]:
        """b1."""
        return (
            jnp.zeros(()) if self.raw_limitation is None else -above_floor(self.raw_limitation, 0.0)
        )

    @property
    def power(self) -> Float[Array, ""]:
        """b2."""
        return jnp.ones(()) if self.raw_power is None else above_floor(self.raw_power, 0.0)

    @property
    def process_scale(self) -> Float[Array, ""]:
        """q."""
        return above_floor(self.raw_process_scale, self.min_scale)

    @property
    def observation_scale(self) -> Float[Array, ""]:
        """r."""
        return above_floor(self.raw_observation_scale, self.min_scale)

    def initial(self) -> dist.Distribution:
        mean, scale = jnp.full(1, self.initial_mean), jnp.full(1, self.initial_scale)
        return dist.Normal(mean, scale).to_event(1)

    def transition(self, z: Float[Array, " one"]) -> dist.Distribution:
        mean = z + self.growth
        if self.raw_limitation is not None:
            mean = mean + self.limitation * jnp.exp(self.power * z)
        return dist.Normal(mean, self.process_scale * jnp.ones(1)).to_event(1)

    def observation(self, z: Float[Array, " one"]) -> "PositiveIndex":
        return PositiveIndex(z, self.observation_scale)

    def read(self, x_t: Float[Array, " one"]) -> Float[Array, " one"]:
        """log x_t."""
        return _log(x_t)


class PositiveIndex(eqx.Module):
    """p(x_t | z_t): log x ~ N(log_size, scale^2). What is not positive has no density, and leaves
    the gradient at 0: padding is full of zeros, and 0 * inf would not be selected away."""

    log_size: Float[Array, " one"]
    scale: Float[Array, ""]

    def sample(self, key: PRNGKeyArray) -> Float[Array, " one"]:
        return self._law().sample(key)

    def log_prob(self, value: Float[Array, " one"]) -> Float[Array, ""]:
        """In nats."""
        positive = (value > 0).all()
        return jnp.where(positive, self._law().log_prob(jnp.where(positive, value, 1.0)), -jnp.inf)

    @property
    def mean(self) -> Float[Array, " one"]:
        return self._law().mean

    def _law(self) -> Any:
        return dist.LogNormal(self.log_size, self.scale * jnp.ones(1)).to_event(1)


class ThetaLogisticOptimal(AbstractStepwise):
    """The proposal p(z_t | z_{t-1}, x_t), exact since log x_t is Gaussian given z_t: the increment of
    a weight, p(x_t | z_{t-1}), does not depend on the draw (Doucet, Godsill & Andrieu 2000)."""

    def context(
        self, model: ThetaLogistic, x: Sequence, readings: Float[Array, "time one"]
    ) -> Float[Array, "time one"]:
        return readings

    def propose(
        self,
        model: ThetaLogistic,
        state: Float[Array, " one"],
        context: Float[Array, " one"],
        clock: Int[Array, ""],
    ) -> dist.Distribution:
        """The precision-weighted mean of what is expected and what is seen."""
        prior: Any = model.prior(state, clock)
        noise = model.observation_scale**2
        gain = prior.variance / (prior.variance + noise)
        mean = prior.mean + gain * (context - prior.mean)
        return dist.Normal(mean, jnp.sqrt(gain * noise)).to_event(1)


def _log(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log x; 0 at padding, which nobody reads."""
    return jnp.log(jnp.where(x > 0, x, 1.0))
