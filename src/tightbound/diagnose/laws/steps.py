"""Evidence about models of sequences: what the score of a step must not depend on; and, where they go
step by step, that a filter, a whole pass and a line of descent score the same choices alike."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.inference.filtering import Filtering
from tightbound.inference.smoothing import along, lines, trace
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, proposed
from tightbound.terms import Kind, LogTerms, StepTerms
from tightbound.train.setup import Setup

_ROWS = 8
_PARTICLES = 4
_PADDING = 3  # steps that are appended
_CHANGES = 3  # times after which the future is exchanged
_PLACES = 4  # single steps that are exchanged
_LAGS = 5  # steps after them that are looked at


def steps(
    setup: Setup,
    pair: tuple[Any, Any],
    batch: Batch,
    key: PRNGKeyArray,
    compile_once: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> ev.Steps | None:
    """Every law of a model of sequences, on a few training rows as the model sees them; None where x
    is no `Sequence`. Lines of descent are those of a stateful model with a stepwise proposal."""
    model, proposal = pair
    if not isinstance(batch.x, Sequence):
        return None
    has_lines = isinstance(model, AbstractStateful) and isinstance(proposal, AbstractStepwise)
    noise_key, draw_key, objective_key = jax.random.split(key, 3)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:_ROWS]), batch)
    if setup.noise is not None:
        batch = compile_once(setup.noise)(batch, noise_key)

    @compile_once
    def objective_terms(pair, batch):
        at_first = jnp.zeros((), int)
        model, proposal = pair
        return setup.objective(model, proposal, batch, key=objective_key, step=at_first)[1]

    descent = np.zeros(0)
    if has_lines:
        descent = np.asarray(compile_once(descent_changes)(model, proposal, batch, draw_key))
    whole = without_padding(batch)
    room = min(_PADDING, batch.mask.shape[1] - whole.mask.shape[1])
    padded = with_padding(whole, room)
    plain, appended = objective_terms(pair, whole), objective_terms(pair, padded)
    moved = relative_change(appended.log_weights, plain.log_weights)
    return ev.Steps(
        future_change=np.asarray(compile_once(future_changes)(model, proposal, batch, draw_key)),
        padding_change=np.asarray(moved)[: None if room else 0],  # sequences of one have no padding
        padding_counted=int(_counted(appended, padded)),
        descent_change=descent,
        lag_change=np.asarray(compile_once(lag_changes)(model, proposal, batch, draw_key)),
    )


def relative_change(
    new: Float[Array, "samples rows"], old: Float[Array, "samples rows"]
) -> Float[Array, " rows"]:
    """Largest difference of each row, as a share of the old scores' size (at least 1 nat)."""
    return jnp.abs(new - old).max(0) / jnp.maximum(1.0, jnp.abs(old).max(0))


# --- padding -------------------------------------------------------------------------------------


def without_padding(batch: Batch) -> Batch:
    """The first steps of every row: as many as the shortest has, but few enough that padding can be
    appended within the width of the batch, which may be the longest that the model takes."""
    mask = np.asarray(batch.mask)
    length = max(min(int(mask.sum(1).min()), mask.shape[1] - _PADDING), 1)
    x = jax.tree.map(lambda leaf: leaf[:, :length], batch.x)
    return Batch(x, batch.mask[:, :length], batch.num_units, batch.rows)


def with_padding(batch: Batch, num_steps: int) -> Batch:
    """The same sequences with `num_steps` more steps of padding, which hold copies of the first
    step: numbers like any other."""

    def append(leaf):
        return jnp.concatenate([leaf, jnp.repeat(leaf[:, :1], num_steps, axis=1)], axis=1)

    mask = jnp.asarray(batch.mask)
    mask = jnp.concatenate([mask, jnp.zeros((len(mask), num_steps), bool)], axis=1)
    values = jax.tree.map(append, batch.x.values)  # pyright: ignore[reportAttributeAccessIssue]
    return Batch(Sequence(values, mask), mask, batch.num_units, batch.rows)


def _counted(terms: LogTerms, batch: Batch) -> Int[Array, ""]:
    """Positions that the record's sites call real and that are padding."""
    longer = [site.mask for site in terms.sites if site.mask.shape[-1] == batch.mask.shape[-1]]
    return sum(
        ((mask & ~jnp.asarray(batch.mask)[None]).sum() for mask in longer), jnp.zeros((), int)
    )


# --- the future ----------------------------------------------------------------------------------


