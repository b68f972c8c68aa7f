"""The Stein force on the components of a mixture: attraction to the target, repulsion from each other."""

from typing import NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from tightbound.inference.kernels import AbstractKernel
from tightbound.models.mixture import Mixture, is_mixture


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
    num_components = len(jax.tree.leaves(components)[0])
    attraction, pushed = kernel.transport(components, scores)
    return Force(
        attraction=jax.tree.map(lambda leaf: num_components * leaf, attraction),
        repulsion=jax.tree.map(
            lambda leaf: repulsion / (num_rows * num_components) * leaf, pushed
        ),
    )


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
        scores = jax.tree.map(lambda leaf: -leaf, slope.components)
        force = stein_force(
            own.components, scores, kernel, repulsion=repulsion, num_rows=num_rows
        )
        total = jax.tree.map(lambda a, r: -(a + r), force.attraction, force.repulsion)
        return eqx.tree_at(lambda node: node.components, slope, total)

    return jax.tree.map(of_node, gradient, parameters, is_leaf=is_mixture)
