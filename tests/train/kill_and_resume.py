"""Kill a training run with SIGKILL again and again; compare what it leaves with an uninterrupted run.

    python tests/train/kill_and_resume.py --kills 25

prints one line of JSON and exits with 0 if the finished run has the same checkpoints to the bit and
the same records, wall times excepted. Every second kill strikes inside a save, right before one of
its syncs or renames; the others strike some milliseconds after a step, wherever that is. The run
is `vae/digits`, made small, with a learning rate that makes it roll back on the way.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

STEPS_PER_KILL = 24
WALL_TIMES = ("seconds", "compile_seconds")
# Forked from a process that has imported everything and computed nothing: a start costs no imports.
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["__main__", "sklearn.datasets", "tightbound.data.sets.digits", "tightbound.train.run"]


@dataclass(frozen=True)
class Strike:
    """When a process kills itself: `delay` seconds after its `count`-th step, or sync or rename of
    a save."""

    in_save: bool
    count: int
    delay: float  # 0 strikes before anything else can happen


@dataclass(frozen=True)
class Outcome:
    """What the comparison found."""

    steps: int
    kills: int
    left_half_a_checkpoint: int  # kills after which a partial folder lay there
    rollbacks: int
    same_checkpoints: bool
    same_records: bool

    @property
    def is_right(self) -> bool:
        return self.same_checkpoints and self.same_records


def train(path: Path, steps: int, strike: Strike | None) -> None:
    """One process's part of the run: continue it until it is finished, or until the strike."""
    from tightbound.families.lookup import find_recipe
    from tightbound.train.folder import RunFolder
    from tightbound.train.run import run
    from tightbound.train.settings import PlateauSettings

    recipe = find_recipe("vae/digits")
    setup = replace(
        recipe,
        model=replace(recipe.model, hidden_size=16, latent_size=2),
        optimiser=replace(recipe.optimiser, learning_rate=0.1),
        run=replace(
            recipe.run,
            steps=steps,
            log_every=1,
            evaluate_every=5,
            evaluate_samples=1,
            checkpoint_every=7,
            plateau=PlateauSettings(patience=2, action="rollback", max_rollbacks=steps),
        ),
    ).build(seed=0)
    count_down = _count_down(strike)
    if strike is not None and strike.in_save:
        for name in ("fsync", "rename"):
            setattr(os, name, _preceded(getattr(os, name), count_down))
    folder = RunFolder(path)
    with folder.locked():
        for _ in run(setup, folder):
            if strike is not None and not strike.in_save:
                count_down()


def _count_down(strike: Strike | None) -> Callable[[], None]:
    left = 0 if strike is None else strike.count

    def count() -> None:
        nonlocal left
        left -= 1
        if left == 0 and strike is not None:
            if strike.delay == 0:
                _die()
            threading.Timer(strike.delay, _die).start()

    return count


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _preceded(function: Callable, first: Callable[[], None]) -> Callable:
    def both(*args, **kwargs):
        first()
        return function(*args, **kwargs)

    return both


def strikes(number: int, seed: int) -> Iterator[Strike]:
    """Where the kills fall: drawn from `seed`, alternately at any time and inside a save."""
    draw = random.Random(seed)
    for index in range(number):
        if index % 2:  # a save syncs or renames five times, and the records before it once
            yield Strike(in_save=True, count=draw.randint(1, 25), delay=0.0)
        else:
            yield Strike(
                in_save=False, count=draw.randint(2, STEPS_PER_KILL), delay=draw.uniform(0, 0.01)
            )


def kill_and_resume(folder: Path, num_kills: int, seed: int = 0) -> Outcome:
    """Run once without and once with kills, in `folder`, and compare."""
    steps = STEPS_PER_KILL * num_kills
    whole, killed = folder / "whole", folder / "killed"
    if _run_process(whole, steps, None) != 0:
        raise RuntimeError("The uninterrupted run failed; its message is above.")
    kills, halves = 0, 0
    for strike in strikes(num_kills, seed):
        kills += _run_process(killed, steps, strike) == -signal.SIGKILL
        halves += any((killed / "checkpoints").glob(".partial-*"))
    _run_process(killed, steps, None)
    return Outcome(
        steps=steps,
        kills=kills,
        left_half_a_checkpoint=halves,
        rollbacks=_manifests(whole)[-1]["progress"]["rollbacks"],
        same_checkpoints=_checkpoints(whole) == _checkpoints(killed),
        same_records=_records(whole) == _records(killed),
    )


def _run_process(path: Path, steps: int, strike: Strike | None) -> int | None:
    process = PROCESSES.Process(target=train, args=(path, steps, strike))
    process.start()
    process.join()
    return process.exitcode


def _manifests(path: Path) -> list[dict]:
    """What every checkpoint says, in order; its hash of the arrays is checked in `_checkpoints`."""
    found = sorted((path / "checkpoints").glob("step-*/manifest.json"))
    return [json.loads(manifest.read_text()) for manifest in found]


def _checkpoints(path: Path) -> list[tuple[str, str, str]]:
    """Name, hash of every byte of the arrays, and progress."""
    arrays = sorted((path / "checkpoints").glob("*/state.safetensors"))
    return [
        (file.parent.name, sha256(file.read_bytes()).hexdigest(), json.dumps(manifest["progress"]))
        for file, manifest in zip(arrays, _manifests(path), strict=True)
    ]


def _records(path: Path) -> list[dict]:
    """The records without their wall times; a line that is no JSON fails here."""
    lines = (path / "steps.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in record.items() if k not in WALL_TIMES} for record in records]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the places of the kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{scratch}/compiled"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ.pop("JAX_ENABLE_X64", None)
        PROCESSES.set_forkserver_preload(PRELOADED)
        outcome = kill_and_resume(Path(scratch), options.kills, options.seed)
    print(json.dumps(asdict(outcome)))
    return 0 if outcome.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
