"""A run folder made by hand: what training writes, without training."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tightbound.diagnose.finding import Cause, Finding, Verdict, not_run
from tightbound.estimators.estimate import Estimate
from tightbound.report.pictures import image_sheet
from tightbound.train.folder import RunFolder

ROWS, LATENTS, SAMPLES, STEPS = 200, 8, 32, 2000


def estimate(value, error=0.26, *, split="valid (dynamic binarisation)", draws=4, bound="lower"):
    return Estimate(value, error, 0.03, "nats per sequence", bound, "elbo", draws, split)


BASELINES = {
    "uniform": replace(estimate(-44.36, 0.0, draws=0, bound="exact"), estimator="uniform"),
    "independent-pixel": replace(estimate(-32.1, 0.2, draws=0, bound="exact"), estimator="pixels"),
}

FINDINGS = (
    Finding("TB301", "weights_are_light", Verdict.OK, 0.41, 0.34, "", "sites", "The ESS is fine."),
    Finding(
        "TB401",
        "latents_are_used",
        Verdict.UNDECIDED,
        0.012,
        0.01,
        "nats",
        "site z, step 300",
        "The KL is too close to zero to tell.",
        not_checked=("the KL of single latents: the proposal's density is joint",),
    ),
    Finding(
        "TB101",
        "objective_is_its_claim",
        Verdict.FAULT,
        12.3,
        0.1,
        "nats",
        "64 rows, step 1",
        "What is differentiated is not the ELBO of the same draws.",
        causes=(
            Cause("kl_sign_flipped", "The KL is added.", "Subtract log q - log p."),
            Cause("wrong_axis", "A density is summed over rows.", "Sum over the last axis."),
        ),
    ),
    not_run("TB501", "labels_fit", "the data has no labels"),
)


def records():
    """A run that learns: KL rises, reconstruction improves faster."""
    noise = np.random.default_rng(0)
    out = []
    for step in range(10, STEPS + 1, 10):
        x = -20 - 24 * np.exp(-step / 150)
        kl = 4 * (1 - np.exp(-step / 300))
        wobble = noise.normal(0, 0.5)
        record = {
            "step": step,
            "epoch": step / 20,
            "seconds": 2.8 + step / 600,
            "compile_seconds": 2.8,
            "train": {
                "bound": estimate(x - kl + wobble, 0.5, split="train", draws=1).to_json(),
                "sites": sites(x + wobble, kl),
                "loss": -(x - kl),
                "gradient_norm": 9.0,
            },
        }
        if step % 200 == 0:
            record["held_out"] = {
                "bound": estimate(x - kl).to_json(),
                "sites": sites(x, kl),
                "ess_fraction": 0.8 - 0.1 * kl / 4,
            }
        out.append(record)
    return out


def sites(x, kl):
    return {"x": {"log_p": x}, "z": {"log_p": -11.0 - kl / 2, "log_q": -11.0 + kl / 2}}


def evidence(step):
    """One probe's arrays: two latents in use, heavier weights in a few rows."""
    noise = np.random.default_rng(step)
    log_p = np.stack(
        [
            noise.normal(-22, 3, ROWS) + noise.normal(0, 1, (SAMPLES, ROWS)),
            noise.normal(-11, 0.7, (SAMPLES, ROWS)),
        ]
    )
    log_q = np.stack([np.zeros((SAMPLES, ROWS)), noise.normal(-7.5, 0.5, (SAMPLES, ROWS))])
    return {
        "format": np.array("tightbound.Evidence/1"),
        "step": np.array(step),
        "sites.names": np.array(["x", "z"]),
        "sites.log_p": log_p,
        "sites.log_q": log_q,
        "latents.mean": noise.normal(size=(ROWS, LATENTS)) * np.geomspace(1, 0.01, LATENTS),
        "latents.scale": np.ones((ROWS, LATENTS)),
        "gradients.modules": np.array(["model.decoder", "proposal.encoder"]),
        "gradients.norm": np.array([9.0, 4.0]) / np.sqrt(1 + step / 50),
        "gradients.update_norm": np.array([0.3, 0.2]) / np.sqrt(1 + step / 500),
        "gradients.parameter_norm": np.array([20.0, 15.0]),
    }


WHY = {
    "from": 500,
    "to": 2000,
    "change": estimate(2.31, 0.11).to_json(),
    "sites": {"x": estimate(3.02, 0.14).to_json(), "z": estimate(-0.71, 0.05).to_json()},
    "groups": {str(d): estimate(2.3 + 0.2 * (d % 3), 0.3).to_json() for d in range(10)},
    "modules": {
        "x": {"model.decoder": 2.2, "proposal.encoder": 0.82},
        "z": {"model.decoder": 0.0, "proposal.encoder": -0.71},
    },
}


@pytest.fixture
def make_run(tmp_path):
    """Makes the folder; keywords replace parts of it."""

    def make(*, note="the first try", steps=None, findings=FINDINGS, probes=True, why=WHY):
        folder = RunFolder(tmp_path / "run")
        folder.write_json(
            "recipe.json",
            {
                "name": "vae/digits",
                "recipe": "vae/digits",
                "seed": 0,
                "settings": {
                    "model": {"latent_size": LATENTS, "activation": "softplus"},
                    "optimiser": {"learning_rate": 1e-3, "clip_norm": None},
                },
                "note": note,
                "started": "2025-01-01T12:00:00",
                "init_from": None,
            },
        )
        if steps is None:
            steps = records()
        for record in steps:
            folder.append_step(record)
        if findings is not None:
            documents = [finding.to_json() for finding in findings]
            folder.write_json("findings.json", {"schema": 1, "step": 300, "findings": documents})
        if probes:
            add_probes(folder)
        if why is not None:
            folder.write_json("why.json", why)
        return folder

    return make


def add_probes(folder):
    """What a run that is not bare has besides: baselines, environment, evidence, samples."""
    folder.write_json("baselines.json", {n: e.to_json() for n, e in BASELINES.items()})
    versions = {"tightbound": "0.1.0", "jax": "0.10.2"}
    folder.write_json("environment.json", {"device": "cpu: cpu", "versions": versions})
    folder.evidence.mkdir()
    for step in [0, 1, 2, 4, 8, 16, 32, 64, *range(100, STEPS + 1, 100)]:
        np.savez_compressed(folder.evidence / f"step-{step:08d}.npz", **evidence(step))
    folder.samples.mkdir()
    images = np.random.default_rng(1).uniform(size=(12, 8, 8)) ** 3
    image_sheet(images, folder.samples / "step-00002000.png", columns=6)


@pytest.fixture
def findings():
    return FINDINGS


@pytest.fixture
def baselines():
    return BASELINES


@pytest.fixture
def made_records():
    return json.loads(json.dumps(records()))
