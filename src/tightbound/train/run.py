"""One run in its folder: the loop of `fit`, with logging, evaluation, checkpoints and plateaus."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tightbound.data.batch import Batch, steps_per_epoch, training_batches
from tightbound.data.windows import epochs_of_windows, windowed_batches
from tightbound.errors import UserError
from tightbound.estimators.bounds import bound_estimate
from tightbound.estimators.estimate import Bound, finite_or_text
from tightbound.estimators.prediction import error_over_shared_draws
from tightbound.estimators.weights import ess_fraction
from tightbound.evaluation import Evaluation
from tightbound.train.checkpoint import (
    checkpoints,
    find_checkpoint,
    load_state,
    save_checkpoint,
)
from tightbound.train.filtering import FilteringObjective
from tightbound.train.folder import RunFolder
from tightbound.train.guard import stopped_at
from tightbound.train.loop import StepEvidence, StepRecord, TrainState, fit, host, init_state
from tightbound.train.objective import CarriedObjective
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup
from tightbound.train.truncated import Truncated

Status = Literal[
    "running", "rollback", "finished", "plateau", "interrupted", "out of time", "not finite"
]


@dataclass(frozen=True)
class Plateau:
    """What is remembered between evaluations; saved in every checkpoint."""

    best: float | None = None  # held-out ELBO, nats per sequence
    best_step: int = 0
    since_best: int = 0  # evaluations
    rollbacks: int = 0


@dataclass(frozen=True)
class Progress:
    """What the driver yields: once before the first update, then after every one.

    `logged` is the record that `steps.jsonl` gets at this step, None between; that of a new run's
    first state has an evaluation alone, since no batch was trained. The last one yielded has a status
    other than "running" and "rollback"; where nothing is left to do, it is also the first.
    """

    step: int
    source: TrainState | StepRecord
    plateau: Plateau
    logged: dict[str, Any] | None = None
    status: Status = "running"

    @property
    def state(self) -> TrainState:
        """The state after this step; valid until the next one is asked for."""
        return self.source if isinstance(self.source, TrainState) else self.source.state


def run_keys(seed: int) -> tuple[PRNGKeyArray, PRNGKeyArray, PRNGKeyArray]:
    """The keys of a run: for the first parameters, for the steps, and for evaluations."""
    init_key, step_key, evaluation_key = jax.random.split(jax.random.key(seed), 3)
    return init_key, step_key, evaluation_key


def first_state(setup: Setup) -> TrainState:
    """The state before the first update."""
    objective, carry = setup.objective, None
    if isinstance(objective, CarriedObjective):
        carry = objective.first_carry(setup.model, setup.proposal, setup.run.batch_size)
    return init_state(setup.model, setup.proposal, setup.optimiser, carry=carry)


def batches_of(setup: Setup, *, start: int = 0) -> Iterator[Batch]:
    """What a run is trained on from step `start` on: whole sequences, or windows of them."""
    train, size = setup.data["train"], setup.run.batch_size
    if isinstance(setup.objective, Truncated):
        stride, span = setup.objective.stride, setup.objective.span
        return windowed_batches(train, size, stride, span, seed=setup.seed, start=start)
    return training_batches(train, size, seed=setup.seed, start=start)


def _epochs(setup: Setup, step: int) -> float:
    """How often all rows have been seen after `step` updates."""
    train, size = setup.data["train"], setup.run.batch_size
    if isinstance(setup.objective, Truncated):
        stride, span = setup.objective.stride, setup.objective.span
        return epochs_of_windows(train, size, stride, span, seed=setup.seed, step=step)
    return step / steps_per_epoch(train, size)


def run(
    setup: Setup,
    folder: RunFolder,
    *,
    start: TrainState | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    max_seconds: float | None = None,
) -> Iterator[Progress]:
    """Train in `folder`, continuing from its newest valid checkpoint; yield after every step.

    Records are exactly-once: `steps.jsonl` is synced before a checkpoint is renamed into place and
    cut back to that checkpoint when the run continues. `start` replaces the first state of a new
    run; like the state of `fit`, it is given away. The first state is evaluated, and so is the last,
    however the run ends; stopping (signal, time) saves before that. A value that is not finite ends
    the run without saving: the last checkpoint is the last good one. A failed write (a full disk)
    raises UserError; what was saved before stays valid.
    """
    state, plateau, logged = _resume(setup, folder, start)
    step = int(state.step)
    progress = Progress(step, state, plateau, logged, _decision(step, plateau, setup.run))
    yield progress
    clock = _Clock(max_seconds)
    while progress.status in ("running", "rollback"):
        if progress.status == "rollback":
            progress = _rolled_back(setup, folder, progress)
        progress = yield from _until_decision(setup, folder, progress, should_stop, clock)


class _Clock:
    """Wall time of this process's part of the run, and the share of it spent compiling the step."""

    def __init__(self, max_seconds: float | None):
        self.begun = time.monotonic()
        self.max_seconds = max_seconds
        self.compile_seconds: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    @property
    def is_up(self) -> bool:
        return self.max_seconds is not None and self.seconds > self.max_seconds

    def first_step_done(self, record: StepRecord) -> None:
        if self.compile_seconds is None:
            jax.block_until_ready(record.evidence.loss)
            self.compile_seconds = self.seconds


