"""Arrays by name as a dataclass, each field held against its own annotation."""

import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from jaxtyping import jaxtyped

from tightbound.errors import UserError

Record = TypeVar("Record")


def as_record(
    kind: type[Record],
    arrays: Mapping[str, np.ndarray],
    where: str | os.PathLike[str],
    prefix: str = "",
) -> Record | None:
    """The record whose fields stand under `prefix` and their names; None where none of them is there.
    Arrays without axes are numbers and texts. UserError where a field without a default is missing, is
    not what its annotation says, or has an axis of another length than its neighbours give it."""
    entries: dict[Any, str] = {part: prefix + part.name for part in fields(kind)}  # pyright: ignore[reportArgumentType]
    if not any(entry in arrays for entry in entries.values()):
        return None
    for part, entry in entries.items():
        is_new = (part.default, part.default_factory) != (
            MISSING,
            MISSING,
        )  # earlier runs do not say it
        if entry not in arrays and not is_new:
            raise UserError(
                f"{where} has no entry `{entry}`, which its other entries need. It was edited, or "
                "written by another version: gather it again."
            )
    return kind(**fields_of(kind, arrays, where, prefix))


def fields_of(
    kind: type, arrays: Mapping[str, np.ndarray], where: str | os.PathLike[str], prefix: str = ""
) -> dict[str, Any]:
    """The fields of a dataclass that are there; UserError as `as_record` has it, but for missing ones."""
    values, hints = {}, get_type_hints(kind)
    with jaxtyped("context"):  # named axes must agree within a record
        for part in fields(kind):
            entry, annotation = prefix + part.name, hints[part.name]
            if entry not in arrays:
                continue
            array = arrays[entry]
            try:
                value = array.item() if array.ndim == 0 else array
            except ValueError:  # text that is no Unicode
                value = None
            if get_origin(annotation) is Literal:
                is_meant = isinstance(value, str) and value in get_args(annotation)
            else:
                is_meant = isinstance(value, annotation)
            if not is_meant:
                raise UserError(
                    f"The entry `{entry}` of {where} is {array.dtype} of shape {array.shape}, but "
                    f"{_wanted(annotation)} was meant."
                )
            values[part.name] = value
    return values


def refuse_other_format(
    arrays: Mapping[str, np.ndarray], meant: str, where: str | os.PathLike[str]
) -> None:
    """UserError where the entry `format` is not the one that is meant."""
    if (found := format_of(arrays)) != meant:
        raise UserError(f"{where} holds {found}, but {meant} was meant.")


def format_of(arrays: Mapping[str, np.ndarray]) -> str:
    """What the entry `format` says; a few words where there is none."""
    try:
        return str(arrays["format"])[:60] if "format" in arrays else "no format entry"
    except ValueError:
        return "text that is no Unicode"


def _wanted(annotation: Any) -> str:
    """Names of kind and axes: "Float 'site samples rows'"."""
    axes = getattr(annotation, "dim_str", None)
    if axes is not None:
        return f"{annotation.dtype.__name__} {axes.strip()!r}"
    return getattr(annotation, "__name__", None) or str(annotation)
