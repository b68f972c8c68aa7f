"""Do two versions of the package train to the same bits? Five recipes, one of each family, same seed.

    python scripts/same_parameters.py BEFORE AFTER [--steps N] [RECIPE ...]

BEFORE and AFTER are folders with a `src/tightbound`, or revisions of this repository, which are checked out
for the time of the comparison. Both run in this Python, on this machine. 0 if every parameter is the same.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
# So many steps take at most a minute; the seed is that of `tightbound train`, 0.
STEPS: Mapping[str, int] = {
    "vae/digits": 300,
    "edits/doubling": 100,
    "vrnn/toy-strokes": 300,
    "dlm/toy-grammar": 300,
    "stein/digits": 300,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("recipes", nargs="*", default=list(STEPS))
    parser.add_argument("--steps", type=int, help="for every recipe; otherwise its own number")
    options = parser.parse_args()
    all_same = True
    with source_tree(options.before) as before, source_tree(options.after) as after:
        print(f"{'recipe':<18} steps  arrays  numbers  result", flush=True)
        for recipe in options.recipes:
            steps = options.steps or STEPS[recipe]
            old, new = (parameters(tree, recipe, steps) for tree in (before, after))
            found = differences(old, new)
            numbers = sum(array.size for array in new.values())
            result = "the same to the bit" if not found else found[0]
            print(f"{recipe:<18} {steps:>5}  {len(new):>6}  {numbers:>7}  {result}", flush=True)
            for line in found[1:]:
                print(f"{'':<42}{line}")
            all_same = all_same and not found
    return 0 if all_same else 1


@contextmanager
def source_tree(named: str) -> Iterator[Path]:
    """The folder of this name, or a worktree of the revision, removed afterwards."""
    if (Path(named) / "src" / "tightbound").is_dir():
        yield Path(named).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), named], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def parameters(tree: Path, recipe: str, steps: int) -> dict[str, np.ndarray]:
    """What the model and the proposal have learned after so many steps of the tree's own code."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        where = ["--run-dir", str(run), "--no-doctor", "--run.steps", str(steps)]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, str(tree / "src"), "train", recipe, *where],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(tree / "src")},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise SystemExit(f"{tree} cannot train {recipe}:\n{done.stderr}")
        state = load_file(run / "checkpoints" / f"step-{steps:08d}" / "state.safetensors")
    return {
        name: array for name, array in state.items() if name.startswith((".model", ".proposal"))
    }


# The command line, of this tree and no other.
COMMAND = """
import sys
import tightbound
from tightbound.cli import main
source, *arguments = sys.argv[1:]
assert tightbound.__file__.startswith(source), tightbound.__file__
sys.exit(main(arguments))
"""


def differences(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence for every array that is not the same to the bit, NaN included."""
    found = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            found.append(f"{name} is in {'AFTER' if old is None else 'BEFORE'} only")
        elif (old.dtype, old.shape) != (new.dtype, new.shape):
            found.append(f"{name} is {old.dtype}{old.shape}, then {new.dtype}{new.shape}")
        elif old.tobytes() != new.tobytes():
            largest = np.abs(new.astype(float) - old.astype(float)).max()
            found.append(f"{name} differs by up to {largest:.3g}")
    return found


if __name__ == "__main__":
    sys.exit(main())
