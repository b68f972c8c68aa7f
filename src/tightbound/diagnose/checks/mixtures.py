"""TB115, TB116, TB220, TB222 and TB405: proposals that are mixtures, whose components a Stein force moves."""

from collections.abc import Sequence

import numpy as np

from tightbound.diagnose.evidence import Evidence, Objective, Spreading
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

EQUAL_AT_START = Cause(
    "components_equal_at_start",
    "Components begin at the same parameters: the repulsion of equal particles is exactly zero and the "
    "kernel gives them the same attraction, so that they stay one component for ever.",
    "Make every component with a key of its own.",
)
MIXED_OVER_BATCH = Cause(
    "mixture_over_the_minibatch",
    "log q is a mixture over whole minibatches: one component must explain all rows at once, its "
    "responsibility is 1, and the bound is another one for every batch size.",
    "Take the log-mean over components for every row, then sum over rows.",
)
OWN_COMPONENT_ONLY = Cause(
    "own_component_only",
    "A draw is scored by the component that has drawn it: m single proposals, whose mixture is never "
    "held together by its density.",
    "Score every draw by the log-mean over all components.",
)
LOG_M_MISSING = Cause(
    "log_m_missing",
    "log m is not subtracted from the logsumexp over m components: log q is log m too high.",
    "Subtract the log of the number of components.",
)
MIXTURE_DENSITY_DIFFERS = Cause(
    "mixture_density_differs",
    "log q is not the log-mean of what the components score.",
    "Compare log q of one draw with the components' own.",
)
REPULSION_MISSING = Cause(
    "repulsion_missing",
    "Where the bound has no slope the components stay where they are: the repulsion that is stated is "
    "not added, or a clip or a cast takes it away.",
    "Put `stein_transport` before the optimiser, with the repulsion that is meant.",
)
REPULSION_FLIPPED = Cause(
    "repulsion_sign_flipped",
    "The repulsion draws components together: its sign is that of a loss.",
    "Add the sum of the kernel's gradients to what is raised; subtract it from a loss.",
)
COMPONENT_NEVER_DRAWN = Cause(
    "component_never_drawn",
    "A component has no gradient at all, and others have: nothing is ever drawn from it.",
    "Draw evenly from all components: `sample_strata`, which `weigh` uses.",
)
COMPONENT_FROZEN = Cause(
    "component_never_moves",
    "A component has a gradient and is not moved: it was not handed to the optimiser, or its update is "
    "masked.",
    "Give the optimiser the parameters of all components.",
)
ONE_TAKES_ALL = Cause(
    "one_component_takes_all",
    "One component has all the weight: the others are where the target is not, and cost draws alone.",
    "Start the components nearer to each other, draw from all of them, or lower the learning rate.",
)

_NO_MIXTURE = "the proposal is no mixture of two components or more"


def components_start_apart(history: Sequence[Evidence], *, tolerance: float = 1e-4) -> Finding:
    """TB115. Are the components different before the first step?

    Measured: the smallest distance of two components' parameters, over the root mean square of their
    norms. Fault at `tolerance` or less.
    """
    code, check = "TB115", "components_start_apart"
    first = history[0].components
    if first is None or min(first.distance.shape) < 2 or history[0].step != 0:
        return not_run(code, check, f"{_NO_MIXTURE}, or its start was not seen")
    distance = np.array(first.distance)
    np.fill_diagonal(distance, np.inf)
    place = int(distance.argmin())  # a NaN counts as the smallest
    one, other = divmod(place, len(distance))
    measured = float(distance[one, other])
    equal = int((np.triu(distance <= tolerance, 1)).sum())
    if not np.isfinite(measured):
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.FAULT if equal else Verdict.OK
    return Finding(
        code,
        check,
        verdict,
        measured,
        tolerance,
        "of the components' norm",
        f"components {one} and {other}, step 0",
        f"{equal} pairs of components are equal before the first step."
        if equal
        else f"The nearest two components are {measured:.3g} of their norm apart.",
        (EQUAL_AT_START,) if verdict is Verdict.FAULT else (),
    )


def mixture_is_per_datum(objective: Objective | None, *, tolerance: float = 1e-4) -> Finding:
    """TB116. Is log q the log-mean of the components' own, row by row?

    Oracle: the components' log q of the same draws. Measured: how far the mean log q of the proposal,
    and the one that the objective subtracts, are from it, in nats per row; fault beyond `tolerance` of
    the bound's size where the proposal's is, or where the objective's is a known other reduction.
    """
    code, check = "TB116", "mixture_is_per_datum"
    if objective is None or objective.num_components < 2 or objective.log_proposal.size == 0:
        return not_run(code, check, _NO_MIXTURE)
    proposed = float(objective.log_proposal.mean())
    # what the objective and its claim differ by is taken off log q, where it is one of the known ways
    counted = proposed - (objective.batch_surrogate - objective.batch_claimed)
    right = objective.log_q_per_datum
    allowed = tolerance * max(1.0, abs(objective.batch_claimed))
    ways = [
        (right + np.log(objective.num_components), LOG_M_MISSING),
        (objective.log_q_over_batch, MIXED_OVER_BATCH),
        (objective.log_q_own, OWN_COMPONENT_ONLY),
    ]
    scores = (counted, proposed)
    # of components that lie far apart the first and the last are one: the nearer is named first
    ways.sort(key=lambda way: min(abs(score - way[0]) for score in scores))
    known = [c for value, c in ways if any(abs(score - value) <= allowed for score in scores)]
    off = [abs(score - right) for score in scores]
    causes: tuple[Cause, ...] = ()
    if not np.isfinite([proposed, counted, right]).all():
        verdict = Verdict.UNDECIDED
    elif max(off) <= allowed:
        verdict = Verdict.OK
    elif known or off[1] > allowed:
        verdict, causes = Verdict.FAULT, (*known, MIXTURE_DENSITY_DIFFERS)
    else:
        verdict = Verdict.UNDECIDED
    return Finding(
        code,
        check,
        verdict,
        float(np.max(off)),
        allowed,
        "nats per sequence",
        f"log q of {objective.num_components} components, training rows",
        f"A draw is scored {counted:.5g} nats by the mixture on average, where the log-mean of its "
        f"components is {right:.5g}.",
        causes,
    )


