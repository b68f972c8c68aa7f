"""What probes gather and checks judge: small groups of NumPy arrays, saved one file per step.

A group is None where it could not be gathered; the checks that read it then say NOT_RUN.
"""

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import jaxtyped

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
        return _load_group(kind, name, self.others, "this evidence")

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
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Evidence":
        """Inverse of `save`; UserError where the file is something else."""
        arrays = with_tables_of_rivals(read_npz(path))
        if str(arrays.get("format")) != _FORMAT:
            raise UserError(
                f"{path} holds {arrays.get('format', 'no format entry')}, but {_FORMAT} was meant."
            )
        step = _value(arrays.get("step", np.zeros(0)))
        if not isinstance(step, int):
            raise UserError(f"{path} does not say of which step it is: `step` is no whole number.")
        groups = {name: _load_group(kind, name, arrays, path) for name, kind in _GROUPS.items()}
        others = {
            name: array
            for name, array in arrays.items()
            if "." in name and name.partition(".")[0] not in _GROUPS
        }
        return Evidence(step=step, **groups, others=others)


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


def _load_group(
    kind: Any, name: str, arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]
) -> Any:
    """The group, None if the file has nothing of it; UserError where a field is missing or is not
    what its annotation says."""
    entries: dict[Any, str] = {part: f"{name}.{part.name}" for part in fields(kind)}
    if not any(entry in arrays for entry in entries.values()):
        return None
    values = {}
    with jaxtyped("context"):  # named axes must agree within a group
        for part, entry in entries.items():
            has_default = (part.default, part.default_factory) != (MISSING, MISSING)
            if entry not in arrays and has_default:
                continue  # what files of earlier runs do not say
            if entry not in arrays:
                raise UserError(
                    f"{path} has no entry `{entry}`, which its other entries need. It was edited, or "
                    "written by another version: gather the evidence again."
                )
            value, annotation = _value(arrays[entry]), part.type
            if not isinstance(value, annotation):
                raise UserError(
                    f"The entry `{entry}` of {path} is {arrays[entry].dtype} of shape "
                    f"{arrays[entry].shape}, but {_wanted(annotation)} was meant."
                )
            values[part.name] = value
    return kind(**values)


def _value(array: np.ndarray) -> Any:
    return array.item() if array.ndim == 0 else array


def _wanted(annotation: Any) -> str:
    """Names of kind and axes: "Float 'site samples rows'"."""
    axes = getattr(annotation, "dim_str", None)
    return annotation.__name__ if axes is None else f"{annotation.dtype.__name__} {axes.strip()!r}"


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All arrays of a `.npz`, without pickles; UserError where it is none."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except Exception as error:  # zipfile, zlib, struct and NumPy each raise their own
        # NumPy's own words on pickles say how to load them, which is never the way out.
        reason = "it is no archive of plain arrays" if "pickle" in str(error) else str(error)
        raise UserError(
            f"{path} cannot be read as a NumPy .npz without pickles ({reason})."
        ) from error
