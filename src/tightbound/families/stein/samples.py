"""Samples of a Stein mixture: predictions of points, a proposal beside its target, or images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tightbound.errors import UserError
from tightbound.families.sampling import Checkpoints, Drawn, at_least_one

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

_IMAGES, _COLUMNS, _OF_POINTS, _OF_A_COMPONENT = 64, 16, 200, 1000


@dataclass(frozen=True)
class SteinSamples:
    """For regression and classification runs: predictions on held-out points. For known densities: the
    proposal beside the target. For images: draws, and reconstructions by every component."""

    num: int | None = None
    """Draws of the latents, for points in all (200 by default), for a known density from every component
    (1000); images (64)."""
    columns: int | None = None
    """Of images: pictures in a line of a sheet (16 by default)."""
    seed: int = 0

    def write(
        self, setup: "Setup", state: "TrainState", folder: Path, checkpoints: Checkpoints
    ) -> Drawn:
        from tightbound.families.stein.model_target import AbstractTarget

        at_least_one(num=self.num, columns=self.columns)
        of_target = isinstance(setup.model, AbstractTarget)
        of_points = setup.data["train"].pooled
        if self.columns is not None and (of_target or of_points):
            raise UserError(
                f"--columns is for runs on images, and this is one on "
                f"{'a known density' if of_target else 'points'}. Leave it out."
            )
        if of_target:
            from tightbound.families.stein.samples_targets import write_target

            num = self.num or _OF_A_COMPONENT
            return Drawn(write_target(setup, state, folder, num=num, seed=self.seed))
        if of_points:
            from tightbound.families.stein.samples_points import write_predictions

            num = self.num or _OF_POINTS
            return Drawn(write_predictions(setup, state, folder, num=num, seed=self.seed))
        return Drawn(self._images(setup, state, folder))

    def _images(self, setup: "Setup", state: "TrainState", folder: Path) -> list[Path]:
        """Contact sheets: draws, reconstructions, and reconstructions by every component."""
        import jax

        from tightbound.data.batch import first_batch
        from tightbound.inference.reconstruction import (
            prior_means,
            reconstructions,
            reconstructions_by_component,
        )
        from tightbound.models.mixture import Mixture
        from tightbound.report.draw.pictures import image_sheet, side_by_side

        num, columns = self.num or _IMAGES, self.columns or _COLUMNS
        key, step = jax.random.key(self.seed), f"step-{int(state.step):08d}"
        names = ("prior", "reconstructions", "components")
        files = [folder / f"{name}-{step}.png" for name in names]
        valid, pair = setup.data["valid"], (state.model, state.proposal)
        image_sheet(prior_means(state.model, num, key), files[0], columns)
        rebuilt = reconstructions(*pair, first_batch(valid, num), setup.noise, key)
        side_by_side(*rebuilt, files[1], columns)
        if not isinstance(state.proposal, Mixture):  # a single guide
            return files[:2]
        lines = reconstructions_by_component(*pair, first_batch(valid, columns), setup.noise, key)
        image_sheet(lines.reshape(-1, *lines.shape[2:]), files[2], lines.shape[1])
        return files
