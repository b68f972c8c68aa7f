"""The figures of the sequence models, for `verify.py`: each function is one check."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Command = Callable[..., Any]  # a command's JSON document
EVALUATED = 128  # particles or draws of a held-out bound, as in Maddison et al. 2017


def music(
    tightbound: Command, runs: Path, recipe: str, models: tuple[tuple[str, int], ...]
) -> dict[str, Any]:
    """Every model trained with one bound, and its test bounds per step by all three.

    The rule of Maddison et al. 2017's released evaluation: ELBO, IWAE-128 and FIVO-128, nats summed
    over the split and divided by its steps; also the mean over sequences of the nats per step.
    """
    found: dict[str, Any] = {}
    for estimator, num_samples in models:
        name = f"{estimator}-{num_samples}"
        folder = runs / f"{recipe.replace('/', '-')}-{name}"
        tightbound(
            *("train", recipe, "--run-dir", str(folder), "--no-doctor"),
            *("--objective.estimator", estimator, "--objective.num-samples", str(num_samples)),
        )
        step, seconds = best_step(folder)
        bounds = {
            f"{bound}-{count}" if count > 1 else bound: per_step(
                tightbound, runs, f"{folder}@{step}", bound, count
            )
            for bound, count in (("elbo", 1), ("iwae", EVALUATED), ("fivo", EVALUATED))
        }
        found[name] = {"best step": step, "seconds": seconds, **bounds}
    return found


def per_step(
    tightbound: Command, runs: Path, reference: str, bound: str, count: int
) -> dict[str, float]:
    """A test bound in nats per step, by both averagings."""
    saved = runs / "weights.npz"
    number = ("--num-particles" if bound == "fivo" else "--num-samples", str(count))
    document = tightbound(
        *("evaluate", reference, "--bound", bound, *number),
        *("--unit", "nats per unit", "--save", str(saved)),
    )
    estimate = document["estimates"][0]
    with np.load(saved) as arrays:
        weights, lengths = arrays["log_weights"].astype(np.float64), arrays["num_units"]
    values = weights.mean(0)
    if bound == "iwae":
        values = np.logaddexp.reduce(weights, axis=0) - np.log(len(weights))
    return {
        "sum over sum": -estimate["value"],
        "standard error": estimate["standard_error"],
        "mean of means": float((values / lengths).mean()),
    }


def strokes(tightbound: Command, runs: Path, recipe: str, by_group: bool) -> dict[str, Any]:
    """The recipe, and the same without latents: test ELBO of the best step, and its paired difference
    from the baselines and from each other."""
    folders = {}
    for family in ("vrnn", "rnn"):
        folders[family] = runs / f"{recipe.replace('/', '-')}-{family}"
        tightbound(
            *("train", recipe, "--run-dir", str(folders[family]), "--model.family", family),
            "--no-doctor",
        )
    references = {family: f"{folder}@{best_step(folder)[0]}" for family, folder in folders.items()}
    grouped = ("--by-group",) if by_group else ()
    elbo = ("--bound", "elbo", "--num-samples", "16")
    found: dict[str, Any] = {}
    for family, reference in references.items():
        document = tightbound("evaluate", reference, *elbo)
        found[family] = {
            "step": int(reference.rpartition("@")[2]),
            "elbo": document["estimates"][0]["value"],
            "standard error": document["estimates"][0]["standard_error"],
            "kl": -document["sites"].get("z", {"value": 0.0})["value"],
        }
    others = ("iid-gaussian", "ar1-gaussian", "gaussian-mixture-5")
    for other in (*others, references["rnn"]):
        document = tightbound("compare", references["vrnn"], other, *elbo, *grouped)
        comparison = document["comparison"]
        name = other if other in others else "rnn"
        found[f"vrnn - {name}"] = {
            "difference": comparison["difference"],
            "standard error": comparison["standard_error"],
            "groups": comparison["num_groups"],
        }
    return found


def series(tightbound: Command, runs: Path, recipe: str) -> dict[str, Any]:
    """A state-space recipe as it is: its test bound against the baselines, in nats per step."""
    folder = runs / recipe.replace("/", "-")
    tightbound("train", recipe, "--run-dir", str(folder), "--no-doctor")
    step, seconds = best_step(folder)
    found: dict[str, Any] = {"best step": step, "seconds": seconds}
    fivo = ("--bound", "fivo", "--num-particles", "1000", "--num-samples", "4")
    for other in ("iid-gaussian", "iid-student-t", "ar1-gaussian"):
        document = tightbound(
            "compare", f"{folder}@{step}", other, *fivo, "--unit", "nats per unit"
        )
        comparison = document["comparison"]
        found["fivo-1000"] = -comparison["first"]["value"]
        found[other] = -comparison["second"]["value"]
        found[f"fivo-1000 - {other}"] = {
            "difference": -comparison["difference"],
            "standard error": comparison["standard_error"],
        }
    return found


def best_step(folder: Path) -> tuple[int, float]:
    """The step whose held-out bound is the best of those with a checkpoint, and the seconds of the
    whole run."""
    records = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    saved = {int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").iterdir()}
    held_out = {
        record["step"]: record["held_out"]["bound"]["value"]
        for record in records
        if "held_out" in record and record["step"] in saved
    }
    return max(held_out, key=held_out.__getitem__), round(records[-1]["seconds"], 1)
