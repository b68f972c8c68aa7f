"""Mixtures of any output law of a vector."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.nn.draws import repeated
from tightbound.nn.outputs import AbstractOutput


class MixtureOutput(AbstractOutput):
    """x ~ sum_k pi_k component_k, the weights pi and every component's features read off the features.

        log p(x) = log sum_k exp(log pi_k + log p_k(x)),   log pi = log_softmax(raw)

    Features: the K raw weights, then component after component what `component` reads. Parameters
    that the component holds itself (a shared scale or df) are one for all K. Its scale floor is
    the mixture's: log p(x) never exceeds a single component's largest. Graves 2013
    (arXiv:1308.0850), eq. 23, with a bivariate component.
    """

    component: AbstractOutput
    num_components: int = eqx.field(static=True)  # K

    def __check_init__(self):
        if self.num_components < 1:
            raise ValueError(
                f"A mixture of {self.num_components} components is none. Give at least 1."
            )

    def num_features(self, obs_size: int) -> int:
        return self.num_components * (1 + self.component.num_features(obs_size))

    def __call__(self, features: Float[Array, " features"]) -> dist.Distribution:
        raw_weights, rest = jnp.split(features, [self.num_components])
        components = jax.vmap(self.component)(rest.reshape(self.num_components, -1))
        return Mixture(jax.nn.log_softmax(raw_weights), components)


class Mixture(dist.Distribution):
    """sum_k pi_k p_k for components that are one distribution with a leading axis on every leaf.

    numpyro's mixtures ask for the batch shape, which is stale in a vmapped distribution.
    """

    pytree_data_fields = ("log_weights", "components")

    def __init__(
        self,
        log_weights: Float[Array, " components"],  # log pi
        components: dist.Distribution,
    ):
        self.log_weights, self.components = log_weights, components
        super().__init__(event_shape=components.event_shape)

    def sample(
        self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()
    ) -> Float[Array, "*sample_and_obs"]:
        def draw(key):
            which_key, component_key = jax.random.split(key)
            which = jax.random.categorical(which_key, self.log_weights)
            component = jax.tree.map(lambda leaf: leaf[which], self.components)
            return component.sample(component_key)

        return repeated(draw, key, sample_shape)

    def log_prob(self, value: Float[Array, " obs"], intermediates=None):
        """In nats."""
        log_p = jax.vmap(lambda component: component.log_prob(value))(self.components)
        return logsumexp(self.log_weights + log_p)

    @property
    def mean(self) -> Float[Array, " obs"]:
        return jnp.exp(self.log_weights) @ self._means

    @property
    def variance(self) -> Float[Array, " obs"]:
        """Within the components and between them."""
        within = jax.vmap(lambda component: component.variance)(self.components)
        between = (self._means - self.mean[None]) ** 2
        return jnp.exp(self.log_weights) @ (within + between)

    @property
    def _means(self) -> Float[Array, "components obs"]:
        return jax.vmap(lambda component: component.mean)(self.components)
