"""How setups of models with choices of their own are made wrong: the faults of the first edit model.

As in `planting.py`, the doctor is told nothing: claim, baselines and stated laws stay as they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.sentences import EOS, PAD
from tightbound.families.edits.network import END, INS
from tightbound.families.edits.particles import EditParticles, Writing, begin_string
from tightbound.families.edits.token_drop import TokenDrop, log_embeddings
from tightbound.families.edits.trajectory import Trajectory
from tightbound.models.base import AbstractProposal
from tightbound.models.sequential import AbstractFiltered, AbstractPopulation
from tightbound.terms import Kind
from tightbound.train.em import heads_averaged_apart
from tightbound.train.setup import Setup


class Rewired(AbstractFiltered):
    """A filtered model with other particles, or another teacher-forced score."""

    inner: Any
    change_particles: Callable[[Any], Any] = eqx.field(static=True, default=lambda inner: inner)
    change_score: Callable[[Any, Any, dict[str, Array]], dict[str, Array]] = eqx.field(
        static=True, default=lambda inner, z, score: score
    )

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    @property
    def num_particles(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.num_particles

    @property
    def threshold(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.threshold

    @property
    def every(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.every

    @property
    def max_steps(self) -> int:
        return self.inner.max_steps

    @property
    def num_positions(self) -> int:
        return self.inner.num_positions

    @property
    def network(self) -> Any:
        return self.inner.network

    def with_filter(self, **changes: Any) -> "Rewired":
        inner = self.inner.with_filter(**changes)
        return _rewired(
            inner, change_particles=self.change_particles, change_score=self.change_score
        )

    def particles(self) -> Any:
        return self.change_particles(self.inner.particles())

    def path(self, x: PyTree[Array], z: PyTree[Array]) -> Any:
        return self.inner.path(x, z)

    def complete(self, z: PyTree[Array], state: PyTree[Array]) -> PyTree[Array]:
        return self.inner.complete(z, state)

    def score(
        self,
        x: PyTree[Array],
        z: PyTree[Array],
        *,
        key: PRNGKeyArray | None = None,
        axis_name: str | None = None,
    ) -> dict[str, Float[Array, " time"]]:
        found = self.inner.score(x, z, key=key, axis_name=axis_name)
        return self.change_score(self.inner, z, found)

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_prior(key)

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(z, key)


def _rewired(inner: Any, **changes: Any) -> Rewired:
    kind: Any = Rewired  # its abstract fields are properties
    return kind(inner, **changes)


def with_particles(change: Callable[[Any], Any]) -> Callable[[Setup], Setup]:
    return lambda setup: replace(setup, model=_rewired(setup.model, change_particles=change))


class Unmasked(EditParticles):
    """Particles whose source is read without its padding mask."""

    def begin(self, state: Writing, step: Int[Array, ""]) -> Writing:
        begun = super().begin(state, step)
        # EOS in the places of padding: attended to like words, but never copied
        padded = jnp.where(state.written == PAD, EOS, state.written)
        carried = state.built if state.built is not None else None
        words = self.model.network.string_embeddings(state.written)
        embeddings = words if carried is None else carried
        source = self.model.network.read_source(padded, embeddings, step)
        return eqx.tree_at(lambda s: s.source, begun, source)


class WithoutItsEnd(EditParticles):
    """Particles that hand on what they built without the position of the end."""

    def begin(self, state: Writing, step: Int[Array, ""]) -> Writing:
        if state.built is not None:
            is_end = (state.written == EOS)[:, None] & (step > 0)
            state = eqx.tree_at(lambda s: s.built, state, jnp.where(is_end, 0.0, state.built))
        return begin_string(self.model, state, step)


class Argmax(EditParticles):
    """Particles that take the most probable edit."""

    def choose(self, logits: Float[Array, " options"], key: PRNGKeyArray) -> Int[Array, ""]:
        del key
        return jnp.argmax(logits)


class Ungathered(AbstractPopulation):
    """Particles whose caches stay in their places when the particles are resampled: every particle
    carries the caches of all, so that after the gathering each finds those of its own place."""

    inner: EditParticles
    num_particles: int = eqx.field(static=True)

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def init(self, num_particles: int, key: PRNGKeyArray) -> tuple[Writing, PyTree[Array]]:
        states = jax.vmap(self.inner.init)(jax.random.split(key, num_particles))
        return states, self._for_everyone(states)

    def step(
        self,
        state: tuple[Writing, PyTree[Array]],
        x_t: PyTree[Array],
        clock: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[tuple[Writing, PyTree[Array]], dict[str, Any]]:
        states, caches = state
        places = jnp.arange(self.num_particles)
        left_behind = jax.tree.map(lambda leaf: leaf[places, places], caches)
        states = eqx.tree_at(lambda s: s.caches, states, left_behind)
        keys = jax.random.split(key, self.num_particles)
        step = jax.vmap(self.inner.step, in_axes=(0, None, None, 0))
        moved, scores = step(states, x_t, clock, keys)
        return (moved, self._for_everyone(moved)), scores

    def _for_everyone(self, states: Writing) -> PyTree[Array]:
        repeat = lambda leaf: jnp.broadcast_to(leaf, (self.num_particles, *leaf.shape))  # noqa: E731
        return jax.tree.map(repeat, states.caches)


def cache_not_gathered(setup: Setup) -> Setup:
    """Resampling leaves the caches where they are."""

    class Planted(Rewired):
        def particles(self) -> Any:
            return Ungathered(self.inner.particles(), self.num_particles)

        def complete(self, z: PyTree[Array], state: PyTree[Array]) -> PyTree[Array]:
            return self.inner.complete(z, state[0])

        def with_filter(self, **changes: Any) -> "Rewired":
            return planted(self.inner.with_filter(**changes))

    planted: Any = Planted
    return replace(setup, model=planted(setup.model))


def end_trained_twice(setup: Setup) -> Setup:
    """At the end of a string another op's target is set as well."""

    def also_inserts(inner: Any, z: Any, score: dict[str, Array]) -> dict[str, Array]:
        trajectory, edits = z
        other = eqx.tree_at(lambda e: e.op, edits, jnp.where(edits.op == END, INS, edits.op))
        as_insertion = inner._teacher_forced(trajectory, other, _op_only, None, None)["op"]
        is_end = (score["end"] != 0).reshape(as_insertion.shape)
        extra = jnp.where(is_end & (as_insertion > -1e29), as_insertion, 0.0)
        return score | {"end": score["end"] + extra.ravel()}

    return replace(setup, model=_rewired(setup.model, change_score=also_inserts))


