"""Stein mixtures on target densities without data, where the right answer is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import tyro

from tightbound.families.stein import FAMILY
from tightbound.families.stein.settings import (
    GuideSettings,
    MixtureSettings,
    inference,
    interaction,
)
from tightbound.train.settings import OptimiserSettings, RunSettings
from tightbound.unread import refuse_unread

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    from jaxtyping import Array, PRNGKeyArray

    from tightbound.families.stein.model_target import AbstractTarget
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class TargetSettings:
    """The density that is fitted; log Z = 0, so minus the ELBO is a KL."""

    family: Literal["gaussian", "correlated-gaussian", "two-modes"] = "gaussian"
    latent_size: int = 10
    correlation: float = 0.5
    """correlated-gaussian: of neighbours."""

    def __post_init__(self):
        if self.family != "correlated-gaussian":
            refuse_unread(self, "family", "correlation")


@dataclass(frozen=True)
class SteinTargetRecipe:
    """A mixture fitted to a known density."""

    name: tyro.conf.Suppress[str]
    summary: tyro.conf.Suppress[str]
    target: TargetSettings = field(default_factory=TargetSettings)
    guide: GuideSettings = field(default_factory=GuideSettings)
    mixture: MixtureSettings = field(default_factory=MixtureSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def build(self, seed: int) -> "Setup":
        """The density, its proposal and what fits one to the other."""
        from tightbound.data.no_data import target_splits
        from tightbound.families.stein.details import Details
        from tightbound.train.run import run_keys
        from tightbound.train.setup import Setup

        init_key, _, _ = run_keys(seed)
        model = _target(self.target)
        self.mixture.refuse_model_rate(self.name)
        found = inference(
            self.guide.maker(self.mixture, self._sample_start),
            self.mixture,
            self.optimiser,
            steps=self.run.steps,
            num_rows=1,
            key=init_key,
        )
        return Setup(
            name=self.name,
            model=model,
            proposal=found.proposal,
            data=target_splits(),
            objective=found.objective,
            optimiser=found.optimiser,
            family=FAMILY,
            details=Details(interaction(self.mixture, num_rows=1)),
            run=self.run,
            is_bound=self.mixture.is_bound,
            seed=seed,
        )

    def _sample_start(self, key: "PRNGKeyArray") -> "Array":
        """Not a draw of the target: that would be the answer."""
        import jax

        return jax.random.normal(key, (self.target.latent_size,))


def _target(settings: TargetSettings) -> "AbstractTarget":
    from tightbound.families.stein.model_target import (
        CorrelatedGaussianTarget,
        GaussianMixtureTarget,
        GaussianTarget,
    )

    size = settings.latent_size
    match settings.family:
        case "gaussian":
            return GaussianTarget(size)
        case "correlated-gaussian":
            return CorrelatedGaussianTarget(size, correlation=settings.correlation)
        case "two-modes":
            return GaussianMixtureTarget(size)


_RUN = RunSettings(
    steps=5000, batch_size=1, evaluate_every=500, evaluate_samples=1000, checkpoint_every=2500
)
_FALLING = OptimiserSettings(learning_rate=0.05, decay="cosine")

RECIPES: Mapping[str, SteinTargetRecipe] = {
    recipe.name: recipe
    for recipe in [
        SteinTargetRecipe(
            "stein/gaussian",
            "N(0, I) in ten dimensions, five components: the variance must be 1",
            guide=GuideSettings(start_scale=0.5, start_spread=2.0),
            mixture=MixtureSettings(draws=4, repulsion=0.1),
            optimiser=_FALLING,
            run=_RUN,
        ),
        SteinTargetRecipe(
            "stein/two-modes",
            "1/2 N(-3, 1) + 1/2 N(3, 1), twenty components: each mode must hold a half",
            target=TargetSettings("two-modes", latent_size=1),
            guide=GuideSettings(start_scale=0.5, start_spread=4.0),
            mixture=MixtureSettings(num_components=20, draws=4),
            optimiser=_FALLING,
            run=_RUN,
        ),
    ]
}
