"""The figures of the language models, for `verify.py`: each function is one check."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

Command = Callable[..., Any]  # a command's JSON document

# What the first study ran on: the settings of the data, steps of one epoch at batch 280, components.
SETS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "words": (("--data.units", "raw-words"), 82, 400),
    "characters": (("--data.units", "characters"), 82, 90),
    "residues, 20": (("--data.source", "cath", "--data.max-length", "20"), 60, 90),
    "residues, 100": (("--data.source", "cath", "--data.max-length", "100"), 60, 90),
}
# What it reported, nats per token at its epochs 20 and 30; None where it reported none.
REPORTED: dict[str, dict[str, tuple[float | None, float | None]]] = {
    "words": {
        "dlm/29": (4.313, 4.285),
        "dlm/46": (3.821, 3.723),
        "dlm/47 {4,6}": (3.739, 3.560),
        "dlm/51": (3.775, 3.709),
        "dlm/53": (2.877, 2.712),
        "dlm/54": (4.131, 4.096),
        "dlm/55": (2.464, 2.431),
        "dlm/56": (3.593, 3.771),
    },
    "characters": {
        "dlm/26": (1.004, 0.944),
        "dlm/29": (1.119, 1.081),
        "dlm/46": (1.009, 0.969),
        "dlm/47 {4,6}": (1.254, 1.155),
        "dlm/51": (1.000, 0.949),
        "dlm/53": (0.933, 0.857),
        "dlm/55": (0.561, 0.461),
    },
    "residues, 20": {
        "dlm/26": (1.817, 1.774),
        "dlm/46": (1.855, 1.801),
        "dlm/47": (1.998, 1.943),
        "dlm/29": (2.419, 2.508),
        "dlm/40": (2.819, 2.810),
    },
    "residues, 100": {"dlm/26": (2.575, 2.524), "dlm/40": (2.865, None)},
}
AUTO_ENCODERS = ("dlm/53", "dlm/54", "dlm/55", "dlm/56")
MEAN = "nats per unit, mean over sequences"  # the study's average


def causality() -> dict[str, Any]:
    """Every recipe, shrunken, on the toy grammar: whether another future moves the past (TB113), and of
    the arms as first run what `check` names first."""
    import jax

    from tightbound.diagnose.checks.steps import past_ignores_the_future
    from tightbound.diagnose.finding import Verdict
    from tightbound.diagnose.laws.gather import jit_once
    from tightbound.diagnose.laws.steps import steps
    from tightbound.diagnose.probes import probe_batches
    from tightbound.diagnose.watch import check
    from tightbound.families.language.recipe import RECIPES
    from tightbound.families.language.settings import TokenData

    found: dict[str, Any] = {"pass": [], "fail": [], "named first": {}}
    for name, recipe in RECIPES.items():
        small = replace(
            recipe.model, size=16, num_components=32, latent=replace(recipe.model.latent, size=4)
        )
        setup = replace(recipe, model=small, data=TokenData("toy-grammar")).build(0)
        pair, batch = (setup.model, setup.proposal), probe_batches(setup)[0]
        evidence = steps(setup, pair, batch, jax.random.key(0), jit_once)
        leaks = past_ignores_the_future(evidence).verdict is Verdict.FAULT
        found["fail" if leaks else "pass"].append(name)
        if name.endswith("-original"):
            faults = [finding.code for finding in check(setup).faults]
            found["named first"][name] = faults[0] if faults else "nothing"
        jax.clear_caches()  # programs of seventy models are more than a process can map
    return found


def as_run(
    tightbound: Command, runs: Path, data: str, arms: Sequence[str], epochs: int = 30
) -> dict[str, Any]:
    """The first study's own arm of every model, at its epochs 20 and 30 as far as they were reached,
    by its averaging, beside what it reported. It measured before an epoch's training, so its epoch 20 is
    after 20 passes counted from 0."""
    settings, epoch_steps, components = SETS[data]
    found: dict[str, Any] = {}
    for arm in arms:
        name, _, mutations = arm.partition(" ")
        folder = runs / f"{arm}-{data}-as-run".replace("/", "-").replace(" ", "-")
        every = str(epoch_steps)
        changes = [
            *(*settings, "--run.steps", str(epochs * epoch_steps)),
            *("--run.evaluate-every", every, "--run.checkpoint-every", every),
            *("--optimiser.forget-every", every, "--model.num-components", str(components)),
        ]
        if mutations:
            changes += ["--model.mutations", *mutations.strip("{}").split(",")]
        train(tightbound, f"{name}-original", folder, *changes)
        reported = REPORTED[data].get(arm, (None, None))
        figure_of = reconstruction if name in AUTO_ENCODERS else mean_figure
        found[arm] = {
            f"epoch {epoch}": {
                "ours": figure_of(tightbound, f"{folder}@{epoch * epoch_steps}"),
                "reported": figure,
            }
            for epoch, figure in zip((20, 30), reported, strict=True)
            if epoch <= epochs
        }
    return found


def residues(tightbound: Command, runs: Path) -> dict[str, Any]:
    """Independent residues, 4,000 steps: the leaky arm learns what there is not, the causal one
    reaches the entropy of the source."""
    found: dict[str, Any] = {}
    for recipe in ("dlm/iid-residues", "dlm/iid-residues-original"):
        folder = runs / recipe.replace("/", "-")
        train(tightbound, recipe, folder)
        found[recipe] = test_figure(tightbound, str(folder), "nats per unit")
    return found


def domains(tightbound: Command, runs: Path, length: int, steps: int) -> dict[str, Any]:
    """Protein domains: the first study's LSTM with its statistic over time, and without."""
    found: dict[str, Any] = {}
    data = ("--data.source", "cath", "--data.max-length", str(length))
    for arm, normalisation in (("over time", "time"), ("over features", "feature")):
        folder = runs / f"cath-{length}-{normalisation}"
        train(
            *(tightbound, "dlm/26", folder, *data, "--run.steps", str(steps)),
            *("--model.normalisation", normalisation, "--model.num-components", "90"),
        )
        found[arm] = test_figure(tightbound, str(folder), "nats per unit")
    return found


