"""Per-sequence nats -> one reported number in the unit a reader expects, with both its errors.

NumPy only. Corpus figures are sum over sum, so they do not depend on how the corpus was cut into
batches. In nats per sequence a model is quoted by its log p(x) (larger is better), in every other
unit by its negative log-likelihood (smaller is better); `in_unit` turns the sign.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Integer

from tightbound.estimators.estimate import Bound, Estimate

Unit = Literal[
    "nats per sequence",
    "nats per unit",
    "bits per unit",
    "perplexity",
    "nats per unit, mean over sequences",
]
TURNED: dict[Bound, Bound] = {"lower": "upper", "exact": "exact", "upper": "lower", "none": "none"}


def in_unit(
    log_p: Float[np.ndarray, " batch"],
    unit: Unit,
    *,
    num_units: Int[np.ndarray, " batch"] | None = None,
    draw_variance: Float[np.ndarray, " batch"] | None = None,
    bound: Bound,
    estimator: str,
    num_samples: int,
    split: str,
) -> Estimate:
    """log p(x) of every sequence (or a bound on it, in nats) as the number that `unit` asks for.

    `bound` is the side of log p(x) on which `log_p` lies. Every unit but nats per sequence quotes
    -log p(x), so there a lower bound becomes an upper one.
    """
    if unit == "nats per sequence":
        return per_sequence(
            log_p,
            draw_variance=draw_variance,
            bound=bound,
            estimator=estimator,
            num_samples=num_samples,
            split=split,
        )
    if num_units is None:
        raise ValueError(
            f"{unit!r} divides by the number of units, but `num_units` is missing.\n"
            "Pass the `num_units` of the same sequences, or ask for 'nats per sequence'."
        )
    if unit == "nats per unit, mean over sequences":
        return mean_over_sequences(
            -log_p, num_units, bound=TURNED[bound], estimator=estimator, num_samples=num_samples,
            split=split,
        )  # fmt: skip
    nats_per_unit = per_unit(
        -log_p,
        num_units,
        draw_variance=draw_variance,
        bound=TURNED[bound],
        estimator=estimator,
        num_samples=num_samples,
        split=split,
    )
    if unit == "bits per unit":
        return bits_per_unit(nats_per_unit)
    return perplexity(nats_per_unit) if unit == "perplexity" else nats_per_unit


def per_sequence(
    nats: Float[np.ndarray, " batch"],
    *,
    draw_variance: Float[np.ndarray, " batch"] | None = None,
    bound: Bound,
    estimator: str,
    num_samples: int,
    split: str,
) -> Estimate:
    """Mean of `nats` over sequences, in nats per sequence; for a model, its log p(x).

        standard_error = sd_b(n_b) / sqrt(B),   monte_carlo_error = sqrt(sum_b v_b) / B

    `draw_variance` is each sequence's variance over draws; sequences draw independently. The
    spread over sequences contains it, so the two errors are not to be added. One sequence has no
    standard error; no `draw_variance`, no Monte Carlo error. An infinite value has NaN errors.
    """
    ones = np.ones(len(nats), np.int64)
    estimate = per_unit(
        nats,
        ones,
        draw_variance=draw_variance,
        bound=bound,
        estimator=estimator,
        num_samples=num_samples,
        split=split,
    )
    return replace(estimate, unit="nats per sequence")


def per_unit(
    nats: Float[np.ndarray, " batch"],
    num_units: Int[np.ndarray, " batch"],
    *,
    draw_variance: Float[np.ndarray, " batch"] | None = None,
    bound: Bound,
    estimator: str,
    num_samples: int,
    split: str,
) -> Estimate:
    """Sum of `nats` over sum of `num_units`, in nats per unit (token, frame, character).

        R = sum_b n_b / sum_b u_b
        standard_error    = sqrt(B / (B - 1)  sum_b (n_b - R u_b)^2) / sum_b u_b
        monte_carlo_error = sqrt(sum_b v_b) / sum_b u_b

    The error is that of a ratio estimator, linearised: Cochran 1977, Sampling Techniques, sec.
    2.11. It is not the mean over sequences of n_b / u_b, which weighs a short sequence's unit
    more than a long one's. For a figure quoted as a negative log-likelihood give -log p(x); a
    lower bound on log p(x) is then an upper one.
    """
    total_units = num_units.sum()
    if total_units <= 0:
        raise ValueError(
            f"A figure per unit divides by the sum of `num_units`, which is {total_units} over "
            f"{len(num_units)} sequences.\n"
            "Give the number of real (unpadded) units of every sequence, or use `per_sequence`."
        )
    value = nats.sum() / total_units
    return Estimate(
        value=float(value),
        standard_error=standard_error(ratio_influence(nats, num_units)),
        monte_carlo_error=None
        if draw_variance is None
        else float(np.sqrt(draw_variance.sum()) / total_units),
        unit="nats per unit",
        bound=bound,
        estimator=estimator,
        num_samples=num_samples,
        split=split,
    )


def mean_over_sequences(
    nats: Float[np.ndarray, " batch"],
    num_units: Int[np.ndarray, " batch"],
    *,
    bound: Bound,
    estimator: str,
    num_samples: int,
    split: str,
) -> Estimate:
    """Mean over sequences of n_b / u_b: the average some papers report.

    A unit of a short sequence weighs more than one of a long one, so this is log p of no corpus; its
    exp is no perplexity. For comparison with figures made so, and for nothing else.
    """
    estimate = per_sequence(
        nats / num_units, bound=bound, estimator=estimator, num_samples=num_samples, split=split
    )
    return replace(estimate, unit="nats per unit, mean over sequences")


def bits_per_unit(nats_per_unit: Estimate) -> Estimate:
    """The same figure in bits: everything over log 2. Pixels as units give bits per dimension."""
    _require_nats_per_unit(nats_per_unit, "bits_per_unit")
    value, slope = nats_per_unit.value / np.log(2.0), 1.0 / np.log(2.0)
    return _rescaled(nats_per_unit, value, slope, "bits per unit")


def perplexity(nats_per_unit: Estimate) -> Estimate:
    """exp of the nats per unit, its errors by the delta method (times the perplexity itself).

    An upper bound on the negative log-likelihood gives an upper bound on the perplexity, and
    `bound` keeps saying so. Perplexities of different units cannot be compared (`compare`).
    """
    _require_nats_per_unit(nats_per_unit, "perplexity")
    value = float(np.exp(nats_per_unit.value))
    return _rescaled(nats_per_unit, value, value, "perplexity")


def ratio_influence(
    nats: Float[np.ndarray, " batch"], num_units: Int[np.ndarray, " batch"]
) -> Float[np.ndarray, " batch"]:
    """What each sequence moves the ratio R = sum n / sum u, times B, to first order.

        B (n_b - R u_b) / sum_b u_b

    Means zero. Differences of these, for two runs on the same rows, pair the runs.
    """
    with np.errstate(invalid="ignore"):  # inf - inf, where a sequence is impossible
        ratio = nats.sum() / num_units.sum()
        return len(nats) * (nats - ratio * num_units) / num_units.sum()


def standard_error(
    influence: Float[np.ndarray, " batch"], groups: Integer[np.ndarray, " batch"] | None = None
) -> float | None:
    """sd / sqrt(B) of the mean of independent values; None where there is one only.

    With `groups` (writers, speakers) only values of different groups are independent:

        sqrt(G / (G - 1)  sum_g (sum_{b in g} i_b - mean)^2) / B

    the cluster-robust error of a mean (Liang & Zeger 1986). With few groups it is itself uncertain:
    of G groups it has G - 1 degrees of freedom. One group has no error.
    """
    sums = influence - influence.mean()
    if groups is not None:
        sums = np.bincount(np.unique(groups, return_inverse=True)[1], weights=sums)
    if len(sums) < 2:
        return None
    with np.errstate(invalid="ignore"):
        return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(influence))


def _require_nats_per_unit(estimate: Estimate, function: str) -> None:
    if estimate.unit != "nats per unit":
        raise ValueError(
            f"`{function}` converts an Estimate in nats per unit, but this one is in "
            f"{estimate.unit}.\nMake it with `per_unit(nats, num_units)`."
        )


def _rescaled(estimate: Estimate, value: float, slope: float, unit: str) -> Estimate:
    def scaled(error: float | None) -> float | None:
        return None if error is None else float(error * slope)

    return replace(
        estimate,
        value=float(value),
        standard_error=scaled(estimate.standard_error),
        monte_carlo_error=scaled(estimate.monte_carlo_error),
        unit=unit,
    )
