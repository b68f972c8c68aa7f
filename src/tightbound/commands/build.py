"""From a recipe to a setup, as every command does it."""

from typing import TYPE_CHECKING

from tightbound.errors import UserError
from tightbound.recipes.catalogue import Recipe

if TYPE_CHECKING:
    from tightbound.train.setup import Setup


def build(recipe: Recipe, seed: int, plant: str | None = None) -> "Setup":
    """The setup, with a fault planted if one is named; settings that have no meaning together are
    the caller's error."""
    try:
        setup = recipe.build(seed)
    except ValueError as error:
        raise UserError(str(error)) from error
    if plant is None:
        return setup
    from tightbound.diagnose.faults import FAULTS

    if plant not in FAULTS:
        raise UserError(f"There is no fault {plant!r}. There are: {', '.join(FAULTS)}.")
    return FAULTS[plant].plant(setup)
