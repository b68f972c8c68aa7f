"""What a run remembers between evaluations: how long its held-out bound has not risen."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tightbound.estimators.estimate import finite_or_text


@dataclass(frozen=True)
class Plateau:
    """What is remembered between evaluations; saved in every checkpoint."""

    best: float | None = None  # held-out ELBO, nats per sequence
    best_step: int = 0
    since_best: int = 0  # evaluations
    rollbacks: int = 0


def observe(plateau: Plateau, bound: float, step: int) -> Plateau:
    """The plateau after one more evaluation of the held-out bound."""
    if plateau.best is None or bound > plateau.best:
        return replace(plateau, best=bound, best_step=step, since_best=0)
    return replace(plateau, since_best=plateau.since_best + 1)


def progress_of(plateau: Plateau) -> dict[str, Any]:
    """What a checkpoint keeps of it, in JSON."""
    return {name: finite_or_text(value) for name, value in asdict(plateau).items()}


def plateau_from(progress: Mapping[str, Any]) -> Plateau:
    """Inverse of `progress_of`."""
    best = progress.get("best")
    fields: dict[str, Any] = {**progress, "best": None if best is None else float(best)}
    return Plateau(**fields)
