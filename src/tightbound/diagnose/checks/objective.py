"""TB20x: is what is differentiated what it claims to be?"""

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.evidence import Objective, Redrawn
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

KL_SIGN_FLIPPED = Cause(
    "kl_sign_flipped",
    "The KL is added to the bound where it must be subtracted: the objective rewards a proposal for "
    "moving away from the prior.",
    "Maximise log p(x | z) + log p(z) - log q(z | x).",
)
KL_MISSING = Cause(
    "kl_missing",
    "The objective has no KL term: it trains an auto-encoder.",
    "Add log p(z) - log q(z | x), or set `kl_weight` to 0 if that was meant.",
)
KL_SCALED = Cause(
    "kl_scaled",
    "The KL is multiplied by something: averaged over latents or pixels while the reconstruction is "
    "summed, or weighted without saying so.",
    "Reduce both terms alike; state an intended weight as `kl_weight`.",
)
KL_HALF_MISSING = Cause(
    "kl_half_missing",
    "The KL in closed form lacks its factor 1/2: it counts twice.",
    "The KL of N(m, s^2) from N(0, 1) is 1/2 (m^2 + s^2 - 1 - log s^2), summed over latents.",
)
KL_AVERAGED = Cause(
    "kl_averaged_over_latents",
    "The KL in closed form is averaged over the latents while the reconstruction is summed.",
    "Sum 1/2 (m^2 + s^2 - 1 - log s^2) over the latents.",
)
LOG_VARIANCE_AS_LOG_SCALE = Cause(
    "log_variance_as_log_scale",
    "The KL in closed form takes the log-variance that is drawn with for a log-scale: its scale is the "
    "square of the right one.",
    "Of v = log s^2 the KL is 1/2 (m^2 + exp(v) - 1 - v); take its terms from the distribution object.",
)
LOG_SCALE_AS_LOG_VARIANCE = Cause(
    "log_scale_as_log_variance",
    "The KL in closed form takes the log-scale that is drawn with for a log-variance: its scale is the "
    "root of the right one.",
    "Of u = log s the KL is 1/2 (m^2 + exp(2 u) - 1) - u; take its terms from the distribution object.",
)
LIKELIHOOD_SCALED = Cause(
    "likelihood_scaled",
    "log p(x | z) is multiplied by something: a mean over pixels, or a minibatch factor N / M that "
    "local latents do not have.",
    "Sum log p(x | z) over the entries of x and average over rows.",
)
OBJECTIVE_SCALED = Cause(
    "objective_scaled",
    "The whole objective is multiplied by something; the learning rate then means another thing.",
    "Report and differentiate nats per sequence.",
)
SIGN_FLIPPED = Cause(
    "objective_sign_flipped",
    "The objective is minus the bound: training lowers it.",
    "Maximise the bound, or minimise its negative.",
)
LOG_Q_MISSING = Cause(
    "log_q_missing",
    "log q(z | x) is not subtracted: the value is E log p(x, z), and q shrinks to a point.",
    "Subtract log q(z | x) of the same draw.",
)
LOG_PRIOR_MISSING = Cause(
    "log_prior_missing",
    "log p(z) is not counted: nothing holds the latents near the prior.",
    "Add log p(z) of the same draw.",
)
CONSTANT_ADDED = Cause(
    "constant_in_objective",
    "A constant is added to the objective: it moves no parameter and hides how good the bound is.",
    "Find the term that does not depend on the data; often a density of another size.",
)
MEAN_OF_LOGS = Cause(
    "mean_of_logs",
    "The log-weights are averaged where the weights must be: the ELBO under the name of a tighter bound.",
    "Use logsumexp over the samples minus log K.",
)
MISSING_LOG_K = Cause(
    "missing_log_k",
    "log K is not subtracted from the logsumexp over K samples: the value is log K too high.",
    "Subtract log K.",
)
SELF_NORMALISED = Cause(
    "self_normalised",
    "The log-weights are averaged with the normalised weights: no bound, and biased upwards.",
    "Report logsumexp minus log K; keep normalised weights for expectations.",
)
BEST_OF_K = Cause(
    "best_of_k",
    "The largest log-weight is taken for the bound.",
    "Use logsumexp over the samples minus log K.",
)
REDUCED_OVER_BATCH = Cause(
    "reduced_over_batch",
    "One row alone has the right value, a batch has not: a term is summed over the batch, or a "
    "scalar is broadcast over it.",
    "Compute every term per row, and average over rows once.",
)
HEADS_AVERAGED_APART = Cause(
    "heads_averaged_apart",
    "Every head's loss is averaged over its own decisions before they are added: a rare kind of "
    "decision then weighs as much as a common one, and the sum is log p of nothing.",
    "Add log p of all decisions, and average over sequences once.",
)
WEIGHTS_DROPPED = Cause(
    "earlier_weights_dropped",
    "A filter's estimate forgets the weights of steps at which it did not resample: every step adds "
    "log mean w_t, where the particles are not equally probable.",
    "Add lse(log W + log w_t) - lse(log W) at every step, resampled or not.",
)
FORCE_NORM_AS_LOSS = Cause(
    "force_norm_as_loss",
    "The objective's value is the norm of its own gradient, or of the force on the particles: it grows "
    "with the number of parameters and the batch, and is no bound.",
    "Report the bound of the same draws; show the norm under its own name.",
)
WEIGHT_MISSING = Cause(
    "minibatch_weight_missing",
    "Points of a minibatch stand for themselves alone, not for N / n of the data set: the prior weighs "
    "as much as if there were n points.",
    "Multiply log p of every point by N / n.",
)
CONSTANTS_MISSING = Cause(
    "component_constants_missing",
    "The gradient also passes through the parameters inside log q, which are to be held constant: "
    "noise that does not fall as q nears the posterior, and another Stein force.",
    "Score draws with `path='stop_proposal'`, or stop the gradient of q's parameters in log q.",
)
OBJECTIVE_NOT_FINITE = Cause(
    "objective_not_finite",
    "The objective is NaN or infinite where the bound of the same draws is finite: a mask applied by "
    "multiplication (0 * inf), a log of zero.",
    "Select by `where`, on numbers that were made harmless before they were scored.",
)
OBJECTIVE_DIFFERS = Cause(
    "objective_differs",
    "The objective is not the one it claims to be.",
    "Compare both, row by row, on the same draws.",
)
GRADIENT_STOPPED = Cause(
    "gradient_stopped",
    "The gradient does not pass through something the value depends on: a stop_gradient or detach in "
    "the wrong place.",
    "Draw z by reparameterisation and stop no gradient on the way.",
)
GRADIENT_WRONG = Cause(
    "gradient_wrong",
    "The gradient is not the slope of the value.",
    "Check hand-written derivatives, and draws that depend on parameters without saying so.",
)


