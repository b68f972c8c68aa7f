"""From one guide to a Stein mixture of eight: one line, and a bound one can compare.

Only the distance of z from the origin is seen, so the posterior is a ring, which no single Gaussian
covers. Everything else (fit, evaluate, the bound in nats) is the same for both.
"""

from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.stats import norm

import tightbound as tb


class Ring(tb.AbstractModel):
    """z ~ N(0, 2^2 I) in the plane,  x | z ~ N(|z|, 0.3^2)."""

    kinds = {"z": tb.Kind.LATENT, "x": tb.Kind.OBSERVED}

    def sample_prior(self, key):
        return 2 * jax.random.normal(key, (2,))

    def score(self, x, z):
        distance = jnp.sqrt((z**2).sum(keepdims=True))
        return {
            "z": norm.logpdf(z, scale=2.0).sum(keepdims=True),
            "x": norm.logpdf(x, distance, 0.3),
        }

    def sample_likelihood(self, z, key):
        return jnp.sqrt((z**2).sum(keepdims=True)) + 0.3 * jax.random.normal(key, (1,))


model = Ring()
data = tb.rows("train", np.array([[2.5]], np.float32), law="one distance")
adam = optax.adam(0.02)


def guide(key):
    return tb.models.MeanField(model.sample_prior, scale=0.3, key=key)


def fitted(inference: tb.stein.Inference, num_steps: int = 2000) -> tb.Evaluation:
    """4,000 draws of a proposal that was fitted to the one distance seen, weighed."""
    state = tb.init_state(model, inference.proposal, inference.optimiser)
    batches = islice(tb.training_batches(data, 1, seed=0), num_steps)
    for record in tb.fit(
        state, batches, inference.objective, inference.optimiser, key=jax.random.key(1)
    ):
        state = record.state
    return tb.evaluate(model, state.proposal, data, num_samples=4000, key=jax.random.key(2))


def main() -> None:
    one = fitted(tb.stein.single_guide(guide, adam, draws=16, key=jax.random.key(0)))
    many = fitted(
        tb.stein.stein_mixture(
            guide, adam, num_components=8, num_rows=1, draws=2, key=jax.random.key(0)
        )
    )
    for name, scores in {"one guide": one, "eight components": many}.items():
        for bound in ("elbo", "iwae"):
            estimate = tb.bound_estimate(scores.log_weights, bound=bound, split=scores.split)
            print(f"{name}, {bound}: {estimate}")

    radius = np.linspace(0, 12, 100_001)  # |z| has the Rayleigh density r / 4 exp(-r^2 / 8)
    density = radius / 4 * np.exp(-(radius**2) / 8) * np.asarray(norm.pdf(2.5, radius, 0.3))
    print(f"log p(x), exact: {np.log(np.trapezoid(density, radius)):.4f} nats")


if __name__ == "__main__":
    main()
