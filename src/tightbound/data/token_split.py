"""Rows of tokens: how a sequence is laid out with its marks, and splits made of such rows."""

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError
from tightbound.data.sentences import BOS, EOS, PAD
from tightbound.data.sequences import Sequence
from tightbound.errors import UserError

Excess = Literal["drop", "cut", "windows"]


@dataclass(frozen=True)
class Layout:
    """How one sequence becomes rows of at most `max_length` tokens, marks included.

    `begin` puts BOS first, given and not scored. `end` puts EOS last, scored. Of a sequence that
    does not fit,

    drop       nothing is kept
    cut        the first tokens are kept, without EOS: it has not ended there
    windows    every token is kept, in consecutive rows; only the last of them has EOS

    With `always_end` what is cut has EOS all the same, which claims an end that is not there.
    """

    end: bool
    excess: Excess
    max_length: int | None = None
    begin: bool = False
    always_end: bool = False

    def __post_init__(self):
        smallest = 1 + self.begin + self.end
        if self.max_length is not None and self.max_length < smallest:
            raise UserError(
                f"Rows of at most {self.max_length} tokens were asked for, but with their marks they "
                f"need {smallest}. Raise `max_length`, or leave it out."
            )

    def pieces(self, text: Rows[str]) -> list[tuple[Rows[str], bool]]:
        """The parts of a sequence that become rows, each with whether EOS follows."""
        if self.max_length is None or len(text) + self.begin + self.end <= self.max_length:
            return [(text, self.end)]
        room = self.max_length - self.begin
        match self.excess:
            case "drop":
                return []
            case "cut":
                return [(text[: room - self.always_end], self.always_end)]
            case "windows":  # where the last is full, EOS has a row to itself
                starts = range(0, len(text) + self.end, room)
                last = starts[-1]
                return [(text[i : i + room], self.end and i == last) for i in starts]

    def row(self, symbols: list[int], ended: bool) -> list[int]:
        """The symbols with their marks."""
        return [BOS] * self.begin + symbols + [EOS] * ended


def token_splits(rows: dict[str, list[list[int]]], *, law: str) -> dict[str, Split]:
    """A split of each list of rows, as `Sequence`s of symbols, all of one width.

    BOS is given, so it is no unit. Where rows differ in length, batches are cut to one of up to
    four widths, so that few programs are compiled and little padding is computed.
    """
    empty = next((name for name in rows if not rows[name]), None)
    if empty is not None:
        raise DataError(
            f"The {empty} split would be empty: no sequence fits. Raise `max_length`, or read more."
        )
    width = max(len(row) for part in rows.values() for row in part)
    widths = _widths(np.array([len(row) for row in rows["train"]]), width)
    return {name: _split(name, part, width, widths, law) for name, part in rows.items()}


def scored(split: Split) -> Bool[np.ndarray, "rows time"]:
    """Which positions of a split of tokens are predicted: the real ones that are not BOS."""
    return split.mask & (np.asarray(split.x.values) != BOS)


def _split(
    name: str, rows: list[list[int]], width: int, widths: tuple[int, ...], law: str
) -> Split:
    values = np.full((len(rows), width), PAD, np.int32)
    for target, row in zip(values, rows, strict=True):
        target[: len(row)] = row
    mask = values != PAD
    return Split(
        name=name,
        x=Sequence(values, mask),
        mask=mask,
        num_units=(mask & (values != BOS)).sum(1).astype(np.int32),
        law=law,
        lengths=widths,
    )


def _widths(lengths: np.ndarray, width: int) -> tuple[int, ...]:
    """The width of the splits and those quartiles of the lengths that save a tenth of the one above;
    none where none does."""
    widths = [width]
    for share in (0.75, 0.5, 0.25):
        quartile = int(np.quantile(lengths, share, method="higher"))
        if quartile <= 0.9 * widths[0]:
            widths.insert(0, quartile)
    return tuple(widths) if len(widths) > 1 else ()
