"""Variational auto-encoders on images: digits, MNIST, MNIST given its label, two stochastic layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tyro

from tightbound.data.images import ImageData, load_images
from tightbound.families.images import FAMILY
from tightbound.models.auto_encoders import VAEModel, make_pair, make_twin
from tightbound.train.settings import (
    ObjectiveSettings,
    OptimiserSettings,
    PlateauSettings,
    RunSettings,
)

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    import numpy as np

    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class VAERecipe:
    """A variational auto-encoder on images."""

    name: tyro.conf.Suppress[str]
    summary: tyro.conf.Suppress[str]
    data: ImageData = field(default_factory=ImageData)
    model: VAEModel = field(default_factory=VAEModel)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def build(self, seed: int) -> "Setup":
        """Load the data and make everything the run needs."""
        from tightbound.data.baselines.images import image_baselines
        from tightbound.data.labelled import image_of
        from tightbound.train.run import run_keys
        from tightbound.train.schedules import objective, optimiser
        from tightbound.train.setup import Setup

        splits, noise, levels = load_images(self.data, conditional=self.model.family == "cvae")
        obs_size = image_of(splits["train"].x).shape[1]
        init_key, _, _ = run_keys(seed)
        switched: dict[str, Any] = {
            "latent_noise": self.objective.latent_noise,
            "squared_error": self.objective.squared_error,
        }
        model, proposal = make_pair(self.model, obs_size, init_key, **switched)
        bound = objective(self.objective)
        return Setup(
            name=self.name,
            model=model,
            proposal=proposal,
            data=splits,
            noise=noise,
            objective=bound,
            claim=bound,
            optimiser=optimiser(self.optimiser, self.run.steps),
            run=self.run,
            baselines=image_baselines(splits["train"], splits["valid"], self.model.output, levels),
            twin=lambda key: make_twin(self.model, key, **switched),
            is_bound=self.objective.latent_noise and not self.objective.squared_error,
            family=FAMILY,
            collapse_is_best=_collapse_is_best(self, image_of(splits["train"].x), levels),
            seed=seed,
        )


def _collapse_is_best(recipe: VAERecipe, stored: "np.ndarray", levels: int) -> bool:
    """Whether the settings make the trivial solution stable, so that a KL of zero is no fault.

    A KL weight above 1 can; so does a fixed output noise s with s^2 above the largest eigenvalue of
    the data's covariance (Lucas et al. 2019, arXiv:1911.02469, sec. 4: for a linear decoder).
    """
    import numpy as np

    if recipe.objective.kl_weight > 1.0:
        return True
    if recipe.model.output != "gaussian" or recipe.model.learn_output_scale:
        return False
    x = np.asarray(stored[:1000], np.float64) / levels
    return recipe.model.output_scale**2 > np.linalg.eigvalsh(np.cov(x.T))[-1]


RECIPES: Mapping[str, VAERecipe] = {
    recipe.name: recipe
    for recipe in [
        VAERecipe(
            "vae/digits",
            "8x8 digits that ship with scikit-learn: no download, a minute on a laptop",
            data=ImageData("digits"),
            model=VAEModel(latent_size=8, hidden_size=128),
            optimiser=OptimiserSettings(learning_rate=2e-3),
            run=RunSettings(steps=2000, batch_size=64, checkpoint_every=500),
        ),
        VAERecipe(
            "vae/mnist",
            "MNIST, dynamically binarised, the classic 784-400-100 example, 15 epochs",
            data=ImageData("mnist"),
            run=RunSettings(steps=6984, batch_size=128, evaluate_every=466, checkpoint_every=466),
        ),
        VAERecipe(
            "vae/mnist-static",
            "MNIST binarised once (Larochelle & Murray 2011), the same architecture",
            data=ImageData("mnist-static", law="static"),
            run=RunSettings(
                steps=5850,
                batch_size=128,
                evaluate_every=390,
                checkpoint_every=390,
                plateau=PlateauSettings(patience=4),
            ),
        ),
        VAERecipe(
            "cvae/mnist",
            "MNIST given its label, dynamically binarised",
            data=ImageData("mnist"),
            model=VAEModel(family="cvae", latent_size=50),
            run=RunSettings(steps=6984, batch_size=128, evaluate_every=466, checkpoint_every=466),
        ),
        VAERecipe(
            "vae/mnist-deep",
            "two stochastic layers, doubly reparameterised IWAE with 50 samples (Burda et al. 2016)",
            data=ImageData("mnist"),
            model=VAEModel(
                family="deep-vae", latent_size=100, hidden_size=200, depth=2, activation="tanh"
            ),
            objective=ObjectiveSettings(estimator="iwae", num_samples=50, path="doubly"),
            optimiser=OptimiserSettings(decay="cosine", final_fraction=0.01),
            run=RunSettings(
                steps=298_000,  # 100 epochs of 2,980 batches of 20, the batch size of Burda et al.
                batch_size=20,
                log_every=100,
                evaluate_every=14_900,
                checkpoint_every=14_900,
            ),
        ),
    ]
}
