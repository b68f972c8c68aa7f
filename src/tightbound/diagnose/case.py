"""What a check is given, and what a check is: one entry of an ordered tuple."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.evidence import Evidence, Sites
from tightbound.diagnose.finding import Finding
from tightbound.estimators.estimate import Estimate

Group = TypeVar("Group")


@dataclass(frozen=True)
class Case:
    """Everything that is known of a run: the evidence of its probes, its figures, what its setup states."""

    history: Sequence[Evidence]  # in order of steps, at least one
    baselines: Mapping[str, Estimate] = field(default_factory=dict)
    bound: Estimate | None = None  # the newest held-out one
    source: Estimate | None = (
        None  # what the source of the data has for the same rows, where it is known
    )
    finished: bool = False
    collapse_asked_for: bool = False
    is_bound: bool = True
    climbs: bool = False  # training raises the ELBO itself
    pooled: bool = False  # training rows are points of one data set, whose baselines are per point

    def newest(self, group: str) -> Any:
        """The group of the newest evidence that has it; None where none has. A trained state is judged by
        its own laws."""
        for evidence in reversed(self.history):
            if getattr(evidence, group) is not None:
                return getattr(evidence, group)
        return None

    def oldest(self, group: str) -> Any:
        """The group of the oldest evidence that has it."""
        for evidence in self.history:
            if getattr(evidence, group) is not None:
                return getattr(evidence, group)
        return None

    def newest_of(self, name: str, kind: type[Group]) -> Group | None:
        """The newest group of a family of one's own."""
        found = (evidence.of(name, kind) for evidence in reversed(self.history))
        return next((group for group in found if group is not None), None)

    @property
    def log_weights(self) -> Float[np.ndarray, "samples rows"] | None:
        """Of the last probe's held-out rows."""
        return None if self.sites is None else self.sites.log_weights

    @property
    def has_latents(self) -> bool:
        """Whether anything was drawn to make the weights."""
        return self.sites is None or not self.sites.observed.all()

    @property
    def sites(self) -> Sites | None:
        """The scored sites of the last probe."""
        return self.history[-1].sites


@dataclass(frozen=True)
class Check:
    """A code and the question behind it. The order of a tuple of checks is that of explanation: what is
    named first explains what follows."""

    code: str
    judge: Callable[[Case], Finding]
    after: str = ""  # of a family's own check: the code of the general one that it follows; "" ends the tuple


def joined(general: Sequence[Check], own: Sequence[Check]) -> tuple[Check, ...]:
    """A family's own checks among the general ones, each behind the one that it names."""
    found = list(general)
    for check in own:
        places = [i for i, other in enumerate(found) if other.code == check.after]
        found.insert(places[0] + 1 if places else len(found), check)
    return tuple(found)
