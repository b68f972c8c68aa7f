"""What a finished run says of every row of the test split, kept so that runs can be paired later."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from tightbound.errors import UserError
from tightbound.estimators.comparison import SequenceScores
from tightbound.files.arrays import read_arrays
from tightbound.files.records import as_record, refuse_other_format
from tightbound.files.writing import replacing

_FORMAT = "tightbound.SequenceScores/1"
_LARGEST = 1 << 30  # bytes of all arrays


def save_scores(path: Path, scores: SequenceScores) -> None:
    """One `.npz` that NumPy alone reads; written whole or not at all. What is None is left out."""
    arrays: dict[str, Any] = {"format": np.array(_FORMAT)}
    arrays |= {
        field.name: np.asarray(getattr(scores, field.name))
        for field in fields(scores)
        if getattr(scores, field.name) is not None
    }
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)


def load_scores(path: Path) -> SequenceScores:
    """Inverse of `save_scores`; UserError for a file of another kind."""
    try:
        arrays = read_arrays(path, limit=_LARGEST, follow_links=False)
        refuse_other_format(arrays, _FORMAT, path)
        scores = as_record(SequenceScores, arrays, path)
    except UserError as error:
        raise UserError(f"{error} Delete it to evaluate again.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}. Delete it to evaluate again.") from error
    assert scores is not None, "an entry without a default was missing"
    return scores
