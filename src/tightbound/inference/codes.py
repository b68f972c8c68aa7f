"""What an encoder makes of data as a whole, held against the prior that samples start from."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.models.base import AbstractModel, AbstractProposal


def distance_from_prior(
    model: AbstractModel, proposal: AbstractProposal, batch: Batch, *, key: PRNGKeyArray
) -> Float[Array, " latent"]:
    """How far the latents of a batch lie from the prior, one dimension at a time, in standard
    deviations of the prior.

        W_d = mean_i |sort(z_d)_i - sort(z'_d)_i| / std(z'_d),   z ~ q(z | x of row i),   z' ~ p(z)

    The 1-Wasserstein distance of two samples, one draw for each row: it does not become 0 where the
    laws are equal, but falls as 1 / sqrt(rows). Far from 0, samples start from places the decoder
    was never trained at, and are not what it learned to write. Being near 0 in every dimension
    does not say that dimensions are as independent as the prior's.
    """
    code_key, prior_key = jax.random.split(key)
    rows = jnp.arange(len(batch.rows))

    def code(x, row):
        return proposal.proposal(x).sample(jax.random.fold_in(code_key, row))

    codes = jnp.sort(jax.vmap(code)(batch.x, rows), axis=0)
    drawn = jax.vmap(lambda row: model.sample_prior(jax.random.fold_in(prior_key, row)))(rows)
    drawn = jnp.sort(drawn, axis=0)
    return jnp.abs(codes - drawn).mean(0) / drawn.std(0)
