"""UNIPEN, the sentences of BBN: English prose written with a pen by 18 people (Guyon et al. 1994)."""

import os

import numpy as np
from jaxtyping import Int

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError, find_one
from tightbound.data.formats.ragged import cut_rows, read_named
from tightbound.data.strokes import OffsetScale, stroke_rows, stroke_splits
from tightbound.errors import UserError

_SPLITS = ("train", "valid", "test")
_ADVICE = (
    "It must be a .npz with `points` of shape (steps, 3), dx, dy and whether the pen is lifted after "
    "the point, `lengths`, and for each sentence its `text`, `writer` and `split`."
)
_DASH = "-"  # the text of items that are a single stroke and no sentence


def load_unipen(
    path: str | os.PathLike[str] | None = None,
    *,
    every: int = 5,
    max_length: int | None = None,
    max_rows: int | None = None,
    clip: float | None = 2000.0,
) -> tuple[dict[str, Split], OffsetScale, tuple[str, ...]]:
    """The splits train (842 sentences of 7 writers), valid (112 of 6) and test (63 of 5), the scale
    of their offsets, and notes on what was done. No writer is in two splits; `groups` are writers.

    Without `path` the published file is used; `path` is one of the same format, or a folder that
    holds one of its name. The pen was sampled at 100 Hz: `every` = 5 leaves 20 Hz and the ends of
    strokes. A sentence is one sequence, of about 600 steps then, or is cut into windows of at most
    `max_length`. Long jumps between strokes are clipped at `clip` units of the tablet (one in a
    thousand jumps is longer than the default). `max_rows` keeps that many sentences of each split,
    evenly spaced: the file is in the order of writers. y grows upwards.
    """
    if max_rows is not None and max_rows < 1:
        raise UserError(f"{max_rows} sentences were asked for; give at least 1, or none for all.")
    file = find_one("unipen", path)
    arrays = read_named(file, ("points", "lengths", "text", "writer", "split"), advice=_ADVICE)
    text, split_of = arrays["text"], arrays["split"]
    try:
        sentences = cut_rows(np.atleast_1d(arrays["points"]), arrays["lengths"])
        if any(arrays[k].shape != (len(sentences),) for k in ("text", "writer", "split")):
            raise ValueError(f"it has {len(sentences):,} sentences, but not as many labels")
        rows = {
            name: _spread(np.flatnonzero((split_of == name) & (text != _DASH)), max_rows)
            for name in _SPLITS
        }
        for name, chosen in rows.items():
            if not len(chosen):
                raise ValueError(f"it has no sentence of the split {name}")
        corpus = {
            name: stroke_rows(name, [sentences[row] for row in rows[name]]) for name in _SPLITS
        }
    except ValueError as error:
        raise DataError(f"{file} cannot be used: {error}") from error
    writers, writer_of = np.unique(arrays["writer"], return_inverse=True)
    splits, scale = stroke_splits(
        corpus,
        clip=clip,
        every=every,
        max_length=max_length,
        groups={name: writer_of[chosen].astype(np.int32) for name, chosen in rows.items()},
        group_names=tuple(str(writer) for writer in writers),
    )
    notes = tuple(
        f"{name}: {len(corpus[name]):,} sentences of {len(np.unique(writer_of[rows[name]]))} writers in "
        f"{len(split):,} sequences of at most {split.mask.shape[1]:,} steps"
        for name, split in splits.items()
    )
    dashes = f"{int((text == _DASH).sum())} items that are a single dash were left out"
    return splits, scale, (*notes, dashes)


def _spread(rows: Int[np.ndarray, " rows"], max_rows: int | None) -> Int[np.ndarray, " kept"]:
    """At most `max_rows` of them, evenly spaced."""
    if max_rows is None or len(rows) <= max_rows:
        return rows
    return rows[np.arange(max_rows) * len(rows) // max_rows]
