"""Checkpoints that are whole or absent: safetensors and a manifest with checksums, renamed into place."""

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tightbound.errors import UserError
from tightbound.train.folder import sync_folder

State = TypeVar("State")
_FORMAT = "tightbound.checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose manifest and checksums were found right."""

    path: Path
    step: int
    progress: dict[str, Any]  # what the run driver needs besides the state; plain JSON


def save_checkpoint(
    folder: Path, state: PyTree, *, step: int, progress: dict[str, Any]
) -> Checkpoint:
    """Write `folder/step-N` through a temporary folder, synced and renamed.

    A reader, or a process killed at any point, finds either the whole checkpoint or none. OSError
    (a full disk) leaves earlier checkpoints untouched and no half-written folder behind. What a
    killed process left half-written is swept up by the next save.
    """
    target = folder / f"step-{step:08d}"
    partial = folder / f".partial-{step:08d}"
    for left_over in folder.glob(".partial-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    arrays = _leaves_by_name(eqx.filter(state, eqx.is_array))
    data = save({name: np.asarray(leaf, order="C") for name, leaf in arrays.items()})
    manifest = {
        "format": _FORMAT,
        "step": step,
        "sha256": {"state.safetensors": hashlib.sha256(data).hexdigest()},
        "progress": progress,
    }
    try:
        partial.mkdir(parents=True)
        _write_synced(partial / "state.safetensors", data)
        _write_synced(partial / "manifest.json", json.dumps(manifest, indent=1).encode())
        sync_folder(partial)
        shutil.rmtree(target, ignore_errors=True)  # only ever an invalid one of the same step
        os.rename(partial, target)
        sync_folder(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Checkpoint(target, step, progress)


def checkpoints(folder: Path) -> tuple[list[Checkpoint], list[str]]:
    """All valid checkpoints in order of their step, and a sentence for every invalid one."""
    valid, problems = [], []
    for path in sorted(folder.glob("step-*")):
        try:
            valid.append(_validated(path))
        except UserError as error:
            problems.append(str(error))
    return valid, problems


def find_checkpoint(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of this very step; UserError names those that exist."""
    path = folder / f"step-{step:08d}"
    if path.exists():
        with contextlib.suppress(UserError):  # a damaged one is as good as none
            return _validated(path)
    valid, _ = checkpoints(folder)
    steps = ", ".join(str(c.step) for c in valid) or "none"
    raise UserError(f"{folder} has no valid checkpoint of step {step}. It has: {steps}.")


def load_state(checkpoint: Checkpoint, like: State) -> State:
    """The saved arrays in the structure of `like`; each must have its name, shape and type there.

    What only the file holds stays in it: a `like` with less in it reads a part of a state.
    """
    saved = load((checkpoint.path / "state.safetensors").read_bytes())
    dynamic, static = eqx.partition(like, eqx.is_array)
    leaves = []
    for name, leaf in _leaves_by_name(dynamic).items():
        found, meant = _signature(saved.get(name)), _signature(leaf)
        if found != meant:
            raise UserError(
                f"{checkpoint.path} holds {found} for {name}, but this run has {meant} there. Were "
                "the model's or the optimiser's settings changed? Use the settings of the run that "
                "wrote it."
            )
        leaves.append(jnp.asarray(saved[name]))
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(dynamic), leaves), static)


def _leaves_by_name(arrays: PyTree) -> dict[str, jax.Array]:
    paths, _ = jax.tree_util.tree_flatten_with_path(arrays)
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


def _signature(array: np.ndarray | jax.Array | None) -> str:
    return "nothing" if array is None else f"{array.dtype}{list(array.shape)}"


def _validated(path: Path) -> Checkpoint:
    """The checkpoint, if its manifest can be read and every checksum is right."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        if manifest["format"] != _FORMAT:
            raise UserError(f"{path} has the format {manifest['format']!r}, not {_FORMAT!r}.")
        for name, expected in manifest["sha256"].items():
            found = hashlib.sha256((path / name).read_bytes()).hexdigest()
            if found != expected:
                raise UserError(
                    f"{path / name} is damaged: its sha256 is {found[:12]}…, the manifest says "
                    f"{expected[:12]}…."
                )
        load((path / "state.safetensors").read_bytes())
        return Checkpoint(path, int(manifest["step"]), manifest["progress"])
    except UserError:
        raise
    except (OSError, KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise UserError(f"{path} is not a whole checkpoint ({error}).") from error


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
