"""Pianorolls as MIDI files, written by `mido`."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from tightbound.errors import UserError

TICKS_PER_STEP = 480  # a step lasts a quarter note
MICROSECONDS_PER_STEP = 500_000  # 120 quarter notes a minute
_VELOCITY = 80


def write_midi(roll: Float[np.ndarray, "time keys"], path: Path, *, lowest_pitch: int) -> None:
    """Write what sounds (the 1s of the roll) as notes, column j as the pitch `lowest_pitch` + j.

    A key that sounds in neighbouring steps is one note: a roll does not say whether it was struck
    again. The file lasts as long as the roll, silence at its end included.
    """
    try:
        from mido import Message, MetaMessage, MidiFile, MidiTrack
    except ModuleNotFoundError as error:
        raise UserError(
            "Writing MIDI files needs the package mido, which is not installed. Install "
            "`tightbound[music]`."
        ) from error
    track = MidiTrack([MetaMessage("set_tempo", tempo=MICROSECONDS_PER_STEP)])
    now = 0
    for step, starts, key in changes(roll):
        kind = "note_on" if starts else "note_off"
        wait = (step - now) * TICKS_PER_STEP
        track.append(Message(kind, note=lowest_pitch + key, velocity=_VELOCITY, time=wait))
        now = step
    track.append(MetaMessage("end_of_track", time=(len(roll) - now) * TICKS_PER_STEP))
    MidiFile(type=0, tracks=[track], ticks_per_beat=TICKS_PER_STEP).save(path)


def changes(roll: Float[np.ndarray, "time keys"]) -> list[tuple[int, bool, int]]:
    """(step, whether it starts, key) of the beginning and the end of every note, in the order of
    time; what ends comes before what starts."""
    silence = np.zeros((1, roll.shape[1]))
    steps, keys = np.nonzero(np.diff(roll > 0.5, axis=0, prepend=silence, append=silence))
    starts = np.append(roll, silence, axis=0)[steps, keys] > 0.5
    return sorted(zip(steps.tolist(), starts.tolist(), keys.tolist(), strict=True))
