"""What a run folder holds, read for a report: every part but the recipe may be missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from tightbound.diagnose.finding import Finding
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.train.folder import RunFolder

SplitName = Literal["train", "held_out"]


@dataclass(frozen=True)
class RunContents:
    """A run, as its folder tells it."""

    path: Path
    recipe: dict[str, Any]
    environment: dict[str, Any]
    baselines: dict[str, Estimate]
    records: list[dict[str, Any]]  # of `steps.jsonl`, oldest first
    findings: tuple[Finding, ...] | None  # None: nobody has looked yet
    findings_step: int | None
    evidence: tuple[Path, ...]  # oldest first
    samples: tuple[Path, ...]
    why: dict[str, Any] | None


def read_contents(folder: RunFolder) -> RunContents:
    """Read everything but the evidence's arrays. UserError where there is no recipe, or where a
    document is damaged."""

    def document(name: str) -> Any:
        return folder.read_json(name) if (folder.path / name).exists() else None

    recipe = folder.read_json("recipe.json")
    findings = document("findings.json")
    return RunContents(
        path=folder.path,
        recipe=recipe,
        environment=document("environment.json") or {},
        baselines={n: Estimate.from_json(e) for n, e in (document("baselines.json") or {}).items()},
        records=folder.read_steps(),
        findings=None if findings is None else tuple(map(Finding.from_json, findings["findings"])),
        findings_step=None if findings is None else findings["step"],
        evidence=tuple(sorted(folder.evidence.glob("step-*.npz"))),
        samples=tuple(sorted(folder.samples.glob("*.png"))),
        why=document("why.json"),
    )


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


def best_baseline(baselines: Mapping[str, Estimate]) -> tuple[str, Estimate] | None:
    """The one to beat. Baselines are log-likelihoods in nats per sequence: larger is better."""
    finite = {name: e for name, e in baselines.items() if np.isfinite(e.value)}
    if not finite:
        return None
    name = max(finite, key=lambda name: finite[name].value)
    return name, finite[name]


def standing(bound: Estimate, baseline: Estimate) -> str:
    """Where a bound lies against a baseline: "above", "below" or "not told apart from".

    Told apart by two standard errors of the difference, as if the two were independent: on the
    same sequences they rise and fall together, so this errs towards "not told apart from".
    """
    if not np.isfinite(bound.value):
        return "not to be compared with"
    margin = 2 * np.hypot(bound.standard_error or 0.0, baseline.standard_error or 0.0)
    if abs(bound.value - baseline.value) <= margin:
        return "not told apart from"
    return "above" if bound.value > baseline.value else "below"


def step_of(evidence: Path) -> int:
    """The step in the name `step-00000128.npz`."""
    return int(evidence.stem.removeprefix("step-"))


def read_arrays(evidence: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the file has; the others are not even unpacked."""
    try:
        with np.load(evidence, allow_pickle=False) as file:
            return {name: file[name] for name in names if name in file.files}
    except Exception as error:  # zipfile, zlib, struct and NumPy each raise their own
        raise UserError(
            f"The evidence file {evidence} is damaged ({error}). Delete it; the report draws the rest."
        ) from error


def newest_array(evidence: Sequence[Path], name: str) -> tuple[int, np.ndarray] | None:
    """The step and the array of the newest file that has it."""
    for path in reversed(evidence):
        found = read_arrays(path, [name])
        if name in found:
            return step_of(path), found[name]
    return None
