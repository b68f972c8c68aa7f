"""Is a mixture's density the log-mean of its components' own? The right number, and what may stand for it."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.checks.mixtures import LOG_M_MISSING, MIXED_OVER_BATCH, OWN_COMPONENT_ONLY
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.laws.rows import batches_of_claim
from tightbound.diagnose.probes import Pair
from tightbound.inference.weigh import draws
from tightbound.models.mixture import mixtures
from tightbound.train.setup import Setup


def density(setup: Setup, pair: Pair, key: PRNGKeyArray) -> ev.MixtureDensity | None:
    """log q of the draws that the claim makes of this key, and its rivals; None where nothing is claimed
    or the proposal holds no mixture."""
    if setup.claim is None or not mixtures(pair[1]):
        return None
    noise_key, draw_key, _ = jax.random.split(key, 3)
    batch, _ = batches_of_claim(setup, noise_key)
    return density_of_draws(pair, batch, draw_key, setup.claim.num_samples)


def density_of_draws(
    pair: Pair, batch: Batch, key: PRNGKeyArray, num_samples: int
) -> ev.MixtureDensity:
    """Mean log q of the draws that `weigh` makes of this key, in nats per row: log-mean over components
    for every row; and by mistake the same of sums over the batch, of the component that drew alone (NaN
    where the draws are no multiple of the components), and without log m."""
    _, proposal = pair
    num_components = mixtures(proposal)[0].num_components

    @jit_once
    def each_log_q(proposal, batch):
        mixture = mixtures(proposal)[0]

        def one_row(x, row):
            keys = jax.random.split(jax.random.fold_in(key, row), num_samples)
            z = draws(proposal.proposal(x), keys)
            return jax.vmap(mixture.proposal(x).component_log_probs)(z)

        return jax.vmap(one_row)(batch.x, jnp.asarray(batch.rows))

    each = each_log_q(proposal, batch)  # (rows, samples, components)
    log_m = jnp.log(num_components)
    per_datum = jax.nn.logsumexp(each, axis=2) - log_m
    over_batch = (jax.nn.logsumexp(each.sum(0), axis=1) - log_m) / len(each)
    own = jnp.nan
    if num_samples % num_components == 0:
        which = (jnp.arange(num_samples) % num_components)[None, :, None]
        own = jnp.take_along_axis(each, which, axis=2).mean()
    right = float(per_datum.mean())
    rivals = {
        MIXED_OVER_BATCH.name: float(over_batch.mean()),
        OWN_COMPONENT_ONLY.name: float(own),
        LOG_M_MISSING.name: right + float(np.log(num_components)),
    }
    return ev.MixtureDensity(
        right, num_components, np.array(list(rivals)), np.array(list(rivals.values()))
    )
