"""TB5xx: are the data what the model thinks they are?"""

import numpy as np

from tightbound.diagnose.evidence import Data
from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

BAD_VALUES = Cause(
    "data_not_finite",
    "A row of the data holds a NaN or an infinity.",
    "Correct or drop the row named.",
)
OFF_SUPPORT = Cause(
    "data_off_support",
    "The model is given numbers that it can never produce: grey levels for bits, a transform that "
    "does nothing.",
    "Binarise or rescale before the model, and check the result's range.",
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
    no bits where the model's own draws are bits."""
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
    data: Data | None,
    *,
    num_errors: float = 8.0,
    tolerance: float = 0.25,
    factor: float = 1.5,
) -> Finding:
    """TB503. Do the splits have one mean and one scale?

    Measured: the largest difference from the training split's mean in units of its scale. Fault
    beyond `tolerance` and `num_errors` standard errors over rows, or where the scales differ by
    more than `factor`, which then is what is measured. Undecided where one is not finite.
    """
    code, check = "TB503", "splits_are_alike"
    if data is None or len(data.split_names) < 2:
        return not_run(code, check, "there is only one split")
    scale = np.maximum(data.scale, 1e-12)
    with np.errstate(invalid="ignore"):  # inf - inf
        off = np.abs(data.mean - data.mean[0]) / scale[0]
        ratio = np.maximum(scale / scale[0], scale[0] / scale)
    error = np.sqrt(data.spread_of_means**2 + data.spread_of_means[0] ** 2) / scale[0]
    shifted = (off > tolerance) & (off > num_errors * error)
    rescaled = ratio > factor
    fault = bool(shifted.any() or rescaled.any())
    by_scale = bool(rescaled.any()) and not shifted.any()
    measured, threshold = (ratio, factor) if by_scale else (off, tolerance)
    worst = int(measured.argmax())
    known = np.isfinite([data.mean, data.scale, data.spread_of_means]).all()
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK if known else Verdict.UNDECIDED,
        float(measured[worst]),
        threshold,
        "times the training split's scale" if by_scale else "of the training split's scale",
        f"the {data.split_names[worst]} split",
        f"What the model sees has mean {data.mean[worst]:.3g} and scale {data.scale[worst]:.3g} there, "
        f"{data.mean[0]:.3g} and {data.scale[0]:.3g} in training.",
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
    """TB505. Are held-out rows kept out?  Measured: the largest share of them found in training."""
    code, check = "TB505", "splits_are_disjoint"
    if data is None or len(data.split_names) < 2:
        return not_run(code, check, "there is only one split")
    worst = int(data.overlap_share.argmax())
    measured = float(data.overlap_share[worst])
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
