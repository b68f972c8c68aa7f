"""The objective made wrong."""

from collections.abc import Callable
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.inference.weigh import weigh
from tightbound.terms import LogTerms
from tightbound.train.setup import Setup


def with_value(change: Callable[[LogTerms], Array]) -> Callable[[Setup], Setup]:
    """The objective's value replaced by a function of its terms."""

    def plant(setup: Setup) -> Setup:
        claim = setup.objective

        def wrong(model, proposal, batch, *, key, step):
            _, terms = claim(model, proposal, batch, key=key, step=step)
            return change(terms), terms

        return replace(setup, objective=wrong)

    return plant


def kl(terms: LogTerms) -> Array:
    return terms.log_proposal - terms.log_prior


def standard_kl(mean: Array, scale: Array) -> Array:
    """KL of N(mean, scale^2) from N(0, 1), in nats, summed over latents."""
    return 0.5 * (mean**2 + scale**2 - 1.0 - 2.0 * jnp.log(scale)).sum()


def with_closed_kl(form: Callable[[Array, Array], Array]) -> Callable[[Setup], Setup]:
    """The ELBO of one draw with a KL that is a function of q's mean and scale."""

    def plant(setup: Setup) -> Setup:
        def objective(model, proposal, batch, *, key, step):
            del step
            terms = weigh(model, proposal, batch, num_samples=1, key=key)

            def kl_of(x):
                q = proposal.proposal(x)
                return form(q.mean, jnp.sqrt(q.variance))

            return terms.log_likelihood.mean() - jax.vmap(kl_of)(batch.x).mean(), terms

        return replace(setup, objective=objective)

    return plant


def log_q_per_position(setup: Setup) -> Setup:
    """The record holds log q of all latents at every position, where it is counted once for each."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        _, terms = claim(model, proposal, batch, key=key, step=step)

        def spread(site):
            if site.log_q is None:
                return site
            mask = jnp.broadcast_to(batch.mask, (len(site.log_q), *batch.mask.shape))
            return replace(site, log_q=jnp.broadcast_to(site.log_q, mask.shape), mask=mask)

        terms = LogTerms(tuple(map(spread, terms.sites)), terms.num_units)
        return terms.log_weights.mean(), terms

    return replace(setup, objective=wrong)


def stop_draw(setup: Setup) -> Setup:
    """z is detached, so the decoder's gradient never reaches the encoder."""

    def wrong(model, proposal, batch, *, key, step):
        del step
        terms = weigh(model, proposal, batch, num_samples=1, key=key, path="stop_draw")
        return terms.log_weights.mean(), terms

    return replace(setup, objective=wrong)


def batch_statistics(setup: Setup) -> Setup:
    """Every image is centred by the mean of its batch before it is scored."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        centred = batch.x - batch.x.mean(0, keepdims=True)
        return claim(
            model, proposal, eqx.tree_at(lambda b: b.x, batch, centred), key=key, step=step
        )

    return replace(setup, objective=wrong)


def all_real(batch: Batch, values: PyTree[Array]) -> Batch:
    mask = jnp.ones_like(jnp.asarray(batch.mask))
    return Batch(Sequence(values, mask), mask, batch.num_units, batch.rows)


def padding_counted(setup: Setup) -> Setup:
    """The objective scores padding like everything else."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        return claim(model, proposal, all_real(batch, batch.x.values), key=key, step=step)

    return replace(setup, objective=wrong)
