"""A run is a folder: who holds it, what was run, where, and one record per logged step."""

import fcntl
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tightbound.errors import UserError


class RunFolder:
    """Paths and records of one run. Holds no state of its own: everything is on the disk."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

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

    def read_json(self, name: str) -> Any:
        """A document of the run; UserError where it is missing or no JSON."""
        path = self.path / name
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(
                f"{self.path} has no {name}, so it is not a run folder. `tightbound runs` lists those there are."
            ) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged: {error}.") from error

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
            file = open(self.path / "lock", "a+")  # noqa: SIM115 (closed below)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
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
            try:
                yield
            finally:
                if is_new and [entry.name for entry in self.path.iterdir()] == ["lock"]:
                    shutil.rmtree(self.path)

    def append_step(self, record: dict[str, Any]) -> None:
        """Add a record to `steps.jsonl`, where others can read it at once."""
        with open(self.path / "steps.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")

    def replace_step(self, record: dict[str, Any]) -> None:
        """Write a fuller record in place of the newest, which is of the same step: whole or not at all."""
        *earlier, newest = self.read_steps()
        assert newest["step"] == record["step"], (newest["step"], record["step"])
        self._write_steps([*earlier, record])

    def sync_steps(self) -> None:
        """Wait until the records are on the disk: no checkpoint is newer than its records."""
        with open(self.path / "steps.jsonl", "a") as file:
            os.fsync(file.fileno())

    def read_steps(self) -> list[dict[str, Any]]:
        """The records, oldest first; a line cut off by a kill is left out."""
        path = self.path / "steps.jsonl"
        if not path.exists():
            return []
        records = []
        for line in path.read_text(errors="replace").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return records

    def cut_back(self, step: int) -> None:
        """Forget everything after `step`: records, and evidence files that probes left behind."""
        self._write_steps([record for record in self.read_steps() if record["step"] <= step])
        for file in self.evidence.glob("step-*.npz"):
            if int(file.stem.removeprefix("step-")) > step:
                file.unlink()

    def _write_steps(self, records: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_whole(self.path / "steps.jsonl", lines)


def write_whole(path: Path, text: str) -> None:
    """Write through a neighbouring file, synced and renamed: readers never see half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until what was renamed into `folder` is on the disk under its new name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": {name: _version(name) for name in names},
    }


def environment_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One phrase per entry that differs: "processors was 4, is 2"."""
    flat = lambda d: d | {f"version of {k}": v for k, v in d["versions"].items()}  # noqa: E731
    old, new = flat(before), flat(now)
    names = [n for n in old if n not in ("versions",) and old[n] != new.get(n)]
    return [f"{name} was {old[name]}, is {new.get(name)}" for name in names]


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