def _op_only(decision, symbol, op, index, source):
    del symbol, index, source
    return {"op": decision.op[op]}


def heads_averaged(setup: Setup) -> Setup:
    """Every head's loss is averaged over its own decisions."""
    objective: Any = setup.objective
    return replace(setup, objective=replace(objective, total=heads_averaged_apart))


class OnePath(AbstractProposal):
    """Token drop that scores the one set of positions it took out."""

    inner: TokenDrop

    @property
    def description(self) -> str:
        return self.inner.description

    @property
    def is_exact(self) -> bool:
        return self.inner.is_exact

    @property
    def max_steps(self) -> int:
        return self.inner.max_steps

    def proposal(self, x: PyTree[Array]) -> Any:
        return _OnePathDistribution(self.inner.proposal(x))


class _OnePathDistribution(eqx.Module):
    inner: Any

    def sample(self, key: PRNGKeyArray) -> Trajectory:
        return self.inner.sample(key)

    def log_prob(self, value: Trajectory) -> Float[Array, ""]:
        ways = jax.vmap(log_embeddings)(value.strings[:-1], value.strings[1:])
        counted = jnp.arange(1, len(value.strings)) < value.num_steps
        return self.inner.log_prob(value) - jnp.where(counted, ways, 0.0).sum()


def unit_embeddings(setup: Setup) -> Setup:
    """Word embeddings of unit variance in place of width^-1/2, in a table that is the output layer too."""
    model: Any = setup.model
    where = lambda model: model.network.embedding  # noqa: E731
    return replace(setup, model=eqx.tree_at(where, model, model.network.size**0.5 * where(model)))


def one_path(setup: Setup) -> Setup:
    """log q is that of the positions that were dropped, not of the string that was left."""
    law: Any = setup.proposal
    return replace(setup, proposal=OnePath(law))


def other_law_at_evaluation(setup: Setup) -> Setup:
    """Held-out numbers draw trajectories by random drop, whatever was trained."""
    model: Any = setup.model
    return replace(setup, evaluation_proposal=TokenDrop(probability=0.5, max_steps=model.max_steps))
