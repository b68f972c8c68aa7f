"""Laws from which classes are drawn, in constant time for each, with their exact log Q."""

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tightbound.errors import UserError

ProposalKind = Literal["uniform", "unigram", "unigram-0.75", "batch"]

POWERS: dict[ProposalKind, float] = {
    "uniform": 0.0,
    "unigram": 1.0,
    "unigram-0.75": 0.75,
    "batch": 1.0,
}
"""Of 1 + count, to which a proposal is proportional."""


class DrawnClasses(eqx.Module):
    """Classes drawn independently, with replacement, and the law that they were drawn from."""

    classes: Int[Array, " samples"]
    log_q: Float[Array, " classes"]  # of every class, in nats

    @property
    def own_log_q(self) -> Float[Array, " samples"]:
        """log Q of the drawn classes, in nats."""
        return self.log_q[self.classes]


@dataclass(frozen=True, eq=False)
class ClassProposal:
    """Q over classes, and Walker's table of it: a cell uniformly, then the cell's own class or its alias.

    Vose 1991 (IEEE Trans. Software Eng. 17). In 32 bits the table keeps every Q(w) to its last digits; a
    running sum over 40,000 classes, looked up by bisection, does not. Nothing of it is trained.
    """

    probabilities: Float[np.ndarray, " classes"]
    keep: Float[np.ndarray, " classes"]  # probability with which a cell gives its own class
    alias: Int[np.ndarray, " classes"]

    def draw(self, key: PRNGKeyArray, num_samples: int) -> DrawnClasses:
        """Independent classes, with replacement."""
        cell_key, keep_key = jax.random.split(key)
        cells = jax.random.randint(cell_key, (num_samples,), 0, len(self.keep))
        own = jax.random.uniform(keep_key, (num_samples,)) < jnp.asarray(self.keep)[cells]
        classes = jnp.where(own, cells, jnp.asarray(self.alias)[cells])
        return DrawnClasses(classes, jnp.log(jnp.asarray(self.probabilities)))

    def draw_tilted(
        self,
        key: PRNGKeyArray,
        num_samples: int,
        targets: Int[Array, " positions"],
        is_real: Bool[Array, " positions"],
        share: float,
    ) -> DrawnClasses:
        """From Q tilted to the targets of a batch, with exact weights:

        Q'(w) = (1 - share) Q(w) + share n(w) / n,   n(w) how often w is a real target
        """
        own_key, place_key, which_key = jax.random.split(key, 3)
        from_q = self.draw(own_key, num_samples)
        among = jnp.where(is_real, 1.0, 0.0)
        places = jax.random.choice(place_key, len(targets), (num_samples,), p=among / among.sum())
        tilted = jax.random.uniform(which_key, (num_samples,)) < share
        counts = jnp.zeros(len(self.keep), among.dtype).at[targets].add(among)
        mixture = (1 - share) * jnp.exp(from_q.log_q) + share * counts / among.sum()
        return DrawnClasses(jnp.where(tilted, targets[places], from_q.classes), jnp.log(mixture))

    def draw_from_batch(
        self,
        key: PRNGKeyArray,
        num_samples: int,
        targets: Int[Array, " positions"],
        is_real: Bool[Array, " positions"],
    ) -> DrawnClasses:
        """Targets of the batch as samples. Over all batches they follow the training text, so the weights
        are log Q of the unigram; in one batch most classes cannot be drawn at all, and the target of a
        row is drawn more often than Q says: the normaliser is unbiased over batches of other rows only."""
        among = jnp.where(is_real, 1.0, 0.0)
        places = jax.random.choice(key, len(targets), (num_samples,), p=among / among.sum())
        return DrawnClasses(targets[places], jnp.log(jnp.asarray(self.probabilities)))


def class_proposal(
    kind: ProposalKind, counts: Int[np.ndarray, " classes"] | Float[np.ndarray, " classes"]
) -> ClassProposal:
    """Q(w) in proportion to (1 + count)^power: 0 for "uniform", 0.75 (Mikolov et al. 2013), or 1. One is
    added to each count, so that a class that never came can be drawn."""
    if len(counts) == 0:
        raise UserError(
            "Classes were to be drawn from an empty vocabulary; give at least one word."
        )
    weights = (1.0 + np.asarray(counts, float)) ** POWERS[kind]
    return proposal_of(weights / weights.sum())


def proposal_of(probabilities: Float[np.ndarray, " classes"]) -> ClassProposal:
    """The proposal with these probabilities. UserError where one is 0 or they do not sum to 1."""
    probabilities = np.asarray(probabilities, float)
    if len(probabilities) == 0:
        raise UserError(
            "Classes were to be drawn from an empty vocabulary; give at least one word."
        )
    impossible = np.flatnonzero(~(probabilities > 0))
    if len(impossible):
        raise UserError(
            f"The proposal gives class {impossible[0]} the probability {probabilities[impossible[0]]:g} "
            f"({len(impossible)} of {len(probabilities)} classes have none): it would never be drawn, and "
            "its weight 1 / Q, and with it the estimator's variance, is infinite. Give every class "
            "some probability, for example by adding 1 to each count."
        )
    if abs(probabilities.sum() - 1) > 1e-6:
        raise UserError(
            f"The probabilities of a proposal sum to {probabilities.sum():.6g}, but -log Q is only right "
            "if they sum to 1. Divide by their sum."
        )
    keep, alias = _walker_table(probabilities)
    return ClassProposal(probabilities, keep, alias)


def _walker_table(
    probabilities: Float[np.ndarray, " classes"],
) -> tuple[Float[np.ndarray, " classes"], Int[np.ndarray, " classes"]]:
    """For every cell the probability of its own class, and which class has the rest."""
    keep = probabilities * len(probabilities)
    alias = np.arange(len(probabilities))
    small = list(np.flatnonzero(keep < 1))
    large = list(np.flatnonzero(keep >= 1))
    while small and large:
        low, high = small.pop(), large[-1]
        alias[low] = high
        keep[high] -= 1 - keep[low]
        if keep[high] < 1:
            small.append(large.pop())
    keep[[*small, *large]] = 1.0  # what rounding has left over
    return keep, alias