def objective_is_its_claim(
    evidence: Objective | None,
    redrawn: Redrawn | None = None,
    *,
    tolerance: float = 1e-3,
    num_errors: float = 6.0,
    precision: float = 0.25,
) -> Finding:
    """TB201. Is the objective, on the same rows and draws, what it is said to be?

    Oracle: the claimed estimator. Measured: the largest difference over rows alone and all rows
    together, relative to the claim's size. The causes come from a regression of the objective on
    log p(x | z), log p(z) and log q(z | x) over rows, and from the known wrong reductions over
    samples. Undecided where the claim itself is not finite.

    Assumes that both sides share their draws. Where they do not (a KL in closed form, draws of another
    key) both are compared in expectation over many keys: fault beyond `tolerance` and `num_errors` standard
    errors, undecided where so many errors are more than `tolerance` and `precision` of the KL.
    """
    code, check = "TB201", "objective_is_its_claim"
    if evidence is None or len(evidence.claimed) == 0:
        return not_run(code, check, "the setup states no claim to hold the objective against")
    claimed = np.append(evidence.claimed, evidence.batch_claimed)
    found = np.append(evidence.surrogate, evidence.batch_surrogate)
    size = max(1.0, float(np.abs(evidence.claimed).max()))
    with np.errstate(invalid="ignore"):  # inf - inf
        off = np.abs(found - claimed) / size
    measured, alone = float(off.max()), float(off[:-1].max())
    if not np.isfinite(claimed).all():
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.OK if measured <= tolerance else Verdict.FAULT
    if verdict is not Verdict.FAULT:
        causes = ()
    elif alone <= tolerance:
        causes = (REDUCED_OVER_BATCH, OBJECTIVE_DIFFERS)
    else:
        causes = _why_it_differs(evidence, tolerance * size)
    compared = verdict is Verdict.FAULT and np.isfinite(found).all()
    if compared and redrawn is not None and _differs_in_draws(redrawn, causes):
        return _in_expectation(
            code, check, evidence, redrawn, (tolerance, num_errors, precision), causes
        )
    # several rows tell a combination of terms that happens to be as large as a norm; one row cannot
    unexplained = len(evidence.claimed) == 1 or causes[:1] == (OBJECTIVE_DIFFERS,)
    if verdict is Verdict.FAULT and unexplained and _is_a_norm(evidence):
        causes = (FORCE_NORM_AS_LOSS, OBJECTIVE_DIFFERS)
    return Finding(
        code,
        check,
        verdict,
        measured,
        tolerance,
        "of the claimed value",
        f"{evidence.estimator}, {len(evidence.claimed)} training rows",
        f"The objective is {evidence.surrogate.mean():.5g} where the {evidence.estimator} of the same "
        f"draws is {evidence.claimed.mean():.5g} nats per sequence.",
        causes,
    )


