"""MNIST as points: the image is given, its class is the target."""

import os

import numpy as np

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError
from tightbound.data.formats.idx import load_mnist
from tightbound.data.point_splits import point_splits
from tightbound.data.points import Points


def load_mnist_points(path: str | os.PathLike[str] | None = None) -> dict[str, Split]:
    """The splits train (59,600 points), valid (400) and test (10,000): grey levels as they are stored,
    classes as int32. `path` as in `load_mnist`; files without labels are refused."""
    splits = load_mnist(path, law="classes")
    parts = {}
    for name, split in splits.items():
        if split.groups is None:
            raise DataError(
                f"The {name} split of {path} has images without labels, but their classes are the "
                "target. Give the four files of images and labels."
            )
        parts[name] = Points(split.x, split.groups.astype(np.int32))
    return point_splits(parts, law="classes")
