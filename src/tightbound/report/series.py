"""Records of `steps.jsonl` -> arrays over training, one series per split, site or number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from tightbound.estimators.estimate import Estimate
from tightbound.report.draw.scales import padded

LOWEST_SHARE = 0.05  # of bounds that may lie below a frame: the first steps dwarf all others
SplitName = Literal["train", "held_out"]
PER_DATA_SET, PER_POINT = "nats per data set", "nats per point"


@dataclass(frozen=True)
class BoundSeries:
    """The bound of one split over training."""

    steps: Int[np.ndarray, " records"]
    estimates: tuple[Estimate, ...]

    @property
    def values(self) -> Float[np.ndarray, " records"]:
        return np.array([estimate.value for estimate in self.estimates], float)

    @property
    def standard_errors(self) -> Float[np.ndarray, " records"]:
        """NaN where an estimate has none."""
        errors = [estimate.standard_error for estimate in self.estimates]
        return np.array([np.nan if error is None else error for error in errors], float)


def bound_series(records: Sequence[dict[str, Any]], split: SplitName) -> BoundSeries:
    """The records that have this split, in order."""
    having = [record for record in records if split in record]
    return BoundSeries(
        steps=np.array([record["step"] for record in having], int),
        estimates=tuple(Estimate.from_json(record[split]["bound"]) for record in having),
    )


def in_own_units(records: Sequence[dict[str, Any]], *, pooled: bool) -> tuple[dict[str, Any], ...]:
    """The records with the unit that each figure is in. Where the rows are points of one data set
    (`pooled`), training bounds log p of the data set, and a held-out figure is of one point."""
    if not pooled:
        return tuple(records)
    units = {"train": PER_DATA_SET, "held_out": PER_POINT}
    return tuple(
        record
        | {
            split: record[split] | {"bound": record[split]["bound"] | {"unit": unit}}
            for split, unit in units.items()
            if split in record
        }
        for record in records
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
    records: Sequence[dict[str, Any]], split: SplitName
) -> tuple[Int[np.ndarray, " records"], dict[str, Float[np.ndarray, " records"]]]:
    """What each site adds to the bound over training: log p - log q, in nats per sequence."""
    having = [record for record in records if split in record]
    names = list(dict.fromkeys(name for record in having for name in record[split]["sites"]))
    missing = {"log_p": np.nan}
    added = {
        name: np.array([_added(record[split]["sites"].get(name, missing)) for record in having])
        for name in names
    }
    return np.array([record["step"] for record in having], int), added


def _added(site: dict[str, Any]) -> float:
    return float(site["log_p"]) - float(site.get("log_q", 0.0))


def number_series(
    records: Sequence[dict[str, Any]], split: SplitName, name: str
) -> tuple[Int[np.ndarray, " records"], Float[np.ndarray, " records"]]:
    """One number of the split's report over training, where it was recorded."""
    having = [record for record in records if name in record.get(split, {})]
    return (
        np.array([record["step"] for record in having], int),
        np.array([record[split][name] for record in having], float),
    )
