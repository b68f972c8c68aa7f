"""The edits that write a given symbol, as options of a law: their order, their log p, what each is."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tightbound.data.sentences import EOS, NUM_MARKS
from tightbound.families.edits.network import CPY, END, INS, SUB, Decision, Source


class Edit(eqx.Module):
    """One edit; `index` is a slot of the source, 0 where none is read."""

    op: Int[Array, ""]
    token: Int[Array, ""]
    index: Int[Array, ""]


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
