"""Pen strokes: offsets and a pen bit, their normalisation, thinning and cutting, and splits of them.

Everywhere y grows *upwards*, so a picture whose vertical axis does so shows writing upright.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from tightbound.data.batch import Split
from tightbound.data.sequences import sequence_split
from tightbound.errors import UserError


class Strokes(eqx.Module):
    """A pen's path, step by step; one step, or a batch of paths, is the same record.

    `offset` leads from the previous point to this one, in the file's units or normalised; `pen`
    is 1 where the pen is lifted *after* this point, else 0. A whole path begins at its own origin
    with the offset (0, 0): that step is part of the data, and every file here has it. It carries no
    information, and a density may be as high there as the floor of its scale lets it.
    """

    offset: Float[Array | np.ndarray, "*steps 2"]
    pen: Float[Array | np.ndarray, "*steps"]


@dataclass(frozen=True)
class OffsetScale:
    """The affine map between a file's offsets and normalised ones.

        apply: (clip(d) - mean) / scale,    undo: d * scale + mean

    `undo` inverts `apply` wherever nothing was clipped. Pen bits are left alone. A log-density of
    normalised offsets is larger than that of the file's by log(scale_x scale_y) nats per step.
    """

    mean: Float[np.ndarray, "2"]  # in the file's units
    scale: Float[np.ndarray, "2"]
    clip: float | None = None  # each coordinate is cut to [-clip, clip]

    @staticmethod
    def of(sequences: Sequence[Strokes], *, clip: float | None = None) -> "OffsetScale":
        """Mean and standard deviation over every point of the sequences, all of them real: what is
        padded comes later. Rare long jumps are clipped before, or they would set the scale."""
        if clip is not None and not (math.isfinite(clip) and clip > 0):
            raise UserError(
                f"Offsets were to be clipped at {clip}; give a positive number or none."
            )
        if not sequences:
            raise UserError("No training sequences to take the statistics of offsets from.")
        offsets = _clipped(np.concatenate([np.asarray(s.offset, float) for s in sequences]), clip)
        mean, scale = offsets.mean(0), offsets.std(0)
        if not (scale > 0).all():
            raise UserError(
                f"The {'xy'[int(scale.argmin())]} offsets of the training split are all equal, so "
                "they have no scale to divide by. Give more sequences."
            )
        return OffsetScale(mean, scale, clip)

    def apply(
        self, offsets: Float[Array | np.ndarray, "*steps 2"]
    ) -> Float[np.ndarray, "*steps 2"]:
        """Normalised offsets, clipped first."""
        return (_clipped(np.asarray(offsets, float), self.clip) - self.mean) / self.scale

    def undo(self, offsets: Float[Array | np.ndarray, "*steps 2"]) -> Float[np.ndarray, "*steps 2"]:
        """Offsets in the file's units, to draw them."""
        return np.asarray(offsets, float) * self.scale + self.mean


def stroke_rows(name: str, rows: Sequence[np.ndarray]) -> list[Strokes]:
    """The records of arrays with the columns dx, dy and pen lifted; one step is enough.

    `UserError` names the first row that is empty or no such array, or that has a NaN, an infinite
    offset, or a pen that is not 0 or 1.
    """
    return [
        _checked(np.asarray(points), f"Row {row} of the {name} split")
        for row, points in enumerate(rows)
    ]


def turned(strokes: Strokes) -> Strokes:
    """The same path with the other direction of y."""
    return Strokes(np.asarray(strokes.offset) * np.array([1.0, -1.0]), strokes.pen)


def thinned(strokes: Strokes, every: int) -> Strokes:
    """Every `every`-th point of each stroke, and its first and last: the points stay where they
    are. The offsets in between are summed, and the pen is lifted where one of them lifted it."""
    if every < 1:
        raise UserError(f"Every {every}th point was asked for; give 1 for all, 2 for half of them.")
    pen = np.asarray(strokes.pen)
    lifted = pen > 0
    place = np.arange(len(pen))
    start = np.maximum.accumulate(np.where(np.append(True, lifted[:-1]), place, 0))
    kept = ((place - start) % every == 0) | lifted
    kept[-1] = True  # a path that ends with the pen down keeps its end too
    begin = np.append(0, np.flatnonzero(kept)[:-1] + 1)  # of the offsets that lead to a kept point
    return Strokes(np.add.reduceat(np.asarray(strokes.offset), begin, axis=0), pen[kept])


