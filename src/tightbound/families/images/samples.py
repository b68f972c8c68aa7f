"""Samples of a run on images: the output's mean at draws of the prior, and reconstructions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tightbound.families.sampling import Checkpoints, Drawn, at_least_one

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class ImageSamples:
    """Draw images from the model, and rebuild held-out ones, as contact sheets (PNG)."""

    num: int = 64
    """Images of each kind."""
    columns: int = 16
    """Pictures in a line of a sheet."""
    seed: int = 0

    def write(
        self, setup: "Setup", state: "TrainState", folder: Path, checkpoints: Checkpoints
    ) -> Drawn:
        import jax

        from tightbound.data.batch import first_batch
        from tightbound.inference.reconstruction import prior_means, reconstructions
        from tightbound.report.draw.pictures import image_sheet, side_by_side

        at_least_one(num=self.num, columns=self.columns)
        key, step = jax.random.key(self.seed), f"step-{int(state.step):08d}"
        drawn = folder / f"prior-{step}.png"
        image_sheet(prior_means(state.model, self.num, key), drawn, self.columns)
        pairs = folder / f"reconstructions-{step}.png"
        rows = first_batch(setup.data["valid"], self.num)
        rebuilt = reconstructions(state.model, state.proposal, rows, setup.noise, key)
        side_by_side(*rebuilt, pairs, self.columns)
        return Drawn([drawn, pairs])
