"""TB122: a filter's estimate of p(x) against p(x) itself."""

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.evidence import Filters
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

WEIGHTS_KEPT = Cause(
    "weights_kept_after_resampling",
    "Particles are resampled and keep their weights, so that what a weight has said is counted again at "
    "the next step.",
    "Give every particle the weight 1/N after resampling.",
)
NOT_GATHERED = Cause(
    "particles_not_gathered",
    "The weights are reset, or put in the ancestors' order, while the particles stay where they are.",
    "Take every leaf of a particle's state from its ancestor, in the step that resets the weights.",
)
NORMALISER_DROPPED = Cause(
    "normaliser_dropped",
    "Resampling throws away the mean weight that it resets: only the steps since then are in the estimate.",
    "Before resampling add the log of the mean weight to log p-hat.",
)
SCORES_DISAGREE = Cause(
    "steps_disagree_with_marginal",
    "The library's own filter is biased, too: the steps, the proposal's density and `log_marginal` are not "
    "of one model.",
    "Compare log_marginal(x) with a sum or an integral over z of `score` on a sequence of one step.",
)
_NO_FILTER = "the run has no filter, or neither its model nor its twin a `log_marginal`"


def filter_evidence_is_unbiased(
    filters: Filters | None,
    *,
    tolerance: float = 0.02,
    num_errors: float = 6.0,
    largest_spread: float = 1.5,
    cap: float = 20.0,
) -> Finding:
    """TB122. Is E[p-hat(x)] = p(x), for the filters that train and evaluate?  Oracle: `log_marginal`.

    Measured: how far the mean of p-hat / p is from 1, of the filter that is furthest. Fault beyond
    `tolerance` and `num_errors` standard errors over draws, where log p-hat spreads by at most
    `largest_spread` nats: only then has a mean of few draws a law that is known. Whatever the spread,
    fault where the mean of ratios capped at `cap` is above 1 by so much: capping only lowers it. Undecided
    at a larger spread, where an error is above a tenth, and where an estimate is not a number.
    Assumes independent draws, and a `log_marginal` that is right.
    """
    code, check = "TB122", "filter_evidence_is_unbiased"
    if filters is None or filters.log_ratio.size == 0 or filters.log_ratio.shape[-1] < 2:
        return not_run(code, check, _NO_FILTER if filters is None else "fewer than two draws")
    known = bool(np.isfinite(filters.log_p).all())
    judged = []
    for source, log_ratio in zip(filters.sources, filters.log_ratio, strict=True):
        log_ratio = log_ratio if known else np.full_like(log_ratio, np.nan)
        mean, error, spread = _mean_ratio(log_ratio, cap=cap, largest_spread=largest_spread)
        threshold = max(tolerance, num_errors * error)
        above = mean - 1.0 > threshold
        below = 1.0 - mean > threshold and spread <= largest_spread
        if above or below:
            verdict = Verdict.FAULT
        elif spread <= largest_spread and error <= 0.1 and np.isfinite(mean):
            verdict = Verdict.OK
        else:
            verdict = Verdict.UNDECIDED
        judged.append((verdict, str(source), mean, error, spread, threshold))
    order = [Verdict.FAULT, Verdict.UNDECIDED, Verdict.OK]
    verdict = min((found[0] for found in judged), key=order.index)
    # Of the filters with the worst verdict the first: if the library's own is biased, so is what it is made of.
    _, source, mean, error, spread, threshold = next(f for f in judged if f[0] is verdict)
    causes = (WEIGHTS_KEPT, NOT_GATHERED, NORMALISER_DROPPED)
    if source == filters.sources[0]:
        causes = (SCORES_DISAGREE,)
    elif (mean > 1.0) != (
        filters.log_p.mean() > 0.0
    ):  # what is counted twice goes the way of log p
        causes = causes[::-1]
    meaning = f"The estimate of {source} is {mean:.4g} ± {error:.2g} times p(x) in the mean."
    if verdict is Verdict.UNDECIDED:
        meaning = (
            f"The estimate of {source} is not a number."
            if not np.isfinite(spread)
            else f"log p-hat of {source} spreads by {spread:.3g} nats: use more particles, or shorter sequences, "
            "for its mean to be compared."
        )
    return Finding(
        code,
        check,
        verdict,
        abs(mean - 1.0),
        threshold,
        "of p(x)",
        f"{source}, {filters.log_ratio.shape[1]} held-out rows, {filters.num_steps} steps, "
        f"{filters.num_particles} particles, {filters.log_ratio.shape[2]} draws of each",
        meaning,
        causes if verdict is Verdict.FAULT else (),
    )


def _mean_ratio(
    log_ratio: Float[np.ndarray, "rows draws"], *, cap: float, largest_spread: float
) -> tuple[float, float, float]:
    """Mean of the ratios and its standard error, capped where they spread further than can be averaged;
    and the largest spread of a row's log ratios, infinite where an estimate is 0. All NaN where a ratio is
    NaN or infinite."""
    if np.isnan(log_ratio).any() or np.isposinf(log_ratio).any():
        return float("nan"), float("nan"), float("nan")
    with np.errstate(over="ignore", invalid="ignore"):  # exp of a large ratio; -inf less -inf
        spread = float(log_ratio.std(-1, ddof=1).max()) if np.isfinite(log_ratio).all() else np.inf
        ratio = np.exp(np.minimum(log_ratio, np.log(cap))) if spread > largest_spread else None
        ratio = np.exp(np.minimum(log_ratio, 300.0)) if ratio is None else ratio
    errors = ratio.std(-1, ddof=1) / np.sqrt(ratio.shape[-1])
    return float(ratio.mean()), float(np.sqrt((errors**2).mean() / len(errors))), spread
