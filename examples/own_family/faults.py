"""How the family is examined: one healthy run, and one fault that only its own check can name."""

from dataclasses import replace

import tightbound as tb
from own_family.checks import ANOTHER_RATE
from own_family.model import PoissonFactors
from own_family.recipes import RECIPES
from tightbound.drill.fault import Examination, Fault, on


class DrawnTwice(PoissonFactors):
    """Counts are drawn at twice their rate; their score is right."""

    def __init__(self, healthy: PoissonFactors):
        self.weight, self.bias = healthy.weight, healthy.bias

    def sample_likelihood(self, z, key):
        return 2 * super().sample_likelihood(z, key)


def drawn_twice(setup: tb.Setup) -> tb.Setup:
    assert isinstance(setup.model, PoissonFactors)
    return replace(setup, model=DrawnTwice(setup.model))


DRAWN_TWICE = Fault(
    "counts_drawn_twice",
    "not a probability model",
    "Counts are drawn at twice the rate that scores them.",
    drawn_twice,
    ANOTHER_RATE,
    ("OWN101",),
)
EXAMINATION = Examination(
    subjects=tuple(RECIPES.values()),
    traps=(),
    planted=on(("poisson-factors",), DRAWN_TWICE),
)
