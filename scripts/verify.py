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

import figures
import figures_baselines
import figures_dlm
import figures_edits
import figures_stein
import figures_vrnn

ROOT = figures.ROOT
RUNS = ROOT / "verify"  # one folder per commit: a figure belongs to the code that made it
TIGHTBOUND = str(Path(sys.executable).with_name("tightbound"))


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        print(f"There is no check {unknown[0]!r}. There are: {', '.join(CHECKS)}.", file=sys.stderr)
        return 2
    for name, check in CHECKS.items():
        if name in names or (not names and name not in figures.entries()):
            print(f"{name} ...", flush=True)
            figures.record(name, check)
        found = figures.entries().get(name)
        print(f"{name}: {'-' if found is None else json.dumps(found['figure'])}")
    return 0


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


KILLED = ("vae/digits", "edits/doubling", "vrnn/toy-strokes", "dlm/toy-grammar", "stein/line")
KILLS = 40  # of each


def kills() -> dict[str, Any]:
    """40 SIGKILLs at random points of a run of every family, some inside a save: the end is the same to the
    bit. In all, and by recipe."""
    script = str(ROOT / "tests" / "train" / "kill_and_resume.py")
    found = {}
    for recipe in KILLED:
        done = subprocess.run(
            [sys.executable, script, "--kills", str(KILLS), "--recipe", recipe],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        if not done.stdout:
            raise SystemExit(f"{script} of {recipe} ended with {done.returncode}.")
        outcome = json.loads(done.stdout.splitlines()[-1])
        found[outcome.pop("recipe")] = outcome
        print(f"  {recipe}: {json.dumps(outcome)}", flush=True)
    every = list(found.values())
    counts = ("kills", "left_half_a_checkpoint", "rollbacks")
    return {
        **{name: sum(outcome[name] for outcome in every) for name in counts},
        "same_checkpoints": all(outcome["same_checkpoints"] for outcome in every),
        "same_records": all(outcome["same_records"] for outcome in every),
        "recipes": found,
    }


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
    return RUNS / (figures.commit() + ("-changed" if figures.has_uncommitted_changes() else ""))


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
    "drill": lambda: drill("images"),
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
    "drill sequences": lambda: drill("sequences"),
    "drill language": lambda: drill("language"),
    **figures_stein.checks(tightbound, runs_here),
    "drill stein": lambda: drill("stein"),
    "ssm/nutria": lambda: figures_vrnn.series(tightbound, runs_here(), "ssm/nutria"),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
