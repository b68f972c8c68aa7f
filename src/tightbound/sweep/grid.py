"""Which arms a sweep has: every combination of the values of every varied setting."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tightbound.errors import UserError
from tightbound.families.lookup import Recipe, find_recipe
from tightbound.sweep.settings import changed

RECIPE_KEY = "recipe"  # varies the named recipe itself


@dataclass(frozen=True)
class Variation:
    """One setting, or a whole group, or the recipe, and the values it takes."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Arm:
    """One combination of values: a recipe with all its settings."""

    label: str  # what is varied: "model.latent_size=2, model.depth=1"
    recipe_name: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """What its run folders begin with: readable, and different for different settings."""
        document = [self.recipe_name, dataclasses.asdict(self.recipe)]  # pyright: ignore
        digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:6]
        slug = re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")[:60].strip("-")
        return f"{slug}-{digest}"


def parse_variation(text: str) -> Variation:
    """`KEY=[JSON list]`, as `model.depth=[1,2]` or `model.mutations=[[],[0],[0,4]]`."""
    key, equals, listed = text.partition("=")
    try:
        values = json.loads(listed)
    except json.JSONDecodeError:
        values = None
    if not equals or not isinstance(values, list) or not values:
        raise UserError(
            f"{text!r} does not say what to vary: write KEY=[JSON list], in quotes, as "
            "'model.depth=[1,2]' or 'model.activation=[\"relu\",\"tanh\"]'."
        )
    return Variation(key.strip().replace("-", "_"), tuple(values))


def make_arms(
    recipe_name: str,
    recipe: Recipe,
    given: Mapping[str, Any],
    variations: Sequence[Variation],
) -> list[Arm]:
    """All arms, in the order in which the values were listed, the last setting varying fastest.

    `recipe` has the settings that all arms share; where recipes are varied by name, `given` (those
    of the shared settings that were asked for, dotted) are set in each of them. Every arm's
    settings are made here, so whatever they refuse is refused before anything runs.
    """
    if len({variation.key for variation in variations}) < len(variations):
        raise UserError("A setting is varied twice; list all its values in one --vary.")
    arms = []
    for values in itertools.product(*(variation.values for variation in variations)):
        choice = {variation.key: value for variation, value in zip(variations, values, strict=True)}
        arms.append(_arm(recipe_name, recipe, given, choice))
    names = [arm.name for arm in arms]
    twice = next((arm for arm in arms if names.count(arm.name) > 1), None)
    if twice is not None:
        raise UserError(f"The arm {twice.label!r} is listed twice; list every value once.")
    return arms


def _arm(
    recipe_name: str, recipe: Recipe, given: Mapping[str, Any], choice: Mapping[str, Any]
) -> Arm:
    label = ", ".join(
        _text(value) if key == RECIPE_KEY else f"{key}={_text(value)}"
        for key, value in choice.items()
    )
    if RECIPE_KEY in choice:
        recipe_name = choice[RECIPE_KEY]
        if not isinstance(recipe_name, str):
            raise UserError(
                f"A recipe is named by text, but recipe={_text(recipe_name)} was given."
            )
        recipe = find_recipe(recipe_name)
        for key, value in given.items():
            recipe = changed(recipe, key, value)
    for key, value in choice.items():
        if key != RECIPE_KEY:
            recipe = changed(recipe, key, value)
    return Arm(label, recipe_name, recipe)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
