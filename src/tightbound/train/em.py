"""Objectives for models with choices of their own: Monte Carlo EM, and choices read off the data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.inference.filtered import draw_filtered
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.sequential import AbstractFiltered
from tightbound.models.stateful import constant
from tightbound.terms import Kind, LogTerms, Site
from tightbound.train.objective import InnerClaim, always_one


def total_score(score: dict[str, Float[Array, "batch time"]]) -> Float[Array, ""]:
    """log p of the completed data, in nats per sequence: the mean over the batch of all sites."""
    return jnp.stack([term.sum(-1) for term in score.values()]).sum(0).mean()


def heads_averaged_apart(score: dict[str, Float[Array, "batch time"]]) -> Float[Array, ""]:
    """What three separately averaged losses add up to: every site divided by the number of its own
    decisions. Not log p of anything; the doctor compares an objective with it."""

    def mean(term: Float[Array, "batch time"]) -> Array:
        return term.sum() / jnp.maximum((term != 0).sum(), 1)

    return jnp.stack([mean(term) for term in score.values()]).sum()


@dataclass(frozen=True)
class MonteCarloEM:
    """log p(x, z, e) at z ~ q(z | x) and choices e drawn from the filter's particles.

        grad log p(x, z) = E_{p(e | x, z)}[grad log p(x, z, e)]

    Wei & Tanner 1990; Fisher's identity. The E-step (filter, draw) holds the parameters constant and
    drops nothing; the M-step's gradient is through one teacher-forced pass, under dropout if the
    model has any. `num_samples` draws (z, e) of every sequence are averaged, each from a filter of
    its own. The value is not a bound; the terms, the E-step's, are.
    """

    num_samples: int = 1
    total: Callable[[dict[str, Array]], Array] = total_score
    estimator: ClassVar[str] = "monte-carlo-em"
    path: ClassVar[str] = "stop_draw"
    kl_weight: ClassVar = staticmethod(always_one)

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms]:
        del step
        model = _filtered(model)
        draw_key, drop_key = jax.random.split(key)
        many = _repeated(batch, self.num_samples)
        z, state, terms = draw_filtered(constant(model), proposal, many, key=draw_key)
        completed = jax.vmap(model.complete)(z, state)
        value = self.total(_scores(model, many, completed, drop_key))
        return value, _samples_first(terms, self.num_samples)


@dataclass(frozen=True)
class Supervised:
    """log p(x, z, e*) at z ~ q(z | x) and choices e* that `choices` reads off z: no E-step.

    With log q(z | x) taken off, its value is a lower bound on log p(x) of its own, one path for the
    sum over all: the terms are those of this bound.
    """

    choices: Callable[[PyTree[Array]], PyTree[Array]]
    total: Callable[[dict[str, Array]], Array] = total_score
    estimator: ClassVar[str] = "supervised"
    path: ClassVar[str] = "stop_draw"
    num_samples: ClassVar[int] = 1
    kl_weight: ClassVar = staticmethod(always_one)

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms]:
        del step
        model = _filtered(model)
        draw_key, drop_key = jax.random.split(key)
        completed, log_q = _read_off(proposal, batch, self.choices, draw_key)
        scores = _scores(model, batch, completed, drop_key)
        return self.total(scores), _path_terms(model, batch, scores, log_q)


@dataclass(frozen=True)
class Exchangeable(InnerClaim):
    """Another objective, with the words' embeddings drawn afresh for every batch, so that a word
    never seen is no different from one that was: what is learned cannot be about a word."""

    inner: Any

    def __call__(
        self,
        model: Any,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms]:
        words_key, key = jax.random.split(key)
        return self.inner(model.with_new_words(words_key), proposal, batch, key=key, step=step)


def weigh_one_path(
    model: AbstractFiltered,
    proposal: AbstractProposal,
    batch: Batch,
    choices: Callable[[PyTree[Array]], PyTree[Array]],
    *,
    key: PRNGKeyArray,
) -> LogTerms:
    """log p(x, z, e*) - log q(z | x) at one draw of z, in nats: in expectation a lower bound on
    log p(x), below the ELBO by log of the share p(e* | x, z) that the path has of p(x, z)."""
    completed, log_q = _read_off(proposal, batch, choices, key)
    return _path_terms(model, batch, _scores(model, batch, completed, None), log_q)


def _repeated(batch: Batch, times: int) -> Batch:
    """Every sequence `times` times, next to itself, each with a row of its own for its keys."""
    if times == 1:
        return batch
    many = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), times, axis=0), batch)
    copies = jnp.tile(jnp.arange(times, dtype=many.rows.dtype), len(batch.rows))
    return eqx.tree_at(lambda b: b.rows, many, many.rows * times + copies)


def _samples_first(terms: LogTerms, times: int) -> LogTerms:
    """The terms of repeated sequences as so many samples of each."""

    def by_sample(leaf):
        return jnp.moveaxis(leaf.reshape(-1, times, leaf.shape[-1]), 1, 0)

    sites = jax.tree.map(by_sample, terms.sites)
    return LogTerms(sites=sites, num_units=terms.num_units[::times])


def _read_off(proposal, batch, choices, key):
    def draw(x, row):
        q = proposal.proposal(x)
        z = q.sample(jax.random.fold_in(key, row))
        return (z, choices(z)), q.log_prob(z)

    return jax.vmap(draw)(batch.x, jnp.asarray(batch.rows))


def _scores(
    model: AbstractFiltered, batch: Batch, completed: PyTree[Array], key: PRNGKeyArray | None
) -> dict[str, Float[Array, "batch time"]]:
    def one(x, z, row):
        own_key = None if key is None else jax.random.fold_in(key, row)
        return model.score(x, z, key=own_key, axis_name="batch")

    return jax.vmap(one, axis_name="batch")(batch.x, completed, jnp.asarray(batch.rows))


def _path_terms(
    model: AbstractFiltered, batch: Batch, scores: dict[str, Array], log_q: Float[Array, " batch"]
) -> LogTerms:
    """The terms of one path: every site of the model, those of the filter with nothing in them."""
    first = next(iter(scores.values()))
    nothing = jnp.zeros_like(first)[None]
    real = jnp.ones_like(nothing, bool)

    def site(name: str, kind: Kind) -> Site:
        if name == "proposal":
            at_once = log_q[None, :, None]
            return Site(name, kind, jnp.zeros_like(at_once), at_once, real[:, :, :1])
        log_p = scores[name][None] if name in scores else nothing
        return Site(name, kind, log_p, None, real)

    sites = tuple(site(name, kind) for name, kind in model.kinds.items())
    return LogTerms(sites=sites, num_units=jnp.asarray(batch.num_units))


def _filtered(model: AbstractModel) -> AbstractFiltered:
    if not isinstance(model, AbstractFiltered):
        raise ValueError(
            f"{type(model).__name__} has no choices of its own that a filter sums out. Train it "
            "with an `Objective`."
        )
    return model
