"""Records are read in a stream from either end, and a damaged line costs itself alone.

Oracle: the lines that were written, parsed one by one.
"""

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.run_folders import estimate
from tightbound.train import records
from tightbound.train.records import cut_back, newest_first, read_records, replace_newest

DAMAGED = [
    b"",
    b"{",
    b"12",
    b'{"steps": 3}',
    b'{"step": true}',
    b'{"step": -1}',
    b'{"step": "3"}',
    b"\xff\xfe",
    b'{"step": 1e3}',
    b"[" * 5000,
    b'{"step": 3, "text": "' + b"x" * (1 << 20) + b'"}',
]


def line(step, **entries):
    return json.dumps({"step": step, **entries}).encode() + b"\n"


@pytest.mark.parametrize("damaged", DAMAGED, ids=lambda text: text[:20].decode(errors="replace"))
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_damaged_line_is_named_and_the_others_are_read(tmp_path, caplog, damaged, place):
    """By hand: three records, and the damaged line among them."""
    path = tmp_path / "steps.jsonl"
    lines = [line(step) for step in (2, 4, 6)]
    lines.insert(place, damaged + b"\n")
    path.write_bytes(b"".join(lines))
    with caplog.at_level(logging.WARNING):
        assert [record["step"] for record in read_records(path)] == [2, 4, 6]
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"Line {place + 1} of {path} is no record (")
    assert said.endswith("it is left out, and the others are read.")
    assert [record["step"] for record in newest_first(path)] == [6, 4, 2]


def test_going_back_keeps_damaged_lines_and_every_byte_before(tmp_path):
    """Whoever continues a run loses nothing that stood before its checkpoint."""
    path = tmp_path / "steps.jsonl"
    kept = line(2) + b"{damaged\n" + line(4)
    path.write_bytes(kept + line(6) + b"{damaged too\n" + line(8) + b'{"step": 9')
    cut_back(path, 5)
    assert path.read_bytes() == kept
    path.write_bytes(kept + b'{"step": 5')
    cut_back(path, 5)
    assert path.read_bytes() == kept
    cut_back(tmp_path / "absent", 3)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), max_size=12),
    cut_off=st.integers(0, 30),
    block=st.integers(1, 50),
    limit=st.integers(0, 14),
)
def test_both_ends_and_any_block_read_the_same_records(
    tmp_path_factory, sizes, cut_off, block, limit
):
    """Lines of any length, a last one that was cut off, and blocks that end anywhere."""
    path = tmp_path_factory.mktemp("steps") / "steps.jsonl"
    lines = [line(step, note="x" * size) for step, size in enumerate(sizes)]
    path.write_bytes(b"".join(lines) + b'{"step": 99, "long": "............'[:cut_off])
    expected = [json.loads(one) for one in lines]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "_BLOCK", block)
        assert list(read_records(path)) == expected
        assert list(newest_first(path)) == expected[::-1]
        if lines:
            replace_newest(path, {"step": len(lines) - 1, "note": "new"})
            new = line(len(lines) - 1, note="new")
            assert path.read_bytes() == b"".join(lines[:-1]) + new
            lines[-1] = new
        cut_back(path, limit)
    assert path.read_bytes() == b"".join(lines[: limit + 1])


EVALUATED = {"bound": estimate(-30.0).to_json(), "sites": {}}


def test_records_with_an_entry_are_found_without_reading_the_others(tmp_path, caplog):
    """A word in a note is no entry; a damaged line without the word is nobody's business here."""
    path = tmp_path / "steps.jsonl"
    path.write_bytes(line(1, note="held_out") + line(2, held_out=EVALUATED) + b"{\n" + line(3))
    assert list(read_records(path, having="held_out")) == [{"step": 2, "held_out": EVALUATED}]
    assert not caplog.records
    assert list(read_records(tmp_path / "absent")) == []
    assert list(newest_first(tmp_path / "absent")) == []
