"""Settings that depend on a source: a union of dataclasses, of which `source` says which is meant.

    data: AvoidSubcommands[UCIData | CSVData]      # --data.source csv --data.path own.csv

Each class holds the settings that its sources read and no others, so that none is ignored.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

from tightbound.errors import UserError

Settings = TypeVar("Settings")


def with_source(record: Settings, group: str, source: Any) -> Settings:
    """The settings whose `group` reads `source`. Where that takes another class of the union, settings
    of the same name and type stay, and the others take the values they have without a recipe.

    A group that is no union is left as it is; UserError for a source that none of them has.
    """
    classes = classes_of(record, group)
    if not classes:
        return record
    known = {name: one for one in classes for name in sources_of(one)}
    if source not in known:
        close = difflib.get_close_matches(str(source), known, n=1)
        meant = f"Did you mean {close[0]!r}? " if close else ""
        raise UserError(
            f"The setting {group}.source is {source!r}, which is no source of this recipe. {meant}"
            f"There are: {', '.join(known)}."
        )
    current, new = getattr(record, group), known[source]
    before, after = typing.get_type_hints(type(current)), typing.get_type_hints(new)
    kept = {
        name: getattr(current, name)
        for name in after
        if name != "source" and before.get(name) == after[name]
    }
    changes: Any = {group: new(source=source, **kept)}
    return dataclasses.replace(record, **changes)  # pyright: ignore[reportArgumentType, reportReturnType, reportCallIssue]


def of_arguments(recipe: Settings, arguments: Sequence[str]) -> Settings:
    """The recipe with the sources that a command line names (`--data.source csv`).

    UserError where it gives a setting of another source: `--data.fold 3` of a made-up set.
    """
    for field in dataclasses.fields(recipe):  # pyright: ignore[reportArgumentType]
        if not classes_of(recipe, field.name):
            continue
        given = _given(arguments, f"--{field.name}.")
        if "source" in given:
            recipe = with_source(recipe, field.name, given["source"])
        others = settings_of_others(recipe, field.name)
        for name in given:
            if name in others:
                raise UserError(
                    f"--{field.name}.{name.replace('_', '-')} is a setting of {', '.join(others[name])}, "
                    f"but {field.name}.source is {getattr(recipe, field.name).source!r}. Leave it "
                    f"out, or give --{field.name}.source."
                )
    return recipe


def settings_of_others(record: Any, group: str) -> dict[str, list[str]]:
    """The settings that only other sources of this group have, each with those sources."""
    current = getattr(record, group)
    own = {field.name for field in dataclasses.fields(current)}
    others: dict[str, list[str]] = {}
    for one in classes_of(record, group):
        for field in dataclasses.fields(one):
            if field.name not in own:
                others.setdefault(field.name, []).extend(map(repr, sources_of(one)))
    return others


def classes_of(record: Any, group: str) -> tuple[Any, ...]:
    """The dataclasses that a group of settings may be; () where it is no such union."""
    if not hasattr(getattr(record, group), "source"):
        return ()
    hint = typing.get_type_hints(type(record))[group]
    if get_origin(hint) not in (Union, types.UnionType):
        return ()
    return get_args(hint)


def sources_of(settings: type) -> tuple[str, ...]:
    """The values that the `source` of a class of settings may have."""
    return get_args(typing.get_type_hints(settings)["source"])


def _given(arguments: Sequence[str], prefix: str) -> Mapping[str, str]:
    """The settings that begin with the prefix, and their values where they stand behind them."""
    given = {}
    for place, argument in enumerate(arguments):
        if argument.startswith(prefix):
            name, equals, value = argument.removeprefix(prefix).partition("=")
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            given[name.replace("-", "_").removeprefix("no_")] = value if equals else following
    return given
