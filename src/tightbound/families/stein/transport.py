"""Stein mixture inference as training sees it: a proposal, an objective, an optimiser."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from tightbound.inference.kernels import RBF, AbstractKernel
from tightbound.inference.stein import transported
from tightbound.models.base import AbstractProposal
from tightbound.models.mixture import mixture
from tightbound.train.guard import guarded
from tightbound.train.objective import Objective, Schedule, always_one


class Inference(NamedTuple):
    """What `init_state` and `fit` need beside the model and the batches."""

    proposal: AbstractProposal
    objective: Objective
    optimiser: optax.GradientTransformation


def single_guide(
    make: Callable[[PRNGKeyArray], AbstractProposal],
    optimiser: optax.GradientTransformation,
    *,
    draws: int = 1,
    key: PRNGKeyArray,
) -> Inference:
    """Variational inference with one proposal, sticking the landing; what `stein_mixture` is at m = 1
    with a kernel for which k(x, x) = 1 (not with `Linear`)."""
    return Inference(make(key), Objective("elbo", draws, "stop_proposal"), guarded(optimiser))


def stein_mixture(
    make: Callable[[PRNGKeyArray], AbstractProposal],
    optimiser: optax.GradientTransformation,
    *,
    num_components: int,
    num_rows: int,
    draws: int = 1,
    kernel: AbstractKernel | None = None,
    repulsion: float = 1.0,
    temperature: Schedule = always_one,
    shared: Callable[[str], bool] = lambda path: False,
    key: PRNGKeyArray,
) -> Inference:
    """Stein mixture inference: m proposals, `draws` draws of each, and the Stein force between them.

    Rønning et al. 2024 (arXiv:2410.22948). `num_rows` is that of the training split, 1 where its rows
    are points of one data set: the bound is a mean over rows, and a wrong number makes the repulsion
    too strong or too weak by as much. `temperature` multiplies log p, not log q. For points without a
    density take `svgd`.
    """
    proposal = mixture(make, num_components, key=key, shared=shared)
    objective = Objective("elbo", num_components * draws, "stop_proposal", temperature=temperature)
    force = stein_transport(kernel or RBF(), repulsion=repulsion, num_rows=num_rows)
    return Inference(proposal, objective, guarded(optax.chain(force, optimiser)))


def svgd(
    make: Callable[[PRNGKeyArray], AbstractProposal],
    optimiser: optax.GradientTransformation,
    *,
    num_components: int,
    num_rows: int,
    kernel: AbstractKernel | None = None,
    repulsion: float = 1.0,
    annealing: Schedule = always_one,
    key: PRNGKeyArray,
) -> Inference:
    """Stein variational gradient descent: `make` gives a `PointMass` instead of a guide.

    Liu & Wang 2016 (arXiv:1608.04471), eq. 8: a mixture of points with the temperature 1 / m, times
    `annealing`. Points have no density, so the objective's value is no bound.
    """
    return stein_mixture(
        make,
        optimiser,
        num_components=num_components,
        num_rows=num_rows,
        kernel=kernel,
        repulsion=repulsion,
        temperature=lambda step: annealing(step) / num_components,
        key=key,
    )


def stein_transport(
    kernel: AbstractKernel, *, repulsion: float = 1.0, num_rows: int
) -> optax.GradientTransformation:
    """The gradient of every mixture's components replaced by minus their Stein force; chain an
    optimiser behind it. ValueError for a repulsion that is negative or not finite, or no rows."""
    if not 0 <= repulsion < math.inf:
        raise ValueError(
            f"`repulsion` is {repulsion}, but a negative one draws components together. Give 0 for "
            "none, 1 for the method as published."
        )
    if num_rows < 1:
        raise ValueError(
            f"`num_rows` is {num_rows}, but the repulsion stands beside the sum over so many rows. Give "
            "the rows of the training split, or 1 where they are points of one data set."
        )

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("The Stein force needs the parameters: pass them to `update`.")
        force = transported(updates, params, kernel, repulsion=repulsion, num_rows=num_rows)
        return force, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def annealed(steps: int, *, cycles: int, power: float) -> Schedule:
    """The annealing of SVGD: in every cycle (t / T)^p from 0 to 1, in the last one 1.   D'Angelo &
    Fortuin 2021 (arXiv:2101.09815), eq. 4."""
    if not (2 <= cycles <= steps and power > 0):
        raise ValueError(
            f"{steps} steps were to be annealed in {cycles} cycles with the power {power}. Give at "
            "least two cycles (the last is not annealed), a step for each, and a power above 0."
        )
    length = steps // cycles

    def at(step):
        share = (step % length + 1) / length
        is_last = step >= (cycles - 1) * length
        return jnp.where(is_last, 1.0, share**power)

    return at


def constant_temperature(value: float) -> Schedule:
    """The same temperature at every step. ValueError unless it is above 0."""
    if not value > 0:
        raise ValueError(
            f"The temperature is {value}, but it multiplies log p: give a number above 0, 1 for the bound."
        )
    return lambda step: jnp.full((), value)
