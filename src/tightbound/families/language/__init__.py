"""Language models: a context, a latent structure that is summed out, an emission."""

import lazy_loader

from tightbound.families.family import Family

FAMILY = Family(
    name="language",
    rows="texts by language models",
    package=__name__,
    laws="laws:laws",
    probe="laws:Probe",
    checks="checks:CHECKS",
    panels="panels:sections",
    faults="faults:EXAMINATION",
    recipes="recipe:RECIPES",
    samples="samples:LanguageSamples",
)

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
