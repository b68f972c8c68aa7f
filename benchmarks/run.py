"""Benchmarks, one after the other, each in a process of its own; what they give is kept as entries
`bench/NAME` of `docs/figures.json`, with the commit and the machine.

    make bench                           all of them
    python benchmarks/run.py NAME ...    these: vae_step, particle_filter, ...
"""

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "scripts"))
import figures  # noqa: E402

BENCHMARKS = (
    "vae_step",
    "particle_filter",
    "hmm_forward",
    "edit_filter",
    "vrnn_step",
    "language_step",
    "stein_step",
)


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        known = ", ".join(BENCHMARKS)
        print(f"There is no benchmark {unknown[0]!r}. There are: {known}.", file=sys.stderr)
        return 2
    failed = False
    for name in names or BENCHMARKS:
        print(f"\n== {name}\n", flush=True)
        try:
            figures.record(f"bench/{name}", partial(rows_of, FOLDER / f"{name}.py"))
        except subprocess.CalledProcessError as error:  # it has said why; the others go on
            print(f"{name} ended with {error.returncode}: no entry.", file=sys.stderr)
            failed = True
    return int(failed)


def rows_of(benchmark: Path) -> dict[str, Any]:
    """What every case of the benchmark gave, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        subprocess.run([sys.executable, str(benchmark), "--out", str(out)], check=True)
        return json.loads(out.read_text())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
