"""Variational auto-encoders on images: digits, MNIST, MNIST given its label, two stochastic layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import tyro

from tightbound.families.images import FAMILY
from tightbound.train.settings import (
    ObjectiveSettings,
    OptimiserSettings,
    PlateauSettings,
    RunSettings,
)

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    import numpy as np
    from jaxtyping import PRNGKeyArray

    from tightbound.models.base import AbstractModel, AbstractProposal
    from tightbound.nn.outputs import AbstractOutput
    from tightbound.train.setup import Setup, Twin


NUM_LABELS = 10  # what a conditional model is given: digits


@dataclass(frozen=True)
class ImageData:
    """Which images, and how what the model sees is made from the stored grey levels."""

    source: Literal["digits", "mnist", "mnist-static"] = "digits"
    path: str | None = None
    """Your own files of the same format; None takes the published ones."""
    law: Literal["dynamic", "static", "grey", "dequantised"] = "dynamic"
    """Bits drawn afresh at every visit, stored bits, grey levels in [0, 1], or those spread evenly."""
    num_valid: int | None = None
    """Rows held out of the training split; None takes the format's own number."""


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
        model, proposal = make_pair(self.model, self.objective, obs_size, init_key)
        raised = objective(self.objective)
        return Setup(
            name=self.name,
            model=model,
            proposal=proposal,
            data=splits,
            noise=noise,
            objective=raised,
            claim=raised,
            optimiser=optimiser(self.optimiser, self.run.steps),
            run=self.run,
            baselines=image_baselines(splits["train"], splits["valid"], self.model.output, levels),
            twin=lambda key: make_twin(self.model, self.objective, key),
            is_bound=self.objective.latent_noise and not self.objective.squared_error,
            family=FAMILY,
            collapse_is_best=_collapse_is_best(self, image_of(splits["train"].x), levels),
            seed=seed,
        )


def load_images(data: ImageData, *, conditional: bool):
    """The splits, the noising that makes what the model sees, and the largest stored value."""
    from tightbound.data.formats.idx import MNIST_LEVELS, load_mnist
    from tightbound.data.labelled import labelled
    from tightbound.data.noising import AsFloat, Binarise, Dequantise, Rescale
    from tightbound.data.sets.digits import DIGITS_LEVELS, load_digits
    from tightbound.data.sets.static_mnist import load_static_mnist
    from tightbound.errors import UserError

    levels = {"digits": DIGITS_LEVELS, "mnist": MNIST_LEVELS, "mnist-static": 1}[data.source]
    if (data.source == "mnist-static") != (data.law == "static"):
        raise UserError(
            f"The data source '{data.source}' was combined with the law '{data.law}'. "
            "'mnist-static' holds bits and takes 'static'; 'digits' and 'mnist' hold grey levels and "
            "take 'dynamic', 'grey' or 'dequantised'."
        )
    noising = {
        "dynamic": Binarise(levels),
        "static": AsFloat(),
        "grey": Rescale(levels),
        "dequantised": Dequantise(levels),
    }[data.law]
    if data.source == "mnist-static" and data.num_valid is not None:
        raise UserError(
            f"`data.num_valid` is {data.num_valid}, but 'mnist-static' comes with its own validation "
            "split. Leave it out."
        )
    held_out = {} if data.num_valid is None else {"num_valid": data.num_valid}
    if data.source == "digits":
        splits = load_digits(data.path, law=noising.law, **held_out)
    elif data.source == "mnist":
        splits = load_mnist(data.path, law=noising.law, **held_out)
    else:
        splits = load_static_mnist(data.path)
    if conditional:
        splits = {name: labelled(split) for name, split in splits.items()}
        largest = max(int(split.x.label.max()) for split in splits.values())
        if largest >= NUM_LABELS:
            raise UserError(
                f"The data have the label {largest}, but the conditional model knows the labels 0 to "
                f"{NUM_LABELS - 1}. Leave out the other classes."
            )
    return splits, noising, levels


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


def make_pair(
    settings: VAEModel, objective: ObjectiveSettings, obs_size: int, key: "PRNGKeyArray"
) -> "tuple[AbstractModel, AbstractProposal]":
    """The model and its proposal, with what the debugging settings switch off."""
    import jax

    from tightbound.errors import UserError
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
        if settings.fixed_proposal_scale is not None or settings.min_proposal_scale > 0:
            raise UserError(
                "A fixed or floored proposal scale was combined with the family 'deep-vae', whose "
                "proposal has neither. Use 'vae' or 'cvae'."
            )
        top: dict[str, Any] = {"top_hidden_size": settings.top_hidden_size}
        sizes = (obs_size, latent_size, settings.top_latent_size)
        model = DeepVAE(*sizes, output, **layers, **top, key=model_key)
        proposal = DeepProposal(*sizes, **layers, **top, key=proposal_key)
    if not objective.latent_noise:
        proposal = Noiseless(proposal)
    if objective.squared_error:
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


def make_twin(settings: VAEModel, objective: ObjectiveSettings, key: "PRNGKeyArray") -> "Twin":
    """The same family with one latent per layer and few enough observations to sum over them all:
    six bits, or one real number on a grid."""
    import itertools
    import math

    import numpy as np

    from tightbound.data.labelled import Labelled
    from tightbound.train.setup import Twin

    small = replace(settings, latent_size=1, top_latent_size=1, hidden_size=8, top_hidden_size=8)
    log_cell_volume = 0.0
    if settings.output == "bernoulli":
        x = np.array(list(itertools.product([0.0, 1.0], repeat=6)))
    else:
        width = min(settings.output_scale, 1.0) / 8
        reach = 12.0 * max(settings.output_scale, 1.0)
        x = np.arange(-reach, reach, width)[:, None]
        log_cell_volume = math.log(width)
    model, proposal = make_pair(small, objective, x.shape[1], key)
    if settings.family == "cvae":
        x = Labelled(image=x, label=np.zeros(len(x), np.int32))
    return Twin(model, proposal, observations=x, log_cell_volume=log_cell_volume)


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
