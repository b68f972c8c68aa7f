"""The settings of a run on counts. Importing this imports no JAX."""

from dataclasses import dataclass, field
from typing import ClassVar

import tyro

import tightbound as tb
from own_family import FAMILY
from tightbound.families.family import Family


@dataclass(frozen=True)
class PoissonRecipe:
    """Poisson counts with hidden causes."""

    family: ClassVar[Family] = FAMILY

    name: tyro.conf.Suppress[str] = "poisson-factors"
    summary: tyro.conf.Suppress[str] = "counts that share hidden causes"
    latent_size: int = 2
    learning_rate: float = 5e-3
    run: tb.RunSettings = field(
        default_factory=lambda: tb.RunSettings(
            steps=1000, batch_size=64, evaluate_every=100, checkpoint_every=250
        )
    )

    def build(self, seed: int) -> tb.Setup:
        """Draw the data and make everything the run needs."""
        import jax
        import optax

        from own_family.model import LogCountProposal, PoissonFactors, made_up_counts, twin

        model_key, proposal_key = jax.random.split(jax.random.key(seed))
        return tb.Setup(
            name=self.name,
            model=PoissonFactors(20, self.latent_size, key=model_key),
            proposal=LogCountProposal(20, self.latent_size, key=proposal_key),
            data=made_up_counts(),
            objective=tb.Objective("elbo"),
            optimiser=optax.adam(self.learning_rate),
            run=self.run,
            twin=twin,
            family=FAMILY,
            seed=seed,
        )


RECIPES = {"poisson-factors": PoissonRecipe()}
