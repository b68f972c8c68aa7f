"""What a proposal and an output do at every step of held-out rows, for the report to draw."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.data.strokes import Strokes
from tightbound.estimators.estimate import Estimate
from tightbound.inference.stepwise import stepwise_pair
from tightbound.models.base import Distribution
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, Guided, as_vector

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

_ROWS, _SHOWN = 32, 3  # that the KL is averaged over; whose steps are drawn
_DRAWS = 256
_MOST_ENTRIES = 4  # of an observation that are shown one by one


class StepMoments(eqx.Module):
    """Along one draw of z from the proposal, at every step: q(z_t | ...), p(x_t | z_t, ...), and
    how far the former is from p(z_t | ...)."""

    latent_mean: Float[Array, "*steps latent"]
    latent_variance: Float[Array, "*steps latent"]
    output_mean: Float[Array, "*steps size"]
    output_variance: Float[Array, "*steps size"]
    kl: Float[Array, "*steps"]  # KL(q || p) in closed form, or log q - log p of the draw
    latent_kl: Float[Array, "*steps latent"] | None  # None where dimensions are not independent


def profile(setup: "Setup", state: "TrainState", key: PRNGKeyArray) -> dict[str, Any]:
    """The moments of a few held-out rows, and the KL of more of them by latent and by step, in nats."""
    model, proposal = stepwise_pair(state.model, setup.evaluated(state.proposal))
    valid = setup.data["valid"]
    noise_key, draw_key = jax.random.split(key)
    batch = valid.take(np.arange(min(_ROWS, len(valid))))
    if setup.noise is not None:
        batch = setup.noise(batch, noise_key)
    moments = jax.tree.map(np.asarray, along_draws(model, proposal, batch, draw_key))
    mask = np.asarray(batch.mask)
    split, busiest = valid.description, []
    by_latent = None
    if moments.latent_kl is not None:
        totals = np.where(mask[..., None], moments.latent_kl, 0.0).sum(1)
        busiest = np.argsort(-totals.mean(0), kind="stable").tolist()
        by_latent = [_estimate(totals[:, d], split).to_json() for d in range(totals.shape[1])]
    longest = int(batch.num_units.max())
    return {
        "split": split,
        "num_rows": len(mask),
        "kl": _estimate(np.where(mask, moments.kl, 0.0).sum(1), split).to_json(),
        "kl_by_latent": by_latent,
        "kl_by_step": _by_step(moments.kl[:, :longest], mask[:, :longest]),
        "entries": entry_names(batch),
        "rows": [
            _row(moments, batch, i, busiest or list(range(moments.latent_mean.shape[-1])))
            for i in range(min(_SHOWN, len(mask)))
        ],
    }


@eqx.filter_jit
def along_draws(
    model: AbstractStateful, proposal: AbstractStepwise, batch: Batch, key: PRNGKeyArray
) -> StepMoments:
    """`StepMoments` of every row; the keys come from `batch.rows`."""
    particle = Guided(model, proposal)

    def one(x: Sequence, row):
        draw_key = jax.random.fold_in(key, row)

        def step(state, inputs):
            guide, clock = inputs
            q = proposal.propose(model, state, guide.context, clock)
            p = model.prior(state, clock)
            z_key, q_key, x_key = jax.random.split(jax.random.fold_in(draw_key, clock), 3)
            z = q.sample(z_key)
            latent_mean, latent_variance = moments_of(q, q_key)
            output_mean, output_variance = moments_of(model.likelihood(state, z), x_key)
            by_latent = kl_by_latent(q, p)
            found = StepMoments(
                latent_mean=latent_mean,
                latent_variance=latent_variance,
                output_mean=output_mean,
                output_variance=output_variance,
                kl=q.log_prob(z) - p.log_prob(z) if by_latent is None else by_latent.sum(),
                latent_kl=by_latent,
            )
            return model.advance(state, z, guide.readings), found

        return jax.lax.scan(step, model.init(), (particle.inputs(x), jnp.arange(len(x.mask))))[1]

    return jax.vmap(one)(batch.x, jnp.asarray(batch.rows))


def moments_of(
    law: Distribution, key: PRNGKeyArray
) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
    """Mean and variance of every entry; of a law that does not say them, those of `_DRAWS` draws."""
    known: Any = law
    try:
        return as_vector(known.mean), as_vector(known.variance)
    except (AttributeError, NotImplementedError):  # it need only sample and score
        keys = jax.random.split(key, _DRAWS)
        draws = jax.vmap(lambda key: as_vector(law.sample(key)))(keys)
        return draws.mean(0), draws.var(0)


def kl_by_latent(q: Distribution, p: Distribution) -> Float[Array, " latent"] | None:
    """KL(q_d || p_d) in nats of independent Gaussians; None for others, whose KL is no such sum."""
    if not (isinstance(q, dist.Independent) and isinstance(p, dist.Independent)):
        return None
    if not (isinstance(q.base_dist, dist.Normal) and isinstance(p.base_dist, dist.Normal)):
        return None
    return dist.kl_divergence(q.base_dist, p.base_dist)


def entry_names(batch: Batch) -> list[str]:
    """The parts of an observation that are shown: each, or their sum where they are many."""
    values = batch.x.values
    if isinstance(values, Strokes):
        return ["dx", "dy", "pen"]
    size = int(np.prod(values.shape[2:]))
    return [f"x {i}" for i in range(size)] if size <= _MOST_ENTRIES else [f"sum of {size} entries"]


def _row(moments: StepMoments, batch: Batch, row: int, latents: list[int]) -> dict[str, Any]:
    length = int(batch.num_units[row])
    values = jax.tree.map(lambda leaf: np.asarray(leaf)[row, :length], batch.x.values)
    observed = np.asarray(jax.vmap(as_vector)(values))
    output = (moments.output_mean, moments.output_variance)
    mean, variance = (np.asarray(leaf)[row, :length] for leaf in output)
    if observed.shape[1] > _MOST_ENTRIES:  # independent given z, so that variances add
        observed, mean, variance = (
            np.sum(a, axis=1, keepdims=True) for a in (observed, mean, variance)
        )
    return {
        "row": int(batch.rows[row]),
        "latents": [
            {
                "latent": d,
                "mean": _numbers(np.asarray(moments.latent_mean)[row, :length, d]),
                "variance": _numbers(np.asarray(moments.latent_variance)[row, :length, d]),
            }
            for d in latents[:_MOST_ENTRIES]
        ],
        "outputs": [
            {
                "mean": _numbers(mean[:, i]),
                "scale": _numbers(np.sqrt(variance[:, i])),
                "observed": _numbers(observed[:, i]),
            }
            for i in range(mean.shape[1])
        ],
    }


def _by_step(
    kl: Float[np.ndarray, "rows time"], mask: Bool[np.ndarray, "rows time"]
) -> dict[str, Any]:
    """Mean over the rows that have the step, its standard error (NaN for one row), their number."""
    count = mask.sum(0)
    kept = np.where(mask, kl, 0.0)
    mean = kept.sum(0) / np.maximum(count, 1)
    squares = np.where(mask, (kept - mean) ** 2, 0.0).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(squares / (count - 1) / count)
    error = np.where(count > 1, error, np.nan)
    return {"mean": _numbers(mean), "error": _numbers(error), "rows": count.tolist()}


def _estimate(values: Float[np.ndarray, " rows"], split: str) -> Estimate:
    error = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return Estimate(float(values.mean()), error, None, "nats per sequence", "none", "kl", 1, split)


def _numbers(values: Float[np.ndarray, " time"]) -> list[float | None]:
    """Six digits of each; None, as JSON has no other, where one is not finite."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values.tolist()]
