"""Made-up handwriting that needs no download: words of a few letters, each of a few arcs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tightbound.data.batch import Split
from tightbound.data.strokes import OffsetScale, Strokes, stroke_splits
from tightbound.errors import UserError

NUM_ROWS = {"train": 512, "valid": 96, "test": 96}
_LETTERS = 6  # in the alphabet
_SPEED = 20.0  # of the pen, in units per step: offsets are of this size


@dataclass(frozen=True)
class Arc:
    """One stroke of a letter: a jump to where it begins, with the pen up, and a bent line."""

    jump: Float[np.ndarray, "2"]  # units
    heading: float  # of the first step, radians
    bend: float  # radians per step
    num_steps: int


def load_toy_strokes(
    *,
    num_letters: int = 3,
    max_length: int | None = None,
    max_rows: int | None = None,
    every: int = 1,
    clip: float | None = None,
) -> tuple[dict[str, Split], OffsetScale, tuple[str, ...]]:
    """Splits of words of 1 to `num_letters` letters, all lengths equally likely, the scale of their
    offsets, and no notes; the other settings are as for the files of strokes.

    A letter is one of six, the same ones always: one or two arcs of four to eight points, written
    with a slant, a size and a bend of the word's own, and a little noise at every point. Three
    letters take 30 steps or so, the longest words 49. Letters stand to the right of each other, so
    the mean of the x offsets is not 0. Groups are the words' first letters.
    """
    if num_letters < 1:
        raise UserError(f"Words of at most {num_letters} letters were asked for; give at least 1.")
    if max_rows is not None and max_rows < 1:
        raise UserError(f"{max_rows} words of each split were asked for; give at least 1.")
    alphabet = _alphabet()
    corpus, groups = {}, {}
    for index, (name, usual) in enumerate(NUM_ROWS.items()):
        random = np.random.default_rng((index, 0x5770))
        num_rows = usual if max_rows is None else min(usual, max_rows)
        words = [
            random.integers(_LETTERS, size=random.integers(1, num_letters + 1))
            for _ in range(num_rows)
        ]
        corpus[name] = [_word([alphabet[letter] for letter in word], random) for word in words]
        groups[name] = np.array([word[0] for word in words])
    splits, scale = stroke_splits(
        corpus,
        clip=clip,
        every=every,
        max_length=max_length,
        groups=groups,
        group_names=tuple("abcdef"),
    )
    return splits, scale, ()


def _alphabet() -> list[list[Arc]]:
    """Every letter's arcs; drawn once, from a seed of its own."""
    random = np.random.default_rng(0xA1FA)
    return [
        [
            Arc(
                jump=np.array([random.uniform(5.0, 30.0), random.uniform(-30.0, 30.0)]),
                heading=random.uniform(-np.pi, np.pi),
                bend=random.uniform(-1.0, 1.0),
                num_steps=int(random.integers(4, 9)),
            )
            for _ in range(1 + letter % 2)
        ]
        for letter in range(_LETTERS)
    ]


def _word(letters: list[list[Arc]], random: np.random.Generator) -> Strokes:
    """The letters one after the other, in one hand."""
    slant, more_bend = random.normal(0.0, 0.15), random.normal(0.0, 0.05)
    size = np.exp(random.normal(0.0, 0.2))
    offsets, pen = [np.zeros((1, 2))], [np.zeros(1)]
    for arcs in letters:
        for arc in arcs:
            # where the pen goes down counts as the arc's first point
            heading = arc.heading + slant + (arc.bend + more_bend) * np.arange(arc.num_steps)
            along = _SPEED * np.stack([np.cos(heading), np.sin(heading)], axis=1)
            offsets.append(size * np.concatenate([arc.jump[None], along]))
            pen.append(np.append(np.zeros(arc.num_steps), 1.0))
        offsets[-1][-1, 0] += size * _SPEED  # and on to the next letter
    path = np.concatenate(offsets)
    path[1:] += random.normal(0.0, 1.5, path[1:].shape)
    return Strokes(path, np.concatenate(pen))
