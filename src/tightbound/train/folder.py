"""A run is a folder: who holds it, what was run, where, and one record per logged step."""

import fcntl
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from types import GenericAlias  # such as dict[str, float]
from typing import Any, TextIO, TypeVar

from tightbound.errors import UserError
from tightbound.files.documents import read_document
from tightbound.files.opening import refuse_links
from tightbound.files.writing import write_whole
from tightbound.train.documents import Environment
from tightbound.train.records import cut_back, newest_first, read_records, replace_newest
from tightbound.train.retention import kept_evidence

Document = TypeVar("Document")


class RunFolder:
    """Paths and records of one run. What it says is on the disk; it remembers only the lock it holds."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._lock: int | None = None  # descriptor, while this process holds the folder

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def evidence(self) -> Path:
        return self.path / "evidence"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def exists(self) -> bool:
        """Whether a run was ever started here."""
        return (self.path / "recipe.json").exists()

    def refuse_links(self) -> None:
        """UserError where something in the folder is neither a file nor a folder: what is read or written
        there would be somewhere else."""
        refuse_links(self.path, ["checkpoints", "evidence", "samples", "tensorboard"])
        refuse_links(self.checkpoints, [path.name for path in self.checkpoints.glob("*")])

    def read_json(self, name: str, kind: type[Document] | GenericAlias) -> Document:
        """A document of the run, held against its type; UserError where it is missing or another."""
        try:
            return read_document(self.path / name, kind)
        except FileNotFoundError:
            raise UserError(
                f"{self.path} has no {name}, so it is not a run folder. `tightbound runs` lists those there are."
            ) from None

    def find_json(self, name: str, kind: type[Document] | GenericAlias) -> Document | None:
        """The same; None where it is missing."""
        try:
            return read_document(self.path / name, kind)
        except FileNotFoundError:
            return None

    def write_json(self, name: str, document: Any) -> None:
        """Write a document whole or not at all."""
        write_whole(self.path / name, json.dumps(document, indent=1) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process. The kernel lets go of it however the process ends. A folder
        made here in which nothing came to be is taken away again."""
        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.refuse_links()
            file = open_lock(self.path / "lock")
        except OSError as error:
            raise UserError(
                f"The run folder {self.path} cannot be made ({error.strerror}). Give another one with "
                "--run-dir."
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(
                    f"The run folder {self.path} is in use by {holder}. Wait for it, or give this run "
                    "another folder with --run-dir."
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
            self._lock = file.fileno()
            try:
                self.require_held()  # somebody may have deleted it between our opening and our locking
                yield
            finally:
                self._lock = None
                if is_new and self.path.is_dir() and os.listdir(self.path) == ["lock"]:
                    shutil.rmtree(self.path)

    def require_held(self) -> None:
        """UserError where this process locked the folder and it was deleted, moved or replaced since: by now
        another process may hold what stands at its path."""
        if self._lock is None:
            return
        own = os.fstat(self._lock)
        try:
            found = os.stat(self.path / "lock")
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
            raise UserError(
                f"The run folder {self.path} was deleted or replaced while this process worked in it, so nothing "
                "more is written there. Run the same command again, or give another folder with --run-dir."
            )

    def append_step(self, record: dict[str, Any]) -> None:
        """Add a record to `steps.jsonl`, where others can read it at once."""
        with open(self._steps, "a") as file:
            file.write(json.dumps(record) + "\n")

    def replace_step(self, record: dict[str, Any]) -> None:
        """Write a fuller record in place of the newest, which is of the same step: whole or not at all."""
        replace_newest(self._steps, record)

    def sync_steps(self) -> None:
        """Wait until the records are on the disk: no checkpoint is newer than its records."""
        with open(self._steps, "a") as file:
            os.fsync(file.fileno())

    def read_steps(self) -> list[dict[str, Any]]:
        """The records, oldest first; a line cut off by a kill is left out."""
        return list(self.stream_steps())

    def stream_steps(self, having: str | None = None) -> Iterator[dict[str, Any]]:
        """The same one by one, for a run of many steps; with `having`, those that have such an entry."""
        return read_records(self._steps, having)

    def newest_record(self, having: str | None = None) -> dict[str, Any] | None:
        """The newest record, or the newest that has such an entry; None without. Reads from the end."""
        found = (
            record for record in newest_first(self._steps) if having is None or having in record
        )
        return next(found, None)

    def standing(self) -> list[dict[str, Any]]:
        """What a display needs of a run that goes on: the first two records, and the newest back to the newest
        evaluation, oldest first."""
        first = list(islice(self.stream_steps(), 2))
        after = first[-1]["step"] if first else -1
        newest = []
        for record in newest_first(self._steps):
            if record["step"] <= after:
                break
            newest.append(record)
            if "held_out" in record:
                break
        return [*first, *reversed(newest)]

    def evidence_files(self) -> list[Path]:
        """What probes have left, oldest first."""
        found = self.evidence.glob("step-*.npz")
        return sorted(path for path in found if re.fullmatch("step-[0-9]{1,15}", path.stem))

    def cut_back(self, step: int) -> None:
        """Forget everything after `step`: records, and evidence files that probes left behind."""
        cut_back(self._steps, step)
        for found in self.evidence_steps():
            if found > step:
                self.evidence_path(found).unlink(missing_ok=True)

    def checkpoint_steps(self) -> list[int]:
        """The steps of the checkpoints, by their names alone: whether they are whole is not looked at."""
        names = [path.name.removeprefix("step-") for path in self.checkpoints.glob("step-*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def evidence_path(self, step: int) -> Path:
        """Where the evidence of a step is kept."""
        return self.evidence / f"step-{step:08d}.npz"

    def evidence_steps(self) -> list[int]:
        """The steps of which there is evidence, ascending."""
        names = [path.stem.removeprefix("step-") for path in self.evidence.glob("step-*.npz")]
        return sorted(int(name) for name in names if name.isdecimal())

    def thin_evidence(self) -> None:
        """Delete the evidence that `kept_evidence` does not name."""
        steps = self.evidence_steps()
        kept = kept_evidence(steps)
        for step in steps:
            if step not in kept:
                self.evidence_path(step).unlink(missing_ok=True)

    @property
    def _steps(self) -> Path:
        return self.path / "steps.jsonl"


def step_of(evidence: Path) -> int:
    """The step in the name `step-00000128.npz`."""
    return int(evidence.stem.removeprefix("step-"))


def open_lock(path: Path) -> TextIO:
    """A lock's file, made where there is none; never through a link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "a+")


# Settings of JAX on which draws and products depend, by the names of their variables without JAX_.
_FLAGS = ("default_prng_impl", "threefry_partitionable", "default_matmul_precision")


def environment() -> dict[str, Any]:
    """What the bits of a run depend on: versions, threads, device and flags."""
    import jax

    names = ("tightbound", "jax", "jaxlib", "equinox", "optax", "numpyro", "numpy")
    device = jax.devices()[0]
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "device": f"{device.platform}: {device.device_kind}",
        "num_devices": jax.device_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        **{name: getattr(jax.config, f"jax_{name}") for name in _FLAGS},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": {name: _version(name) for name in names},
    }


def environment_changes(before: Environment, now: Environment) -> list[str]:
    """One phrase per entry that differs: "processors was 4, is 2"."""
    old, new = _flat(before), _flat(now)
    return [f"{n} was {old[n]}, is {new.get(n)}" for n in old if old[n] != new.get(n)]


def _flat(environment: Environment) -> dict[str, Any]:
    """One entry for each version."""
    versions = environment.get("versions")
    by_name = versions if isinstance(versions, dict) else {}
    plain = {name: value for name, value in environment.items() if name != "versions"}
    return plain | {f"version of {name}": value for name, value in by_name.items()}


def _processor() -> str:
    """The processor's model: another one may have other vector instructions, and so other bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
