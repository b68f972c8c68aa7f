"""TB404 and TB510: do the components of a language model differ, and are its symbols known?"""

import numpy as np

from tightbound.diagnose.case import Check
from tightbound.diagnose.evidence import Mixtures, Symbols
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

VOCABULARY_OF_HELD_OUT = Cause(
    "vocabulary_made_from_held_out_rows",
    "The vocabulary has words that stand in held-out rows alone: it was made from all splits, and a "
    "model is asked for words that it was told of and never shown.",
    "Make the vocabulary from the training split; what it does not have is one unknown symbol.",
)


def symbols_stand_in_training(symbols: Symbols | None) -> Finding:
    """TB510. Has the training split every symbol of the vocabulary that a held-out split has, the
    unknown one and marks aside?  Measured: the largest share of a split's words that are new."""
    code, check = "TB510", "symbols_stand_in_training"
    if symbols is None or len(symbols.split_names) < 2:
        return not_run(code, check, "the data are no sequences of symbols, or one split only")
    worst = int(np.argmax(symbols.new_share))  # a NaN counts as the largest
    measured, name = float(symbols.new_share[worst]), symbols.split_names[worst]
    fault = not measured <= 0.0
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        0.0,
        "of words",
        f"the {name} split" if fault else "all splits",
        f"{symbols.num_new[worst]} symbols stand in {name} and never in training: {measured:.2%} of "
        "its words."
        if fault
        else "Every symbol of a held-out split stands in training, or is the unknown one.",
        (VOCABULARY_OF_HELD_OUT,) if fault else (),
    )


EQUAL_COMPONENTS = Cause(
    "components_equal_by_construction",
    "All components of a mixture are the same, and what moves them is the same: they stay one "
    "component under another name.",
    "Start the components at different values, or give each an input of its own.",
)


def components_differ(mixtures: Mixtures | None, *, tolerance: float = 1e-4) -> Finding:
    """TB404. Are the components of a mixture different, or do they become so?

    Measured: of the most uniform mixture, the largest difference between components of
    log p(class | k), in nats. Fault where it is `tolerance` or less and its slope along the training
    gradient differs by no more than this share of the largest slope: what is equal then stays so.
    """
    code, check = "TB404", "components_differ"
    if mixtures is None or not (mixtures.num_components > 1).any():
        return not_run(code, check, "the model has no mixture of two components or more")
    several = np.where(mixtures.num_components > 1, mixtures.difference, np.inf)
    worst = int(np.argmin(several))  # a NaN counts as the smallest
    difference, motion = float(mixtures.difference[worst]), float(mixtures.motion[worst])
    equal = difference <= tolerance
    if not np.isfinite(difference) or (equal and not np.isfinite(motion)):
        verdict = Verdict.UNDECIDED
    else:
        verdict = Verdict.FAULT if equal and motion <= tolerance else Verdict.OK
    meaning = f"Components of {mixtures.names[worst]} are up to {difference:.3g} nats apart."
    if equal:
        meaning += f" Their slopes along the gradient differ by {motion:.3g} of the largest."
    return Finding(
        code,
        check,
        verdict,
        difference,
        tolerance,
        "nats",
        f"the {mixtures.num_components[worst]} components of {mixtures.names[worst]}",
        meaning,
        (EQUAL_COMPONENTS,) if verdict is Verdict.FAULT else (),
    )


CHECKS: tuple[Check, ...] = (
    Check("TB510", lambda case: symbols_stand_in_training(case.newest("symbols")), after="TB509"),
    Check("TB404", lambda case: components_differ(case.newest("mixtures")), after="TB405"),
)
