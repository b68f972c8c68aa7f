"""What all laws q(z | x) over trajectories of strings share: their interface, and strings as nested sets of words."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from tightbound.data.sentences import PAD
from tightbound.families.edits.trajectory import Trajectory
from tightbound.models.base import AbstractProposal


class AbstractNoising(AbstractProposal):
    """q(x_1, ..., x_{T-1} | x): how a sentence x = x_T is taken apart, backwards, down to nothing.

    `proposal(x)` draws and scores a `Trajectory` of at most `max_steps` strings, jointly: log q is
    one number in nats, -inf for what cannot be (an empty string, a last string that is not x).
    Neither the draw nor its log q depends on how far x is padded.
    """

    max_steps: eqx.AbstractVar[int]

    @property
    @abstractmethod
    def description(self) -> str:
        """The law as reports name it: "token drop 0.5"."""

    @property
    @abstractmethod
    def is_exact(self) -> bool:
        """Whether `log_prob` is the law of the strings. Where it is not, nothing made with it is a bound."""


def nested_strings(
    tokens: Int[Array, " length"], held: Int[Array, " length"], max_steps: int
) -> Trajectory:
    """The trajectory whose last `held[i]` strings hold word i, in the order of the sentence.

    T = max_i held[i], and x_t is made of the words with held >= T - t + 1. `held` is at least 1 at
    words and at most `max_steps`; at padding it counts for nothing.
    """
    held = jnp.where(tokens == PAD, 0, held)
    num_steps = held.max()
    fewest = num_steps - jnp.arange(max_steps)  # of `held`, for a word to be in the row's string

    def compact(fewest):
        holds = (held >= fewest) & (held > 0) & (fewest > 0)
        place = jnp.where(holds, jnp.cumsum(holds) - 1, len(tokens))
        return jnp.full_like(tokens, PAD).at[place].set(tokens, mode="drop")

    return Trajectory(jax.vmap(compact)(fewest), num_steps)


def waiting_rounds(key: PRNGKeyArray, probability: float, length: int) -> Int[Array, " length"]:
    """For every position the round, 1, 2, ..., of its first success: Geometric(probability).

    A position's draw has a key of its own, so that more padding changes no other.
    """
    keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(jnp.arange(length))
    return jax.vmap(lambda key: jax.random.geometric(key, probability))(keys)


def merged(tokens: Int[Array, " length"], held: Int[Array, " length"]) -> Int[Array, " length"]:
    """`held` once strings equal to their neighbour are one: the rank of each value among those that occur."""
    held = jnp.where(tokens == PAD, 0, held)
    ordered = jnp.sort(held)
    is_new = ordered > jnp.concatenate([jnp.zeros_like(held, shape=1), ordered[:-1]])
    return (is_new[None, :] & (ordered[None, :] <= held[:, None])).sum(1)


def agree(one: Trajectory, other: Trajectory) -> Array:
    """Whether two trajectories of one shape are the same strings."""
    return (one.strings == other.strings).all() & (one.num_steps == other.num_steps)
