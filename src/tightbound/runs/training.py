"""Training in a run folder: begun or continued, with the doctor riding along, and judged at the end."""

import dataclasses
import hashlib
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tightbound.errors import UserError
from tightbound.families.lookup import Recipe
from tightbound.families.settings import flat_settings, settings_of
from tightbound.report.terminal import say
from tightbound.runs.build import build

if TYPE_CHECKING:
    from tightbound.diagnose.evidence import Evidence
    from tightbound.diagnose.findings import Findings
    from tightbound.train.folder import RunFolder
    from tightbound.train.loop import TrainState
    from tightbound.train.run import Progress
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class TrainOptions:
    """Where and how to run."""

    run_dir: str | None = None
    """The run's folder; by default one under `runs/` named by recipe and settings. The same command
    continues a run that was stopped."""
    seed: int = 0
    init_from: str | None = None
    """RUN@STEP: start from that checkpoint's parameters, with this run's settings and optimiser."""
    max_minutes: float | None = None
    """Save and stop after so many minutes; the same command continues."""
    note: str = ""
    """A line kept with the run and shown by `runs` and `report`."""
    track: Literal["none", "tensorboard"] = "none"
    """Also write scalars and histograms for a tracker."""
    doctor: bool = True
    """Gather evidence while training and judge it."""
    plant: str | None = None
    """Plant a fault of the catalogue on purpose, to see how it looks; the run says so."""
    json: bool = False
    """One JSON document on stdout: the findings."""


_ENDINGS = {
    "finished": "All steps are done.",
    "plateau": "The held-out bound stopped rising, so the run was stopped.",
    "interrupted": "Stopped and saved; the same command continues.",
    "out of time": "The time given is over; saved; the same command continues.",
    "not finite": "A value is not finite, so the run was stopped; the last checkpoint is good.",
}


def default_folder(name: str, recipe: Recipe, options: TrainOptions) -> Path:
    """`runs/vae-digits-1a2b3c`: the same settings, seed and start give the same folder."""
    identity = [settings_of(recipe), options.seed, options.init_from, options.plant]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:6]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return Path("runs") / f"{slug}-{digest}"


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
    status, noted = "running", ""
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
        )
        watch = bedside(setup, folder) if options.doctor else None
        for progress in progress_of_run:
            evidence = None if watch is None else watch(progress)
            if progress.logged is not None:
                display.show(progress.logged)
                track(progress.logged, evidence)
                if "held_out" in progress.logged:
                    noted = note(setup, progress, folder) if note else noted
            status = progress.status
    if noted:
        say(noted)
    say(_ENDINGS[status])
    return judge_run(setup, folder, finished=status in ("finished", "plateau")), status


def begin(
    recipe: Recipe, name: str, folder: "RunFolder", options: TrainOptions, setup: "Setup"
) -> None:
    """Write down what is run and where; or, when continuing, see that both are the same."""
    from tightbound.diagnose.watch import stated
    from tightbound.train.folder import environment, environment_changes

    document = {
        "name": folder.path.name,
        "recipe": name,
        "seed": options.seed,
        "settings": settings_of(recipe),
        "note": options.note,
        "init_from": options.init_from,
        "plant": options.plant,
        "stated": stated(setup),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    now = environment()
    if not folder.exists():
        folder.write_json("environment.json", now)
        folder.write_json("recipe.json", document)
        return
    before = folder.read_json("recipe.json")
    different = changed_settings(before, document)
    if different:
        raise UserError(
            f"The run folder {folder.path} was started with other settings: {'; '.join(different)}. "
            "Give the same settings to continue it, or another --run-dir."
        )
    for change in environment_changes(folder.read_json("environment.json"), now):
        say(f"Warning: {change}; the continued run may differ in its last bits.")


def changed_settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """ "train.steps was 100, is 200" for everything that decides a run's bits."""
    old, new = ({k: d[k] for k in ("recipe", "seed", "init_from", "plant")} for d in (before, now))
    old |= flat_settings(before["settings"])
    new |= flat_settings(json.loads(json.dumps(now["settings"])))
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


def bedside(setup: "Setup", folder: "RunFolder") -> "Callable[[Progress], Evidence | None]":
    """Gather evidence: the laws before the first update and again of the trained state, a probe at every
    probe step, one with more draws where a run is interrupted. None at other steps, and where an
    interrupted run has gathered it already."""
    from tightbound.diagnose.laws.gather import gather_laws, laws_of_state
    from tightbound.diagnose.laws.reports import reported
    from tightbound.diagnose.probes import FEW, MANY, is_probe_step, make_probe

    probe = make_probe(setup)

    def watch(progress: "Progress") -> "Evidence | None":
        path = folder.evidence / f"step-{progress.step:08d}.npz"
        last = progress.status not in ("running", "rollback")
        if path.exists() or not (last or is_probe_step(progress.step)):
            return None
        if progress.step == 0:
            evidence = gather_laws(setup, progress.state)
        elif progress.status in ("finished", "plateau", "out of time"):
            evidence = laws_of_state(setup, progress.state)
            if progress.logged is not None and "held_out" in progress.logged:
                stated = float(progress.logged["held_out"]["bound"]["value"])
                report = reported(setup, progress.state, stated)
                evidence = dataclasses.replace(evidence, reported=report)
        else:
            evidence = probe(progress.state, num_samples=MANY if last else FEW)
        evidence.save(path)
        return evidence

    return watch


def judge_run(setup: "Setup", folder: "RunFolder", *, finished: bool) -> "Findings":
    """Judge what the run's probes gathered, and keep the findings with it."""
    from tightbound.diagnose.evidence import Evidence
    from tightbound.diagnose.findings import Findings
    from tightbound.diagnose.watch import verdict
    from tightbound.estimators.estimate import Estimate

    history: list[Evidence] = [
        Evidence.load(path) for path in sorted(folder.evidence.glob("step-*.npz"))
    ]
    if not history:
        return Findings()
    bounds = [r["held_out"]["bound"] for r in folder.read_steps() if "held_out" in r]
    findings = verdict(
        setup,
        history,
        bound=Estimate.from_json(bounds[-1]) if bounds else None,
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


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """SIGINT and SIGTERM ask for a clean stop; a second one ends at once."""
    asked = False

    def ask(number, frame):
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        say("Stopping after this step; once more to stop at once.")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
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
