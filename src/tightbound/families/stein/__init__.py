"""Stein mixtures: proposals of several components that repel each other."""

from tightbound.families.family import Family

FAMILY = Family(
    name="stein",
    rows="Stein mixtures",
    package=__name__,
    faults="faults:EXAMINATION",
    recipes="recipes:RECIPES",
    samples="samples:SteinSamples",
    figures="figures:figures",
)
