"""Target densities without data: known laws that a proposal is fitted to.

They are normalised, so log Z = 0 and minus the ELBO is KL(q || target), in nats. Their numbers are
static: a target is a law to be matched, and nothing of it is learned.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.families.family import Family
from tightbound.families.stein import FAMILY
from tightbound.models.base import AbstractModel
from tightbound.terms import Kind


class AbstractTarget(AbstractModel):
    """A law of z, and no observation: the model is its own posterior.

    What stands for x is one number, which is not read: a row of a data set that asks for nothing.
    """

    family: ClassVar[Family] = FAMILY
    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT}

    @abstractmethod
    def law(self) -> dist.Distribution:
        """The target itself, one event of size `latent`."""

    def sample_prior(self, key: PRNGKeyArray) -> Float[Array, " latent"]:
        return jnp.asarray(self.law().sample(key))

    def score(
        self, x: Float[Array | np.ndarray, " 1"], z: Float[Array, " latent"]
    ) -> dict[str, Float[Array, " 1"]]:
        """log of the target at z, in nats; x is not read."""
        return {"z": jnp.atleast_1d(self.law().log_prob(z))}

    def sample_likelihood(
        self, z: Float[Array, " latent"], key: PRNGKeyArray
    ) -> Float[Array, " 1"]:
        """The number that stands for x: always 0."""
        return jnp.zeros(1)

    def log_marginal(self, x: Float[Array | np.ndarray, " 1"]) -> Float[Array, ""]:
        """log Z = 0, in nats: the target is normalised."""
        return jnp.zeros(())

    def posterior(self, x: Float[Array | np.ndarray, " 1"]) -> dist.Distribution:
        """The target itself, whatever x is."""
        return self.law()


class GaussianTarget(AbstractTarget):
    """z ~ N(m, diag s^2); N(0, I) unless m and s are given, each as one number or one per dimension."""

    mean: tuple[float, ...] = eqx.field(static=True)  # m
    scale: tuple[float, ...] = eqx.field(static=True)  # s

    def __init__(
        self,
        latent_size: int,
        *,
        mean: float | Sequence[float] = 0.0,
        scale: float | Sequence[float] = 1.0,
    ):
        self.mean = _per_dimension("mean", mean, latent_size)
        self.scale = _scales(scale, latent_size)

    def law(self) -> dist.Distribution:
        return dist.Normal(jnp.array(self.mean), jnp.array(self.scale)).to_event(1)


class CorrelatedGaussianTarget(AbstractTarget):
    """z ~ N(0, C) with unit variances and C_ij = rho^|i - j|: a stationary chain.

    What a diagonal Gaussian cannot match: the one with the smallest KL(q || target) has the variance
    (1 - rho^2) / (1 + rho^2) in every dimension, but 1 - rho^2 in the first and the last (d > 1).
    """

    latent_size: int = eqx.field(static=True)
    correlation: float = eqx.field(static=True)  # rho

    def __init__(self, latent_size: int, *, correlation: float):
        if not -1 < correlation < 1:
            raise ValueError(
                f"The correlation of neighbouring dimensions is {correlation}, but it must lie "
                "between -1 and 1, both excluded."
            )
        _check_size(latent_size)
        self.latent_size = latent_size
        self.correlation = correlation

    def law(self) -> dist.Distribution:
        return dist.MultivariateNormal(
            jnp.zeros(self.latent_size), scale_tril=jnp.asarray(self._factor(), float)
        )

    def _factor(self) -> Float[np.ndarray, "latent latent"]:
        """The lower Cholesky factor of C: z_i = rho z_(i-1) + sqrt(1 - rho^2) e_i, written out."""
        row, column = np.indices((self.latent_size, self.latent_size))
        paths = np.tril(self.correlation ** np.maximum(row - column, 0))
        innovation = np.where(column == 0, 1.0, np.sqrt(1 - self.correlation**2))
        return paths * innovation


class GaussianMixtureTarget(AbstractTarget):
    """z ~ sum_c w_c N(m_c 1, s^2 I): modes on the diagonal; 1/2 N(-3, I) + 1/2 N(3, I) by default."""

    latent_size: int = eqx.field(static=True)
    means: tuple[float, ...] = eqx.field(static=True)  # m_c, the same in every dimension
    weights: tuple[float, ...] = eqx.field(static=True)  # w_c
    scale: float = eqx.field(static=True)  # s

    def __init__(
        self,
        latent_size: int = 1,
        *,
        means: Sequence[float] = (-3.0, 3.0),
        weights: Sequence[float] = (0.5, 0.5),
        scale: float = 1.0,
    ):
        _check_size(latent_size)
        if len(means) != len(weights):
            raise ValueError(
                f"A mixture was given {len(means)} means and {len(weights)} weights; give one "
                "weight for every mean."
            )
        if not all(weight > 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
            raise ValueError(
                f"The weights of the mixture are {tuple(weights)}; give positive numbers that sum to 1."
            )
        self.latent_size = latent_size
        self.means = tuple(map(float, means))
        self.weights = tuple(map(float, weights))
        (self.scale,) = _scales(scale, 1)

    def law(self) -> dist.Distribution:
        means = jnp.tile(jnp.array(self.means)[:, None], (1, self.latent_size))
        modes = dist.Normal(means, jnp.full_like(means, self.scale)).to_event(1)
        return dist.MixtureSameFamily(dist.CategoricalProbs(jnp.array(self.weights)), modes)


def _scales(scale: float | Sequence[float], latent_size: int) -> tuple[float, ...]:
    scales = _per_dimension("scale", scale, latent_size)
    if not all(value > 0 for value in scales):
        raise ValueError(f"The scale of the target is {scale}, but a scale must be positive.")
    return scales


def _per_dimension(
    name: str, value: float | Sequence[float], latent_size: int
) -> tuple[float, ...]:
    """One number per dimension, from one for all or from as many as there are."""
    _check_size(latent_size)
    if isinstance(value, (int, float)):
        return (float(value),) * latent_size
    if len(value) != latent_size:
        raise ValueError(
            f"The {name} of a target of dimension {latent_size} was given {len(value)} numbers; "
            f"give one for all dimensions, or {latent_size}."
        )
    return tuple(map(float, value))


def _check_size(latent_size: int) -> None:
    if latent_size < 1:
        raise ValueError(f"The target has dimension {latent_size}; give at least 1.")
