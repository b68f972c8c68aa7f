"""Sequential family x batch -> `StepTerms`: a population of particles, resampled on the way."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.inference.resampling import SCHEMES, Scheme
from tightbound.models.sequential import AbstractPopulation, AbstractSequential
from tightbound.terms import Site, StepTerms


def filter(
    model: AbstractSequential | AbstractPopulation,
    batch: Batch,
    *,
    num_particles: int,
    key: PRNGKeyArray,
    resampling: str | Scheme = "systematic",
    threshold: float = 0.5,
    every: int = 1,
) -> StepTerms:
    """Run `num_particles` particles through every sequence: log-increments in nats, step by step.

        log p-hat(x) = sum_t log sum_n W_{t-1}^n w_t^n,   W normalised, or 1/N after resampling

    is a lower bound on log p(x) in expectation, and exp of it is unbiased, for any rule of
    resampling: the filtering bound, Maddison et al. 2017 (arXiv:1705.09279), eq. 4, and Le et al.
    2018 (arXiv:1705.10306), eq. 3 (`estimators.bounds.filtering_log_marginal`).

    Particles are resampled before a step if their effective number is below `threshold` times
    `num_particles` and the step's index is a multiple of `every`. Threshold 1 resamples always,
    0 never: that is the importance-weighted bound, and with one particle the ELBO.
    `resampling` is "multinomial", "residual", "stratified", "systematic" or a function
    (key, weights) -> ancestors.

    Steps outside the mask leave states and weights alone. The keys of a particle come from `key`,
    the row of its sequence and the step, so neither padding nor neighbours change it. If all
    weights of a sequence are zero its effective number is 0, and the bound -inf.

    Call it under `eqx.filter_jit` with whatever reads the record: parts that nobody reads (sites,
    ancestors) are then never stored.
    """
    _refuse_what_cannot_be_meant(num_particles, threshold, every)
    scheme = _scheme(resampling)
    may_resample = threshold > 0 and num_particles > 1
    num_sequences, num_steps = batch.mask.shape
    identity = jnp.broadcast_to(jnp.arange(num_particles), (num_sequences, num_particles))

    def init(row_key):
        return _init(model, num_particles, jax.random.fold_in(row_key, num_steps_key))

    def is_due(clock, ess):
        due = (clock > 0) & (clock % every == 0)
        return due & (jnp.ones_like(ess, bool) if threshold == 1 else ess < threshold * num_particles)

    def resample(state, log_weights, keys, needy):
        weights = jax.vmap(_relative_weights)(jax.lax.stop_gradient(log_weights))
        drawn = jax.vmap(scheme)(keys, weights).astype(identity.dtype)
        ancestors = jnp.where(needy[:, None], drawn, identity)
        return (
            _gather(state, ancestors),
            jnp.where(needy[:, None], 0.0, log_weights),
            ancestors,
        )

    def body(carry, inputs):
        state, log_weights, ess = carry
        x_t, real, clock = inputs
        keys = jax.vmap(lambda row_key: jax.random.split(jax.random.fold_in(row_key, clock)))(
            row_keys
        )
        needy, ancestors = jnp.zeros_like(real), identity
        if may_resample:
            needy = real & is_due(clock, ess)
            # One scalar decides for the batch: under vmap the branch would become a select that
            # always pays for the resampling.
            state, log_weights, ancestors = jax.lax.cond(
                needy.any(),
                resample,
                lambda state, log_weights, keys, needy: (state, log_weights, identity),
                *(state, log_weights, keys[:, 0], needy),
            )
        moved, scores = jax.vmap(_step, in_axes=(None, 0, 0, None, 0))(
            model, state, x_t, clock, keys[:, 1]
        )
        increments = jnp.where(real[:, None], _log_increments(scores), 0.0)
        state = jax.tree.map(functools.partial(_select, real), moved, state)
        log_weights = log_weights + increments
        ess = jax.vmap(_ess)(log_weights)
        return (state, log_weights, ess), (increments, ancestors, needy, ess, scores)

    mask = jnp.asarray(batch.mask)
    row_keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.asarray(batch.rows))