def _until_decision(
    setup: Setup,
    folder: RunFolder,
    progress: Progress,
    should_stop: Callable[[], bool],
    clock: _Clock,
) -> Generator[Progress, None, Progress]:
    """Steps until the run ends or a rollback is due; returns the last that was yielded."""
    settings = setup.run
    _, step_key, _ = run_keys(setup.seed)
    batches = batches_of(setup, start=progress.step)
    for record in fit(
        progress.state, batches, setup.objective, setup.optimiser, key=step_key, noise=setup.noise
    ):
        clock.first_step_done(record)
        status = _decision(record.step, progress.plateau, settings)
        if status == "running":
            status = _call_to_stop(should_stop, clock)
        if status == "running" and not _is_due(record.step, settings):
            progress = Progress(record.step, record, progress.plateau)
        else:
            progress = _log(setup, folder, record, progress.plateau, status, clock)
        yield progress
        if progress.status != "running":
            break
    return progress


def _is_due(step: int, settings: RunSettings) -> bool:
    """Whether anything but the update itself happens at this step."""
    every = (settings.log_every, settings.evaluate_every, settings.checkpoint_every)
    return any(step % period == 0 for period in every)


def _log(
    setup: Setup,
    folder: RunFolder,
    record: StepRecord,
    plateau: Plateau,
    status: Status,
    clock: _Clock,
) -> Progress:
    """Evaluate, record and save, as far as each is due at this step.

    A run that is stopped between evaluations is evaluated too, after it was saved: whoever stops it
    may not wait. What is found there is recorded and no more, so that the run, when it goes on,
    decides as one that was never stopped.
    """
    settings, step = setup.run, record.step
    evidence = host(record.evidence)
    logged = {
        "step": step,
        "epoch": _epochs(setup, step),
        "seconds": clock.seconds,
        "compile_seconds": clock.compile_seconds,
        "train": step_report(
            evidence,
            _trained_on(setup),
            # No window but the first has a bound of its own: it goes on from a draw of the past.
            setup.is_bound and not isinstance(setup.objective, Truncated),
            num_particles=_population(setup),
        ),
    }
    refused_at = stopped_at(record.state.opt_state)
    is_finite = np.isfinite(evidence.loss) and np.isfinite(evidence.gradient_norm)
    if not is_finite or refused_at is not None:
        status = "not finite"
    elif step % settings.evaluate_every == 0 or status == "finished":
        evaluation = _held_out(setup, record.state)
        logged["held_out"] = held_out_report(evaluation, setup.is_bound)
        plateau = observe(plateau, float(evaluation.log_weights.mean()), step)
        if np.isnan(evaluation.log_weights).any():
            status = "not finite"
        elif status == "running":
            status = _decision(step, plateau, settings)
    is_new_best = settings.plateau.patience is not None and plateau.best_step == step
    is_last = status not in ("running", "rollback")
    with writing(folder):
        folder.append_step(logged)
        if status != "not finite" and (
            is_last or is_new_best or step % settings.checkpoint_every == 0
        ):
            folder.sync_steps()
            save_checkpoint(folder.checkpoints, record.state, step=step, progress=asdict(plateau))
    if status in ("interrupted", "out of time") and "held_out" not in logged:
        logged["held_out"] = held_out_report(_held_out(setup, record.state), setup.is_bound)
        with writing(folder):
            folder.replace_step(logged)
    return Progress(step, record, plateau, logged, status)


