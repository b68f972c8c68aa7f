"""The model of counts with hidden causes, its proposal, made-up data and a twin small enough to sum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

import tightbound as tb


class PoissonFactors(tb.AbstractModel):
    """z ~ N(0, I),  x_d | z ~ Poisson(exp(w_d . z + b_d))."""

    kinds = {"z": tb.Kind.LATENT, "x": tb.Kind.OBSERVED}

    weight: Float[Array, "obs latent"]
    bias: Float[Array, " obs"]

    def __init__(self, obs_size: int, latent_size: int, *, key: PRNGKeyArray):
        self.weight = 0.1 * jax.random.normal(key, (obs_size, latent_size))
        self.bias = jnp.zeros(obs_size)

    def sample_prior(self, key):
        return jax.random.normal(key, (self.weight.shape[1],))

    def counts(self, z):
        return dist.Poisson(jnp.exp(self.weight @ z + self.bias)).to_event(1)

    def score(self, x, z):
        return {
            "z": norm.logpdf(z).sum(keepdims=True),
            "x": jnp.atleast_1d(self.counts(z).log_prob(x)),
        }

    def sample_likelihood(self, z, key):
        return self.counts(z).sample(key).astype(float)


class LogCountProposal(tb.AbstractProposal):
    """q(z | x) is Gaussian; its network reads log(1 + x), so that large counts do not drown small ones."""

    network: eqx.nn.MLP

    def __init__(self, obs_size: int, latent_size: int, *, key: PRNGKeyArray):
        self.network = eqx.nn.MLP(obs_size, 2 * latent_size, 32, 1, jnp.tanh, key=key)

    def proposal(self, x):
        mean, log_scale = jnp.split(self.network(jnp.log1p(x)), 2)
        return dist.Normal(mean, jnp.exp(log_scale)).to_event(1)


def made_up_counts(num_rows: int = 1200, obs_size: int = 20) -> dict[str, tb.Split]:
    """Counts with two hidden causes: rows 0..799 train, 800..999 valid, the rest test."""
    rng = np.random.default_rng(0)
    cause = rng.normal(size=(num_rows, 2))
    weight = rng.normal(size=(2, obs_size))
    x = rng.poisson(np.exp(0.5 + cause @ weight * 0.5)).astype(np.float32)
    parts = {"train": slice(0, 800), "valid": slice(800, 1000), "test": slice(1000, None)}
    return {name: tb.rows(name, x[rows], law="made-up counts") for name, rows in parts.items()}


def twin(key: PRNGKeyArray) -> tb.Twin:
    """One count and one latent: `check` sums p(x | z) over 0..199 and integrates over z."""
    model_key, proposal_key = jax.random.split(key)
    return tb.Twin(
        model=PoissonFactors(1, 1, key=model_key),
        proposal=LogCountProposal(1, 1, key=proposal_key),
        observations=np.arange(200.0)[:, None],
    )
