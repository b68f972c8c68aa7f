"""Edits read off two strings, without a model: what a teacher would say was done."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from tightbound.data.sentences import NUM_MARKS, PAD
from tightbound.families.edits.network import CPY, END, INS, SUB
from tightbound.families.edits.trajectory import Edits, Trajectory

# Costs of an alignment: a copy is free, a substitution is better than an insertion and a loss.
_INSERTED, _LOST, _SUBSTITUTED = 1.0, 1.0, 1.5


def align(trajectory: Trajectory) -> Edits:
    """The edits of a cheapest alignment of every string with the one before: aligned and equal is
    CPY, aligned and different SUB, not aligned INS. Of equally cheap ones, the one that aligns
    later words first; an END closes every string."""
    root = jnp.full(trajectory.strings.shape[1], PAD)
    before = jnp.concatenate([root[None], trajectory.strings[:-1]])
    op, index = jax.vmap(_align_strings)(before, trajectory.strings)
    return Edits(op=op, index=index)


def _align_strings(
    source: Int[Array, " length"], target: Int[Array, " length"]
) -> tuple[Int[Array, " positions"], Int[Array, " positions"]]:
    """Weighted edit distance (Wagner & Fischer 1974), and the way back from its end."""
    length = len(target)
    num_source, num_target = (source != PAD).sum(), (target != PAD).sum()
    skipped = jnp.arange(length + 1) * _LOST

    def row(above, word):
        """Costs of writing one more word, from every prefix of the source."""
        equal = source == word
        diagonal = above[:-1] + jnp.where(equal, 0.0, _SUBSTITUTED)
        candidates = jnp.minimum(diagonal, above[1:] + _INSERTED)

        def along(left, candidate):
            cost = jnp.minimum(candidate, left + _LOST)
            return cost, cost

        first = above[0] + _INSERTED
        _, rest = jax.lax.scan(along, first, candidates)
        costs = jnp.concatenate([first[None], rest])
        return costs, costs

    _, rows = jax.lax.scan(row, skipped, target)
    table = jnp.concatenate([skipped[None], rows])  # [target prefix, source prefix]

    def back(carry, _):
        i, j, op, index = carry
        cost = table[i, j]
        word, old = target[i - 1], source[j - 1]
        equal = (word == old) & (word >= NUM_MARKS)
        diagonal = table[i - 1, j - 1] + jnp.where(equal, 0.0, _SUBSTITUTED)
        aligned = (i > 0) & (j > 0) & (cost == diagonal)
        inserted = (i > 0) & ~aligned & (cost == table[i - 1, j] + _INSERTED)
        writes = aligned | inserted
        kind = jnp.select([inserted, equal], [jnp.array(INS), jnp.array(CPY)], SUB)
        place = jnp.where(writes, i - 1, length)  # the last place is overwritten by the end below
        op = op.at[place].set(jnp.where(writes, kind, op[place]))
        index = index.at[place].set(jnp.where(aligned, j, jnp.where(writes, 0, index[place])))
        i = i - writes
        j = j - (aligned | (~inserted & (j > 0)))
        return (i, j, op, index), None

    zeros = jnp.zeros(length + 1, target.dtype)
    start = (num_target, num_source, zeros, zeros)
    (_, _, op, index), _ = jax.lax.scan(back, start, None, length=2 * length)
    return op.at[num_target].set(END), index.at[num_target].set(0)
