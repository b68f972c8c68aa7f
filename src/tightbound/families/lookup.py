"""Every recipe by name, and the way from a name (or a user's own file) to its settings."""

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tightbound.errors import UserError
from tightbound.families import FAMILIES
from tightbound.families.family import Family
from tightbound.families.own_modules import load_module, own_path
from tightbound.train.settings import RunSettings

if TYPE_CHECKING:
    from tightbound.train.setup import Setup


@runtime_checkable
class Recipe(Protocol):
    """A frozen dataclass of settings that can build a run. A user's own need not come from here."""

    @property
    def name(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def run(self) -> RunSettings: ...
    def build(self, seed: int) -> "Setup": ...


RECIPES: Mapping[str, Recipe] = {
    name: recipe for family in FAMILIES for name, recipe in family.load("recipes").items()
}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name, or the object in a user's own file or package:
    `path/to/file.py:recipe`, `path/to/package:recipe`."""
    if name in RECIPES:
        return RECIPES[name]
    if own_path(name) is not None:
        return _own(
            name, "recipe", "a frozen dataclass with `name`, `summary`, `run` and `build(seed)`"
        )
    close = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise UserError(
        f"There is no recipe {name!r}. {hint}`tightbound recipes` lists them; your own is named "
        "path/to/file.py:variable."
    )


def find_family(name: str) -> Family:
    """The family of this name, or the record in a user's own file or package: `path/to/package:FAMILY`."""
    for family in FAMILIES:
        if family.name == name:
            return family
    if own_path(name) is not None:
        return _own(name, "family", "a `tightbound.families.family.Family`", kind=Family)
    known = ", ".join(family.name for family in FAMILIES)
    raise UserError(
        f"There is no family {name!r}. There are: {known}; your own is named path/to/package:FAMILY."
    )


def family_of(recipe: str) -> Family | None:
    """The family that a recipe is of, by the recipe's name; None where a user's own says of none."""
    for family in FAMILIES:
        if recipe in family.load("recipes"):
            return family
    return getattr(find_recipe(recipe), "family", None)


def _own(name: str, what: str, meant: str, kind: type = object) -> Any:
    """The object of a user's own module."""
    path, _, attribute = name.rpartition(":")
    found = getattr(load_module(Path(path)), attribute, None)
    is_recipe = dataclasses.is_dataclass(found) and hasattr(found, "build")
    if not (is_recipe if kind is object else isinstance(found, kind)):
        raise UserError(f"{path} has no {what} called {attribute!r}: {meant} was meant.")
    return found
