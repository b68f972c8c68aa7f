"""Is what draws also what scores? Stein's identity for the proposal and for the prior, on the real model;
and, where a latent has ends, a histogram of its draws held against its density."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.laws.mixtures import centred
from tightbound.diagnose.laws.rows import REPEATS, few_points
from tightbound.diagnose.laws.twin import has_real_latents
from tightbound.diagnose.probes import Pair, goes_along, probe_batches, repeated
from tightbound.inference.weigh import proposal_score
from tightbound.models.base import AbstractModel
from tightbound.models.mean_field import PointMass
from tightbound.models.stateful import AbstractStateful, FromPrior, proposed
from tightbound.terms import Kind, mask_of
from tightbound.train.setup import Setup


def scores(setup: Setup, pair: Pair, key: PRNGKeyArray) -> ev.Scores | None:
    """Stein's identity for q and for the prior, on the real model; and whether x listens to z. None
    for discrete latents: there is nothing to differentiate."""
    model, proposal = pair
    if Kind.LATENT not in model.kinds.values() or not has_real_latents(model):
        return None
    noise_key, q_key, prior_key = jax.random.split(key, 3)
    batch = repeated(few_points(probe_batches(setup)[0]), REPEATS)
    num_draws = 64

    def identity(q, log_density, draws, real, key):
        """f d log density / dz + div f of every entry, averaged over draws, where f is z less the
        centre of what has drawn it; centres are from the other half of the draws. The divergence is
        that along a random sign of every entry, which is exact where f is z less a constant."""
        flat = jax.vmap(lambda z: ravel_pytree(z)[0])(draws)
        slope = jax.vmap(lambda z: ravel_pytree(jax.grad(log_density)(z))[0])(draws)
        first, half = flat[: num_draws // 2], slice(num_draws // 2, None)
        unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], draws))[1]
        field = centred(q, unravel, first)
        signs = jnp.where(jax.random.bernoulli(key, 0.5, first.shape), 1.0, -1.0)
        field_there, along = jax.vmap(lambda z, sign: jax.jvp(field, (z,), (sign,)))(
            flat[half], signs
        )
        found = (field_there * slope[half] + signs * along).mean(0)
        return found, real, flat

    @jit_once
    def gather(model, proposal, batch):
        if setup.noise is not None:
            batch = setup.noise(batch, noise_key)

        mask = jnp.asarray(batch.mask)

        def one_row(x, mask, row):
            q = proposed(model, proposal, x)
            z = jax.vmap(q.sample)(jax.random.split(jax.random.fold_in(q_key, row), num_draws))
            log_q = lambda z: _log_proposal(model, q, z, mask)  # noqa: E731
            observed = lambda z: _total(model, model.score(x, z), {Kind.OBSERVED}, mask)  # noqa: E731
            real = _real_entries(model, x, jax.tree.map(lambda leaf: leaf[0], z))
            sign_key = jax.random.fold_in(q_key, -1 - row)
            return *identity(q, log_q, z, real, sign_key), jnp.ptp(jax.vmap(observed)(z))

        x0 = jax.tree.map(lambda leaf: leaf[0], batch.x)
        log_prior = lambda z: _log_prior(model, x0, z, mask[0])  # noqa: E731

        def one_repeat(key):
            z = jax.vmap(_draw_prior(model, x0))(jax.random.split(key, num_draws))
            real = _real_entries(model, x0, jax.tree.map(lambda z: z[0], z))
            return identity(None, log_prior, z, real, key)

        rows = jax.vmap(one_row)(batch.x, mask, jnp.asarray(batch.rows))
        return rows, jax.vmap(one_repeat)(jax.random.split(prior_key, 64))

    (*of_proposal, slope), of_prior = gather(model, proposal, batch)
    found, real, drawn = map(np.asarray, of_proposal)
    prior_found, prior_real, prior_drawn = map(np.asarray, of_prior)
    discrete, prior_discrete = _is_discrete(drawn), _is_discrete(prior_drawn)
    bounded = _is_bounded(prior_drawn) & ~prior_discrete
    if len(discrete) == len(prior_discrete):
        discrete = discrete | prior_discrete
    ends = _is_bounded(drawn) & ~discrete
    tied, prior_tied = _sums_to_a_constant(drawn), _sums_to_a_constant(prior_drawn)
    of_q, of_p = np.zeros((0, 0)), np.zeros((0, 0))
    if ends.any() or bounded.any():
        of_q, of_p = _held_against_histograms(setup, pair, batch, noise_key, key)
    ends, bounded = (ends | tied) & ~discrete, (bounded | prior_tied) & ~prior_discrete
    is_points = lambda node: isinstance(node, PointMass)  # noqa: E731
    has_density = not any(map(is_points, jax.tree.leaves(proposal, is_leaf=is_points)))
    return ev.Scores(
        proposal=_mean_of(found, real, ~(discrete | ends)) if has_density else np.zeros(0),
        prior=_mean_of(prior_found, prior_real, ~(prior_discrete | bounded)),
        proposal_spread=float(drawn.std(1).max()),
        likelihood_slope=float(jnp.max(slope)),
        proposal_discrete=float(discrete.mean()),
        prior_discrete=float(prior_discrete.mean()),
        proposal_bounded=float(ends.mean()),
        prior_bounded=float(bounded.mean()),
        proposal_ratio=of_q if not (discrete | tied).any() and has_density else of_q[:0],
        prior_ratio=of_p if not (prior_discrete | prior_tied).any() else of_p[:0],
    )


def _real_entries(model: AbstractModel, x: PyTree[Array], z: PyTree[Array]) -> Float[Array, " z"]:
    """1 for every entry of one z, flattened, that stands at a real step of x; 0 at padding."""

    def of_leaf(leaf):
        if not isinstance(x, Sequence) or not goes_along(model, x, z):
            return jnp.ones_like(leaf)
        return jnp.broadcast_to(x.mask.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape) * 1.0

    return ravel_pytree(jax.tree.map(of_leaf, z))[0]


def _total(model: Any, terms: Mapping[str, Array], kinds: set[Kind], mask: Array) -> Array:
    """The scores of sites of these kinds, summed over real positions."""
    chosen = [name for name, kind in model.kinds.items() if name in terms and kind in kinds]
    return jnp.asarray(
        sum(jnp.where(mask_of(mask, terms[n].shape[-1]), terms[n], 0.0).sum() for n in chosen)
    )


def _log_proposal(model: Any, q: Any, z: PyTree[Array], mask: Array) -> Array:
    return _total(model, proposal_score(model, q, z), set(Kind), mask)


def _log_prior(model: Any, x: PyTree[Array], z: PyTree[Array], mask: Array) -> Array:
    return _total(model, model.score(x, z), set(Kind) - {Kind.OBSERVED}, mask)


def _draw_prior(model: Any, x: PyTree[Array]) -> Callable[[PRNGKeyArray], PyTree[Array]]:
    """The prior's draws; a stateful model's prior goes along x."""
    if isinstance(model, AbstractStateful):
        return proposed(model, FromPrior(), x).sample
    return model.sample_prior


_MANY_DRAWS = 4096  # of a law with ends
_MANY_ROWS = 4


def _held_against_histograms(
    setup: Setup, pair: Pair, batch: Batch, noise_key: PRNGKeyArray, key: PRNGKeyArray
) -> tuple[Float[np.ndarray, "rows draws"], Float[np.ndarray, "one draws"]]:
    """`histogram_over_density` of q(z | x) for a few rows, and of the prior."""
    keys = jax.random.split(jax.random.fold_in(key, 0xE17D5), _MANY_DRAWS)

    def drawn(draw, log_density, real):
        z = jax.vmap(draw)(keys)
        flat = jax.vmap(lambda z: ravel_pytree(z)[0])(z)
        return (
            flat,
            jax.lax.map(log_density, z, batch_size=256),
            real(jax.tree.map(lambda l: l[0], z)),
        )

    @jit_once
    def gather(model, proposal, batch):
        if setup.noise is not None:
            batch = setup.noise(batch, noise_key)
        few = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:_MANY_ROWS], (batch.x, batch.mask))

        def one_row(x, mask):
            q = proposed(model, proposal, x)
            of_q = (q.sample, lambda z: _log_proposal(model, q, z, mask))
            return drawn(*of_q, lambda z: _real_entries(model, x, z))

        x, mask = jax.tree.map(lambda leaf: leaf[0], few)
        of_prior = (_draw_prior(model, x), lambda z: _log_prior(model, x, z, mask))
        return jax.vmap(one_row)(*few), drawn(*of_prior, lambda z: _real_entries(model, x, z))

    of_q, of_prior = jax.tree.map(np.asarray, gather(*pair, batch))
    ratio = lambda flat, log_p, real: histogram_over_density(flat[:, real > 0], log_p)  # noqa: E731
    return np.stack([ratio(*row) for row in zip(*of_q, strict=True)]), ratio(*of_prior)[None]


def histogram_over_density(
    draws: Float[np.ndarray, "draws latent"],
    log_density: Float[np.ndarray, " draws"],
    *,
    num_bins: int = 16,
    tail: float = 0.25,
) -> Float[np.ndarray, " half"]:
    """h(z) / p(z) of the second half of the draws of p, where h is a density made of the first half: of
    every coordinate a histogram with bins that hold as many draws each, without `tail` over the number of
    coordinates, or a hundredth, at either end.

        E_p[h(z) / p(z)] = integral of h = 1

    for any density h that is 0 where p is (Gelfand & Dey 1994, eq. 9), whether p vanishes at its ends or
    not, and only where p is the density of the draws, its constant included.
    """
    first, second = np.array_split(np.asarray(draws, np.float64), 2)
    left_out = min(tail / first.shape[1], 0.01)
    edges = np.quantile(first, np.linspace(left_out, 1.0 - left_out, num_bins + 1), axis=0)
    log_h = np.zeros(len(second))
    for of_coordinate, values in zip(edges.T, second.T, strict=True):
        bins = np.searchsorted(of_coordinate, values) - 1
        inside = (bins >= 0) & (bins < num_bins)
        with np.errstate(divide="ignore"):  # a bin without a width has no density
            heights = -np.log(num_bins * np.diff(of_coordinate))
        log_h += np.where(inside, heights[np.clip(bins, 0, num_bins - 1)], -np.inf)
    with np.errstate(over="ignore", invalid="ignore"):  # -inf - -inf is NaN, and no number passes
        return np.exp(log_h - log_density[len(first) :])


def _mean_of(
    found: Float[np.ndarray, "rows latent"],
    real: Float[np.ndarray, "rows latent"],
    kept: Bool[np.ndarray, " latent"],
) -> Float[np.ndarray, " some"]:
    """The mean over entries that are real and kept, row by row; of no row where none is kept."""
    if not kept.any():
        return np.zeros(0)
    real = real[:, kept]
    return np.where(real > 0, found[:, kept], 0.0).sum(1) / real.sum(1)


def _is_discrete(draws: Float[np.ndarray, "rows draws latent"]) -> Bool[np.ndarray, " latent"]:
    """Whether a tenth of the draws of a coordinate equal another of their row, where a row has several
    values: real numbers do not meet, and a row without noise has one value."""
    ordered = np.sort(draws, axis=1)
    equal = np.diff(ordered, axis=1) == 0
    return ((equal.mean(1) > 0.1) & ~equal.all(1)).any(0)


def _sums_to_a_constant(
    draws: Float[np.ndarray, "rows draws latent"],
) -> Bool[np.ndarray, " latent"]:
    """Whether the coordinates of every draw have one sum, as those on a simplex have: then they have no
    density in all of them together. All coordinates, or none."""
    total = draws.sum(-1)
    size = np.abs(draws).sum(-1).max()
    constant = draws.shape[-1] > 1 and np.ptp(total) <= 1e-5 * size and np.ptp(draws) > 0
    return np.full(draws.shape[-1], bool(constant))


def _is_bounded(draws: Float[np.ndarray, "rows draws latent"]) -> Bool[np.ndarray, " latent"]:
    """Whether a law ends where its density does not vanish: of a row's 64 draws more than 1.25 % then lie
    within 2 % of their range from the smallest or the largest, which are not counted. Of a normal law it is
    0.4 %, of a uniform one 2 %. To call a law bounded that is not costs nothing: a histogram judges it, too."""
    ordered = np.sort(draws, axis=1)
    low, high = ordered[:, :1], ordered[:, -1:]
    near = 0.02 * (high - low)
    shares = [ordered[:, 1:] < low + near, ordered[:, :-1] > high - near]
    crowded = np.stack([share.mean((0, 1)) for share in shares]) > 0.0125
    return np.asarray(crowded.any(0) & (high > low).all((0, 1)))
