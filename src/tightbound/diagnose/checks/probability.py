"""TB1xx: is this a probability model, and does every law draw what it scores?"""

import numpy as np
from scipy.special import logsumexp

from tightbound.diagnose.evidence import Joint, Objective, Scores, Twin
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

CONSTANT_IN_DENSITY = Cause(
    "constant_in_density",
    "A constant is added to log p(x | z): often the log-density of a vector of another size.",
    "Compute the density with a library's distribution, with the event size of x itself.",
)
DENSITY_AVERAGED = Cause(
    "density_averaged",
    "log p(x | z) is averaged over the entries of x where it should be summed.",
    "Sum over the entries of x; divide only when reporting per unit.",
)
NOT_NORMALISED = Cause(
    "density_not_normalised",
    "p(x | z) does not sum to 1 over x: weights added instead of log-weights, a missing change of "
    "variables, or a factor without its normaliser.",
    "Sum or integrate the density on a small x and correct it until the result is 1.",
)
SCALES_DIFFER = Cause(
    "sampled_and_scored_scales_differ",
    "The draws come from another scale than the one log q is computed with: variance, standard "
    "deviation and log-variance mixed up.",
    "Draw and score through one distribution object.",
)
NO_NOISE = Cause(
    "draws_carry_no_noise",
    "All draws of a row are the same: the latent noise is off, and what is trained is a "
    "deterministic auto-encoder.",
    "Add scale * noise to the mean, or switch `latent_noise` on.",
)
PRIOR_DIFFERS = Cause(
    "prior_sampled_and_scored_differ",
    "The prior that is sampled is not the prior that is scored.",
    "Draw and score the prior through one distribution object.",
)
WEIGHTS_WRONG = Cause(
    "weights_are_not_p_over_q",
    "log w is not log p(x, z) - log q(z | x): a term is missing or counted twice.",
    "Print the sites of one draw and compare each with its density.",
)
ROWS_COUPLED = Cause(
    "row_depends_on_its_batch",
    "A statistic over the batch enters the score of a row, so that evaluating it alone is another "
    "model.",
    "Compute statistics once on the training split, or per row.",
)

RECORD_DIFFERS = Cause(
    "record_is_not_the_joint",
    "The record counts a score more or less often than it was made: one value of log q for all latents "
    "that is spread over positions, padding that is counted, or a site that is left out.",
    "Sum log p and log q of one draw by hand, over real positions once, and compare with its record.",
)


def likelihood_is_normalised(twin: Twin | None, *, tolerance: float = 0.01) -> Finding:
    """TB101. Does p(x | z) sum (or integrate) to 1 over x?  Oracle: the sum itself, on the twin.

    Measured: the largest |log of the mass| over eight latents, in nats.
    """
    code, check = "TB101", "likelihood_is_normalised"
    if twin is None or twin.log_likelihood.size == 0:
        return not_run(code, check, "the setup has no shrunken twin, so p(x | z) was not summed")

    def log_mass(log_likelihood):
        return np.asarray(logsumexp(log_likelihood, axis=1)) + twin.log_cell_volume

    masses = log_mass(twin.log_likelihood)
    measured = float(np.abs(masses).max())
    fault = not measured <= tolerance
    summed = np.abs(log_mass(twin.obs_size * twin.log_likelihood)).max()
    with np.errstate(invalid="ignore"):  # inf - inf, where no x or every x has mass
        spread = masses.max() - masses.min()
    if summed <= tolerance and twin.obs_size > 1:
        causes = (DENSITY_AVERAGED, CONSTANT_IN_DENSITY, NOT_NORMALISED)
    elif spread <= tolerance:
        causes = (CONSTANT_IN_DENSITY, NOT_NORMALISED, DENSITY_AVERAGED)
    else:
        causes = (NOT_NORMALISED, DENSITY_AVERAGED, CONSTANT_IN_DENSITY)
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        tolerance,
        "nats",
        "log p(x | z) summed over every x of the twin",
        f"The likelihood's total mass is exp({masses[np.abs(masses).argmax()]:.3g}) where it must be 1.",
        causes if fault else (),
    )


