"""Evidence about models that go step by step: what a score must not depend on, and that a filter, a
whole pass and a line of descent score the same choices alike."""

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
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, proposed
from tightbound.terms import Kind, LogTerms, StepTerms
from tightbound.train.setup import Setup

_ROWS = 8
_PARTICLES = 4
_PADDING = 3  # steps that are appended
_CHANGES = 3  # times after which the future is exchanged


def steps(
    setup: Setup,
    pair: tuple[Any, Any],
    batch: Batch,
    key: PRNGKeyArray,
    compile_once: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> ev.Steps | None:
    """Every law of a stateful model with a stepwise proposal, on a few training rows as the model
    sees them; None for other pairs."""
    model, proposal = pair
    if not (isinstance(model, AbstractStateful) and isinstance(proposal, AbstractStepwise)):
        return None
    noise_key, draw_key, objective_key = jax.random.split(key, 3)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:_ROWS]), batch)
    if setup.noise is not None:
        batch = compile_once(setup.noise)(batch, noise_key)

    @compile_once
    def objective_terms(pair, batch):
        at_first = jnp.zeros((), int)
        model, proposal = pair
        return setup.objective(model, proposal, batch, key=objective_key, step=at_first)[1]

    whole = without_padding(batch)
    padded = with_padding(whole, _PADDING)
    plain, appended = objective_terms(pair, whole), objective_terms(pair, padded)
    return ev.Steps(
        future_change=_per_row(compile_once(future_changes)(model, proposal, batch, draw_key)),
        padding_change=np.asarray(relative_change(appended.log_weights, plain.log_weights)),
        padding_counted=int(_counted(appended, padded)),
        descent_change=_per_row(compile_once(descent_changes)(model, proposal, batch, draw_key)),
    )


def _per_row(changes: Float[Array, " rows"]) -> Float[np.ndarray, " rows"]:
    return np.asarray(changes)


def relative_change(
    new: Float[Array, "samples rows"], old: Float[Array, "samples rows"]
) -> Float[Array, " rows"]:
    """Largest difference of each row, as a share of the old scores' size (at least 1 nat)."""
    return jnp.abs(new - old).max(0) / jnp.maximum(1.0, jnp.abs(old).max(0))


# --- padding -------------------------------------------------------------------------------------


def without_padding(batch: Batch) -> Batch:
    """The first steps of every row, as many as the shortest has."""
    length = max(int(np.asarray(batch.mask).sum(1).min()), 1)
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
    model: AbstractStateful, proposal: AbstractStepwise, batch: Batch, key: PRNGKeyArray
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
