import sys

import numpy as np
import pytest
from mido import MidiFile, tick2second

from tightbound.errors import UserError
from tightbound.families.sequences.midi import (
    MICROSECONDS_PER_STEP,
    TICKS_PER_STEP,
    changes,
    write_midi,
)

LOWEST = 21


def read_back(path, num_steps):
    """Oracle: mido's reader. The roll that the file's notes fill, and its notes as (pitch, start,
    end) in steps."""
    roll, notes, open_notes, now = np.zeros((num_steps, 88)), [], {}, 0
    for message in MidiFile(path).tracks[0]:
        now += message.time
        if message.type == "note_on":
            assert message.note not in open_notes, "struck while it sounds"
            open_notes[message.note] = now // TICKS_PER_STEP
        elif message.type == "note_off":
            start, end = open_notes.pop(message.note), now // TICKS_PER_STEP
            notes.append((message.note, start, end))
            roll[start:end, message.note - LOWEST] = 1
    assert not open_notes, "a note without an end"
    return roll, sorted(notes)


def test_a_file_read_back_is_the_roll(tmp_path):
    """Round trip over random rolls, both ends of the keyboard and both ends of the time among them."""
    roll = (np.random.default_rng(0).uniform(size=(40, 88)) < 0.3).astype(np.float32)
    roll[[0, 0, -1, -1], [0, 87, 0, 87]] = 1
    write_midi(roll, tmp_path / "a.mid", lowest_pitch=LOWEST)
    found, _ = read_back(tmp_path / "a.mid", len(roll))
    np.testing.assert_array_equal(found, roll)
    write_midi(roll, tmp_path / "b.mid", lowest_pitch=LOWEST + 1)  # the planted bug: a key beside
    assert (tmp_path / "b.mid").read_bytes() != (tmp_path / "a.mid").read_bytes()
    with pytest.raises(IndexError):
        read_back(tmp_path / "b.mid", len(roll))


def test_neighbouring_steps_are_one_note_and_the_pitch_is_21_and_the_column(tmp_path):
    """Oracle: notes by hand. A key that rests a step is struck again."""
    roll = np.zeros((8, 88))
    roll[1:4, 39] = 1  # C4, three steps
    roll[5:6, 39] = 1
    roll[4:6, 43] = 1
    write_midi(roll, tmp_path / "a.mid", lowest_pitch=LOWEST)
    _, notes = read_back(tmp_path / "a.mid", len(roll))
    assert notes == [(60, 1, 4), (60, 5, 6), (64, 4, 6)]
    assert len(changes(roll)) == 2 * 3 < 2 * roll.sum()  # the planted bug: a note for every step


@pytest.mark.parametrize("last", [2, 7])
def test_a_file_lasts_as_long_as_its_roll(tmp_path, last):
    """Oracle: mido's own count of seconds, silence at the end included."""
    roll = np.zeros((8, 88))
    roll[last, 3] = 1
    write_midi(roll, tmp_path / "a.mid", lowest_pitch=LOWEST)
    file = MidiFile(tmp_path / "a.mid")
    ticks = sum(message.time for message in file.tracks[0])
    seconds = tick2second(ticks, file.ticks_per_beat, MICROSECONDS_PER_STEP)
    assert seconds == pytest.approx(8 * 0.5)


def test_a_silent_roll_is_a_file_without_notes(tmp_path):
    write_midi(np.zeros((3, 88)), tmp_path / "a.mid", lowest_pitch=LOWEST)
    found, notes = read_back(tmp_path / "a.mid", 3)
    assert not notes
    assert not found.any()


def test_the_extra_that_brings_the_writer_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(UserError, match=r"Install `tightbound\[music\]`\.$"):
        write_midi(np.zeros((1, 88)), tmp_path / "a.mid", lowest_pitch=LOWEST)
