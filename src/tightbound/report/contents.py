"""What a run folder holds, read for a report: every part but the recipe may be missing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tightbound.diagnose.finding import Finding
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.report.series import PER_POINT, in_own_units
from tightbound.train.folder import RunFolder


@dataclass(frozen=True)
class RunContents:
    """A run, as its folder tells it."""

    path: Path
    recipe: dict[str, Any]
    environment: dict[str, Any]
    baselines: dict[str, Estimate]
    records: tuple[dict[str, Any], ...]  # of `steps.jsonl`, oldest first, in their own units
    findings: tuple[Finding, ...] | None  # None: nobody has looked yet
    findings_step: int | None
    evidence: tuple[Path, ...]  # oldest first
    samples: tuple[Path, ...]  # pictures that are drawn from nothing else here
    why: dict[str, Any] | None

    def newest(self, name: str) -> Any:
        """The newest document `samples/NAME-*.json`, which a family's samples have left; None without."""
        path = self.newest_path(name)
        return None if path is None else RunFolder(self.path).read_json(f"samples/{path.name}")

    def newest_path(self, name: str) -> Path | None:
        """Where that document is."""
        found = sorted(RunFolder(self.path).samples.glob(f"{name}-*.json"))
        return found[-1] if found else None

    def document(self, name: str) -> Any:
        """The document `samples/NAME.json`; None without."""
        path = f"samples/{name}.json"
        return RunFolder(self.path).read_json(path) if (self.path / path).exists() else None


def read_contents(folder: RunFolder) -> RunContents:
    """Read everything but the evidence's arrays. UserError where there is no recipe, or where a
    document is damaged."""

    def document(name: str) -> Any:
        return folder.read_json(name) if (folder.path / name).exists() else None

    recipe = folder.read_json("recipe.json")
    pooled = bool(recipe.get("stated", {}).get("pooled"))
    baselines = {n: Estimate.from_json(e) for n, e in (document("baselines.json") or {}).items()}
    if pooled:
        baselines = {name: replace(e, unit=PER_POINT) for name, e in baselines.items()}
    findings = document("findings.json")
    return RunContents(
        path=folder.path,
        recipe=recipe,
        environment=document("environment.json") or {},
        baselines=baselines,
        records=in_own_units(folder.read_steps(), pooled=pooled),
        findings=None if findings is None else tuple(map(Finding.from_json, findings["findings"])),
        findings_step=None if findings is None else findings["step"],
        evidence=tuple(sorted(folder.evidence.glob("step-*.npz"))),
        samples=tuple(
            path
            for path in sorted(folder.samples.glob("*.png"))
            if not path.with_suffix(".json").exists()
        ),
        why=document("why.json"),
    )


def step_of(evidence: Path) -> int:
    """The step in the name `step-00000128.npz`."""
    return int(evidence.stem.removeprefix("step-"))


def read_arrays(evidence: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the file has; the others are not even unpacked."""
    try:
        # Opened here: NumPy leaves a file open that turns out to be damaged.
        with open(evidence, "rb") as raw, np.load(raw, allow_pickle=False) as file:
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
