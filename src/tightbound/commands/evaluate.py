"""`tightbound evaluate RUN`: a bound with both its errors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tightbound.commands.options import (
    RunReference,
    parse,
    print_json,
    say,
    show,
    use_compilation_cache,
)
from tightbound.commands.working import working
from tightbound.errors import UserError
from tightbound.families.sequences.figures import stroke_figures
from tightbound.families.stein.figures import mixture_figures
from tightbound.families.stein.figures_points import point_figures, what_is_measured
from tightbound.report.tables import Table, TableFormat, short_form
from tightbound.runs.opened import open_run, split_reference

if TYPE_CHECKING:
    from tightbound.data.batch import Split
    from tightbound.estimators.estimate import Estimate
    from tightbound.evaluation import Evaluation
    from tightbound.inference.filtering import Filtering
    from tightbound.models.base import AbstractProposal
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a trained model."""

    run: RunReference
    """RUN or RUN@STEP; by default the newest checkpoint."""
    bound: Literal["elbo", "iwae", "renyi", "cubo", "fivo"] = "elbo"
    num_samples: int | None = None
    """Draws per sequence (of "fivo": filters). By default 1 for "fivo" and "elbo" (there one of each
    component of a mixture), 100 for the others and for latents that all points of a data set share."""
    num_particles: int = 128
    """fivo: of every filter."""
    threshold: float = 0.5
    """fivo: share of the particles below which the effective sample size makes them resample."""
    order: float | None = None
    """alpha of "renyi", n of "cubo"."""
    unit: Literal[
        "nats per sequence",
        "nats per unit",
        "bits per unit",
        "perplexity",
        "nats per unit, mean over sequences",
    ] = "nats per sequence"
    """The last is the average some papers report: of every sequence's own nats per unit."""
    split: Literal["train", "valid", "test"] = "test"
    max_rows: int | None = None
    """Only the first rows of the split."""
    set: tuple[str, ...] = ()
    """KEY=VALUE: settings of the run changed for this evaluation, as model.num-particles=16."""
    seed: int = 0
    """Of the data's noise and of the draws."""
    save: str | None = None
    """Write the log-weights here, as an .npz that `tightbound doctor` reads."""
    format: TableFormat = "text"
    """Of the table by site."""
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(EvaluateOptions, "evaluate", arguments)
    use_compilation_cache()
    from tightbound.estimators.bounds import bound_estimate

    with working("evaluate: reading the run"):
        evaluated = evaluate_run(
            *(options.run, options.split, options.num_samples, options.seed, options.max_rows),
            options.set,
            bound=options.bound,
            filtering=filtering_of(options.bound, options.num_particles, options.threshold),
        )
    evaluation = evaluated.evaluation
    order = options.order
    if order is None and options.bound in ("renyi", "cubo"):
        order = 0.5 if options.bound == "renyi" else 2.0
    try:
        estimate = bound_estimate(
            evaluation.log_weights,
            bound=options.bound,
            order=order,
            split=evaluation.split,
            unit=options.unit,
            num_units=evaluation.num_units,
            num_particles=evaluation.num_particles,
            kind=evaluation.kind_of_bound(evaluated.setup.is_bound),
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if options.unit == "perplexity" and not evaluated.setup.is_bound:
        raise UserError(
            f"{options.run} is no probability model by its settings (no latent noise, or a squared error), "
            "so it has no perplexity. Ask for another unit; its figures say 'no bound'."
        )
    if evaluated.split.given:
        estimate = with_shared_draws(estimate, evaluation, options.bound, order)
    sites = site_estimates(evaluation)
    parts = (evaluated.setup, evaluated.state, evaluated.split, evaluation, options.seed)
    with working("evaluate: other figures"):
        figures = stroke_figures(*parts) | point_figures(*parts) | mixture_figures(*parts)
    note = what_is_measured(evaluated.split)
    if options.save is not None:
        save_weights(Path(options.save), evaluation)
        say(f"Log-weights are in {options.save}.")
    if options.json:
        print_json(
            {
                "estimates": [estimate.to_json()],
                "sites": {name: value.to_json() for name, value in sites.items()},
                "figures": {name: value.to_json() for name, value in figures.items()},
                "notes": [note] if note else [],
            }
        )
    else:
        print_evaluation(estimate, sites, options.format)
        for name, value in figures.items():
            print(f"{name}: {value}")
        if note:
            print(note)
    return 0


@dataclass(frozen=True)
class Evaluated:
    """One run's split with its scored sites."""

    setup: "Setup"
    state: "TrainState"
    split: "Split"
    evaluation: "Evaluation"


def evaluate_run(
    reference: str,
    split: str,
    num_samples: int | None,
    seed: int,
    max_rows: int | None,
    changes: Sequence[str] = (),
    bound: str = "elbo",
    filtering: "Filtering | None" = None,
) -> Evaluated:
    """The scored sites of a run's split, with what they were made from. `changes` are settings of the
    run looked at in another way, `KEY=VALUE`; with `filtering` every draw is a filter's. No
    `num_samples` means those of `default_num_samples` for the bound."""
    import jax

    from tightbound.data.batch import first_rows

    if num_samples is not None and num_samples < 1:
        raise UserError(
            f"`num_samples` is {num_samples}, but a bound needs at least one draw per sequence. "
            "Give 1 for the ELBO, more for IWAE."
        )
    path, step = split_reference(reference)
    opened = open_run(path)
    setup = opened.build(changes)
    state = opened.state(setup, step)
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
    return Evaluated(setup, state, data, evaluation)


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


def save_weights(path: Path, evaluation: "Evaluation") -> None:
    """The log-weights in the format that other frameworks can write too: one array."""
    import numpy as np

    with open(path, "wb") as file:
        np.savez_compressed(
            file, log_weights=evaluation.log_weights, num_units=evaluation.num_units
        )


def print_evaluation(
    estimate: "Estimate", sites: "dict[str, Estimate]", table_format: TableFormat
) -> None:
    """The number with its claim, then its sites."""
    print(f"{estimate.estimator} on {estimate.split}: {estimate}\n")
    rows = tuple((name, short_form(value)) for name, value in sites.items())
    show(Table("The ELBO by site", ("site", "nats per sequence"), rows), table_format)
