"""Stein mixtures over the parameters of regressions and classifiers: latents that all points share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import tyro

from tightbound.errors import UserError
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
    from jaxtyping import PRNGKeyArray

    from tightbound.data.batch import Split
    from tightbound.data.point_tables import TargetScale
    from tightbound.models.point_model import AbstractPointModel
    from tightbound.models.twin import Twin
    from tightbound.train.setup import Setup

UCISource = Literal["yacht", "energy", "concrete", "wine", "protein"]
UCI: tuple[UCISource, ...] = get_args(UCISource)
CLASSES = ("two-classes", "mnist")


@dataclass(frozen=True)
class UCIData:
    """A set of the UCI repository with ten given folds."""

    source: UCISource = "yacht"
    """Others, with settings of their own: csv; line, wave, two-classes; mnist. For instance
    `--data.source csv --help`."""
    path: str | None = None
    """A folder with files of yours in the collection's format; None takes the published ones."""
    fold: int = 0
    """The given fold, 0 to 9, that is held out to test."""
    target: Literal["repository", "stored"] = "repository"
    """What published figures predict, or the last column as the collection has it."""


@dataclass(frozen=True)
class CSVData:
    """A table of your own: numbers, one point a line."""

    source: Literal["csv"] = "csv"
    """Others, with settings of their own: yacht, energy, concrete, wine, protein; line, wave,
    two-classes; mnist."""
    path: str | None = None
    """The file: cells apart by commas, semicolons, tabs or spaces, with or without a line of names."""
    target: str | None = None
    """Name of the column to predict, or its number where the file has no names; None: the last."""
    leave_out: tuple[str, ...] = ()
    """Columns that are neither target nor input."""
    fold: int = 0
    """Which of ten folds, 0 to 9, is held out to test."""


@dataclass(frozen=True)
class MadeUpPoints:
    """Points drawn from a known law."""

    source: Literal["line", "wave", "two-classes"] = "line"
    """Others, with settings of their own: csv; yacht, energy, concrete, wine, protein; mnist."""
    num_points: int = 100
    """Points to train on."""


@dataclass(frozen=True)
class MNISTPoints:
    """Images, whose classes are the target."""

    source: Literal["mnist"] = "mnist"
    """Others, with settings of their own: csv; yacht, energy, concrete, wine, protein; line, wave,
    two-classes."""
    path: str | None = None
    """A folder with your own four idx files; None takes the published ones."""


PointData = UCIData | CSVData | MadeUpPoints | MNISTPoints


@dataclass(frozen=True)
class PointModelSettings:
    """The law of a target given its inputs."""

    family: Literal["linear", "logistic", "network"] = "network"
    hidden_sizes: tuple[int, ...] = (50, 50)
    """network: units of every hidden layer."""
    activation: Literal["relu", "tanh", "softplus", "elu", "gelu"] = "relu"
    scale_by_fan_in: bool = False
    """network: weights have the prior variance 1 / inputs of their layer, not 1."""
    noise_scale: float = 0.5
    """linear: the known scale of the noise."""

    def __post_init__(self):
        if self.family != "network":
            refuse_unread(self, "family", "hidden_sizes", "activation", "scale_by_fan_in")
        if self.family != "linear":
            refuse_unread(self, "family", "noise_scale")


