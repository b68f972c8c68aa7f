"""From a recipe to a setup, as every command does it."""

from typing import TYPE_CHECKING

from tightbound.errors import UserError
from tightbound.families.lookup import Recipe

if TYPE_CHECKING:
    from tightbound.train.setup import Setup


def build(recipe: Recipe, seed: int, plant: str | None = None) -> "Setup":
    """The setup, with a fault planted if one is named; settings that have no meaning together are
    the caller's error."""
    if seed < 0:
        raise UserError(f"The seed is {seed}; give 0 or more.")
    try:
        setup = recipe.build(seed)
    except ValueError as error:
        raise UserError(str(error)) from error
    require_finite(setup)
    if plant is None:
        return setup
    from tightbound.drill.drill import all_faults, examination
    from tightbound.families import FAMILIES

    names = [family.name for family in FAMILIES]
    faults = all_faults(names)
    if plant not in faults:
        raise UserError(f"There is no fault {plant!r}. There are: {', '.join(faults)}.")
    try:
        return faults[plant].plant(setup)
    except (TypeError, AttributeError, KeyError) as error:
        subjects = [
            subject
            for name in names
            for planted in examination(name).planted
            if planted.fault.name == plant
            for subject in planted.subjects
        ]
        raise UserError(
            f"The fault {plant!r} does not apply to {setup.name}: it was written for "
            f"{', '.join(dict.fromkeys(subjects))}."
        ) from error


def require_finite(setup: "Setup") -> None:
    """UserError for the first stored number that is NaN or infinite, with its split and row."""
    import jax
    import numpy as np

    for name, split in setup.data.items():
        for leaf in jax.tree.leaves(split.x):
            numbers = np.asarray(leaf)
            if not np.issubdtype(numbers.dtype, np.inexact):
                continue
            finite = np.isfinite(numbers.reshape(len(numbers), -1))
            bad = np.flatnonzero(~np.all(finite, axis=1))
            if len(bad):
                raise UserError(
                    f"Row {bad[0]} of the {name} split has a value that is not finite ({len(bad)} of "
                    f"{len(numbers)} rows have one). Correct or drop the rows."
                )
