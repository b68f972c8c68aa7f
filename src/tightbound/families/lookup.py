"""Every recipe by name, and the way from a name (or a user's own file) to its settings."""

import difflib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tightbound.errors import UserError
from tightbound.families.edits import recipe as edits
from tightbound.families.images import recipe as vae
from tightbound.families.language import recipe as dlm
from tightbound.families.sequences import recipe as vrnn
from tightbound.families.sequences import recipe_state_spaces as ssm
from tightbound.families.stein import recipe_encoders as stein_vae
from tightbound.families.stein import recipe_points as stein_points
from tightbound.families.stein import recipe_targets as stein_targets
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
    **vae.RECIPES,
    **edits.RECIPES,
    **vrnn.RECIPES,
    **ssm.RECIPES,
    **dlm.RECIPES,
    **stein_targets.RECIPES,
    **stein_points.RECIPES,
    **stein_vae.RECIPES,
}


def find_recipe(name: str) -> Recipe:
    """The recipe of this name, or the object in a user's own file: `path/to/file.py:recipe`."""
    if name in RECIPES:
        return RECIPES[name]
    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(Path(path), attribute)
    close = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise UserError(
        f"There is no recipe {name!r}. {hint}`tightbound recipes` lists them; your own is named "
        "path/to/file.py:variable."
    )


def _from_file(path: Path, attribute: str) -> Recipe:
    if not path.exists():
        raise UserError(f"{path} does not exist, so no recipe can be read from it.")
    spec = importlib.util.spec_from_file_location(f"tightbound_recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file that can be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    recipe = getattr(module, attribute, None)
    if recipe is None or not hasattr(recipe, "build"):
        raise UserError(
            f"{path} has no recipe called {attribute!r}: a frozen dataclass with `name`, `summary`, "
            "`run` and `build(seed)` was meant."
        )
    return recipe
