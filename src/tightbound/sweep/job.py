"""One run of a sweep as a process of its own: what is started, on which cores, and how it is stopped.

A run's process is told to stop, or that nobody waits for it any more, through its standard input:
that works the same in a terminal, on a cluster, and however the sweep itself ended.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

INTERRUPTED = 130  # as shells count SIGINT
_PASSED_ON = (
    "TIGHTBOUND_",
    "JAX_",
    "XLA_",
    "CUDA_",
)  # variables that a run's bits or data depend on


@dataclass(frozen=True)
class Job:
    """A process to run."""

    name: str
    command: tuple[str, ...]
    log: Path  # takes all its output
    folder: Path  # in which it is started
    environment: Mapping[str, str]  # beside that of the machine it runs on


@dataclass(frozen=True)
class Change:
    """A job that has begun (`code` is None), or ended with an exit code."""

    name: str
    code: int | None


def run_environment(threads: int) -> dict[str, str]:
    """What a run's process is told wherever it runs: our settings, and how many threads to use."""
    passed_on = {k: v for k, v in os.environ.items() if k.startswith(_PASSED_ON)}
    names = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # the first is read by XLA
    return passed_on | dict.fromkeys(names, str(threads))


def available_cores() -> list[int]:
    """The cores this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def start(job: Job, cores: Sequence[int] = ()) -> "subprocess.Popen[bytes]":
    """Start it in a session of its own (so that a terminal's interrupt reaches the sweep alone), on
    these cores; () leaves the choice to the system."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    chosen = {"TIGHTBOUND_CORES": ",".join(map(str, cores))} if cores else {}
    with open(job.log, "ab") as log:
        return subprocess.Popen(
            job.command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=job.folder,
            env={**os.environ, **job.environment, **chosen},
            start_new_session=True,
        )


def ask_to_stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask for a clean stop: what it has done is saved."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended by itself
        process.stdin.write(b".")
        process.stdin.flush()


def last_line(log: Path) -> str:
    """The last line of its output: what went wrong, in most cases; "" where there is none."""
    if not log.exists():
        return ""
    lines = log.read_text(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


# In the process itself


def keep_to_cores() -> None:
    """Keep to the cores that were chosen, before anything counts them."""
    chosen = os.environ.get("TIGHTBOUND_CORES", "")
    if chosen and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in chosen.split(",")})


def listen_to_sweep() -> None:
    """Interrupt this process when the sweep asks it to stop; end it when the sweep is gone: its
    folder is then as after any kill, and free for the next sweep."""

    def listen() -> None:
        while os.read(0, 1):  # without a buffer: no lock is held when the process ends
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGKILL)

    # Who started us may ignore interrupts (a shell's background job) or block them (Ray's workers),
    # and a process inherits both.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=listen, daemon=True).start()
