"""What a benchmark gives becomes an entry of the figures, with its commit and its machine."""

import importlib
import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = f"""
import sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
from blocks import Row, finish, interleaved, table

numbers = list(range(100_000))
programs = {{"ours": lambda: sum(numbers), "peer": lambda: [sum(numbers) for _ in range(10)]}}
rows = [Row("a sum, peer: ten", interleaved(programs, blocks=5), 5.0, 0.0)]
print(table(rows))
finish(rows)
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A committed tree of its own, with benchmarks, in which `benchmarks/run.py` keeps its figures."""
    for folder in ("scripts", "benchmarks"):
        monkeypatch.syspath_prepend(str(ROOT / folder))
    figures, run = importlib.import_module("figures"), importlib.import_module("run")
    (tmp_path / "docs").mkdir()
    (tmp_path / "tiny.py").write_text(TINY)
    (tmp_path / "broken.py").write_text("raise SystemExit(3)")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Benchmarks stand"]):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "FIGURES", tmp_path / "docs" / "figures.json")
    monkeypatch.setattr(figures, "PAGE", tmp_path / "docs" / "figures.md")
    monkeypatch.setattr(run, "FOLDER", tmp_path)
    monkeypatch.setattr(run, "BENCHMARKS", ("broken", "tiny"))
    return tmp_path, run


def head(folder):
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.check_output(command, cwd=folder, text=True).strip()


def test_a_benchmark_is_recorded_with_its_commit_and_machine(repository):
    """Oracles: git, and work that is ten times as much."""
    folder, run = repository
    assert run.main(["tiny"]) == 0
    entry = json.loads((folder / "docs" / "figures.json").read_text())["bench/tiny"]
    row = entry["figure"]["a sum, peer: ten"]
    assert 3 < row["ratio"] < 30
    assert row["low"] <= row["ratio"] <= row["high"]
    assert (entry["commit"], entry["uncommitted_changes"]) == (head(folder), False)
    assert f"{len(os.sched_getaffinity(0))} cores, cpu" in entry["machine"]
    assert (
        f"| `bench/tiny` | a sum, peer: ten: ratio: {row['ratio']:.3g};"
        in (folder / "docs" / "figures.md").read_text()
    )
    (folder / "tiny.py").write_text(TINY + "# changed\n")
    assert run.main(["tiny"]) == 0
    entry = json.loads((folder / "docs" / "figures.json").read_text())["bench/tiny"]
    assert entry["uncommitted_changes"]


def test_a_benchmark_that_fails_leaves_no_entry_and_the_others_go_on(repository, capsys):
    folder, run = repository
    assert run.main([]) == 1
    assert list(json.loads((folder / "docs" / "figures.json").read_text())) == ["bench/tiny"]
    assert "broken ended with 3" in capsys.readouterr().err


def test_a_benchmark_that_is_none_is_refused(repository, capsys):
    _, run = repository
    assert run.main(["vae"]) == 2
    assert "no benchmark 'vae'" in capsys.readouterr().err
