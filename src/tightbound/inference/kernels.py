"""Kernels between particles, and the sums over them that a Stein method needs.

Particles are any pytree with a leading axis of particles on every array. All that a kernel here
needs of them are inner products, so no array of (particle, particle, parameter) is ever made.
"""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

__all__ = ["RBF", "AbstractKernel", "InverseMultiquadric", "KernelMixture", "Linear", "PerSite"]


class Pairs(NamedTuple):
    """A kernel at every pair of particles: its values, and what its gradients sum to.

    values[x, y] = k(x, y);   sum_x grad_x k(x, y) = sum_x pull[x, y] places[x]
    """

    values: Float[Array, "particle particle"]
    pull: Float[Array, "particle particle"]
    places: PyTree[Array]  # the particles, or where only differences count those from the first


class AbstractKernel(eqx.Module):
    """k(x, y) between particles, positive definite."""

    @abstractmethod
    def transport(
        self,
        particles: PyTree[Array],
        scores: PyTree[Array],
        *,
        attraction: float = 1.0,
        repulsion: float = 1.0,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """sum_x k(x, y) score_x and sum_x grad_x k(x, y) of every particle y, shaped as the particles,
        each times its factor. The factors go into the (m, m) sums: large arrays are passed over once."""


class AbstractWholeKernel(AbstractKernel):
    """A kernel that sees a particle as one long vector."""

    @abstractmethod
    def pairs(self, particles: PyTree[Array]) -> Pairs:
        """The kernel at every pair of particles."""

    def transport(
        self,
        particles: PyTree[Array],
        scores: PyTree[Array],
        *,
        attraction: float = 1.0,
        repulsion: float = 1.0,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        pairs = self.pairs(particles)
        return (
            _summed(attraction * pairs.values, scores),
            _summed(repulsion * pairs.pull, pairs.places),
        )


class AbstractRadialKernel(AbstractWholeKernel):
    """k(x, y) = f(|x - y|^2 / h), with the bandwidth h of `median_bandwidth` at every step."""

    @abstractmethod
    def profile(self, scaled: Float[Array, "..."]) -> tuple[Array, Array]:
        """f and its derivative f' at squared distances that have been divided by h."""

    def pairs(self, particles: PyTree[Array]) -> Pairs:
        # particles equal to the first differ from it by exactly nothing: where all are equal, rounding
        # cannot push them apart
        places = jax.tree.map(lambda leaf: leaf - leaf[:1], particles)
        squared = squared_distances(places)
        bandwidth = median_bandwidth(squared)
        values, slope = self.profile(squared / bandwidth)
        # grad_x k = 2 f' (x - y) / h
        slope = 2 * slope / bandwidth
        return Pairs(values, slope - jnp.diag(slope.sum(0)), places)


class RBF(AbstractRadialKernel):
    """k(x, y) = exp(-|x - y|^2 / h).   Liu & Wang 2016 (arXiv:1608.04471), sec. 5."""

    def profile(self, scaled: Float[Array, "..."]) -> tuple[Array, Array]:
        values = jnp.exp(-scaled)
        return values, -values


class InverseMultiquadric(AbstractRadialKernel):
    """k(x, y) = (1 + |x - y|^2 / h)^(-1/2), whose tails let far particles feel each other.

    Gorham & Mackey 2017 (arXiv:1703.01717), sec. 4.2, with exponent -1/2.
    """

    def profile(self, scaled: Float[Array, "..."]) -> tuple[Array, Array]:
        return (1 + scaled) ** -0.5, -0.5 * (1 + scaled) ** -1.5


class Linear(AbstractWholeKernel):
    """k(x, y) = 1 + x . y / d over d parameters: no distances, only moments of the particles.

    What repels pushes every particle away from 0, not from the others. k(x, x) is not 1, so even one
    particle does not follow its own score alone.
    Liu & Wang 2018 (arXiv:1810.11693), sec. 3: exact for the first two moments of a Gaussian.
    """

    def pairs(self, particles: PyTree[Array]) -> Pairs:
        products = inner_products(particles)
        num_particles = len(products)
        size = sum(leaf.size for leaf in jax.tree.leaves(particles)) // num_particles
        # grad_x k = y / d, whatever x is
        pull = jnp.eye(num_particles) * (num_particles / size)
        return Pairs(1 + products / size, pull, particles)


class KernelMixture(AbstractKernel):
    """sum_i w_i k_i(x, y), the weights positive."""

    kernels: tuple[AbstractKernel, ...]
    weights: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self):
        if len(self.kernels) != len(self.weights) or not self.kernels or min(self.weights) <= 0:
            raise ValueError(
                f"A mixture of {len(self.kernels)} kernels was given the weights {self.weights}. Give "
                "one weight above 0 for each kernel, and at least one."
            )

    def transport(
        self,
        particles: PyTree[Array],
        scores: PyTree[Array],
        *,
        attraction: float = 1.0,
        repulsion: float = 1.0,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        parts = [
            kernel.transport(
                particles, scores, attraction=weight * attraction, repulsion=weight * repulsion
            )
            for kernel, weight in zip(self.kernels, self.weights, strict=True)
        ]
        return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *parts)


class PerSite(AbstractKernel):
    """A kernel of its own, with its own bandwidth, for every site: every array of parameters.

    The graphical form of Wang et al. 2018 (arXiv:1711.07168) and Zhuo et al. 2018
    (arXiv:1711.04425) with every site's neighbourhood the site itself: the distance in one site is not
    drowned by the dimensions of all others.
    """

    kernel: AbstractKernel

    def transport(
        self,
        particles: PyTree[Array],
        scores: PyTree[Array],
        *,
        attraction: float = 1.0,
        repulsion: float = 1.0,
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        sites, structure = jax.tree.flatten(particles)
        forces = [
            self.kernel.transport(site, score, attraction=attraction, repulsion=repulsion)
            for site, score in zip(sites, structure.flatten_up_to(scores), strict=True)
        ]
        attracted, repelled = zip(*forces, strict=True)
        return structure.unflatten(attracted), structure.unflatten(repelled)


def inner_products(particles: PyTree[Array]) -> Float[Array, "particle particle"]:
    """x . y of every pair of particles, array by array of their parameters."""

    def of_leaf(leaf: Array) -> Array:
        flat = leaf.reshape(len(leaf), -1)
        return jnp.matmul(flat, flat.T, precision="highest")

    return jnp.stack([of_leaf(leaf) for leaf in jax.tree.leaves(particles)]).sum(0)


def squared_distances(particles: PyTree[Array]) -> Float[Array, "particle particle"]:
    """|x - y|^2 of every pair. Give differences from one of them: less is then cancelled."""
    products = inner_products(particles)
    norms = jnp.diag(products)
    squared = norms[:, None] + norms[None, :] - 2 * products
    return jnp.maximum(squared, 0.0) * (1 - jnp.eye(len(norms)))


def median_bandwidth(squared: Float[Array, "particle particle"]) -> Float[Array, ""]:
    """h = (median distance of two particles)^2 / log m, so that sum_x k(x, y) is about 2 for all y.

    Liu & Wang 2016 (arXiv:1608.04471), sec. 5. It is 1 for a single particle, and where most
    particles coincide: their distance says nothing.
    """
    num_particles = len(squared)
    if num_particles == 1:
        return jnp.ones(())
    pairs = squared[jnp.triu_indices(num_particles, 1)]
    # of distances, not of their squares: the median of an even number is a mean of two
    bandwidth = jnp.median(jnp.sqrt(pairs)) ** 2 / jnp.log(num_particles)
    return jnp.where(bandwidth > 0, bandwidth, 1.0)


def _summed(weights: Float[Array, "particle particle"], values: PyTree[Array]) -> PyTree[Array]:
    """sum_x weights[x, y] value_x of every y, array by array."""

    def of_leaf(leaf: Array) -> Array:
        return (weights.T.astype(leaf.dtype) @ leaf.reshape(len(leaf), -1)).reshape(leaf.shape)

    return jax.tree.map(of_leaf, values)
