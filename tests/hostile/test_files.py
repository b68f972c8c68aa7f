"""Data files and saved weights from somebody else: every reader, with every kind of wrong content.

Oracle: the exit code, one sentence that names the file, the time, and in a process of its own the memory.
"""

import gzip
import io
import json
import lzma
import os
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hostile.checked import assert_refused, checked, everything_in
from tightbound.data.formats.csv_points import load_csv_points
from tightbound.data.formats.idx import load_mnist
from tightbound.data.formats.midi import read_midi
from tightbound.data.formats.own_sentences import load_text_sentences, load_treebank
from tightbound.data.formats.stroke_files import load_stroke_file
from tightbound.data.formats.text_files import load_text_file
from tightbound.data.sets.digits import load_digits
from tightbound.data.sets.pianorolls import load_pianorolls
from tightbound.data.sets.static_mnist import load_static_mnist
from tightbound.errors import UserError
from tightbound.files.printed import printable
from tightbound.files.writing import replacing, write_whole

# What reads a file of one's own, the recipe that uses it, and first bytes that make it read on.
READERS = {
    "digits": (load_digits, ["vae/digits"], b"1 " * 65 + b"\n"),
    "idx": (load_mnist, ["vae/mnist"], bytes.fromhex("00000803 00000002 00000002 00000002")),
    "bits": (load_static_mnist, ["vae/mnist-static"], b"PK\x03\x04"),
    "csv": (load_csv_points, ["stein/yacht", "--data.source", "csv"], b"a,b\n1,2\n"),
    "text": (load_text_file, ["dlm/1", "--data.source", "file"], b">a\n"),
    "sentences": (load_text_sentences, ["edits/multi30k", "--data.source", "text"], b"a line\n"),
    "treebank": (
        load_treebank,
        ["edits/ewt", "--data.source", "conllu"],
        b"1\ta\ta\tX\tX\t_\t0\troot\t_\t_\n",
    ),
    "strokes": (load_stroke_file, ["vrnn/omniglot", "--data.source", "strokes"], b"PK\x03\x04"),
    "rolls": (
        partial(load_pianorolls, "pianorolls"),
        ["vrnn/jsb", "--data.source", "pianorolls"],
        b"PK\x03\x04",
    ),
    "midi": (read_midi, [], b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x01\xe0MTrk\x7f\xff\xff\xff"),
}
RIGHT = {(reader, "infinities") for reader in ("text", "sentences")}  # words as any
COMMANDS = [name for name, (_, arguments, _) in READERS.items() if arguments]


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npz_that_says(header, content=b"", method=zipfile.ZIP_STORED):
    """An archive whose one array announces something else than it has."""
    text = header.encode().ljust(118) + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("log_weights.npy", member)
    return file.getvalue()


def shape(dims, kind="<f8"):
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {dims}, }}"


CONTENTS = {
    "nothing": b"",
    "zero bytes": bytes(4096),
    "random bytes": bytes(range(256)) * 8,
    "half a gzip": gzip.compress(b"1 2 3\n" * 500)[:40],
    "half an xz": lzma.compress(b"1 2 3\n" * 500)[:40],
    "half a zip": npz(a=np.zeros(9))[:60],
    "a pickle": npz(log_weights=np.array([object()], dtype=object)),
    "text in an array": npz(log_weights=np.array(["a", "b"])),
    "one long line": b"a" * ((1 << 20) + 2),
    "escapes": b"\x1b]0;owned\x07,\x1b[2J\n\x9b,\xe2\x80\xae\n",
    "infinities": b"inf,nan\n-inf,1e999\n" * 40,
    "an endless number": b"9" * 5000 + b",1\n",
    "a huge announced array": npz_that_says(shape(f"({1 << 40},)")),
    "a negative array": npz_that_says(shape("(-1, 3)")),
    "an array of nothing": npz_that_says(shape(f"({1 << 40}, 0)")),
    "a header of code": npz_that_says("__import__('os').system('touch executed')"),
    "nested brackets": npz_that_says("(" * 100),
}


