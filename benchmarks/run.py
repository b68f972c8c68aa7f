"""Every benchmark, one after the other, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "vae_step.py",
    "particle_filter.py",
    "hmm_forward.py",
    "edit_filter.py",
    "vrnn_step.py",
    "language_step.py",
    "stein_step.py",
)


def main() -> int:
    folder = Path(__file__).parent
    codes = []
    for name in BENCHMARKS:
        print(f"\n== {name}\n", flush=True)
        codes.append(subprocess.run([sys.executable, str(folder / name)], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
