"""Stein mixtures: proposals of several components that repel each other."""

import lazy_loader

from tightbound.families.family import Family

FAMILY = Family(
    name="stein",
    rows="Stein mixtures",
    package=__name__,
    panels="panels:sections",
    faults="faults:EXAMINATION",
    recipes="recipes:RECIPES",
    samples="samples:SteinSamples",
    figures="figures:figures",
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
