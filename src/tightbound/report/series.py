"""Records of `steps.jsonl` -> arrays over training, one series per split, site or number."""

import logging
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from tightbound.estimators.estimate import Estimate
from tightbound.files.printed import printable
from tightbound.report.draw.scales import padded

LOWEST_SHARE = 0.05  # of bounds that may lie below a frame: the first steps dwarf all others
SplitName = Literal["train", "held_out"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
_BESIDE = ("unit", "bound", "estimator", "num_samples", "split")  # of an estimate, its numbers
_OF_A_BOUND = ("value", "standard_error", "monte_carlo_error")
_log = logging.getLogger(__name__)
PER_DATA_SET, PER_POINT = "nats per data set", "nats per point"


_NO_ERROR = -1.0  # stands for None among errors, which are never below 0


class _Columns:
    """Numbers by name, and the step of each row; NaN where a row has none of that name."""

    def __init__(self):
        self.steps = array("q")
        self.numbers: dict[str, array] = {}

    def add(self, step: int, row: Mapping[str, float]) -> None:
        if row.keys() != self.numbers.keys():
            for name in row.keys() - self.numbers.keys():
                self.numbers[name] = array("d", [math.nan]) * len(self.steps)
            row = {name: row.get(name, math.nan) for name in self.numbers}
        self.steps.append(step)
        for name, column in self.numbers.items():
            column.append(row[name])

    def __getitem__(self, name: str) -> Float[np.ndarray, " records"]:
        return np.array(self.numbers.get(name, ()), float)

    @property
    def all_steps(self) -> Int[np.ndarray, " records"]:
        return np.array(self.steps, int)


class History:
    """What a run's records say over training, in columns: some 100 bytes of a record, however many.

    Where the rows are points of one data set (`pooled`), training bounds log p of the data set, and a held-out
    figure is of one point: their units say so. A record that says something else than a record should is left
    out, and the first such is said on the logger.
    """

    def __init__(self, records: Iterable[dict[str, Any]] = (), *, pooled: bool = False):
        self.pooled = pooled
        self.bounds: dict[str, _Columns] = {split: _Columns() for split in SPLITS}
        self.sites: dict[str, _Columns] = {split: _Columns() for split in SPLITS}
        self.shares: dict[str, _Columns] = {split: _Columns() for split in SPLITS}
        self._templates: dict[str, Estimate] = {}
        self._claims: dict[str, tuple[Any, ...]] = {}  # what an estimate says beside its numbers
        is_said = False
        for record in records:
            for split in SPLITS:
                if split not in record:
                    continue
                try:
                    self._take_in(record["step"], split, record[split])
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    if not is_said:
                        _log.warning(
                            "The record of step %s is none of this version (%s); it is left out of the report.",
                            *(record["step"], printable(str(error))),
                        )
                    is_said = True

    def _take_in(self, step: int, split: str, report: Mapping[str, Any]) -> None:
        bound = report.get("bound")
        sites = {name: _added(site) for name, site in report.get("sites", {}).items()}
        if bound is not None:
            row = {name: _number(bound[name]) for name in _OF_A_BOUND}
            claim = tuple(bound[name] for name in _BESIDE)
            if claim != self._claims.get(split):
                template = Estimate.from_json(bound)
                unit = {"train": PER_DATA_SET, "held_out": PER_POINT}[split]
                self._templates[split] = replace(template, unit=unit) if self.pooled else template
                self._claims[split] = claim
            self.bounds[split].add(step, row)
        if sites:
            self.sites[split].add(step, sites)
        if "ess_fraction" in report:
            self.shares[split].add(step, {"ess_fraction": float(report["ess_fraction"])})

    def newest(self, split: SplitName) -> Estimate | None:
        """The newest bound of the split; None without."""
        estimates = self.estimates(split)
        return estimates[-1] if len(estimates) else None

    def estimates(self, split: SplitName) -> Sequence[Estimate]:
        """All of them, each made when it is asked for."""
        return _Estimates(self.bounds[split], self._templates.get(split))


@dataclass(frozen=True)
class BoundSeries:
    """The bound of one split over training."""

    steps: Int[np.ndarray, " records"]
    values: Float[np.ndarray, " records"]
    standard_errors: Float[np.ndarray, " records"]  # NaN where an estimate has none
    estimates: Sequence[Estimate]  # one for each step, made when it is asked for
    newest: Estimate | None

    def __len__(self) -> int:
        return len(self.steps)


class _Estimates(Sequence[Estimate]):
    """Estimates of columns: they differ from a template in their numbers alone."""

    def __init__(self, columns: _Columns, template: Estimate | None):
        self._columns, self._template = columns, template

    def __len__(self) -> int:
        return len(self._columns.steps)

    def __getitem__(self, place):  # pyright: ignore[reportIncompatibleMethodOverride]
        assert self._template is not None
        value, *errors = (self._columns.numbers[name][place] for name in _OF_A_BOUND)
        standard, of_draws = (None if error == _NO_ERROR else error for error in errors)
        return replace(
            self._template, value=value, standard_error=standard, monte_carlo_error=of_draws
        )


def bound_series(history: History, split: SplitName) -> BoundSeries:
    """The records that have this split, in order."""
    columns = history.bounds[split]
    errors = columns["standard_error"]
    return BoundSeries(
        steps=columns.all_steps,
        values=columns["value"],
        standard_errors=np.where(errors == _NO_ERROR, np.nan, errors),
        estimates=history.estimates(split),
        newest=history.newest(split),
    )


def bound_range(
    train: BoundSeries, held_out: BoundSeries, baselines: Sequence[Estimate]
) -> tuple[float, float]:
    """A frame for all bounds but the lowest few, the newest held-out one and the baseline to beat."""
    values = np.concatenate([train.values, held_out.values])
    finite = values[np.isfinite(values)]
    kept = finite[finite >= np.quantile(finite, LOWEST_SHARE)] if len(finite) else finite
    to_beat = [max((baseline.value for baseline in baselines), default=np.nan)]
    return padded(np.concatenate([kept, held_out.values[-1:], to_beat]))


def site_series(
    history: History, split: SplitName
) -> tuple[Int[np.ndarray, " records"], dict[str, Float[np.ndarray, " records"]]]:
    """What each site adds to the bound over training: log p - log q, in nats per sequence."""
    columns = history.sites[split]
    return columns.all_steps, {name: columns[name] for name in columns.numbers}


def share_series(
    history: History, split: SplitName
) -> tuple[Int[np.ndarray, " records"], Float[np.ndarray, " records"]]:
    """The effective sample size of the split over training, as a share of the draws."""
    columns = history.shares[split]
    return columns.all_steps, columns["ess_fraction"]


def _number(value: Any) -> float:
    return _NO_ERROR if value is None else float(value)


def _added(site: Mapping[str, Any]) -> float:
    return float(site["log_p"]) - float(site.get("log_q", 0.0))
