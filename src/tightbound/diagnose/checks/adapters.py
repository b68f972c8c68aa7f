"""TB606 to TB609: what another library's inference reports, scores, starts from and counts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

FORCE_NORM_REPORTED = Cause(
    "force_norm_reported",
    "The number is the norm of the force on the particles: it grows with the number of parameters and "
    "with the batch, is near 0 at any fixed point, and says nothing about log p(x).",
    "Report the mixture's bound: `evaluate_steinvi`, then `bound_of`.",
)
LOSS_IS_SCALED = Cause(
    "loss_is_scaled",
    "The loss is a multiple of a bound: divided by the number of data, tempered, or averaged.",
    "Report the sum of the sites in nats per data set, or say by what it was divided.",
)
CONSTRAINT_APPLIED_TWICE = Cause(
    "constraint_applied_twice",
    "Draws use a guide's parameters c(u), the mixture's density uses c(c(u)): the guide settles where "
    "the parameters that are scored are right, and those that draw are not.",
    "Give the guide real parameters only, and constrain inside it: `exp(param('log_scale', ...))`.",
)
ANOTHER_DENSITY_SCORED = Cause(
    "another_density_scored",
    "The loss scores its draws under another density than the one that they are drawn from.",
    "Compare the parameters that the loss scores with, site by site, with `get_params(state)`.",
)
STATIC_ARGUMENTS_LOST = Cause(
    "static_arguments_lost",
    "Static arguments are not passed on when the particles' first values are made.",
    "Bind them before: `functools.partial(guide, ...)` for the guide and for the model.",
)
WRONG_LEAF_COUNTED = Cause(
    "wrong_leaf_counted",
    "The number of components is read off the first of all parameters by name, which may be the model's.",
    "Name the parameters so that a guide's comes first, or draw with `posterior_draws`.",
)


def reported_number_is_a_bound(
    reported: float | None,
    shifted: float | None,
    bound: float | None,
    *,
    shift: float,
    tolerance: float = 0.01,
) -> Finding:
    """TB606. Is the number that a step reports minus a bound on log p(x)?

    `shifted` is the same number, same state and key, of the model with `shift` added to log p(x, z).
    That adds the shift to every bound, exactly. Measured: how much of the shift arrives in minus the
    number; a bound has 1. `bound` is that of the same state, None where there is none, for the meaning.
    """
    code, check = "TB606", "reported_number_is_a_bound"
    if reported is None or shifted is None:
        return not_run(code, check, "no number was reported")
    arrived = (reported - shifted) / shift
    if not np.isfinite(arrived):
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.OK if abs(arrived - 1) <= tolerance else Verdict.FAULT
    cause = FORCE_NORM_REPORTED if abs(arrived) <= tolerance else LOSS_IS_SCALED
    return Finding(
        code,
        check,
        verdict,
        arrived,
        1.0,
        "of a constant added to log p(x, z)",
        "what a step returns",
        f"Inference reports {reported:.5g} where "
        + ("there is no bound." if bound is None else f"the bound is {bound:.5g} nats."),
        (cause,) if verdict is Verdict.FAULT else (),
    )


def mixture_is_scored_as_drawn(
    log_q_of_loss: Float[np.ndarray, "samples rows"] | None,
    log_q: Float[np.ndarray, "samples rows"] | None,
    *,
    constrained_again: bool = False,
    tolerance: float = 1e-3,
) -> Finding:
    """TB607. Does the loss score its draws under the mixture that they are drawn from?

    `log_q` is the mixture's density of its own draws, `log_q_of_loss` that of the same draws under
    the parameters that the loss scores with; with one component it must be single-guide inference.
    Measured: the largest difference relative to the scores' size. `constrained_again` says whether
    those parameters are the right ones with their constraints applied once more.
    """
    code, check = "TB607", "mixture_is_scored_as_drawn"
    if log_q_of_loss is None or log_q is None or log_q.size == 0:
        return not_run(code, check, "there is no mixture of guides with a density")
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = log_q_of_loss - log_q
    measured = float(np.abs(difference).max() / max(1.0, np.abs(log_q).max()))
    if not np.isfinite(log_q).all():
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.OK if measured <= tolerance else Verdict.FAULT
    fault = verdict is Verdict.FAULT
    cause = CONSTRAINT_APPLIED_TWICE if constrained_again else ANOTHER_DENSITY_SCORED
    return Finding(
        code,
        check,
        verdict,
        measured,
        tolerance,
        "of the scores' size",
        "log q of the mixture's own draws",
        f"The loss scores its draws at {log_q_of_loss.mean():.4g} nats on average where their own density "
        f"is {log_q.mean():.4g}."
        if fault
        else "The loss scores draws under the density they are drawn from.",
        (cause,) if fault else (),
    )


def static_arguments_arrive(lost: Sequence[str] | None) -> Finding:
    """TB608. Does the guide get its static arguments when the particles' first values are made?

    `lost` names those that did not arrive. Measured: how many.
    """
    code, check = "TB608", "static_arguments_arrive"
    if lost is None:
        return not_run(code, check, "there are no static arguments, or no particles")
    return Finding(
        code,
        check,
        Verdict.FAULT if lost else Verdict.OK,
        float(len(lost)),
        0.0,
        "static arguments",
        "first values of the particles",
        f"The guide is called without {', '.join(lost)} when its particles are made: their shapes and "
        "values are those of other arguments."
        if lost
        else "The guide is called with all its arguments when its particles are made.",
        (STATIC_ARGUMENTS_LOST,) if lost else (),
    )


def predictive_counts_the_components(counted: int | None, components: int | None) -> Finding:
    """TB609. Does the predictive draw from as many components as the mixture has?

    Measured: how many it counts; it is as many as there are, or draws fail.
    """
    code, check = "TB609", "predictive_counts_the_components"
    if counted is None or components is None:
        return not_run(code, check, "there is no mixture of guides to draw from")
    fault = counted != components
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        float(counted),
        float(components),
        "components",
        "MixtureGuidePredictive",
        f"The predictive counts {counted} components where the mixture has {components}.",
        (WRONG_LEAF_COUNTED,) if fault else (),
    )
