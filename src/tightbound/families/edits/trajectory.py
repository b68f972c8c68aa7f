"""A trajectory of strings, and the edits that write it: what is latent, up to the sentence itself."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from tightbound.data.sentences import PAD


class Trajectory(eqx.Module):
    """x_1, ..., x_T of one sentence, x_T being the sentence and x_0 the empty string, not stored.

    `strings[t - 1]` is x_t, padded with PAD; rows from `num_steps` on hold PAD alone.
    """

    strings: Int[Array, "steps length"]
    num_steps: Int[Array, ""]

    @property
    def lengths(self) -> Int[Array, " steps"]:
        """Number of words of every string; 0 after the last."""
        return (self.strings != PAD).sum(-1)

    @property
    def is_step(self) -> Bool[Array, " steps"]:
        """Which rows are strings of the trajectory."""
        return jnp.arange(len(self.strings)) < self.num_steps

    @property
    def last(self) -> Int[Array, " length"]:
        """The sentence."""
        return self.strings[self.num_steps - 1]


class Edits(eqx.Module):
    """The edits that write a trajectory, one for each word and one for each end.

    `op` is INS, CPY, SUB or END of `network`; `index` the slot of the string before that is copied
    or substituted (1 is its first word), 0 where none is. The words are the trajectory's.
    """

    op: Int[Array, "steps positions"]
    index: Int[Array, "steps positions"]
