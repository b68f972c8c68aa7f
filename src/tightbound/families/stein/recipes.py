"""Every recipe of the family by name."""

from collections.abc import Mapping

from tightbound.families.stein import recipe_encoders, recipe_points, recipe_targets

RECIPES: Mapping[
    str,
    recipe_targets.SteinTargetRecipe
    | recipe_points.SteinPointRecipe
    | recipe_encoders.SteinVAERecipe,
] = {
    **recipe_targets.RECIPES,
    **recipe_points.RECIPES,
    **recipe_encoders.RECIPES,
}
