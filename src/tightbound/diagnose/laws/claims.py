"""An objective against its claim in expectation: asked where both differ on the same key."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.diagnose import evidence as ev
from tightbound.models.stateful import proposed
from tightbound.terms import Kind
from tightbound.train.loop import TrainState
from tightbound.train.setup import Setup

NUM_KEYS = 256  # 6 standard errors over 32 rows are then a quarter of any KL above 0.1 nats
_NUM_DRAWS = 4096  # of every row, for the mean and scale of q: their errors are 2 % of the scale
_LINEAR = ("elbo", "iwae", "renyi")


def redrawn(
    setup: Setup,
    state: TrainState,
    batch: Batch,
    key: PRNGKeyArray,
    jit_once: Callable[..., Any],
) -> ev.Redrawn | None:
    """The objective and its claim for every row alone and for all together, by many keys; and the
    moments of q. None where the claim is not a bound of independent draws, or there are no latents."""
    claim = setup.claim
    latent = Kind.LATENT in setup.model.kinds.values()
    if claim is None or claim.estimator not in _LINEAR or not latent:
        return None
    at_step = jnp.asarray(state.step)
    alone = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, None], batch)

    @jit_once
    def ask(model, proposal, batch, alone):
        def both(batch, key):
            surrogate, _ = setup.objective(model, proposal, batch, key=key, step=at_step)
            claimed, terms = claim(model, proposal, batch, key=key, step=at_step)
            parts = (terms.log_likelihood, terms.log_prior, terms.log_proposal)
            return surrogate, claimed, *(part.mean() for part in parts)

        def of_key(key):
            surrogate, claimed, *_ = both(batch, key)
            return surrogate - claimed, jax.vmap(both, in_axes=(0, None))(alone, key)

        def moments(x_and_row):
            x, row = x_and_row
            q = proposed(model, proposal, x)
            keys = jax.random.split(jax.random.fold_in(key, row), _NUM_DRAWS)
            flat = jax.vmap(lambda k: ravel_pytree(q.sample(k))[0] * 1.0)(keys)
            return flat.mean(0), flat.std(0)

        keys = jax.random.split(jax.random.fold_in(key, 1), NUM_KEYS)
        return jax.lax.map(of_key, keys), jax.lax.map(moments, (batch.x, jnp.asarray(batch.rows)))

    (together, rows), (mean, scale) = ask(state.model, state.proposal, batch, alone)
    as_array: Callable[[Array], np.ndarray] = np.asarray
    surrogate, claimed, log_likelihood, log_prior, log_proposal = map(as_array, rows)
    return ev.Redrawn(
        surrogate=surrogate,
        claimed=claimed,
        log_likelihood=log_likelihood,
        log_prior=log_prior,
        log_proposal=log_proposal,
        batch_difference=np.asarray(together),
        latent_mean=np.asarray(mean),
        latent_scale=np.asarray(scale),
        is_linear=not getattr(claim, "free_bits", 0.0) > 0,
    )
