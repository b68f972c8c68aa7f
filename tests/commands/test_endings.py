"""However a run loses its reader, its terminal, its disk or its data: it goes on, or says so and can.

Oracle: a run of the same settings that nothing happened to, to the bit.
"""

import errno
import io
import os
import shutil
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fixtures.command_line import call
from tightbound.cli import main
from tightbound.data.batch import Split
from tightbound.data.checksum import checksum
from tightbound.errors import UserError
from tightbound.report.lasting import lasting_output
from tightbound.runs.training import bedside, stop_signals
from tightbound.train.folder import RunFolder


def arrays_at(folder, step):
    return (folder / "checkpoints" / f"step-{step:08d}" / "state.safetensors").read_bytes()


@pytest.mark.parametrize("both", [False, True], ids=["stdout", "stdout and stderr"])
def test_a_run_whose_reader_goes_away_is_trained_to_its_end(trained, tmp_path, small, capfd, both):
    """As `| head` does: the pipe's reader is closed before anything is written to it."""
    reader, writer = os.pipe()
    os.close(reader)
    before = sys.stdout, sys.stderr
    sys.stdout = os.fdopen(writer, "w")
    if both:
        sys.stderr = sys.stdout
    try:
        options = ("--run-dir", str(tmp_path / "run"), "--no-doctor", *small)
        code = main(["train", "vae/digits", *options])
    finally:
        sys.stdout.close()  # nothing of what was written may be left to fail
        sys.stdout, sys.stderr = before
    assert code == 0
    assert arrays_at(tmp_path / "run", 40) == arrays_at(trained, 40)
    told = capfd.readouterr().err.count("the work goes on without it")
    assert told == (0 if both else 1)


def test_a_lost_terminal_is_no_end_of_what_is_written_to_it(capfd):
    """A terminal that is gone fails every write with EIO. Oracle: what stderr says, once."""

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

        def isatty(self):
            return True

    before = sys.stdout
    sys.stdout = Gone()
    try:
        with lasting_output():
            assert sys.stdout.isatty()
            print("one")
            print("two", flush=True)
            sys.stderr.write("three\n")
    finally:
        sys.stdout = before
    said = capfd.readouterr().err.splitlines()
    assert said == [
        "Standard output can no longer be written to (Input/output error); the work goes on without it.",
        "three",
    ]


def test_a_terminal_that_is_closed_asks_for_a_clean_stop_however_often_it_says_so(capsys):
    """A shell and the kernel may each send SIGHUP. An interrupt after it ends at once."""
    before = signal.getsignal(signal.SIGHUP)
    with stop_signals() as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert should_stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGHUP) == before
    assert "The terminal is gone: stopping after this step, and saving" in capsys.readouterr().err


def test_under_nohup_a_closed_terminal_is_not_heard():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as should_stop:
            signal.raise_signal(signal.SIGHUP)
            assert not should_stop()
    finally:
        signal.signal(signal.SIGHUP, before)


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_ends_training_in_a_sentence_and_the_same_command_goes_on(
    trained, tmp_path, small, monkeypatch
):
    """The disk is full from step 30 on."""
    command = ["train", "vae/digits", "--run-dir", tmp_path / "run", "--no-doctor", *small]
    append = RunFolder.append_step
    with monkeypatch.context() as full:

        def fail(folder, record):
            if record["step"] >= 30:
                raise FULL
            append(folder, record)

        full.setattr(RunFolder, "append_step", fail)
        result = call(command)
    assert result.code == 2
    assert result.err.splitlines()[-1].endswith(
        "could not be written to (No space left on device). Its last valid checkpoint is of step 20. "
        "Free space there, or make it writable, and run the same command again."
    )
    assert call(command).code == 0
    assert arrays_at(tmp_path / "run", 40) == arrays_at(trained, 40)


def test_evidence_that_finds_the_disk_full_ends_in_the_same_sentence(tmp_path, monkeypatch):
    def save(path):
        raise FULL

    monkeypatch.setattr("tightbound.diagnose.probes.make_probe", lambda setup: None)
    found = SimpleNamespace(save=save)
    monkeypatch.setattr("tightbound.diagnose.laws.gather.gather_laws", lambda *given: found)
    watch = bedside(None, RunFolder(tmp_path))
    with pytest.raises(UserError, match=r"could not be written to \(No space left on device\)"):
        watch(SimpleNamespace(step=0, status="running", state=None))


def test_other_data_under_the_same_path_are_warned_of(trained, tmp_path, small, monkeypatch):
    """One pixel of one training image differs. The data as they were say nothing."""
    from tightbound.data.sets import digits

    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    again = call(["train", "vae/digits", "--run-dir", folder, *small])
    assert "Warning" not in again.err
    loaded = digits.load_digits

    def changed(*args, **kwargs):
        splits = loaded(*args, **kwargs)
        splits["train"].x.flags.writeable = True
        splits["train"].x[0, 0] += 1
        return splits

    monkeypatch.setattr(digits, "load_digits", changed)
    again = call(["train", "vae/digits", "--run-dir", folder, *small])
    assert "Warning: the train split is not the one this run began with" in again.err
    assert "Warning: the valid split" not in again.err


def test_a_checksum_sees_values_types_and_shapes(tmp_path):
    """Oracle: equal data have an equal one; each change gives another."""
    x = np.arange(12).reshape(4, 3) % 2
    split = Split("valid", x, np.ones((4, 1), bool), np.ones(4, np.int32))
    others = [x.astype(np.float32), x.reshape(len(x), -1, 1), x[::-1], np.where(x == 0, 1, x)]
    found = [checksum(split)]
    for other in others:
        object.__setattr__(split, "x", other)
        found.append(checksum(split))
    object.__setattr__(split, "x", x.copy())
    assert checksum(split) == found[0]
    assert len(set(found)) == 5
