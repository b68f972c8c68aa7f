"""Particles that write given strings edit by edit, each with everything it has done so far."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.sentences import BOS, EOS, NUM_MARKS, PAD
from tightbound.families.edits.network import CPY, END, INS, SUB, Decision, Source
from tightbound.families.edits.trajectory import Edits
from tightbound.models.sequential import AbstractSequential, StepScores
from tightbound.nn.transformer import KeyValue
from tightbound.terms import Kind

if TYPE_CHECKING:
    from tightbound.families.edits.model import EditModel, PathPoint


class Writing(eqx.Module):
    """One particle: the string it reads, the string it writes, and the edits it made."""

    source: Source
    caches: list[KeyValue]
    written: Int[Array, " slots"]  # BOS and the words so far; EOS once it is there
    latest: Float[Array, " size"]  # what the last edit left: the decoder's next input
    built: Float[Array, "slots size"] | None  # all of them, where something reads them again
    edits: Edits


class Edit(eqx.Module):
    """One edit; `index` is a slot of the source, 0 where none is read."""

    op: Int[Array, ""]
    token: Int[Array, ""]
    index: Int[Array, ""]


class EditParticles(AbstractSequential):
    """The locally optimal proposal of edits that write a given trajectory.

    At every position the edits that write the given symbol w are INS(w), CPY(j) wherever the source
    has w, and SUB(w, j) for any j. One is drawn with probability proportional to its own to the
    power 1 / temperature. At temperature 1 the weight is their sum, whichever is drawn: fully
    adapted (Pitt & Shephard 1999, sec. 3.1).
    """

    model: "EditModel"
    cached: bool = eqx.field(static=True, default=True)  # False decodes every prefix anew

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        added = ("proposal", "reweighting")
        return {name: kind for name, kind in self.model.kinds.items() if name not in added}

    def init(self, key: PRNGKeyArray) -> Writing:
        del key
        return empty_writing(self.model, keep_built=self._keeps_built)

    def step(
        self, state: Writing, x_t: "PathPoint", clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Writing, StepScores]:
        step, position = jnp.divmod(clock, self.model.num_positions)
        state = jax.lax.cond(position == 0, lambda: self.begin(state, step), lambda: state)
        decision, state = decide(self.model, state, position, cached=self.cached)
        options = edits_that_write(x_t.symbol, decision, state.source.tokens)
        given = forced_option(step, position)
        logits = options / self.model.temperature
        drawn = jnp.where(x_t.is_given, given, self.choose(logits, key))
        edit = edit_of_option(drawn, x_t.symbol, state.source)
        following = write(self.model, state, edit, step, position)
        log_q = jax.nn.log_softmax(logits)[drawn]
        return following, _scores(decision, edit, log_q, x_t)

    def begin(self, state: Writing, step: Int[Array, ""]) -> Writing:
        """Go on to the next string."""
        return begin_string(self.model, state, step)

    def choose(self, logits: Float[Array, " options"], key: PRNGKeyArray) -> Int[Array, ""]:
        """Draw one of the options."""
        return jax.random.categorical(key, logits)

    @property
    def _keeps_built(self) -> bool:
        return self.model.handed_on == "edits" or not self.cached


def _scores(
    decision: Decision, edit: "Edit", log_q: Float[Array, ""], x_t: "PathPoint"
) -> StepScores:
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


def empty_writing(model: "EditModel", *, keep_built: bool) -> Writing:
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


def begin_string(model: "EditModel", state: Writing, step: Int[Array, ""]) -> Writing:
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
    model: "EditModel", state: Writing, position: Int[Array, ""], *, cached: bool = True
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
    model: "EditModel", state: Writing, edit: Edit, step: Int[Array, ""], position: Int[Array, ""]
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


def edits_that_write(
    symbol: Int[Array, ""], decision: Decision, source: Int[Array, " slots"]
) -> Float[Array, " options"]:
    """log p of every edit, in nats; about -1e30 for those that write another symbol. In the order
    END, INS, CPY of every slot, SUB of every slot."""
    is_end = symbol == EOS
    inserted = decision.op[INS] + decision.token[symbol]
    copied = decision.op[CPY] + decision.index
    substituted = decision.op[SUB] + decision.token[symbol] + decision.index
    is_word = source >= NUM_MARKS
    holds = is_word & (source == symbol)
    no = -1e30
    return jnp.concatenate(
        [
            jnp.where(is_end, decision.op[END], no)[None],
            jnp.where(is_end, no, inserted)[None],
            jnp.where(holds, copied, no),
            jnp.where(is_word & ~is_end, substituted, no),
        ]
    )


def heads_of_options(
    symbol: Int[Array, ""], decision: Decision
) -> dict[str, Float[Array, " options"]]:
    """What each head adds to log p of every edit, in nats, in the order of `edits_that_write`; 0
    where a head has no say."""
    slots = len(decision.index)
    ops = jnp.array([END, INS] + [CPY] * slots + [SUB] * slots)
    words = jnp.array([False, True] + [False] * slots + [True] * slots)
    nowhere = jnp.zeros(2, decision.index.dtype)
    # an impossible head (a copy from nothing) has no weight, but must not be -inf times zero
    index = jnp.where(decision.index < _HARDLY, 0.0, decision.index)
    op = jnp.where(decision.op < _HARDLY, 0.0, decision.op)
    return {
        "op": op[ops],
        "token": jnp.where(words, jnp.where(symbol == EOS, 0.0, decision.token[symbol]), 0.0),
        "index": jnp.concatenate([nowhere, index, index]),
    }


_HARDLY = -1e29  # what is illegal has about -1e30


def forced_option(step: Int[Array, ""], position: Int[Array, ""]) -> Int[Array, ""]:
    """The option a given word takes: inserted in the first string, copied from its place later."""
    return jnp.where(step == 0, 1, 2 + position + 1)


def edit_of_option(option: Int[Array, ""], symbol: Int[Array, ""], source: Source) -> Edit:
    """The edit that stands at `option` in `edits_that_write`."""
    num_slots = len(source.tokens)
    op = jnp.select(
        [option == 0, option == 1, option < 2 + num_slots],
        [jnp.array(END), jnp.array(INS), jnp.array(CPY)],
        SUB,
    )
    index = jnp.where(option < 2, 0, (option - 2) % num_slots)
    return Edit(op=op, token=symbol, index=index)
