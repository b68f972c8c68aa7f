"""The waist -> values fit for a table, in nats per sequence; the caller averages over sequences.

Pure functions without a model in sight. What is differentiated is in `surrogates.py`.
"""

from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from tightbound.estimators.estimate import Bound, Estimate
from tightbound.estimators.units import bits_per_unit, per_sequence, per_unit, perplexity
from tightbound.estimators.weights import log_mean_variance
from tightbound.terms import Site, StepTerms

BoundName = Literal["elbo", "iwae", "renyi", "cubo"]
Unit = Literal["nats per sequence", "nats per unit", "bits per unit", "perplexity"]


def elbo(log_weights: Float[Array, "samples batch"]) -> Float[Array, " batch"]:
    """Evidence lower bound on log p(x), in nats per sequence.

        L = 1/K sum_k log w_k,   log w_k = log p(x, z_k) - log q(z_k | x)

    Kingma & Welling 2014 (arXiv:1312.6114), eq. 2 and 5. E[L] = log p(x) - KL(q || posterior),
    whatever K; more samples only lower its variance. A single draw can lie above log p(x).

    One sample with zero weight (-inf) makes it -inf. NaN is passed on, not hidden.
    """
    return log_weights.mean(axis=0)


def iwae_bound(log_weights: Float[Array, "samples batch"]) -> Float[Array, " batch"]:
    """K-sample lower bound on log p(x), in nats per sequence.

        L_K = log 1/K sum_k w_k,   log w_k = log p(x, z_k) - log q(z_k | x)

    Burda et al. 2016 (arXiv:1509.00519), sec. 3, Theorem 1. One sample gives the ELBO. For a
    fixed proposal E[L_K] rises with K towards log p(x); a single draw can lie above it.

    A sample with zero weight (-inf) counts as zero; if all K are zero the bound is -inf.
    NaN is passed on, not hidden.
    """
    num_samples = log_weights.shape[0]
    return logsumexp(log_weights, axis=0) - jnp.log(num_samples)


def renyi_bound(
    log_weights: Float[Array, "samples batch"], alpha: float | int
) -> Float[Array, " batch"]:
    """Sampled variational Rényi bound of order alpha, in nats per sequence.

        L_alpha = 1 / (1 - alpha)  log 1/K sum_k w_k^(1 - alpha)

    Li & Turner 2016 (arXiv:1602.02311), sec. 3 (the bound) and 4.1 (its K-sample estimate).
    alpha = 0 is `iwae_bound`, the limit alpha -> 1 is `elbo`, alpha -> inf the smallest log w_k.

    For alpha >= 0 no draw exceeds the IWAE value of the same draws (a power mean of order at
    most 1), so the sampled value is a lower bound on log p(x) in expectation. It estimates
    L_alpha with bias: from below for alpha < 1, from above for alpha > 1. For alpha < 0 the exact
    L_alpha is an upper bound, but the sampled one, pushed down by Jensen, bounds nothing.

    A sample with zero weight (-inf) counts as zero for alpha < 1, and makes the value -inf from 1.
    """
    return _log_power_mean(log_weights, 1.0 - alpha)


def cubo(
    log_weights: Float[Array, "samples batch"], order: float | int = 2
) -> Float[Array, " batch"]:
    """Sampled chi upper bound of order n, in nats per sequence. The sampled value is NOT a bound.

        CUBO_n = 1/n  log 1/K sum_k w_k^n

    Dieng et al. 2017 (arXiv:1611.00328), sec. 2. With the expectation inside the log it is an
    upper bound on log p(x); with K draws in its place Jensen pushes it down, down to the ELBO
    for K = 1. No K makes it a bound: it is reported with `bound="none"`. What it is good for is
    its distance from `iwae_bound` on the same draws, which is 0 only if all weights are equal.

    A sample with zero weight (-inf) counts as zero; if all K are zero the value is -inf.
    """
    if order < 1:
        raise ValueError(
            f"`cubo` is the chi bound of order 1 or more, but `order` is {order}.\n"
            "Use `renyi_bound(log_weights, alpha=1 - order)` for powers below 1."
        )
    return _log_power_mean(log_weights, float(order))


def _log_power_mean(
    log_weights: Float[Array, "samples batch"], power: float
) -> Float[Array, " batch"]:
    """log of the power mean of the weights; power 1 is the IWAE bound, its limit 0 the ELBO."""
    if power == 0.0:
        return elbo(log_weights)
    return iwae_bound(power * log_weights) / power


