"""A language model: embedding, normalisation, context, structure, emission, token by token."""

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.sentences import BOS, EOS, PAD
from tightbound.data.sequences import Sequence
from tightbound.families.family import Family
from tightbound.families.language import FAMILY
from tightbound.families.language.contexts import AbstractContext
from tightbound.families.language.inputs import (
    Normalisation,
    normalise,
    over_feature_deviation,
    shifted,
)
from tightbound.families.language.structure import AbstractBounded, AbstractStructure, Direct
from tightbound.models.base import AbstractRegularised
from tightbound.nn.dropout import Dropout, dropped
from tightbound.terms import Kind


class LanguageModel(AbstractRegularised):
    """p(x) = sum_w pi_w prod_t p(x_t | x_<t, start w), with one start unless some are learned.

    x is a `Sequence` of symbols. The classes are the symbols from EOS on: padding and a begin
    symbol are never predicted, and a begin symbol that stands in x is given and scores 0. All choices of
    the structure and of the start are summed out, so the one site is observed.
    """

    family: ClassVar[Family] = FAMILY
    kinds: ClassVar[Mapping[str, Kind]] = {"token": Kind.OBSERVED}

    embedding: Float[Array, "symbols size"]
    context: AbstractContext
    structure: AbstractStructure
    start_logits: Float[Array, " starts"]  # log pi, not normalised
    num_positions: int = eqx.field(static=True)
    normalisation: Normalisation = eqx.field(static=True)
    normalise_contexts: bool = eqx.field(static=True)
    dropout: Dropout = eqx.field(static=True)

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
        context: AbstractContext,
        structure: AbstractStructure,
        *,
        num_positions: int,
        num_starts: int = 1,
        normalisation: Normalisation = "feature",
        normalise_contexts: bool = False,
        dropout: Dropout | None = None,
        key: PRNGKeyArray,
    ):
        """`num_positions` is the length of the longest sequence."""
        self.embedding = jax.random.normal(key, (vocabulary_size, size)) / size**0.5
        self.context = context
        self.structure = structure
        self.start_logits = jnp.zeros(num_starts)
        self.num_positions = num_positions
        self.normalisation = normalisation
        self.normalise_contexts = normalise_contexts
        self.dropout = Dropout() if dropout is None else dropout

    @property
    def num_classes(self) -> int:
        """How many symbols can come next."""
        return len(self.embedding) - EOS

    def classes(self, tokens: Int[Array, " time"]) -> Int[Array, " time"]:
        """The class of every symbol; some class where the symbol is never predicted."""
        return jnp.clip(tokens - EOS, 0, self.num_classes - 1)

    def contexts(
        self, tokens: Int[Array, " time"], key: PRNGKeyArray | None = None
    ) -> Float[Array, "starts time size"]:
        """What is known before every token."""
        if len(tokens) > self.num_positions:
            raise ValueError(
                f"A sequence of {len(tokens)} symbols came, but the model was made for at most "
                f"{self.num_positions}. Cut it, or build the model for more positions."
            )
        keys = [None] * 3 if key is None else list(jax.random.split(key, 3))
        rates = self.dropout
        inputs = normalise(shifted(tokens, self.embedding), self.normalisation)
        inputs = dropped(inputs, rates.input, rates.shared, keys[0])
        contexts = self.context(inputs, state_dropout=rates.state, key=keys[1])
        if self.normalise_contexts:
            contexts = over_feature_deviation(contexts)
        return jax.vmap(lambda c: dropped(c, rates.output, rates.shared, keys[2]))(contexts)

    def log_probs(
        self, contexts: Float[Array, "starts time size"], classes: Int[Array, " time"]
    ) -> Float[Array, "starts time"]:
        """log p(class | x_<t, start) of one class at every position, in nats."""
        table = self.embedding[EOS:]

        def of_start(contexts):
            if isinstance(self.structure, Direct):  # no position needs another
                return self.structure.emission.along(contexts, classes, table)

            def at(position, asked):
                return self.structure.log_probs(contexts, position, asked[None], table)[0]

            return jax.vmap(at)(jnp.arange(len(classes)), classes)

        return _over_starts(of_start)(contexts)

    def all_log_probs(
        self, contexts: Float[Array, "starts time size"]
    ) -> Float[Array, "starts time classes"]:
        """log p(class | x_<t, start) of every class at every position, in nats."""
        table, every = self.embedding[EOS:], jnp.arange(self.num_classes)

        def of_start(contexts):
            at = lambda i: self.structure.log_probs(contexts, i, every, table)  # noqa: E731
            return jax.vmap(at)(jnp.arange(len(contexts)))

        return _over_starts(of_start)(contexts)

    def score(
        self, x: Sequence, z: PyTree[Array], *, key: PRNGKeyArray | None = None
    ) -> dict[str, Float[Array, " time"]]:
        """log p(x_t | x_<t), in nats; 0 at padding and where a begin symbol stands."""
        tokens = jnp.asarray(x.values)
        log_p = self.log_probs(self.contexts(tokens, key), self.classes(tokens))
        log_p = jnp.where(is_scored(x)[None], log_p, 0.0)
        if len(log_p) == 1:
            return {"token": log_p[0]}
        so_far = self._of_prefixes(log_p)
        return {"token": jnp.diff(so_far, prepend=0.0)}

    def distributions(self, x: Sequence) -> Float[Array, "time classes"]:
        """log p(class | x_<t) of every class at every position, in nats."""
        tokens = jnp.asarray(x.values)
        log_p = self.all_log_probs(self.contexts(tokens))
        if len(log_p) == 1:
            return log_p[0]
        asked = self.classes(tokens)[None, :, None]
        log_words = jnp.take_along_axis(log_p, asked, axis=2)[:, :, 0]
        log_words = jnp.where(is_scored(x)[None], log_words, 0.0)
        before = jnp.pad(jnp.cumsum(log_words, axis=1), ((0, 0), (1, 0)))[:, :-1]
        log_start = jax.nn.log_softmax(before + self.start_logits[:, None], axis=0)
        return jax.nn.logsumexp(log_start[:, :, None] + log_p, axis=0)

    def _of_prefixes(self, log_p: Float[Array, "starts time"]) -> Float[Array, " time"]:
        """log p(x_<=t), the starts summed out."""
        log_start = jax.nn.log_softmax(self.start_logits)[:, None]
        return jax.nn.logsumexp(log_start + jnp.cumsum(log_p, axis=1), axis=0)

    def lower_bound(self) -> "LanguageModel":
        """The model whose scores are its structure's lower bound, and no longer sum to 1.
        ValueError for a structure that has none of its own."""
        structure = self.structure
        if not isinstance(structure, AbstractBounded):
            raise ValueError(
                f"A lower bound was to be raised, but the structure {type(structure).__name__} has "
                "none of its own. Raise the objective itself: log p is summed exactly."
            )
        return eqx.tree_at(lambda model: model.structure, self, structure.lower_bound())

    def sample_prior(self, key: PRNGKeyArray) -> Float[Array, "0"]:
        """Nothing: there is nothing that is not summed out."""
        return jnp.zeros(0)

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> Sequence:
        """One x, to its end or to `num_positions` symbols."""
        tokens = self.continued(jnp.full(self.num_positions, PAD, jnp.int32), key).tokens
        return Sequence(tokens, tokens != PAD)

    def continued(
        self,
        given: Int[Array, " time"],
        key: PRNGKeyArray,
        temperature: float | Float[Array, ""] = 1.0,
    ) -> "DrawnTokens":
        """One text that begins with the tokens of `given` up to its padding, to its end or to as many
        symbols as `given` has room for.

            x_t ~ softmax(log p(. | x_<t) / temperature)

        Learned starts are summed out at every token, so at temperature 1 this is a draw from p(x), or
        from p(x | the given tokens).
        """
        every, table = jnp.arange(self.num_classes), self.embedding[EOS:]
        num_given = (given != PAD).sum()

        def step(state, inputs):
            tokens, alive, log_starts = state
            position, key = inputs
            by_start = jax.vmap(lambda c: self.structure.log_probs(c, position, every, table))
            log_p = by_start(self.contexts(tokens))
            predicted = jax.nn.logsumexp(jax.nn.log_softmax(log_starts)[:, None] + log_p, axis=0)
            drawn = EOS + jax.random.categorical(key, predicted / temperature).astype(given.dtype)
            token = jnp.where(position < num_given, given[position], drawn)
            token = jnp.where(alive, token, PAD)
            scored = alive & (token != BOS)
            asked = jnp.clip(token - EOS, 0)
            log_starts = log_starts + jnp.where(scored, log_p[:, asked], 0.0)
            told = jnp.where(scored, predicted[asked], 0.0)
            return (tokens.at[position].set(token), alive & (token != EOS), log_starts), told

        first = (jnp.full_like(given, PAD), jnp.array(True), self.start_logits)
        keys = jax.random.split(key, len(given))
        (tokens, _, _), log_p = jax.lax.scan(step, first, (jnp.arange(len(given)), keys))
        return DrawnTokens(tokens, log_p)


class DrawnTokens(eqx.Module):
    """A text and what the model says of every token, in nats; PAD and 0 after its end."""

    tokens: Int[Array, "*num time"]
    log_p: Float[Array, "*num time"]  # at temperature 1, given or drawn; 0 of a begin symbol


def is_scored(x: Sequence) -> Bool[Array, " time"]:
    """Which symbols are predicted: the real ones that are not a begin symbol."""
    return jnp.asarray(x.mask) & (jnp.asarray(x.values) != BOS)


def _over_starts(function):
    """`jax.vmap` over a leading axis of starts. A single one is squeezed out and put back: an axis of
    size one keeps XLA from folding batch and time into one matrix product."""

    def mapped(contexts):
        if len(contexts) > 1:
            return jax.vmap(function)(contexts)
        return function(contexts[0])[None]

    return mapped
