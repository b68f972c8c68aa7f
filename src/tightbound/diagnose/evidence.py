"""What probes gather and checks judge: small groups of NumPy arrays, saved one file per step.

A group is None where it could not be gathered; the checks that read it then say NOT_RUN.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

from tightbound.diagnose.earlier_evidence import with_tables_of_rivals
from tightbound.diagnose.groups import (
    Choices,
    Components,
    Data,
    Discrete,
    Evaluator,
    Filters,
    Gradients,
    Guard,
    Joint,
    Latents,
    Line,
    MixtureDensity,
    Mixtures,
    Objective,
    Optimiser,
    Outputs,
    Redrawn,
    Reported,
    Rivals,
    Schedule,
    Scores,
    Sites,
    Splits,
    Spreading,
    Steps,
    Symbols,
    Transform,
    Twin,
    Words,
)
from tightbound.errors import UserError
from tightbound.files.arrays import array_names, read_arrays
from tightbound.files.records import as_record, fields_of, refuse_other_format
from tightbound.files.writing import replacing

Group = TypeVar("Group")


@dataclass(frozen=True)
class Evidence:
    """Everything gathered at one step."""

    step: int
    sites: Sites | None = None
    latents: Latents | None = None
    outputs: Outputs | None = None
    twin: Twin | None = None
    scores: Scores | None = None
    objective: Objective | None = None
    rivals: Rivals | None = None
    density: MixtureDensity | None = None
    redrawn: Redrawn | None = None
    joint: Joint | None = None
    evaluator: Evaluator | None = None
    reported: Reported | None = None
    choices: Choices | None = None
    discrete: Discrete | None = None
    filters: Filters | None = None
    words: Words | None = None
    steps: Steps | None = None
    mixtures: Mixtures | None = None
    components: Components | None = None
    interaction: Spreading | None = None
    guard: Guard | None = None
    symbols: Symbols | None = None
    transform: Transform | None = None
    optimiser: Optimiser | None = None
    data: Data | None = None
    splits: Splits | None = None
    gradients: Gradients | None = None
    line: Line | None = None
    schedule: Schedule | None = None
    # groups of a family of one's own, as arrays called "group.field"
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    def with_groups(self, groups: Mapping[str, Any]) -> "Evidence":
        """The same with these groups, by name; those that have no field here are kept among the others."""
        known = {name: group for name, group in groups.items() if name in _GROUPS}
        arrays = {
            f"{name}.{part.name}": np.asarray(getattr(group, part.name))
            for name, group in groups.items()
            if name not in _GROUPS and group is not None
            for part in fields(group)
        }
        return replace(self, **known, others={**self.others, **arrays})

    def of(self, name: str, kind: type[Group]) -> Group | None:
        """A group of a family of one's own; None where it was not gathered."""
        return as_record(kind, self.others, "this evidence", f"{name}.")

    def save(self, path: str | os.PathLike[str]) -> None:
        """One `.npz` of arrays called "group.field", readable by NumPy alone."""
        arrays: dict[str, Any] = {"format": np.array(_FORMAT), "step": np.array(self.step)}
        for name in _GROUPS:
            group = getattr(self, name)
            if group is not None:
                arrays |= {
                    f"{name}.{part.name}": np.asarray(getattr(group, part.name))
                    for part in fields(group)
                }
        arrays |= self.others
        with replacing(path) as file:
            np.savez_compressed(file, **arrays)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Evidence":
        """Inverse of `save`; UserError where the file is something else."""
        arrays = with_tables_of_rivals(read_npz(path))
        refuse_other_format(arrays, _FORMAT, path)
        step = arrays.get("step", np.zeros(0))
        if step.ndim or step.dtype.kind not in "iu":
            raise UserError(f"{path} does not say of which step it is: `step` is no whole number.")
        groups: dict[str, Any] = {
            name: as_record(kind, arrays, path, f"{name}.") for name, kind in _GROUPS.items()
        }
        others = {
            name: array
            for name, array in arrays.items()
            if "." in name and name.partition(".")[0] not in _GROUPS
        }
        return Evidence(step=int(step), **groups, others=others)


LARGEST = 1 << 28  # bytes of all arrays; those of the largest probe have a tenth
_LARGEST_OF_OTHERS = 1 << 34  # of a file of a user's own
_FORMAT = "tightbound.Evidence/1"
_GROUPS: Mapping[str, type] = {
    "sites": Sites,
    "latents": Latents,
    "outputs": Outputs,
    "twin": Twin,
    "scores": Scores,
    "objective": Objective,
    "rivals": Rivals,
    "density": MixtureDensity,
    "redrawn": Redrawn,
    "joint": Joint,
    "evaluator": Evaluator,
    "reported": Reported,
    "choices": Choices,
    "discrete": Discrete,
    "filters": Filters,
    "words": Words,
    "steps": Steps,
    "mixtures": Mixtures,
    "components": Components,
    "interaction": Spreading,
    "guard": Guard,
    "symbols": Symbols,
    "transform": Transform,
    "optimiser": Optimiser,
    "data": Data,
    "splits": Splits,
    "gradients": Gradients,
    "line": Line,
    "schedule": Schedule,
}


def read_npz(
    path: str | os.PathLike[str], names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """All arrays of a `.npz`, or those named, without pickles; UserError where it is none."""
    with _sentences(path):
        return read_arrays(path, names, limit=LARGEST if names is None else _LARGEST_OF_OTHERS)


def npz_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of all arrays, of which none is read; UserError as `read_npz` has it."""
    with _sentences(path):
        return array_names(path)


@contextmanager
def _sentences(path: str | os.PathLike[str]) -> Iterator[None]:
    """What a file cannot be read for, as a sentence."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except ValueError as error:
        raise UserError(
            f"{path} cannot be read as a NumPy .npz without pickles ({error})."
        ) from error


def read_fields(path: str | os.PathLike[str], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays, "group.field", that the file has; no other is unpacked. UserError where
    one is not what its group says."""
    try:
        arrays = read_arrays(path, names, limit=LARGEST, follow_links=False)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}). Delete it to go on without it.") from error
    for group in {name.partition(".")[0] for name in arrays} & set(_GROUPS):
        fields_of(_GROUPS[group], arrays, path, f"{group}.")
    return arrays
