"""Writing new text: from nothing, from given leading words, or going on from strings already there."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from tightbound.data.sentences import EOS, PAD
from tightbound.families.edits.model import EditModel, framed
from tightbound.families.edits.network import CPY, END, SUB, Decision, Source
from tightbound.families.edits.particles import (
    Edit,
    begin_string,
    decide,
    edit_of_option,
    edits_that_write,
    empty_writing,
    forced_option,
    write,
)
from tightbound.families.edits.trajectory import Edits, Trajectory


def generate(
    model: EditModel,
    key: PRNGKeyArray,
    *,
    temperature: float = 1.0,
    prefix: Int[Array, " length"] | None = None,
    start: Trajectory | None = None,
) -> tuple[Trajectory, Edits]:
    """One trajectory with its edits.

    At temperature 1 and with nothing given it is a draw from the model; other temperatures raise
    every head's probabilities to the power 1 / temperature. `prefix` (padded with PAD) is what
    every string begins with, those of `start` too. `start` holds the first strings, whose edits are
    drawn from those that write them; at least one more string follows, unless they fill the steps.
    """
    if temperature <= 0:
        raise ValueError(f"The temperature is {temperature}; give a positive one.")
    length, positions = model.max_length, model.num_positions
    prefix, num_given, forced, num_start = what_is_given(model, prefix, start)
    stop_probability = jnp.exp(model.log_stop())

    def one_decision(carry, clock):
        state, ended, stopped = carry
        step, position = jnp.divmod(clock, positions)
        stop_key, edit_key = jax.random.split(jax.random.fold_in(key, clock))
        state, ended, stopped = jax.lax.cond(
            position == 0,
            lambda: (
                begin_string(model, state, step),
                jnp.zeros((), bool),
                stopped | _stops(stop_key, stop_probability, step, num_start),
            ),
            lambda: (state, ended, stopped),
        )
        decision, writing = decide(model, state, position)
        free = _draw(edit_key, decision, state.source, temperature)
        is_forced = step < num_start
        is_given = position < num_given
        given = edit_of_option(
            forced_option(step, position), prefix[jnp.minimum(position, length - 1)], state.source
        )
        symbol = forced[step, position]
        option = jax.random.categorical(
            edit_key, edits_that_write(symbol, decision, state.source.tokens)
        )
        rewritten = edit_of_option(option, symbol, state.source)
        edit = _select(is_given, given, _select(is_forced, rewritten, free))
        idle = ended | stopped
        state = _select(idle, state, write(model, writing, edit, step, position))
        written = jnp.where(idle | (edit.token == EOS), PAD, edit.token)
        return (state, ended | (edit.token == EOS), stopped), (written, stopped)

    carry = (
        empty_writing(model, keep_built=model.handed_on == "edits"),
        jnp.zeros((), bool),
        jnp.zeros((), bool),
    )
    clocks = jnp.arange(model.max_steps * positions)
    (state, _, _), (written, stopped) = jax.lax.scan(one_decision, carry, clocks)
    strings = written.reshape(model.max_steps, positions)[:, :length]
    num_steps = (~stopped.reshape(model.max_steps, positions)[:, 0]).sum()
    return Trajectory(strings, num_steps), state.edits


def what_is_given(
    model: EditModel, prefix: Int[Array, " length"] | None, start: Trajectory | None
) -> tuple[Int[Array, " length"], Int[Array, ""], Int[Array, "steps positions"], Int[Array, ""]]:
    """The given words and their number; the symbols of the given strings, EOS after each, and the
    number of those strings. None gives nothing."""
    prefix = jnp.full(model.max_length, PAD) if prefix is None else prefix
    if start is None:
        nothing = jnp.full((model.max_steps, model.max_length), PAD)
        start = Trajectory(nothing, jnp.zeros((), nothing.dtype))
    symbols = jax.vmap(lambda string: framed(string)[1:])(start.strings)
    return prefix, (prefix != PAD).sum(), symbols, start.num_steps


def _stops(
    key: PRNGKeyArray, probability: Array, step: Int[Array, ""], num_given: Int[Array, ""]
) -> Bool[Array, ""]:
    """Whether the trajectory ended with the string before this step; never before the first free one."""
    before = jnp.maximum(step - 1, 0)
    return (step > num_given) & (step > 0) & jax.random.bernoulli(key, probability[before])


def _draw(key: PRNGKeyArray, decision: Decision, source: Source, temperature: float) -> Edit:
    """An edit from the three heads; a copy writes what the source has, an end EOS."""
    op_key, token_key, index_key = jax.random.split(key, 3)
    op = jax.random.categorical(op_key, decision.op / temperature)
    token = jax.random.categorical(token_key, decision.token / temperature)
    index = jax.random.categorical(index_key, decision.index / temperature)
    token = jnp.select([op == CPY, op == END], [source.tokens[index], jnp.array(EOS)], token)
    index = jnp.where((op == CPY) | (op == SUB), index, 0)
    return Edit(op=op, token=token, index=index)


def _select(condition: Bool[Array, ""], one, other):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
