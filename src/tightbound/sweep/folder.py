"""A sweep is a folder: what was asked for (`sweep.json`), its runs, and who holds it."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tightbound.errors import UserError
from tightbound.sweep.plan import Plan, PlannedRun, joined
from tightbound.train.folder import RunFolder

SCORES = "scores.npz"  # in a run's folder: it is finished and evaluated


class SweepFolder:
    """Paths and records of one sweep. Holds no state of its own: everything is on the disk."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def run(self, name: str) -> RunFolder:
        """The folder of one run, an ordinary one."""
        return RunFolder(self.path / "runs" / name)

    def is_finished(self, run: PlannedRun) -> bool:
        """Whether the run came to its end and was evaluated."""
        return (self.run(run.name).path / SCORES).exists()

    def read_plan(self) -> Plan:
        """What was asked for; UserError where it is missing or of another version."""
        document = RunFolder(self.path).read_json("sweep.json")
        try:
            return Plan.from_json(document)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{self.path / 'sweep.json'} is no sweep of this version: {error}."
            ) from error

    def extend(self, plan: Plan) -> Plan:
        """Write down what is asked for, together with what was asked for before."""
        if (self.path / "sweep.json").exists():
            plan = joined(self.read_plan(), plan, self.path)
        RunFolder(self.path).write_json("sweep.json", plan.to_json())
        return plan

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the sweep for this process. The kernel lets go of it however the process ends."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / "lock", "a+")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise UserError(
                f"The sweep's folder {self.path} cannot be made ({error.strerror}). Give another one "
                "with --sweep-dir."
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise UserError(
                    f"The sweep in {self.path} is being run by {file.read().strip()}. Wait for it, or "
                    "give this one another folder with --sweep-dir."
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            yield
