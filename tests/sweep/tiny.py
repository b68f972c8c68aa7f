"""The cheapest recipe there is, for sweeps that are really run: one number, one latent.

z ~ N(0, 1),  x | z ~ N(z + b, 1); q(z | x) = N(a x + c, exp(s)^2).
"""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
from jax.scipy.stats import norm
from jaxtyping import Array, Float

import tightbound as tb


class Shifted(tb.AbstractModel):
    kinds = {"z": tb.Kind.LATENT, "x": tb.Kind.OBSERVED}
    bias: Float[Array, ""]

    def sample_prior(self, key):
        return jax.random.normal(key)

    def score(self, x, z):
        return {"z": norm.logpdf(z)[None], "x": norm.logpdf(x, z + self.bias)}

    def sample_likelihood(self, z, key):
        return (z + self.bias + jax.random.normal(key))[None]


class Linear(tb.AbstractProposal):
    weights: Float[Array, " three"]

    def proposal(self, x):
        return dist.Normal(self.weights[0] * x[0] + self.weights[1], jnp.exp(self.weights[2]))


@dataclass(frozen=True)
class Start:
    bias: float = 0.0
    lags: tuple[int, ...] = ()
    """Added to the first bias, to see that lists arrive."""
    kind: Literal["zeros", "normal"] = "zeros"


@dataclass(frozen=True)
class TinyRecipe:
    """One number, one latent."""

    name: str = "tiny"
    summary: str = "one number, one latent"
    start: Start = field(default_factory=Start)
    learning_rate: float = 0.05
    run: tb.RunSettings = field(
        default_factory=lambda: tb.RunSettings(
            steps=20, batch_size=16, evaluate_every=10, checkpoint_every=10, evaluate_samples=1
        )
    )

    def build(self, seed: int) -> tb.Setup:
        if self.start.kind == "normal":
            raise ValueError("Only zeros can be started from.")
        x = np.random.default_rng(0).normal(1.0, 2.0**0.5, (96, 1)).astype(np.float32)
        parts = {"train": slice(0, 32), "valid": slice(32, 48), "test": slice(48, 96)}
        weights = 0.3 * jax.random.normal(jax.random.key(seed), (3,))
        return tb.Setup(
            name=self.name,
            model=Shifted(jnp.asarray(self.start.bias + sum(self.start.lags), float)),
            proposal=Linear(weights),
            data={name: tb.rows(name, x[rows]) for name, rows in parts.items()},
            objective=tb.Objective("elbo"),
            optimiser=optax.sgd(self.learning_rate),
            run=self.run,
            seed=seed,
        )


recipe = TinyRecipe()
