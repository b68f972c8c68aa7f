"""The entries of `docs/figures.json`, and `docs/figures.md`, which is written anew from them.

An entry says what was measured, how long that took, at which commit, and on which machine.
"""

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures.json"
PAGE = ROOT / "docs" / "figures.md"


def entries() -> dict[str, Any]:
    """Every entry by its name."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def record(name: str, measure: Callable[[], Any]) -> Any:
    """Measure, and add the entry, or put it in the place of the one of this name; the page is written
    anew. A tree that was changed meanwhile counts as one with uncommitted changes."""
    before, changed = commit(), has_uncommitted_changes()
    begun = time.monotonic()
    figure = measure()
    seconds = time.monotonic() - begun
    figures = entries()
    figures[name] = {
        "figure": figure,
        "seconds": round(seconds, 1),
        "commit": before,
        "uncommitted_changes": changed or has_uncommitted_changes() or commit() != before,
        "machine": machine(),
    }
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    PAGE.write_text(page(figures))
    return figure


def commit() -> str:
    """The commit the tree is at."""
    return git("rev-parse", "--short=12", "HEAD")


def has_uncommitted_changes() -> bool:
    """Whether any tracked file differs from the commit, but for the figures themselves."""
    figures = (f":!{path.relative_to(ROOT)}" for path in (FIGURES, PAGE))
    return bool(git("diff", "--name-only", "HEAD", "--", ".", *figures))


def git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def machine() -> str:
    """Processor, cores that this process may use, device: "AMD EPYC 7B13, 2 cores, cpu"."""
    from tightbound.train.folder import environment

    found = environment()
    processor = found["processor"] or found["machine"]
    return f"{processor}, {found['processors']} cores, {found['device'].partition(':')[0]}"


def page(figures: Mapping[str, Any]) -> str:
    """`docs/figures.md`."""
    lines = [
        "# Figures",
        "",
        "Written by `make verify` (`scripts/verify.py`) and `make bench` (`benchmarks/run.py`, entries `bench/...`); the",
        "raw numbers, and the machine of each entry that names one, are in `docs/figures.json`. A commit marked **changed**",
        "had changes that were not committed when the figure was made: the figure cannot be made again from the commit",
        "alone.",
        "",
        "| check | figure | seconds | commit |",
        "|---|---|---|---|",
    ]
    for name in sorted(figures):
        entry = figures[name]
        tree = entry["commit"] + (" **changed**" if entry["uncommitted_changes"] else "")
        lines.append(f"| `{name}` | {words(entry['figure'])} | {entry['seconds']} | {tree} |")
    return "\n".join(lines) + "\n"


def words(figure: Any) -> str:
    """A figure in one table cell."""
    if isinstance(figure, dict) and "estimator" in figure:
        errors = f"± {figure['standard_error']:.2f}"
        if figure["monte_carlo_error"] is not None:
            errors += f" (draws {figure['monte_carlo_error']:.3f})"
        return (
            f"{figure['value']:.2f} {errors} {figure['unit']}, {figure['bound']}, {figure['split']}"
        )
    if isinstance(figure, dict):
        return "; ".join(f"{name}: {words(value)}" for name, value in figure.items())
    if isinstance(figure, list):
        return ", ".join(words(value) for value in figure) or "none"
    return f"{figure:.3g}" if isinstance(figure, float) else str(figure)
