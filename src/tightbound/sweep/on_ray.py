"""Jobs on a Ray cluster: an existing one, or one of this machine that is started for the sweep.

Every machine of the cluster must see the sweep's folder under the same path and have the same
Python environment. Ray only counts cores: it chooses the machine, the process is ours. Importing
this module needs Ray, an extra.
"""

import subprocess
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

from tightbound.sweep.job import INTERRUPTED, Change, Job, ask_to_stop, start

_PAUSE = 0.2  # seconds between two looks


def run_on_ray(
    jobs: Sequence[Job],
    threads: int,
    stop_file: Path,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Change | None, None, None]:
    """Run all jobs, each taking `threads` cores; yields what has changed, and None in between.

    `stop_file` carries the wish to stop to where the jobs are: it is made after `should_stop`, and
    every job then saves and stops, or does not begin.
    """
    stop_file.unlink(missing_ok=True)
    _connect()
    try:
        task = ray.remote(num_cpus=threads, max_retries=0)(run_job)
        pending = {task.remote(job, stop_file): job.name for job in jobs}
        while pending:
            if should_stop():
                stop_file.touch()
            done, _ = ray.wait(list(pending), num_returns=1, timeout=_PAUSE)
            for reference in done:
                yield Change(pending.pop(reference), _code(reference))
            yield None
    finally:
        stop_file.unlink(missing_ok=True)
        ray.shutdown()  # the processes of jobs that are left end with their workers


def run_job(job: Job, stop_file: Path) -> int:
    """One job to its end, on the machine that Ray chose; its exit code."""
    if stop_file.exists():
        return INTERRUPTED
    process = start(job)
    told = False
    while True:
        try:
            return process.wait(_PAUSE)
        except subprocess.TimeoutExpired:
            if stop_file.exists() and not told:
                told = True
                ask_to_stop(process)


def _connect() -> None:
    """To the cluster that `RAY_ADDRESS` names or this machine belongs to; else to one of its own."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        ray.init(include_dashboard=False, **quiet)


def _code(reference: Any) -> int:
    """The job's exit code; 1 where its machine or its worker was lost."""
    try:
        return ray.get(reference)
    except RayError:
        return 1
