"""Training in a run folder: begun or continued, with the doctor riding along, and judged at the end."""

import contextlib
import dataclasses
import hashlib
import json
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tightbound.errors import UserError
from tightbound.families.lookup import Recipe
from tightbound.families.settings import saved_settings, settings_of
from tightbound.report.terminal import say
from tightbound.runs.build import build
from tightbound.runs.started_here import remember
from tightbound.values import Amount, Name, Seed, require_meant

if TYPE_CHECKING:
    from tightbound.diagnose.evidence import Evidence
    from tightbound.diagnose.findings import Findings
    from tightbound.train.folder import RunFolder
    from tightbound.train.loop import TrainState
    from tightbound.train.run import Progress
    from tightbound.train.settings import OptimiserSettings
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class TrainOptions:
    """Where and how to run."""

    run_dir: Name | None = None
    """The run's folder; by default one under `runs/` named by recipe and settings. The same command
    continues a run that was stopped."""
    seed: Seed = 0
    init_from: Name | None = None
    """RUN@STEP: start from that checkpoint's parameters, with this run's settings and optimiser."""
    max_minutes: Amount | None = None
    """Save and stop after so many minutes; the same command continues."""
    note: str = ""
    """A line kept with the run and shown by `runs` and `report`."""
    track: Literal["none", "tensorboard"] = "none"
    """Also write scalars and histograms for a tracker."""
    doctor: bool = True
    """Gather evidence while training and judge it."""
    keep_all: bool = False
    """Keep every checkpoint and all evidence; by default a long run keeps those that
    docs/file-formats.md names."""
    plant: Name | None = None
    """Plant a fault of the catalogue on purpose, to see how it looks; the run says so."""
    json: bool = False
    """One JSON document on stdout: the findings."""

    def __post_init__(self):
        require_meant(self)


_ENDINGS = {
    "finished": "All steps are done.",
    "plateau": "The held-out bound stopped rising, so the run was stopped.",
    "interrupted": "Stopped and saved; the same command continues.",
    "out of time": "The time given is over; saved; the same command continues.",
    "not finite": "A value is not finite, so the run was stopped; the last checkpoint is good.",
}


def default_folder(name: str, recipe: Recipe, options: TrainOptions) -> Path:
    """`runs/vae-digits-1a2b3c`: the same settings, seed and start give the same folder, also where an
    older version named it by settings that nothing reads."""
    identity = [settings_of(recipe), options.seed, options.init_from, options.plant]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:6]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    folder = Path("runs") / f"{slug}-{digest}"
    if folder.exists():
        return folder
    asked = decided(name, recipe, options)
    for document in sorted(folder.parent.glob(f"{slug}-{'?' * len(digest)}/recipe.json")):
        with contextlib.suppress(UserError, OSError, KeyError, TypeError, ValueError):
            if not changed_settings(json.loads(document.read_text()), asked):
                return document.parent
    return folder


def decided(name: str, recipe: Recipe, options: TrainOptions) -> dict[str, Any]:
    """What decides a run's bits, as `recipe.json` has it."""
    return {
        "recipe": name,
        "seed": options.seed,
        "settings": settings_of(recipe),
        "init_from": options.init_from,
        "plant": options.plant,
    }


