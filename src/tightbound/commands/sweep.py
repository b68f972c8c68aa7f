"""`tightbound sweep RECIPE --vary KEY=[...]`: many runs side by side, and which settings are better."""

import dataclasses
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tightbound.commands.options import parse_with_recipe, print_json
from tightbound.errors import UserError
from tightbound.families.lookup import Recipe
from tightbound.families.settings import flat_settings, settings_of
from tightbound.report.sweep_table import SweepFormat, render_sweep, sweep_table, sweep_verdict
from tightbound.report.tables import print_table
from tightbound.report.terminal import say
from tightbound.runs.training import stop_signals
from tightbound.sweep.folder import SweepFolder
from tightbound.sweep.grid import Arm, make_arms, parse_variation
from tightbound.sweep.job import Change, Job, available_cores, last_line, run_environment
from tightbound.sweep.local import core_groups, run_locally
from tightbound.sweep.plan import Evaluation, Plan, PlannedArm, PlannedRun

_LOOK_EVERY = 1.0  # seconds between two looks at what runs have recorded


@dataclass(frozen=True)
class SweepOptions:
    """Train a recipe with different settings, several seeds each, and rank them on the same rows."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=[JSON list]: a setting of the recipe, a whole group, or `recipe`, and the values it takes.
    Several give all combinations."""
    seeds: int = 3
    """Runs of every arm: seeds 0, 1, ..."""
    sweep_dir: str | None = None
    """The sweep's folder; by default one under `runs/` named by recipe and settings. The same command
    continues a sweep that was stopped; other values or more seeds are added to it."""
    executor: Literal["local", "ray"] = "local"
    """Processes on this machine, or a Ray cluster: the one RAY_ADDRESS names, or one started here."""
    threads: int = 1
    """Cores for every run."""
    jobs: int | None = None
    """local: runs at once; by default as many as there are cores for."""
    split: Literal["valid", "test"] = "test"
    """What finished runs are evaluated on, once."""
    bound: Literal["elbo", "iwae", "fivo"] = "iwae"
    num_samples: int | None = None
    """Draws per sequence (of "fivo": filters); by default 100 for "iwae" if there is anything to
    draw, else 1."""
    num_particles: int = 128
    """fivo: of every filter."""
    max_rows: int | None = None
    """Only the first rows of the split."""
    by_group: bool = False
    """Cluster the errors by the split's groups (writers), whose rows are not independent."""
    doctor: bool = True
    """Gather evidence in every run and judge it; the table names the faults."""
    format: SweepFormat = "text"
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    recipe, name, options = parse_with_recipe(SweepOptions, "sweep", arguments)
    plan = plan_of(name, recipe, given_settings(arguments, recipe), options)
    folder = SweepFolder(options.sweep_dir or default_folder(plan, options.vary))
    with folder.locked():
        plan = folder.extend(plan)
        failed, interrupted = run_all(folder, plan, options)
        document = document_of(folder, plan, failed, options.by_group)
        write_tables(folder.path, document)
    if options.json:
        print_json(document)
    elif options.format == "text":
        show_text(document)
    else:
        print(render_sweep(document, options.format), end="")
    for run in document["unfinished"]:
        if run["says"] is not None:
            say(f"Failed: {run['run']}: {run['says']}")
    if interrupted:
        say("Stopped and saved; the same command continues.")
    say(f"The tables are in {folder.path}.")
    return 1 if document["status"] == "failed" else 0


def plan_of(name: str, recipe: Recipe, given: Mapping[str, Any], options: SweepOptions) -> Plan:
    """What is asked for; UserError where any arm's settings cannot be."""
    if not options.vary:
        raise UserError(
            f"There is nothing to vary: tightbound sweep {name} --vary 'KEY=[JSON list]'. "
            f"`tightbound train {name} --help` lists the settings."
        )
    for option in ("seeds", "threads", "jobs", "num_samples", "num_particles", "max_rows"):
        value = getattr(options, option)
        if value is not None and value < 1:
            raise UserError(f"`{option}` is {value}, but it must be at least 1. Raise it.")
    arms = make_arms(name, recipe, given, [parse_variation(text) for text in options.vary])
    return Plan(
        recipe=name,
        shared=plain(flat_settings(settings_of(recipe))),
        evaluation=Evaluation(
            options.split,
            options.bound,
            options.num_samples,
            options.num_particles,
            options.max_rows,
        ),
        doctor=options.doctor,
        num_seeds=options.seeds,
        arms=tuple(planned(arm) for arm in arms),
    )


