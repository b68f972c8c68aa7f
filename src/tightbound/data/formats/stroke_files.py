"""Pen strokes of one's own: a `.npz` of drawings, each dx, dy and whether the pen is lifted (stroke-3)."""

import os
from pathlib import Path
from typing import Literal

import numpy as np

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError
from tightbound.data.formats.ragged import cut_rows, read_every
from tightbound.data.shuffled_splits import shuffled_splits
from tightbound.data.strokes import OffsetScale, stroke_rows, stroke_splits, turned
from tightbound.errors import UserError

_SPLITS = ("train", "valid", "test")
_ADVICE = (
    "It must be a .npz of numbers of shape (steps, 3), dx, dy and whether the pen is lifted after the "
    "point: `train_points` with `train_lengths` and so on, `points` with `lengths`, or an array for "
    "each drawing. A file of sketch-rnn may hold pickles, which are not opened; docs/data.md says how "
    "drawings are written as plain numbers."
)


def load_stroke_file(
    path: str | os.PathLike[str],
    *,
    y_grows: Literal["down", "up"] = "down",
    max_length: int | None = None,
    max_rows: int | None = None,
    clip: float | None = None,
    every: int = 1,
) -> tuple[dict[str, Split], OffsetScale, tuple[str, ...]]:
    """The splits train, valid and test, the scale of their offsets, and notes on what was done.

    The file has either `NAME_points` (the drawings of a split one after another) and `NAME_lengths` for
    train, valid and test; or `points` and `lengths`, and perhaps a `split` for each drawing; or one array
    for each drawing. Where it does not say the splits, drawings are shuffled into 80, 10 and 10 %.
    `y_grows` says which way y grows in the file: here it grows upwards. `max_rows` keeps the first
    drawings of each split; `clip`, `every` and `max_length` are those of `stroke_splits`.
    """
    if max_rows is not None and max_rows < 1:
        raise UserError(f"{max_rows} drawings were asked for; give at least 1, or none for all.")
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder. Give the path of one file. {_ADVICE}")
    try:
        drawings, how = _drawings(path)
        corpus = {name: stroke_rows(name, drawings[name][:max_rows]) for name in _SPLITS}
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path} cannot be used: {error}") from error
    if y_grows == "down":
        corpus = {name: [turned(one) for one in paths] for name, paths in corpus.items()}
    splits, scale = stroke_splits(corpus, clip=clip, every=every, max_length=max_length)
    counts = tuple(
        f"{name}: {len(corpus[name]):,} drawings in {len(split):,} sequences of at most "
        f"{split.mask.shape[1]:,} steps"
        for name, split in splits.items()
    )
    return splits, scale, (how, *counts)


def _drawings(path: Path) -> tuple[dict[str, list[np.ndarray]], str]:
    """The drawings of each split as they are stored, and how they were divided."""
    arrays = read_every(path, advice=_ADVICE)
    of_splits = [f"{name}_{what}" for name in _SPLITS for what in ("points", "lengths")]
    if set(of_splits) & set(arrays):
        if missing := [name for name in of_splits if name not in arrays]:
            raise DataError(f"{path} has no array {missing[0]!r}. {_ADVICE}")
        rows = {name: _cut(arrays[f"{name}_points"], arrays[f"{name}_lengths"]) for name in _SPLITS}
        return rows, "Split as the file says."
    if {"points", "lengths"} <= set(arrays):
        whole = _cut(arrays["points"], arrays["lengths"])
        if "split" in arrays:
            return _by_label(path, whole, arrays["split"]), "Split as the file says."
    else:
        whole = list(arrays.values())
        wrong = [name for name, one in arrays.items() if one.ndim != 2 or one.shape[1] != 3]
        if wrong or not whole:
            found = f"an array {wrong[0]!r} of shape {arrays[wrong[0]].shape}" if wrong else "none"
            raise DataError(f"{path} has {found}. {_ADVICE}")
    rows = shuffled_splits([[one] for one in whole], path)
    return rows, "Shuffled into 80 % training, 10 % validation, 10 % test."


def _cut(points: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return cut_rows(np.atleast_1d(points), lengths)


def _by_label(
    path: Path, drawings: list[np.ndarray], label: np.ndarray
) -> dict[str, list[np.ndarray]]:
    labels = [str(one) for one in np.atleast_1d(label)]
    if len(labels) != len(drawings) or set(labels) != set(_SPLITS):
        raise DataError(
            f"{path} has {len(drawings):,} drawings and {len(labels):,} entries in `split`, among them "
            f"{', '.join(sorted(set(labels))[:5])}. Give each drawing one of train, valid, test."
        )
    return {
        name: [one for one, of in zip(drawings, labels, strict=True) if of == name]
        for name in _SPLITS
    }
