"""Every recipe by name, and the way from a name (or a user's own file) to its settings."""

import difflib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tightbound.errors import UserError
from tightbound.families import FAMILIES
from tightbound.families.family import Family
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
    if _is_own(name):
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
    if _is_own(name):
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


def _is_own(name: str) -> bool:
    path, colon, _ = name.rpartition(":")
    return bool(colon) and (path.endswith(".py") or (Path(path) / "__init__.py").exists())


def _own(name: str, what: str, meant: str, kind: type = object) -> Any:
    """The object of a user's own module."""
    path, _, attribute = name.rpartition(":")
    found = getattr(_module(Path(path)), attribute, None)
    if found is None or not (
        isinstance(found, kind) if kind is not object else hasattr(found, "build")
    ):
        raise UserError(f"{path} has no {what} called {attribute!r}: {meant} was meant.")
    return found


def _module(path: Path) -> ModuleType:
    """A user's file, or package, as a module; a package's own imports of itself work."""
    if not path.exists():
        raise UserError(f"{path} does not exist, so no recipe can be read from it.")
    path = path.resolve()
    is_package = path.is_dir()
    name = path.name if is_package else f"tightbound_recipe_{path.stem}"
    loaded = sys.modules.get(name)
    file = path / "__init__.py" if is_package else path
    if is_package and loaded is not None and loaded.__file__ == str(file):
        return loaded  # parts of a family name its package: they must be of one and the same module
    places = [str(path)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=places)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file that can be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
