"""The record of a family: every part it names is there."""

from typing import get_args

import pytest

from tightbound.families import FAMILIES
from tightbound.families.family import Family, Part


@pytest.mark.parametrize("part", get_args(Part))
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_part_that_a_family_names_can_be_loaded(family, part):
    """Parts are named by strings, so a misspelt one would be found by the first user who needs it."""
    assert (family.load(part) is None) == (getattr(family, part) is None)


def test_a_part_that_is_not_there_is_found():
    """Planted: a module that does not exist, and a name that its module has not."""
    with pytest.raises(ModuleNotFoundError):
        Family("a", "rows", __name__, laws="nowhere:laws").load("laws")
    package = "tightbound.families"
    with pytest.raises(AttributeError):
        Family("a", "rows", package, laws="family:laws").load("laws")


def test_every_family_has_a_name_of_its_own():
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
