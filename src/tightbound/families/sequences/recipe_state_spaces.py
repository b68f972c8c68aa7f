"""Plain state-space models of real series: the volatility of exchange rates, a population of nutria."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import tyro

from tightbound.families.sequences import FAMILY
from tightbound.families.sequences.objective import StepObjective
from tightbound.train.settings import OptimiserSettings, RunSettings
from tightbound.unread import refuse_unread, refuse_unread_of

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    import numpy as np
    from jaxtyping import PRNGKeyArray

    from tightbound.data.batch import Split
    from tightbound.models.stateful import AbstractStateSpace, AbstractStepwise
    from tightbound.models.twin import Twin
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class ExchangeRates:
    """Daily rates against the euro, of which stochastic volatility is the law."""

    source: Literal["exchange-rates"] = "exchange-rates"
    """Others, with settings of their own: nutria. They decide the family."""
    path: str | None = None
    """Your own file of the same format; None takes the published one."""
    currencies: tuple[str, ...] = ()
    """None names all twelve there are."""
    window: int = 250
    """Trading days in a sequence."""


@dataclass(frozen=True)
class Nutria:
    """Counts of a population that limits itself: theta-logistic growth."""

    source: Literal["nutria"] = "nutria"
    """Others, with settings of their own: exchange-rates. They decide the family."""
    path: str | None = None
    """Your own counts, one a line; None takes the published ones."""


SeriesData = ExchangeRates | Nutria


@dataclass(frozen=True)
class StateSpaceModel:
    """What the family leaves open."""

    full_noise: bool = True
    """exchange-rates: volatilities move together; False moves each for itself."""
    correlated_returns: bool = True
    """exchange-rates: returns are correlated given their volatilities, the same way every day."""
    student_t: bool = True
    """exchange-rates: heavy tails whose degrees of freedom are learned; False is Gaussian."""
    growth: Literal["exponential", "ricker", "theta-logistic"] = "theta-logistic"
    """nutria: how a population limits itself."""
    proposal: Literal["prior", "guided", "network"] = "guided"
    """What particles are drawn from: the model's own transition (the bootstrap filter); the same
    after a look at x_t, exactly (nutria) or to first order (exchange-rates); or a network."""
    network_size: int = 32
    """network: hidden units."""
    depth: int = 1
    """network: hidden layers."""
    min_scale: float = 1e-3
    """Floor of the baselines' scales, of a network's, and of both noises of the nutria's logs."""

    def __post_init__(self):
        if self.proposal != "network":
            refuse_unread(self, "proposal", "network_size", "depth")


@dataclass(frozen=True)
class StateSpaceRecipe:
    """A state-space model with learned parameters, trained and judged by a particle filter."""

    name: tyro.conf.Suppress[str]
    summary: tyro.conf.Suppress[str]
    data: tyro.conf.AvoidSubcommands[SeriesData] = field(default_factory=ExchangeRates)
    model: StateSpaceModel = field(default_factory=StateSpaceModel)
    objective: StepObjective = field(default_factory=lambda: StepObjective("fivo", num_samples=16))
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def _unread(self) -> tuple[str, ...]:
        """Settings of the model that the family of these data does not have."""
        if isinstance(self.data, Nutria):
            return ("full_noise", "correlated_returns", "student_t")
        return ("growth",)

    def build(self, seed: int) -> "Setup":
        """Load the series and make everything the run needs."""
        from functools import partial

        from tightbound.data.baselines.sequences import baseline_estimates, series_baselines
        from tightbound.train.run import run_keys
        from tightbound.train.schedules import optimiser
        from tightbound.train.setup import Setup

        refuse_unread_of(self.model, "data.source", self.data.source, self._unread())
        splits = _load(self.data)
        train, valid = splits["train"], splits["valid"]
        init_key, _, _ = run_keys(seed)
        model = _model(self.data, self.model, train.x.values[train.mask])
        objective = self.objective.build()
        rows = partial(series_baselines, train, min_scale=self.model.min_scale)
        return Setup(
            name=self.name,
            model=model,
            proposal=_proposal(self.model, model, init_key),
            data=splits,
            objective=objective,
            claim=objective,
            optimiser=optimiser(self.optimiser, self.run.steps),
            run=self.run,
            filtering=self.objective.filtering(),
            baselines=baseline_estimates(rows(valid), valid),
            baseline_rows=rows,
            twin=lambda key: _twin(self.data, self.model, key),
            family=FAMILY,
            seed=seed,
        )


def _load(data: SeriesData) -> "dict[str, Split]":
    from tightbound.data.sets.series import CURRENCIES, load_exchange_rates, load_nutria

    if isinstance(data, Nutria):
        return load_nutria(data.path)
    return load_exchange_rates(
        data.path, currencies=data.currencies or CURRENCIES, window=data.window
    )


