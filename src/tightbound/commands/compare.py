"""`tightbound compare RUN RUN`: two runs on the same rows, paired."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tightbound.commands.evaluate import evaluate_run
from tightbound.commands.options import (
    RunReference,
    parse,
    print_json,
    show,
    use_compilation_cache,
)
from tightbound.errors import UserError
from tightbound.report.tables import Table, TableFormat

if TYPE_CHECKING:
    from tightbound.estimators.comparison import SequenceScores
    from tightbound.evaluation import Evaluation


@dataclass(frozen=True)
class CompareOptions:
    """Compare two runs row by row, on the same data noise and with the same estimator."""

    first: RunReference
    """RUN or RUN@STEP."""
    second: RunReference
    bound: Literal["elbo", "iwae"] = "iwae"
    num_samples: int = 100
    unit: Literal["nats per sequence", "nats per unit", "bits per unit", "perplexity"] = (
        "nats per sequence"
    )
    split: Literal["train", "valid", "test"] = "test"
    max_rows: int | None = None
    seed: int = 0
    format: TableFormat = "text"
    """Of the table by site."""
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(CompareOptions, "compare", arguments)
    use_compilation_cache()
    from tightbound.estimators.comparison import compare

    evaluated = [
        evaluate_run(run, options.split, options.num_samples, options.seed, options.max_rows)
        for run in (options.first, options.second)
    ]
    scores = [_scores(*pair, options) for pair in evaluated]
    try:
        comparison = compare(*scores, unit=options.unit)
    except ValueError as error:
        raise UserError(str(error)) from error
    sites = site_differences(evaluated[0][0], evaluated[1][0], options.unit)
    if options.json:
        by_site = {
            name: {"difference": value, "standard_error": error}
            for name, (value, error) in sites.items()
        }
        print_json({"comparison": comparison.to_json(), "sites": by_site})
        return 0
    print(f"{options.first}: {comparison.first}")
    print(f"{options.second}: {comparison.second}")
    error = comparison.standard_error
    print(
        f"difference (first - second): {comparison.difference:+.4f} ± "
        f"{'unknown' if error is None else f'{error:.4f}'} {comparison.unit}, paired over "
        f"{comparison.num_sequences} sequences of {comparison.split}"
    )
    if error is not None:
        print(_verdict(comparison.difference, error, comparison.larger_is_better))
    if sites:
        print()
        rows = tuple(
            (name, f"{value:+.4f}", f"{error:.4f}") for name, (value, error) in sites.items()
        )
        unit = "nats per unit" if options.unit != "nats per sequence" else options.unit
        title = f"Difference of the ELBOs by site [{unit}]"
        show(Table(title, ("site", "first - second", "±"), rows), options.format)
    return 0


def site_differences(
    first: "Evaluation", second: "Evaluation", unit: str
) -> dict[str, tuple[float, float]]:
    """By site: the mean difference of what it adds to the ELBO, paired by row, and its standard
    error; per unit as sum over sum (delta method). None where the sites are not the same ones."""
    import numpy as np

    one, other = first.site_means, second.site_means
    if list(one) != list(other):
        return {}
    units = np.ones(len(first.rows)) if unit == "nats per sequence" else first.num_units

    def of_site(name: str) -> tuple[float, float]:
        difference = one[name] - other[name]
        ratio = difference.sum() / units.sum()
        spread = (difference - ratio * units).std(ddof=1) / np.sqrt(len(units)) / units.mean()
        return float(ratio), float(spread)

    return {name: of_site(name) for name in one}


def _scores(evaluation: "Evaluation", is_bound: bool, options: CompareOptions) -> "SequenceScores":
    import jax.numpy as jnp
    import numpy as np

    from tightbound.estimators.bounds import elbo, iwae_bound
    from tightbound.estimators.comparison import SequenceScores

    bound = elbo if options.bound == "elbo" else iwae_bound
    return SequenceScores(
        log_p=np.asarray(bound(jnp.asarray(evaluation.log_weights)), np.float64),
        rows=evaluation.rows,
        num_units=evaluation.num_units,
        unit_name="sequence" if (evaluation.num_units == 1).all() else "position",
        split=evaluation.split,
        bound="lower" if is_bound else "none",
        estimator=options.bound,
        num_samples=options.num_samples,
    )


def _verdict(difference: float, error: float, larger_is_better: bool) -> str:
    """A tie is called a tie."""
    if abs(difference) <= 2 * error:
        return "A tie: the difference is within two of its standard errors."
    first = (difference > 0) == larger_is_better
    return f"The {'first' if first else 'second'} is better."
