"""Models with a state and a proposal that goes along it: their weights, with and without resampling."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.estimators.bounds import filtering_terms
from tightbound.inference.filter import filter_particles
from tightbound.inference.filtering import Filtering
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, Guided
from tightbound.terms import LogTerms, StepTerms


def filter_pair(
    model: AbstractStateful,
    proposal: AbstractStepwise,
    batch: Batch,
    filtering: Filtering,
    *,
    key: PRNGKeyArray,
    path: str = "full",
) -> StepTerms:
    """The filter of a model and its proposal: `particle_filter` of `Guided(model, proposal)`, to be
    differentiated."""
    terms, _ = filter_particles(
        Guided(model, proposal, path),
        batch,
        key=key,
        **filtering.arguments,
        skip_padding=False,
    )
    return terms


def weigh_stepwise(
    model: AbstractStateful,
    proposal: AbstractStepwise,
    batch: Batch,
    *,
    num_samples: int,
    key: PRNGKeyArray,
    path: str = "full",
) -> LogTerms:
    """log p(x, z) - log q(z | x) of `num_samples` independent draws, in one pass: a filter that never
    resamples."""
    if path == "doubly":
        raise ValueError(
            "The gradient path 'doubly' scales the gradient of a whole draw, but a stepwise proposal "
            "is scored while it is drawn. Use 'full' or 'stop_proposal'."
        )
    never = Filtering(num_samples, threshold=0.0)
    terms = filter_pair(model, proposal, batch, never, key=key, path=path)
    return LogTerms(sites=terms.sites, num_units=terms.num_units)


def weigh_populations(
    model: AbstractStateful,
    proposal: AbstractStepwise,
    batch: Batch,
    filtering: Filtering,
    *,
    num_samples: int,
    key: PRNGKeyArray,
) -> LogTerms:
    """`num_samples` independent filters: each is one draw, whose log-weight is its log p-hat(x), with
    a site "reweighting" (`estimators.bounds.filtering_terms`). One after the other: a population's
    memory is many draws' already."""

    def one(key):
        return filtering_terms(filter_pair(model, proposal, batch, filtering, key=key))

    drawn = jax.lax.map(one, jax.random.split(key, num_samples))
    sites = jax.tree.map(lambda leaf: leaf[:, 0], drawn.sites)  # draws, then the record's own one
    return LogTerms(sites=sites, num_units=jnp.asarray(batch.num_units))


def stepwise_pair(
    model: AbstractModel, proposal: AbstractProposal
) -> tuple[AbstractStateful, AbstractStepwise]:
    """The same two, where they go step by step and so can be filtered. ValueError where they do not."""
    if not (isinstance(model, AbstractStateful) and isinstance(proposal, AbstractStepwise)):
        raise ValueError(
            f"{type(model).__name__} with {type(proposal).__name__} has no steps at which particles "
            "could be resampled. The filtering bound is of a model with a state and a stepwise "
            "proposal; use 'elbo' or 'iwae' here."
        )
    return model, proposal
