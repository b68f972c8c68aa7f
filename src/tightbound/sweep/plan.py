"""What a sweep is to hold: every arm with every seed, evaluated in one way."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tightbound.errors import UserError
from tightbound.runs.evaluated import EvaluatedBound


@dataclass(frozen=True)
class Evaluation:
    """How every finished run is evaluated: the same way, with the same keys."""

    split: str
    bound: EvaluatedBound
    num_samples: int | None  # None: 1 where nothing is drawn, else 100
    num_particles: int
    max_rows: int | None


@dataclass(frozen=True)
class PlannedArm:
    """One arm as `sweep.json` has it."""

    name: str
    label: str
    recipe: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class PlannedRun:
    """One arm with one seed."""

    arm: PlannedArm
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.arm.name}-seed-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What a sweep's folder is to hold: every arm with every seed from 0 on."""

    recipe: str
    shared: Mapping[str, Any]  # all settings of the recipe the arms were made from, dotted
    evaluation: Evaluation
    doctor: bool
    num_seeds: int
    arms: tuple[PlannedArm, ...]

    @property
    def runs(self) -> list[PlannedRun]:
        """Seed by seed, so that a sweep that is stopped has compared all arms as far as it came."""
        return [PlannedRun(arm, seed) for seed in range(self.num_seeds) for arm in self.arms]

    def to_json(self) -> dict[str, Any]:
        """`sweep.json`."""
        return {"schema": 1, **asdict(self)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Plan":
        """Inverse of `to_json`."""
        return Plan(
            recipe=document["recipe"],
            shared=document["shared"],
            evaluation=Evaluation(**document["evaluation"]),
            doctor=document["doctor"],
            num_seeds=document["num_seeds"],
            arms=tuple(PlannedArm(**arm) for arm in document["arms"]),
        )


def joined(before: Plan, now: Plan, where: Path) -> Plan:
    """Both requests in one: the arms of both, and the larger number of seeds.

    UserError where runs of the two could not stand in one table: another recipe, other settings
    that all arms share, another way of evaluating.
    """
    old, new = _identity(before), _identity(now)
    different = [
        f"{key} was {old.get(key)}, is {new.get(key)}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]
    if different:
        raise UserError(
            f"The sweep in {where} was begun otherwise: {'; '.join(different)}. Ask for the same to "
            "continue it or to add arms and seeds, or give another --sweep-dir."
        )
    known = {arm.name for arm in before.arms}
    added = tuple(arm for arm in now.arms if arm.name not in known)
    return Plan(
        before.recipe,
        before.shared,
        before.evaluation,
        before.doctor,
        max(before.num_seeds, now.num_seeds),
        before.arms + added,
    )


def _identity(plan: Plan) -> dict[str, Any]:
    return {
        "recipe": plan.recipe,
        **plan.shared,
        **{f"evaluation.{key}": value for key, value in asdict(plan.evaluation).items()},
        "doctor": plan.doctor,
    }
