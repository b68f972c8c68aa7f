"""Model x proposal x split -> numbers: the same bound, in the same units, whatever trained it."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Noise, Split, chunks
from tightbound.errors import UserError
from tightbound.estimators.estimate import Bound
from tightbound.inference.filtering import Filtering
from tightbound.inference.stepwise import stepwise_pair, weigh_populations
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import Kind

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The scored sites of a whole split, summed over positions, on the host. Everything reported
    about the split is computed from this."""

    kinds: dict[str, Kind]
    log_p: dict[str, Float[np.ndarray, "samples rows"]]  # nats per sequence
    log_q: dict[str, Float[np.ndarray, "samples rows"]]
    num_units: Int[np.ndarray, " rows"]
    rows: Int[np.ndarray, " rows"]
    split: str  # with its law
    groups: Integer[np.ndarray, " rows"] | None = None  # of the split: classes, writers
    draws_are_shared: bool = False  # by all rows: points that one posterior predicts
    num_particles: int | None = None  # where every draw is the log p-hat of a filter of so many

    @property
    def log_weights(self) -> Float[np.ndarray, "samples rows"]:
        """log p(x, z) - log q(z | x), in nats per sequence."""
        return np.asarray(sum(self.log_p.values()) - sum(self.log_q.values()))

    def kind_of_bound(self, is_bound: bool) -> Bound:
        """What the log-weights say of log p(x), where the setup's terms are a bound at all: that it is
        this, where nothing was drawn; else that it lies above, on average."""
        if not is_bound:
            return "none"
        nothing_drawn = all(kind is Kind.OBSERVED for kind in self.kinds.values())
        return "exact" if nothing_drawn and self.num_particles is None else "lower"

    @property
    def site_means(self) -> dict[str, Float[np.ndarray, " rows"]]:
        """What each site adds to the ELBO: the mean over draws of log p - log q, per sequence."""
        return {
            name: (log_p - self.log_q[name] if name in self.log_q else log_p).mean(0)
            for name, log_p in self.log_p.items()
        }

    @property
    def kl(self) -> Float[np.ndarray, " rows"]:
        """The mean over draws of log q - log p of the latent sites, in nats per sequence."""
        latent = [-m for n, m in self.site_means.items() if self.kinds[n] is Kind.LATENT]
        return np.asarray(sum(latent)) if latent else np.zeros(len(self.rows))


def evaluate(
    model: AbstractModel,
    proposal: AbstractProposal,
    split: Split,
    *,
    num_samples: int,
    key: PRNGKeyArray,
    noise: Noise | None = None,
    filtering: Filtering | None = None,
    max_draws: int = 32_768,
) -> Evaluation:
    """Weigh every sequence of `split` with `num_samples` draws each; with `filtering`, every draw is a
    filter's log p-hat(x).

    `noise` is drawn once per row from `key`, so two models evaluated with one key see the same
    data and can be compared pair by pair. Works in chunks of at most `max_draws` draws.

    A pooled split is one data set, so there is one row: its log-weights bound log p(D). Where it is
    `given` another split, every point is a row with log p(x_i | z), z from q as it was fitted to the
    other: the mean over draws is a lower bound on the log predictive density, the log of the mean of
    p (`iwae_bound`) its estimate.
    """
    if not isinstance(split, Split):
        raise UserError(
            f"`evaluate` was given {type(split).__name__} for a split; a `tb.Split` was meant, as "
            "setup.data['test'] or tb.rows('test', array)."
        )
    if num_samples < 1:
        raise UserError(
            f"`num_samples` is {num_samples}, but a bound needs at least one draw per sequence. "
            "Give 1 for the ELBO, more for IWAE."
        )
    at_once = num_samples if filtering is None else filtering.num_particles
    size = int(np.clip(max_draws // at_once, 1, len(split)))
    noise_key, draw_key = jax.random.split(key)
    if split.pooled and filtering is not None:
        raise UserError(
            f"A filter's bound was asked for, but the {split.name} split holds points of one data set, "
            "which have no steps to filter. Ask for 'elbo' or 'iwae'."
        )
    if split.pooled:
        return _of_data_set(model, proposal, split, num_samples, size, noise_key, draw_key, noise)
    pieces = []
    for batch, real in _counted(split, size):
        totals = _site_totals(
            model, proposal, batch, num_samples, noise_key, draw_key, noise, filtering
        )
        pieces.append(jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[:, :real], totals))
    log_p, log_q = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *pieces)
    kinds = dict(model.kinds)
    return Evaluation(
        kinds={name: kinds.get(name, Kind.AUXILIARY) for name in log_p},
        log_p=log_p,
        log_q=log_q,
        num_units=np.asarray(split.num_units),
        rows=np.arange(len(split)),
        split=split.description,
        groups=split.groups,
        num_particles=None if filtering is None else filtering.num_particles,
    )


