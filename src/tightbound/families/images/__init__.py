"""Images: variational auto-encoders with one or two stochastic layers, also given a label."""

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
