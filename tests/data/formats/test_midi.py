"""MIDI as pianorolls: notes at their steps, what is left out is counted, broken files are named."""

import numpy as np
import pytest
from mido import Message, MetaMessage, MidiFile, MidiTrack
from numpy.testing import assert_array_equal

from tightbound.data.catalogue import DataError
from tightbound.data.formats.midi import load_midi, read_midi
from tightbound.errors import UserError
from tightbound.families.sequences.midi import write_midi

LOWEST = 21


def song(path, events, *, kind=1, ticks=96):
    """A file with one track for each list of (ticks since the one before, what, channel, pitch, velocity)."""
    tracks = [
        MidiTrack(
            [Message(what, channel=channel, note=pitch, velocity=velocity, time=time)
             for time, what, channel, pitch, velocity in track]
        )
        for track in events
    ]  # fmt: skip
    MidiFile(type=kind, tracks=tracks, ticks_per_beat=ticks).save(path)
    return path


def folder_of_songs(folder, count=10):
    random = np.random.default_rng(0)
    for number in range(count):
        roll = (random.random((6 + number, 88)) < 0.05).astype(float)
        roll[0, 40] = roll[-1, 41] = 1
        write_midi(roll, folder / f"{number}.mid", lowest_pitch=LOWEST)
    return folder


@pytest.mark.parametrize("quarters", [1.0, 0.5, 2.0])
def test_a_roll_that_was_written_comes_back(tmp_path, quarters):
    """Identity, by the writer of reports: its steps are quarter notes. Half as long, every step is there
    twice; twice as long, every second middle falls between two steps and is the later one."""
    roll = (np.random.default_rng(0).random((8, 88)) < 0.2).astype(np.uint8)
    roll[0, 0] = roll[1, 2] = roll[-1, 87] = 1
    write_midi(roll.astype(float), tmp_path / "a.mid", lowest_pitch=LOWEST)
    found, counts = read_midi(tmp_path / "a.mid", quarters_per_step=quarters)
    expected = {1.0: roll, 0.5: np.repeat(roll, 2, axis=0), 2.0: roll[1::2]}[quarters]
    assert_array_equal(found, expected)
    if quarters <= 1:
        assert counts == (0, 0, 0)


def test_notes_are_read_as_a_player_means_them(tmp_path):
    """By hand, at 96 ticks a step: a note held 10 ticks too long stays in its step; velocity 0 lets go;
    a key struck again is one key; one never let go ends with its track; silence around is cut off."""
    path = song(
        tmp_path / "a.mid",
        [
            [
                (192, "note_on", 0, 60, 64), (106, "note_on", 0, 60, 0),  # step 2
                (86, "note_on", 0, 62, 64), (60, "note_on", 0, 62, 64),  # steps 4, 5
                (144, "note_off", 0, 62, 0),
            ],
            [(192, "note_on", 3, 64, 64), (96, "note_off", 5, 64, 0)],  # of another channel
        ],
    )  # fmt: skip
    roll, counts = read_midi(path)
    assert counts == (0, 0, 0)
    assert np.argwhere(roll).tolist() == [[0, 39], [0, 43], [2, 41], [3, 41]]


def test_what_a_roll_cannot_hold_is_left_out_and_counted(tmp_path):
    """By hand: two notes of drums, one below the lowest key and one above the highest, one too short."""
    events = [
        (0, "note_on", 0, 60, 64), (96, "note_off", 0, 60, 0),
        (0, "note_on", 9, 60, 64), (96, "note_off", 9, 60, 0),
        (0, "note_on", 9, 35, 64), (96, "note_off", 9, 35, 0),
        (0, "note_on", 0, 20, 64), (96, "note_off", 0, 20, 0),
        (0, "note_on", 0, 109, 64), (96, "note_off", 0, 109, 0),
        (0, "note_on", 0, 70, 64), (20, "note_off", 0, 70, 0),
    ]  # fmt: skip
    roll, counts = read_midi(song(tmp_path / "a.mid", [events]))
    assert counts == (2, 2, 1)
    assert np.argwhere(roll).tolist() == [[0, 39]]
    with pytest.raises(
        DataError, match=r"has no note to read \(2 of drums, 2 that no piano has, 2 sho"
    ):
        read_midi(tmp_path / "a.mid", quarters_per_step=100.0)


