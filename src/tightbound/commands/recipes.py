"""`tightbound recipes [NAME]`: what can be trained, and with which settings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from tightbound.commands.options import parse, print_json, show
from tightbound.families.described import settings_list
from tightbound.families.lookup import RECIPES, find_recipe
from tightbound.families.settings import flat_settings, settings_of
from tightbound.report.tables import Table, TableFormat


@dataclass(frozen=True)
class RecipesOptions:
    """List the recipes, or the settings of one."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = ""
    """For instance vae/digits: its settings, with their types, defaults and what they do."""
    format: TableFormat = "text"
    json: bool = False
    """One JSON document on stdout, with every setting."""


def main(arguments: Sequence[str]) -> int:
    options = parse(RecipesOptions, "recipes", arguments)
    if options.name:
        return show_one(options.name, options.format, options.json)
    if options.json:
        print_json(
            {
                "recipes": [
                    {"name": name, "summary": r.summary, "settings": flat_settings(settings_of(r))}
                    for name, r in RECIPES.items()
                ]
            }
        )
        return 0
    rows = tuple((name, recipe.summary) for name, recipe in RECIPES.items())
    show(Table("Recipes", ("recipe", "what it trains"), rows), options.format)
    return 0


def show_one(name: str, table_format: TableFormat, as_json: bool) -> int:
    """The settings of one recipe. Each is an option of `check`, `train` and `sweep`."""
    recipe = find_recipe(name)
    settings = settings_list(recipe)
    if as_json:
        described = [asdict(setting) for setting in settings]
        print_json({"name": name, "summary": recipe.summary, "settings": described})
        return 0
    rows = tuple((s.option, s.type, _as_typed(s.default), s.help) for s in settings)
    columns = ("setting", "type", "default", "what it does")
    show(Table(f"{name}: {recipe.summary}", columns, rows), table_format)
    return 0


def _as_typed(default: object) -> str:
    """A default as one would give it on the command line."""
    return " ".join(map(str, default)) if isinstance(default, list) else str(default)