def _differs_in_draws(redrawn: Redrawn, causes: tuple[Cause, ...]) -> bool:
    """Whether the objective does not move with the KL of the claim's draws: of a KL in closed form, and
    where the draws are others. Found by least squares over keys, within rows."""
    parts = (redrawn.log_likelihood, redrawn.log_prior, redrawn.log_proposal, redrawn.surrogate)
    if len(redrawn.surrogate) < 2 or not all(np.isfinite(part).all() for part in parts):
        return False
    if causes[:1] not in ((OBJECTIVE_DIFFERS,), ()) and not _is_of_elbo(redrawn):
        return False
    *terms, found = (part - part.mean(0) for part in parts)
    kl = terms[2] - terms[1]
    if not kl.std() > 1e-4:  # draws without noise
        return False
    columns = np.stack([term.ravel() for term in terms], axis=1)
    solution, *_ = np.linalg.lstsq(columns, found.ravel(), rcond=None)
    residual = found.ravel() - columns @ solution
    if residual.std() > 0.1 * kl.std():
        return True
    return bool(np.abs(solution[1:]).max() < 0.02)


def _is_of_elbo(redrawn: Redrawn) -> bool:
    """Whether the claim is the mean of its terms, with some weight of the KL."""
    gap = redrawn.claimed - redrawn.log_likelihood
    kl = redrawn.log_proposal - redrawn.log_prior
    with np.errstate(invalid="ignore"):
        weight = (gap * kl).sum() / max(float((kl * kl).sum()), 1e-30)
        return bool(
            np.abs(gap - weight * kl).max() <= 1e-3 * max(1.0, np.abs(redrawn.claimed).max())
        )


