"""An objective against its claim in expectation: asked where both differ on the same key."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.laws.rows import batches_of_claim
from tightbound.models.stateful import proposed
from tightbound.terms import Kind
from tightbound.train.loop import TrainState
from tightbound.train.setup import Setup

NUM_KEYS = 256  # 6 standard errors over 32 rows are then a quarter of any KL above 0.1 nats
_NUM_DRAWS = 4096  # of every row, for the mean and scale of q: their errors are 2 % of the scale
_LINEAR = ("elbo", "iwae", "renyi")


def redrawn(
    setup: Setup, state: TrainState, held: ev.Objective | None, key: PRNGKeyArray
) -> ev.Redrawn | None:
    """The objective and its claim for every row alone and for all together, by many keys; and the
    moments of q. None where they agree by one key already; where the claim is not finite, or no bound of
    independent draws; and where there are no latents."""
    claim = setup.claim
    latent = Kind.LATENT in setup.model.kinds.values()
    if held is None or setup.objective is claim or _agrees(held):
        return None
    if claim is None or claim.estimator not in _LINEAR or not latent:
        return None
    noise_key, key, _ = jax.random.split(key, 3)
    batch, _ = batches_of_claim(setup, noise_key)
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


def _agrees(held: ev.Objective) -> bool:
    """Whether an objective is its claim on the same draws, or its claim is not finite."""
    size = max(1.0, float(np.abs(held.claimed).max()))
    difference = float(np.abs(held.surrogate - held.claimed).max())
    return not np.isfinite(size) or difference <= 1e-3 * size
