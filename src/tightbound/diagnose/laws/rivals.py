"""What may stand for the objective by mistake: asked where it is not its claim."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.checks.objective import (
    FORCE_NORM_AS_LOSS,
    HEADS_AVERAGED_APART,
    WEIGHTS_DROPPED,
)
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.laws.mixtures import interaction_of, norms
from tightbound.diagnose.laws.objective import gradient_of
from tightbound.diagnose.laws.rows import batches_of_claim
from tightbound.diagnose.laws.steps import without_earlier_weights
from tightbound.diagnose.probes import Pair
from tightbound.inference.stein import stein_force
from tightbound.inference.stepwise import filter_pair, stepwise_pair
from tightbound.models.mixture import mixtures
from tightbound.train.em import MonteCarloEM, Supervised, heads_averaged_apart
from tightbound.train.filtering import FilteringObjective
from tightbound.train.loop import TrainState
from tightbound.train.setup import Setup

_TOLERANCE = 1e-3  # of the claim's size: that of TB201


def rivals(
    setup: Setup, state: TrainState, held: ev.Objective | None, key: PRNGKeyArray
) -> ev.Rivals | None:
    """Every known mistake that the claim admits, on its own rows and draws. None where the objective is
    its claim, or nothing is claimed."""
    claim = setup.claim
    if held is None or claim is None or setup.objective is claim or _is_its_claim(held):
        return None
    noise_key, draw_key, _ = jax.random.split(key, 3)
    batch, _ = batches_of_claim(setup, noise_key)
    pair = (state.model, state.proposal)
    lines: list[tuple[str, Float[np.ndarray, " rows"]]] = []
    if isinstance(claim, MonteCarloEM | Supervised):
        rows = _heads_averaged(claim, pair, batch, draw_key, jnp.asarray(state.step))
        lines.append((HEADS_AVERAGED_APART.name, rows))
    if isinstance(claim, FilteringObjective):
        lines.append((WEIGHTS_DROPPED.name, _weights_dropped(claim, pair, batch, draw_key)))
    for norm in _norms_of_claim(setup, state, batch, draw_key):
        lines.append((FORCE_NORM_AS_LOSS.name, np.full(len(batch.rows), norm)))
    return ev.Rivals(
        causes=np.array([cause for cause, _ in lines]),
        values=np.array([values for _, values in lines], np.float64),
    )


def _is_its_claim(held: ev.Objective) -> bool:
    """Whether every row alone and all together have the claimed value; a NaN has none."""
    found = np.append(held.surrogate, held.batch_surrogate)
    claimed = np.append(held.claimed, held.batch_claimed)
    size = max(1.0, float(np.abs(held.claimed).max(initial=0.0)))
    return bool((np.abs(found - claimed) <= _TOLERANCE * size).all())


def _norms_of_claim(
    setup: Setup, state: TrainState, batch: Batch, key: PRNGKeyArray
) -> Float[np.ndarray, " norm"]:
    """Lengths that have been shown for a bound: of the claim's gradient, of its part in the proposal,
    and of the Stein force on a mixture's components."""
    assert setup.claim is not None
    gradient = gradient_of(setup.claim, state, batch, key)
    found = [optax.tree.norm(gradient), optax.tree.norm(gradient[1])]
    acting = interaction_of(setup)
    if acting is not None and mixtures(gradient):
        own = eqx.filter(mixtures(state.proposal)[0].components, eqx.is_inexact_array)
        force = stein_force(
            own,
            mixtures(gradient)[0].components,
            acting.kernel,
            repulsion=acting.repulsion,
            num_rows=acting.num_rows,
        )
        total = jax.tree.map(jnp.add, force.attraction, force.repulsion)
        found.append(jnp.linalg.norm(norms(total)))
    return np.array([float(norm) for norm in found])


def _heads_averaged(
    claim: Any, pair: Pair, batch: Batch, key: PRNGKeyArray, step: Array
) -> Float[np.ndarray, " rows"]:
    """What the claim would be if every head's loss were averaged over its own decisions, row by row."""
    averaged = replace(claim, total=heads_averaged_apart)
    model, proposal = pair
    value = jit_once(lambda m, q, row: averaged(m, q, row, key=key, step=step)[0])
    rows = [jax.tree.map(lambda leaf, r=r: leaf[r : r + 1], batch) for r in range(len(batch.rows))]
    return np.array([float(value(model, proposal, row)) for row in rows])


def _weights_dropped(
    claim: Any, pair: Pair, batch: Batch, key: PRNGKeyArray
) -> Float[np.ndarray, " rows"]:
    """What a filter's claim would be if every step added log mean w_t, resampled or not, row by row."""

    @jit_once
    def value(model, proposal):
        terms = filter_pair(*stepwise_pair(model, proposal), batch, claim.filtering, key=key)
        return without_earlier_weights(terms)

    return np.asarray(value(*pair))
