"""What `tightbound sample` draws of a run on counts."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

import tightbound as tb
from tightbound.families.sampling import Checkpoints, Drawn, at_least_one
from tightbound.train.folder import write_whole


@dataclass(frozen=True)
class CountSamples:
    """Counts drawn from the model, averaged, beside the held-out mean."""

    num: int = 1000
    """Draws of x."""
    seed: int = 0

    def write(
        self, setup: tb.Setup, state: tb.train.TrainState, folder: Path, checkpoints: Checkpoints
    ) -> Drawn:
        at_least_one(num=self.num)
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
