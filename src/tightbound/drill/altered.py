"""Healthy runs that no setting makes: a recipe, and what somebody does to its setup in code."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import optax

from tightbound.families.lookup import Recipe
from tightbound.models.stateful import FromPrior
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup


@dataclass(frozen=True)
class Altered:
    """A recipe whose setup is altered after it was built."""

    name: str
    recipe: Recipe
    alter: Callable[[Setup], Setup]

    @property
    def summary(self) -> str:
        return self.recipe.summary

    @property
    def run(self) -> RunSettings:
        return self.recipe.run

    def build(self, seed: int) -> Setup:
        """The recipe's setup, altered."""
        return self.alter(self.recipe.build(seed))


def accumulating(every: int) -> Callable[[Setup], Setup]:
    """So many gradients to an update."""

    def alter(setup: Setup) -> Setup:
        many = optax.MultiSteps(setup.optimiser, every)
        return replace(setup, optimiser=many.gradient_transformation())

    return alter


def student_t(setup: Setup) -> Setup:
    """Every split's rows are numbers from Student's t with two degrees of freedom."""
    rng = np.random.default_rng(setup.seed)
    data = {
        name: replace(split, x=rng.standard_t(2.0, split.x.shape).astype(np.float32))
        for name, split in setup.data.items()
    }
    return replace(setup, data=data, noise=None)


def proposing_from_the_prior(setup: Setup) -> Setup:
    """Particles are drawn from the model's own transition: the bootstrap filter."""
    return replace(setup, proposal=FromPrior())
