"""One small trained run, shared by all tests of commands."""

import contextlib
import fcntl
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tightbound.cli import main

SMALL = [
    *("--model.latent-size", "2"),
    *("--model.hidden-size", "8"),
    *("--run.steps", "40"),
    *("--run.evaluate-every", "20"),
    *("--run.checkpoint-every", "20"),
    *("--run.evaluate-samples", "2"),
]


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and both its streams."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


def call(arguments: Sequence[str]) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # tyro ends the process where options are wrong
            code = stop.code
    return Result(int(code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def tightbound() -> Callable[..., Result]:
    return lambda *arguments: call(arguments)


@pytest.fixture(scope="session")
def small() -> list[str]:
    """Settings that make `vae/digits` tiny."""
    return list(SMALL)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A finished run of `vae/digits`, small, with the doctor's evidence; a copy of its own for each
    test process, trained by the one that comes first."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))  # not another day's run
    shared = tmp_path_factory.getbasetemp().parent / f"commands-{session}"
    folder = tmp_path_factory.mktemp("runs") / "small"
    shared.mkdir(exist_ok=True)
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "small" / "findings.json").exists():
            train_small(shared / "small")
    shutil.copytree(shared / "small", folder)
    return folder


def train_small(folder: Path) -> None:
    result = call(["train", "vae/digits", "--run-dir", folder, "--note", "<small>", *SMALL])
    assert result.code == 1, result.err  # 40 steps of so small a model stay under the baseline
    assert result.out.splitlines()[-1] == str(folder)  # the run folder is printed last
