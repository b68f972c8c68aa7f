"""The slow checks: every figure the README and the docs quote, with the commit it belongs to.

    make verify                       runs what `docs/figures.json` has not got yet
    python scripts/verify.py NAME ... runs these again

A figure is written as soon as it is known, so a run that was stopped goes on where it was. Training
runs are run folders: they resume too. `docs/figures.md` is written anew from the same file.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import figures_baselines
import figures_dlm
import figures_edits
import figures_stein
import figures_vrnn

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures.json"
PAGE = ROOT / "docs" / "figures.md"
RUNS = ROOT / "verify"  # one folder per commit: a figure belongs to the code that made it
TIGHTBOUND = str(Path(sys.executable).with_name("tightbound"))


def main(names: list[str]) -> int:
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"There is no check {unknown[0]!r}. There are: {', '.join(CHECKS)}.", file=sys.stderr)
        return 2
    for name, check in CHECKS.items():
        if name in names or (not names and name not in figures):
            print(f"{name} ...", flush=True)
            begun = time.monotonic()
            figures[name] = {
                "figure": check(),
                "seconds": round(time.monotonic() - begun, 1),
                "commit": commit(),
                "uncommitted_changes": has_uncommitted_changes(),
            }
            FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
            PAGE.write_text(page(figures))
        print(f"{name}: {json.dumps(figures[name]['figure'])}" if name in figures else f"{name}: -")
    return 0


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


def tightbound(*arguments: str, codes: tuple[int, ...] = (0,)) -> Any:
    """The JSON document of a command."""
    done = subprocess.run(
        [TIGHTBOUND, *arguments, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode not in codes:
        raise SystemExit(f"tightbound {' '.join(arguments)} ended with {done.returncode}.")
    return json.loads(done.stdout)


def seconds(command: list[str], *, repeats: int = 1, env: Mapping[str, str] | None = None) -> float:
    """The best wall time of a command."""
    times = []
    for _ in range(repeats):
        begun = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=env)
        times.append(time.monotonic() - begun)
    return round(min(times), 3)


def trained(recipe: str, num_samples: int = 100) -> dict[str, Any]:
    """Train a recipe to its end; its test ELBO and IWAE bound, and whether the doctor was quiet."""
    folder = str(runs_here() / recipe.replace("/", "-"))
    findings = tightbound("train", recipe, "--run-dir", folder, codes=(0, 1))["findings"]
    elbo = tightbound("evaluate", folder, "--bound", "elbo", "--num-samples", "1")
    iwae = tightbound("evaluate", folder, "--bound", "iwae", "--num-samples", str(num_samples))
    return {
        "elbo": elbo["estimates"][0],
        "iwae": iwae["estimates"][0],
        "faults": [f["code"] for f in findings if f["verdict"] == "FAULT"],
    }


def kills() -> dict[str, Any]:
    """25 SIGKILLs at random points of a run, some inside a save: the end is the same to the bit."""
    script = str(ROOT / "tests" / "train" / "kill_and_resume.py")
    done = subprocess.run(
        [sys.executable, script, "--kills", "25"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def drill(family: str) -> dict[str, Any]:
    """Every fault of the family and its healthy runs, one seed each."""
    out = str(runs_here() / "drill.jsonl")
    document = tightbound("drill", "--family", family, "--out", out)
    counts = ("planted", "found", "found_before_training", "first_cause", "top3_cause")
    kept = {name: document[name] for name in (*counts, "healthy", "traps", "alarms", "intervals")}
    kept["missed"] = [
        f"{row['kind']} on {row['recipe']}"
        for row in document["rows"]
        if not row["healthy"] and not row["found"]
    ]
    kept["alarmed"] = [
        f"{row['recipe']}: {' '.join(row['alarms'])}"
        for row in document["rows"]
        if row["healthy"] and row["alarms"]
    ]
    return kept


def start_up() -> dict[str, Any]:
    """`--help` from the warm disk cache; `check` with an empty compilation cache."""
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as empty:
        cold = seconds(
            [TIGHTBOUND, "check", "vae/digits"],
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": empty},
        )
    return {"help_seconds": seconds([TIGHTBOUND, "--help"], repeats=7), "check_seconds": cold}


def runs_here() -> Path:
    """The runs of this commit; those of a changed tree apart."""
    return RUNS / (commit() + ("-changed" if has_uncommitted_changes() else ""))


ALL_BOUNDS = (("elbo", 1), *((name, n) for name in ("iwae", "fivo") for n in (4, 8, 16)))

CHECKS: Mapping[str, Callable[[], Any]] = {
    "start-up": start_up,
    "baselines/images": figures_baselines.images,
    "baselines/sequences": figures_baselines.sequences,
    "baselines/points": figures_baselines.points,
    "baselines/tokens": figures_baselines.tokens,
    "kill-and-resume": kills,
    "vae/digits": lambda: trained("vae/digits"),
    "vae/mnist": lambda: trained("vae/mnist"),
    "vae/mnist-static": lambda: trained("vae/mnist-static"),
    "cvae/mnist": lambda: trained("cvae/mnist"),
    "drill": lambda: drill("vae"),
    "edits/doubling": lambda: figures_edits.doubling(tightbound, runs_here()),
    "edits/other laws": lambda: figures_edits.other_laws(tightbound, runs_here()),
    "edits/exact gap": lambda: figures_edits.exact_gap(),
    "edits/exchangeable": lambda: figures_edits.exchangeable(tightbound, runs_here()),
    "edits/original": lambda: figures_edits.original(tightbound, runs_here()),
    "edits/same trajectories": lambda: figures_edits.same_trajectories(
        tightbound, runs_here(), 100
    ),
    "edits/ewt": lambda: figures_edits.text(tightbound, runs_here(), "ewt", ("ewt", "ewt-deep")),
    "edits/multi30k": lambda: figures_edits.text(
        tightbound, runs_here(), "multi30k", ("multi30k",)
    ),
    "drill edits": lambda: drill("edits"),
    "vrnn/jsb": lambda: figures_vrnn.music(tightbound, runs_here(), "vrnn/jsb", ALL_BOUNDS),
    "vrnn/muse": lambda: figures_vrnn.music(
        tightbound, runs_here(), "vrnn/muse", (("elbo", 1), ("iwae", 4), ("fivo", 4))
    ),
    "vrnn/omniglot": lambda: figures_vrnn.strokes(
        tightbound, runs_here(), "vrnn/omniglot", by_group=False
    ),
    "vrnn/handwriting": lambda: figures_vrnn.strokes(
        tightbound, runs_here(), "vrnn/handwriting", by_group=True
    ),
    "ssm/stochastic-volatility": lambda: figures_vrnn.series(
        tightbound, runs_here(), "ssm/stochastic-volatility"
    ),
    "dlm/causality": figures_dlm.causality,
    "dlm/iid-residues": lambda: figures_dlm.residues(tightbound, runs_here()),
    "dlm/case study": lambda: figures_dlm.case_study(tightbound, runs_here(), 904),
    "dlm/domains of 20": lambda: figures_dlm.domains(tightbound, runs_here(), 20, 1200),
    **{
        f"dlm/as run, {data}": lambda data=data: figures_dlm.as_run(
            tightbound, runs_here(), data, tuple(figures_dlm.REPORTED[data])
        )
        for data in figures_dlm.SETS
    },
    "drill dlm": lambda: drill("dlm"),
    **figures_stein.checks(tightbound, runs_here),
    "drill stein": lambda: drill("stein"),
    "ssm/nutria": lambda: figures_vrnn.series(tightbound, runs_here(), "ssm/nutria"),
}


def page(figures: Mapping[str, Any]) -> str:
    """`docs/figures.md`."""
    lines = [
        "# Figures",
        "",
        "Written by `make verify` (`scripts/verify.py`); the raw numbers are in `docs/figures.json`.",
        "A commit marked **changed** had changes that were not committed when the figure was made: the",
        "figure cannot be made again from the commit alone.",
        "",
        "| check | figure | seconds | commit |",
        "|---|---|---|---|",
    ]
    for name in (name for name in CHECKS if name in figures):
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
