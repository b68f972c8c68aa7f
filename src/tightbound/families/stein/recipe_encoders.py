"""Stein mixtures of encoders with one decoder: the auto-encoders of `vae`, m proposals for one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tyro

from tightbound.data.images import ImageData, load_images
from tightbound.errors import UserError
from tightbound.families.stein import FAMILY
from tightbound.families.stein.settings import MixtureSettings, inference, interaction
from tightbound.models.auto_encoders import VAEModel, make_pair, make_twin
from tightbound.train.settings import OptimiserSettings, RunSettings

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class SteinVAERecipe:
    """A variational auto-encoder on images whose proposal is a mixture of encoders."""

    name: tyro.conf.Suppress[str]
    summary: tyro.conf.Suppress[str]
    data: ImageData = field(default_factory=ImageData)
    model: VAEModel = field(default_factory=VAEModel)
    mixture: MixtureSettings = field(default_factory=MixtureSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def build(self, seed: int) -> "Setup":
        """Load the data and make everything the run needs."""
        import jax

        from tightbound.data.baselines.images import image_baselines
        from tightbound.data.labelled import image_of
        from tightbound.families.stein.details import Details
        from tightbound.models.mixture import mixture
        from tightbound.models.twin import Twin
        from tightbound.train.run import run_keys
        from tightbound.train.setup import Setup

        if self.mixture.is_points:
            raise UserError(
                f"The method '{self.mixture.method}' was asked for an auto-encoder, but its components "
                "are points in the space of latents, and these belong to single images. Use 'stein' "
                "or 'single-guide'."
            )
        splits, noise, levels = load_images(self.data, conditional=self.model.family == "cvae")
        obs_size = image_of(splits["train"].x).shape[1]
        init_key, _, _ = run_keys(seed)
        model, _ = make_pair(self.model, obs_size, init_key)
        found = inference(
            lambda key: make_pair(self.model, obs_size, key)[1],
            self.mixture,
            self.optimiser,
            steps=self.run.steps,
            num_rows=len(splits["train"]),
            key=jax.random.fold_in(init_key, 1),
        )

        def twin(key):
            single = make_twin(self.model, key)
            if self.mixture.method == "single-guide":
                return single
            make = lambda key: make_twin(self.model, key).proposal  # noqa: E731
            many = mixture(make, self.mixture.num_components, key=key)
            return Twin(single.model, many, single.observations, single.log_cell_volume)

        return Setup(
            name=self.name,
            model=model,
            proposal=found.proposal,
            data=splits,
            noise=noise,
            objective=found.objective,
            optimiser=found.optimiser,
            family=FAMILY,
            details=Details(interaction(self.mixture, num_rows=len(splits["train"]))),
            run=self.run,
            baselines=image_baselines(splits["train"], splits["valid"], self.model.output, levels),
            twin=twin,
            seed=seed,
        )


RECIPES: Mapping[str, SteinVAERecipe] = {
    recipe.name: recipe
    for recipe in [
        SteinVAERecipe(
            "stein/digits",
            "8x8 digits, five encoders, one decoder: no download, a minute or two on a laptop",
            data=ImageData("digits"),
            model=VAEModel(latent_size=8, hidden_size=64),
            optimiser=OptimiserSettings(learning_rate=2e-3),
            run=RunSettings(steps=2000, batch_size=64, checkpoint_every=500),
        ),
        SteinVAERecipe(
            "stein/mnist",
            "MNIST, dynamically binarised, five encoders 784-400-100 and one decoder, 15 epochs",
            data=ImageData("mnist"),
            run=RunSettings(steps=6984, batch_size=128, evaluate_every=466, checkpoint_every=466),
        ),
    ]
}