@dataclass(frozen=True)
class SteinPointRecipe:
    """A mixture over the parameters of a regression or a classifier; a step sees `batch_size` points."""

    name: tyro.conf.Suppress[str]
    summary: tyro.conf.Suppress[str]
    data: tyro.conf.AvoidSubcommands[PointData] = field(default_factory=UCIData)
    model: PointModelSettings = field(default_factory=PointModelSettings)
    guide: GuideSettings = field(default_factory=GuideSettings)
    mixture: MixtureSettings = field(default_factory=MixtureSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def build(self, seed: int) -> "Setup":
        """Load the points and make everything the run needs."""
        from tightbound.data.baselines.classes import class_baseline_rows
        from tightbound.data.baselines.regression import regression_baseline_rows
        from tightbound.data.baselines.sequences import baseline_estimates
        from tightbound.families.stein.details import Details
        from tightbound.train.run import run_keys
        from tightbound.train.setup import Setup

        splits, scale, notes = _load(self.data)
        init_key, _, _ = run_keys(seed)
        model = _model(self.model, self.data, splits["train"])
        self.mixture.refuse_model_rate(self.name)
        found = inference(
            self.guide.maker(self.mixture, model.sample_prior),
            self.mixture,
            self.optimiser,
            steps=self.run.steps,
            num_rows=1,
            key=init_key,
        )
        of_classes = self.data.source in CLASSES
        rows = partial(
            class_baseline_rows if of_classes else regression_baseline_rows, splits["train"]
        )
        return Setup(
            name=self.name,
            model=model,
            proposal=found.proposal,
            data=splits,
            objective=found.objective,
            optimiser=found.optimiser,
            run=self.run,
            baselines=baseline_estimates(rows(splits["valid"]), splits["valid"]),
            baseline_rows=rows,
            is_bound=self.mixture.is_bound,
            twin=_twin(self.model, self.guide, self.mixture),
            family=FAMILY,
            details=Details(interaction(self.mixture, num_rows=1), scale),
            notes=notes,
            seed=seed,
        )


def _load(data: PointData) -> "tuple[dict[str, Split], TargetScale | None, tuple[str, ...]]":
    """The splits, the scale of real targets that were normalised, and what is to be said of them."""
    from tightbound.data.formats.csv_points import load_csv_points
    from tightbound.data.sets.mnist_points import load_mnist_points
    from tightbound.data.sets.uci import load_uci
    from tightbound.data.toys.points import linear_points, two_classes, wave_points

    match data:
        case UCIData():
            return *load_uci(data.source, data.fold, data.path, target=data.target), ()
        case CSVData():
            if data.path is None:
                raise UserError(
                    "The data source 'csv' reads a table of yours: give --data.path FILE."
                )
            return load_csv_points(data.path, data.target, fold=data.fold, leave_out=data.leave_out)
        case MNISTPoints():
            return load_mnist_points(data.path), None, ()
    toy = {"line": linear_points, "wave": wave_points, "two-classes": two_classes}
    return toy[data.source](data.num_points), None, ()


def _model(settings: PointModelSettings, data: PointData, train: "Split") -> "AbstractPointModel":
    from tightbound.families.stein.model_network import BayesianNetwork
    from tightbound.families.stein.model_regression import (
        BayesianLinearRegression,
        BayesianLogisticRegression,
    )
    from tightbound.families.stein.response import ClassResponse, NormalResponse
    from tightbound.nn.activations import activation

    is_fit = {
        "linear": data.source not in CLASSES,
        "logistic": data.source == "two-classes",
        "network": True,
    }[settings.family]
    if not is_fit:
        raise UserError(
            f"The model '{settings.family}' was combined with the data '{data.source}'. Real targets "
            "take 'linear' or 'network', two classes 'logistic' or 'network', ten 'network'."
        )
    num_points, in_size = train.x.inputs.shape
    if settings.family == "linear":
        return BayesianLinearRegression(
            in_size, noise_scale=settings.noise_scale, num_points=min(num_points, 100)
        )
    if settings.family == "logistic":
        return BayesianLogisticRegression(in_size, num_points=min(num_points, 100))
    num_classes = {"mnist": 10, "two-classes": 2}.get(data.source)
    return BayesianNetwork(
        in_size,
        NormalResponse() if num_classes is None else ClassResponse(num_classes),
        settings.hidden_sizes,
        activation(settings.activation),
        scale_by_fan_in=settings.scale_by_fan_in,
        input_scale=255.0 if data.source == "mnist" else 1.0,
    )


def _twin(
    settings: PointModelSettings, guide: GuideSettings, mixed: MixtureSettings
) -> "Callable[[PRNGKeyArray], Twin] | None":
    """One weight and one point, whose targets are a grid of numbers or the two classes. None for
    networks, which have more weights than can be integrated over, and for points without a density."""
    import numpy as np

    from tightbound.data.points import Points, PointSet
    from tightbound.families.stein.model_regression import (
        BayesianLinearRegression,
        BayesianLogisticRegression,
    )
    from tightbound.models.mixture import mixture
    from tightbound.models.twin import Twin

    if settings.family == "network" or mixed.is_points:
        return None
    if settings.family == "linear":
        model = BayesianLinearRegression(1, bias=False, noise_scale=settings.noise_scale)
        reach, width = 4 + 6 * settings.noise_scale, min(settings.noise_scale / 4, 0.05)
        targets = np.arange(-reach, reach, width, dtype=np.float32)
        log_cell_volume = float(np.log(targets[1] - targets[0]))
    else:
        model = BayesianLogisticRegression(1, bias=False)
        targets, log_cell_volume = np.arange(2, dtype=np.int32), 0.0
    ones = np.ones((len(targets), 1), np.float32)
    grid = PointSet(Points(0.7 * ones[:, None], targets[:, None]), ones)
    # as wide as the prior: weights are compared where components overlap
    make = replace(guide, start_scale=1.0).maker(mixed, model.sample_prior)

    def twin(key):
        if mixed.method == "single-guide":
            return Twin(model, make(key), grid, log_cell_volume)
        return Twin(model, mixture(make, mixed.num_components, key=key), grid, log_cell_volume)

    return twin


_UCI_RUN = RunSettings(
    steps=6000,
    batch_size=100,
    log_every=100,
    evaluate_every=1000,
    evaluate_samples=100,
    checkpoint_every=3000,
)


def _uci(source: UCISource) -> SteinPointRecipe:
    return SteinPointRecipe(
        f"stein/{source}",
        f"UCI {source}: a Bayesian network of 2 x 50 units, five components",
        data=UCIData(source),
        guide=GuideSettings(start_scale=0.02, start_spread=0.3),
        mixture=MixtureSettings(draws=2),
        optimiser=OptimiserSettings(learning_rate=1e-2, decay="cosine"),
        run=_UCI_RUN,
    )


_TOY_RUN = RunSettings(
    steps=3000, batch_size=100, evaluate_every=500, evaluate_samples=100, checkpoint_every=1500
)

RECIPES: Mapping[str, SteinPointRecipe] = {
    recipe.name: recipe
    for recipe in [
        SteinPointRecipe(
            "stein/line",
            "a conjugate regression whose log p(D) is known, three components of full rank",
            data=MadeUpPoints("line"),
            model=PointModelSettings("linear"),
            guide=GuideSettings("full-rank"),
            mixture=MixtureSettings(num_components=3, draws=4, repulsion=0.1),
            optimiser=OptimiserSettings(learning_rate=0.02, decay="cosine"),
            run=_TOY_RUN,
        ),
        SteinPointRecipe(
            "stein/two-classes",
            "Bayesian logistic regression on two clouds, five components",
            data=MadeUpPoints("two-classes"),
            model=PointModelSettings("logistic"),
            mixture=MixtureSettings(draws=4),
            optimiser=OptimiserSettings(learning_rate=0.02, decay="cosine"),
            run=_TOY_RUN,
        ),
        SteinPointRecipe(
            "stein/wave",
            "a wave seen at both its ends: a network that must not be sure in between",
            data=MadeUpPoints("wave", num_points=400),
            model=PointModelSettings(hidden_sizes=(20,), activation="tanh", scale_by_fan_in=True),
            guide=GuideSettings(start_scale=0.05),
            mixture=MixtureSettings(draws=2),
            optimiser=OptimiserSettings(learning_rate=0.01, decay="cosine"),
            run=RunSettings(
                steps=5000,
                batch_size=400,
                evaluate_every=500,
                evaluate_samples=100,
                checkpoint_every=2500,
            ),
        ),
        *(_uci(source) for source in UCI),
        SteinPointRecipe(
            "stein/mnist-network",
            "MNIST classes from a Bayesian network of 100 tanh units, five components",
            data=MNISTPoints(),
            model=PointModelSettings(hidden_sizes=(100,), activation="tanh"),
            guide=GuideSettings(start_scale=0.02, start_spread=0.1),
            optimiser=OptimiserSettings(learning_rate=2e-3, decay="cosine"),
            run=RunSettings(
                steps=20_000,
                batch_size=128,
                log_every=100,
                evaluate_every=2000,
                evaluate_samples=55,
                checkpoint_every=5000,
            ),
        ),
    ]
}
