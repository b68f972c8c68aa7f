"""The waist -> values fit for a table, in nats per sequence; the caller averages over sequences.

Pure functions without a model in sight. What is differentiated is in `surrogates.py`.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from tightbound.estimators.estimate import Bound, Estimate
from tightbound.estimators.units import Unit, in_unit
from tightbound.estimators.weights import log_mean_variance
from tightbound.terms import Kind, LogTerms, Site, StepTerms

BoundName = Literal["elbo", "iwae", "renyi", "cubo", "fivo"]


def elbo(log_weights: Float[Array, "samples batch"]) -> Float[Array, " batch"]:
    """Evidence lower bound on log p(x), in nats per sequence.

        L = 1/K sum_k log w_k,   log w_k = log p(x, z_k) - log q(z_k | x)

    Kingma & Welling 2014 (arXiv:1312.6114), eq. 2 and 6. E[L] = log p(x) - KL(q || posterior),
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
    num_particles: int | None = None,
    kind: Bound = "lower",
) -> Estimate:
    """A bound averaged over sequences, as the number a table shows, with both its errors.

    `order` is the alpha of "renyi" or the n of "cubo". Of "fivo", every draw is the log p-hat of one
    filter with `num_particles`, and the bound is their mean. In nats per sequence the value is the
    bound itself (larger is better). In the other units it is the negative log-likelihood per unit
    (smaller is better), so a lower bound on log p(x) becomes an upper one.

    `kind` is what the weights are of log p(x), as `Evaluation.kind_of_bound` says. Where they are "exact"
    (nothing was drawn) the number is log p(x) in every unit, whichever bound was asked for, without
    draws and without an error over them; "none" bounds nothing.

    The error over draws comes from the draws themselves: the sample variance of log w over K for
    the ELBO, `log_mean_variance` for the others. One draw has none.

    `log_weights` may be chunks of a split, concatenated on the host.
    """
    if (bound == "fivo") != (num_particles is not None):
        raise ValueError(
            f"`bound` is {bound!r} and `num_particles` is {num_particles}: 'fivo' is of filters with "
            "so many particles, the other bounds are of independent draws. Give both or neither."
        )
    values, power = _named_bound(jnp.asarray(log_weights), bound, order)
    host_weights = np.asarray(log_weights, np.float64)
    num_samples = len(host_weights)
    suffix = "" if order is None else f"({order:g})"
    name = "elbo" if bound == "elbo" else f"{bound}{suffix}-{num_particles or num_samples}"
    # A power mean of order at most 1 never exceeds the mean, whose log has mean <= log p(x).
    bounds = power <= 1.0 and bound != "cubo"
    exact = kind == "exact"
    return in_unit(
        np.asarray(values, np.float64),
        unit,
        num_units=None if num_units is None else np.asarray(num_units),
        draw_variance=None if exact else _draw_variance(host_weights, power),
        bound=kind if exact or bounds else "none",
        estimator="log_marginal" if exact else name,
        num_samples=0 if exact else num_samples,
        split=split,
    )


def _named_bound(
    log_weights: Float[Array, "samples batch"], bound: BoundName, order: float | int | None
) -> tuple[Float[Array, " batch"], float]:
    """The bound of every sequence, and the power of the weights whose mean it is the log of."""
    match bound, order:
        case (("elbo" | "fivo"), None):
            return elbo(log_weights), 0.0
        case "iwae", None:
            return iwae_bound(log_weights), 1.0
        case "renyi", float() | int():
            return renyi_bound(log_weights, order), 1.0 - order
        case "cubo", float() | int():
            return cubo(log_weights, order), float(order)
    raise ValueError(
        f"`bound={bound!r}` with `order={order}` names no bound.\n"
        "Use 'elbo', 'iwae' or 'fivo' without an order, or 'renyi' (its alpha) or 'cubo' (its n) with one."
    )


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


def filtering_log_marginal(terms: StepTerms) -> Float[Array, " batch"]:
    """Lower bound on log p(x) from a population of particles, in nats per sequence.

        log p^ = sum_t log sum_n W_{t-1,n} exp(increment_{t,n})

    Maddison et al. 2017 (arXiv:1705.09279), Algorithm 1. W_{t-1} are the normalised weights before
    step t: uniform where the step resampled, those after step t - 1 where it did not. Leaving W
    out is the usual mistake when resampling is adaptive. p^ is unbiased for p(x) (Del Moral 2004,
    Theorem 7.4.2), so its log is a lower bound in expectation; a single run can lie above it.
    Never resampled it is the IWAE bound of the summed increments; with one particle, resampled or
    not, the ELBO.

    Masked steps change nothing, not even where `resampled` is set or the increments are NaN. A
    step at which every particle has zero weight makes the bound -inf.
    """
    return step_evidence_and_weights(terms)[0].sum(axis=0)


