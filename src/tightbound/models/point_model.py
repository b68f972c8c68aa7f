"""What models of points have in common: latents theta that all points of one data set share."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Real

from tightbound.data.points import Points, PointSet
from tightbound.models.base import AbstractModel
from tightbound.terms import Kind


class AbstractPointModel(AbstractModel):
    """theta ~ p(theta),  y_i | x_i, theta ~ likelihood(x_i, theta), independent given theta.

    The sequence is the data set: `score` sees all its points, or a minibatch of them whose weights
    make its log-likelihood an unbiased look at that of all. Inputs are given, not modelled: bounds
    are on log p(y | inputs). Sampling draws `num_points` of them.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"theta": Kind.LATENT, "y": Kind.OBSERVED}

    num_points: eqx.AbstractVar[int]  # in a data set that is drawn

    @abstractmethod
    def log_prior(self, theta: PyTree[Array]) -> Float[Array, ""]:
        """log p(theta), in nats."""

    @abstractmethod
    def likelihood(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: PyTree[Array]
    ) -> dist.Distribution:
        """The distribution of one target."""

    @abstractmethod
    def expected(
        self, inputs: Real[Array | np.ndarray, " inputs"], theta: PyTree[Array]
    ) -> Float[Array, " *outputs"]:
        """The mean of one target, in its own unit; the probability of every class if it is one."""

    @abstractmethod
    def sample_inputs(self, key: PRNGKeyArray) -> Float[Array, "points inputs"]:
        """Inputs of a drawn data set: standard normal as the model reads them."""

    def score(self, x: PointSet, z: PyTree[Array]) -> dict[str, Float[Array, " _"]]:
        """log p(theta), and weight_i log p(y_i | x_i, theta) at every point, in nats.

        A point of weight 0 scores exactly 0, whatever it holds (also NaN), and so do its gradients.
        """
        real = jnp.asarray(x.weight) > 0

        def one_point(point: Points):
            return self.likelihood(point.inputs, z).log_prob(point.target)

        log_p = jax.vmap(one_point)(_zero_unless(real, x.points))
        return {
            "theta": jnp.atleast_1d(self.log_prior(z)),
            "y": jnp.where(real, x.weight * log_p, 0.0),
        }

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PointSet:
        inputs_key, targets_key = jax.random.split(key)
        inputs = self.sample_inputs(inputs_key)
        target = jax.vmap(lambda one, key: self.likelihood(one, z).sample(key))(
            inputs, jax.random.split(targets_key, self.num_points)
        )
        return PointSet(Points(inputs, jnp.asarray(target)), weight=jnp.ones(self.num_points))

    def predict(
        self, inputs: Real[Array | np.ndarray, "points inputs"], theta: PyTree[Array]
    ) -> Float[Array, "points *outputs"]:
        """`expected` at every point, for one theta."""
        return jax.vmap(lambda one: self.expected(one, theta))(inputs)


def _zero_unless(real: Bool[Array, " points"], points: PyTree[Array | np.ndarray]) -> PyTree[Array]:
    """Zeros where a point is padding: NaN there would reach the gradient through the unused branch."""

    def select(leaf):
        chosen = real.reshape(real.shape + (1,) * (leaf.ndim - 1))
        return jnp.where(chosen, leaf, jnp.zeros((), leaf.dtype))

    return jax.tree.map(select, points)
