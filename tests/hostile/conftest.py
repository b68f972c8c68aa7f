import shutil

import pytest

from hostile.made_run import write_run


@pytest.fixture(scope="session")
def right(tmp_path_factory):
    """A run folder in which everything is right."""
    return write_run(tmp_path_factory.mktemp("right") / "run")


@pytest.fixture
def run(right, tmp_path):
    """A copy of it, to be made wrong."""
    shutil.copytree(right, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory, monkeypatch):
    """No test sees what the person who runs it has trained with."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
