"""Models with choices of their own that a filter sums out: their weights, and draws of the choices."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.estimators.bounds import filtering_terms
from tightbound.inference.filter import filter_particles, one_of_each
from tightbound.models.base import AbstractProposal
from tightbound.models.sequential import AbstractFiltered
from tightbound.terms import Kind, LogTerms, Site


def weigh_filtered(
    model: AbstractFiltered,
    proposal: AbstractProposal,
    batch: Batch,
    *,
    num_samples: int,
    key: PRNGKeyArray,
) -> LogTerms:
    """log p-hat(x, z) - log q(z | x) of `num_samples` draws z, site by site, in nats.

    p-hat is the filter's estimate of p(x, z), without bias for any number of particles, so in
    expectation each log-weight is a lower bound on log p(x), and p-hat / q may be averaged over
    draws as any weight (particle marginal: Andrieu & Roberts 2009; nested: Naesseth et al. 2015,
    arXiv:1502.02536). Where the choices sum out, p-hat is p and no filter runs. One draw after the
    other: a filter's memory is the batch's already.
    """

    def one_draw(key):
        if model.sums_out:
            return _summed(model, proposal, batch, key)
        return draw_filtered(model, proposal, batch, key=key)[-1]

    drawn = jax.lax.map(one_draw, jax.random.split(key, num_samples))
    sites = jax.tree.map(lambda leaf: leaf[:, 0], drawn.sites)  # draws, then the record's own one
    return LogTerms(sites=sites, num_units=jnp.asarray(batch.num_units))


def draw_filtered(
    model: AbstractFiltered, proposal: AbstractProposal, batch: Batch, *, key: PRNGKeyArray
) -> tuple[PyTree[Array], PyTree[Array], LogTerms]:
    """Of every sequence: z ~ q(z | x), the state of one particle drawn by its weight, and the terms
    of this one draw."""
    draw_key, filter_key, choice_key = jax.random.split(key, 3)
    rows = jnp.asarray(batch.rows)
    z, log_q = _draws(proposal, batch, draw_key)
    path = jax.vmap(model.path)(batch.x, z)
    terms, population = filter_particles(
        model.particles(),
        Batch(x=path.values, mask=path.mask, num_units=batch.num_units, rows=rows),
        num_particles=model.num_particles,
        key=filter_key,
        threshold=model.threshold,
        every=model.every,
    )
    *sites, reweighting = filtering_terms(terms).sites
    record = LogTerms((*sites, _proposal_site(log_q), reweighting), terms.num_units)
    chosen = one_of_each(population.state, population.log_weights, rows, choice_key)
    return z, chosen, record


def _draws(
    proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray
) -> tuple[PyTree[Array], Float[Array, " batch"]]:
    """z ~ q(z | x) for every sequence, and log q(z | x) in nats."""

    def draw(x, row):
        q: Any = proposal.proposal(x)
        z = q.sample(jax.random.fold_in(key, row))
        return z, q.log_prob(z)

    return jax.vmap(draw)(batch.x, jnp.asarray(batch.rows))


def _proposal_site(log_q: Float[Array, " batch"]) -> Site:
    at_once = log_q[None, :, None]
    real = jnp.ones_like(at_once, bool)
    return Site("proposal", Kind.LATENT, jnp.zeros_like(at_once), at_once, real)


def _summed(
    model: AbstractFiltered, proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray
) -> LogTerms:
    """The terms of one draw z where the choices sum out: the same draw as `draw_filtered` makes."""
    draw_key, _, _ = jax.random.split(key, 3)
    z, log_q = _draws(proposal, batch, draw_key)
    summed = partial(model.summed, axis_name="batch")
    scores = jax.vmap(summed, axis_name="batch")(batch.x, z)

    def site(name: str, kind: Kind) -> Site:
        if name == "proposal":
            return _proposal_site(log_q)
        nothing = jnp.zeros((len(log_q), 1), log_q.dtype)
        log_p, log_q_here = scores.get(name, (nothing, None))
        held = None if log_q_here is None else log_q_here[None]
        return Site(name, kind, log_p[None], held, jnp.ones_like(log_p, bool)[None])

    sites = tuple(site(name, kind) for name, kind in model.kinds.items())
    return LogTerms(sites=sites, num_units=jnp.asarray(batch.num_units))
