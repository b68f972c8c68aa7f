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


def at_least_one(**options: int | None) -> None:
    """UserError for an option below 1; None was not given."""
    for name, value in options.items():
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value} was asked for; give at least 1.")


_COOLEST, _HOTTEST = 1e-3, 1e3  # beyond, scaled log-probabilities of what is impossible lose that


def temperature_of(value: float) -> float:
    """The temperature as it was given; UserError where draws would be no draws of the model."""
    if not _COOLEST <= value <= _HOTTEST:
        raise UserError(
            f"--temperature {value:g} was asked for; give one from {_COOLEST:g} to {_HOTTEST:g}. 1 draws "
            "from the model itself."
        )
    return value


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
