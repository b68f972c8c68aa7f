"""The display of a training run: a live panel on a terminal, one line per evaluation elsewhere. And of
other slow work: one bar with what is being asked and compiled."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table as RichTable
from rich.text import Text

from tightbound.estimators.estimate import Estimate, number_text
from tightbound.report.baselines import best_baseline
from tightbound.report.tables import short_form


@dataclass(frozen=True)
class Standing:
    """Where a run stands, by the records of this process."""

    step: int = 0
    seconds: float = 0.0  # of this process
    first: tuple[int, float] | None = None  # (step, seconds) of its first record of training
    train: Estimate | None = None
    held_out: Estimate | None = None
    held_out_step: int = 0
    ess_fraction: float | None = None
    reconstruction: float | None = None  # held-out mean log p of the observed sites, nats
    compile_seconds: float | None = None

    @property
    def steps_per_second(self) -> float | None:
        """Since the first record, which leaves compilation out; None before the second."""
        if self.first is None or self.step == self.first[0] or self.seconds <= self.first[1]:
            return None
        return (self.step - self.first[0]) / (self.seconds - self.first[1])


def observe(standing: Standing, record: Mapping[str, Any]) -> Standing:
    """The standing after one more record of `steps.jsonl`."""
    step, seconds = record["step"], float(record["seconds"])
    standing = replace(standing, step=step, seconds=seconds)
    if "train" in record:  # the first state has trained on nothing yet
        standing = replace(
            standing,
            first=standing.first or (step, seconds),
            train=Estimate.from_json(record["train"]["bound"]),
            ess_fraction=record["train"].get("ess_fraction", standing.ess_fraction),
            compile_seconds=record.get("compile_seconds", standing.compile_seconds),
        )
    if "held_out" not in record:
        return standing
    return replace(
        standing,
        held_out=Estimate.from_json(record["held_out"]["bound"]),
        held_out_step=step,
        ess_fraction=record["held_out"].get("ess_fraction", standing.ess_fraction),
        reconstruction=_reconstruction(record["held_out"]["sites"]),
    )


def _reconstruction(sites: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean log p(x | z): the sites that were not drawn, so have no log q. None where all were, or none
    was: then it is the bound itself."""
    observed = [float(scores["log_p"]) for scores in sites.values() if "log_q" not in scores]
    return sum(observed) if 0 < len(observed) < len(sites) else None


class TrainingDisplay:
    """Shows the records it is given:

        with TrainingDisplay(settings.steps, setup.baselines, console) as display:
            for progress in run(setup, folder):
                display.show(progress.logged)

    The console decides where and how: with `--json` on stdout, give one that writes to stderr.
    """

    def __init__(self, last_step: int, baselines: Mapping[str, Estimate], console: Console):
        self._last_step = last_step
        self._baseline = best_baseline(baselines)
        self._console = console
        self._standing = Standing()
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "TrainingDisplay":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, record: Mapping[str, Any] | None) -> None:
        """Take in a record; None (a step that was not logged) changes nothing."""
        if record is None:
            return
        self._standing = observe(self._standing, record)
        entries = standing_entries(self._standing, self._last_step, self._baseline)
        if self._live is not None:
            self._live.update(_panel(entries, self._standing.step, self._last_step), refresh=True)
        elif "held_out" in record or not math.isfinite(float(record["train"]["bound"]["value"])):
            self._console.file.write("  ".join(f"{n} {text}" for n, text in entries) + "\n")
            self._console.file.flush()


def standing_entries(
    standing: Standing, last_step: int, baseline: tuple[str, Estimate] | None
) -> list[tuple[str, str]]:
    """What there is to say, as (name, text)."""
    entries = [("step", f"{standing.step}/{last_step}")]
    if standing.held_out is not None:
        at = "" if standing.held_out_step == standing.step else f" at step {standing.held_out_step}"
        entries.append(("held-out", f"{standing.held_out}{at}"))
    if standing.train is not None:
        alone = standing.held_out is None  # the unit is said once
        text = str(standing.train) if alone else short_form(standing.train)
        entries.append(("train", text))
    if standing.reconstruction is not None:
        entries.append(("reconstruction", f"{number_text(standing.reconstruction)} nats"))
    if baseline is not None:
        entries.append(("to beat", f"{short_form(baseline[1])} ({baseline[0]})"))
    if standing.ess_fraction is not None:
        entries.append(("ESS", f"{standing.ess_fraction:.0%} of draws"))
    if standing.compile_seconds is not None:
        entries.append(("compiling took", f"{standing.compile_seconds:.1f} s"))
    rate = standing.steps_per_second
    if rate is not None:
        entries.append(("rate", f"{rate:.3g} steps/s"))
        entries.append(("left", clock((last_step - standing.step) / rate)))
    return entries


def clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` under an hour."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _panel(entries: list[tuple[str, str]], step: int, last_step: int) -> RenderableType:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_row("", ProgressBar(total=last_step, completed=step, width=60))
    for name, text in entries:
        grid.add_row(Text(name, style="dim"), Text(text))
    return grid


_QUESTIONS = "tightbound"  # what asks says so on its logger, at level INFO
_COMPILER = ("jax._src.interpreters.pxla", "jax._src.dispatch")  # which say it at DEBUG


class WorkDisplay(logging.Handler):
    """A bar while it is entered: what is being asked, how much of it is done where that is known, which
    program is being compiled, and the time.

        log = logging.getLogger("tightbound.evaluation")
        with WorkDisplay("evaluate", Console(stderr=True)):
            log.info("scoring rows", extra={"part": (3, 20)})  # 3 of 20 done

    What a loop says on its logger costs nothing where nobody listens. The names of JAX's loggers are not
    public: where they change, the bar no longer says what is compiled.
    """

    _shown = 0  # displays that are entered in this process

    def __init__(self, command: str, console: Console):
        super().__init__(logging.DEBUG)
        self._question, self._compiled = command, ""
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,  # which may be a file
        )
        self._task = self._progress.add_task(command, total=None)
        self._levels: dict[str, int] = {}

    @classmethod
    def is_shown(cls) -> bool:
        return cls._shown > 0

    def __enter__(self) -> "WorkDisplay":
        for name in (_QUESTIONS, *_COMPILER):
            logger = logging.getLogger(name)
            self._levels[name] = logger.level
            logger.setLevel(logging.INFO if name == _QUESTIONS else logging.DEBUG)
            logger.addHandler(self)
        WorkDisplay._shown += 1
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
        WorkDisplay._shown -= 1
        for name, level in self._levels.items():
            logger = logging.getLogger(name)
            logger.removeHandler(self)
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Take in what a logger said."""
        done: tuple[int, int] | None = getattr(record, "part", None)
        if not record.name.startswith("jax."):
            self._question = record.getMessage()
            self._progress.update(
                self._task,
                total=None if done is None else done[1],
                completed=0 if done is None else done[0],
            )
        elif str(record.msg).startswith("Compiling") and isinstance(record.args, tuple):
            self._compiled = f", compiling {record.args[0]}"
        elif "XLA compilation" in str(record.msg):
            self._compiled = ""
        else:
            return
        self._progress.update(self._task, description=self._question + self._compiled)
