"""TB5xx: are the data what the model thinks they are?"""

import numpy as np

from tightbound.diagnose.evidence import Data, Splits
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

BAD_VALUES = Cause(
    "data_not_finite",
    "A row of the data holds a NaN or an infinity.",
    "Correct or drop the row named.",
)
OFF_SUPPORT = Cause(
    "data_off_support",
    "The model is given numbers that it can never produce: grey levels for bits, a transform that "
    "does nothing; or bits where it draws real numbers, whose variance then collapses.",
    "Binarise or rescale before the model, check the result's range, and give bits a Bernoulli law.",
)
SPLITS_DIFFER = Cause(
    "splits_transformed_differently",
    "The held-out split is on another scale than the training split: its own statistics, a missing or "
    "doubled transform.",
    "Compute statistics on the training split and apply them to every split alike.",
)
DUPLICATES = Cause(
    "rows_duplicated",
    "Most training rows stand in the split more than once.",
    "Drop the copies, or say how many different rows there are.",
)
OVERLAP = Cause(
    "held_out_rows_in_training",
    "Held-out rows stand in the training split: the held-out bound is a training bound.",
    "Cut the splits before anything else, and check that they are disjoint.",
)
LABELS_EMPTY = Cause(
    "labels_shifted",
    "The labels say nothing about the images: they belong to other rows.",
    "Check the order of images and labels; a shift by one row is the usual reason.",
)

EMPTY_ROW = Cause(
    "row_without_steps",
    "A row has no real step: sequences were cut at the wrong places, and another row then holds two.",
    "Cut at the cumulative lengths from index 0 on, and compare the lengths with the file's.",
)


def data_are_finite(data: Data | None) -> Finding:
    """TB501. Is every stored number finite?  Names the first row that is not."""
    code, check = "TB501", "data_are_finite"
    if data is None or len(data.split_names) == 0:
        return not_run(code, check, "the data were not read")
    bad = data.bad_rows >= 0
    where = ", ".join(
        f"row {row} of {name}"
        for name, row in zip(data.split_names[bad], data.bad_rows[bad], strict=True)
    )
    return Finding(
        code,
        check,
        Verdict.FAULT if bad.any() else Verdict.OK,
        float(bad.sum()),
        0.0,
        "splits",
        where or "all splits",
        f"The first value that is not finite is in {where}." if where else "Every value is finite.",
        (BAD_VALUES,) if bad.any() else (),
    )


def data_can_be_drawn(data: Data | None, *, threshold: float = 0.01) -> Finding:
    """TB502. Could the model have produced what it is given?  Measured: the share of numbers that are
    no bits where the model's own draws are bits; or, of the entries of one step of a sequence, the
    share that are bits where the draws are not."""
    code, check = "TB502", "data_can_be_drawn"
    if data is None:
        return not_run(code, check, "the data were not read")
    fault = not data.off_support_share <= threshold
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        data.off_support_share,
        threshold,
        "of numbers",
        "the training split as the model sees it",
        f"{data.off_support_share:.0%} of the numbers are none that the model draws.",
        (OFF_SUPPORT,) if fault else (),
    )


def splits_are_alike(
    splits: Splits | None,
    *,
    num_errors: float = 8.0,
    tolerance: float = 0.25,
    factor: float = 1.5,
) -> Finding:
    """TB503. Do the splits have one mean and one scale?

    Reads mean and standard deviation of numbers that were pulled in to a window around the split's middle
    98 %, so that a few far out decide nothing. Measured: the largest difference from the training split's
    mean in units of its scale. Fault beyond `tolerance` and `num_errors` standard errors over rows, or
    where the scales differ by more than `factor` and by as many errors, which then is what is measured.
    Undecided where one is not finite, or where a split is a single row (a series cut by time), which has
    no error over rows. Assumes independent rows.
    """
    code, check = "TB503", "splits_are_alike"
    if splits is None or len(splits.split_names) < 2:
        return not_run(code, check, "there is only one split, or their widths were not gathered")
    width = np.maximum(splits.width, 1e-12)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf
        off = np.abs(splits.centre - splits.centre[0]) / width[0]
        ratio = np.maximum(width / width[0], width[0] / width)
        centre_error = np.hypot(splits.centre_error, splits.centre_error[0]) / width[0]
        width_error = np.hypot(splits.width_error, splits.width_error[0])
        single = (splits.centre_error == 0) | (splits.centre_error[0] == 0)
        shifted = (off > tolerance) & (off > num_errors * centre_error) & ~single
        rescaled = (ratio > factor) & (np.log(ratio) > num_errors * width_error) & ~single
    fault = bool(shifted.any() or rescaled.any())
    by_scale = bool(rescaled.any()) and not shifted.any()
    measured, threshold = (ratio, factor) if by_scale else (off, tolerance)
    at_fault = rescaled if by_scale else shifted | (not fault)
    worst = int(np.where(at_fault, measured, -np.inf).argmax())
    numbers = [splits.centre, splits.width, splits.centre_error, splits.width_error]
    known = np.isfinite(numbers).all() and not single.any()
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK if known else Verdict.UNDECIDED,
        float(measured[worst]),
        threshold,
        "times the training split's scale" if by_scale else "of the training split's scale",
        f"the {splits.split_names[worst]} split",
        f"What the model sees has mean {splits.centre[worst]:.3g} and scale {splits.width[worst]:.3g} "
        f"there, {splits.centre[0]:.3g} and {splits.width[0]:.3g} in training.",
        (SPLITS_DIFFER,) if fault else (),
    )


