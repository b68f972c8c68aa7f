"""Sequences with latent states: pen strokes, music, images read by rows, and series."""

import lazy_loader

from tightbound.families.family import Family

FAMILY = Family(
    name="sequences",
    rows="sequences",
    package=__name__,
    laws="laws:laws",
    checks="checks:CHECKS",
    panels="panels:sections",
    faults="faults:EXAMINATION",
    recipes="recipes:RECIPES",
    samples="samples:SequenceSamples",
    figures="figures:stroke_figures",
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
