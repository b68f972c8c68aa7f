"""A run evaluated: the scored sites of one of its splits, with what they were made from."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tightbound.errors import UserError

if TYPE_CHECKING:
    from tightbound.data.batch import Split
    from tightbound.estimators.comparison import SequenceScores
    from tightbound.estimators.estimate import Estimate
    from tightbound.evaluation import Evaluation
    from tightbound.inference.filtering import Filtering
    from tightbound.models.base import AbstractProposal
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

EvaluatedBound = Literal["elbo", "iwae", "renyi", "cubo", "fivo"]
EvaluatedUnit = Literal[
    "nats per sequence",
    "nats per unit",
    "bits per unit",
    "perplexity",
    "nats per unit, mean over sequences",
]


@dataclass(frozen=True)
class Evaluated:
    """One run's split with its scored sites."""

    setup: "Setup"
    state: "TrainState"
    split: "Split"
    evaluation: "Evaluation"
    bound: "EvaluatedBound" = "elbo"  # that its draws were made for

    def estimate(
        self, *, unit: "EvaluatedUnit" = "nats per sequence", order: float | None = None
    ) -> "Estimate":
        """The bound with both its errors. UserError where it has no such unit, or where these settings
        are no probability model."""
        from tightbound.estimators.bounds import bound_estimate

        evaluation, setup = self.evaluation, self.setup
        if order is None and self.bound in ("renyi", "cubo"):
            order = 0.5 if self.bound == "renyi" else 2.0
        try:
            estimate = bound_estimate(
                evaluation.log_weights,
                bound=self.bound,
                order=order,
                split=evaluation.split,
                unit=unit,
                num_units=evaluation.num_units,
                num_particles=evaluation.num_particles,
                kind=evaluation.kind_of_bound(setup.is_bound),
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        if unit == "perplexity" and not setup.is_bound:
            raise UserError(
                f"{setup.name} is no probability model by its settings (no latent noise, or a squared "
                "error), so it has no perplexity. Ask for another unit; its figures say 'no bound'."
            )
        if self.split.given:
            estimate = with_shared_draws(estimate, evaluation, self.bound, order)
        return estimate

    def figures(self, seed: int = 0) -> "dict[str, Estimate]":
        """What the run's family measures beside the bound."""
        family = self.setup.family
        beside = None if family is None else family.load("figures")
        if beside is None:
            return {}
        return beside(self.setup, self.state, self.split, self.evaluation, seed)


def evaluate_split(
    setup: "Setup",
    state: "TrainState",
    split: str = "test",
    *,
    bound: "EvaluatedBound" = "elbo",
    num_samples: int | None = None,
    filtering: "Filtering | None" = None,
    max_rows: int | None = None,
    seed: int = 0,
) -> Evaluated:
    """The scored sites of a split. With `filtering` every draw is a filter's. No `num_samples` means
    those of `default_num_samples` for the bound."""
    import jax

    from tightbound.data.batch import first_rows

    if num_samples is not None and num_samples < 1:
        raise UserError(
            f"`num_samples` is {num_samples}, but a bound needs at least one draw per sequence. "
            "Give 1 for the ELBO, more for IWAE."
        )
    data = chosen_split(setup, split)
    if max_rows is not None and data.pooled and not data.given:
        raise UserError(
            f"The first {max_rows} rows of the {split} split were asked for, but its points are one data "
            "set: fewer of them are another, with another log p(D). Leave --max-rows out."
        )
    if max_rows is not None:
        data = first_rows(data, max_rows)
    proposal = setup.evaluated(state.proposal)
    if num_samples is None:
        num_samples = default_num_samples(bound, data, proposal)
    try:
        evaluation = setup.evaluator(
            state.model,
            proposal,
            data,
            num_samples=num_samples,
            key=jax.random.key(seed),
            noise=setup.noise,
            filtering=filtering,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    return Evaluated(setup, state, data, evaluation, bound)


def default_num_samples(bound: str, split: "Split", proposal: "AbstractProposal") -> int:
    """100, but for a mean over draws (or of filters) no more than are needed to have one of each
    component. Points that share their latents see so few of them that these need 100 for that too."""
    from tightbound.models.mixture import Mixture

    if bound == "fivo":
        return 1
    if bound != "elbo" or split.pooled:
        return 100
    return proposal.num_components if isinstance(proposal, Mixture) else 1


def with_shared_draws(
    estimate: "Estimate", evaluation: "Evaluation", bound: str, order: float | None
) -> "Estimate":
    """The estimate with the error over draws that all points share: what single points' errors add up
    to would be too small."""
    import numpy as np

    from tightbound.estimators.prediction import error_over_shared_draws

    powers = {"elbo": 0.0, "iwae": 1.0, "renyi": 1.0 - (order or 0.0), "cubo": order or 2.0}
    slopes = {"bits per unit": 1 / np.log(2), "perplexity": estimate.value}
    error = error_over_shared_draws(evaluation.log_weights, powers[bound])
    if error is not None:
        error = float(error * slopes.get(estimate.unit, 1.0))
    return replace(estimate, monte_carlo_error=error)


def filtering_of(bound: str, num_particles: int, threshold: float) -> "Filtering | None":
    """The filter a bound is made with; None where its draws are independent."""
    from tightbound.inference.filtering import Filtering

    if bound != "fivo":
        return None
    try:
        return Filtering(num_particles, threshold)
    except ValueError as error:
        raise UserError(str(error)) from error


def chosen_split(setup: "Setup", name: str) -> "Split":
    """The split of this name; UserError lists those there are."""
    if name not in setup.data:
        raise UserError(f"{setup.name} has no {name} split; it has: {', '.join(setup.data)}.")
    return setup.data[name]


def site_estimates(evaluation: "Evaluation") -> "dict[str, Estimate]":
    """What each site adds to the ELBO, with its error over rows; they sum to it."""
    from tightbound.estimators.units import per_sequence

    return {
        name: per_sequence(
            values,
            bound="none",
            estimator=f"{name} of the elbo",
            num_samples=len(evaluation.log_weights),
            split=evaluation.split,
        )
        for name, values in evaluation.site_means.items()
    }


def what_is_measured(split: "Split") -> str:
    """What the figures of a pooled split are of, as a sentence; "" for other data."""
    if not split.pooled:
        return ""
    if split.given:
        return (
            f"Points of {split.name} are predicted from the {split.given} split: figures per sequence are "
            "per point. `--split train` gives the bound on log p(D) itself."
        )
    return (
        "The points of train are one data set: the bound is on log p(D), in nats per data set. Other "
        "splits are predicted from it."
    )


def sequence_scores(evaluated: Evaluated) -> "SequenceScores":
    """Its bound on log p of every sequence, in nats."""
    import jax.numpy as jnp
    import numpy as np

    from tightbound.estimators.bounds import elbo, iwae_bound
    from tightbound.estimators.comparison import SequenceScores

    evaluation, name = evaluated.evaluation, evaluated.bound
    bound = iwae_bound if name == "iwae" else elbo
    return SequenceScores(
        log_p=np.asarray(bound(jnp.asarray(evaluation.log_weights)), np.float64),
        rows=evaluation.rows,
        num_units=evaluation.num_units,
        unit_name="sequence" if (evaluation.num_units == 1).all() else "position",
        split=evaluation.split,
        bound=evaluation.kind_of_bound(evaluated.setup.is_bound),
        estimator=name
        if evaluation.num_particles is None
        else f"{name}-{evaluation.num_particles}",
        num_samples=len(evaluation.log_weights),
        groups=evaluation.groups,
    )