def components_repel(interaction: Spreading | None, *, least: float = 0.05) -> Finding:
    """TB220. Does the stated repulsion push components apart?

    Reads the updates of a fresh optimiser to gradients that are all zero: repulsion alone is left.
    Measured: the cosine of those updates with the components' places, both less their means: above 0
    where they spread. Fault at `least` or less where a repulsion is stated; nothing is said of
    components that are all equal, which TB115 names.
    """
    code, check = "TB220", "components_repel"
    if interaction is None or interaction.num_components < 2:
        return not_run(code, check, f"{_NO_MIXTURE}, or no force between them is stated")
    if interaction.stated == 0:
        return not_run(code, check, "the settings state no repulsion")
    measured = interaction.spreading
    if not np.isfinite([measured, interaction.stated]).all():
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.OK if measured > least else Verdict.FAULT
    flipped = measured < -least
    return Finding(
        code,
        check,
        verdict,
        measured,
        least,
        "cosine with the components' places",
        "the optimiser, gradients that are zero",
        "Without a gradient the components "
        + (
            "move together." if flipped else "move apart." if measured > least else "do not spread."
        ),
        ()
        if verdict is not Verdict.FAULT
        else (REPULSION_FLIPPED, REPULSION_MISSING)
        if flipped
        else (REPULSION_MISSING, REPULSION_FLIPPED),
    )


def every_component_moves(history: Sequence[Evidence]) -> Finding:
    """TB222. Has every component a gradient, and is it moved, where others are?

    Reads norms of the newest probe, over each component's own parameters. Measured: how many have a
    gradient of exactly zero, or an update of zero for a gradient that is not.
    """
    code, check = "TB222", "every_component_moves"
    last = history[-1].components
    if last is None or len(last.update_ratio) < 2:
        return not_run(code, check, _NO_MIXTURE)
    slope, ratio = last.gradient_norm, last.update_ratio
    undrawn = (slope == 0) & bool((slope > 0).any())
    frozen = (ratio == 0) & (slope > 0) & bool((ratio > 0).any())
    left = np.flatnonzero(undrawn | frozen)
    if len(left):
        verdict = Verdict.FAULT
    else:
        known = np.isfinite(slope).all() and np.isfinite(ratio).all()
        verdict = Verdict.OK if known else Verdict.UNDECIDED
    names = ", ".join(map(str, left))
    causes = (COMPONENT_FROZEN, COMPONENT_NEVER_DRAWN)
    return Finding(
        code,
        check,
        verdict,
        float(len(left)),
        0.0,
        "components",
        f"component {names or 'any'}, step {history[-1].step}",
        f"Component {names} has {'no gradient' if undrawn.any() else 'a gradient and is not moved'}; "
        "others are moved."
        if len(left)
        else "Every component has a gradient, and moves where others do.",
        () if verdict is not Verdict.FAULT else causes[::-1] if undrawn.any() else causes,
    )


def every_component_is_used(
    history: Sequence[Evidence],
    *,
    most: float = 0.98,
    least: float = 0.02,
    first_step: int = 200,
    num_rows: int = 8,
) -> Finding:
    """TB405. Has every component a share of the weights, and does none have all of it?

    Reads each component's share of the normalised importance weights, by its responsibility for the
    draws, averaged over held-out rows. Fault from `first_step` on where one has more than `most`, or one
    has less than `least` of its even share 1 / m. Of fewer than `num_rows` rows the largest weight is
    nearly all of it by chance: not run.
    """
    code, check = "TB405", "every_component_is_used"
    last = history[-1].components
    if last is None or len(last.usage) < 2:
        return not_run(code, check, _NO_MIXTURE)
    if len(last.entropy) < num_rows:
        return not_run(code, check, "weights of so few rows belong to a draw or two by chance")
    if history[-1].step < first_step:
        return not_run(code, check, f"needs {first_step} steps: components may part slowly")
    share, even = last.usage, 1 / len(last.usage)
    top, bottom = int(np.argmax(share)), int(np.argmin(share))
    takes_all, unused = bool(share[top] > most), bool(share[bottom] < least * even)
    if not (np.isfinite(share).all() and np.isfinite(last.entropy).all()):
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.FAULT if takes_all or unused else Verdict.OK
    measured, threshold = (share[top], most) if takes_all else (share[bottom], least * even)
    return Finding(
        code,
        check,
        verdict,
        float(measured),
        float(threshold),
        "of the weight",
        f"component {top if takes_all else bottom}, step {history[-1].step}",
        f"Of {len(share)} components number {top} has {share[top]:.1%} of the weight, number {bottom} "
        f"{share[bottom]:.2%}; the responsibilities' entropy is {np.mean(last.entropy):.3g} of "
        f"{np.log(len(share)):.3g} nats.",
        (ONE_TAKES_ALL,) if verdict is Verdict.FAULT else (),
    )