def proposal_draws_what_it_scores(
    scores: Scores | None, *, tolerance: float = 0.05, num_errors: float = 6.0
) -> Finding:
    """TB102. Is log q the log-density of q's draws?  Oracle: Stein's identity, zero in expectation.

    Measured: mean of (z - c) d log q / dz + 1, which is 1 - (drawn scale / scored scale)^2 for a
    Gaussian. Fault beyond `tolerance` and `num_errors` standard errors over rows; undecided where
    one standard error is larger than `tolerance`. Assumes independent draws of a law that is real,
    unbounded and differentiable: coordinates whose draws take few values, or end where the density does not
    vanish, are left out, and it is not run where none is left.
    """
    return _stein(
        "TB102",
        "proposal_draws_what_it_scores",
        None if scores is None else scores.proposal,
        tolerance,
        num_errors,
        (NO_NOISE, SCALES_DIFFER)
        if scores is not None and scores.proposal_spread == 0
        else (SCALES_DIFFER, NO_NOISE),
        "q(z | x)",
        0.0 if scores is None else scores.proposal_discrete,
        0.0 if scores is None else scores.proposal_bounded,
    )


def prior_draws_what_it_scores(
    scores: Scores | None, *, tolerance: float = 0.1, num_errors: float = 6.0
) -> Finding:
    """TB103. Is log p(z) the log-density of the prior's draws?  The same identity as TB102."""
    values = None if scores is None else scores.prior
    return _stein(
        "TB103",
        "prior_draws_what_it_scores",
        values,
        tolerance,
        num_errors,
        (PRIOR_DIFFERS,),
        "p(z)",
        0.0 if scores is None else scores.prior_discrete,
        0.0 if scores is None else scores.prior_bounded,
    )


def _stein(
    code: str,
    check: str,
    values: np.ndarray | None,
    tolerance: float,
    num_errors: float,
    causes: tuple[Cause, ...],
    where: str,
    discrete: float,
    bounded: float,
) -> Finding:
    if values is not None and len(values) == 0 and discrete + bounded > 0:
        parts = [(discrete, "take few values"), (bounded, "end where the density does not vanish")]
        said = " and ".join(f"{share:.0%} {what}" for share, what in parts if share > 0)
        return not_run(
            code,
            check,
            f"Stein's identity is for real latents without ends; of those of {where} {said}",
        )
    if values is None or len(values) < 2:
        return not_run(
            code, check, f"no draws of a density {where} were gathered, or those of one row only"
        )
    with np.errstate(invalid="ignore"):  # inf - inf, where a slope is not finite
        mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    fault = not np.isfinite(mean) or (abs(mean) > tolerance and abs(mean) > num_errors * error)
    undecided = not fault and not error <= tolerance
    verdict = Verdict.FAULT if fault else Verdict.UNDECIDED if undecided else Verdict.OK
    return Finding(
        code,
        check,
        verdict,
        abs(mean),
        max(tolerance, num_errors * error),
        "no unit",
        where,
        f"Stein's identity of {where} is off by {mean:.3g} ± {error:.2g}; it is 0 for a law that draws "
        "what it scores.",
        causes if fault else (),
    )


def weights_average_to_the_marginal(
    twin: Twin | None, *, tolerance: float = 0.03, num_errors: float = 6.0, precision: float = 0.1
) -> Finding:
    """TB104. Is the mean weight p(x)?  Oracle: quadrature of p(x, z) on the twin.

    Measured: the largest |mean weight over its exact value - 1| in units of its standard error.
    Fault beyond `num_errors` of them and `tolerance`. An x whose standard error is 0 (all draws
    alike), not finite, or more than `precision` of the mean weight says nothing: undecided where
    there is one.
    """
    code, check = "TB104", "weights_average_to_the_marginal"
    if twin is None or len(twin.relative_weight) == 0:
        return not_run(code, check, "the setup has no shrunken twin with latents to integrate over")
    weight, error = twin.relative_weight, twin.relative_error
    off = np.abs(weight - 1.0)
    usable = np.isfinite(off) & (error > 0) & (error <= precision * np.maximum(weight, 1.0))
    distance = np.divide(off, error, out=np.zeros_like(off), where=usable)
    fault = bool(((distance > num_errors) & (off > tolerance)).any())
    verdict = Verdict.FAULT if fault else Verdict.OK if usable.all() else Verdict.UNDECIDED
    worst = int(distance.argmax() if fault or usable.all() else usable.argmin())
    return Finding(
        code,
        check,
        verdict,
        float(distance[worst]),
        num_errors,
        "standard errors",
        "log-weights of the twin",
        f"The mean weight is {weight[worst]:.3g} ± {error[worst]:.2g} times p(x) where it should be "
        "1 time.",
        (WEIGHTS_WRONG,) if fault else (),
    )


