"""TB12x and TB204: laws of discrete latents, whose values can be listed."""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import binom

from tightbound.diagnose.evidence import Discrete
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

MASS_IS_NOT_ONE = Cause(
    "proposal_does_not_sum_to_one",
    "log q(z | x) is not the log of probabilities: logits without their normaliser, a log-probability "
    "averaged over entries, or one entry's counted twice.",
    "Normalise by log-softmax and sum over entries, or take log q from the distribution that draws.",
)
FREQUENCIES_DIFFER = Cause(
    "drawn_and_scored_probabilities_differ",
    "z is drawn with other probabilities than log q says: a temperature, an argmax, a top-k or another "
    "network in one of the two.",
    "Draw and score through one distribution object.",
)
NO_GRADIENT_THROUGH_DRAWS = Cause(
    "no_gradient_through_discrete_draws",
    "The objective differentiates through z, and a discrete z has no derivative: what is left is "
    "-grad log q(z | x), which is nothing on average. The proposal is never trained.",
    "Train with `Objective('vimco', num_samples=8)` or `Objective('wake-sleep', num_samples=8)`, which "
    "need no derivative of z; or write an objective of your own on a continuous relaxation "
    "(Gumbel-softmax).",
)
WRONG_DIRECTION = Cause(
    "proposal_gradient_is_wrong",
    "On average the proposal's gradient is not along that of the bound, which was summed over every z.",
    "Compare the objective with `Objective('vimco', num_samples=8)`.",
)
_NOT_LISTED = (
    "latents are real numbers, or have too many values to list and the setup has no twin with fewer"
)


def proposal_mass_is_one(evidence: Discrete | None, *, tolerance: float = 1e-3) -> Finding:
    """TB120. Does q(z | x) sum to 1 over z?  Oracle: the sum itself.

    Measured: the largest |sum - 1| over rows. Assumes that the listed values are all that z can be:
    not run where the prior, too, does not sum to 1 over them.
    """
    code, check = "TB120", "proposal_mass_is_one"
    if evidence is None or evidence.log_q.size == 0:
        return not_run(code, check, _NOT_LISTED)
    of_prior, of_q = _mass(evidence.log_prior), _mass(evidence.log_q)
    if not (np.abs(of_prior - 1.0) <= tolerance).all():
        reason = f"the values of z that were listed hold {of_prior.min():.3g} of the prior, not all of it"
        return not_run(code, check, reason)
    off = np.abs(of_q - 1.0)
    measured = float(off.max())
    fault = not measured <= tolerance
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        tolerance,
        "of probability",
        f"{evidence.log_q.shape[1]} values of z, {len(off)} rows",
        f"q(z | x) sums to {of_q[int(off.argmax())]:.5g} over every z, where it must be 1.",
        (MASS_IS_NOT_ONE,) if fault else (),
    )


def draws_follow_probabilities(
    evidence: Discrete | None, *, level: float = 1e-6, doubt: float = 1e-3
) -> Finding:
    """TB121. Does q draw each z as often as its probability says?  Oracle: the binomial law of counts.

    Measured: the smallest two-sided tail probability of a count, times the number of values and rows
    (Bonferroni), which is exact for counts of any size. Fault below `level`, undecided below `doubt`.
    Assumes independent draws. Probabilities are scaled to sum to 1: that is TB120.
    """
    code, check = "TB121", "draws_follow_probabilities"
    if evidence is None or evidence.counts.size == 0 or evidence.num_draws < 1:
        return not_run(code, check, _NOT_LISTED)
    if not np.isfinite(np.asarray(logsumexp(evidence.log_q, axis=1))).all():
        return _frequencies(
            code, check, Verdict.UNDECIDED, float("nan"), level, "a log q is not finite"
        )
    log_p = evidence.log_q - np.asarray(logsumexp(evidence.log_q, axis=1, keepdims=True))
    probability = np.minimum(np.exp(log_p), 1.0)
    n, counts = evidence.num_draws, evidence.counts
    below, above = binom.cdf(counts, n, probability), binom.sf(counts - 1, n, probability)
    tails = np.minimum(2.0 * np.minimum(below, above) * counts.size, 1.0)
    measured = float(tails.min())
    row, value = np.unravel_index(int(tails.argmin()), tails.shape)
    verdict = (
        Verdict.FAULT
        if measured < level
        else Verdict.OK
        if measured >= doubt
        else Verdict.UNDECIDED
    )
    said = (
        f"Of {n} draws {counts[row, value]} are of a z whose probability is "
        f"{probability[row, value]:.3g}."
    )
    return _frequencies(code, check, verdict, measured, level, said)


def _frequencies(
    code: str, check: str, verdict: Verdict, measured: float, level: float, said: str
) -> Finding:
    causes = (FREQUENCIES_DIFFER,) if verdict is Verdict.FAULT else ()
    return Finding(
        code,
        check,
        verdict,
        measured,
        level,
        "probability",
        "q(z | x), the least likely count",
        said,
        causes,
    )


def gradient_reaches_the_proposal(
    evidence: Discrete | None, *, least: float = 0.25, num_errors: float = 5.0
) -> Finding:
    """TB204. Does a proposal of discrete latents get the gradient of its bound?

    Oracle: the gradient of the ELBO, summed over every z; for wake-sleep that of E[log q] under
    p(z | x). Measured: the mean over draws of the objective's gradient along it, as a multiple of it:
    1 without bias, 0 where no gradient arrives. Fault where it is below `least` by `num_errors`
    standard errors over draws (of several samples below 0, since the gradient of a bound of many
    samples is short), undecided where these reach both sides.
    """
    code, check = "TB204", "gradient_reaches_the_proposal"
    if evidence is None:
        return not_run(code, check, _NOT_LISTED)
    reached = evidence.reached
    if len(reached) < 2:
        return not_run(code, check, "the proposal has no parameters, or nothing to gain by them")
    with np.errstate(invalid="ignore"):  # inf - inf
        mean = float(reached.mean())
        error = num_errors * float(reached.std(ddof=1) / np.sqrt(len(reached)))
    several = evidence.estimator in ("vimco", "wake-sleep")
    if not np.isfinite([mean, error]).all():
        verdict = Verdict.UNDECIDED
    elif several:
        dead = mean + error < 0.0 or (mean == 0.0 and error == 0.0)
        verdict = Verdict.FAULT if dead else Verdict.OK if mean > error else Verdict.UNDECIDED
    elif mean + error < least:
        verdict = Verdict.FAULT
    else:
        verdict = Verdict.OK if mean - error > 0.0 else Verdict.UNDECIDED
    arrives = abs(mean) > error
    causes = (
        (WRONG_DIRECTION, NO_GRADIENT_THROUGH_DRAWS)
        if several or (arrives and evidence.estimator in ("none", "elbo"))
        else (NO_GRADIENT_THROUGH_DRAWS, WRONG_DIRECTION)
    )
    return Finding(
        code,
        check,
        verdict,
        mean,
        least,
        "of the gradient that the bound has",
        f"the proposal's gradient, {len(reached)} draws",
        f"Of the proposal's gradient, summed over every z, {mean:.3g} ± {error / num_errors:.2g} arrives "
        "on average.",
        causes if verdict is Verdict.FAULT else (),
    )


def _mass(log_p: np.ndarray) -> np.ndarray:
    return np.exp(np.asarray(logsumexp(log_p, axis=1)))
