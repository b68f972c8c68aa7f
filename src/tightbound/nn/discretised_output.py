"""The discretised logistic output law: probabilities of evenly spaced levels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.nn.activations import softplus
from tightbound.nn.draws import repeated
from tightbound.nn.outputs import AbstractOutput
from tightbound.nn.scales import above_floor, require_floor


class DiscretisedLogisticOutput(AbstractOutput):
    """P(x_d = level) for the levels 0 .. num_levels - 1, independent given the features.

        P(x_d) = sigmoid((u + h - m_d) / s_d) - sigmoid((u - h - m_d) / s_d),
        u = 2 x_d / (num_levels - 1) - 1,   h = 1 / (num_levels - 1)

    where the first sigmoid is 1 at the top level and the second 0 at level 0: the outermost levels
    take the tails, so the sum is 1. Salimans et al. 2017 (arXiv:1701.05517), eq. 2. Observations
    are levels (as floats); the features live on the scale of u in [-1, 1]: the means m, then
    the raw scales, `obs` of each, s_d = min_scale + softplus(raw_d). A probability needs no floor to
    stay bounded, but its gradient does.
    """

    num_levels: int = eqx.field(static=True)
    min_scale: float = eqx.field(static=True, default=1e-3)  # in units of u

    def __check_init__(self):
        require_floor(self.min_scale)
        if self.num_levels < 2:
            raise ValueError(f"There are {self.num_levels} levels to tell apart. Give at least 2.")

    def num_features(self, obs_size: int) -> int:
        return 2 * obs_size

    def __call__(self, features: Float[Array, " features"]) -> dist.Distribution:
        mean, raw_scale = jnp.split(features, 2)
        return DiscretisedLogistic(mean, above_floor(raw_scale, self.min_scale), self.num_levels)


class DiscretisedLogistic(dist.Distribution):
    """The law of `DiscretisedLogisticOutput`. A value between two levels, or beyond them, is scored
    by the same formula, and the result is no probability."""

    pytree_data_fields = ("loc", "scale")
    pytree_aux_fields = ("num_levels",)

    def __init__(
        self,
        loc: Float[Array, " obs"],  # m, on the scale of u
        scale: Float[Array, " obs"],  # s
        num_levels: int,
    ):
        self.loc, self.scale, self.num_levels = loc, scale, num_levels
        super().__init__(event_shape=loc.shape)

    def sample(
        self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()
    ) -> Float[Array, "*sample obs"]:
        def draw(key):
            u = self.loc + self.scale * jax.random.logistic(key, self.loc.shape, self.loc.dtype)
            top = self.num_levels - 1
            return jnp.clip(jnp.round((u + 1) * top / 2), 0, top)

        return repeated(draw, key, sample_shape)

    def log_prob(self, value: Float[Array, " obs"], intermediates=None):
        """In nats."""
        return self._log_mass(value).sum()

    @property
    def mean(self) -> Float[Array, " obs"]:
        """In levels, summed over all of them."""
        return self._levels @ self._masses

    @property
    def variance(self) -> Float[Array, " obs"]:
        """In levels, squared."""
        distance = self._levels[:, None] - self.mean[None]
        return (distance**2 * self._masses).sum(0)

    def _log_mass(self, value: Float[Array, " obs"]) -> Float[Array, " obs"]:
        """log(sigmoid(b) - sigmoid(a)) as log sigmoid(b) + log sigmoid(-a) + log(1 - e^(a - b)),
        where nothing cancels however far out the level is; the tails lack two of the three."""
        top = self.num_levels - 1
        middle = 2 * value / top - 1 - self.loc
        below_upper = -softplus(-(middle + 1 / top) / self.scale)
        above_lower = -softplus((middle - 1 / top) / self.scale)
        between = jnp.log(-jnp.expm1(-2 / (top * self.scale)))
        is_bottom, is_top = value <= 0, value >= top
        return (
            jnp.where(is_top, 0.0, below_upper)
            + jnp.where(is_bottom, 0.0, above_lower)
            + jnp.where(is_bottom | is_top, 0.0, between)
        )

    @property
    def _levels(self) -> Float[Array, " levels"]:
        return jnp.arange(self.num_levels, dtype=self.loc.dtype)

    @property
    def _masses(self) -> Float[Array, "levels obs"]:
        at_level = jax.vmap(lambda level: self._log_mass(jnp.full_like(self.loc, level)))
        return jnp.exp(at_level(self._levels))
