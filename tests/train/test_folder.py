"""A run folder belongs to one process, and its records are never lost, doubled or half there."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from tightbound.errors import UserError
from tightbound.train.folder import (
    RunFolder,
    environment,
    environment_changes,
    write_whole,
)

HOLD = """
import sys, time
from tightbound.train.folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_in_use_is_refused_by_name_until_its_holder_is_killed(folder):
    """The holder is another process; SIGKILL, which nothing can catch, frees the folder at once."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        sentence = (
            rf"is in use by process {holder.pid} on .*\. Wait for it, or give this run another"
        )
        with pytest.raises(UserError, match=sentence), folder.locked():
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with folder.locked():
        pass


def test_a_folder_is_free_again_after_its_holder_leaves_it(folder):
    """Held twice at once it is refused even within one process; one after the other it is not."""
    with folder.locked(), pytest.raises(UserError, match="is in use by"), folder.locked():
        pass
    with folder.locked():
        pass


def test_a_line_that_a_kill_cut_off_is_left_out(folder):
    """Whatever was appended whole is there."""
    folder.write_json("recipe.json", {})
    for step in (1, 2):
        folder.append_step({"step": step, "text": "a b\u2028c"})
    whole = (folder.path / "steps.jsonl").read_text()
    line = json.dumps({"step": 3, "loss": 1.25}) + "\n"
    for length in range(len(line) - 1):
        (folder.path / "steps.jsonl").write_text(whole + line[:length])
        assert [record["step"] for record in folder.read_steps()] == [1, 2]
    (folder.path / "steps.jsonl").write_text(whole + line)
    assert folder.read_steps()[-1] == {"step": 3, "loss": 1.25}


def test_a_folder_without_records_has_none(folder):
    """Reading before the first record is not an error."""
    assert folder.read_steps() == []


def test_cutting_back_forgets_the_records_and_evidence_after_a_step_and_nothing_else(folder):
    """Half lines go too; what is kept is the same to the byte."""
    folder.write_json("recipe.json", {})
    for step in (2, 4, 6):
        folder.append_step({"step": step, "loss": step / 3})
    kept = (folder.path / "steps.jsonl").read_text().splitlines(keepends=True)[:2]
    with open(folder.path / "steps.jsonl", "a") as file:
        file.write('{"step": 8, "lo')
    folder.evidence.mkdir()
    for step in (0, 4, 5, 100):
        np.savez(folder.evidence / f"step-{step:08d}.npz", step=step)
    folder.cut_back(4)
    assert (folder.path / "steps.jsonl").read_text() == "".join(kept)
    names = sorted(path.name for path in folder.evidence.iterdir())
    assert names == ["step-00000000.npz", "step-00000004.npz"]


def test_a_document_is_written_whole_or_not_at_all(folder, monkeypatch):
    """A write that fails leaves the old document and no neighbour behind."""
    folder.write_json("recipe.json", {"old": True})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(folder.path / "recipe.json", "new")
    assert folder.read_json("recipe.json") == {"old": True}
    assert [path.name for path in folder.path.iterdir()] == ["recipe.json"]


def test_what_is_not_a_run_folder_or_damaged_is_said_in_a_sentence(folder):
    """Missing and unreadable documents."""
    assert not folder.exists()
    with pytest.raises(UserError, match=r"has no recipe\.json, so it is not a run folder"):
        folder.read_json("recipe.json")
    folder.write_json("recipe.json", {"name": "vae/digits"})
    assert folder.exists()
    (folder.path / "recipe.json").write_text('{"name": ')
    with pytest.raises(UserError, match=r"recipe\.json is damaged: Expecting value"):
        folder.read_json("recipe.json")


def test_the_environment_says_what_changed_since():
    """What is the same is not mentioned; a version is named with its package."""
    now = environment()
    assert json.loads(json.dumps(now)) == now
    assert environment_changes(now, now) == []
    before = now | {"processors": 64, "versions": now["versions"] | {"jax": "0.0.1"}}
    assert environment_changes(before, now) == [
        f"processors was 64, is {now['processors']}",
        f"version of jax was 0.0.1, is {now['versions']['jax']}",
    ]


def test_a_run_folder_names_its_parts(tmp_path):
    """The layout that other commands and the documentation rely on."""
    folder = RunFolder(str(tmp_path))
    parts = [folder.checkpoints, folder.evidence, folder.samples]
    assert [part.relative_to(tmp_path).as_posix() for part in parts] == [
        "checkpoints",
        "evidence",
        "samples",
    ]


def test_a_folder_in_which_nothing_came_to_be_is_taken_away(tmp_path):
    """A refused call leaves nothing behind; a folder with a file in it, or made by others, stays."""
    refused, kept, given = (tmp_path / name for name in ("refused", "kept", "given"))
    given.mkdir()

    def refuse(path, *, after_writing):
        with RunFolder(path).locked():
            if after_writing:
                (path / "recipe.json").write_text("{}")
            raise UserError("refused")

    for path in (refused, kept, given):
        with pytest.raises(UserError, match="refused"):
            refuse(path, after_writing=path == kept)
    assert not refused.exists()
    assert (kept / "recipe.json").exists()
    assert given.exists()
