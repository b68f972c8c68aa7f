"""`tightbound compare RUN RUN`: two runs on the same rows, paired."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tightbound.commands.options import RunReference, parse, print_json, show
from tightbound.errors import UserError
from tightbound.estimators.estimate import number_text
from tightbound.report.tables import Table, TableFormat
from tightbound.runs.compilation import use_compilation_cache
from tightbound.runs.evaluated import Evaluated, sequence_scores, with_shared_draws
from tightbound.runs.opened import open_run, split_reference

if TYPE_CHECKING:
    from tightbound.estimators.comparison import Comparison, SequenceScores
    from tightbound.evaluation import Evaluation


@dataclass(frozen=True)
class CompareOptions:
    """Compare two runs row by row, on the same data noise and with the same estimator."""

    first: RunReference
    """RUN or RUN@STEP."""
    second: RunReference
    """RUN or RUN@STEP, or a baseline of the first run, as "ar1-gaussian"."""
    bound: Literal["elbo", "iwae", "fivo"] = "iwae"
    num_samples: int | None = None
    """Draws per sequence (of "fivo": filters); by default 1 for "fivo", 100 for the others."""
    num_particles: int = 128
    """fivo: of every filter."""
    unit: Literal["nats per sequence", "nats per unit", "bits per unit", "perplexity"] = (
        "nats per sequence"
    )
    split: Literal["train", "valid", "test"] = "test"
    max_rows: int | None = None
    by_group: bool = False
    """Cluster the error by the split's groups (writers), whose rows are not independent."""
    seed: int = 0
    format: TableFormat = "text"
    """Of the table by site."""
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(CompareOptions, "compare", arguments)
    use_compilation_cache()
    import numpy as np

    from tightbound.estimators.comparison import compare

    num_samples = options.num_samples
    if num_samples is None:
        num_samples = 1 if options.bound == "fivo" else 100

    def evaluated(reference: str) -> Evaluated:
        path, step = split_reference(reference)
        return open_run(path).evaluate(
            options.split,
            bound=options.bound,
            num_samples=num_samples,
            num_particles=options.num_particles,
            max_rows=options.max_rows,
            seed=options.seed,
            step=step,
        )

    one = evaluated(options.first)
    first = sequence_scores(one)
    if Path(split_reference(options.second)[0]).is_dir():
        other = evaluated(options.second)
        second = sequence_scores(other)
    else:
        other, second = None, _baseline(options.second, one, first)
    try:
        comparison = compare(first, second, unit=options.unit, by_group=options.by_group)
    except ValueError as error:
        raise UserError(str(error)) from error
    draws_error = None
    # pairing takes the rows' spread away, but not that of draws all rows share; a single row has no spread
    if one.split.given or len(one.evaluation.rows) == 1:
        comparison, draws_error = with_draws(comparison, one, other, options.bound)
    sites = {}
    if other is not None:
        sites = site_differences(one.evaluation, other.evaluation, options.unit)
    if options.json:
        by_site = {
            name: {"difference": value, "standard_error": error}
            for name, (value, error) in sites.items()
        }
        document = {"comparison": comparison.to_json(), "sites": by_site}
        print_json(document | ({} if draws_error is None else {"draws_error": draws_error}))
        return 0
    print(f"{options.first}: {comparison.first}")
    print(f"{options.second}: {comparison.second}")
    error = comparison.standard_error
    print(
        f"difference (first - second): {number_text(comparison.difference, 4, sign='+')} ± "
        f"{'unknown' if error is None else number_text(error, 4)} {comparison.unit}, paired over "
        f"{comparison.num_sequences} sequences of {comparison.split}"
        + (f", clustered by {comparison.num_groups} groups" if options.by_group else "")
    )
    if draws_error is not None:
        print(
            f"Draws that all rows share add ± {number_text(draws_error, 4)} to that: both errors count below."
        )
    if error is not None or draws_error is not None:
        whole = float(np.hypot(error or 0.0, draws_error or 0.0))
        print(_verdict(comparison.difference, whole, comparison.larger_is_better))
    if sites:
        print()
        rows = tuple(
            (
                name,
                number_text(value, 4, sign="+"),
                "unknown" if error is None else number_text(error, 4),
            )
            for name, (value, error) in sites.items()
        )
        unit = "nats per unit" if options.unit != "nats per sequence" else options.unit
        title = f"Difference of the ELBOs by site [{unit}]"
        show(Table(title, ("site", "first - second", "±"), rows), options.format)
    return 0


def with_draws(
    comparison: "Comparison", one: Evaluated, other: Evaluated | None, bound: str
) -> "tuple[Comparison, float | None]":
    """Both figures with the errors over their draws, and that of the difference as if the two runs' draws
    were independent; those of one key may be alike, and the error then smaller."""
    import math

    figures = [with_shared_draws(comparison.first, one.evaluation, bound, None)]
    if other is not None:
        figures.append(with_shared_draws(comparison.second, other.evaluation, bound, None))
    errors = [figure.monte_carlo_error for figure in figures]
    known = [error for error in errors if error is not None]
    comparison = replace(comparison, first=figures[0], second=[*figures, comparison.second][1])
    return comparison, math.hypot(*known) if len(known) == len(errors) else None


def _baseline(name: str, run: Evaluated, scores: "SequenceScores") -> "SequenceScores":
    """What a baseline of the run says of the same rows."""
    import numpy as np

    rows = run.setup.baseline_rows
    found = {} if rows is None else rows(run.split)
    if name not in found:
        known = f": {', '.join(found)}" if found else "; it has none that is known row by row"
        raise UserError(f"{name!r} is neither a run folder nor a baseline of the first run{known}.")
    log_p = np.asarray(found[name], np.float64)
    return replace(scores, log_p=log_p, bound="exact", estimator=name, num_samples=0)


def site_differences(
    first: "Evaluation", second: "Evaluation", unit: str
) -> dict[str, tuple[float, float | None]]:
    """By site: the mean difference of what it adds to the ELBO, paired by row, and its standard
    error (None for one row); per unit as sum over sum (delta method). Empty where the sites are not
    the same ones."""
    import numpy as np

    from tightbound.estimators.units import standard_error

    one, other = first.site_means, second.site_means
    if list(one) != list(other):
        return {}
    units = np.ones(len(first.rows)) if unit == "nats per sequence" else first.num_units

    def of_site(name: str) -> tuple[float, float | None]:
        difference = one[name] - other[name]
        ratio = difference.sum() / units.sum()
        error = standard_error((difference - ratio * units) / units.mean())
        return float(ratio), error

    return {name: of_site(name) for name in one}


def _verdict(difference: float, error: float, larger_is_better: bool) -> str:
    """A tie is called a tie."""
    if abs(difference) <= 2 * error:
        return "A tie: the difference is within two of its standard errors."
    first = (difference > 0) == larger_is_better
    return f"The {'first' if first else 'second'} is better."
