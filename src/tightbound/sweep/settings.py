"""One setting of a recipe set to a JSON value, held against its declared type: nothing is built."""

import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping
from typing import Any

from tightbound.errors import UserError
from tightbound.families.settings import as_declared
from tightbound.families.sources import with_source
from tightbound.unread import replaced


def changed_by(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """The recipe with every one of these settings changed. What the recipe itself had set, and nothing reads
    after that, goes back to its default; one of `changes` that nothing reads is refused."""
    for key, value in changes.items():
        recipe = changed(recipe, key, value, put=replaced)
    for key, value in changes.items():
        recipe = changed(recipe, key, value)
    return recipe


def changed(
    recipe: Any, key: str, value: Any, *, put: Callable[..., Any] = dataclasses.replace
) -> Any:
    """The recipe with the setting `key` ("model.latent_size", or a whole group, "model") set to a
    JSON value. The entries given for a group replace its own; the others stay.

    UserError for a key it has not, for a value of another type, and wherever the settings refuse.
    """
    if key not in setting_keys(recipe):
        close = difflib.get_close_matches(key, setting_keys(recipe), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UserError(f"The recipe {recipe.name} has no setting {key!r}.{hint}")
    return _changed(recipe, key.split("."), value, key, put)


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


def _changed(record: Any, path: list[str], value: Any, key: str, put: Callable[..., Any]) -> Any:
    """The record with the field at the end of `path` replaced; `key` is its whole name."""
    name, *rest = path
    if rest == ["source"]:
        record = with_source(record, name, value)
    elif isinstance(value, Mapping) and "source" in value:
        record = with_source(record, name, value["source"])
    current = getattr(record, name)
    if rest:
        new = _changed(current, rest, value, key, put)
    elif dataclasses.is_dataclass(current) and isinstance(value, Mapping):
        new = current
        for entry, entry_value in value.items():
            if entry not in {field.name for field in dataclasses.fields(current)}:
                raise UserError(f"The group {key} has no setting {entry!r}; it was given {value}.")
            new = _changed(new, [entry], entry_value, f"{key}.{entry}", put)
    else:
        new = as_declared(typing.get_type_hints(type(record))[name], value, key)
    return put(record, **{name: new})
