"""Auto-encoders of images from their settings: a model, its proposal, and a twin small enough to sum."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tightbound.data.images import NUM_LABELS
from tightbound.models.twin import Twin
from tightbound.unread import refuse_unread, replaced

if TYPE_CHECKING:  # settings are looked up without JAX
    from jaxtyping import PRNGKeyArray

    from tightbound.models.base import AbstractModel, AbstractProposal
    from tightbound.nn.outputs import AbstractOutput


@dataclass(frozen=True)
class VAEModel:
    """Sizes and laws of the model and its proposal."""

    family: Literal["vae", "cvae", "deep-vae"] = "vae"
    latent_size: int = 100
    hidden_size: int = 400
    depth: int = 1
    """Hidden layers between stochastic ones."""
    top_latent_size: int = 50
    """deep-vae: latents of the second stochastic layer."""
    top_hidden_size: int = 100
    """deep-vae: hidden units between the stochastic layers."""
    activation: Literal["softplus", "relu", "tanh", "elu", "gelu"] = "softplus"
    output: Literal["bernoulli", "gaussian"] = "bernoulli"
    output_scale: float = 1.0
    """gaussian: the first value of the output's scale."""
    learn_output_scale: bool = True
    min_output_scale: float = 0.05
    """gaussian: the floor of the scale, part of the model's law."""
    min_proposal_scale: float = 0.0
    """A floor added to the proposal's learned scale."""
    fixed_proposal_scale: float | None = None
    """Holds the proposal's scale at this value instead of learning it."""

    def __post_init__(self):
        if self.family != "deep-vae":
            refuse_unread(self, "family", "top_latent_size", "top_hidden_size")
        else:
            refuse_unread(self, "family", "fixed_proposal_scale", "min_proposal_scale")
        if self.output == "bernoulli":
            refuse_unread(self, "output", "output_scale", "learn_output_scale", "min_output_scale")


def make_pair(
    settings: VAEModel,
    obs_size: int,
    key: "PRNGKeyArray",
    *,
    latent_noise: bool = True,
    squared_error: bool = False,
) -> "tuple[AbstractModel, AbstractProposal]":
    """The model and its proposal, with what the debugging settings switch off."""
    import jax

    from tightbound.models.cvae import ConditionalProposal, ConditionalVAE
    from tightbound.models.deep_vae import DeepProposal, DeepVAE
    from tightbound.models.vae import VAE, GaussianProposal
    from tightbound.models.wrappers import Noiseless, SquaredError
    from tightbound.nn.activations import activation

    model_key, proposal_key = jax.random.split(key)
    output = _output(settings)
    layers: dict[str, Any] = {
        "hidden_size": settings.hidden_size,
        "depth": settings.depth,
        "activation": activation(settings.activation),
    }
    scale: dict[str, Any] = {
        "min_scale": settings.min_proposal_scale,
        "fixed_scale": settings.fixed_proposal_scale,
    }
    latent_size = settings.latent_size
    if settings.family == "vae":
        model = VAE(obs_size, latent_size, output, **layers, key=model_key)
        proposal = GaussianProposal(obs_size, latent_size, **layers, **scale, key=proposal_key)
    elif settings.family == "cvae":
        num_labels = NUM_LABELS
        model = ConditionalVAE(obs_size, latent_size, num_labels, output, **layers, key=model_key)
        inner = GaussianProposal(
            obs_size + num_labels, latent_size, **layers, **scale, key=proposal_key
        )
        proposal = ConditionalProposal(inner, num_labels)
    else:
        top: dict[str, Any] = {"top_hidden_size": settings.top_hidden_size}
        sizes = (obs_size, latent_size, settings.top_latent_size)
        model = DeepVAE(*sizes, output, **layers, **top, key=model_key)
        proposal = DeepProposal(*sizes, **layers, **top, key=proposal_key)
    if not latent_noise:
        proposal = Noiseless(proposal)
    if squared_error:
        model = SquaredError(model)
    return model, proposal


def _output(settings: VAEModel) -> "AbstractOutput":
    from tightbound.nn.outputs import BernoulliOutput, GaussianOutput

    if settings.output == "bernoulli":
        return BernoulliOutput()
    return GaussianOutput(
        scale=settings.output_scale,
        min_scale=settings.min_output_scale,
        learned=settings.learn_output_scale,
    )


def make_twin(
    settings: VAEModel,
    key: "PRNGKeyArray",
    *,
    latent_noise: bool = True,
    squared_error: bool = False,
) -> Twin:
    """The same family with one latent per layer and few enough observations to sum over them all:
    six bits, or one real number on a grid."""
    import itertools
    import math

    import numpy as np

    from tightbound.data.labelled import Labelled

    small = replaced(settings, latent_size=1, hidden_size=8, top_latent_size=1, top_hidden_size=8)
    log_cell_volume = 0.0
    if settings.output == "bernoulli":
        x = np.array(list(itertools.product([0.0, 1.0], repeat=6)))
    else:
        width = min(settings.output_scale, 1.0) / 8
        reach = 12.0 * max(settings.output_scale, 1.0)
        x = np.arange(-reach, reach, width)[:, None]
        log_cell_volume = math.log(width)
    model, proposal = make_pair(
        small, x.shape[1], key, latent_noise=latent_noise, squared_error=squared_error
    )
    if settings.family == "cvae":
        x = Labelled(image=x, label=np.zeros(len(x), np.int32))
    return Twin(model, proposal, observations=x, log_cell_volume=log_cell_volume)
