"""What a set of log-weights says about the proposal that drew it.

NumPy and SciPy only: the same functions judge weights saved by any framework, without JAX.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

# A tail whose log-weights differ by less than this many units in the last place is rounding.
ROUNDING = 64
# A weight below this share of the largest is nothing: the tail's fit divides by such differences.
NEGLIGIBLE = 1e-290


def normalised_weights(
    log_weights: Float[np.ndarray, "samples batch"],
) -> Float[np.ndarray, "samples batch"]:
    """w_k / sum_j w_j: nonnegative numbers that sum to 1 over the samples of each sequence.

    Their expectation under q is biased for K < infinity; no bound can be computed from them,
    because the normaliser, which is the evidence, is gone.

    A sample with zero weight (-inf) gets 0. Where all K have zero weight there is nothing to
    normalise and the result is NaN; NaN is passed on.
    """
    with np.errstate(invalid="ignore"):  # -inf - -inf, where all K weights are zero
        return np.exp(log_weights - logsumexp(log_weights, axis=0, keepdims=True))


def ess(log_weights: Float[np.ndarray, "samples batch"]) -> Float[np.ndarray, " batch"]:
    """Effective sample size, from 1 (one sample holds all the weight) to K (all weights equal).

        ESS = (sum_k w_k)^2 / sum_k w_k^2

    Kong 1992. It is computed from the weights that were drawn, so it cannot see a mode of the
    posterior that q never visits. One sample gives 1. All weights zero gives NaN.
    """
    return 1.0 / np.square(normalised_weights(log_weights)).sum(axis=0)


def ess_fraction(log_weights: Float[np.ndarray, "samples batch"]) -> Float[np.ndarray, " batch"]:
    """`ess` over the number of samples K: 1 / K at worst, 1 at best."""
    return ess(log_weights) / log_weights.shape[0]


def log_mean_variance(
    log_weights: Float[np.ndarray, "samples batch"],
) -> Float[np.ndarray, " batch"]:
    """Variance over draws of log 1/K sum_k w_k, in squared nats, to first order in 1/K.

        Var = K / (K - 1)  sum_k (w~_k - 1/K)^2,   w~_k = w_k / sum_j w_j

    The delta method: the sample variance of the weights over K times their squared mean. With
    heavy-tailed weights it is too small, as every estimate from the same draws is
    (`pareto_shape` tells). It needs two samples; one gives NaN.
    """
    num_samples = log_weights.shape[0]
    if num_samples == 1:
        return np.full(log_weights.shape[1], np.nan)
    spread = np.square(normalised_weights(log_weights) - 1.0 / num_samples).sum(axis=0)
    return num_samples / (num_samples - 1) * spread


def pareto_shape(
    log_weights: Float[np.ndarray, "samples batch"],
) -> Float[np.ndarray, " batch"]:
    """Tail index k of each sequence's weights: how many of their moments exist is about 1 / k.

    A generalised Pareto distribution is fitted to the largest min(K / 5, 3 sqrt(K)) weights of
    each sequence. Vehtari et al. 2024 (arXiv:1507.02646), sec. 3; the fit is arviz-stats',
    whose weak prior pulls k towards 1/2 when K is small. Weights are trustworthy below
    min(1 - 1 / log10(K), 0.7). It is per datum: pooled over a batch it means nothing for an
    amortised proposal.

    Equal weights in the tail have no tail to fit and give -inf. Fewer positive weights than the
    tail needs give +inf: nothing computed from them can be trusted. Ties that hide the tail (a
    proposal over a few discrete values) and NaN weights give NaN.
    """
    # Not at the top: it costs half a second, and the other functions here do not need it.
    from arviz_stats.base.array import array_stats

    num_samples = log_weights.shape[0]
    if num_samples < 25:
        raise ValueError(
            "`pareto_shape` fits the largest fifth of the weights and needs at least 25 samples "
            f"per sequence, but `log_weights` has shape {log_weights.shape}.\n"
            "Raise `num_samples` in `weigh(...)`, or use `ess`, which works from 2 samples."
        )
    special = _shape_without_a_fit(log_weights)
    fitted = np.isfinite(special)
    shape = np.where(fitted, np.nan, special)
    if fitted.any():
        # `psislw` is written for leave-one-out log-likelihoods, whose negatives are log-weights.
        negative = -log_weights[:, fitted].astype(np.float64)
        shape[fitted] = array_stats.psislw(negative, axis=0)[1]
    return shape


def _shape_without_a_fit(
    log_weights: Float[np.ndarray, "samples batch"],
) -> Float[np.ndarray, " batch"]:
    """`pareto_shape` of the sequences that have no tail to fit; 0 where a fit is to be made."""
    num_samples = log_weights.shape[0]
    tail_size = int(min(num_samples / 5, 3 * np.sqrt(num_samples)))
    ordered = np.sort(log_weights.astype(np.float64), axis=0)
    cutoff, tail = ordered[-tail_size - 1], ordered[-tail_size:]
    largest, lower_quartile = tail[-1], tail[int(tail_size / 4 + 0.5) - 1]
    rounding = ROUNDING * np.finfo(log_weights.dtype).eps * np.maximum(1.0, np.abs(largest))
    with np.errstate(invalid="ignore"):  # inf - inf: all weights zero, or one infinite
        too_few = ~(lower_quartile - largest > np.log(NEGLIGIBLE)) & ~np.isposinf(largest)
        flat = largest - tail[0] <= rounding
        # The fit divides by the excess of the tail's lower quartile over the cutoff.
        has_excess = np.exp(lower_quartile - largest) > np.exp(cutoff - largest)
    shape = np.where(has_excess, 0.0, np.nan)
    shape = np.where(flat, -np.inf, shape)
    shape = np.where(too_few, np.inf, shape)
    return np.where(np.isnan(log_weights).any(axis=0), np.nan, shape)
