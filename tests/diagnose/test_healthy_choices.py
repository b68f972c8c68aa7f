"""Everyday choices that are no mistakes: the check that might take one for a fault is quiet on a small real
setup, and still finds its fault planted in that setup. Oracle: what each setup is made to be."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tightbound.diagnose import laws
from tightbound.diagnose.checks.data import splits_are_alike
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.subjects import SUBJECTS

pytestmark = pytest.mark.usefixtures("compiled_once")

FAULT, OK, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.NOT_RUN


def small(name, **changes):
    """A recipe of the drill on images with hidden layers of 8 and two latents."""
    recipe = replace(SUBJECTS[name], **changes)
    return replace(recipe, model=replace(recipe.model, hidden_size=8, latent_size=2)).build(0)


# --- heavy tails ---------------------------------------------------------------------------------


def with_student_t(setup, degrees, seed, change=lambda x: x):
    """The setup on Student-t data of as many rows, eight numbers each; `change` is applied to test rows."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, split in setup.data.items():
        x = rng.standard_t(degrees, (len(split), 8))
        splits[name] = replace(split, x=change(x) if name == "test" else x)
    return replace(setup, data=splits, noise=None)


@pytest.fixture(scope="module")
def gaussian():
    return small("vae/digits-gaussian")


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 3])
def test_heavy_tails_are_no_difference_between_splits(gaussian, degrees):
    """Of infinite variance, or nearly: plain standard deviations differ by any factor."""
    plain = []
    for seed in range(3):
        setup = with_student_t(gaussian, degrees, seed)
        assert splits_are_alike(laws.splits(setup, jax.random.key(0))).verdict is OK
        scale = [split.x.std() for split in setup.data.values()]
        plain.append(max(scale) / min(scale))
    assert max(plain) > 1.5 or degrees == 3


@pytest.mark.parametrize(
    "change",
    [lambda x: x / 3, lambda x: x + 3, lambda x: x / x.std()],
    ids=["a third", "shifted", "normalised by itself"],
)
def test_heavy_tails_hide_no_other_scale(gaussian, change):
    """A test split on another scale than the training split, of data with two degrees of freedom."""
    setup = with_student_t(gaussian, 2, 0, change)
    finding = splits_are_alike(laws.splits(setup, jax.random.key(0)))
    assert (finding.verdict, finding.where) == (FAULT, "the test split")
