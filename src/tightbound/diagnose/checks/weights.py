"""TB3xx: are the importance weights good enough for what they are used for?  From log-weights alone."""

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run
from tightbound.estimators.weights import ess_fraction, pareto_shape

WEIGHTS_NOT_FINITE = Cause(
    "weights_not_finite",
    "A log-weight is NaN or plus infinity.",
    "Find the site that is not finite; floor scales and mask by selection.",
)
WEIGHTS_NORMALISED = Cause(
    "weights_were_normalised",
    "The log-weights of every row sum to one as weights: they were normalised, and the evidence was "
    "thrown away with the normaliser.",
    "Save log p(x, z) - log q(z | x) itself.",
)


def weights_are_finite(log_weights: Float[np.ndarray, "samples rows"] | None) -> Finding:
    """TB301. Is every log-weight a number or -inf (a weight of zero)?  Measured: how many are not."""
    code, check = "TB301", "weights_are_finite"
    if log_weights is None or log_weights.size == 0:
        return not_run(code, check, "no log-weights were given")
    bad = np.isnan(log_weights) | (log_weights == np.inf)
    all_zero = (log_weights == -np.inf).all(axis=0)
    count = int(bad.sum()) + int(all_zero.sum())
    rows = np.flatnonzero(bad.any(0) | all_zero)[:5]
    where = f"rows {', '.join(map(str, rows))}" if count else "all rows"
    return Finding(
        code,
        check,
        Verdict.FAULT if count else Verdict.OK,
        float(count),
        0.0,
        "log-weights",
        where,
        f"{count} log-weights are NaN, +inf, or zero in all draws of a row."
        if count
        else "Every row has a finite weight.",
        (WEIGHTS_NOT_FINITE,) if count else (),
    )


def weights_keep_the_evidence(
    log_weights: Float[np.ndarray, "samples rows"] | None, *, tolerance: float = 1e-4
) -> Finding:
    """TB302. Were the weights normalised over samples?  Measured: the largest |log of their sum| (or
    of their mean, whichever is less) over rows, in nats.

    Within `tolerance` in every row is no coincidence; in a single row it may be: undecided.
    """
    code, check = "TB302", "weights_keep_the_evidence"
    if log_weights is None or log_weights.size == 0 or len(log_weights) < 2:
        return not_run(code, check, "needs at least two samples per row")
    top = log_weights.max(0)
    if not np.isfinite(top).all():
        return not_run(code, check, "some rows have no finite weight")
    log_sum = top + np.log(np.exp(log_weights - top).sum(0))
    measured = float(np.abs(log_sum).max())
    measured = min(measured, float(np.abs(log_sum - np.log(len(log_weights))).max()))
    normalised = measured <= tolerance
    fault = normalised and log_weights.shape[1] > 1
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.UNDECIDED if normalised else Verdict.OK,
        measured,
        tolerance,
        "nats",
        "log of the sum (or mean) of the weights of each row",
        "The weights of every row sum to one (or to their number)."
        if normalised
        else "The weights are not normalised.",
        (WEIGHTS_NORMALISED,) if fault else (),
    )


def draws_differ(
    log_weights: Float[np.ndarray, "samples rows"] | None, *, has_latents: bool = True
) -> Finding:
    """TB303. Do the draws of a row have different weights?  Measured: the largest range, in nats.

    Undecided where none differ: an exact posterior does that too. Not run where nothing is drawn.
    """
    code, check = "TB303", "draws_differ"
    if not has_latents:
        return not_run(code, check, "the model has no latents: every weight is log p(x) itself")
    if log_weights is None or len(log_weights) < 2:
        return not_run(code, check, "needs at least two samples per row")
    if not (log_weights < np.inf).all():
        return not_run(code, check, "some log-weights are NaN or +inf")
    finite = np.isfinite(log_weights).all(axis=0)
    if not finite.any():
        return not_run(code, check, "no row has finite weights only")
    spread = float(np.ptp(log_weights[:, finite], axis=0).max())
    same = spread == 0.0
    return Finding(
        code,
        check,
        Verdict.UNDECIDED if same else Verdict.OK,
        spread,
        0.0,
        "nats",
        "range of the log-weights of one row",
        "All draws of a row have one weight: the proposal is exact, or there is only one draw."
        if same
        else f"Log-weights of one row range over up to {spread:.3g} nats.",
    )


def tails_are_light_enough(
    log_weights: Float[np.ndarray, "samples rows"] | None,
    *,
    share: float = 0.1,
    first_draws: int = 200,
) -> Finding:
    """TB304. Can means under these weights be trusted?  PSIS k-hat per row (Vehtari et al. 2024,
    arXiv:1507.02646), good below min(1 - 1 / log10 S, 0.7).

    For whoever saves many weights of one row, to estimate log p(x) or to average under them. Measured:
    the share of rows that are not below (ties hide the tail, and count). Never a FAULT: heavy tails are
    a property of the proposal, and a bound stays a bound. More than `share` of the rows is UNDECIDED.
    Assumes independent draws, and enough of them: k-hat has a standard error of (1 + k) / sqrt(M), M
    the number of draws in the tail, which is a quarter only from `first_draws` draws on. Not run below.
    """
    code, check = "TB304", "tails_are_light_enough"
    if log_weights is None or log_weights.size == 0 or len(log_weights) < first_draws:
        given = 0 if log_weights is None else len(log_weights)
        reason = f"{given} draws per row say nothing of a tail: evaluate with {first_draws} or more"
        return not_run(code, check, reason)
    if not np.isfinite(log_weights).all():
        return not_run(code, check, "some log-weights are not finite")
    good = min(1 - 1 / np.log10(len(log_weights)), 0.7)
    shape = pareto_shape(log_weights)
    measured = float(1 - (shape <= good).mean())
    efficiency = float(np.mean(ess_fraction(log_weights)))
    heavy = measured > share
    return Finding(
        code,
        check,
        Verdict.UNDECIDED if heavy else Verdict.OK,
        measured,
        share,
        "of rows",
        f"k-hat above {good:.2f}, {len(log_weights)} samples",
        f"{measured:.0%} of rows have heavy-tailed weights; the effective sample size is "
        f"{efficiency:.0%} of the samples."
        + (
            " Read the mean as a lower bound, not as log p(x); more draws or a wider proposal (train it "
            "with IWAE or wake-sleep) would close the gap."
            if heavy
            else ""
        ),
    )