def refusal(reader, path):
    """What the reader says; a right answer, of a file that happens to be one, says nothing."""
    try:
        READERS[reader][0](path)
    except UserError as error:
        return printable(str(error))
    return None


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", CONTENTS)
def test_a_data_file_of_another_kind_is_named_in_a_sentence(tmp_path, monkeypatch, reader, what):
    """Also behind bytes that are right, as far as they go."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own"
    for first in (b"", READERS[reader][2]):
        path.write_bytes(first + CONTENTS[what])
        says = refusal(reader, path)
        if says is None and (reader, what) in RIGHT:
            continue
        assert says is not None
        assert str(path) in says
        assert len(says) < 1000
    assert [file.name for file in tmp_path.iterdir()] == ["own"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", ["a pipe", "/dev/zero", "a missing file", "a loop", "holes"])
def test_a_data_file_that_may_never_end_is_not_opened(tmp_path, reader, what):
    path = tmp_path / "own" if what != "/dev/zero" else Path(what)
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a loop":
        path.symlink_to(path)
    elif what == "holes":
        with open(path, "wb") as file:
            file.truncate(1 << 36)
    assert str(path) in str(refusal(reader, path))


@pytest.mark.parametrize("reader", COMMANDS)
def test_a_command_says_what_its_reader_says(tmp_path, reader):
    path = tmp_path / "own"
    path.write_bytes(CONTENTS["escapes"])
    result = checked("check", *READERS[reader][1], "--data.path", path)
    assert_refused(result, "check", "own")


@pytest.mark.parametrize("what", CONTENTS)
def test_saved_weights_of_another_kind_are_named_in_a_sentence(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.npz"
    path.write_bytes(CONTENTS[what])
    assert_refused(checked("doctor", path), "doctor", "weights.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["weights.npz"]


@pytest.mark.parametrize("what", ["/dev/zero", "/dev/null", "a pipe"])
def test_saved_weights_that_may_never_end_are_not_opened(tmp_path, what):
    path = what if what.startswith("/dev") else tmp_path / "weights.npz"
    if what == "a pipe":
        os.mkfifo(path)
    assert_refused(checked("doctor", path), "doctor", str(path), "a regular file was meant")


@pytest.mark.parametrize("what", [*CONTENTS, "other groups", "other axes"])
def test_evidence_of_another_kind_is_named_in_a_sentence(run, what):
    path = run / "evidence" / "step-00000004.npz"
    with np.load(path) as file:
        arrays = dict(file)
    if what == "other groups":
        arrays["sites.log_p"] = np.array("\x1b[2J")
        content = npz(**arrays)
    elif what == "other axes":
        arrays["sites.log_p"] = arrays["sites.log_p"][:1]
        content = npz(**arrays)
    else:
        content = CONTENTS[what]
    path.write_bytes(content)
    assert_refused(checked("doctor", run), "doctor", "step-00000004.npz")
    report = checked("report", run, "--no-samples")  # which reads no array that it does not draw
    if report.code:
        assert_refused(report, "report", "step-00000004.npz")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"[]", "Line 1 of"),
        (b'{"steps": 200, "case": 3}', "Line 1 of"),
        (b'{"steps": "x"}', "steps"),
    ],
)
def test_saved_rows_of_a_drill_are_held_against_their_type(tmp_path, line, says):
    out = tmp_path / "rows.jsonl"
    out.write_bytes(line + b"\n")
    asked = ["drill", "--family", "images", "--kinds", "kl_sign_flipped", "--steps", "200"]
    assert_refused(checked(*asked, "--out", out), "drill", says)
    assert out.read_bytes() == line + b"\n"


def test_a_file_is_replaced_and_never_written_through(tmp_path):
    """Where the name, or that of its neighbour, is a link: what it stands for stays as it was."""
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for name in ("a.json", ".a.json.partial"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(outside)
        write_whole(tmp_path / "a.json", "new")
        assert (outside.read_text(), (tmp_path / "a.json").read_text()) == ("mine", "new")
        assert not (tmp_path / "a.json").is_symlink()
    with suppress(KeyboardInterrupt), replacing(tmp_path / "a.json") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert everything_in(tmp_path) == {"a.json": b"new", "outside": b"mine"}


# Small files that would take all memory


def deflated_zeros(size):
    """A raw stream of `size` zeros: one piece of 16 MiB, over and over."""
    piece = 1 << 24
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(bytes(piece)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first * (size // piece) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def npz_bomb(size):
    """An archive of little more than a thousandth of `size`, whose array really unpacks to it."""
    text = shape(f"(2, {size // 16})").encode().ljust(118) + b"\n"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + deflated_zeros(size)
    name, total = b"log_weights.npy", size + len(head)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 33, 0, len(packed), total, 15, 0)
    entry = struct.pack(
        *("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, 0, len(packed), total, 15),
        *(0, 0, 0, 0, 0, 0),
    )
    body = local + name + packed
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry) + 15, len(body), 0)
    return body + entry + name + end


MEASURED = """
import json, resource, sys, time
sys.path.insert(0, {tests!r})
from fixtures.command_line import call
for arguments in json.loads(sys.stdin.read()):
    begun = time.process_time()
    result = call(arguments)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([result.code, result.err, time.process_time() - begun, memory]), flush=True)
