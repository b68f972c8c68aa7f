"""Images: variational auto-encoders with one or two stochastic layers, also given a label."""

import lazy_loader

from tightbound.families.family import Family

FAMILY = Family(
    name="images",
    rows="images",
    package=__name__,
    faults="faults:EXAMINATION",
    recipes="recipe:RECIPES",
    samples="samples:ImageSamples",
    figures="figures:figures",
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