def planned(arm: Arm) -> PlannedArm:
    return PlannedArm(arm.name, arm.label, arm.recipe_name, plain(settings_of(arm.recipe)))


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives them back: lists for tuples."""
    return json.loads(json.dumps(settings))


def given_settings(arguments: Sequence[str], recipe: Recipe) -> dict[str, Any]:
    """The settings of the recipe that the command line names, with their values."""
    words = {word.partition("=")[0].removeprefix("--") for word in arguments if word[:2] == "--"}
    named = {word.replace("-", "_").replace(".no_", ".") for word in words}
    return {key: value for key, value in flat_settings(settings_of(recipe)).items() if key in named}


def default_folder(plan: Plan, vary: Sequence[str]) -> Path:
    """`runs/sweep-dlm-46-1a2b3c`: the same shared settings, the same settings varied and the same
    evaluation give the same folder."""
    keys = sorted(parse_variation(text).key for text in vary)
    evaluation = dataclasses.asdict(plan.evaluation)
    identity = [plan.recipe, plan.shared, evaluation, plan.doctor, keys]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:6]
    slug = re.sub(r"[^a-z0-9]+", "-", plan.recipe.lower()).strip("-")
    return Path("runs") / f"sweep-{slug}-{digest}"


def run_all(folder: SweepFolder, plan: Plan, options: SweepOptions) -> tuple[dict[str, str], bool]:
    """Run what is not finished; by run, the last line of those that failed, and whether the sweep
    was told to stop."""
    from rich.console import Console

    from tightbound.report.sweep_progress import SweepDisplay

    left = [run for run in plan.runs if not folder.is_finished(run)]
    say(f"{len(plan.runs)} runs in {folder.path}, {len(plan.runs) - len(left)} of them finished.")
    jobs = {run.name: job_of(folder, run, options.threads) for run in left}
    last_steps = {run.name: int(run.arm.settings["run"]["steps"]) for run in left}
    failed: dict[str, str] = {}
    if not left:
        return failed, False
    with (
        stop_signals() as should_stop,
        SweepDisplay(last_steps, Console(stderr=True)) as display,
        closing(changes(folder, list(jobs.values()), options, should_stop)) as every,
    ):
        running: set[str] = set(jobs)
        looked = 0.0
        for change in every:
            if change is not None and change.code is None:
                display.change(change.name, "running")
            elif change is not None:
                running.discard(change.name)
                if change.code == 0:
                    display.change(change.name, "finished")
                elif should_stop():
                    display.change(change.name, "stopped")
                else:
                    says = last_line(jobs[change.name].log) or f"exit code {change.code}"
                    failed[change.name] = says
                    display.change(change.name, "failed", says)
            elif time.monotonic() - looked > _LOOK_EVERY:
                looked = time.monotonic()
                for name in running:
                    display.observe(name, folder.run(name).read_steps())
        return failed, should_stop()


def job_of(folder: SweepFolder, run: PlannedRun, threads: int) -> Job:
    command = ("-m", "tightbound.sweep.run", str(folder.path), run.arm.name, str(run.seed))
    return Job(
        name=run.name,
        command=(sys.executable, *command),
        log=(folder.run(run.name).path / "log.txt").absolute(),
        folder=Path.cwd(),
        environment=run_environment(threads),
    )


def changes(
    folder: SweepFolder,
    jobs: Sequence[Job],
    options: SweepOptions,
    should_stop: Callable[[], bool],
) -> Generator[Change | None, None, None]:
    """The jobs as the executor asked for runs them."""
    if options.executor == "local":
        slots = core_groups(available_cores(), options.threads, options.jobs)
        return run_locally(jobs, slots, should_stop)
    from tightbound.sweep.on_ray import run_on_ray

    return run_on_ray(jobs, options.threads, (folder.path / "stop").absolute(), should_stop)


def document_of(
    folder: SweepFolder, plan: Plan, failed: Mapping[str, str], by_group: bool
) -> dict[str, Any]:
    """What `--json` prints: the results, where they are, and how the sweep stands."""
    from tightbound.sweep.results import results

    found = results(folder, plan, failed, by_group=by_group)
    says = [run["says"] for run in found["unfinished"]]
    status = "finished"
    if says:
        status = "stopped" if all(one is None for one in says) else "failed"
    return {"sweep": str(folder.path), "status": status, **found}


def write_tables(folder: Path, document: Mapping[str, Any]) -> None:
    """`table.txt`, `.md`, `.csv`, `.tex`, `.json` and the chart, in the sweep's folder."""
    from tightbound.train.folder import write_whole

    endings: dict[SweepFormat, str] = {
        "text": "txt",
        "markdown": "md",
        "csv": "csv",
        "latex": "tex",
    }
    for table_format, ending in endings.items():
        write_whole(folder / f"table.{ending}", render_sweep(document, table_format))
    text = json.dumps({"schema": 1, **document}, indent=1)
    write_whole(folder / "table.json", text + "\n")
    if not document["arms"]:
        return
    try:
        from tightbound.report.sweep_chart import plot_sweep

        plot_sweep(document, [folder / "chart.svg", folder / "chart.png"])
    except ModuleNotFoundError:
        say("No chart was drawn: that needs matplotlib, pip install 'tightbound[demo]'.")


def show_text(document: Mapping[str, Any]) -> None:
    """The table on stdout, with rules and colour on a terminal, and what it shows."""
    from rich.console import Console

    if document["arms"]:
        print_table(sweep_table(document), Console())
        print()
    print(sweep_verdict(document))
