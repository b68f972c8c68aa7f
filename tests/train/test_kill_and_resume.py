"""SIGKILL at five places, two of them inside a save, changes nothing in what a run leaves behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_and_resume.py")


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_the_uninterrupted_one_to_the_bit():
    """Oracle: the uninterrupted run: every checkpoint's bytes, every record but its wall times.
    The run rolls back on the way, and one kill at least left half a checkpoint."""
    result = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "5"], capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stdout + result.stderr
    outcome = json.loads(result.stdout)
    assert outcome["same_checkpoints"]
    assert outcome["same_records"]
    assert outcome["kills"] == 5
    assert outcome["left_half_a_checkpoint"] >= 1
    assert outcome["rollbacks"] >= 1
