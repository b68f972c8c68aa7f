"""What a filter needs of a family: a state per particle, and one step that moves and scores it."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from tightbound.models.base import AbstractModel, Distribution
from tightbound.terms import Kind

StepScores = dict[str, tuple[Any, Any]]
"""{site: (log_p, log_q)} of one step, in nats; log_q is None where the site is not proposed."""


class Sequence(eqx.Module):
    """One padded sequence: its values and which of them are real. Padding comes last.

    A batch of sequences is the same record with a leading axis on every leaf, so it can be the
    `x` of a `Batch`, whose own `mask` is then this one.
    """

    values: PyTree[Array]  # leaves have a time axis
    mask: Bool[Array, "..."]  # time, or batch and time; one element as a step sees it


class AbstractSequential(eqx.Module):
    """A family with its proposal, one particle at a time; `inference.filter` adds particles and batch.

    The state is an opaque pytree of arrays: everything that later steps read (the last choice, a
    recurrent state, a cache). When a particle is copied, all of it is copied.
    """

    kinds: ClassVar[Mapping[str, Kind]]

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
    threshold: eqx.AbstractVar[float]  # of resampling, as `filter` takes it
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


@runtime_checkable
class StateSpace(Protocol):
    """A Markov chain seen through noise: p(z_0), p(z_t | z_{t-1}), p(x_t | z_t)."""

    def initial(self) -> Distribution: ...

    def transition(self, z: Any, /) -> Distribution: ...

    def observation(self, z: Any, /) -> Distribution: ...


class Bootstrap(AbstractSequential):
    """A state-space model that proposes from its own transition, so a weight is p(x_t | z_t).

    Gordon, Salmond & Smith 1993. Its x is a `Sequence`. The latent site is scored on both sides,
    where it cancels, so that the sites can be read one by one.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    model: StateSpace

    def init(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.model.initial().sample(key)  # a placeholder: clock 0 draws anew and scores it

    def step(
        self, state: PyTree[Array], x_t: Sequence, clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree[Array], StepScores]:
        def draw(q):
            z = q.sample(key)
            return z, q.log_prob(z)

        z, log_p = jax.lax.cond(
            clock == 0,
            lambda: draw(self.model.initial()),
            lambda: draw(self.model.transition(state)),
        )
        log_likelihood = self.model.observation(z).log_prob(x_t.values)
        return z, {"z": (log_p, log_p), "x": (log_likelihood, None)}
