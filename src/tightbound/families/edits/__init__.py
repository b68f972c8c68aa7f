"""Texts written by edits: insert, copy, substitute, end; the edits themselves are latent."""

import lazy_loader

from tightbound.families.family import Family

FAMILY = Family(
    name="edits",
    rows="texts by edits",
    package=__name__,
    laws="laws:laws",
    checks="checks:CHECKS",
    panels="panels:sections",
    faults="faults:EXAMINATION",
    recipes="recipe:RECIPES",
    samples="samples:EditSamples",
    note="samples:note_trajectory",
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
