"""Opening a run folder: its recipe, its setup, its checkpoints and its evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbound.commands.options import with_changes, with_settings
from tightbound.diagnose.evidence import Evidence
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.families.lookup import Recipe, find_recipe
from tightbound.runs.build import build

if TYPE_CHECKING:
    from tightbound.train.folder import RunFolder
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class OpenRun:
    """A run as its folder tells it."""

    folder: "RunFolder"
    recipe: Recipe
    seed: int
    document: dict[str, Any]  # recipe.json

    def build(self, changes: Sequence[str] = ()) -> "Setup":
        """The setup the run was started from, its planted fault included; or one with settings
        changed (`KEY=VALUE`), to look at its parameters in another way."""
        recipe = with_changes(self.recipe, changes)
        return build(recipe, self.seed, self.document.get("plant"))

    def state(self, setup: "Setup", step: int | None = None) -> "TrainState":
        """The state at `step`, or at the newest valid checkpoint."""
        from tightbound.train.checkpoint import find_checkpoint, load_state
        from tightbound.train.run import first_state

        steps = self.steps()
        chosen = steps[-1] if step is None else step
        return load_state(find_checkpoint(self.folder.checkpoints, chosen), first_state(setup))

    def steps(self) -> list[int]:
        """The steps of all valid checkpoints."""
        from tightbound.train.checkpoint import checkpoints

        valid, problems = checkpoints(self.folder.checkpoints)
        if not valid:
            raise UserError(f"{self.folder.path} has no valid checkpoint. " + " ".join(problems))
        return [checkpoint.step for checkpoint in valid]

    def history(self) -> list[Evidence]:
        """The evidence of the run's probes, oldest first."""
        return [Evidence.load(path) for path in sorted(self.folder.evidence.glob("step-*.npz"))]

    def baselines(self) -> dict[str, Estimate]:
        """The baselines computed when the run began."""
        document = self.folder.read_json("baselines.json")
        return {name: Estimate.from_json(value) for name, value in document.items()}

    def source(self) -> Estimate | None:
        """What the source of the data would reach on held-out rows; None where it is not known."""
        if not (self.folder.path / "source.json").exists():
            return None
        return Estimate.from_json(self.folder.read_json("source.json"))

    def stated(self) -> dict[str, bool]:
        """What the setup said of itself, for the doctor; nothing in a folder of an older version."""
        return {name: bool(value) for name, value in self.document.get("stated", {}).items()}

    def finished(self) -> bool:
        """Whether training came to its own end (its last step, or a plateau)."""
        if (self.folder.path / "findings.json").exists():
            return bool(self.folder.read_json("findings.json").get("finished", False))
        steps = self.folder.read_steps()
        return bool(steps) and steps[-1]["step"] >= self.recipe.run.steps

    def newest_bound(self) -> Estimate | None:
        """The held-out bound last recorded."""
        for record in reversed(self.folder.read_steps()):
            if "held_out" in record:
                return Estimate.from_json(record["held_out"]["bound"])
        return None


def open_run(path: str | Path) -> OpenRun:
    """The run in this folder; UserError where there is none."""
    from tightbound.train.folder import RunFolder

    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise UserError(
            f"There is no run folder {folder.path}. `tightbound runs` lists those there are."
        )
    document = folder.read_json("recipe.json")
    try:
        recipe = with_settings(find_recipe(document["recipe"]), document["settings"])
        return OpenRun(folder, recipe, int(document["seed"]), document)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder.path / 'recipe.json'} is not a recipe of this version: {error}."
        ) from error


def split_reference(reference: str) -> tuple[str, int | None]:
    """`RUN@STEP` or `RUN`, as a path and a step."""
    path, at, step = reference.rpartition("@")
    if not at:
        return reference, None
    if not step.isdigit():
        raise UserError(f"{reference!r} should end in @STEP with a whole number, as in runs/a@500.")
    return path, int(step)
