"""Particles that write given strings edit by edit, each with everything it has done so far."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.sentences import BOS, EOS, PAD
from tightbound.families.edits.network import (
    CPY,
    INS,
    SUB,
    Decision,
    EditNetwork,
    HandedOn,
    Source,
)
from tightbound.families.edits.options import Edit, edit_of_option, edits_that_write, forced_option
from tightbound.families.edits.trajectory import Edits, PathPoint
from tightbound.models.sequential import AbstractSequential, StepScores
from tightbound.nn.transformer import KeyValue
from tightbound.terms import Kind


class AbstractWriter(eqx.Module):
    """What particles and new texts need of a model that writes by edits."""

    kinds: ClassVar[Mapping[str, Kind]]
    network: eqx.AbstractVar[EditNetwork]
    handed_on: eqx.AbstractVar[HandedOn]
    max_steps: eqx.AbstractVar[int]
    temperature: eqx.AbstractVar[float]  # of the proposal of edits

    @property
    def max_length(self) -> int:
        """Words a string can have."""
        return self.network.max_length

    @property
    def num_positions(self) -> int:
        """Decisions of one string at most: its words and its end."""
        return self.max_length + 1

    @abstractmethod
    def log_stop(self) -> Float[Array, " steps"]:
        """log p(no further string after 1, 2, ... strings), in nats; 0 at the cap."""


class Writing(eqx.Module):
    """One particle: the string it reads, the string it writes, and the edits it made."""

    source: Source
    caches: list[KeyValue]
    written: Int[Array, " slots"]  # BOS and the words so far; EOS once it is there
    latest: Float[Array, " size"]  # what the last edit left: the decoder's next input
    built: Float[Array, "slots size"] | None  # all of them, where something reads them again
    edits: Edits


def empty_writing(model: AbstractWriter, *, keep_built: bool) -> Writing:
    """A particle that has written the empty string x_0 and is about to begin x_1."""
    root = jnp.full(model.network.num_slots, PAD).at[0].set(BOS).at[1].set(EOS)
    embeddings = model.network.string_embeddings(root)
    # what it reads before its first string is never used: the branch at position 0 replaces it
    source = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(lambda: model.network.read_source(root, embeddings, jnp.zeros((), int))),
    )
    nothing = jnp.zeros((model.max_steps, model.num_positions), root.dtype)
    return Writing(
        source=source,
        caches=model.network.empty_caches(),
        written=root,
        latest=embeddings[0],
        built=embeddings if keep_built else None,
        edits=Edits(op=nothing, index=nothing),
    )


def begin_string(model: AbstractWriter, state: Writing, step: Int[Array, ""]) -> Writing:
    """Read what was written as the next source, and start a new string at BOS."""
    words = model.network.string_embeddings(state.written)
    carried = state.built if model.handed_on == "edits" else words
    assert carried is not None
    beginning = words[0]  # BOS at position 0, the same in every string
    return Writing(
        source=model.network.read_source(state.written, carried, step),
        caches=model.network.empty_caches(),
        written=jnp.full_like(state.written, PAD).at[0].set(BOS),
        latest=beginning,
        built=None if state.built is None else jnp.zeros_like(state.built).at[0].set(beginning),
        edits=state.edits,
    )


def decide(
    model: AbstractWriter, state: Writing, position: Int[Array, ""], *, cached: bool = True
) -> tuple[Decision, Writing]:
    """The law of the next edit, and the state with the decoder's caches moved on."""
    if cached:
        hidden, caches = model.network.decode_step(
            state.latest, state.caches, position, state.source
        )
    else:
        assert state.built is not None
        hidden = model.network.decode(state.built[:-1], state.source)[position]
        caches = state.caches
    decision = model.network.decide(hidden, position, state.source)
    return decision, eqx.tree_at(lambda s: s.caches, state, caches)