"""


def in_a_process_of_its_own(calls, *, address_space=None):
    """(code, stderr, seconds, largest MB so far) of every call; one after the other."""
    tests = os.path.dirname(os.path.dirname(__file__))

    def limit():
        if address_space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(tests=tests)],
        input=json.dumps([[str(word) for word in one] for one in calls]),
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_small_file_takes_no_more_than_half_a_gigabyte(run, tmp_path):
    """Bombs for what reads without JAX, under a limit of the address space that they would break."""
    bomb = npz_bomb(1 << 30)
    assert len(bomb) < 1_200_000
    weights, unasked = tmp_path / "weights.npz", tmp_path / "unasked.npz"
    weights.write_bytes(bomb)
    small = np.random.default_rng(0).normal(size=(60, 40))
    with zipfile.ZipFile(unasked, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log_weights.npy", npy(small))
        archive.writestr("other.npy", b"\x93NUMPY" + bytes(1 << 27))
    holes = tmp_path / "holes.npz"
    with open(holes, "wb") as file:
        file.truncate(1 << 36)
    (run / "evidence" / "step-00000008.npz").write_bytes(bomb)
    with open(run / "why.json", "wb") as file:
        file.truncate(1 << 36)
    long = tmp_path / "long"
    long.mkdir()
    (long / "recipe.json").write_bytes(b"[" * (9 << 20))
    calls = [["doctor", path] for path in (weights, unasked, holes, run, long)]
    measured = in_a_process_of_its_own([*calls, ["runs", tmp_path]], address_space=1 << 30)
    codes = [code for code, *_ in measured]
    assert codes == [2, 0, 2, 2, 2, 0], measured
    for (_, says, seconds, memory), call in zip(measured, calls, strict=False):
        assert seconds < 10
        assert memory < 500, call
        assert "Traceback" not in says
    assert "can be meant of so small a file" in measured[0][1]
    assert "stores" in measured[2][1]
    assert "more than 8,388,608 bytes" in measured[4][1]


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_texts_and_images_that_unpack_to_all_memory_are_refused(tmp_path):
    """The same of what reads data, which needs JAX: blank lines, short lines, images, digits."""
    blank = lzma.compress(b"\n" * 2_100_000, preset=0)
    short = gzip.compress(b"a\n" * 2_100_000, 1)
    gzipped = zlib.compressobj(9, zlib.DEFLATED, 31)
    header = bytes.fromhex("00000803") + struct.pack(">3I", 1 << 20, 32, 32)
    images = gzipped.compress(header) + gzipped.flush(zlib.Z_FULL_FLUSH) + deflated_zeros(1 << 28)
    files = {"blank.xz": blank, "short.gz": short, "images.gz": images}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    readers = [("text", "blank.xz"), ("sentences", "short.gz"), ("idx", "images.gz")]
    calls = [
        ["check", *READERS[reader][1], "--data.path", tmp_path / name] for reader, name in readers
    ]
    for (code, says, seconds, memory), call in zip(
        in_a_process_of_its_own(calls), calls, strict=True
    ):
        assert code == 2, says
        assert "Traceback" not in says
        assert seconds < 10, call
        assert memory < 700, call  # JAX itself takes 200 of them
