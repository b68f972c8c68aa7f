"""TB202: is the gradient the slope of the objective?"""

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.evidence import Objective
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

CONSTANTS_MISSING = Cause(
    "component_constants_missing",
    "The gradient also passes through the parameters inside log q, which are to be held constant: "
    "noise that does not fall as q nears the posterior, and another Stein force.",
    "Score draws with `path='stop_proposal'`, or stop the gradient of q's parameters in log q.",
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