def future_changes(
    model: AbstractModel, proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray
) -> Float[Array, " rows"]:
    """How far log p(x_s | past), s <= t, and log p(z_s | past), s <= t + 1, move when what follows t is
    replaced by another row's values: the largest over s and a few t, as a share of the largest of
    these scores (at least 1 nat). The prior of z_{t+1} comes before x_{t+1}.

    The z are draws of the proposal given the true x, held fixed; the proposal may look ahead.
    """

    def one_row(x, other, row):
        z = proposed(model, proposal, x).sample(jax.random.fold_in(key, row))
        before = model.score(x, z)
        length = x.mask.sum()

        def exchanged(share):
            last = jnp.clip((share * length).astype(int), 0, jnp.maximum(length - 2, 0))
            past = jnp.arange(len(x.mask)) <= last
            before_x = jnp.arange(len(x.mask)) <= last + 1
            values = jax.tree.map(lambda own, new: _where(past, own, new), x.values, other.values)
            after = model.score(Sequence(values, x.mask), z)
            moved = [
                jnp.where(
                    past if model.kinds[name] is Kind.OBSERVED else before_x,
                    jnp.abs(after[name] - log_p),
                    0.0,
                ).max()
                for name, log_p in before.items()
            ]
            return jnp.stack(moved).max()

        size = jnp.stack([jnp.abs(log_p).max() for log_p in before.values()]).max()
        shares = (jnp.arange(_CHANGES) + 0.5) / _CHANGES
        return jax.vmap(exchanged)(shares).max() / jnp.maximum(1.0, size)

    # another row's values, moved along by one: a chorale's bars may be alike, their neighbours not
    others = jax.tree.map(lambda leaf: jnp.roll(jnp.roll(leaf, 1, 0), 1, 1), batch.x)
    return jax.vmap(one_row)(batch.x, others, jnp.asarray(batch.rows))


def _where(past: Bool[Array, " time"], own: Array, new: Array) -> Array:
    return jnp.where(past.reshape(-1, *[1] * (own.ndim - 1)), own, new)


# --- the past ------------------------------------------------------------------------------------


def lag_changes(
    model: AbstractModel, proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray
) -> Float[Array, " lags"]:
    """How far log p(x_t | past) moves when x_{t-k} alone is replaced by another row's value, for
    k = 1, 2, ...: the largest over rows and a few t, as a share of the row's largest score (at least
    1 nat). 0 for a lag longer than all rows. The z are held fixed, as for the future.
    """

    def one_row(x, other, row):
        z = proposed(model, proposal, x).sample(jax.random.fold_in(key, row))

        def observed(values):
            score = model.score(Sequence(values, x.mask), z)
            kinds = model.kinds
            return sum(score[name] for name in score if kinds[name] is Kind.OBSERVED)

        before = observed(x.values)
        length = x.mask.sum()

        def exchanged(share):
            place = jnp.clip((share * length).astype(int), 0, jnp.maximum(length - 2, 0))
            kept = jnp.arange(len(x.mask)) != place
            values = jax.tree.map(lambda own, new: _where(kept, own, new), x.values, other.values)
            moved = jnp.where(x.mask, jnp.abs(observed(values) - before), 0.0)
            return jax.lax.dynamic_slice(jnp.pad(moved, (0, _LAGS + 1)), (place + 1,), (_LAGS,))

        shares = (jnp.arange(_PLACES) + 0.5) / _PLACES
        size = jnp.maximum(1.0, jnp.where(x.mask, jnp.abs(before), 0.0).max())
        return jax.vmap(exchanged)(shares).max(0) / size

    others = jax.tree.map(lambda leaf: jnp.roll(jnp.roll(leaf, 1, 0), 1, 1), batch.x)
    return jax.vmap(one_row)(batch.x, others, jnp.asarray(batch.rows)).max(0)


# --- lines of descent ----------------------------------------------------------------------------


def descent_changes(
    model: AbstractStateful, proposal: AbstractStepwise, batch: Batch, key: PRNGKeyArray
) -> Float[Array, " rows"]:
    """The identity of carried state and recomputation: a filter resamples at every step, and what the
    steps of a surviving line of descent were worth must be log p(x_t, z_t | past) - log q(z_t) of the
    whole sequences x and z scored at once.

    Largest difference over steps and particles, as a share of the largest term (at least 1 nat).
    """
    filtering = Filtering(_PARTICLES, threshold=1, resampling="multinomial")
    terms, paths = lines(model, proposal, batch, filtering, key=key)
    by_time = jnp.swapaxes(terms.log_increments, 1, 2)
    worths = along(by_time, trace(terms.ancestors))

    def one_particle(x, z, worth):
        log_q = proposed(model, proposal, x).log_prob(z)
        whole = sum(model.score(x, z).values()) - sum(log_q.values())
        off = jnp.where(x.mask, jnp.abs(whole - worth), 0.0).max()
        return off / jnp.maximum(1.0, jnp.where(x.mask, jnp.abs(worth), 0.0).max())

    of_row = jax.vmap(one_particle, in_axes=(None, 0, 0))
    return jax.vmap(of_row, in_axes=(0, 1, 1))(batch.x, paths, worths).max(1)


def without_earlier_weights(terms: StepTerms) -> Float[Array, " batch"]:
    """What a filter reports that forgets its weights where it did not resample: the sum over steps of
    log mean_n w_t^n, in nats. It is no bound; where every step resamples it is the estimate."""
    by_step = jax.nn.logsumexp(terms.log_increments, axis=1) - jnp.log(
        terms.log_increments.shape[1]
    )
    return jnp.where(terms.mask, by_step, 0.0).sum(0)
