"""Opening a run folder: its recipe, its setup, its checkpoints and its evidence."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbound.diagnose.case import Case
from tightbound.diagnose.doctor import judge
from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.findings import Findings
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.families.family import Family
from tightbound.families.lookup import Recipe, family_of, find_recipe
from tightbound.families.sampling import Drawn, Samples
from tightbound.families.settings import with_changes, with_settings
from tightbound.runs.build import build
from tightbound.runs.evaluated import Evaluated, EvaluatedBound, evaluate_split, filtering_of

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

    @cached_property
    def setup(self) -> "Setup":
        """Everything the run was made of, its planted fault included."""
        return self.build()

    @property
    def family(self) -> Family | None:
        """The family the run is of, by its recipe's name; None where a user's own says of none."""
        return family_of(self.document["recipe"])

    def build(self, changes: Sequence[str] = ()) -> "Setup":
        """The setup the run was started from, its planted fault included; or one with settings
        changed (`KEY=VALUE`), to look at its parameters in another way."""
        recipe = with_changes(self.recipe, changes)
        return build(recipe, self.seed, self.document.get("plant"))

    def state(self, step: int | None = None, setup: "Setup | None" = None) -> "TrainState":
        """The state at `step`, or at the newest valid checkpoint; of a setup with settings changed, its
        own."""
        steps = self.steps()
        chosen = steps[-1] if step is None else step
        return next(self.states(self.setup if setup is None else setup, [chosen]))

    def states(self, setup: "Setup", steps: Sequence[int]) -> "Iterator[TrainState]":
        """The states at these steps, read one after another."""
        from tightbound.train.checkpoint import find_checkpoint, load_state
        from tightbound.train.run import first_state

        for step in steps:
            yield load_state(find_checkpoint(self.folder.checkpoints, step), first_state(setup))

    def samples(self, options: Samples | None = None, step: int | None = None) -> Drawn:
        """Draw from the model at `step` into the run's `samples/`; `options` are those of its family."""
        if self.family is None or self.family.samples is None:
            raise UserError(
                f"{self.folder.path} is of no family that can be drawn from. Its recipe's `build` names "
                "one: Setup(..., family=...)."
            )
        chosen = self.family.load("samples")() if options is None else options
        self.folder.samples.mkdir(exist_ok=True)
        return chosen.write(self.setup, self.state(step), self.folder.samples, self)

    def steps(self) -> list[int]:
        """The steps of all valid checkpoints."""
        from tightbound.train.checkpoint import checkpoints

        valid, problems = checkpoints(self.folder.checkpoints)
        if not valid:
            raise UserError(f"{self.folder.path} has no valid checkpoint. " + " ".join(problems))
        return [checkpoint.step for checkpoint in valid]

    @property
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

    def evaluate(
        self,
        split: str = "test",
        *,
        bound: EvaluatedBound = "elbo",
        num_samples: int | None = None,
        num_particles: int = 128,
        threshold: float = 0.5,
        max_rows: int | None = None,
        seed: int = 0,
        step: int | None = None,
        changes: Sequence[str] = (),
    ) -> Evaluated:
        """The scored sites of a split at `step`: `.estimate()` is the bound with both its errors.
        `num_particles` and `threshold` are those of the filters of "fivo"; `changes` are settings of the
        run looked at in another way, `KEY=VALUE`."""
        setup = self.build(changes) if changes else self.setup
        return evaluate_split(
            setup,
            self.state(step, setup),
            split,
            bound=bound,
            num_samples=num_samples,
            filtering=filtering_of(bound, num_particles, threshold),
            max_rows=max_rows,
            seed=seed,
        )

    def judge(self, *, laws: bool = False) -> Findings:
        """The findings of the run, judged anew from its evidence files, which needs no JAX; with `laws`,
        from those of its newest checkpoint too. UserError where there is no evidence."""
        history = self._with_laws(self.history) if laws else self.history
        if not history:
            raise UserError(
                f"{self.folder.path} has no evidence: the run was trained with --no-doctor. `tightbound "
                f"doctor {self.folder.path} --laws` asks its newest checkpoint."
            )
        own = None if self.family is None else self.family.load("checks")
        case = Case(
            history,
            baselines=self.baselines(),
            bound=self.newest_bound(),
            source=self.source(),
            finished=self.finished(),
            **self.stated(),
        )
        return judge(case, own or ())

    def _with_laws(self, history: list[Evidence]) -> list[Evidence]:
        """The history with what the laws say of the newest checkpoint, in place of a probe of that step."""
        from tightbound.diagnose.laws.gather import gather_laws

        asked = gather_laws(self.setup, self.state())
        others = [evidence for evidence in history if evidence.step != asked.step]
        return sorted([*others, asked], key=lambda evidence: evidence.step)

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
