"""Texts drawn from a language model word by word, at a temperature, after words that are given."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.families.language.model import DrawnTokens, LanguageModel
from tightbound.families.language.sequence_vae import Latent, SequenceVAE
from tightbound.models.base import AbstractModel, AbstractProposal


@eqx.filter_jit
def draw_texts(
    model: LanguageModel,
    given: Int[Array, " time"],
    keys: Key[Array, " num"],
    temperature: Float[Array, ""],
) -> DrawnTokens:
    """One text for each key."""
    return jax.vmap(lambda key: model.continued(given, key, temperature))(keys)


@eqx.filter_jit
def draw_texts_at(
    model: SequenceVAE,
    z: PyTree[Array],
    given: Int[Array, " time"],
    keys: Key[Array, " num"],
    temperature: Float[Array, ""],
) -> DrawnTokens:
    """One text for each latent, z with a leading axis; the same key for all is the same noise."""
    draw = lambda z, key: model.given(z).continued(given, key, temperature)  # noqa: E731
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