@contextmanager
def writing(folder: RunFolder) -> Iterator[None]:
    """Turn a failed write (a full disk) into a sentence that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        valid, _ = checkpoints(folder.checkpoints)
        last = f"Its last valid checkpoint is of step {valid[-1].step}. " if valid else ""
        raise UserError(
            f"The run folder {folder.path} could not be written to ({error.strerror}). {last}"
            "Free space there, or make it writable, and run the same command again."
        ) from error


def _held_out(setup: Setup, state: TrainState) -> Evaluation:
    """The whole held-out split, with the same draws at every step of the run."""
    _, _, evaluation_key = run_keys(setup.seed)
    return setup.evaluator(
        state.model,
        setup.evaluated(state.proposal),
        setup.data["valid"],
        num_samples=setup.run.evaluate_samples,
        key=evaluation_key,
        noise=setup.noise,
        filtering=setup.filtering,
    )


def _decision(step: int, plateau: Plateau, settings: RunSettings) -> Status:
    """What the settings say after this step. A function of what a checkpoint holds, so that a
    resumed run decides as the one that was killed would have."""
    if step >= settings.steps:
        return "finished"
    patience = settings.plateau.patience
    if patience is None or plateau.since_best < patience:
        return "running"
    if settings.plateau.action == "stop" or plateau.rollbacks >= settings.plateau.max_rollbacks:
        return "plateau"
    return "rollback"


def _call_to_stop(should_stop: Callable[[], bool], clock: _Clock) -> Status:
    if should_stop():
        return "interrupted"
    return "out of time" if clock.is_up else "running"


def observe(plateau: Plateau, bound: float, step: int) -> Plateau:
    """The plateau after one more evaluation of the held-out bound."""
    if plateau.best is None or bound > plateau.best:
        return replace(plateau, best=bound, best_step=step, since_best=0)
    return replace(plateau, since_best=plateau.since_best + 1)


def _rolled_back(setup: Setup, folder: RunFolder, progress: Progress) -> Progress:
    """The same step, standing on the best one's parameters."""
    plateau = progress.plateau
    state = roll_back(setup, folder, progress.state, plateau)
    plateau = replace(plateau, since_best=0, rollbacks=plateau.rollbacks + 1)
    return Progress(progress.step, state, plateau)


def roll_back(setup: Setup, folder: RunFolder, state: TrainState, plateau: Plateau) -> TrainState:
    """The best step's parameters with a lower learning rate; the step count goes on.

    The optimiser's state is the best step's ("restore"), a fresh one ("reset") or as it is ("keep").
    """
    settings = setup.run.plateau
    best = load_state(find_checkpoint(folder.checkpoints, plateau.best_step), state)
    match settings.optimiser:
        case "restore":
            opt_state = best.opt_state
        case "reset":
            opt_state = setup.optimiser.init(
                eqx.filter((best.model, best.proposal), eqx.is_inexact_array)
            )
        case "keep":
            opt_state = state.opt_state
    return TrainState(
        model=best.model,
        proposal=best.proposal,
        opt_state=opt_state,
        learning_rate_scale=state.learning_rate_scale * settings.decay,
        step=state.step,
        carry=state.carry,
    )


def _resume(
    setup: Setup, folder: RunFolder, start: TrainState | None
) -> tuple[TrainState, Plateau, dict[str, Any] | None]:
    """The state and plateau to go on from. A new run evaluates and saves its first state, so that
    curves and `why` can start there: its record is the third, None of a run that goes on."""
    found, problems = checkpoints(folder.checkpoints)
    if found:
        newest = found[-1]
        state, plateau = load_state(newest, first_state(setup)), Plateau(**newest.progress)
        with writing(folder):
            folder.cut_back(newest.step)
        return state, plateau, None
    if problems:
        raise UserError(
            f"The run in {folder.path} cannot go on, because none of its checkpoints is whole: "
            f"{problems[-1]} Give this run another folder with --run-dir, or delete this one."
        )
    state, plateau = first_state(setup) if start is None else start, Plateau()
    return state, plateau, _begin(setup, folder, state, plateau)


