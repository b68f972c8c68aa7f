"""One small trained run, shared by all tests of commands."""

import contextlib
import io
import json
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
    """A finished run of `vae/digits`, small, with the doctor's evidence."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    result = call(["train", "vae/digits", "--run-dir", folder, "--note", "<small>", *SMALL])
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == str(folder)  # the run folder is printed last
    return folder
