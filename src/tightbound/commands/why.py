"""`tightbound why RUN`: what made the bound move between two checkpoints."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tightbound.commands.options import RunFolderName, parse, print_json, show
from tightbound.commands.working import working
from tightbound.errors import UserError
from tightbound.estimators.estimate import number_text
from tightbound.report.tables import Table, TableFormat
from tightbound.report.terminal import say
from tightbound.runs.compilation import use_compilation_cache
from tightbound.runs.evaluated import chosen_split
from tightbound.runs.opened import OpenRun, open_run

if TYPE_CHECKING:
    from tightbound.diagnose.why import Explanation


@dataclass(frozen=True)
class WhyOptions:
    """Take the change of the bound apart: by site, by group of data, by module."""

    run: RunFolderName
    """The run's folder."""
    first: Annotated[int | None, tyro.conf.arg(name="from")] = None
    """Step of the earlier checkpoint; by default that of the best evaluation, and the first one where
    no later evaluation is worse."""
    last: Annotated[int | None, tyro.conf.arg(name="to")] = None
    """Step of the later checkpoint; by default that of the last evaluation."""
    split: Literal["train", "valid", "test"] = "valid"
    rows: int = 256
    """Rows of the split to look at."""
    set: tuple[str, ...] = ()
    """KEY=VALUE: settings of the run changed for this look, as evaluate-law=token-drop."""
    seed: int = 0
    """Of the draws."""
    format: TableFormat = "text"
    """Of the tables."""
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(WhyOptions, "why", arguments)
    use_compilation_cache()
    import jax

    from tightbound.diagnose.why import why

    opened = open_run(options.run)
    setup = opened.build(options.set)
    chosen_split(setup, options.split)
    if options.rows < 2:
        raise UserError(f"{options.rows} rows were asked for; errors over rows need at least 2.")
    first, last = steps_to_explain(opened, options.first, options.last)
    try:
        with working("why: reading two checkpoints"):
            explanation = why(
                setup,
                opened.state(first, setup),
                opened.state(last, setup),
                split=options.split,
                num_rows=options.rows,
                key=jax.random.key(options.seed),
            )
    except ValueError as error:
        raise UserError(str(error)) from error
    opened.folder.write_json("why.json", explanation.to_json())
    if options.json:
        print_json(explanation.to_json())
    else:
        print_explanation(explanation, options.format)
    return 0


def steps_to_explain(opened: OpenRun, first: int | None, last: int | None) -> tuple[int, int]:
    """The two steps: those that were asked for; else of the best evaluation and of the last one, as far
    as both have a checkpoint. Where the last is the best, the first checkpoint stands for the best; a run
    without an evaluation is explained from its first checkpoint to its newest."""
    steps = opened.steps()
    bounds = {
        record["step"]: float(record["held_out"]["bound"]["value"])
        for record in opened.folder.read_steps()
        if "held_out" in record and (last is None or record["step"] <= last)
    }
    finite = {step: bound for step, bound in bounds.items() if math.isfinite(bound)}
    saved = {step: bound for step, bound in finite.items() if step in steps}
    end = max(saved, default=steps[-1]) if last is None else last
    if first is not None:
        return first, end
    best = max(saved, key=saved.__getitem__, default=end)
    if finite and max(finite.values()) > max(saved.values(), default=-math.inf):
        highest = max(finite, key=finite.__getitem__)
        say(
            f"The best evaluation, {finite[highest]:.5g} at step {highest}, has no checkpoint: "
            f"`checkpoint_every` decides which have one."
        )
    return (best if best < end else steps[0]), end


def print_explanation(explanation: "Explanation", table_format: TableFormat) -> None:
    """The explanation in words and tables."""
    change = explanation.change
    print(f"{explanation.headline}\n({change.split}; the same rows and draws at both steps.)\n")
    trained = explanation.change_under_trained_law
    if trained is not None:
        print(
            "Evaluation draws latents from another law than training. Under the law of training the "
            f"ELBO changed by {number_text(trained.value, 3, sign='+')} ± {number_text(trained.standard_error or 0, 3)} nats per sequence "
            f"(draws {number_text(trained.monte_carlo_error or 0, 3)}): the rest is KL(q || p(z | x)) of the other.\n"
        )
    rows = tuple(
        (
            name,
            number_text(value.value, 3, sign="+"),
            number_text(value.standard_error or 0, 3),
            number_text(value.monte_carlo_error or 0, 3),
        )
        for name, value in explanation.sites.items()
    )
    show(Table("By site", ("site", "change [nats]", "± rows", "± draws"), rows), table_format)
    print()
    modules = tuple(next(iter(explanation.modules.values())))
    rows = tuple(
        (site, *(number_text(values[module], 3, sign="+") for module in modules))
        for site, values in explanation.modules.items()
    )
    show(Table("By site and module [nats]", ("site", *modules), rows), table_format)
    print(
        f"(they sum to the change up to {number_text(explanation.quadrature_error, 3)} nats of quadrature)\n"
    )
    if explanation.groups:
        ordered = sorted(explanation.groups.items(), key=lambda item: item[1].value)
        rows = tuple(
            (n, number_text(v.value, 3, sign="+"), number_text(v.standard_error or 0, 3))
            for n, v in ordered
        )
        show(Table("By group of rows", ("group", "change [nats]", "± rows"), rows), table_format)
        print()
    print(
        f"At step {explanation.first_step} the training gradient's cosine with the bound's is "
        f"{explanation.gradient_cosine:.2f}; two halves of the bound's own reach "
        f"{explanation.cosine_ceiling:.2f}."
    )
