"""The families of models, each in a folder of its own. To add one is to add a folder and a name here."""

from tightbound.families import edits, images, language, sequences, stein
from tightbound.families.family import Family

FAMILIES: tuple[Family, ...] = (
    images.FAMILY,
    edits.FAMILY,
    sequences.FAMILY,
    language.FAMILY,
    stein.FAMILY,
)