def bound_estimate(
    log_weights: Float[Array | np.ndarray, "samples batch"],
    *,
    bound: BoundName,
    split: str,
    order: float | int | None = None,
    unit: Unit = "nats per sequence",
    num_units: Int[Array | np.ndarray, " batch"] | None = None,
) -> Estimate:
    """A bound averaged over sequences, as the number a table shows, with both its errors.

    `order` is the alpha of "renyi" or the n of "cubo". In nats per sequence the value is the
    bound itself (larger is better). In the other units it is the negative log-likelihood per unit
    (smaller is better), so a lower bound on log p(x) becomes an upper one.

    The error over draws comes from the draws themselves: the sample variance of log w over K for
    the ELBO, `log_mean_variance` for the others. One draw has none.

    `log_weights` may be chunks of a split, concatenated on the host.
    """
    if bound not in get_args(BoundName):
        raise ValueError(f"`bound` is {bound!r}, but it must be one of {get_args(BoundName)}.")
    if (order is not None) != (bound in ("renyi", "cubo")):
        raise ValueError(
            f"`order` is {order} for `bound={bound!r}`: 'renyi' needs one (its alpha), 'cubo' "
            "needs one (its n), 'elbo' and 'iwae' have none."
        )
    if unit != "nats per sequence" and num_units is None:
        raise ValueError(
            f"{unit!r} divides by the number of units, but `num_units` is missing.\n"
            "Pass the `num_units` of the same sequences, or ask for 'nats per sequence'."
        )
    values, power = _named_bound(jnp.asarray(log_weights), bound, order)
    host_weights = np.asarray(log_weights, np.float64)
    return _in_unit(
        np.asarray(values, np.float64),
        _draw_variance(host_weights, power),
        unit,
        None if num_units is None else np.asarray(num_units),
        # A power mean of order at most 1 never exceeds the mean, whose log has mean <= log p(x).
        claim="lower" if power <= 1.0 and bound != "cubo" else "none",
        estimator=_estimator_name(bound, order, len(host_weights)),
        num_samples=len(host_weights),
        split=split,
    )


def _named_bound(
    log_weights: Float[Array, "samples batch"], bound: BoundName, order: float | int | None
) -> tuple[Float[Array, " batch"], float]:
    """Its value per sequence, and the power of the weights whose mean it is."""
    if bound == "elbo" or order is None:
        return (elbo(log_weights), 0.0) if bound == "elbo" else (iwae_bound(log_weights), 1.0)
    if bound == "renyi":
        return renyi_bound(log_weights, order), 1.0 - order
    return cubo(log_weights, order), float(order)


def _draw_variance(
    log_weights: Float[np.ndarray, "samples batch"], power: float
) -> Float[np.ndarray, " batch"] | None:
    num_samples = len(log_weights)
    if num_samples == 1:
        return None
    if power == 0.0:
        with np.errstate(invalid="ignore"):  # a zero weight: the bound is -inf, its error NaN
            return log_weights.var(axis=0, ddof=1) / num_samples
    return log_mean_variance(power * log_weights) / power**2


def _in_unit(
    values: Float[np.ndarray, " batch"],
    draw_variance: Float[np.ndarray, " batch"] | None,
    unit: Unit,
    num_units: Int[np.ndarray, " batch"] | None,
    *,
    claim: Bound,
    estimator: str,
    num_samples: int,
    split: str,
) -> Estimate:
    if unit == "nats per sequence" or num_units is None:
        return per_sequence(
            values,
            draw_variance=draw_variance,
            bound=claim,
            estimator=estimator,
            num_samples=num_samples,
            split=split,
        )
    nats_per_unit = per_unit(
        -values,
        num_units,
        draw_variance=draw_variance,
        bound="upper" if claim == "lower" else claim,
        estimator=estimator,
        num_samples=num_samples,
        split=split,
    )
    if unit == "bits per unit":
        return bits_per_unit(nats_per_unit)
    return perplexity(nats_per_unit) if unit == "perplexity" else nats_per_unit


def _estimator_name(bound: BoundName, order: float | int | None, num_samples: int) -> str:
    if bound == "elbo":
        return "elbo"
    return f"{bound}-{num_samples}" if order is None else f"{bound}({order:g})-{num_samples}"