def train(
    recipe: Recipe, name: str, folder: "RunFolder", options: TrainOptions
) -> "tuple[Findings, str]":
    """Build, or continue, and run to the end; the findings and how it ended."""
    from rich.console import Console

    from tightbound.diagnose.watch import source_of_held_out
    from tightbound.report.progress import TrainingDisplay
    from tightbound.train.checkpoint import checkpoints
    from tightbound.train.memory import keep_freed_memory
    from tightbound.train.run import first_state, run

    keep_freed_memory()
    setup = build(recipe, options.seed, options.plant)
    begin(recipe, name, folder, options, setup)
    for line in setup.notes:
        say(line)
    folder.write_json(
        "baselines.json", {name: value.to_json() for name, value in setup.baselines.items()}
    )
    source = source_of_held_out(setup)
    if source is not None:
        folder.write_json("source.json", source.to_json())
    valid, problems = checkpoints(folder.checkpoints)
    for problem in problems:
        say(f"Left out: {problem}")
    if valid:
        say(f"Continuing from step {valid[-1].step}.")
    start = None
    if options.init_from is not None and not valid:
        start = start_from(options.init_from, first_state(setup))
    if valid and valid[-1].step >= setup.run.steps:
        say(f"This run has all its {setup.run.steps} steps already.")
        return judge_run(setup, folder, finished=True), "finished"
    status, noted, not_finite = "running", "", None
    note = None if setup.family is None else setup.family.load("note")
    with (
        stop_signals() as should_stop,
        TrainingDisplay(setup.run.steps, setup.baselines, Console(stderr=True)) as display,
        tracker(options.track, folder) as track,
    ):
        progress_of_run = run(
            setup,
            folder,
            start=start,
            should_stop=should_stop,
            max_seconds=None if options.max_minutes is None else 60 * options.max_minutes,
            keep_all=options.keep_all,
        )
        watch = bedside(setup, folder, options.keep_all) if options.doctor else None
        for progress in progress_of_run:
            evidence = None if watch is None else watch(progress)
            if progress.logged is not None:
                display.show(progress.logged)
                track(progress.logged, evidence)
                not_finite = progress.logged.get("not_finite")
                if "held_out" in progress.logged:
                    noted = note(setup, progress, folder) if note else noted
            status = progress.status
    if noted:
        say(noted)
    say(_ENDINGS[status])
    if not_finite is not None:
        say(what_is_not_finite(not_finite, getattr(recipe, "optimiser", None)))
    return judge_run(setup, folder, finished=status in ("finished", "plateau")), status


