"""Which earlier word is the next one's parent: a latent position, or two, summed out."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.families.language.emissions import AbstractEmission, Components, Table
from tightbound.families.language.mixtures import mixed_log_probs
from tightbound.families.language.structure import AbstractStructure

_EXCLUDED = -1e30  # the logit of a position that is not there yet
_MOST_POSITIONS = 64  # of two parents


class Parents(AbstractStructure):
    """The next token has one parent among the contexts so far, and one kind of relation to it:

        p(class at i) = sum_r pi_r sum_{a <= i} P(a | i) emission(class | W_r c_a)

    P(a | i) is the alignment prior: uniform, or learned, a row for every i. Context 0 is that of
    the begin vector, so no position is without a parent. With c_a the a-th word this aligns a
    sentence with its own past (as IBM model 1 or, learned, 2: Brown et al. 1993, sec. 4).
    """

    maps: Float[Array, "kinds features features"]  # W
    kind_logits: Float[Array, " kinds"]  # log pi, not normalised
    prior_logits: Float[Array, "positions positions"] | None  # by i and a; None is uniform
    emission: AbstractEmission
    num_positions: int = eqx.field(static=True)

    def __init__(
        self,
        num_features: int,
        num_positions: int,
        emission: AbstractEmission,
        *,
        num_kinds: int,
        learned_prior: bool,
        key: PRNGKeyArray,
    ):
        """`num_positions` is the length of the longest sequence."""
        if num_kinds < 1:
            raise ValueError(f"{num_kinds} kinds of transition were asked for; give at least 1.")
        shape = (num_kinds, num_features, num_features)
        self.maps = jax.random.normal(key, shape) / num_features**0.5
        self.kind_logits = jnp.zeros(num_kinds)
        self.prior_logits = jnp.zeros((num_positions, num_positions)) if learned_prior else None
        self.emission = emission
        self.num_positions = num_positions

    def log_prior(self, position: Int[Array, ""]) -> Float[Array, " positions"]:
        """log P(a | i), in nats: how likely every position is to be the parent of the one at i."""
        logits = jnp.zeros(self.num_positions)
        if self.prior_logits is not None:
            logits = self.prior_logits[position]
        exists = jnp.arange(self.num_positions) <= position
        return jax.nn.log_softmax(jnp.where(exists, logits, _EXCLUDED))

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        features = jnp.einsum("kfg,tg->ktf", self.maps, contexts)
        log_parent = self.log_prior(position)[: len(contexts)]
        log_weights = jax.nn.log_softmax(self.kind_logits)[:, None] + log_parent[None]
        features = features.reshape(-1, features.shape[-1])
        return mixed_log_probs(self.emission, features, log_weights.ravel(), asked, table)


class TwoParents(AbstractStructure):
    """The next token has two parents among the contexts so far, whose logits add up:

        p(class at i) = sum_{a, b <= i} P(a, b | i) sum_z softmax(A_1 c_a + A_2 c_b)_z P(class | z)

    The prior has a number for every (i, a, b), so T^3 of them, and a sequence T^2 softmaxes over
    the states at once: at T = 64 and 400 states 1 MB and, for every sequence, 7 MB. More positions
    than 64 are refused.
    """

    from_first: Float[Array, "states features"]  # A_1
    from_second: Float[Array, "states features"]  # A_2
    prior_logits: Float[Array, "positions positions positions"]  # by i, a, b
    components: Components

    def __init__(
        self, num_features: int, num_positions: int, components: Components, *, key: PRNGKeyArray
    ):
        """`num_positions` is the length of the longest sequence."""
        if num_positions > _MOST_POSITIONS:
            raise ValueError(
                f"Two parents were asked for in sequences of up to {num_positions} symbols, but "
                f"their prior grows with the cube of the length and ends at {_MOST_POSITIONS}. Cut "
                "the sequences, or use one parent."
            )
        first_key, second_key = jax.random.split(key)
        shape = (len(components.vectors), num_features)
        self.from_first = jax.random.normal(first_key, shape) / num_features**0.5
        self.from_second = jax.random.normal(second_key, shape) / num_features**0.5
        self.prior_logits = jnp.zeros((num_positions,) * 3)
        self.components = components

    def log_prior(self, position: Int[Array, ""]) -> Float[Array, "positions positions"]:
        """log P(a, b | i), in nats, of every pair of positions."""
        logits = self.prior_logits[position]
        exists = jnp.arange(len(logits)) <= position
        logits = jnp.where(exists[:, None] & exists[None], logits, _EXCLUDED)
        return logits - jax.nn.logsumexp(logits)

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        first, second = contexts @ self.from_first.T, contexts @ self.from_second.T
        of_pairs = jax.nn.softmax(first[:, None] + second[None], axis=-1)
        time = len(contexts)
        weights = jnp.exp(self.log_prior(position)[:time, :time])
        # As one vector and one matrix: mapped over positions, one product of matrices.
        of_states = weights.ravel() @ of_pairs.reshape(time * time, -1)
        log_component = self.components.log_probs(asked, table)
        return jax.nn.logsumexp(log_component.T, axis=1, b=of_states[None])
