"""Models whose past is in a state, and proposals that go along it: scored, drawn, filtered by steps."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Shaped

from tightbound.data.sequences import Sequence
from tightbound.models.base import AbstractModel, AbstractProposal, Distribution
from tightbound.models.sequential import AbstractSequential, StepScores
from tightbound.terms import Kind


class AbstractStateful(AbstractModel):
    """p(x, z) = prod_t p(z_t | h_t) p(x_t | z_t, h_t), where a state h carries what was before.

    A family says what its state is and how it goes on; scoring and drawing whole sequences follow.
    x is a `Sequence`, z has a leading time axis. Where no z is drawn (a recurrent network without
    latents), `kinds` has no "z" and z has size 0.
    """

    num_steps: eqx.AbstractVar[int]  # of the sequences that `sample` draws; limits nothing else

    @abstractmethod
    def init(self) -> PyTree[Array]:
        """h before the first step."""

    @abstractmethod
    def read(self, x_t: PyTree[Array]) -> PyTree[Array]:
        """What the state takes in of one observation: it needs neither state nor z, so it is
        computed for all steps at once."""

    @abstractmethod
    def memory(self, state: PyTree[Array]) -> Float[Array, " memory"]:
        """The state as one vector: what a network that proposes z reads of the past."""

    @abstractmethod
    def prior(self, state: PyTree[Array], clock: Int[Array, ""]) -> Distribution:
        """p(z_t | h_t)."""

    @abstractmethod
    def likelihood(self, state: PyTree[Array], z: PyTree[Array]) -> Distribution:
        """p(x_t | z_t, h_t). Its `log_prob` is a number, or `{site: log_p}` where x_t has parts."""

    @abstractmethod
    def advance(
        self, state: PyTree[Array], z: PyTree[Array], reading: PyTree[Array]
    ) -> PyTree[Array]:
        """h for the next step, from z_t and `read(x_t)`."""

    def step_score(
        self, state: PyTree[Array], z: PyTree[Array], x_t: PyTree[Array], clock: Int[Array, ""]
    ) -> dict[str, Float[Array, ""]]:
        """log p of the sites of one step, in nats."""
        log_p = self.likelihood(state, z).log_prob(x_t)
        scores = log_p if isinstance(log_p, dict) else {"x": log_p}
        if "z" not in self.kinds:
            return scores
        return {"z": self.prior(state, clock).log_prob(z), **scores}

    def readings(self, x: Sequence) -> PyTree[Array]:
        """`read` at every step."""
        return jax.vmap(self.read)(x.values)

    def score(self, x: Sequence, z: PyTree[Array]) -> dict[str, Float[Array, " time"]]:
        x = harmless(x)

        def step(state, inputs):
            z_t, x_t, reading, clock = inputs
            return self.advance(state, z_t, reading), self.step_score(state, z_t, x_t, clock)

        inputs = (z, x.values, self.readings(x), jnp.arange(len(x.mask)))
        _, scores = jax.lax.scan(step, self.init(), inputs)
        return {name: jnp.where(x.mask, log_p, 0.0) for name, log_p in scores.items()}

    def residual(self, x: Sequence, z: PyTree[Array]) -> Float[Array, "time size"]:
        """x less the mean of the likelihood at z, step by step, in units of the data."""
        x = harmless(x)

        def step(state, inputs):
            z_t, x_t, reading = inputs
            law: Any = self.likelihood(state, z_t)
            off = as_vector(x_t) - as_vector(law.mean)
            return self.advance(state, z_t, reading), off

        return jax.lax.scan(step, self.init(), (z, x.values, self.readings(x)))[1]

    def sample(self, key: PRNGKeyArray) -> tuple[PyTree[Array], Sequence]:
        z, values = continued(self, self.init(), jnp.zeros((), int), key, self.num_steps)
        return z, Sequence(values, jnp.ones(self.num_steps, bool))

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        """z of one joint draw: what was observed on the way is let go."""
        return self.sample(key)[0]

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        """Refused: a z that is drawn after an x tells of it, so x given all of z is a smoothing
        problem. `sample` draws both."""
        raise NotImplementedError(
            f"Later latents of {type(self).__name__} depend on earlier observations, so x cannot be "
            "drawn given all of z. `sample` draws both together."
        )


def continued(
    model: AbstractStateful,
    state: PyTree[Array],
    clock: Int[Array, ""],
    key: PRNGKeyArray,
    num_steps: int,
) -> tuple[PyTree[Array], PyTree[Array]]:
    """(z, x) of `num_steps` further steps, drawn from the model, going on from `state` at `clock`."""

    def step(state, inputs):
        clock, key = inputs
        z_key, x_key = jax.random.split(key)
        z = model.prior(state, clock).sample(z_key)
        x_t = model.likelihood(state, z).sample(x_key)
        return model.advance(state, z, model.read(x_t)), (z, x_t)

    inputs = (clock + jnp.arange(num_steps), jax.random.split(key, num_steps))
    return jax.lax.scan(step, state, inputs)[1]


class AbstractStateSpace(AbstractStateful):
    """A Markov chain seen through noise: p(z_0), p(z_t | z_{t-1}), p(x_t | z_t). Its state is z_{t-1}."""

    @abstractmethod
    def initial(self) -> Distribution:
        """p(z_0)."""

    @abstractmethod
    def transition(self, z: PyTree[Array]) -> Distribution:
        """p(z_t | z_{t-1} = z)."""

    @abstractmethod
    def observation(self, z: PyTree[Array]) -> Distribution:
        """p(x_t | z_t = z)."""

    def init(self) -> PyTree[Array]:
        """Zeros nobody reads: at clock 0 `prior` is `initial`."""
        z = jax.eval_shape(lambda: self.initial().sample(jax.random.key(0)))
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), z)

    def read(self, x_t: PyTree[Array]) -> PyTree[Array]:
        return x_t

    def memory(self, state: PyTree[Array]) -> Float[Array, " memory"]:
        return as_vector(state)

    def prior(self, state: PyTree[Array], clock: Int[Array, ""]) -> Distribution:
        def choose(first, later):
            return jnp.where(clock == 0, first, later)

        return jax.tree.map(choose, self.initial(), self.transition(state))

    def likelihood(self, state: PyTree[Array], z: PyTree[Array]) -> Distribution:
        return self.observation(z)

    def advance(
        self, state: PyTree[Array], z: PyTree[Array], reading: PyTree[Array]
    ) -> PyTree[Array]:
        return z

    def score(self, x: Sequence, z: PyTree[Array]) -> dict[str, Float[Array, " time"]]:
        """All steps at once: the state of each is the z before it."""
        x = harmless(x)
        before = jax.tree.map(
            lambda first, z: jnp.concatenate([first[None], z[:-1]]), self.init(), z
        )
        scores = jax.vmap(self.step_score)(before, z, x.values, jnp.arange(len(x.mask)))
        return {name: jnp.where(x.mask, log_p, 0.0) for name, log_p in scores.items()}

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> Sequence:
        num_steps = len(jax.tree.leaves(z)[0])
        keys = jax.random.split(key, num_steps)
        values = jax.vmap(lambda z, key: self.observation(z).sample(key))(z, keys)
        return Sequence(values, jnp.ones(num_steps, bool))


def as_vector(x_t: PyTree[Array]) -> Float[Array, " size"]:
    """The numbers of one observation or state side by side."""
    return jnp.concatenate([jnp.ravel(jnp.asarray(leaf, float)) for leaf in jax.tree.leaves(x_t)])


def harmless(x: Sequence) -> Sequence:
    """The same sequence with its first observation at padding. Scores there are selected away, but
    what cannot be scored (NaN, a zero where x is positive) would make their gradients NaN: 0 * inf."""

    def fill(leaf):
        return jnp.where(x.mask.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, leaf[:1])

    return Sequence(jax.tree.map(fill, x.values), x.mask)


class AbstractStepwise(AbstractProposal):
    """q(z | x) = prod_t q(z_t | h_t, c_t), with h the model's own state and c what was read of x.

    It needs the model to go along, so a whole distribution of z is `proposed(model, q, x)`.
    """

    @abstractmethod
    def context(
        self, model: Any, x: Sequence, readings: PyTree[Array]
    ) -> PyTree[Shaped[Array, "time ..."]]:
        """c: what every step is told of x (of x_t alone, or of all that follows), once per sequence."""

    @abstractmethod
    def propose(
        self, model: Any, state: PyTree[Array], context: PyTree[Array], clock: Int[Array, ""]
    ) -> Distribution:
        """q(z_t | h_t, c_t)."""

    def proposal(self, x: PyTree[Array]) -> Distribution:
        raise NotImplementedError(
            f"{type(self).__name__} proposes along the state of a model. Use "
            "`proposed(model, proposal, x)`."
        )


class FromPrior(AbstractStepwise):
    """q(z_t | h_t) = p(z_t | h_t): the weight of a step is p(x_t | z_t). Gordon, Salmond & Smith 1993."""

    def context(self, model: Any, x: Sequence, readings: PyTree[Array]) -> None:
        return None

    def propose(
        self, model: Any, state: PyTree[Array], context: None, clock: Int[Array, ""]
    ) -> Distribution:
        return model.prior(state, clock)


class Guide(eqx.Module):
    """What a guided particle is given at every step; a batch of them is what `particle_filter` scans."""

    values: PyTree[Array]
    readings: PyTree[Array]
    context: PyTree[Array]


class Guided(AbstractSequential):
    """A stateful model whose z are drawn step by step from a proposal, as one particle.

    `path` is how the draw is differentiated, as `inference.weigh` says: "full", "stop_proposal" or
    "stop_draw".
    """

    model: AbstractStateful
    proposal: AbstractStepwise
    path: str = eqx.field(static=True, default="full")

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.model.kinds

    def inputs(self, x: Sequence) -> Guide:
        x = harmless(x)
        readings = self.model.readings(x)
        return Guide(x.values, readings, self.proposal.context(self.model, x, readings))

    def init(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.model.init()

    def step(
        self, state: PyTree[Array], x_t: Guide, clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree[Array], StepScores]:
        _, state, scores = self.drawn_step(state, x_t, clock, key)
        return state, scores

    def drawn_step(
        self, state: PyTree[Array], x_t: Guide, clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree[Array], PyTree[Array], StepScores]:
        """`step`, with the z it drew before the state it led to."""
        q = self.proposal.propose(self.model, state, x_t.context, clock)
        z = q.sample(key)
        if self.path == "stop_draw":
            z = jax.lax.stop_gradient(z)
        if self.path == "stop_proposal":
            q = constant(q)
        scores: StepScores = {
            name: (log_p, q.log_prob(z) if name == "z" else None)
            for name, log_p in self.model.step_score(state, z, x_t.values, clock).items()
        }
        return z, self.model.advance(state, z, x_t.readings), scores


def constant(tree: Any) -> Any:
    """The same pytree with every array held constant under differentiation."""
    arrays, static = eqx.partition(tree, eqx.is_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), static)


class Proposed(eqx.Module):
    """q(z | x) of a stepwise proposal, over all of z: sampled and scored along the model's state."""

    particle: Guided
    x: Sequence
    guide: Guide

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        def draw(state, guide, clock):
            q = self.particle.proposal.propose(self.particle.model, state, guide.context, clock)
            return q.sample(jax.random.fold_in(key, clock))

        return self._along(draw, None)

    def log_prob(self, value: PyTree[Array]) -> dict[str, Float[Array, " time"]]:
        """log q(z_t | h_t, c_t), in nats, position by position; 0 at padding."""
        if "z" not in self.particle.kinds:
            return {}

        def score(state, guide, clock, z):
            q = self.particle.proposal.propose(self.particle.model, state, guide.context, clock)
            return q.log_prob(z)

        return {"z": jnp.where(self.x.mask, self._along(score, value), 0.0)}

    def _along(self, at_step, z):
        """`at_step` at every step along the model's state, which z moves (what `at_step` gives,
        where z is None)."""

        def step(state, inputs):
            guide, clock, given = inputs
            found = at_step(state, guide, clock, *(() if z is None else (given,)))
            latent = found if z is None else given
            return self.particle.model.advance(state, latent, guide.readings), found

        inputs = (self.guide, jnp.arange(len(self.x.mask)), z)
        return jax.lax.scan(step, self.particle.model.init(), inputs)[1]


def proposed(model: AbstractModel, proposal: AbstractProposal, x: PyTree[Array]) -> Distribution:
    """q(. | x) of any pair: of a stepwise proposal it goes along the model's state."""
    if isinstance(model, AbstractStateful) and isinstance(proposal, AbstractStepwise):
        particle = Guided(model, proposal)
        return Proposed(particle, x, particle.inputs(x))
    return proposal.proposal(x)