def filtering_log_marginal(terms: StepTerms) -> Float[Array, " batch"]:
    """Lower bound on log p(x) from a population of particles, in nats per sequence.

        log p^ = sum_t log sum_n W_{t-1,n} exp(increment_{t,n})

    Del Moral 2004, sec. 7.4; as a bound: Maddison et al. 2017 (arXiv:1705.09279), eq. 3 and
    Naesseth et al. 2018, Le et al. 2018. W_{t-1} are the normalised weights before step t: uniform
    where the step resampled, those after step t - 1 where it did not. Leaving out W is the usual
    mistake when resampling is adaptive. p^ is unbiased for p(x), so its log is a lower bound in
    expectation. Never resampled it is the IWAE bound of the summed increments; with one particle,
    resampled or not, the ELBO.

    Masked steps change nothing, not even where `resampled` is set or the increments are NaN. A
    step at which every particle has zero weight makes the bound -inf.
    """
    return _step_evidence_and_weights(terms)[0].sum(axis=0)


def _step_evidence_and_weights(
    terms: StepTerms,
) -> tuple[Float[Array, "time batch"], Float[Array, "time particles batch"]]:
    """Each step's log evidence, and the normalised log-weights after the step, in nats."""
    num_particles = terms.log_increments.shape[1]
    uniform = jnp.full_like(terms.log_increments[0], -jnp.log(num_particles))

    def one_step(log_weights, step):
        increments, resampled, real = step
        # Selected away before use too: a NaN in the padding would reach the gradient otherwise.
        increments = jnp.where(real[None], increments, 0.0)
        before = jnp.where(resampled[None], uniform, log_weights)
        evidence = logsumexp(before + increments, axis=0)
        dead = jnp.isneginf(evidence)[None]
        after = jnp.where(dead, uniform, before + increments - evidence[None])
        after = jnp.where(real[None], after, log_weights)
        return after, (jnp.where(real, evidence, 0.0), after)

    steps = (terms.log_increments, terms.resampled, terms.mask)
    return jax.lax.scan(one_step, uniform, steps)[1]


class FilteringDecomposition(eqx.Module):
    """The filtering bound as a sum: one weighted mean per site, and what weighting them costs.

    `site_means.sum(0) + reweighting` is the bound, in nats per sequence.
    """

    names: tuple[str, ...] = eqx.field(static=True)  # of the sites, in order
    site_means: Float[Array, "sites batch"]
    reweighting: Float[Array, " batch"]


def filtering_decomposition(terms: StepTerms) -> FilteringDecomposition:
    """Which site holds how much of the filtering bound, in nats per sequence.

        site mean   = sum_t sum_n W_{t,n} (log p - log q)_{t,n}
        reweighting = bound - sum of the site means  =  -sum_t KL(W_t || W_{t-1})

    with W_t the normalised weights after step t (a particle that the step ruled out counts for
    nothing, even at -inf). The second equality holds where the sites of a particle sum to its
    log increment; a filter with factors of its own (twisted, looking ahead) has them in the
    remainder too. With one particle, or equal weights throughout, `reweighting` is 0.

    Where the bound is -inf, `reweighting` is 0 and a site that ruled every particle out is -inf.
    """
    if not terms.sites:
        raise ValueError(
            "`filtering_decomposition` splits the bound by site, but these StepTerms have no "
            "sites.\nRun the filter so that it keeps them, or use `filtering_log_marginal`."
        )
    evidence, log_weights = _step_evidence_and_weights(terms)
    weights = jnp.where(terms.mask[:, None], jnp.exp(log_weights), 0.0)
    bound = evidence.sum(axis=0)
    means = jnp.stack([_weighted_total(site, weights) for site in terms.sites])
    remainder = jnp.where(jnp.isneginf(bound), 0.0, bound - means.sum(axis=0))
    return FilteringDecomposition(
        names=tuple(site.name for site in terms.sites), site_means=means, reweighting=remainder
    )


def _weighted_total(site: Site, weights: Float[Array, "time particles batch"]) -> Array:
    term = site.log_p if site.log_q is None else site.log_p - site.log_q
    weights = jnp.moveaxis(weights, 0, -1)  # particles batch time, as the site
    counts = site.mask & (weights > 0.0)
    return jnp.where(counts, weights * jnp.where(counts, term, 0.0), 0.0).sum(axis=(0, 2))
