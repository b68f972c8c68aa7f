"""`tightbound recipes`: what can be trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from tightbound.commands.options import parse, print_json, show
from tightbound.families.lookup import RECIPES
from tightbound.families.settings import flat_settings, settings_of
from tightbound.report.tables import Table, TableFormat


@dataclass(frozen=True)
class RecipesOptions:
    """List the recipes. `tightbound train RECIPE --help` explains a recipe's settings."""

    format: TableFormat = "text"
    json: bool = False
    """One JSON document on stdout, with every setting."""


def main(arguments: Sequence[str]) -> int:
    options = parse(RecipesOptions, "recipes", arguments)
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
