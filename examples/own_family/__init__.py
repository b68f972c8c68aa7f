"""A family of your own, from outside the package: counts that share hidden causes.

z ~ N(0, I), x_d | z ~ Poisson(exp(w_d . z + b_d)). It brings a check, a fault, samples and a panel of its own,
and gets everything that the built-in families get:

    tightbound check examples/own_family:recipe
    tightbound train examples/own_family:recipe --run-dir runs/counts
    tightbound sample runs/counts
    tightbound report runs/counts
    tightbound drill --family examples/own_family:FAMILY

`python examples/own_family` shows the same as a library.
"""

from tightbound.families.family import Family

FAMILY = Family(
    name="counts",
    rows="counts",
    package=__name__,
    recipes="recipes:RECIPES",
    laws="laws:laws",
    checks="checks:CHECKS",
    faults="faults:EXAMINATION",
    samples="samples:CountSamples",
    panels="panels:sections",
)


def __getattr__(name: str):
    """`recipe` is imported when it is asked for, so that naming the family costs nothing."""
    if name == "recipe":
        from own_family.recipes import RECIPES

        return RECIPES["poisson-factors"]
    raise AttributeError(name)
