"""The most probable trajectories and edits, found by a beam over whole trajectories."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tightbound.data.sentences import EOS, PAD
from tightbound.families.edits.generation import what_is_given
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.network import CPY, END, INS, SUB, Decision, Source
from tightbound.families.edits.particles import (
    Edit,
    Writing,
    begin_string,
    decide,
    edit_of_option,
    empty_writing,
    forced_option,
    write,
)
from tightbound.families.edits.trajectory import Edits, Trajectory


class _Beam(eqx.Module):
    """Beginnings of trajectories, the most probable first; every leaf has an axis of them."""

    writing: Writing
    strings: Int[Array, "beams steps length"]
    log_p: Float[Array, " beams"]  # -inf: a place not taken
    ended: Bool[Array, " beams"]  # the string
    stopped: Bool[Array, " beams"]  # the trajectory
    num_steps: Int[Array, " beams"]


class _Candidates(eqx.Module):
    """The edits one beginning may go on with, and their log p in nats."""

    log_p: Float[Array, " options"]
    op: Int[Array, " options"]
    token: Int[Array, " options"]
    index: Int[Array, " options"]

    def edit(self, option: Int[Array, ""]) -> Edit:
        return Edit(op=self.op[option], token=self.token[option], index=self.index[option])

    def or_only(self, edit: Edit, alone: Bool[Array, ""]) -> "_Candidates":
        """Where `alone`, only this edit, and for nothing: it is given, or not made."""
        nothing_else = jnp.where(jnp.arange(len(self.op)) == 0, 0.0, -jnp.inf)

        def first(options, only):
            return options.at[0].set(jnp.where(alone, only, options[0]))

        return _Candidates(
            log_p=jnp.where(alone, nothing_else, self.log_p),
            op=first(self.op, edit.op),
            token=first(self.token, edit.token),
            index=first(self.index, edit.index),
        )


def beam_search(
    model: EditModel,
    *,
    beam_size: int,
    prefix: Int[Array, " length"] | None = None,
    start: Trajectory | None = None,
) -> tuple[Trajectory, Edits, Float[Array, " beams"]]:
    """The `beam_size` most probable (trajectory, edits) a beam finds, best first, and their
    log p(x, z, e) in nats, as `model.score` gives it; -inf where there are fewer.

    After every decision the `beam_size` best beginnings are kept, whichever beginnings they go on
    from; a string that has ended waits for the others, and a trajectory that has stopped stays as
    it is. With one beam it is greedy. One trajectory may come back with several edits.

    `prefix` (padded with PAD) is what every string begins with, those of `start` too; it is given,
    not scored. `start` holds the first strings, whose edits are searched among those that write
    them; at least one more string follows, unless they fill the steps.
    """
    if beam_size < 1:
        raise ValueError(f"`beam_size` is {beam_size}, but a search keeps at least one. Give 1.")
    length, positions = model.max_length, model.num_positions
    prefix, num_given, forced, num_start = what_is_given(model, prefix, start)

    def one_decision(beam, clock):
        step, position = jnp.divmod(clock, positions)
        beam = jax.lax.cond(
            position == 0,
            lambda: _next_strings(model, beam, step, num_start),
            lambda: beam,
        )
        idle = beam.ended | beam.stopped
        is_given = position < num_given
        given = prefix[jnp.minimum(position, length - 1)]
        symbol = jnp.where(step < num_start, forced[step, position], PAD)

        def go_on(writing, idle):
            decision, following = decide(model, writing, position)
            source = writing.source
            free = _candidates(decision, source, symbol, beam_size)
            given_edit = edit_of_option(forced_option(step, position), given, source)
            return following, free.or_only(given_edit, idle | is_given)

        following, candidates = jax.vmap(go_on)(beam.writing, idle)
        log_p, parent, option = _best(beam.log_p[:, None] + candidates.log_p)
        beam, following, candidates = _of_parents((beam, following, candidates), parent)
        edit = jax.vmap(_Candidates.edit)(candidates, option)
        idle = beam.ended | beam.stopped

        def go(idle, old, following, edit):
            return _select(idle, old, write(model, following, edit, step, position))

        word = jnp.where(idle | (edit.token == EOS), PAD, edit.token)
        beam = _Beam(
            writing=jax.vmap(go)(idle, beam.writing, following, edit),
            strings=beam.strings.at[:, step, position].set(word, mode="drop"),  # an end: no word
            log_p=log_p,
            ended=idle | (edit.token == EOS),
            stopped=beam.stopped,
            num_steps=beam.num_steps,
        )
        return beam, None

    clocks = jnp.arange(model.max_steps * positions)
    beam, _ = jax.lax.scan(one_decision, _empty_beam(model, beam_size), clocks)
    trajectories = jax.vmap(Trajectory)(beam.strings, beam.num_steps)
    return trajectories, beam.writing.edits, beam.log_p


def _empty_beam(model: EditModel, beam_size: int) -> _Beam:
    """One beginning with nothing written, and places for the others."""

    def copies(leaf):
        return jnp.broadcast_to(leaf, (beam_size, *leaf.shape))

    writing = empty_writing(model, keep_built=model.handed_on == "edits")
    dtype = model.network.embedding.dtype
    return _Beam(
        writing=jax.tree.map(copies, writing),
        strings=jnp.full((beam_size, model.max_steps, model.max_length), PAD),
        log_p=jnp.where(jnp.arange(beam_size) == 0, 0.0, -jnp.inf).astype(dtype),
        ended=jnp.zeros(beam_size, bool),
        stopped=jnp.zeros(beam_size, bool),
        num_steps=jnp.zeros(beam_size, int),
    )


def _next_strings(
    model: EditModel, beam: _Beam, step: Int[Array, ""], num_start: Int[Array, ""]
) -> _Beam:
    """The best of all ways to stop here or to begin another string; there is always a first one."""
    before = jnp.maximum(step - 1, 0)
    going = jnp.where(step == 0, 0.0, model.log_continue()[before])
    stopping = jnp.where(step > jnp.maximum(num_start, 0), model.log_stop()[before], -jnp.inf)
    stays = beam.stopped[:, None]
    log_p = jnp.where(stays, jnp.array([[-jnp.inf, 0.0]]), jnp.stack([going, stopping])[None])
    log_p, parent, option = _best(beam.log_p[:, None] + log_p)
    beam = _of_parents(beam, parent)
    stopped = option == 1
    begun = jax.vmap(lambda writing: begin_string(model, writing, step))(beam.writing)
    return _Beam(
        writing=begun,
        strings=beam.strings,
        log_p=log_p,
        ended=jnp.zeros_like(beam.ended),
        stopped=stopped,
        num_steps=beam.num_steps + ~stopped,
    )


def _candidates(
    decision: Decision, source: Source, symbol: Int[Array, ""], beam_size: int
) -> _Candidates:
    """END, INS, CPY and SUB with the `beam_size` best words and slots each: no other edit can be
    among the `beam_size` best. `symbol` is what has to be written; PAD leaves it open."""
    is_open = symbol == PAD
    writes_word = is_open | (jnp.arange(len(decision.token)) == symbol)
    writes_copy = is_open | (source.tokens == symbol)
    token, word = _largest(jnp.where(writes_word, decision.token, -jnp.inf), beam_size)
    copied, copy = _largest(jnp.where(writes_copy, decision.index, -jnp.inf), beam_size)
    index, slot = _largest(decision.index, beam_size)
    pairs = (len(token), len(index))
    end = jnp.where(is_open | (symbol == EOS), decision.op[END], -jnp.inf)
    parts = [
        (end[None], END, jnp.array([EOS]), jnp.array([0])),
        (decision.op[INS] + token, INS, word, jnp.zeros_like(word)),
        (decision.op[CPY] + copied, CPY, source.tokens[copy], copy),
        (
            (decision.op[SUB] + token[:, None] + index[None]).ravel(),
            SUB,
            jnp.broadcast_to(word[:, None], pairs).ravel(),
            jnp.broadcast_to(slot[None], pairs).ravel(),
        ),
    ]
    log_p = jnp.concatenate([part[0] for part in parts])
    return _Candidates(
        # the heads give about -1e30 to what cannot be
        log_p=jnp.where(log_p < -1e29, -jnp.inf, log_p),
        op=jnp.concatenate([jnp.full(len(part[0]), part[1]) for part in parts]),
        token=jnp.concatenate([part[2] for part in parts]),
        index=jnp.concatenate([part[3] for part in parts]),
    )


def _largest(values: Float[Array, " choices"], number: int) -> tuple[Array, Array]:
    largest, places = jax.lax.top_k(values, min(number, len(values)))
    return largest, places


def _best(log_p: Float[Array, "beams options"]) -> tuple[Array, Array, Array]:
    """The best ways to go on, as many as there are beams: log p, of which beam, which option."""
    best, place = jax.lax.top_k(log_p.ravel(), len(log_p))
    parent, option = jnp.divmod(place, log_p.shape[1])
    return best, parent, option


def _of_parents(tree, parent: Int[Array, " beams"]):
    return jax.tree.map(lambda leaf: leaf[parent], tree)


def _select(condition: Bool[Array, ""], one, other):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
