"""The conditional variational auto-encoder: images given their label."""

from collections.abc import Callable, Mapping
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.labelled import Labelled
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.vae import GaussianProposal
from tightbound.nn.activations import softplus
from tightbound.nn.outputs import AbstractOutput
from tightbound.terms import Kind


class ConditionalVAE(AbstractModel):
    """z ~ N(0, I),  x | z, y ~ output(f(z, y)).   Sohn et al. 2015 (NeurIPS), eq. 4, p(z | y) = p(z).

    The label y is given, not modelled: bounds are on log p(x | y). Sampling draws y uniformly.
    """

    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    decoder: eqx.nn.MLP  # f
    output: AbstractOutput
    latent_size: int = eqx.field(static=True)
    num_labels: int = eqx.field(static=True)

    def __init__(
        self,
        obs_size: int,
        latent_size: int,
        num_labels: int,
        output: AbstractOutput,
        *,
        hidden_size: int,
        depth: int = 1,
        activation: Callable[[Array], Array] = softplus,
        key: PRNGKeyArray,
    ):
        in_size = latent_size + num_labels
        self.decoder = eqx.nn.MLP(in_size, obs_size, hidden_size, depth, activation, key=key)
        self.output = output
        self.latent_size = latent_size
        self.num_labels = num_labels

    def sample_prior(self, key: PRNGKeyArray) -> Float[Array, " latent"]:
        return jax.random.normal(key, (self.latent_size,))

    def likelihood(
        self, z: Float[Array, " latent"], label: Int[Array | np.ndarray, ""]
    ) -> dist.Distribution:
        """The distribution of the image given z and its label."""
        return self.output(self.decoder(jnp.concatenate([z, one_hot(label, self.num_labels)])))

    def score(self, x: Labelled, z: Float[Array, " latent"]) -> dict[str, Float[Array, " time"]]:
        return {
            "z": norm.logpdf(z).sum(keepdims=True),
            "x": jnp.atleast_1d(self.likelihood(z, x.label).log_prob(x.image)),
        }

    def sample_likelihood(self, z: Float[Array, " latent"], key: PRNGKeyArray) -> Labelled:
        label_key, image_key = jax.random.split(key)
        label = jax.random.randint(label_key, (), 0, self.num_labels)
        image = self.likelihood(z, label).sample(image_key)
        return Labelled(image=jnp.asarray(image, float), label=label)

    def residual(self, x: Labelled, z: Float[Array, " latent"]) -> Float[Array, " obs"]:
        """What was observed less the mean of the output, in units of the data."""
        return jnp.asarray(x.image) - self.likelihood(z, x.label).mean


class ConditionalProposal(AbstractProposal):
    """q(z | x, y): the Gaussian proposal, its network fed the image and the label."""

    inner: GaussianProposal
    num_labels: int = eqx.field(static=True)

    def proposal(self, x: Labelled) -> dist.Distribution:
        return self.inner.proposal(jnp.concatenate([x.image, one_hot(x.label, self.num_labels)]))


def one_hot(label: Int[Array | np.ndarray, ""], num_labels: int) -> Float[Array, " labels"]:
    """1 at the label, 0 elsewhere."""
    return jax.nn.one_hot(label, num_labels)