def write(
    model: AbstractWriter,
    state: Writing,
    edit: Edit,
    step: Int[Array, ""],
    position: Int[Array, ""],
) -> Writing:
    """The state after an edit at `position`."""
    slot = position + 1
    op = jnp.array(INS) if model.handed_on == "tokens" else edit.op
    left = model.network.edit_embedding(op, edit.token, edit.index, slot, state.source)
    return Writing(
        source=state.source,
        caches=state.caches,
        written=state.written.at[slot].set(edit.token),
        latest=left,
        built=None if state.built is None else state.built.at[slot].set(left),
        edits=Edits(
            op=state.edits.op.at[step, position].set(edit.op),
            index=state.edits.index.at[step, position].set(edit.index),
        ),
    )


class EditParticles(AbstractSequential):
    """The locally optimal proposal of edits that write a given trajectory.

    At every position the edits that write the given symbol w are INS(w), CPY(j) wherever the source
    has w, and SUB(w, j) for any j. One is drawn with probability proportional to its own to the
    power 1 / temperature. At temperature 1 the weight is their sum, whichever is drawn: fully
    adapted (Pitt & Shephard 1999, sec. 3.1).
    """

    model: AbstractWriter
    cached: bool = eqx.field(static=True, default=True)  # False decodes every prefix anew
    # how the next string is begun, and one of the options drawn
    begin: Callable[[AbstractWriter, Writing, Int[Array, ""]], Writing] = eqx.field(
        static=True, default=begin_string
    )
    choose: Callable[[PRNGKeyArray, Float[Array, " options"]], Int[Array, ""]] = eqx.field(
        static=True, default=jax.random.categorical
    )

    @property
    def kinds(self) -> Mapping[str, Kind]:
        added = ("proposal", "reweighting")
        return {name: kind for name, kind in self.model.kinds.items() if name not in added}

    def init(self, key: PRNGKeyArray) -> Writing:
        del key
        return empty_writing(self.model, keep_built=self._keeps_built)

    def step(
        self, state: Writing, x_t: PathPoint, clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Writing, StepScores]:
        step, position = jnp.divmod(clock, self.model.num_positions)
        state = jax.lax.cond(
            position == 0, lambda: self.begin(self.model, state, step), lambda: state
        )
        decision, state = decide(self.model, state, position, cached=self.cached)
        options = edits_that_write(x_t.symbol, decision, state.source.tokens)
        given = forced_option(step, position)
        logits = options / self.model.temperature
        drawn = jnp.where(x_t.is_given, given, self.choose(key, logits))
        edit = edit_of_option(drawn, x_t.symbol, state.source)
        following = write(self.model, state, edit, step, position)
        log_q = jax.nn.log_softmax(logits)[drawn]
        return following, _scores(decision, edit, log_q, x_t)

    @property
    def _keeps_built(self) -> bool:
        return self.model.handed_on == "edits" or not self.cached


def _scores(decision: Decision, edit: Edit, log_q: Float[Array, ""], x_t: PathPoint) -> StepScores:
    """What the drawn edit adds to every site: each head to its class of decisions."""
    scored = ~x_t.is_given
    is_end = x_t.symbol == EOS
    is_other = scored & ~is_end & ~x_t.is_first
    writes = (edit.op == INS) | (edit.op == SUB)
    points = (edit.op == CPY) | (edit.op == SUB)
    heads = {
        "op": decision.op[edit.op],
        "token": jnp.where(writes, decision.token[edit.token], 0.0),
        "index": jnp.where(points, decision.index[edit.index], 0.0),
    }
    scores: dict[str, tuple[Any, Any]] = {}
    for name, term in heads.items():
        scores[f"first {name}"] = (jnp.where(x_t.is_first, term, 0.0), None)
        scores[name] = (jnp.where(is_other, term, 0.0), None)
    scores["end"] = (jnp.where(is_end, heads["op"], 0.0), None)
    scores["steps"] = (x_t.log_steps, None)
    scores["choice"] = (jnp.zeros_like(log_q), jnp.where(scored, log_q, 0.0))
    return scores
