"""What a planted fault is, and what a family hands to the drill.

A fault says beforehand which finding must name it and by which cause. It never touches what the doctor is
told (`claim`, baselines), only what the run does.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tightbound.diagnose.finding import Cause
from tightbound.families.lookup import Recipe
from tightbound.train.setup import Setup


@dataclass(frozen=True)
class Fault:
    """A kind of fault: what it does, and what must be said of it."""

    name: str
    group: str  # as in the list of fault kinds: "not a probability model", "optimisation", ...
    says: str
    plant: Callable[[Setup], Setup]
    expected: Cause
    codes: tuple[str, ...]  # findings that count as found


@dataclass(frozen=True)
class Planted:
    """A fault and the names of the subjects it is planted in."""

    fault: Fault
    subjects: tuple[str, ...]


def on(subjects: tuple[str, ...], *faults: Fault) -> tuple[Planted, ...]:
    """Each of these faults, planted in these subjects."""
    return tuple(Planted(fault, subjects) for fault in faults)


@dataclass(frozen=True)
class Examination:
    """How a family is examined: whom faults are planted in, healthy runs that look ill, and the faults."""

    subjects: tuple[Recipe, ...]
    traps: tuple[Recipe, ...]  # each does on purpose what a fault does by mistake
    planted: tuple[Planted, ...]
