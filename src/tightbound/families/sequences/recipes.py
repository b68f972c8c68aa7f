"""Every recipe of the family by name."""

from collections.abc import Mapping

from tightbound.families.sequences import recipe, recipe_state_spaces

RECIPES: Mapping[str, recipe.SequenceRecipe | recipe_state_spaces.StateSpaceRecipe] = {
    **recipe.RECIPES,
    **recipe_state_spaces.RECIPES,
}