def _model(
    data: SeriesData, settings: StateSpaceModel, steps: "np.ndarray", **first: Any
) -> "AbstractStateSpace":
    """The family of this series, begun at what all its training steps are together; `first` are
    other first values."""
    import jax.numpy as jnp
    import numpy as np

    from tightbound.families.sequences.model_population import ThetaLogistic
    from tightbound.families.sequences.model_volatility import StochasticVolatility

    if isinstance(data, Nutria):
        logs = np.log(steps.astype(float))
        law: dict[str, Any] = {
            "initial_mean": float(logs.mean()),
            "initial_scale": float(logs.std()),
        }
        return ThetaLogistic(
            growth_law=settings.growth, min_scale=settings.min_scale, **(law | first)
        )
    mean = jnp.asarray(2 * np.log(steps.astype(float).std(0)), float)
    first = {"num_steps": data.window} | first
    return StochasticVolatility(
        mean,
        full_noise=settings.full_noise,
        correlated_returns=settings.correlated_returns,
        df=8.0 if settings.student_t else None,
        **first,
    )


def _proposal(
    settings: StateSpaceModel, model: "AbstractStateSpace", key: "PRNGKeyArray"
) -> "AbstractStepwise":
    import equinox as eqx
    import jax.numpy as jnp

    from tightbound.families.sequences.model import StepProposal
    from tightbound.families.sequences.model_population import ThetaLogistic, ThetaLogisticOptimal
    from tightbound.families.sequences.model_volatility import LinearisedProposal
    from tightbound.models.stateful import FromPrior

    if settings.proposal == "prior":
        return FromPrior()
    if settings.proposal == "guided":
        return ThetaLogisticOptimal() if isinstance(model, ThetaLogistic) else LinearisedProposal()
    typical: Any = model.initial()
    num_series = len(typical.mean)
    proposal = StepProposal(
        num_series,
        num_series,
        num_series,
        network_size=settings.network_size,
        depth=settings.depth,
        min_scale=settings.min_scale,
        key=key,
    )
    # A network that begins around 0 would propose variances of 1 for all series.
    bias = jnp.concatenate([typical.mean, jnp.zeros(num_series)])
    return eqx.tree_at(lambda q: q.network.layers[-1].bias, proposal, bias)


def _twin(data: SeriesData, settings: StateSpaceModel, key: "PRNGKeyArray") -> "Twin":
    """The same family with one series of one step (nutria) or two, on a grid that holds nearly all
    mass and whose middle is likely."""
    import jax.numpy as jnp
    import numpy as np

    from tightbound.data.sequences import Sequence
    from tightbound.models.twin import Twin

    if isinstance(data, Nutria):
        num_steps, steps, line = 1, np.ones((2, 1)), np.linspace(0.01, 12.0, 1200)
        first = {"initial_mean": float(np.log(3.0)), "initial_scale": 0.2}
        first |= {"observation_scale": 0.2}
    else:
        num_steps, steps, line = 2, np.array([[-1.0], [1.0]]), np.linspace(-24.0, 24.0, 241)
        first = {"persistence": 0.5, "scale": 0.5}
    model = _model(data, settings, steps, num_steps=num_steps, **first)
    grid = np.stack(np.meshgrid(*[line] * num_steps, indexing="ij"), -1).reshape(-1, num_steps, 1)
    return Twin(
        model,
        _proposal(settings, model, key),
        Sequence(jnp.asarray(grid, float), np.ones(grid.shape[:2], bool)),
        log_cell_volume=float(num_steps * np.log(line[1] - line[0])),
    )


RECIPES: Mapping[str, StateSpaceRecipe] = {
    recipe.name: recipe
    for recipe in [
        StateSpaceRecipe(
            "ssm/stochastic-volatility",
            "daily returns of twelve currencies, with volatilities that wander: windows of 250 days",
            optimiser=OptimiserSettings(learning_rate=1e-2, decay="cosine", clip_norm=100.0),
            run=RunSettings(
                steps=600, batch_size=8, log_every=10, evaluate_every=100, checkpoint_every=250,
                evaluate_samples=1,
            ),
        ),
        StateSpaceRecipe(
            "ssm/nutria",
            "the monthly index of a population of nutria, which limits itself",
            data=Nutria(),
            model=StateSpaceModel(min_scale=0.01),
            objective=StepObjective("fivo", num_samples=64),
            optimiser=OptimiserSettings(learning_rate=2e-2, decay="cosine"),
            run=RunSettings(
                steps=2000, batch_size=1, log_every=10, evaluate_every=100, checkpoint_every=250,
                evaluate_samples=16,
            ),
        ),
    ]
}  # fmt: skip