def _begin(setup: Setup, folder: RunFolder, state: TrainState, plateau: Plateau) -> dict[str, Any]:
    """Evaluate the first state, record that and save it; the record.

    The plateau does not see it: what is no better than untrained has not stopped rising, it never
    rose, and a rollback to it would start over.
    """
    step = int(state.step)
    logged = {
        "step": step,
        "epoch": _epochs(setup, step),
        "seconds": 0.0,
        "held_out": held_out_report(_held_out(setup, state), setup.is_bound),
    }
    with writing(folder):
        folder.cut_back(step - 1)  # what a start that was killed before its first checkpoint left
        folder.append_step(logged)
        folder.sync_steps()
        save_checkpoint(folder.checkpoints, state, step=step, progress=asdict(plateau))
    return logged


def _population(setup: Setup) -> int | None:
    """The particles of the filter that is trained with; None where draws are independent."""
    objective = setup.objective
    if isinstance(objective, Truncated):
        objective = objective.inner
    return objective.filtering.num_particles if isinstance(objective, FilteringObjective) else None


def _trained_on(setup: Setup) -> str:
    """What the numbers of a training batch are of."""
    train = setup.data["train"].description
    if isinstance(setup.objective, Truncated):
        return f"{train}, {setup.objective.stride} steps at a time"
    return train


def step_report(
    evidence: StepEvidence, split: str, is_bound: bool, *, num_particles: int | None = None
) -> dict[str, Any]:
    """What one training batch says: its bound (the ELBO, or that of a filter) as an `Estimate`, by
    site, the loss that was differentiated, the gradient's norm and the effective sample size of its
    weights."""
    log_weights = np.asarray(evidence.log_weights)
    return {
        "bound": _bound(log_weights, split, "lower" if is_bound else "none", num_particles),
        "sites": _site_report(evidence.log_p, evidence.log_q),
        "loss": finite_or_text(float(evidence.loss)),
        "gradient_norm": finite_or_text(float(evidence.gradient_norm)),
        **_ess_report(log_weights),
    }


def held_out_report(evaluation: Evaluation, is_bound: bool) -> dict[str, Any]:
    """What the held-out split says: its bound as an `Estimate`, by site, and the weights' ESS."""
    log_weights, num_particles = evaluation.log_weights, evaluation.num_particles
    kind = evaluation.kind_of_bound(is_bound)
    bound = _bound(log_weights, evaluation.split, kind, num_particles)
    if evaluation.draws_are_shared:
        bound["monte_carlo_error"] = error_over_shared_draws(log_weights, 0.0)
    return {
        "bound": bound,
        "sites": _site_report(evaluation.log_p, evaluation.log_q),
        **_ess_report(evaluation.log_weights),
    }


def _bound(
    log_weights: np.ndarray, split: str, kind: Bound, num_particles: int | None
) -> dict[str, Any]:
    name = "elbo" if num_particles is None else "fivo"
    return bound_estimate(
        log_weights, bound=name, split=split, num_particles=num_particles, kind=kind
    ).to_json()


def _ess_report(log_weights: np.ndarray) -> dict[str, float]:
    """The mean effective sample size as a fraction of the draws; nothing for one draw, whose is 1
    whatever the proposal, or for weights that have none."""
    fraction = float(ess_fraction(log_weights).mean())
    return {"ess_fraction": fraction} if len(log_weights) > 1 and np.isfinite(fraction) else {}


def _site_report(
    log_p: Mapping[str, Array | np.ndarray], log_q: Mapping[str, Array | np.ndarray]
) -> dict[str, dict[str, float | str]]:
    """Mean log p and log q of every site, in nats per sequence."""
    report = {name: {"log_p": finite_or_text(float(v.mean()))} for name, v in log_p.items()}
    for name, value in log_q.items():
        report[name]["log_q"] = finite_or_text(float(value.mean()))
    return report
