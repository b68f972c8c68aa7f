"""Sequence VAEs: one latent vector says where, or all of what, a language model writes."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.sentences import EOS, UNKNOWN
from tightbound.data.sequences import Sequence
from tightbound.families.family import Family
from tightbound.families.language import FAMILY
from tightbound.families.language.contexts import AbstractContext, Recurrent
from tightbound.families.language.model import LanguageModel, is_scored
from tightbound.families.language.sequence_latents import Prior
from tightbound.models.base import AbstractRegularised
from tightbound.terms import Kind

Latent = Float[Array, " latent"] | Int[Array, " latent"]


class AbstractDecoder(eqx.Module):
    """What a language model knows before every word, given z."""

    @abstractmethod
    def given(self, z: Float[Array, " latent"]) -> AbstractContext:
        """The context that z makes."""


class RecurrentDecoder(AbstractDecoder):
    """A cell whose first state is W z + b, and which is given the words so far."""

    start: eqx.nn.Linear  # W, b
    context: Recurrent

    def __init__(self, context: Recurrent, latent_size: int, *, key: PRNGKeyArray):
        if context.starts is not None:
            raise ValueError(
                "The decoder's context has learned starts, but it starts where the latents say. "
                "Give a `Recurrent` without starts."
            )
        flat, _ = ravel_pytree(context.cell.init())
        self.start = eqx.nn.Linear(latent_size, flat.size, key=key)
        self.context = context

    def given(self, z: Float[Array, " latent"]) -> AbstractContext:
        _, unravel = ravel_pytree(self.context.cell.init())
        start = jax.tree.map(lambda leaf: leaf[None], unravel(self.start(z)))
        is_none = lambda leaf: leaf is None  # noqa: E731
        return eqx.tree_at(lambda context: context.starts, self.context, start, is_leaf=is_none)


class AtOnceDecoder(AbstractDecoder):
    """All positions' features from z by one network, and no word is given: a linear map where it
    has no hidden layer."""

    network: eqx.nn.MLP
    size: int = eqx.field(static=True)

    def __init__(
        self,
        latent_size: int,
        num_positions: int,
        size: int,
        *,
        hidden_size: int,
        depth: int,
        key: PRNGKeyArray,
    ):
        self.network = eqx.nn.MLP(latent_size, num_positions * size, hidden_size, depth, key=key)
        self.size = size

    def given(self, z: Float[Array, " latent"]) -> AbstractContext:
        return Written(features=self.network(z).reshape(-1, self.size), size=self.size)


class Written(AbstractContext):
    """Contexts that do not depend on the words."""

    features: Float[Array, "positions size"]
    size: int = eqx.field(static=True)

    def __call__(
        self,
        inputs: Float[Array, "time inputs"],
        *,
        state_dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "starts time size"]:
        return self.features[None, : len(inputs)]


class SequenceVAE(AbstractRegularised):
    """z ~ p(z),  x | z ~ prod_t p(x_t | x_<t, z).   Bowman et al. 2016, sec. 2.2.

    (arXiv:1511.06349.) Given z it is the language model `network` with the context that `decoder`
    makes of z; x is as there. In training every word that the decoder is given is replaced by the
    unknown one with probability `word_dropout` (their sec. 3.1); words that are predicted stay.
    """

    family: ClassVar[Family] = FAMILY
    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "token": Kind.OBSERVED}

    prior: Prior
    decoder: AbstractDecoder
    network: LanguageModel  # its own context is not read
    word_dropout: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        if not 0 <= self.word_dropout <= 1:
            raise ValueError(
                f"The word dropout is {self.word_dropout}, but it is a probability with which "
                "words are left out. Give a number from 0 to 1."
            )

    def given(self, z: Latent) -> LanguageModel:
        """p(x | z), as a language model."""
        context = self.decoder.given(jnp.asarray(z, self.network.embedding.dtype))
        return eqx.tree_at(lambda network: network.context, self.network, context)

    def sample_prior(self, key: PRNGKeyArray) -> Latent:
        return jnp.asarray(self.prior().sample(key))

    def score(
        self, x: Sequence, z: Latent, *, key: PRNGKeyArray | None = None
    ) -> dict[str, Float[Array, " time"]]:
        """log p(z), one number, and log p(x_t | x_<t, z) as a language model scores it, in nats."""
        given = self.given(z)
        read = tokens = jnp.asarray(x.values)
        if key is not None:
            word_key, key = jax.random.split(key)
            read = self._with_words_left_out(tokens, word_key)
        log_p = given.log_probs(given.contexts(read, key), given.classes(tokens))[0]
        return {
            "z": jnp.atleast_1d(self.prior().log_prob(z)),
            "token": jnp.where(is_scored(x), log_p, 0.0),
        }

    def sample_likelihood(self, z: Latent, key: PRNGKeyArray) -> Sequence:
        """One x, word by word, to its end or to as many symbols as the model has positions."""
        return self.given(z).sample_likelihood(jnp.zeros(0), key)

    def _with_words_left_out(
        self, tokens: Int[Array, " time"], key: PRNGKeyArray
    ) -> Int[Array, " time"]:
        """What the decoder is given in training."""
        if self.word_dropout == 0.0:
            return tokens
        left_out = jax.random.bernoulli(key, self.word_dropout, tokens.shape)
        return jnp.where(left_out & (tokens > EOS), UNKNOWN, tokens)