def windows(strokes: Strokes, max_length: int | None) -> list[Strokes]:
    """The path in as few pieces of at most `max_length` steps as possible, all of nearly one length;
    None leaves it whole.

    No step is left out or made up: a later piece begins with the offset from the end of the one before.
    """
    if max_length is None:
        return [strokes]
    if max_length < 1:
        raise UserError(f"Pieces of at most {max_length} steps were asked for; give at least 1.")
    num_steps = len(strokes.pen)
    ends = np.linspace(0, num_steps, -(-num_steps // max_length) + 1).astype(int)
    return [
        Strokes(strokes.offset[start:end], strokes.pen[start:end]) for start, end in pairwise(ends)
    ]


def positions(strokes: Strokes) -> list[Float[np.ndarray, "points 2"]]:
    """Polylines to draw, one for each stroke: the cumulated offsets, broken after every lifted pen.

    The path starts at the origin, and its first point is where the first offset leads. Give the
    real steps only, their offsets in the file's units (`OffsetScale.undo`).
    """
    points = np.cumsum(np.asarray(strokes.offset, float), axis=0)
    lifts = np.flatnonzero(np.asarray(strokes.pen) > 0.5) + 1
    return [line for line in np.split(points, lifts) if len(line)]


def stroke_splits(
    corpus: Mapping[str, Sequence[Strokes]],
    *,
    clip: float | None = None,
    every: int = 1,
    max_length: int | None = None,
    groups: Mapping[str, np.ndarray] | None = None,
    group_names: tuple[str, ...] = (),
) -> tuple[dict[str, Split], OffsetScale]:
    """Splits whose values are `Strokes` with normalised offsets, in 32 bits, and their scale.

    Every path is thinned, then cut into windows; clipping and statistics are those of the offsets
    that result, of "train" alone. A window keeps the group of its path. What changes the numbers
    stands in the law.
    """
    pieces = {
        name: [windows(thinned(path, every), max_length) for path in paths]
        for name, paths in corpus.items()
    }
    flat = {name: [piece for path in paths for piece in path] for name, paths in pieces.items()}
    scale = OffsetScale.of(flat["train"], clip=clip)

    def group_of_pieces(name: str) -> np.ndarray | None:
        if groups is None:
            return None
        return np.repeat(groups[name], [len(path) for path in pieces[name]])

    splits = {
        name: sequence_split(
            name,
            [
                Strokes(scale.apply(s.offset).astype(np.float32), np.asarray(s.pen, np.float32))
                for s in paths
            ],
            law=_law(clip, every, max_length),
            groups=group_of_pieces(name),
            group_names=group_names,
        )
        for name, paths in flat.items()
    }
    return splits, scale


def _law(clip: float | None, every: int, max_length: int | None) -> str:
    parts = ["normalised offsets"]
    if clip is not None:
        parts.append(f"clipped at {clip:g}")
    if every > 1:
        parts.append(f"1 point in {every}")
    if max_length is not None:
        parts.append(f"pieces of at most {max_length} steps")
    return ", ".join(parts)


def _clipped(offsets: np.ndarray, clip: float | None) -> np.ndarray:
    return offsets if clip is None else np.clip(offsets, -clip, clip)


def _checked(points: np.ndarray, where: str) -> Strokes:
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iuf":
        raise UserError(
            f"{where} is an array of type {points.dtype} and shape {points.shape}, but strokes are "
            "numbers of shape (time, 3): dx, dy and whether the pen is lifted after the point."
        )
    if not len(points):
        raise UserError(f"{where} is an empty sequence: it has nothing to score. Leave it out.")
    finite = np.isfinite(points[:, :2])
    if not finite.all():
        step, axis = np.argwhere(~finite)[0]
        raise UserError(
            f"{where} has the offset {points[step, axis]} at step {step}, but offsets must be "
            "finite numbers. Correct or remove the row."
        )
    pen = points[:, 2]
    wrong = (pen != 0) & (pen != 1)
    if wrong.any():
        step = int(wrong.argmax())
        raise UserError(
            f"{where} has the pen {pen[step]} at step {step}, but it must be 1 where the pen is "
            "lifted after the point and 0 elsewhere. Are the columns dx, dy, pen?"
        )
    return Strokes(points[:, :2].astype(float), pen.astype(float))
