"""The same jobs on Ray. Oracle: exit codes and output, as for local processes."""

import sys

import pytest

from tightbound.sweep.job import INTERRUPTED, Job, last_line

pytest.importorskip("ray", reason="Ray is not installed: pip install 'tightbound[sweep]'")


@pytest.mark.filterwarnings("ignore")  # what Ray itself does when it starts
def test_jobs_run_on_ray_and_stop_when_asked(tmp_path):
    """One cluster for both: starting one takes seconds. The last two jobs work until they are told to
    stop; Ray's workers block interrupts, and these must be heard all the same."""
    from tightbound.sweep.on_ray import run_on_ray

    code = "import os, sys; print(os.environ['TIGHTBOUND_TEST']); sys.exit({})"
    listening = (
        "import sys, time; from tightbound.sweep.job import listen_to_sweep; listen_to_sweep()\n"
        "try:\n    print('there', flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('saved')\n    sys.exit(130)"
    )
    texts = {"ok": code.format(0), "bad": code.format(3), "long": listening, "late": listening}
    jobs = [
        Job(name, (sys.executable, "-c", text), tmp_path / name, tmp_path, {"TIGHTBOUND_TEST": "7"})
        for name, text in texts.items()
    ]
    begun = lambda: any(last_line(tmp_path / name) == "there" for name in ("long", "late"))  # noqa: E731
    codes = {
        change.name: change.code
        for change in run_on_ray(jobs, 1, tmp_path / "stop", begun)
        if change is not None
    }
    assert codes == {"ok": 0, "bad": 3, "long": INTERRUPTED, "late": INTERRUPTED}
    assert last_line(tmp_path / "ok") == "7"
    assert "saved" in {last_line(tmp_path / name) for name in ("long", "late")}
    assert not (tmp_path / "stop").exists()
