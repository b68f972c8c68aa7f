"""Jobs in processes on this machine, as many at once as it has cores for."""

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence

from tightbound.sweep.job import Change, Job, ask_to_stop, start

_PAUSE = 0.1  # seconds between two looks at the processes


def run_locally(
    jobs: Sequence[Job],
    slots: Sequence[Sequence[int]],
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Change | None, None, None]:
    """Run all jobs, one per slot at a time; yields what has changed, and None in between.

    A slot is the cores a process keeps to. After `should_stop` no job is started and those running
    are asked to save and stop; closing the iterator ends them at once.
    """
    waiting, free = deque(jobs), deque(slots)
    running = {}
    told = False
    try:
        while running or (waiting and not should_stop()):
            while waiting and free and not should_stop():
                job, cores = waiting.popleft(), free.popleft()
                running[job.name] = start(job, cores), cores
                yield Change(job.name, None)
            if should_stop() and not told:
                told = True
                for process, _ in running.values():
                    ask_to_stop(process)
            for name, (process, cores) in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[name]
                    process.stdin.close()
                    free.append(cores)
                    yield Change(name, code)
            yield None
            time.sleep(_PAUSE)
    finally:
        for process, _ in running.values():
            process.kill()
            process.wait()
            process.stdin.close()


def core_groups(cores: Sequence[int], threads: int, num_jobs: int | None) -> list[tuple[int, ...]]:
    """The slots: `threads` cores each, as many as there are cores for, at least one.

    More jobs than that (`num_jobs`) share all cores as the system likes.
    """
    most = max(1, len(cores) // threads)
    if num_jobs is not None and num_jobs > most:
        return [()] * num_jobs
    count = most if num_jobs is None else num_jobs
    return [tuple(cores[i * threads : (i + 1) * threads]) for i in range(count)]