def _in_expectation(
    code: str,
    check: str,
    evidence: Objective,
    redrawn: Redrawn,
    limits: tuple[float, float, float],
    causes: tuple[Cause, ...],
) -> Finding:
    """The objective less its claim, averaged over keys: of all rows, of each, and of the batch."""
    tolerance, num_errors, precision = limits
    size = max(1.0, float(np.abs(redrawn.claimed.mean(0)).max()))
    difference = redrawn.surrogate - redrawn.claimed
    columns = np.column_stack([difference.mean(1), difference, redrawn.batch_difference])
    mean = columns.mean(0)
    error = columns.std(0, ddof=1) / np.sqrt(len(columns))
    beyond = np.abs(mean) > np.maximum(num_errors * error, tolerance * size)
    kl = abs(evidence.kl_weight * float((redrawn.log_proposal - redrawn.log_prior).mean()))
    told = num_errors * error[0] <= max(tolerance * size, precision * kl)
    if not np.isfinite(columns).all() or (beyond.any() and not redrawn.is_linear):
        verdict = Verdict.UNDECIDED
    elif beyond.any():
        verdict = Verdict.FAULT
    else:
        verdict = Verdict.OK if told else Verdict.UNDECIDED
    index = int(np.abs(np.where(beyond, mean, 0.0)).argmax()) if not beyond[0] else 0
    if verdict is not Verdict.FAULT:
        causes = ()
    elif not beyond[:-1].any():
        causes = (REDUCED_OVER_BATCH, OBJECTIVE_DIFFERS)
    else:
        closed_form = _wrong_closed_form(evidence, redrawn)
        causes = (*closed_form, OBJECTIVE_DIFFERS)
    return Finding(
        code,
        check,
        verdict,
        float(np.abs(mean[index])) / size,
        max(tolerance, num_errors * float(error[index]) / size),
        "of the claimed value",
        f"{evidence.estimator}, {len(evidence.claimed)} training rows, mean of {len(columns)} draws",
        f"The objective less the {evidence.estimator} is {mean[index]:.4g} ± {error[index]:.2g} nats per "
        "sequence on average over draws that the two do not share.",
        causes,
    )


def _wrong_closed_form(evidence: Objective, redrawn: Redrawn) -> tuple[Cause, ...]:
    """Which wrong KL the objective has, from what it leaves of log p(x | z), row by row. The forms of a
    normal q and a standard normal prior are asked where their KL is that of the draws."""
    weight, mean, scale = evidence.kl_weight, redrawn.latent_mean, redrawn.latent_scale
    implied = redrawn.log_likelihood - redrawn.surrogate
    found, noise = implied.mean(0), implied.std(0, ddof=1) / np.sqrt(len(implied))
    drawn = redrawn.log_proposal - redrawn.log_prior
    right, error = drawn.mean(0), drawn.mean(1).std(ddof=1) / np.sqrt(len(drawn))

    def closed(scale):
        scale = np.maximum(scale, 1e-12)
        return 0.5 * (mean**2 + scale**2 - 1 - 2 * np.log(scale)).sum(1)

    forms: list[tuple[Float[np.ndarray, " rows"], Cause]] = []
    normal = closed(scale)
    if abs(normal.mean() - right.mean()) <= max(6 * error, 0.05 * abs(float(right.mean()))):
        right = normal
        forms = [
            (2 * right, KL_HALF_MISSING),
            (closed(scale**2), LOG_VARIANCE_AS_LOG_SCALE),
            (closed(np.sqrt(scale)), LOG_SCALE_AS_LOG_VARIANCE),
        ]
        if mean.shape[1] > 1:
            forms.append((right / mean.shape[1], KL_AVERAGED))
    forms += [(0 * right, KL_MISSING), (-right, KL_SIGN_FLIPPED)]
    gap = _root_mean_square(found - weight * right)
    distances = [(_root_mean_square(found - weight * form), cause) for form, cause in forms]
    near = 0.1 * gap + 3 * _root_mean_square(noise)
    ordered = sorted(distances, key=lambda pair: pair[0])
    matching = [cause for distance, cause in ordered if distance <= near]
    share = float((found * right).sum() / max(float((right * right).sum()), 1e-30))
    if _root_mean_square(found - share * right) <= near and KL_MISSING not in matching:
        matching.append(KL_SCALED)
    return tuple(matching)


