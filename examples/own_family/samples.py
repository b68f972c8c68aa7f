"""What `tightbound sample` draws of a run on counts."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

import tightbound as tb
from tightbound.families.sampling import Checkpoints, Drawn
from tightbound.files.writing import write_whole
from tightbound.values import Rows, Seed, require_meant


@dataclass(frozen=True)
class CountSamples:
    """Counts drawn from the model, averaged, beside the held-out mean."""

    num: Rows = 1000
    """Draws of x."""
    seed: Seed = 0

    def __post_init__(self):
        require_meant(self)  # a value that cannot be meant is refused when it is given

    def write(
        self, setup: tb.Setup, state: tb.train.TrainState, folder: Path, checkpoints: Checkpoints
    ) -> Drawn:
        keys = jax.random.split(jax.random.key(self.seed), self.num)
        drawn = jax.vmap(lambda key: state.model.sample(key)[1])(keys)
        document = {
            "schema": 1,
            "step": int(state.step),
            "drawn": np.asarray(drawn, float).mean(0).tolist(),
            "held_out": np.asarray(setup.data["valid"].x, float).mean(0).tolist(),
        }
        path = folder / f"counts-step-{int(state.step):08d}.json"
        write_whole(path, json.dumps(document) + "\n")
        return Drawn([path], {"counts": document})
