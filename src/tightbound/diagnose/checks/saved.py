"""TB305 and TB306: is an array that somebody saved what its name says?  From its numbers alone."""

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run

WEIGHTS_EXPONENTIATED = Cause(
    "weights_were_exponentiated",
    "The weights themselves were saved, exp of the log-weights: none is below 0.",
    "Save log p(x, z) - log q(z | x) itself; the logarithm of what was saved has lost what exp rounded to 0.",
)
AXES_SWAPPED = Cause(
    "axes_swapped",
    "The first axis holds the sequences and the second the samples: bounds, tails and errors are taken over "
    "the wrong one.",
    "Save the transpose: samples first, then sequences.",
)


def weights_are_logs(
    log_weights: Float[np.ndarray, "samples rows"] | None,
    *,
    tolerance: float = 1e-4,
    spread: float = 0.5,
    num_errors: float = 6.0,
    fewest_rows: int = 5,
) -> Finding:
    """TB305. Are these log-weights, and not weights?

    A value below 0 is no weight, and passes. Where there is none, measured: the standard deviation of a
    row over its mean, in the median row. Weights vary by more than `spread` of their mean and lean to the
    right: the middle of a row's range lies above its median, on average over rows by more than
    `num_errors` standard errors, of `fewest_rows` at least, since the error of fewer is hardly known. Where
    no value is above 1, the means of ten rows are asked the same. Undecided where something varies so and
    does not lean, or is above 1. Rows that all sum to 1, or all have 1 for their largest value, to
    `tolerance`, are normalised weights whatever their spread.

    Assumes draws of one row that differ, and rows that are independent. Log-weights of a density of real
    data may all be above 0: then they are far from it, as their spread tells.
    """
    code, check = "TB305", "weights_are_logs"
    if log_weights is None or log_weights.size == 0:
        return not_run(code, check, "no log-weights were given")
    where, lowest = "the numbers saved as log-weights", float(np.nanmin(log_weights, initial=0.0))
    if lowest < 0 or (log_weights == 0).all():
        said = "Some value is below 0, as no weight is." if lowest < 0 else "All values are 0."
        return Finding(code, check, Verdict.OK, lowest, 0.0, "nats", where, said)
    if min(log_weights.shape) < 2 or not np.isfinite(log_weights).all():
        reason = "no value is below 0: two samples of two rows, all finite, would tell why"
        return not_run(code, check, reason)
    measured, threshold, unit = _normalised(log_weights), tolerance, ""
    verdict = Verdict.FAULT
    said = "No value is below 0, and every row sums to 1, or has 1 for its largest value."
    if measured > tolerance:
        within, means = _spread_and_lean(log_weights), log_weights.mean(axis=0)
        between = _spread_and_lean(means[: len(means) // 10 * 10].reshape(10, -1))
        measured, lean = between if between[0] > within[0] and within[0] < spread else within
        threshold, unit = spread, "of the mean"
        can_tell = len(lean) >= fewest_rows and (
            within[0] >= spread or bool((log_weights <= 1).all())
        )
        leans = can_tell and bool(lean.mean() > num_errors * lean.std(ddof=1) / np.sqrt(len(lean)))
        verdict = Verdict.FAULT if leans else Verdict.UNDECIDED
        said = f"No value is below 0, and values vary by {measured:.2g} of their mean"
        said += " and lean to the right, as weights do." if leans else ", as weights may."
        if measured < spread:
            verdict = Verdict.OK
            said = "No value is below 0, but values stay far from it: a density of real data."
    causes = (WEIGHTS_EXPONENTIATED,) if verdict is Verdict.FAULT else ()
    return Finding(code, check, verdict, measured, threshold, unit, where, said, causes)


def _normalised(weights: Float[np.ndarray, "samples rows"]) -> float:
    """How far from 1 the sum of a row is at most, or its largest value, whichever is less."""
    return float(min(np.abs(weights.sum(axis=0) - 1).max(), np.abs(weights.max(axis=0) - 1).max()))


def _spread_and_lean(
    values: Float[np.ndarray, "samples rows"],
) -> tuple[float, Float[np.ndarray, " some"]]:
    """The standard deviation of a row over its mean, in the median row; and where the median of each row
    that has a range lies in it: 1 at the lower end, -1 at the upper."""
    if values.size == 0:
        return 0.0, np.zeros(0)
    lowest, largest, middle = values.min(axis=0), values.max(axis=0), np.median(values, axis=0)
    relative = np.median(values.std(axis=0) / np.maximum(values.mean(axis=0), 1e-300))
    width = largest - lowest
    return float(relative), (largest + lowest - 2 * middle)[width > 0] / width[width > 0]


def axes_stand_in_order(
    log_weights: Float[np.ndarray, "samples rows"] | None,
    *,
    num_errors: float = 6.0,
    most_lines: int = 500,
) -> Finding:
    """TB306. Is the first axis that of the samples?

    The draws of a row are independent and alike: any order of a column's values is as likely as another.
    Sequences differ, in every draw alike. So values are ranked within each column, and the mean ranks of
    the lines compared: Friedman's statistic (1937), of mean d and variance 2 d where no line is different,
    d the number of lines less one. Measured: how far it lies above, in standard errors (by the cube root
    of Wilson & Hilferty 1931, which is normal for small d too). The same with the axes exchanged.

    Fault where lines differ and columns do not, each by `num_errors`. It assumes independent draws: not run
    where lines and columns both differ (draws shared by sequences, sorted or chained ones); nor where
    neither does, since sequences that are alike look the same both ways. Of a longer axis `most_lines`,
    evenly spread, are ranked.
    """
    code, check = "TB306", "axes_stand_in_order"
    if log_weights is None or min(log_weights.shape) < 2:
        return not_run(code, check, "needs two samples of two sequences")
    if np.isnan(log_weights).any():
        return not_run(code, check, "some log-weights are NaN")
    some = [np.linspace(0, n - 1, min(n, most_lines)).astype(int) for n in log_weights.shape]
    ranked = log_weights[np.ix_(*some)]
    lines, columns = _differences(ranked), _differences(ranked.T)
    if lines <= num_errors and columns <= num_errors:
        return not_run(
            code, check, "sequences that differ by no more than draws look the same both ways"
        )
    if lines > num_errors and columns > num_errors:
        return not_run(
            code,
            check,
            "values differ along both axes: draws are shared by sequences, sorted, or a chain, and not "
            "independent",
        )
    swapped = lines > num_errors
    shape = f"{log_weights.shape[0]} by {log_weights.shape[1]}"
    return Finding(
        code,
        check,
        Verdict.FAULT if swapped else Verdict.OK,
        lines,
        num_errors,
        "standard errors",
        f"mean ranks along the first axis, {shape}",
        "Values go together along the second axis and not along the first: the axes look swapped."
        if swapped
        else "Values go together along the first axis, as the draws of one sequence do.",
        (AXES_SWAPPED,) if swapped else (),
    )


def _differences(values: Float[np.ndarray, "lines columns"]) -> float:
    """How many standard errors Friedman's statistic of the lines lies above its mean; 0 where all values
    of every column are equal."""
    ranks = _mid_ranks(values)
    num_lines, num_columns = values.shape
    # The variance of a rank within its column, ties counted as ties.
    variance = float(np.square(ranks - (num_lines + 1) / 2).sum()) / (num_lines - 1)
    if variance == 0.0:
        return 0.0
    sums = ranks.sum(axis=1) - num_columns * (num_lines + 1) / 2
    statistic, freedom = float(np.square(sums).sum()) / variance, num_lines - 1
    spread = 2.0 / (9.0 * freedom)
    return float((np.cbrt(statistic / freedom) - (1.0 - spread)) / np.sqrt(spread))


def _mid_ranks(values: Float[np.ndarray, "lines columns"]) -> Float[np.ndarray, "lines columns"]:
    """Ranks within each column from 1, the mean of those that ties share. As `scipy.stats.rankdata`, whose
    import takes longer than everything else here."""
    order = values.argsort(axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    new = np.ones(values.shape, bool)
    new[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(len(values))[:, None]
    first = np.maximum.accumulate(np.where(new, places, 0), axis=0)
    ends = np.roll(
        new, -1, axis=0
    )  # the next value is another; the last one's neighbour is the first
    last = np.minimum.accumulate(np.where(ends, places, len(values))[::-1], axis=0)[::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=0)
    return ranks
