"""What a run folder holds, read for a report: every part but the recipe may be missing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import GenericAlias  # such as dict[str, float]
from typing import NotRequired, TypedDict, TypeVar

import numpy as np

from tightbound.diagnose.evidence import read_fields
from tightbound.diagnose.finding import Finding
from tightbound.diagnose.findings import FindingsDocument
from tightbound.estimators.estimate import Estimate, EstimateDocument
from tightbound.files.documents import Number
from tightbound.report.series import PER_POINT, History
from tightbound.train.documents import Baselines, Environment, RecipeDocument, Step
from tightbound.train.folder import RunFolder, step_of

Document = TypeVar("Document")


# `why.json`: the change of the bound between two checkpoints, by site, by group and by module.
Change = TypedDict(
    "Change",
    {
        "from": Step,
        "to": Step,
        "change": EstimateDocument,
        "sites": NotRequired[dict[str, EstimateDocument]],
        "groups": NotRequired[dict[str, EstimateDocument]],
        "modules": NotRequired[dict[str, dict[str, Number]]],
    },
)


@dataclass(frozen=True)
class RunContents:
    """A run, as its folder tells it."""

    path: Path
    recipe: RecipeDocument
    environment: Environment
    baselines: dict[str, Estimate]
    history: History  # of `steps.jsonl`
    findings: tuple[Finding, ...] | None  # None: nobody has looked yet
    findings_step: int | None
    evidence: tuple[Path, ...]  # oldest first
    samples: tuple[Path, ...]  # pictures that are drawn from nothing else here
    why: Change | None

    @property
    def pooled(self) -> bool:
        """Whether training rows are points of one data set."""
        return bool(self.recipe.get("stated", {}).get("pooled"))

    def newest(self, name: str, kind: type[Document] | GenericAlias) -> Document | None:
        """The newest document `samples/NAME-*.json`, which a family's samples have left; None without.
        UserError where it is not of this type."""
        folder = RunFolder(self.path)
        found = sorted(folder.samples.glob(f"{name}-*.json"))
        return folder.find_json(f"samples/{found[-1].name}", kind) if found else None

    def document(self, name: str, kind: type[Document] | GenericAlias) -> Document | None:
        """The document `samples/NAME.json`; None without."""
        return RunFolder(self.path).find_json(f"samples/{name}.json", kind)


def read_contents(folder: RunFolder) -> RunContents:
    """Read everything but the evidence's arrays. UserError where there is no recipe, or where a
    document is damaged."""

    recipe = folder.read_json("recipe.json", RecipeDocument)
    pooled = bool(recipe.get("stated", {}).get("pooled"))
    found = folder.find_json("baselines.json", Baselines) or {}
    baselines = {name: Estimate.from_json(one) for name, one in found.items()}
    if pooled:
        baselines = {name: replace(e, unit=PER_POINT) for name, e in baselines.items()}
    findings = folder.find_json("findings.json", FindingsDocument)
    return RunContents(
        path=folder.path,
        recipe=recipe,
        environment=folder.find_json("environment.json", Environment) or {},
        baselines=baselines,
        history=History(folder.stream_steps(), pooled=pooled),
        findings=None if findings is None else tuple(map(Finding.from_json, findings["findings"])),
        findings_step=None if findings is None else findings["step"],
        evidence=tuple(folder.evidence_files()),
        samples=tuple(
            path
            for path in sorted(folder.samples.glob("*.png"))
            if not path.with_suffix(".json").exists()
        ),
        why=folder.find_json("why.json", Change),
    )


def newest_array(evidence: Sequence[Path], name: str) -> tuple[int, np.ndarray] | None:
    """The step and the array of the newest file that has it."""
    for path in reversed(evidence):
        found = read_fields(path, [name])
        if name in found:
            return step_of(path), found[name]
    return None
