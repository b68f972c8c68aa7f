"""What a finished run says of every row of the test split, kept so that runs can be paired later."""

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from tightbound.errors import UserError
from tightbound.estimators.comparison import SequenceScores

_FORMAT = "tightbound.SequenceScores/1"


def save_scores(path: Path, scores: SequenceScores) -> None:
    """One `.npz` that NumPy alone reads; written whole or not at all. What is None is left out."""
    arrays: dict[str, Any] = {"format": np.array(_FORMAT)}
    arrays |= {
        field.name: np.asarray(getattr(scores, field.name))
        for field in fields(scores)
        if getattr(scores, field.name) is not None
    }
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_scores(path: Path) -> SequenceScores:
    """Inverse of `save_scores`; UserError for a file of another kind."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if str(arrays.pop("format", "no format entry")) != _FORMAT:
        raise UserError(
            f"{path} does not hold scores of a sweep's run; delete it to evaluate again."
        )
    # Texts and numbers were saved as arrays without axes.
    return SequenceScores(
        **{name: value if value.ndim else value.item() for name, value in arrays.items()}
    )