def _counted(split: Split, size: int) -> Iterator[tuple[Batch, int]]:
    """The chunks of a split, saying how many are done."""
    for done, chunk in enumerate(chunks(split, size)):
        part = (done, -(-len(split) // size))
        _log.info("scoring rows of %s", split.description, extra={"part": part})
        yield chunk


def _of_data_set(
    model: AbstractModel,
    proposal: AbstractProposal,
    split: Split,
    num_samples: int,
    size: int,
    noise_key: PRNGKeyArray,
    draw_key: PRNGKeyArray,
    noise: Noise | None,
) -> Evaluation:
    """Chunk by chunk of the points, every chunk with the same draws of the latents."""
    pieces = []
    latents = []
    for batch, real in _counted(split, size):
        *latent, points = _point_scores(
            model, proposal, batch, num_samples, noise_key, draw_key, noise
        )
        latents.append(jax.tree.map(np.asarray, latent))
        pieces.append({name: np.asarray(score)[:, :real] for name, score in points.items()})
    observed = {name: np.concatenate([p[name] for p in pieces], axis=1) for name in pieces[0]}
    _check_same_draws(proposal, latents, size, num_samples * len(split))
    if split.given:  # other points must not move what was fitted to the training split
        other = split.take(np.arange(min(size, len(split))))
        other = eqx.tree_at(lambda b: b.x.points, other, replace_fn=_all_zero)
        *other_latents, _ = _point_scores(
            model, proposal, other, num_samples, noise_key, draw_key, noise
        )
        _check_not_looking(proposal, split, latents[0], other_latents)
    log_p, log_q = latents[0]
    if split.given:  # z was scored where it was fitted
        log_p = {name: np.zeros((num_samples, len(split))) for name in log_p} | observed
        log_q, num_units = {}, np.asarray(split.num_units)
    else:
        log_p |= {name: score.sum(1, keepdims=True) for name, score in observed.items()}
        num_units = np.array([len(split)])
    return Evaluation(
        kinds=dict(model.kinds),
        log_p={name: log_p[name] for name in model.kinds},
        log_q=log_q,
        num_units=num_units,
        rows=np.arange(len(num_units)),
        split=split.description,
        groups=split.groups if split.given else None,
        draws_are_shared=bool(split.given),
    )


def _check_same_draws(proposal: AbstractProposal, latents: list, size: int, num_draws: int) -> None:
    """Chunks add up to the data set only where each was scored at the same z."""
    first = jax.tree.leaves(latents[0])
    for others in latents[1:]:
        if not all(map(np.array_equal, first, jax.tree.leaves(others))):
            raise UserError(
                f"{type(proposal).__name__} looks at the points it is given, so chunks of {size} points "
                "drew different latents, and their scores do not add up to those of the data set. "
                f"Raise `max_draws` to {num_draws}, for a single chunk, or give a proposal that does "
                "not look at them."
            )


def _all_zero(points: PyTree) -> PyTree:
    return jax.tree.map(np.zeros_like, points)


def _check_not_looking(
    proposal: AbstractProposal, split: Split, latents: PyTree, other_latents: PyTree
) -> None:
    """Points are predicted by z as it was fitted to others, not by what the points say of z."""
    if not all(map(np.array_equal, jax.tree.leaves(latents), jax.tree.leaves(other_latents))):
        raise UserError(
            f"The {split.name} split is predicted from the {split.given} split, but "
            f"{type(proposal).__name__} looks at the points it is given: its draws are of the held-out "
            "points' own latents. Give a proposal that does not look at them."
        )


@eqx.filter_jit
def _point_scores(
    model: AbstractModel,
    proposal: AbstractProposal,
    batch: Batch,
    num_samples: int,
    noise_key: PRNGKeyArray,
    draw_key: PRNGKeyArray,
    noise: Noise | None,
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """log p and log q of the latent sites, (samples, 1), and log p of every point, (samples, points)."""
    if noise is not None:
        batch = noise(batch, noise_key)
    each_once = jnp.ones_like(jnp.asarray(batch.x.weight))
    batch = eqx.tree_at(lambda b: b.x.weight, batch, each_once)
    terms = weigh(model, proposal, batch, num_samples=num_samples, key=draw_key)
    latent = [site for site in terms.sites if site.kind is not Kind.OBSERVED]
    return (
        {site.name: site.total_log_p for site in latent},
        {site.name: site.total_log_q for site in latent if site.log_q is not None},
        {s.name: s.log_p[:, 0] for s in terms.sites if s.kind is Kind.OBSERVED},
    )


@eqx.filter_jit
def _site_totals(
    model: AbstractModel,
    proposal: AbstractProposal,
    batch: Batch,
    num_samples: int,
    noise_key: PRNGKeyArray,
    draw_key: PRNGKeyArray,
    noise: Noise | None,
    filtering: Filtering | None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    if noise is not None:
        batch = noise(batch, noise_key)
    if filtering is None:
        terms = weigh(model, proposal, batch, num_samples=num_samples, key=draw_key)
    else:
        pair = stepwise_pair(model, proposal)
        terms = weigh_populations(*pair, batch, filtering, num_samples=num_samples, key=draw_key)
    log_p = {site.name: site.total_log_p for site in terms.sites}
    log_q = {site.name: site.total_log_q for site in terms.sites if site.log_q is not None}
    return log_p, log_q
