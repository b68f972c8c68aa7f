"""MIDI files as pianorolls of 88 keys, read by `mido`.

One step lasts so many quarter notes; tempo, dynamics and the sustain pedal say nothing about a roll.
"""

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError
from tightbound.data.formats.own_files import own_rows
from tightbound.data.sets.pianorolls import LOWEST_PITCH, NUM_KEYS, roll_splits
from tightbound.errors import UserError

_DRUMS = 9  # the channel of General MIDI whose keys are instruments, not pitches
_LARGEST = 1 << 24  # bytes of a file; an hour of piano has a hundredth
_MOST_STEPS = 1 << 18  # of a roll, 23 MB
_FRAMES = 0x8000  # a division from here on counts frames of film, not quarter notes


def load_midi(
    path: str | os.PathLike[str],
    *,
    quarters_per_step: float = 1.0,
    max_length: int | None = None,
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """The splits train, valid and test of the pieces in a folder (`own_rows`: `.mid`, `.midi`), as
    `load_pianorolls` has them, and notes on what was left out.

    A file is one piece, all its tracks and channels together but the drums'. `max_length` cuts training
    rolls only.
    """
    if not (math.isfinite(quarters_per_step) and quarters_per_step > 0):
        raise UserError(
            f"A step of {quarters_per_step} quarter notes was asked for; give a number above 0, 0.5 "
            "for eighth notes."
        )
    if Path(path).is_file():
        raise DataError(
            f"{path} is one file, and so one piece; training, validation and test need pieces of "
            "their own. Give a folder of MIDI files."
        )
    left_out = np.zeros(3, int)

    def read(file: Path) -> Iterator[np.ndarray]:
        roll, counts = read_midi(file, quarters_per_step=quarters_per_step)
        left_out[:] += counts
        yield roll

    rolls, how = own_rows(path, (".mid", ".midi"), read)
    pieces = sum(map(len, rolls.values()))
    drums, outside, short = left_out.tolist()
    notes = (
        f"{pieces:,} pieces, a step lasts {quarters_per_step:g} quarter notes. {how}",
        f"Left out: {drums:,} notes of drums, {outside:,} that no piano has, {short:,} too short to "
        "sound in the middle of a step.",
    )
    return roll_splits(rolls, max_length=max_length), notes


def read_midi(
    path: str | os.PathLike[str], *, quarters_per_step: float = 1.0
) -> tuple[UInt8[np.ndarray, "time keys"], tuple[int, int, int]]:
    """The roll of one file, from its first sounding step to its last, and how many notes were left out:
    of drums, outside the 88 keys, and too short to be seen.

    A key is down in a step if it sounds in the step's middle: what is held a little too long or let go
    a little too soon changes nothing. DataError where the file is none or has no note.
    """
    path = Path(path)
    midi = _opened(path)
    ticks_per_step = quarters_per_step * midi.ticks_per_beat
    notes: list[tuple[int, int, int]] = []  # first step, step after the last, key
    drums = outside = short = 0
    for track in midi.tracks:
        for start, end, channel, pitch in _notes(track):
            key = pitch - LOWEST_PITCH
            first, after = (math.ceil(tick / ticks_per_step - 0.5) for tick in (start, end))
            if channel == _DRUMS:
                drums += 1
            elif not 0 <= key < NUM_KEYS:
                outside += 1
            elif first == after:
                short += 1
            else:
                notes.append((first, after, key))
    if not notes:
        raise DataError(
            f"{path} has no note to read ({drums:,} of drums, {outside:,} that no piano has, {short:,} "
            f"shorter than a step of {quarters_per_step:g} quarter notes). Take it out, or give "
            "shorter steps."
        )
    begin, finish = min(first for first, _, _ in notes), max(after for _, after, _ in notes)
    if finish - begin > _MOST_STEPS:
        raise DataError(
            f"{path} lasts {finish - begin:,} steps of {quarters_per_step:g} quarter notes, more than "
            f"{_MOST_STEPS:,}. Give longer steps, or take it out."
        )
    roll = np.zeros((finish - begin, NUM_KEYS), np.uint8)
    for first, after, key in notes:
        roll[first - begin : after - begin, key] = 1
    return roll, (drums, outside, short)


def _notes(track: Any) -> Iterator[tuple[int, int, int, int]]:
    """(start, end, channel, pitch) of every note, in ticks; a key that is struck again before it is let
    go ends there, one that is never let go ends with its track."""
    now = 0
    down: dict[tuple[int, int], int] = {}
    for message in track:
        now += message.time
        if message.type not in ("note_on", "note_off"):
            continue
        note = (message.channel, message.note)
        if note in down:
            yield down.pop(note), now, *note
        if message.type == "note_on" and message.velocity > 0:
            down[note] = now
    for note, start in down.items():
        yield start, now, *note


def _opened(path: Path) -> Any:
    try:
        import mido
    except ModuleNotFoundError as error:
        raise UserError(
            "Reading MIDI files needs the package mido, which is not installed. Install "
            "`tightbound[music]`."
        ) from error
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise ValueError(f"it has {size:,} bytes, more than a piece of music can have")
        midi = mido.MidiFile(path, clip=True)
    except (
        *(OSError, EOFError, ValueError, LookupError, TypeError, struct.error),
        mido.KeySignatureError,
    ) as error:
        raise DataError(
            f"{path} cannot be read as MIDI: {str(error) or 'it ends too early'}. Get it again, or take it "
            "out."
        ) from error
    if midi.type == 2 or not 0 < midi.ticks_per_beat < _FRAMES:
        raise DataError(
            f"{path} has tracks that are pieces of their own, or counts frames of film instead of "
            "quarter notes. Save it again as MIDI of type 0 or 1."
        )
    return midi
