"""The settings of a recipe as plain documents: written down, read back, changed one by one, laid flat."""

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tightbound.errors import UserError
from tightbound.families.lookup import Recipe
from tightbound.families.sources import settings_of_others, with_source
from tightbound.unread import replaced


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """All settings as plain JSON, without the recipe's own name and summary."""
    document = dataclasses.asdict(recipe)  # pyright: ignore[reportArgumentType]
    return {key: value for key, value in document.items() if key not in ("name", "summary")}


def with_settings(recipe: Any, settings: Mapping[str, Any], where: str = "") -> Any:
    """The recipe with saved settings put back; a setting it does not know is an error. What an older
    version saved of sources that are not read is left out."""
    known = {field.name for field in dataclasses.fields(recipe)}
    changes = {}
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
        elif isinstance(current, tuple):  # JSON has lists only
            value = tuple(value)
        changes[name] = value
    return replaced(recipe, **changes)  # versions before this one saved settings that nothing reads


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
    return recipe


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