def _root_mean_square(values: Float[np.ndarray, " rows"]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _is_a_norm(evidence: Objective) -> bool:
    """Whether the value is a length that was measured, with either sign."""
    value = abs(evidence.batch_surrogate)
    with np.errstate(invalid="ignore"):  # inf - inf
        off = np.abs(evidence.norms - value)
    return bool(np.isfinite(value) and (off <= 0.01 * value).any())


def _why_it_differs(evidence: Objective, tolerance: float) -> tuple[Cause, ...]:
    """What is wrong with every row alone: with the terms, or with the reduction over samples."""
    if not np.isfinite(evidence.surrogate).all():
        return (OBJECTIVE_NOT_FINITE, OBJECTIVE_DIFFERS)
    with np.errstate(invalid="ignore"):  # inf - inf
        from_heads = np.abs(evidence.surrogate - evidence.heads_averaged).max()
        from_steps = np.abs(evidence.surrogate - evidence.weights_dropped).max()
    if from_heads <= tolerance:
        return (HEADS_AVERAGED_APART, OBJECTIVE_DIFFERS)
    if from_steps <= tolerance:
        return (WEIGHTS_DROPPED, OBJECTIVE_DIFFERS)
    parts = (evidence.log_likelihood, evidence.log_prior, evidence.log_proposal, evidence.surrogate)
    if not all(np.isfinite(part).all() for part in parts):
        return (OBJECTIVE_DIFFERS,)
    if evidence.estimator == "elbo" or len(evidence.log_prior) == 1:
        return _wrong_terms(evidence)
    return _wrong_reductions(evidence, tolerance)


def _wrong_terms(evidence: Objective) -> tuple[Cause, ...]:
    """Which combination of the three terms the objective is, by least squares over rows."""
    terms = [evidence.log_likelihood, evidence.log_prior, evidence.log_proposal]
    columns = np.stack([*(term.mean(0) for term in terms), np.ones(terms[0].shape[1])], axis=1)
    solution, *_ = np.linalg.lstsq(columns, evidence.surrogate, rcond=None)
    residual = evidence.surrogate - columns @ solution
    if residual.std() > 0.02 * max(evidence.surrogate.std(), 1e-6):
        return (OBJECTIVE_DIFFERS,)
    a, prior, proposal, _ = solution
    weight = evidence.kl_weight
    # a small KL weight is not to be mistaken for none, nor its sign for the other
    close = 0.02 * float(np.clip(abs(weight), 0.01, 1.0))
    as_meant = abs(a - 1) < 0.02
    kl_is = lambda p, q: abs(prior - p) < close and abs(proposal - q) < close  # noqa: E731
    kl_together = abs(prior + proposal) < 0.02 * max(1.0, abs(prior))
    candidates = [
        (as_meant and kl_is(weight, -weight), CONSTANT_ADDED),  # nothing else is left to differ
        (as_meant and kl_is(-weight, weight), KL_SIGN_FLIPPED),
        (as_meant and kl_is(0, 0), KL_MISSING),
        (as_meant and kl_is(weight, 0), LOG_Q_MISSING),
        (as_meant and kl_is(0, -weight), LOG_PRIOR_MISSING),
        (abs(a + 1) < 0.02 and kl_is(-weight, weight), SIGN_FLIPPED),
        (as_meant and kl_together, KL_SCALED),
        (kl_is(weight, -weight), LIKELIHOOD_SCALED),
        (kl_together and abs(prior - a * weight) < 0.02 * abs(a), OBJECTIVE_SCALED),
    ]
    if abs(a * evidence.point_weight - 1) < 0.02 < evidence.point_weight - 1:
        candidates.insert(0, (kl_is(weight, -weight), WEIGHT_MISSING))
    matching = [cause for matches, cause in candidates if matches]
    return (*matching, OBJECTIVE_DIFFERS)


def _wrong_reductions(evidence: Objective, tolerance: float) -> tuple[Cause, ...]:
    """Which wrong reduction over the samples the objective is."""
    log_weights = evidence.log_likelihood + evidence.log_prior - evidence.log_proposal
    top = log_weights.max(0)
    weights = np.exp(log_weights - top)
    candidates: list[tuple[Float[np.ndarray, " rows"], Cause]] = [
        (log_weights.mean(0), MEAN_OF_LOGS),
        (top + np.log(weights.sum(0)), MISSING_LOG_K),
        ((weights * log_weights).sum(0) / weights.sum(0), SELF_NORMALISED),
        (top, BEST_OF_K),
    ]
    distances = [(float(np.abs(evidence.surrogate - value).max()), c) for value, c in candidates]
    # where one weight outweighs all others several are near: the nearest is the one
    ordered = sorted(distances, key=lambda pair: pair[0])
    return (*(cause for distance, cause in ordered if distance <= tolerance), OBJECTIVE_DIFFERS)


def gradient_is_the_slope(
    evidence: Objective | None, *, tolerance: float = 0.2, floor: float = 0.02, same: float = 1e-3
) -> Finding:
    """TB202. Is the gradient the slope of the value?  Oracle: central differences on fixed draws.

    Measured: for the worst module, |autodiff - difference| over |difference|, along three random
    directions. Slopes below `floor` nats per unit step cannot be told from rounding. Where the claim
    holds parameters constant there is no such slope; the oracle is then the claim's own gradient on the
    same draws, from which `same` of its length is rounding. Assumes that the value is differentiable and
    finite: undecided where a difference of values is not finite, which TB216 or TB501 explain.
    """
    code, check = "TB202", "gradient_is_the_slope"
    if evidence is not None and np.isfinite(evidence.gradient_change):
        return _against_the_claim(code, check, evidence, same)
    if evidence is None or len(evidence.slopes) == 0:
        reason = "the objective's value is not what is differentiated, or nothing claims it"
        return not_run(code, check, reason)
    names = list(dict.fromkeys(map(str, evidence.slope_modules)))
    slopes = [evidence.slopes[evidence.slope_modules == name] for name in names]
    relative = [_relative_error(pairs, floor) for pairs in slopes]
    # without finite values there is no slope, and a module of which there is one is asked first
    has_values = np.array([np.isfinite(pairs[:, 1]).all() for pairs in slopes])
    index = int(np.argmax(np.where(has_values, relative, -1.0)))  # a NaN counts as the largest
    if not has_values.all() and (not has_values.any() or relative[index] <= tolerance):
        return Finding(
            code,
            check,
            Verdict.UNDECIDED,
            float("nan"),
            tolerance,
            "of the slope",
            f"module {names[int(has_values.argmin())]}",
            "The objective's values are not finite, so that there is no slope to hold the gradient against.",
        )
    worst, where = relative[index], names[index]
    autodiff, difference = slopes[index].T
    fault = not worst <= tolerance
    stopped = np.linalg.norm(autodiff) < 0.9 * np.linalg.norm(difference)
    causes = (GRADIENT_STOPPED, GRADIENT_WRONG) if stopped else (GRADIENT_WRONG, GRADIENT_STOPPED)
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        worst,
        tolerance,
        "of the slope",
        f"module {where}",
        f"Autodiff and finite differences of the objective disagree by {worst:.1%} in {where}."
        if fault
        else "Autodiff and finite differences of the objective agree.",
        causes if fault else (),
    )


def _against_the_claim(code: str, check: str, evidence: Objective, tolerance: float) -> Finding:
    """The gradient against that of the claim, which holds q's parameters constant inside log q."""
    measured = evidence.gradient_change
    fault = measured > tolerance
    as_full = evidence.full_gradient_change <= 0.01 * measured
    causes = (CONSTANTS_MISSING, GRADIENT_WRONG) if as_full else (GRADIENT_WRONG, CONSTANTS_MISSING)
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        tolerance,
        "of the claimed gradient",
        "all modules, the same draws",
        f"The gradient is {measured:.1%} of its length away from that of the claim.",
        causes if fault else (),
    )


def _relative_error(slopes: Float[np.ndarray, "directions two"], floor: float) -> float:
    """Length of the disagreement over that of the finite differences; 0 below `floor`."""
    autodiff, difference = slopes.T
    with np.errstate(invalid="ignore"):  # inf - inf
        error = float(np.linalg.norm(autodiff - difference))
    return 0.0 if error <= floor else error / max(float(np.linalg.norm(difference)), 1e-12)
