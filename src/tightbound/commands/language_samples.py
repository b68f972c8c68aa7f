"""Texts drawn from a language model word by word, at a temperature, after words that are given."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.data.sentences import BOS, EOS, PAD
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.language.model import LanguageModel
from tightbound.models.language.sequence_vae import Latent, SequenceVAE


class DrawnTokens(eqx.Module):
    """A text and what the model says of every token, in nats; PAD and 0 after its end."""

    tokens: Int[Array, "*num time"]
    log_p: Float[Array, "*num time"]  # at temperature 1, given or drawn; 0 of a begin symbol


def draw_text(
    model: LanguageModel,
    given: Int[Array, " time"],
    key: PRNGKeyArray,
    temperature: float | Float[Array, ""] = 1.0,
) -> DrawnTokens:
    """One text that begins with the tokens of `given` up to its padding, to its end or to as many
    symbols as `given` has room for.

        x_t ~ softmax(log p(. | x_<t) / temperature)

    Learned starts are summed out at every token, so at temperature 1 this is a draw from p(x), or
    from p(x | the given tokens).
    """
    every, table = jnp.arange(model.num_classes), model.embedding[EOS:]
    num_given = (given != PAD).sum()

    def step(state, inputs):
        tokens, alive, log_starts = state
        position, key = inputs
        by_start = jax.vmap(lambda c: model.structure.log_probs(c, position, every, table))
        log_p = by_start(model.contexts(tokens))
        predicted = jax.nn.logsumexp(jax.nn.log_softmax(log_starts)[:, None] + log_p, axis=0)
        drawn = EOS + jax.random.categorical(key, predicted / temperature).astype(given.dtype)
        token = jnp.where(position < num_given, given[position], drawn)
        token = jnp.where(alive, token, PAD)
        scored = alive & (token != BOS)
        asked = jnp.clip(token - EOS, 0)
        log_starts = log_starts + jnp.where(scored, log_p[:, asked], 0.0)
        told = jnp.where(scored, predicted[asked], 0.0)
        return (tokens.at[position].set(token), alive & (token != EOS), log_starts), told

    first = (jnp.full_like(given, PAD), jnp.array(True), model.start_logits)
    keys = jax.random.split(key, len(given))
    (tokens, _, _), log_p = jax.lax.scan(step, first, (jnp.arange(len(given)), keys))
    return DrawnTokens(tokens, log_p)


@eqx.filter_jit
def draw_texts(
    model: LanguageModel,
    given: Int[Array, " time"],
    keys: Key[Array, " num"],
    temperature: Float[Array, ""],
) -> DrawnTokens:
    """One text for each key."""
    return jax.vmap(lambda key: draw_text(model, given, key, temperature))(keys)


@eqx.filter_jit
def draw_texts_at(
    model: SequenceVAE,
    z: PyTree[Array],
    given: Int[Array, " time"],
    keys: Key[Array, " num"],
    temperature: Float[Array, ""],
) -> DrawnTokens:
    """One text for each latent, z with a leading axis; the same key for all is the same noise."""
    draw = lambda z, key: draw_text(model.given(z), given, key, temperature)  # noqa: E731
    return jax.vmap(draw)(z, keys)


@eqx.filter_jit
def prior_latents(model: SequenceVAE, keys: Key[Array, " num"]) -> PyTree[Array]:
    """z ~ p(z), one for each key."""
    return jax.vmap(model.sample_prior)(keys)


@eqx.filter_jit
def inferred_latents(proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray) -> PyTree[Array]:
    """z ~ q(z | x) of every row; a row's draw comes from its entry of `batch.rows`."""

    def one(x, row):
        return proposal.proposal(x).sample(jax.random.fold_in(key, row))

    return jax.vmap(one)(batch.x, jnp.asarray(batch.rows))


def as_language_model(model: AbstractModel, z: Latent | Float[Array, "0"]) -> LanguageModel:
    """p(x | z): the model itself where it has no latents. TypeError for another family."""
    if isinstance(model, SequenceVAE):
        return model.given(z)
    if isinstance(model, LanguageModel):
        return model
    raise TypeError(f"A language model was meant, but a {type(model).__name__} came.")
