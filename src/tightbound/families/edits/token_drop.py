"""Token drop: every round loses every word with the same probability, until none is left."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tightbound.data.sentences import PAD, Sentence
from tightbound.families.edits.noising import (
    AbstractNoising,
    merged,
    nested_strings,
    waiting_rounds,
)
from tightbound.families.edits.trajectory import Trajectory


class TokenDrop(AbstractNoising):
    """From x backwards each word is dropped with `probability`, independently, round by round.

        q(z | x) = q(empty | x_1) prod_{t<T} q(x_t | x_{t+1})
        q(y | x) = #{embeddings of y in x} p^(|x| - |y|) (1 - p)^|y|

    A round that drops nothing repeats the string and is a step like any other. After
    `max_steps` strings the empty one follows with probability 1, so T <= max_steps and q sums to
    one. With `collapse` every round is conditioned on dropping something, which divides q(y | x)
    by 1 - (1 - p)^|x|: the law of the chain above with equal neighbours merged.

    The law is of *strings*: n equal words become k of them in C(n, k) ways. The probability of the
    one way that was drawn is smaller, and a "bound" made with it can exceed log p(x).
    """

    probability: float = eqx.field(static=True)  # p
    max_steps: int = eqx.field(static=True)
    collapse: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if not 0 < self.probability < 1:
            raise ValueError(
                f"Token drop with probability {self.probability} is no chain that ends: give one "
                "between 0 and 1, or use `OneShot` to drop everything at once."
            )
        if self.max_steps < 1:
            raise ValueError(
                f"`max_steps` is {self.max_steps}, but the sentence itself is a string: give at least 1."
            )

    @property
    def description(self) -> str:
        return f"token drop {self.probability:g}" + (", collapsed" if self.collapse else "")

    @property
    def is_exact(self) -> bool:
        return True

    def proposal(self, x: Sentence) -> "TokenDropDistribution":
        return TokenDropDistribution(self, jnp.asarray(x.tokens))


class TokenDropDistribution(eqx.Module):
    """The law of the trajectories of one sentence under `TokenDrop`."""

    law: TokenDrop
    tokens: Int[Array, " length"]

    def sample(self, key: PRNGKeyArray) -> Trajectory:
        """One trajectory. A word's number of rounds is geometric, whatever becomes of the others."""
        held = waiting_rounds(key, self.law.probability, len(self.tokens))
        if self.law.collapse:
            held = merged(self.tokens, held)
        held = jnp.minimum(held, self.law.max_steps)
        return nested_strings(self.tokens, held, self.law.max_steps)

    def log_prob(self, value: Trajectory) -> Float[Array, ""]:
        """log q(z | x) in nats, summed over all ways to the same strings."""
        strings, lengths = value.strings, value.lengths
        last_round = jnp.where(
            value.num_steps < self.law.max_steps, self._log_round(lengths[0], 0), 0
        )
        rounds = self._log_round(lengths[1:], lengths[:-1])
        ways = jax.vmap(log_embeddings)(strings[:-1], strings[1:])
        total = last_round + jnp.where(value.is_step[1:], rounds + ways, 0.0).sum()
        return jnp.where(_leads_to(value, self.tokens), total, -jnp.inf)

    def _log_round(
        self, before: Int[Array, "*rounds"], after: Int[Array, "*rounds"] | int
    ) -> Float[Array, "*rounds"]:
        """log of the probability that of `before` words certain `after` are left."""
        log_drop, log_keep = np.log(self.law.probability), np.log1p(-self.law.probability)
        log_prob = (before - after) * log_drop + after * log_keep
        if not self.law.collapse:
            return log_prob
        log_change = jnp.log(-jnp.expm1(before * log_keep))
        return jnp.where(after < before, log_prob - log_change, -jnp.inf)


def log_embeddings(
    shorter: Int[Array, " length"], longer: Int[Array, " length"]
) -> Float[Array, ""]:
    """log of the number of ways to keep words of `longer` so that `shorter` is left; -inf if none.

        c_i(j) = c_{i-1}(j) + [longer_i = shorter_j] c_{i-1}(j - 1)

    counts the embeddings of the first j words in the first i. In logs, as C(n, n / 2) of a long
    string of equal words exceeds a float. Padding matches padding only, beyond the end of both.
    """
    nothing_read = jnp.where(jnp.arange(len(shorter) + 1) == 0, 0.0, -jnp.inf)

    def read(log_count, word):
        matched = jnp.where(shorter == word, log_count[:-1], -jnp.inf)
        return log_count.at[1:].set(jnp.logaddexp(log_count[1:], matched)), None

    log_count, _ = jax.lax.scan(read, nothing_read, longer)
    return log_count[(shorter != PAD).sum()]


def _leads_to(trajectory: Trajectory, tokens: Int[Array, " length"]) -> Bool[Array, ""]:
    """Whether these are strings, none empty, the last of them `tokens`, and nothing after it."""
    strings, num_steps = trajectory.strings, trajectory.num_steps
    is_word = strings != PAD
    return (
        (num_steps >= 1)
        & (num_steps <= len(strings))
        & (strings[num_steps - 1] == tokens).all()
        & (is_word[:, 1:] <= is_word[:, :-1]).all()  # no gap between words
        & (is_word[:, 0] == trajectory.is_step).all()
    )
