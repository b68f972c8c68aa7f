"""One run in its folder: the loop of `fit`, with logging, evaluation, checkpoints and plateaus."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from tightbound.data.batch import steps_per_epoch, training_batches
from tightbound.estimators.bounds import bound_estimate
from tightbound.estimators.weights import ess_fraction
from tightbound.evaluate import Evaluation
from tightbound.train.checkpoint import (
    checkpoints,
    find_checkpoint,
    load_state,
    save_checkpoint,
)
from tightbound.train.folder import RunFolder
from tightbound.train.loop import StepEvidence, StepRecord, TrainState, fit, host, init_state
from tightbound.train.settings import PlateauSettings
from tightbound.train.setup import Setup

Status = Literal[
    "running", "rollback", "finished", "plateau", "interrupted", "out of time", "not finite"
]


@dataclass(frozen=True)
class Progress:
    """What the driver yields: once before the first update, then after every one.

    `logged` is the record that `steps.jsonl` gets at this step, None between. The last one
    yielded has a status other than "running" and "rollback".
    """

    step: int
    source: TrainState | StepRecord
    logged: dict[str, Any] | None = None
    status: Status = "running"

    @property
    def state(self) -> TrainState:
        """The state after this step; valid until the next one is asked for."""
        return self.source if isinstance(self.source, TrainState) else self.source.state


@dataclass(frozen=True)
class Plateau:
    """What is remembered between evaluations; saved in every checkpoint."""

    best: float | None = None  # held-out ELBO, nats per sequence
    best_step: int = 0
    since_best: int = 0  # evaluations
    rollbacks: int = 0


def run_keys(seed: int) -> tuple[PRNGKeyArray, PRNGKeyArray, PRNGKeyArray]:
    """The keys of a run: for the first parameters, for the steps, and for evaluations."""
    init_key, step_key, evaluation_key = jax.random.split(jax.random.key(seed), 3)
    return init_key, step_key, evaluation_key


def first_state(setup: Setup) -> TrainState:
    """The state before the first update."""
    return init_state(setup.model, setup.proposal, setup.optimiser)


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
    run. Stopping (signal, time, end) saves first. A value that is not finite ends the run without
    saving: the last checkpoint is the last good one.
    """
    state, plateau = _resume(setup, folder, start)
    yield Progress(int(state.step), state)
    clock = _Clock(max_seconds)
    while True:
        progress, seen = Progress(int(state.step), state), plateau
        for progress, seen in _until_decision(setup, folder, state, plateau, should_stop, clock):  # noqa: B007
            yield progress
        if progress.status != "rollback":
            return
        state = roll_back(setup, folder, progress.state, seen)
        plateau = replace(seen, since_best=0, rollbacks=seen.rollbacks + 1)


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
    state: TrainState,
    plateau: Plateau,
    should_stop: Callable[[], bool],
    clock: _Clock,
) -> Iterator[tuple[Progress, Plateau]]:
    """Steps until the run ends or a rollback is due."""
    settings, train = setup.run, setup.data["train"]
    _, step_key, evaluation_key = run_keys(setup.seed)
    batches = training_batches(train, settings.batch_size, seed=setup.seed, start=int(state.step))
    per_epoch = steps_per_epoch(train, settings.batch_size)
    for record in fit(
        state, batches, setup.objective, setup.optimiser, key=step_key, noise=setup.noise
    ):
        clock.first_step_done(record)
        status = _status(record.step, settings.steps, should_stop, clock)
        evaluating = record.step % settings.evaluate_every == 0 or status == "finished"
        saving = record.step % settings.checkpoint_every == 0 or status != "running"
        if not (evaluating or saving or record.step % settings.log_every == 0):
            yield Progress(record.step, record), plateau
            continue
        evidence = host(record.evidence)
        logged = {"step": record.step, "epoch": record.step / per_epoch}
        logged |= {"seconds": clock.seconds, "compile_seconds": clock.compile_seconds}
        logged |= {"train": step_report(evidence, train.description, setup.is_bound)}
        if not (np.isfinite(evidence.loss) and np.isfinite(evidence.gradient_norm)):
            folder.append_step(logged)
            yield Progress(record.step, record, logged, "not finite"), plateau
            return
        if evaluating:
            evaluation = setup.evaluator(
                record.state.model,
                record.state.proposal,
                setup.data["valid"],
                num_samples=settings.evaluate_samples,
                key=evaluation_key,
                noise=setup.noise,
            )
            logged |= {"held_out": held_out_report(evaluation, setup.is_bound)}
            plateau = observe(plateau, float(evaluation.log_weights.mean()), record.step)
            if status == "running":
                status = _plateau_status(plateau, settings.plateau)
            saving |= plateau.since_best == 0 and settings.plateau.patience is not None
            saving |= status == "plateau"
        folder.append_step(logged)
        if saving:
            folder.sync_steps()
            save_checkpoint(
                folder.checkpoints, record.state, step=record.step, progress=asdict(plateau)
            )
        yield Progress(record.step, record, logged, status), plateau
        if status != "running":
            return


