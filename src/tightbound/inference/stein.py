"""The Stein force on the components of a mixture: attraction to the target, repulsion from each other."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from tightbound.inference.kernels import AbstractKernel
from tightbound.models.mixture import Mixture, is_mixture


class Interaction(NamedTuple):
    """How a mixture's components are said to act on each other: what `stein_force` needs beside them."""

    kernel: AbstractKernel
    repulsion: float
    num_rows: int


class Force(NamedTuple):
    """The two parts of the Stein force on every component, shaped as the components' parameters."""

    attraction: PyTree[Array]
    repulsion: PyTree[Array]


def stein_force(
    components: PyTree[Array],
    scores: PyTree[Array],
    kernel: AbstractKernel,
    *,
    repulsion: float,
    num_rows: int,
) -> Force:
    """The direction that raises the mixture's bound and keeps its components apart.

        Phi(psi_y) = sum_x k(psi_x, psi_y) grad L_x  +  alpha / (N m) sum_x grad_x k(psi_x, psi_y)

    Rønning et al. 2024 (arXiv:2410.22948), eq. 9, for a bound in nats per row: L is the mean over
    N rows, and the repulsion alpha stands beside their sum. `scores` holds grad L_x / m, the gradient
    of the mixture's own ELBO in the parameters of each component. The force is not the gradient of
    anything, and its norm is no bound: it grows with the parameters' number and with the data.
    """
    num_components = float(len(jax.tree.leaves(components)[0]))
    factor = repulsion / (num_rows * num_components)
    return Force(*kernel.transport(components, scores, attraction=num_components, repulsion=factor))


def transported(
    gradient: PyTree,
    parameters: PyTree,
    kernel: AbstractKernel,
    *,
    repulsion: float,
    num_rows: int,
) -> PyTree:
    """A gradient of the loss with that of every mixture's components replaced by minus the Stein
    force; what is not of a mixture (a decoder, what components share) keeps its own."""

    def of_node(slope: PyTree, own: PyTree) -> PyTree:
        if not isinstance(slope, Mixture):
            return slope
        # the slope of the loss is minus the scores, and minus the force is wanted: only repulsion turns
        force = stein_force(
            own.components, slope.components, kernel, repulsion=-repulsion, num_rows=num_rows
        )
        total = jax.tree.map(jnp.add, force.attraction, force.repulsion)
        return eqx.tree_at(lambda node: node.components, slope, total)

    return jax.tree.map(of_node, gradient, parameters, is_leaf=is_mixture)
