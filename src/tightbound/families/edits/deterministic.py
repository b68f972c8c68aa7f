"""Laws with one trajectory for every sentence: halving, growing prefixes, another alphabet, none at all."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.sentences import NUM_MARKS, PAD, Sentence
from tightbound.families.edits.noising import AbstractNoising, agree, nested_strings
from tightbound.families.edits.trajectory import Trajectory


class AbstractDeterministic(AbstractNoising):
    """A law that gives one trajectory probability 1: nothing is drawn, log q is 0 there and -inf elsewhere."""

    @abstractmethod
    def trajectory(self, x: Sentence) -> Trajectory:
        """The one trajectory of x."""

    @property
    def is_exact(self) -> bool:
        return True

    def proposal(self, x: Sentence) -> "PointMass":
        return PointMass(self.trajectory(x))


class PointMass(eqx.Module):
    """The distribution of a trajectory that is known."""

    trajectory: Trajectory

    def sample(self, key: PRNGKeyArray) -> Trajectory:
        return self.trajectory

    def log_prob(self, value: Trajectory) -> Float[Array, ""]:
        return jnp.where(agree(value, self.trajectory), 0.0, -jnp.inf)


class Halving(AbstractDeterministic):
    """x_{t-1} is the first half of x_t, rounded up: n, ceil(n / 2), ... words.

    The first string has 1 word, or no more than are given; or it is where `max_steps` strings end.
    """

    max_steps: int = eqx.field(static=True)

    def __check_init__(self):
        _check_max_steps(self, at_least=1)

    @property
    def description(self) -> str:
        return "halving"

    def trajectory(self, x: Sentence) -> Trajectory:
        return _prefixes(x, lambda num_words: (num_words + 1) // 2, self.max_steps)


class PrefixGrowth(AbstractDeterministic):
    """x_{t-1} is x_t without its last `chunk` words.

    The first string has at most `chunk` words, or no more than are given; or it is where `max_steps`
    strings end.
    """

    chunk: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def __check_init__(self):
        _check_max_steps(self, at_least=1)
        if self.chunk < 1:
            raise ValueError(
                f"Prefixes that grow by {self.chunk} words never end; give at least 1."
            )

    @property
    def description(self) -> str:
        return f"prefixes growing by {self.chunk}"

    def trajectory(self, x: Sentence) -> Trajectory:
        return _prefixes(
            x, lambda num_words: jnp.maximum(num_words - self.chunk, 0), self.max_steps
        )


class Remap(AbstractDeterministic):
    """T = 2: x_1 is x written in another alphabet, word w as `inverse[w]`."""

    inverse: tuple[int, ...] = eqx.field(
        static=True, converter=lambda inverse: tuple(map(int, inverse))
    )
    max_steps: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        _check_max_steps(self, at_least=2)
        for word, written in enumerate(self.inverse):
            if word >= NUM_MARKS and not NUM_MARKS <= written < len(self.inverse):
                raise ValueError(
                    f"Word {word} would be written as {written}, which is not a word: words are "
                    f"{NUM_MARKS} to {len(self.inverse) - 1}."
                )

    @property
    def description(self) -> str:
        return "remapped words"

    def trajectory(self, x: Sentence) -> Trajectory:
        tokens = jnp.asarray(x.tokens)
        written = jnp.where(tokens == PAD, PAD, jnp.asarray(self.inverse)[tokens])
        return _from_rows([written, tokens], self.max_steps)


class OneShot(AbstractDeterministic):
    """T = 1: nothing is latent, x_1 = x."""

    max_steps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        _check_max_steps(self, at_least=1)

    @property
    def description(self) -> str:
        return "one step"

    def trajectory(self, x: Sentence) -> Trajectory:
        return _from_rows([jnp.asarray(x.tokens)], self.max_steps)


def _prefixes(x: Sentence, shorten, max_steps: int) -> Trajectory:
    """x, then what `shorten(number of words)` leaves of it, until no more than the given words (or one) are left."""
    tokens = jnp.asarray(x.tokens)
    least = jnp.maximum(x.num_given, 1)

    def step(num_words, _):
        return jnp.where(num_words > least, shorten(num_words), 0), num_words

    _, lengths = jax.lax.scan(step, (tokens != PAD).sum(), length=max_steps)
    held = (lengths[:, None] > jnp.arange(len(tokens))[None, :]).sum(0)
    return nested_strings(tokens, held, max_steps)


def _from_rows(rows: list[Int[Array, " length"]], max_steps: int) -> Trajectory:
    filling = [jnp.full_like(rows[0], PAD)] * (max_steps - len(rows))
    return Trajectory(jnp.stack(rows + filling), jnp.asarray(len(rows)))


def _check_max_steps(law: AbstractNoising, at_least: int) -> None:
    if law.max_steps < at_least:
        raise ValueError(
            f"`max_steps` of {type(law).__name__} is {law.max_steps}, but its trajectories need {at_least}."
        )