def case_study(tightbound: Command, runs: Path, steps: int) -> dict[str, Any]:
    """What `check` says of the leaky arms and of the causal ones, and what both reach on the same
    words, trained alike."""
    found: dict[str, Any] = {}
    for recipe in ("dlm/26-original", "dlm/23-original", "dlm/26", "dlm/23"):
        document = tightbound("check", recipe, codes=(0, 1))
        faults = [f["code"] for f in document["findings"] if f["verdict"] == "FAULT"]
        found[f"check {recipe}"] = faults
    for number in (23, 26):
        for normalisation in ("time", "feature"):
            folder = runs / f"dlm-{number}-{normalisation}"
            train(
                *(tightbound, f"dlm/{number}", folder, "--model.normalisation", normalisation),
                *("--run.steps", str(steps)),
            )
            found[f"dlm/{number}, normalised over {normalisation}"] = test_figure(
                tightbound, str(folder), "nats per unit"
            )
    return found


def mean_figure(tightbound: Command, reference: str) -> dict[str, float]:
    return test_figure(tightbound, reference, MEAN)


def reconstruction(tightbound: Command, reference: str) -> dict[str, float]:
    """Minus log p(x | z) of an auto-encoder, in nats per token as sum over sum: no log p(x)."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "weights.npz"
        document = tightbound("evaluate", reference, "--num-samples", "1", "--save", str(saved))
        with np.load(saved) as arrays:
            per_sequence = float(arrays["num_units"].mean())
    site = document["sites"]["token"]
    return {
        "nats": -site["value"] / per_sequence,
        "standard error": site["standard_error"] / per_sequence,
    }


def train(tightbound: Command, recipe: str, folder: Path, *changes: str) -> None:
    tightbound("train", recipe, "--run-dir", str(folder), "--no-doctor", *changes)


def test_figure(tightbound: Command, reference: str, unit: str) -> dict[str, float]:
    """A test figure with its error over sequences."""
    document = tightbound("evaluate", reference, "--num-samples", "1", "--unit", unit)
    estimate = document["estimates"][0]
    return {"nats": estimate["value"], "standard error": estimate["standard_error"]}
