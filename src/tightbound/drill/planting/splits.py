"""The data made wrong."""

from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np

from tightbound.data.batch import Split, rows_of
from tightbound.data.labelled import Labelled, image_of
from tightbound.data.noising import AsFloat
from tightbound.train.setup import Setup


def with_split(name: str, change: Callable[[Split], Split]) -> Callable[[Setup], Setup]:
    def plant(setup: Setup) -> Setup:
        return replace(setup, data=dict(setup.data) | {name: change(setup.data[name])})

    return plant


def no_transform(setup: Setup) -> Setup:
    """The step that makes bits of grey levels does nothing."""
    return replace(setup, noise=AsFloat())


def inverted(split: Split) -> Split:
    """Ink and paper exchanged."""
    image = np.asarray(image_of(split.x))
    flipped = (int(image.max()) - image.astype(np.int64)).astype(image.dtype)
    x = Labelled(flipped, split.x.label) if isinstance(split.x, Labelled) else flipped
    return replace(split, x=x)


def repeated(split: Split) -> Split:
    """The first 64 rows, over and over."""
    return rows_of(split, np.arange(len(split)) % 64)


def with_nan(split: Split) -> Split:
    """One NaN, as a failed measurement leaves it."""
    x = np.asarray(split.x, np.float32).copy()
    x[17, 3] = np.nan
    return replace(split, x=x)


def validation_in_training(setup: Setup) -> Setup:
    """The held-out split was never taken out of the training split."""
    train, valid = setup.data["train"], setup.data["valid"]
    rows = slice(0, len(valid))

    def overwrite(leaf, other):
        leaf = np.array(leaf)
        leaf[rows] = other
        return leaf

    x = jax.tree.map(overwrite, train.x, valid.x)
    return replace(setup, data=dict(setup.data) | {"train": replace(train, x=x)})


def shift_labels(setup: Setup) -> Setup:
    """Every image has the label of the row before, in every split."""
    shifted = {
        name: replace(split, x=Labelled(split.x.image, np.roll(split.x.label, 1)))
        for name, split in setup.data.items()
    }
    return replace(setup, data=shifted)


def held_out_sequences_in_training(setup: Setup) -> Setup:
    """The held-out rows stand in the training split, in the place of its first ones."""
    train, valid = setup.data["train"], setup.data["valid"]
    length = max(train.mask.shape[1], valid.mask.shape[1])

    def joined(one, other):
        parts = [np.asarray(valid_first) for valid_first in (other, one[len(other) :])]
        pads = [
            [(0, 0), (0, length - part.shape[1]), *[(0, 0)] * (part.ndim - 2)] for part in parts
        ]
        return np.concatenate([np.pad(part, pad) for part, pad in zip(parts, pads, strict=True)])

    x = jax.tree.map(joined, train.x, valid.x)
    units = np.concatenate([valid.num_units, train.num_units[len(valid) :]])
    both = replace(train, x=x, mask=x.mask, num_units=units, groups=None)
    return replace(setup, data=dict(setup.data) | {"train": both})
