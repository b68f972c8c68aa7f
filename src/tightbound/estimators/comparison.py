"""Two runs on the same rows: which is better, and by more than the rows' own spread?  NumPy only."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Integer

from tightbound.estimators.estimate import Bound, Estimate, number_text
from tightbound.estimators.units import in_unit, ratio_influence, standard_error

ComparedUnit = Literal[
    "nats per sequence", "nats per unit", "bits per unit", "perplexity", "nats per character"
]


@dataclass(frozen=True)
class SequenceScores:
    """What one run's estimator said of every row of a split: kept apart so that runs can be paired."""

    log_p: Float[np.ndarray, " batch"]  # the bound, or log p(x) itself, in nats
    rows: Int[np.ndarray, " batch"]  # places in the split, in any order
    num_units: Int[np.ndarray, " batch"]
    unit_name: str  # what is counted: "token of vocabulary V", "frame", "pixel"
    split: str  # with the law of the data: "test (dynamic binarisation)"
    bound: Bound  # on which side of log p(x) `log_p` lies
    estimator: str
    num_samples: int
    num_characters: Int[np.ndarray, " batch"] | None = (
        None  # of text: the same for any tokenisation
    )
    groups: Integer[np.ndarray, " batch"] | None = None  # rows of one are not independent (writers)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same rows, and their paired difference.

    `difference` is first minus second, in `unit`: in nats per sequence positive means that the
    first is better, in the other units (negative log-likelihoods) that it is worse. Its error is
    that of the pairs, mostly far smaller than either run's own. Two bounds compare models only
    as far as the bounds are equally tight: mind the estimators and their numbers of samples.
    """

    first: Estimate
    second: Estimate
    difference: float
    standard_error: float | None
    unit: str
    num_sequences: int
    split: str
    num_groups: int | None = None  # where the error is clustered by group

    @property
    def larger_is_better(self) -> bool:
        """True for log p(x), False for negative log-likelihoods and perplexities."""
        return self.unit == "nats per sequence"

    def _repr_html_(self) -> str:
        """How a notebook shows it: the paired difference, then both runs."""
        error = "unknown" if self.standard_error is None else number_text(self.standard_error, 4)
        return (
            f"<b>{number_text(self.difference, 4, sign='+')} ± {error}</b> {self.unit}, first - second, paired over "
            f"{self.num_sequences} sequences<br>first: {self.first._repr_html_()}<br>"
            f"second: {self.second._repr_html_()}"
        )

    def to_json(self) -> dict[str, Any]:
        """The document `compare --json` prints."""
        return asdict(self) | {"first": self.first.to_json(), "second": self.second.to_json()}

    def __str__(self) -> str:
        """As printed: `first better by 0.531 ± 0.012 nats per sequence (10000 pairs, test)`."""
        better = "first" if (self.difference > 0) == self.larger_is_better else "second"
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2g}"
        margin = f"{abs(self.difference):.4g}{error} {self.unit}"
        return f"{better} better by {margin} ({self.num_sequences} pairs, {self.split})"


def compare(
    first: SequenceScores,
    second: SequenceScores,
    *,
    unit: ComparedUnit = "nats per sequence",
    by_group: bool = False,
) -> Comparison:
    """Paired difference of two runs on the same rows of the same split, with its standard error.

        difference = f(R_1) - f(R_2),   standard_error = sd_b(f'(R_1) i_1b - f'(R_2) i_2b) / sqrt(B)

    R is the sum of nats over the sum of units, i its influence (`ratio_influence`), f the unit's
    scale (identity, 1 / log 2, exp). Rows are matched by their place in the split, whatever the
    order. Different rows, splits or laws of the data are refused, and so are figures per unit
    when the two runs count different units. `by_group` clusters the error by the first run's groups
    (`estimators.units.standard_error`).
    """
    _require_same_data(first, second)
    if by_group and first.groups is None:
        raise ValueError(
            f"The error was to be clustered by group, but the rows of {first.split} have no groups. "
            "Leave `by_group` out."
        )
    if unit in ("nats per unit", "bits per unit", "perplexity"):
        _require_same_units(first, second, unit)
    first, second = _by_row(first), _by_row(second)
    estimates = _estimate(first, unit), _estimate(second, unit)
    influences = [
        _slope(unit, estimate) * ratio_influence(*_nats_and_units(scores, unit))
        for scores, estimate in zip((first, second), estimates, strict=True)
    ]
    return Comparison(
        first=estimates[0],
        second=estimates[1],
        difference=estimates[0].value - estimates[1].value,
        standard_error=standard_error(
            influences[0] - influences[1], first.groups if by_group else None
        ),
        unit=unit,
        num_sequences=len(first.rows),
        split=first.split,
        num_groups=len(np.unique(first.groups)) if by_group and first.groups is not None else None,
    )


def _require_same_data(first: SequenceScores, second: SequenceScores) -> None:
    if first.split != second.split:
        raise ValueError(
            f"The first run was evaluated on {first.split}, the second on {second.split}; a "
            "difference would mix the models with the data.\nEvaluate both on the same split "
            "under the same law."
        )
    for name, scores in (("first", first), ("second", second)):
        if len(np.unique(scores.rows)) != len(scores.rows):
            raise ValueError(
                f"The {name} run holds some rows of {scores.split} twice; pairs would be "
                "ambiguous.\nCut off the rows that fill up the last batch."
            )
    only_first = len(np.setdiff1d(first.rows, second.rows))
    only_second = len(np.setdiff1d(second.rows, first.rows))
    if only_first or only_second:
        raise ValueError(
            f"`compare` pairs two runs row by row, but of {first.split} the first alone has "
            f"{only_first} rows and the second alone {only_second}.\n"
            "Evaluate both on the same rows."
        )


def _require_same_units(first: SequenceScores, second: SequenceScores, unit: str) -> None:
    same_counts = np.array_equal(_by_row(first).num_units, _by_row(second).num_units)
    if first.unit_name == second.unit_name and same_counts:
        return
    has_characters = first.num_characters is not None and second.num_characters is not None
    advice = "nats per character" if has_characters else "nats per sequence"
    raise ValueError(
        f"A comparison in {unit} needs one way to count units, but the first run counts "
        f"{first.num_units.sum()} ({first.unit_name}) and the second {second.num_units.sum()} "
        f"({second.unit_name}) in the same rows.\nUse `unit={advice!r}`, which does not depend on "
        "the tokenisation."
    )


def _by_row(scores: SequenceScores) -> SequenceScores:
    """The same scores in the order of their rows."""
    order = np.argsort(scores.rows)
    characters, groups = scores.num_characters, scores.groups
    return replace(
        scores,
        log_p=scores.log_p[order],
        rows=scores.rows[order],
        num_units=scores.num_units[order],
        num_characters=None if characters is None else characters[order],
        groups=None if groups is None else groups[order],
    )


def _nats_and_units(
    scores: SequenceScores, unit: ComparedUnit
) -> tuple[Float[np.ndarray, " batch"], Int[np.ndarray, " batch"]]:
    """What is summed and what it is divided by, with the sign in which the unit is quoted."""
    if unit == "nats per sequence":
        return scores.log_p, np.ones(len(scores.log_p), np.int64)
    if unit == "nats per character":
        if scores.num_characters is None:
            raise ValueError(
                "'nats per character' needs the number of characters of every row, but "
                "`num_characters` is missing.\nGive it, or use `unit='nats per sequence'`."
            )
        return -scores.log_p, scores.num_characters
    return -scores.log_p, scores.num_units


def _estimate(scores: SequenceScores, unit: ComparedUnit) -> Estimate:
    characters = unit == "nats per character"
    estimate = in_unit(
        scores.log_p,
        "nats per unit" if characters else unit,
        num_units=_nats_and_units(scores, unit)[1],
        bound=scores.bound,
        estimator=scores.estimator,
        num_samples=scores.num_samples,
        split=scores.split,
    )
    return replace(estimate, unit=unit)


def _slope(unit: ComparedUnit, estimate: Estimate) -> float:
    """Derivative of the reported value by the nats per unit."""
    return {"bits per unit": 1.0 / np.log(2.0), "perplexity": estimate.value}.get(unit, 1.0)