def rows_are_scored_alone(objective: Objective | None, *, tolerance: float = 1e-3) -> Finding:
    """TB105. Does the score of a row change with its neighbours?  Oracle: the same row in another
    batch, on the same draws. Measured: the largest change of a log-weight, in nats. Assumes draws that
    depend on the row alone, and finite weights: undecided where they are not (TB216, TB501)."""
    code, check = "TB105", "rows_are_scored_alone"
    if objective is None:
        return not_run(code, check, "the setup states no claim, so its objective was not called")
    fault = objective.neighbour_change > tolerance
    verdict = Verdict.FAULT if fault else Verdict.OK
    if not np.isfinite(objective.neighbour_change):
        fault, verdict = False, Verdict.UNDECIDED
    return Finding(
        code,
        check,
        verdict,
        objective.neighbour_change,
        tolerance,
        "nats",
        "log-weights of one half of a batch when the other half is exchanged",
        f"Exchanging a row's neighbours moves its log-weight by {objective.neighbour_change:.3g} nats.",
        (ROWS_COUPLED,) if fault else (),
    )


def discrete_probability_is_at_most_one(joint: Joint | None, *, tolerance: float = 0.01) -> Finding:
    """TB118. Is log p(x | z) of discrete data at most 0?  Oracle: a probability is at most 1.

    Measured: the largest log p of an observed site whose data, and whose draws from the model, are whole
    numbers, in nats per sequence. Fault above `tolerance`, undecided above a tenth of it (rounding) and
    where it is no number. A density may exceed 1: not run where an observation has a real part.
    """
    code, check = "TB118", "discrete_probability_is_at_most_one"
    if joint is None:
        return not_run(code, check, "needs an observed site whose log p no filter estimates")
    if not joint.discrete.any():
        return not_run(code, check, "the data, or draws of the model, are real numbers: a density")
    names, largest = joint.names[joint.discrete], joint.largest_log_p[joint.discrete]
    worst = int(largest.argmax())  # NaN counts as the largest
    measured = float(largest[worst])
    return Finding(
        code,
        check,
        _beyond(measured, tolerance),
        measured,
        tolerance,
        "nats per sequence",
        f"training rows, site {names[worst]}",
        f"The largest log p of {names[worst]}, which is discrete, is {measured:.3g} nats: "
        "it must not be above 0.",
        (CONSTANT_IN_DENSITY, NOT_NORMALISED) if tolerance < measured < np.inf else (),
    )


def weight_is_the_joint(joint: Joint | None, *, tolerance: float = 0.01) -> Finding:
    """TB119. Is the weight of the record log p(x, z) - log q(z | x)?  Oracle: `model.score` and
    `q.log_prob` of the same draws, summed over real positions.

    Measured: the largest difference, relative to the weight where that is above 1 nat. Fault above
    `tolerance`, undecided above a tenth of it (rounding) and where it is no number.
    """
    code, check = "TB119", "weight_is_the_joint"
    if joint is None or joint.asked.size == 0:
        reason = (
            "nothing is observed, or draws go step by step or through a filter: none is made again"
        )
        return not_run(code, check, reason)
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = joint.record - joint.asked
        relative = np.abs(difference) / np.maximum(1.0, np.abs(joint.asked))
    worst = np.unravel_index(relative.argmax(), relative.shape)  # NaN counts as the largest
    measured = float(relative[worst])
    return Finding(
        code,
        check,
        _beyond(measured, tolerance),
        measured,
        tolerance,
        "relative",
        "weights of training rows",
        f"A weight of the record is {joint.record[worst]:.5g} nats where log p(x, z) - log q(z | x) of the "
        f"same draw is {joint.asked[worst]:.5g}.",
        (RECORD_DIFFERS,) if tolerance < measured < np.inf else (),
    )


def _beyond(measured: float, tolerance: float) -> Verdict:
    """Fault above the tolerance, undecided above a tenth of it and where it is no number."""
    if np.isnan(measured) or measured == np.inf:
        return Verdict.UNDECIDED
    if measured > tolerance:
        return Verdict.FAULT
    return Verdict.UNDECIDED if measured > 0.1 * tolerance else Verdict.OK