def step_evidence_and_weights(
    terms: StepTerms,
) -> tuple[Float[Array, "time batch"], Float[Array, "time particles batch"]]:
    """Each step's log evidence, and the normalised log-weights after the step, in nats."""
    # Particles last: a sum over the first axis of (10,000, 1) is ten times slower on a CPU.
    by_particle = jnp.swapaxes(terms.log_increments, 1, 2)
    uniform = jnp.full_like(by_particle[0], -jnp.log(by_particle.shape[-1]))

    def one_step(log_weights, step):
        increments, resampled, real = step
        # Selected away before use too: a NaN in the padding would reach the gradient otherwise.
        increments = jnp.where(real[:, None], increments, 0.0)
        before = jnp.where(resampled[:, None], uniform, log_weights)
        evidence = logsumexp(before + increments, axis=-1)
        dead = jnp.isneginf(evidence)[:, None]
        after = jnp.where(dead, uniform, before + increments - evidence[:, None])
        after = jnp.where(real[:, None], after, log_weights)
        return after, (jnp.where(real, evidence, 0.0), after)

    steps = (by_particle, terms.resampled, terms.mask)
    evidence, log_weights = jax.lax.scan(one_step, uniform, steps)[1]
    return evidence, jnp.swapaxes(log_weights, 1, 2)


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
    evidence, weights = _evidence_and_site_weights(terms)
    bound = evidence.sum(axis=0)
    means = jnp.stack([_weighted_total(site, weights) for site in terms.sites])
    remainder = jnp.where(jnp.isneginf(bound), 0.0, bound - means.sum(axis=0))
    return FilteringDecomposition(
        names=tuple(site.name for site in terms.sites), site_means=means, reweighting=remainder
    )


def filtering_terms(terms: StepTerms) -> LogTerms:
    """The filtering bound as scored sites of one draw: what `LogTerms` are to independent draws.

    Every site is its weighted mean over the particles, step by step, as in
    `filtering_decomposition`; the auxiliary site "reweighting" holds the rest of each step's
    evidence, so the log-weight of the record is the bound.
    """
    evidence, weights = _evidence_and_site_weights(terms)
    mask = terms.mask.T[None]

    def mean(term: Float[Array, "particles batch time"], counts) -> Float[Array, "1 batch time"]:
        return (weights * jnp.where(counts, term, 0.0)).sum(0, keepdims=True)

    sites, total = [], jnp.zeros_like(mask, evidence.dtype)
    for site in terms.sites:
        counts = site.mask & (weights > 0.0)
        log_p = mean(site.log_p, counts)
        log_q = None if site.log_q is None else mean(site.log_q, counts)
        sites.append(Site(site.name, site.kind, log_p, log_q, mask))
        total = total + (log_p if log_q is None else log_p - log_q)
    by_time = evidence.T[None]
    rest = jnp.where(jnp.isneginf(by_time), 0.0, by_time - total)
    sites.append(Site("reweighting", Kind.AUXILIARY, rest, None, mask))
    return LogTerms(sites=tuple(sites), num_units=terms.num_units)


def _evidence_and_site_weights(
    terms: StepTerms,
) -> tuple[Float[Array, "time batch"], Float[Array, "particles batch time"]]:
    """Each step's log evidence, in nats, and the normalised weights after it, 0 at padding."""
    if not terms.sites:
        raise ValueError(
            "`filtering_decomposition` splits the bound by site, but these StepTerms have no "
            "sites.\nRun the filter so that it keeps them, or use `filtering_log_marginal`."
        )
    if any(site.log_p.shape[-1] != terms.mask.shape[0] for site in terms.sites):
        raise ValueError(
            f"`filtering_decomposition` weighs every step, but of {terms.mask.shape[0]} steps the "
            f"sites have {[(site.name, site.log_p.shape[-1]) for site in terms.sites]}.\n"
            "Give every site one position per step, masked where it has nothing to score."
        )
    evidence, log_weights = step_evidence_and_weights(terms)
    weights = jnp.where(terms.mask[:, None], jnp.exp(log_weights), 0.0)
    return evidence, jnp.moveaxis(weights, 0, -1)  # as the sites


def _weighted_total(
    site: Site, weights: Float[Array, "particles batch time"]
) -> Float[Array, " batch"]:
    term = site.log_p if site.log_q is None else site.log_p - site.log_q
    counts = site.mask & (weights > 0.0)
    return (weights * jnp.where(counts, term, 0.0)).sum(axis=(0, 2))