def _status(step: int, last_step: int, should_stop: Callable[[], bool], clock: _Clock) -> Status:
    if step >= last_step:
        return "finished"
    if should_stop():
        return "interrupted"
    return "out of time" if clock.is_up else "running"


def observe(plateau: Plateau, bound: float, step: int) -> Plateau:
    """The plateau after one more evaluation of the held-out bound."""
    if plateau.best is None or bound > plateau.best:
        return replace(plateau, best=bound, best_step=step, since_best=0)
    return replace(plateau, since_best=plateau.since_best + 1)


def _plateau_status(plateau: Plateau, settings: PlateauSettings) -> Status:
    if settings.patience is None or plateau.since_best < settings.patience:
        return "running"
    if settings.action == "stop" or plateau.rollbacks >= settings.max_rollbacks:
        return "plateau"
    return "rollback"


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
    )


def _resume(
    setup: Setup, folder: RunFolder, start: TrainState | None
) -> tuple[TrainState, Plateau]:
    """The state and plateau to go on from; a new run saves its first state, so that `why` can start
    there."""
    found, _ = checkpoints(folder.checkpoints)
    if not found:
        state = first_state(setup) if start is None else start
        save_checkpoint(folder.checkpoints, state, step=0, progress=asdict(Plateau()))
        folder.cut_back(0)
        return state, Plateau()
    newest = found[-1]
    folder.cut_back(newest.step)
    return load_state(newest, first_state(setup)), Plateau(**newest.progress)


def step_report(evidence: StepEvidence, split: str, is_bound: bool) -> dict[str, Any]:
    """What one training batch says: its ELBO as an `Estimate`, by site, the loss that was
    differentiated, the gradient's norm and the effective sample size of its weights."""
    report = {
        "bound": _elbo(evidence.log_weights, split, is_bound),
        "sites": _site_report(evidence.log_p, evidence.log_q),
        "loss": float(evidence.loss),
        "gradient_norm": float(evidence.gradient_norm),
    }
    if len(evidence.log_weights) > 1:
        report["ess_fraction"] = float(np.mean(ess_fraction(evidence.log_weights)))
    return report


def held_out_report(evaluation: Evaluation, is_bound: bool) -> dict[str, Any]:
    """What the held-out split says: its ELBO as an `Estimate`, by site, and the weights' ESS."""
    return {
        "bound": _elbo(evaluation.log_weights, evaluation.split, is_bound),
        "sites": _site_report(evaluation.log_p, evaluation.log_q),
        "ess_fraction": float(np.mean(ess_fraction(evaluation.log_weights))),
    }


def _elbo(log_weights: np.ndarray, split: str, is_bound: bool) -> dict[str, Any]:
    estimate = bound_estimate(log_weights, bound="elbo", split=split)
    return (estimate if is_bound else replace(estimate, bound="none")).to_json()


def _site_report(
    log_p: dict[str, np.ndarray], log_q: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Mean log p and log q of every site, in nats per sequence."""
    report = {name: {"log_p": float(value.mean())} for name, value in log_p.items()}
    for name, value in log_q.items():
        report[name]["log_q"] = float(value.mean())
    return report
