"""A whole run folder made by hand in a tenth of a second: what every hostile one is made from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from fixtures.evidence import made_evidence
from fixtures.run_folders import BASELINES, FINDINGS, WHY, estimate, sites
from tightbound.families.lookup import find_recipe
from tightbound.families.settings import settings_of
from tightbound.report.draw.pictures import image_sheet

RECIPE = "vae/digits"
VALUES = [0.5, None, 0.25]

BY_POSITION = {"position": [1, 2], "mean": [0.5, 0.25], "error": [0.1, None], "rows": [3, 2]}
SENTENCE = {
    "row": 0,
    "tokens": ["a", "b"],
    "nats": [0.5, None],
    "alternatives": [[["a", 0.5]], [["b", 0.25]]],
}
WORST = {
    "row": 0,
    "position": 1,
    "before": ["a"],
    "token": "b",
    "nats": 2.0,
    "alternatives": [["a", 0.5]],
}
STRING = {
    "text": "ab",
    "edits": [{"op": "INS", "word": "ab", "source": 0, "log_p": -1.0, "log_q": 0.0}],
    "log_steps": -0.1,
}


def documents() -> dict[str, Any]:
    """Every JSON document of a run folder by its path in it; those of all families together."""
    change = estimate(2.3, 0.3).to_json()
    step = "00000004"
    return {
        "recipe.json": {
            "name": RECIPE,
            "recipe": RECIPE,
            "seed": 0,
            "settings": json.loads(json.dumps(settings_of(find_recipe(RECIPE)))),
            "note": "made by hand",
            "init_from": None,
            "plant": None,
            "stated": {"is_bound": True, "climbs": True, "pooled": False},
            "started": "2025-01-01T12:00:00",
        },
        "environment.json": {"device": "cpu", "processors": 2, "versions": {"jax": "0.10.2"}},
        "baselines.json": {name: one.to_json() for name, one in BASELINES.items()},
        "source.json": change,
        "findings.json": {
            "schema": 1,
            "step": 4,
            "finished": True,
            "findings": [finding.to_json() for finding in FINDINGS],
        },
        "why.json": json.loads(json.dumps(WHY)),
        f"checkpoints/step-{step}/manifest.json": {
            "format": "tightbound.checkpoint/1",
            "step": 4,
            "sha256": {"state.safetensors": hashlib.sha256(STATE).hexdigest()},
            "progress": {"best": -30.0, "best_step": 4, "since_best": 0, "rollbacks": 0},
        },
        f"samples/texts-step-{step}.json": {
            "step": 4,
            "notes": ["a note"],
            "texts": [{"name": "a", "tokens": ["a"], "nats": [0.5], "num_given": 0}],
        },
        f"samples/language-step-{step}.json": {
            "step": 4,
            "split": "valid",
            "family": "language model",
            "num_rows": 3,
            "num_classes": 5,
            "by_position": BY_POSITION,
            "sentences": [SENTENCE],
            "worst": [WORST],
        },
        f"samples/prediction-step-{step}.json": {
            "step": 4,
            "kind": "pairs",
            "split": "valid",
            "observed": VALUES,
            "mean": VALUES,
            "levels": [0.5, 0.9],
            "coverage": [0.4, 0.8],
        },
        f"samples/target-step-{step}.json": {
            "step": 4,
            "kind": "density",
            "dimension": 1,
            "axes": [[0.0, 1.0]],
            "target": [0.1, 0.2],
            "proposal": [0.1, 0.2],
            "components": [[0.1, 0.2]],
        },
        f"samples/profile-step-{step}.json": {
            "step": 4,
            "split": "valid",
            "num_rows": 2,
            "kl": change,
            "kl_by_latent": [change],
            "kl_by_step": {"mean": [0.5], "error": [0.1], "rows": [2]},
            "entries": ["x"],
            "rows": [
                {
                    "row": 0,
                    "latents": [{"latent": 0, "mean": [0.1], "variance": [1.0]}],
                    "outputs": [{"mean": [0.1], "scale": [1.0], "observed": [0.2]}],
                }
            ],
        },
        f"samples/trajectories-step-{step}.json": {
            "trajectories": [{"strings": [STRING], "note": "drawn", "log_q": None}]
        },
        "samples/by_step.json": {
            "step": 4,
            "num_rows": 2,
            "strings": [{"string": 1, "rows": 2, "total": change, "classes": {"end": change}}],
            "proposal": change,
        },
    }


def records() -> list[dict[str, Any]]:
    """Lines of `steps.jsonl`."""
    held_out = {"bound": estimate(-33.0).to_json(), "sites": sites(-29.0, 4.0)}
    train = held_out | {"loss": 33.0, "gradient_norm": 3.0}
    return [
        {"step": 0, "epoch": 0.0, "seconds": 0.0, "held_out": held_out},
        {"step": 4, "epoch": 1.0, "seconds": 1.0, "train": train, "held_out": held_out},
    ]


def _safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


STATE = _safetensors()


def write_run(folder: Path) -> Path:
    """The folder, whole and right."""
    for name, document in documents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    (folder / "steps.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records()))
    (folder / "checkpoints" / "step-00000004" / "state.safetensors").write_bytes(STATE)
    for step in (0, 4):
        made_evidence(step).save(folder / "evidence" / f"step-{step:08d}.npz")
    images = np.linspace(0, 1, 128).reshape(2, 8, 8)
    image_sheet(images, folder / "samples" / "prior-step-00000004.png", columns=2)
    return folder