def test_a_folder_of_pieces_is_split_and_only_training_pieces_are_cut(tmp_path):
    """Oracle: the rolls of each file; ten of them, eight to train."""
    folder = folder_of_songs(tmp_path)
    splits, notes = load_midi(folder, max_length=5)
    assert [len(splits[name]) for name in ("valid", "test")] == [1, 1]
    assert splits["train"].num_units.max() == 5
    whole, _ = load_midi(folder)
    assert len(whole["train"]) == 8
    lengths = [int(n) for split in whole.values() for n in split.num_units]
    assert sorted(lengths) == list(range(6, 16))
    assert whole["test"].x.values.dtype == np.float32
    assert notes[0].startswith("10 pieces, a step lasts 1 quarter notes. Shuffled into")
    assert notes[1].startswith("Left out: 0 notes of drums")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cannot be read as MIDI: it ends too early"),
        (b"RIFF and so on, no MIDI", "cannot be read as MIDI: MThd not found"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\x09\0\x90", "cannot be read as MIDI: it ends too"),
        (b"MThd\0\0\0\6\0\1\0\1\xe7\x28MTrk\0\0\0\4\0\xff\x2f\0", "counts frames of film"),
        (b"MThd\0\0\0\6\0\2\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", "pieces of their own"),
        (b"MThd\0\0\0\6\0\1\0\1\0\0MTrk\0\0\0\4\0\xff\x2f\0", "counts frames"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", "has no note to read"),
    ],
)
def test_a_file_that_is_no_piece_is_named(tmp_path, content, sentence):
    folder = folder_of_songs(tmp_path, count=2)
    (folder / "broken.mid").write_bytes(content)
    with pytest.raises(DataError, match=f"broken.mid .*{sentence}"):
        load_midi(folder)


def test_any_damage_is_a_sentence_and_no_traceback(tmp_path):
    """Oracle: only `DataError`, for every cut and for 300 changed bytes, from a fixed key."""
    content = (folder_of_songs(tmp_path, count=1) / "0.mid").read_bytes()
    random = np.random.default_rng(0)
    damaged = [content[:end] for end in range(0, len(content), 7)]
    for _ in range(300):
        changed = bytearray(content)
        changed[random.integers(len(content))] = random.integers(256)
        damaged.append(bytes(changed))
    refused = 0
    for one in damaged:
        (tmp_path / "x.mid").write_bytes(one)
        try:
            read_midi(tmp_path / "x.mid")
        except DataError:
            refused += 1
    assert refused > len(content) // 7


def test_what_cannot_be_asked_for_is_refused(tmp_path):
    path = folder_of_songs(tmp_path) / "0.mid"
    with pytest.raises(DataError, match=r"0.mid is one file, and so one piece; .* Give a folder"):
        load_midi(path)
    for quarters in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="give a number above 0"):
            load_midi(tmp_path, quarters_per_step=quarters)
    with pytest.raises(UserError, match="at most 0 steps"):
        load_midi(tmp_path, max_length=0)
    with pytest.raises(DataError, match=r"lasts .* steps of 1e-05 quarter notes, more than"):
        read_midi(path, quarters_per_step=1e-5)
    endless = song(
        tmp_path / "endless.mid",
        [[(0, "note_on", 0, 60, 64), (2**28 - 1, "note_off", 0, 60, 0)]],
    )
    with pytest.raises(DataError, match="Give longer steps, or take it out"):
        read_midi(endless)


def test_other_messages_take_their_time(tmp_path):
    """By hand: a change of tempo two steps into the piece moves what follows it by two steps."""
    track = MidiTrack(
        [
            Message("note_on", note=60, velocity=64, time=0),
            Message("note_off", note=60, velocity=64, time=96),
            MetaMessage("set_tempo", tempo=100_000, time=192),
            Message("note_on", note=60, velocity=64, time=0),
            Message("note_off", note=60, velocity=64, time=96),
        ]
    )
    MidiFile(type=0, tracks=[track], ticks_per_beat=96).save(tmp_path / "a.mid")
    assert read_midi(tmp_path / "a.mid")[0][:, 39].tolist() == [1, 0, 0, 1]
