"""Which data a run was given: a checksum of what is stored of a split."""

import hashlib
from typing import Any

import jax
import numpy as np

from tightbound.data.batch import Split


def checksum(split: Split) -> str:
    """SHA-256 of every array of the split, with its type and shape, and of its law."""
    found = hashlib.sha256(split.law.encode())
    for leaf in jax.tree.leaves((split.x, split.mask, split.num_units)):
        array: Any = np.asarray(leaf)
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()
