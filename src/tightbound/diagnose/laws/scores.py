"""Is what draws also what scores? Stein's identity for the proposal and for the prior, on the real model."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, PRNGKeyArray

from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.laws.mixtures import (
    centred,
)
from tightbound.diagnose.laws.rows import REPEATS, few_points
from tightbound.diagnose.laws.twin import has_real_latents
from tightbound.diagnose.probes import Pair, goes_along, probe_batches, repeated
from tightbound.inference.weigh import proposal_score
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
        moved, along = jax.vmap(lambda z, sign: jax.jvp(field, (z,), (sign,)))(flat[half], signs)
        found = (moved * slope[half] + signs * along).mean(0)
        return found, real, flat

    def real_entries(x, z):
        """1 for every entry of one z, flattened, that stands at a real step of x; 0 at padding."""

        def of_leaf(leaf):
            if not goes_along(model, x, z):
                return jnp.ones_like(leaf)
            return jnp.broadcast_to(x.mask.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape) * 1.0

        return ravel_pytree(jax.tree.map(of_leaf, z))[0]

    def total(terms, kinds, mask):
        return sum(
            jnp.where(mask_of(mask, terms[n].shape[-1]), terms[n], 0.0).sum()
            for n, kind in model.kinds.items()
            if n in terms and kind in kinds
        )

    @jit_once
    def gather(model, proposal, batch):
        if setup.noise is not None:
            batch = setup.noise(batch, noise_key)

        mask = jnp.asarray(batch.mask)

        def one_row(x, mask, row):
            q = proposed(model, proposal, x)
            z = jax.vmap(q.sample)(jax.random.split(jax.random.fold_in(q_key, row), num_draws))
            log_q = lambda z: total(proposal_score(model, q, z), set(Kind), mask)  # noqa: E731
            observed = lambda z: total(model.score(x, z), {Kind.OBSERVED}, mask)  # noqa: E731
            real = real_entries(x, jax.tree.map(lambda leaf: leaf[0], z))
            sign_key = jax.random.fold_in(q_key, -1 - row)
            return *identity(q, log_q, z, real, sign_key), jnp.ptp(jax.vmap(observed)(z))

        x0 = jax.tree.map(lambda leaf: leaf[0], batch.x)
        latent = {kind for kind in Kind if kind is not Kind.OBSERVED}
        log_prior = lambda z: total(model.score(x0, z), latent, mask[0])  # noqa: E731
        draw_prior = model.sample_prior
        if isinstance(model, AbstractStateful):  # whose prior goes along x
            draw_prior = proposed(model, FromPrior(), x0).sample

        def one_repeat(key):
            z = jax.vmap(draw_prior)(jax.random.split(key, num_draws))
            real = real_entries(x0, jax.tree.map(lambda z: z[0], z))
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
    ends = (_is_bounded(_standardised(drawn)) | _sums_to_a_constant(drawn)) & ~discrete
    bounded = (bounded | _sums_to_a_constant(prior_drawn)) & ~prior_discrete
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
    )


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


def _standardised(
    draws: Float[np.ndarray, "rows draws latent"],
) -> Float[np.ndarray, "rows draws latent"]:
    """Every row's draws less their median, over the width of their middle half: rows have laws of their own,
    which only then can be pooled."""
    low, middle, high = np.quantile(draws, [0.25, 0.5, 0.75], axis=1, keepdims=True)
    return (draws - middle) / np.where(high > low, high - low, 1.0)


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
    """Whether a law ends where its density does not vanish: more than 0.3 % of its draws then lie within
    2 % of their range from an end. Of a normal law it is one in a thousand or fewer."""
    ordered = np.sort(draws.reshape(-1, draws.shape[-1]), axis=0)
    low, high = ordered[0], ordered[-1]
    near = 0.02 * (high - low)
    shares = np.stack([(ordered < low + near).mean(0), (ordered > high - near).mean(0)])
    return (high > low) & (shares > 0.003).any(0)
