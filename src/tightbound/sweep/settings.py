"""One setting of a recipe set to a JSON value, held against its declared type: nothing is built."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from tightbound.errors import UserError
from tightbound.families.sources import with_source


def changed(recipe: Any, key: str, value: Any) -> Any:
    """The recipe with the setting `key` ("model.latent_size", or a whole group, "model") set to a
    JSON value. The entries given for a group replace its own; the others stay.

    UserError for a key it has not, for a value of another type, and wherever the settings refuse.
    """
    if key not in setting_keys(recipe):
        close = difflib.get_close_matches(key, setting_keys(recipe), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"The recipe {recipe.name} has no setting {key!r}.{hint}")
    return _changed(recipe, key.split("."), value, key)


def setting_keys(record: Any, prefix: str = "") -> list[str]:
    """All settings and groups of settings, dotted; a recipe's own name and summary are none."""
    keys = []
    for field in dataclasses.fields(record):
        if prefix or field.name not in ("name", "summary"):
            keys.append(prefix + field.name)
            inner = getattr(record, field.name)
            if dataclasses.is_dataclass(inner):
                keys += setting_keys(inner, f"{prefix}{field.name}.")
    return keys


def _changed(record: Any, path: list[str], value: Any, key: str) -> Any:
    """The record with the field at the end of `path` replaced; `key` is its whole name."""
    name, *rest = path
    if rest == ["source"]:
        record = with_source(record, name, value)
    elif isinstance(value, Mapping) and "source" in value:
        record = with_source(record, name, value["source"])
    current = getattr(record, name)
    if rest:
        new = _changed(current, rest, value, key)
    elif dataclasses.is_dataclass(current) and isinstance(value, Mapping):
        new = current
        for entry, entry_value in value.items():
            if entry not in {field.name for field in dataclasses.fields(current)}:
                raise UserError(f"The group {key} has no setting {entry!r}; it was given {value}.")
            new = _changed(new, [entry], entry_value, f"{key}.{entry}")
    else:
        new = _typed(typing.get_type_hints(type(record))[name], value, key)
    return dataclasses.replace(record, **{name: new})


def _typed(hint: Any, value: Any, key: str) -> Any:
    """The JSON value as what the type says: lists become tuples, whole numbers real ones."""
    try:
        return _as(hint, value)
    except TypeError as error:
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise UserError(
            f"The setting {key} cannot be {value!r}: it is declared {wanted}."
        ) from error


def _as(hint: Any, value: Any) -> Any:
    """TypeError where the value is none of the type's."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        return _as(arguments[0], value)
    if origin is Literal:
        if any(value == allowed and type(value) is type(allowed) for allowed in arguments):
            return value
    elif origin in (Union, types.UnionType):
        for one in arguments:
            try:
                return _as(one, value)
            except TypeError:
                continue
    elif origin is tuple and isinstance(value, list):
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_as(arguments[0], entry) for entry in value)
        if len(arguments) == len(value):
            return tuple(_as(one, entry) for one, entry in zip(arguments, value, strict=True))
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:  # so that true is no whole number
        return value
    raise TypeError(f"{value!r} is no {hint}")
