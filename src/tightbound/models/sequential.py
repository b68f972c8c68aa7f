"""What a filter needs of a family: a state per particle, and one step that moves and scores it."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.sequences import Sequence
from tightbound.models.base import AbstractModel
from tightbound.terms import Kind

StepScores = dict[str, tuple[Any, Any]]
"""{site: (log_p, log_q)} of one step, in nats; log_q is None where the site is not proposed."""


class AbstractSequential(eqx.Module):
    """A family with its proposal, one particle at a time; `particle_filter` adds particles and batch.

    The state is an opaque pytree of arrays: everything that later steps read (the last choice, a
    recurrent state, a cache). When a particle is copied, all of it is copied.
    """

    kinds: ClassVar[Mapping[str, Kind]]

    def inputs(self, x: PyTree[Array]) -> PyTree[Array]:
        """What the steps see of one sequence, with a time axis: what does not depend on the state is
        computed here for all steps at once. By default x itself."""
        return x

    @abstractmethod
    def init(self, key: PRNGKeyArray) -> PyTree[Array]:
        """The state before the first step. Nothing drawn here is scored, so it must come from
        the model itself (or be a placeholder that the step at clock 0 overwrites)."""

    @abstractmethod
    def step(
        self, state: PyTree[Array], x_t: PyTree[Array], clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree[Array], StepScores]:
        """Draw this step's latents from the proposal, score them and x_t: the next state, and
        (log p, log q) of every site as scalars.

        `clock` is the index of the step, the same for the whole batch: a branch on it stays a
        branch (`lax.cond`), one on data becomes a select that pays for both sides.
        """


class AbstractPopulation(eqx.Module):
    """The same, over all particles of one sequence at once: every leaf of the state and every
    score has a leading axis of particles, and one key serves them all.

    For families whose draws are cheaper made together; the particles must stay independent given
    their own states, or the filter's evidence means nothing.
    """

    kinds: ClassVar[Mapping[str, Kind]]

    def inputs(self, x: PyTree[Array]) -> PyTree[Array]:
        """What the steps see of one sequence, with a time axis. By default x itself."""
        return x

    @abstractmethod
    def init(self, num_particles: int, key: PRNGKeyArray) -> PyTree[Array]:
        """The states of `num_particles` particles before the first step."""

    @abstractmethod
    def step(
        self, state: PyTree[Array], x_t: PyTree[Array], clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree[Array], dict[str, tuple[Float[Array, " particles"], Any]]]:
        """One step of every particle: the next states, and (log p, log q) of every site."""


class AbstractFiltered(AbstractModel):
    """p(x, z) = sum over e of p(x, z, e), whose choices e a filter sums out: an estimate of p(x, z)
    without bias takes its place, and the bound stays a bound.

    The proposal draws z alone; `particles()` proposes e. `score` and `sample_prior` are of all
    latents, (z, e). `kinds` ends with the sites the weighing adds: "proposal", which holds
    log q(z | x), and "reweighting", what weighing the particles costs.
    """

    num_particles: eqx.AbstractVar[int]
    threshold: eqx.AbstractVar[float]  # of resampling, as `particle_filter` takes it
    every: eqx.AbstractVar[int]

    @abstractmethod
    def with_filter(self, **changes: Any) -> "AbstractFiltered":
        """The same model with other settings of its filter: `num_particles`, `threshold`, `every`, and
        what else the family has; those not named are kept."""

    @abstractmethod
    def particles(self) -> AbstractSequential:
        """What the filter runs, scoring x and z as it goes along `path(x, z)`."""

    @abstractmethod
    def path(self, x: PyTree[Array], z: PyTree[Array]) -> Sequence:
        """One sequence with its z as the filter reads it, step by step."""

    @property
    def sums_out(self) -> bool:
        """Whether `summed` gives p(x, z) exactly, and no filter is needed."""
        return False

    def summed(
        self, x: PyTree[Array], z: PyTree[Array], *, axis_name: str | None = None
    ) -> dict[str, tuple[Array, Array | None]]:
        """{site: (log_p[time], log_q[time] or None)} whose sum is log p(x, z), in nats."""
        raise NotImplementedError(f"The choices of {type(self).__name__} do not sum out.")

    @abstractmethod
    def complete(self, z: PyTree[Array], state: PyTree[Array]) -> PyTree[Array]:
        """All latents, (z, e), from z and the state of a particle at its end."""

    @abstractmethod
    def score(
        self,
        x: PyTree[Array],
        z: PyTree[Array],
        *,
        key: PRNGKeyArray | None = None,
        axis_name: str | None = None,
    ) -> dict[str, Float[Array, " time"]]:
        """log p of every site given all latents, in nats; under dropout if a key is given.
        `axis_name` names the axis of a batch under `vmap`, so that it can share its branches."""
