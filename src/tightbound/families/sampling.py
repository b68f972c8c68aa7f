"""What `tightbound sample` asks of a family: options of its own, and a method that draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tightbound.errors import UserError

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


@runtime_checkable
class Checkpoints(Protocol):
    """The checkpoints of a run that is sampled."""

    def steps(self) -> list[int]:
        """Of all valid checkpoints."""
        ...

    def states(self, setup: "Setup", steps: Sequence[int]) -> "Iterator[TrainState]":
        """Those at the given steps, read one after another."""
        ...


def refuse_spherical_alone(spherical: bool, between: tuple[int, int] | None) -> None:
    """UserError where it is said how to mix, and not what."""
    if spherical and between is None:
        raise UserError(
            "--spherical says how --between mixes two rows. Give --between ROW ROW too."
        )


@dataclass(frozen=True)
class Drawn:
    """What `tightbound sample` has drawn."""

    files: list[Path]
    document: Mapping[str, Any] = field(default_factory=dict)  # of --json, beside the files
    text: str = ""  # for the terminal


@runtime_checkable
class Samples(Protocol):
    """Options of `tightbound sample` for runs of one family: a frozen dataclass."""

    def write(
        self, setup: "Setup", state: "TrainState", folder: Path, checkpoints: Checkpoints
    ) -> Drawn:
        """Draw into the folder. UserError where the options cannot be meant."""
        ...