def rows_are_different(data: Data | None, *, threshold: float = 0.5) -> Finding:
    """TB504. Is the training split as large as it looks?  Measured: the share of rows that repeat
    another."""
    code, check = "TB504", "rows_are_different"
    if data is None or len(data.split_names) == 0:
        return not_run(code, check, "the data were not read")
    measured = float(data.duplicate_share[0])
    fault = not measured <= threshold
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        threshold,
        "of rows",
        "the training split",
        f"{measured:.0%} of the training rows repeat another one.",
        (DUPLICATES,) if fault else (),
    )


def splits_are_disjoint(data: Data | None, *, threshold: float = 0.1) -> Finding:
    """TB505. Are held-out rows kept out?  Measured: the largest share of them found in training. Rows that
    the training split itself repeats stand in every split by chance: twice their share is allowed for, up
    to a half."""
    code, check = "TB505", "splits_are_disjoint"
    if data is None or len(data.split_names) < 2:
        return not_run(code, check, "there is only one split")
    worst = int(data.overlap_share.argmax())
    measured = float(data.overlap_share[worst])
    repeated = np.nan_to_num(data.duplicate_share[:1], nan=0.0, posinf=0.0, neginf=0.0).sum()
    threshold = min(threshold + 2 * float(repeated), max(threshold, 0.5))
    fault = not measured <= threshold
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        threshold,
        "of rows",
        f"the {data.split_names[worst]} split",
        f"{measured:.0%} of the {data.split_names[worst]} rows stand in the training split.",
        (OVERLAP,) if fault else (),
    )


def labels_inform(data: Data | None, *, threshold: float = 0.1) -> Finding:
    """TB506. Do the labels belong to the images?

    Measured: how far the nearest class mean's accuracy on held-out rows is on the way from chance
    (the share of the commonest label) to 1.
    """
    code, check = "TB506", "labels_inform"
    if data is None or np.isnan(data.label_accuracy):
        return not_run(code, check, "the model is given no labels")
    if data.label_chance == 1.0:
        return not_run(code, check, "there is only one label")
    measured = (data.label_accuracy - data.label_chance) / (1.0 - data.label_chance)
    fault = not measured >= threshold
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        measured,
        threshold,
        "of the way from chance to certainty",
        "labels of the held-out split, nearest class mean of the training split",
        f"The nearest class mean is right for {data.label_accuracy:.1%} of the rows; the commonest "
        f"label is that of {data.label_chance:.1%}.",
        (LABELS_EMPTY,) if fault else (),
    )


def rows_have_steps(data: Data | None) -> Finding:
    """TB509. Has every row a real step?  Measured: how many splits have one without."""
    code, check = "TB509", "rows_have_steps"
    if data is None or len(data.empty_rows) == 0:
        return not_run(code, check, "the data were not read")
    empty = data.empty_rows >= 0
    where = ", ".join(
        f"row {row} of {name}"
        for name, row in zip(data.split_names[empty], data.empty_rows[empty], strict=True)
    )
    return Finding(
        code,
        check,
        Verdict.FAULT if empty.any() else Verdict.OK,
        float(empty.sum()),
        0.0,
        "splits",
        where or "all splits",
        f"There is no real step in {where}." if where else "Every row has a real step.",
        (EMPTY_ROW,) if empty.any() else (),
    )