def begin(
    recipe: Recipe, name: str, folder: "RunFolder", options: TrainOptions, setup: "Setup"
) -> None:
    """Write down what is run and where; or, when continuing, see that both are the same."""
    from tightbound.data.checksum import checksum
    from tightbound.diagnose.watch import statements_of
    from tightbound.train.documents import Environment, RecipeDocument
    from tightbound.train.folder import environment, environment_changes

    document = {
        "name": folder.path.name,
        **decided(name, recipe, options),
        "note": options.note,
        "stated": statements_of(setup),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    now = environment() | {"data": {name: checksum(split) for name, split in setup.data.items()}}
    if not folder.exists():
        folder.write_json("environment.json", now)
        folder.write_json("recipe.json", document)
        remember(name)
        return
    before = folder.read_json("recipe.json", RecipeDocument)
    different = changed_settings(before, document)
    if different:
        raise UserError(
            f"The run folder {folder.path} was started with other settings: {'; '.join(different)}. "
            "Give the same settings to continue it, or another --run-dir."
        )
    remember(name)
    then = folder.read_json("environment.json", Environment)
    data = then.get("data")
    for name, found in data.items() if isinstance(data, dict) else ():
        if found != now["data"].get(name):
            say(
                f"Warning: the {name} split is not the one this run began with (its checksum was {found[:12]}, "
                f"is {now['data'].get(name, 'none')[:12]}): the run goes on with other data."
            )
    for change in environment_changes(then, now):
        say(f"Warning: {change}; the continued run may differ in its last bits.")


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """ "run.steps was 100, is 200" for everything that decides a run's bits. What an older version saved
    of settings that nothing reads decides none."""
    old, new = (
        {k: d.get(k) for k in ("recipe", "seed", "init_from", "plant")} for d in (before, now)
    )
    old |= saved_settings(before)
    new |= saved_settings(now)
    return [
        f"{k} was {old.get(k)}, is {new.get(k)}" for k in {**old, **new} if old.get(k) != new.get(k)
    ]


def start_from(reference: str, first: "TrainState") -> "TrainState":
    """This run's first state with the parameters of another run's checkpoint."""
    import equinox as eqx

    from tightbound.runs.opened import open_run, split_reference
    from tightbound.train.checkpoint import find_checkpoint, load_state

    path, step = split_reference(reference)
    other = open_run(path)
    chosen = other.steps()[-1] if step is None else step
    checkpoint = find_checkpoint(other.folder.checkpoints, chosen)
    parameters_alone = dataclasses.replace(first, opt_state=None, carry=None)
    loaded = load_state(checkpoint, parameters_alone)
    return eqx.tree_at(lambda s: (s.model, s.proposal), first, (loaded.model, loaded.proposal))


def what_is_not_finite(found: dict[str, Any], optimiser: "OptimiserSettings | None") -> str:
    """The entry `not_finite` of a record as advice: which rows, or which setting."""
    rate = "the learning rate"
    if optimiser is not None:
        rate = f"--optimiser.learning-rate (it is {optimiser.learning_rate:g})"
    mend = (
        f"Unless the doctor names another cause, lower {rate}, or bound the gradient with "
        "--optimiser.clip-norm."
    )
    if found["num_rows"] == 0:
        return f"Every row of the batch is finite, but its gradient is not. {mend}"
    sites = " and ".join(found["sites"])
    if found["num_rows"] == found["of"]:
        return (
            f"Log p or log q of {sites} is not finite in all {found['of']} rows of {found['split']}: the parameters "
            f"themselves have run away. {mend}"
        )
    rows = ", ".join(map(str, found["rows"]))
    more = ", ..." if found["num_rows"] > len(found["rows"]) else ""
    return (
        f"Log p or log q of {sites} is not finite in {found['num_rows']} of {found['of']} rows of {found['split']}: "
        f"rows {rows}{more}. Look at these rows first. {mend}"
    )


def bedside(
    setup: "Setup", folder: "RunFolder", keep_all: bool = False
) -> "Callable[[Progress], Evidence | None]":
    """Gather evidence: the laws before the first update and again of the trained state, a probe at every
    probe step, one with more draws where a run is interrupted. None at other steps, and where an
    interrupted run has gathered it already. Of a long run's, those files stay that `kept_evidence` names;
    with `keep_all`, all."""
    from tightbound.diagnose.laws.gather import gather_laws, laws_of_state
    from tightbound.diagnose.laws.reports import reported
    from tightbound.diagnose.probes import FEW, MANY, is_probe_step, make_probe
    from tightbound.train.run import writing

    probe = make_probe(setup)

    def watch(progress: "Progress") -> "Evidence | None":
        path = folder.evidence_path(progress.step)
        last = progress.status not in ("running", "rollback")
        if path.exists() or not (last or is_probe_step(progress.step)):
            return None
        if progress.step == 0:
            evidence = gather_laws(setup, progress.state)
        elif progress.status in ("finished", "plateau", "out of time"):
            evidence = laws_of_state(setup, progress.state)
            if progress.logged is not None and "held_out" in progress.logged:
                recorded_bound = float(progress.logged["held_out"]["bound"]["value"])
                report = reported(setup, progress.state, recorded_bound)
                evidence = dataclasses.replace(evidence, reported=report)
        else:
            evidence = probe(progress.state, num_samples=MANY if last else FEW)
        with writing(folder):
            evidence.save(path)
            if not keep_all:
                folder.thin_evidence()
        return evidence

    return watch


def judge_run(setup: "Setup", folder: "RunFolder", *, finished: bool) -> "Findings":
    """Judge what the run's probes gathered, and keep the findings with it."""
    from tightbound.diagnose.evidence import Evidence
    from tightbound.diagnose.findings import Findings
    from tightbound.diagnose.watch import verdict
    from tightbound.estimators.estimate import Estimate

    history: list[Evidence] = [Evidence.load(path) for path in folder.evidence_files()]
    if not history:
        return Findings()
    newest = folder.newest_record(having="held_out")
    findings = verdict(
        setup,
        history,
        bound=None if newest is None else Estimate.from_json(newest["held_out"]["bound"]),
        finished=finished,
    )
    folder.write_json(
        "findings.json",
        {
            "schema": 1,
            "step": history[-1].step,
            "finished": finished,
            "findings": [f.to_json() for f in findings],
        },
    )
    return findings


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM ask for a clean stop; a second one ends at once. So does a terminal that is closed
    (SIGHUP), but for the second one: a shell and the kernel may both say so. Under `nohup` it is not heard."""
    asked = False

    def ask(number, frame):
        nonlocal asked
        if asked and number != signal.SIGHUP:
            raise KeyboardInterrupt
        asked = True
        why = "The terminal is gone: stopping" if number == signal.SIGHUP else "Stopping"
        with contextlib.suppress(RuntimeError):  # it came in the middle of a line
            say(f"{why} after this step, and saving; once more to stop at once.")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def tracker(
    name: str, folder: "RunFolder"
) -> "Iterator[Callable[[dict[str, Any], Evidence | None], None]]":
    """A function that hands logged records to a tracker; one that does nothing for "none"."""
    if name == "none":
        yield lambda record, evidence: None
        return
    from tightbound.report.tensorboard import tensorboard

    with tensorboard(folder.path / "tensorboard") as write:
        yield write
