"""The training loop: an iterator of records around one compiled step."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Noise
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import LogTerms
from tightbound.train.objective import AbstractObjective, CarriedObjective
from tightbound.train.preflight import (
    explained,
    require_alive,
    require_objective,
    require_optimiser,
    require_pair,
)


class TrainState(eqx.Module):
    """What training changes, and nothing else: a checkpoint is this and the run's key."""

    model: AbstractModel
    proposal: AbstractProposal
    opt_state: PyTree
    learning_rate_scale: Float[Array, ""]  # lowered by a rollback; multiplies every update
    step: Int[Array, ""]  # updates done
    carry: PyTree = None  # what a window of sequences goes on from; None where batches are whole


class StepEvidence(eqx.Module):
    """The small evidence every compiled step returns, whether or not anybody reads it."""

    loss: Float[Array, ""]  # minus the surrogate: what was differentiated
    log_p: dict[str, Float[Array, "samples batch"]]  # by site, nats per sequence
    log_q: dict[str, Float[Array, "samples batch"]]
    log_weights: Float[Array, "samples batch"]
    rows: Int[Array, " batch"]
    gradient_norm: Float[Array, ""]


@dataclass(frozen=True)
class StepRecord:
    """One update. Reading `state` or `evidence` costs nothing; converting a value waits for the device.

    `state` is valid until the next record is asked for: its buffers are donated to the next step.
    """

    step: int  # updates done, this one included
    batch: Batch  # as stored, before noise
    evidence: StepEvidence
    _leaves: list[Array]
    _unflatten: Callable[[list[Array]], TrainState]

    @cached_property
    def state(self) -> TrainState:
        """The state after this update."""
        return self._unflatten(self._leaves)


def init_state(
    model: AbstractModel,
    proposal: AbstractProposal,
    optimiser: optax.GradientTransformation,
    *,
    carry: PyTree = None,
) -> TrainState:
    """The state before the first update; `carry` is the first one of a `CarriedObjective`.

    The arrays are copied: `fit` donates its state's buffers, and the caller's model stays usable. The
    copies are strongly typed, as updated parameters are: `jnp.asarray(0.3)` is not, and the step
    would be compiled twice.
    """
    require_pair(model, proposal)
    require_optimiser(optimiser)
    require_alive((model, proposal))
    state = TrainState(
        model=model,
        proposal=proposal,
        opt_state=optimiser.init(eqx.filter((model, proposal), eqx.is_inexact_array)),
        learning_rate_scale=jnp.ones(()),
        step=jnp.zeros((), jnp.int32),
        carry=carry,
    )
    arrays, static = eqx.partition(state, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype), arrays), static)


def fit(
    state: TrainState,
    batches: Iterable[Batch],
    objective: AbstractObjective,
    optimiser: optax.GradientTransformation,
    *,
    key: PRNGKeyArray,
    noise: Noise | None = None,
) -> Iterator[StepRecord]:
    """Raise `objective` one batch at a time; yield a record after every update.

    There are no callbacks and no trainer: the caller's own `for` loop logs, evaluates, saves and
    stops. Draws of update s come from `fold_in(key, s)`, so a run that is continued from a saved
    state takes the same steps. `noise` is applied to every batch on the device.
    """
    require_objective(objective)
    require_optimiser(optimiser)
    require_alive(state)
    leaves, unflatten, step_function = compile_step(state, objective, optimiser, noise)
    first = step = int(state.step)
    for batch in batches:
        try:
            leaves, evidence = step_function(leaves, batch, key)
        except Exception as error:
            if step > first:
                raise
            raise explained(error, objective, state.model, batch) from error
        step += 1
        yield StepRecord(step, batch, evidence, leaves, unflatten)


def compile_step(
    state: TrainState,
    objective: AbstractObjective,
    optimiser: optax.GradientTransformation,
    noise: Noise | None = None,
) -> tuple[list[Array], Callable[[list[Array]], TrainState], Callable[..., Any]]:
    """The state as a flat list, the way back, and the jitted step on flat lists.

    Flat lists because flattening a module costs Python time at every call; the structure is
    needed only while tracing.
    """
    arrays, static = eqx.partition(state, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def unflatten(leaves: list[Array]) -> TrainState:
        return eqx.combine(jax.tree.unflatten(structure, leaves), static)

    def step_on_leaves(leaves, batch, key):
        new_state, evidence = train_step(unflatten(leaves), batch, key, objective, optimiser, noise)
        return jax.tree.leaves(eqx.filter(new_state, eqx.is_array)), evidence

    return leaves, unflatten, jax.jit(step_on_leaves, donate_argnums=0)


def train_step(
    state: TrainState,
    batch: Batch,
    key: PRNGKeyArray,
    objective: AbstractObjective,
    optimiser: optax.GradientTransformation,
    noise: Noise | None,
) -> tuple[TrainState, StepEvidence]:
    """One update, uncompiled."""
    noise_key, draw_key = step_keys(key, state.step)
    if noise is not None:
        batch = noise(batch, noise_key)
    parameters, static = eqx.partition((state.model, state.proposal), eqx.is_inexact_array)

    def loss(parameters):
        model, proposal = eqx.combine(parameters, static)
        surrogate, terms, carry = _raised(
            objective, model, proposal, batch, state.carry, key=draw_key, step=state.step
        )
        return -surrogate, (terms, carry)

    (loss_value, (terms, carry)), gradient = jax.value_and_grad(loss, has_aux=True)(parameters)
    updates, opt_state = optimiser.update(gradient, state.opt_state, parameters)
    new_parameters = jax.tree.map(
        lambda p, u: (p + state.learning_rate_scale * u).astype(p.dtype), parameters, updates
    )
    model, proposal = eqx.combine(new_parameters, static)
    new_state = TrainState(
        model=model,
        proposal=proposal,
        opt_state=opt_state,
        learning_rate_scale=state.learning_rate_scale,
        step=state.step + 1,
        carry=carry,
    )
    evidence = StepEvidence(
        loss=loss_value,
        log_p={site.name: site.total_log_p for site in terms.sites},
        log_q={site.name: site.total_log_q for site in terms.sites if site.log_q is not None},
        log_weights=terms.log_weights,
        rows=jnp.asarray(batch.rows),
        gradient_norm=optax.tree.norm(gradient),
    )
    return new_state, evidence


def _raised(
    objective: AbstractObjective,
    model: AbstractModel,
    proposal: AbstractProposal,
    batch: Batch,
    carry: PyTree,
    *,
    key: PRNGKeyArray,
    step: Int[Array, ""],
) -> tuple[Float[Array, ""], LogTerms, PyTree]:
    """The objective of whole sequences, which leaves the carry alone, or of a window."""
    if batch.first_clock is None:
        return *objective(model, proposal, batch, key=key, step=step), carry
    if not isinstance(objective, CarriedObjective) or carry is None:
        raise ValueError(
            f"The batch is a window of longer sequences, but the objective {type(objective).__name__} "
            "carries no state into it, or the state has no `carry`. Give whole sequences, or a "
            "`Truncated` objective and its `first_carry` to `init_state`."
        )
    return objective.on_window(model, proposal, batch, carry, key=key, step=step)


def step_keys(key: PRNGKeyArray, step: Int[Array, ""]) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of one update: for the noise of the data, and for the draws of the latents."""
    noise_key, draw_key = jax.random.split(jax.random.fold_in(key, step))
    return noise_key, draw_key


def host(evidence: StepEvidence) -> StepEvidence:
    """The evidence as NumPy arrays: waits for the device once."""
    return jax.tree.map(np.asarray, jax.device_get(evidence))
