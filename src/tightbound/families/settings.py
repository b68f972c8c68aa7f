"""The settings of a recipe as plain documents: written down, read back, changed one by one, laid flat."""

import contextlib
import dataclasses
import difflib
import json
import typing
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from tightbound.errors import UserError
from tightbound.families.described import type_words
from tightbound.families.lookup import RECIPES, Recipe
from tightbound.families.sources import settings_of_others, with_source
from tightbound.unread import replaced


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """All settings as plain JSON, without the recipe's own name and summary."""
    document = dataclasses.asdict(recipe)  # pyright: ignore[reportArgumentType]
    return {key: value for key, value in document.items() if key not in ("name", "summary")}


def with_settings(recipe: Any, settings: Mapping[str, Any], where: str = "") -> Any:
    """The recipe with saved settings put back; a setting it does not know is an error. What an older
    version saved of sources that are not read is left out; `from_earlier` of a class of settings brings what
    it saved to the settings of now."""
    if hasattr(recipe, "from_earlier"):
        settings = recipe.from_earlier(settings)
    known = {field.name for field in dataclasses.fields(recipe)}
    hints, changes = typing.get_type_hints(type(recipe)), {}
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"The saved setting {where}{name} is unknown to this version's recipe.")
        current = getattr(recipe, name)
        if dataclasses.is_dataclass(current) and isinstance(value, Mapping):
            if "source" in value:
                recipe = with_source(recipe, name, value["source"])
                unread = settings_of_others(recipe, name)
                value = {key: entry for key, entry in value.items() if key not in unread}
            value = with_settings(getattr(recipe, name), value, f"{where}{name}.")
        elif dataclasses.is_dataclass(current) and value is not None:
            raise UserError(f"The setting {where}{name} cannot be {_short(value)}: it is a group.")
        else:
            value = as_declared(hints[name], value, f"{where}{name}")
        changes[name] = value
    return replaced(recipe, **changes)  # versions before this one saved settings that nothing reads


def saved_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `recipe.json`, laid flat, as this version would write them: what an older one saved
    of settings that nothing reads is left out. As they stand where the recipe is a user's own or is gone."""
    settings = document["settings"]
    if document["recipe"] in RECIPES:
        with contextlib.suppress(UserError, TypeError):
            settings = settings_of(with_settings(RECIPES[document["recipe"]], settings))
    return flat_settings(json.loads(json.dumps(settings)))


def as_declared(hint: Any, value: Any, key: str) -> Any:
    """A JSON value as what the type of the setting `key` says: lists become tuples, whole numbers real
    ones. UserError where it is no such value."""
    try:
        return msgspec.convert(value, type=hint)
    except msgspec.ValidationError as error:
        raise UserError(
            f"The setting {key} cannot be {_short(value)}: it is declared {type_words(hint)}."
        ) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:80]}..."


def with_changes(recipe: Any, changes: Sequence[str]) -> Any:
    """The recipe with settings changed as `KEY=VALUE` says, dotted as in `flat_settings`; a value is
    JSON, or a word. UserError for a key it has not, or a value of another kind."""
    for change in changes:
        settings = settings_of(recipe)
        key, equals, text = change.partition("=")
        key = key.replace("-", "_")  # as on the command line of `train`
        if not equals or key not in flat_settings(settings):
            close = difflib.get_close_matches(key, flat_settings(settings), n=1)
            hint = f" Did you mean {close[0]}=...?" if close else ""
            raise UserError(f"{change!r} is no KEY=VALUE of a setting of this run.{hint}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        *path, last = key.split(".")
        inner = settings
        for name in path:
            inner = inner[name]
        if inner[last] is not None and not _same_kind(inner[last], value):
            raise UserError(
                f"The setting {key} was set to {value!r}, but it is {inner[last]!r} in this run: give "
                f"a value of the same kind."
            )
        inner[last] = value
        recipe = with_settings(recipe, settings)
        if flat_settings(settings_of(recipe))[key] != (
            tuple(value) if isinstance(value, list) else value
        ):
            raise UserError(
                f"The setting {key} was set to {value!r}, but with the others nothing reads it."
            )
    return recipe


def with_choices(recipe: Any, arguments: Sequence[str]) -> Any:
    """The recipe that a command line starts from: settings of its own that the choices given there leave
    unread go back to their defaults. One that is given itself is refused where nothing reads it."""
    for key, value in _given(arguments).items():
        with contextlib.suppress(UserError, TypeError):  # said when the line is parsed
            recipe = with_changes(recipe, [f"{key}={value}"])
    return recipe


def _given(arguments: Sequence[str]) -> dict[str, str]:
    """The settings of a command line, each with its value as `with_changes` reads it."""
    given = {}
    for argument, following in pairwise([*arguments, "--"]):
        option, equals, value = argument.partition("=")
        if not option.startswith("--") or "." not in option:
            continue
        groups, _, name = option.removeprefix("--").replace("-", "_").rpartition(".")
        if not equals and following.startswith("--"):  # a flag
            value, name = str(not name.startswith("no_")).lower(), name.removeprefix("no_")
        elif not equals:
            value = following
        given[f"{groups}.{name}"] = "null" if value == "None" else value
    return given


def _same_kind(old: Any, new: Any) -> bool:
    """Whether a JSON value can stand where another did: a whole number for a real one, but not back."""
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    return isinstance(new, (int, float) if isinstance(old, float) else type(old))


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model.latent_size": 8, ...}`."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
