"""Processes of a sweep: started, watched, stopped and never left behind.

Oracle: exit codes, and what the processes themselves write. They compute nothing.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tightbound.sweep.job import (
    Change,
    Job,
    available_cores,
    last_line,
    run_environment,
    start,
)
from tightbound.sweep.local import core_groups, run_locally

# A run's process in short: it says that it is there, then works until it is told to stop.
LISTENING = """
import pathlib, sys, time
from tightbound.sweep.job import listen_to_sweep
listen_to_sweep()
try:
    pathlib.Path(sys.argv[1]).touch()
    time.sleep(60)
except KeyboardInterrupt:
    print("saved")
    sys.exit(130)
"""


def job(folder: Path, name: str, code: str, *arguments: str) -> Job:
    command = (sys.executable, "-c", code, *arguments)
    return Job(name, command, folder / name / "log.txt", folder, {"TIGHTBOUND_TEST": "7"})


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "nothing happened in 20 seconds"
        time.sleep(0.01)


def test_jobs_end_with_their_codes_and_leave_their_output(tmp_path):
    code = "import os, sys; print(os.environ['TIGHTBOUND_TEST'], os.getcwd()); sys.exit({})"
    jobs = [job(tmp_path, f"j{number}", code.format(number)) for number in range(3)]
    changes = [change for change in run_locally(jobs, [(), ()]) if change is not None]
    assert {change.name: change.code for change in changes if change.code is not None} == {
        "j0": 0,
        "j1": 1,
        "j2": 2,
    }
    assert [change.name for change in changes if change.code is None] == ["j0", "j1", "j2"]
    assert last_line(jobs[0].log) == f"7 {tmp_path}"


def test_no_more_jobs_run_at_once_than_there_are_slots(tmp_path):
    code = "import time; time.sleep(0.05)"
    running, most = set(), 0
    for change in run_locally([job(tmp_path, str(n), code) for n in range(4)], [(), ()]):
        if change is not None:
            (running.add if change.code is None else running.discard)(change.name)
            most = max(most, len(running))
    assert most == 2


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system pins no process")
def test_a_process_keeps_to_the_cores_of_its_slot(tmp_path):
    code = (
        "import os; from tightbound.sweep.job import keep_to_cores; keep_to_cores(); "
        "print(sorted(os.sched_getaffinity(0)), os.environ['NPROC'])"
    )
    core = available_cores()[-1]
    one = job(tmp_path, "a", code)
    one = Job(one.name, one.command, one.log, one.folder, run_environment(threads=1))
    list(run_locally([one], [(core,)]))
    assert last_line(one.log) == f"[{core}] 1"


def test_asked_to_stop_running_jobs_save_and_waiting_ones_do_not_begin(tmp_path):
    there = tmp_path / "there"
    jobs = [job(tmp_path, name, LISTENING, str(there)) for name in ("a", "b")]
    changes = [c for c in run_locally(jobs, [()], there.exists) if c is not None]
    assert changes == [Change("a", None), Change("a", 130)]
    assert last_line(jobs[0].log) == "saved"


@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_a_job_hears_even_where_its_parent_is_deaf_to_interrupts(tmp_path, how):
    """A process inherits both; the planted parent is this one."""
    there = tmp_path / "there"
    one = job(tmp_path, "a", LISTENING, str(there))
    before = signal.getsignal(signal.SIGINT)
    try:
        if how == "ignored":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        else:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        codes = [c.code for c in run_locally([one], [()], there.exists) if c is not None]
    finally:
        signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    assert codes == [None, 130]


def test_closing_ends_all_jobs_at_once(tmp_path):
    there = tmp_path / "there"
    one = job(tmp_path, "a", LISTENING + "\n", str(there))
    every = run_locally([one], [()])
    next(every)
    wait_for(there.exists)
    every.close()
    assert last_line(one.log) == ""  # it had no time to save
    wait_for(lambda: not is_alive(str(there)))


def test_a_job_whose_sweep_is_killed_ends_too(tmp_path):
    """Otherwise it would hold its run folder when the sweep is run again."""
    there = tmp_path / "there"
    code = (
        "import sys, time; from pathlib import Path; from tightbound.sweep.job import Job, start\n"
        f"command = (sys.executable, '-c', {LISTENING!r}, {str(there)!r})\n"
        f"start(Job('a', command, Path({str(tmp_path / 'log')!r}), Path('.'), dict()))\n"
        "time.sleep(60)"
    )
    sweep = subprocess.Popen([sys.executable, "-c", code])
    wait_for(there.exists)
    assert is_alive(str(there))
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    wait_for(lambda: not is_alive(str(there)))


def is_alive(argument: str) -> bool:
    """Whether any process was started with this argument and is not yet buried."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().split(b"\0")[-2:-1] == [argument.encode()]:
                return True
        except OSError:
            continue  # it has ended in the meantime
    return False


def test_a_terminals_interrupt_reaches_the_sweep_alone(tmp_path):
    """Oracle: the process group. The sweep passes the wish on itself, once."""
    process = start(job(tmp_path, "a", "import os; print(os.getpgid(0) == os.getpid())"))
    process.wait()
    process.stdin.close()
    assert last_line(tmp_path / "a" / "log.txt") == "True"


def test_slots_are_as_many_as_there_are_cores_for():
    """Oracle: counted by hand."""
    assert core_groups([0, 1, 2, 3, 4], 2, None) == [(0, 1), (2, 3)]
    assert core_groups([5, 7], 1, None) == [(5,), (7,)]
    assert core_groups([0], 4, None) == [(0,)]
    assert core_groups([0, 1, 2], 1, 2) == [(0,), (1,)]
    assert core_groups([0, 1], 1, 3) == [(), (), ()]


def test_the_last_line_is_the_last_that_says_anything(tmp_path):
    (tmp_path / "log").write_text("first\nValueError: too deep\n \n")
    assert last_line(tmp_path / "log") == "ValueError: too deep"
    assert last_line(tmp_path / "none") == ""
