"""`tightbound evaluate RUN`: a bound with both its errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tightbound.commands.options import RunReference, parse, print_json, show
from tightbound.commands.working import working
from tightbound.report.tables import Table, TableFormat, short_form
from tightbound.report.terminal import say
from tightbound.runs.compilation import use_compilation_cache
from tightbound.runs.evaluated import (
    EvaluatedBound,
    EvaluatedUnit,
    site_estimates,
    what_is_measured,
)
from tightbound.runs.opened import open_run, split_reference

if TYPE_CHECKING:
    from tightbound.estimators.estimate import Estimate
    from tightbound.evaluation import Evaluation


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate a trained model."""

    run: RunReference
    """RUN or RUN@STEP; by default the newest checkpoint."""
    bound: EvaluatedBound = "elbo"
    num_samples: int | None = None
    """Draws per sequence (of "fivo": filters). By default 1 for "fivo" and "elbo" (there one of each
    component of a mixture), 100 for the others and for latents that all points of a data set share."""
    num_particles: int = 128
    """fivo: of every filter."""
    threshold: float = 0.5
    """fivo: share of the particles below which the effective sample size makes them resample."""
    order: float | None = None
    """alpha of "renyi", n of "cubo"."""
    unit: EvaluatedUnit = "nats per sequence"
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
    path, step = split_reference(options.run)
    with working("evaluate: reading the run"):
        evaluated = open_run(path).evaluate(
            options.split,
            bound=options.bound,
            num_samples=options.num_samples,
            num_particles=options.num_particles,
            threshold=options.threshold,
            max_rows=options.max_rows,
            seed=options.seed,
            step=step,
            changes=options.set,
        )
    evaluation = evaluated.evaluation
    estimate = evaluated.estimate(unit=options.unit, order=options.order)
    sites = site_estimates(evaluation)
    with working("evaluate: other figures"):
        figures = evaluated.figures(options.seed)
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
