"""A filter's estimate of p(x) against p(x) itself, where the model or its twin knows it;
`diagnose.checks.filters` judges the answer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from tightbound.data.batch import Batch, Split
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.probes import Pair
from tightbound.estimators.bounds import step_evidence_and_weights
from tightbound.inference.filtering import Filtering
from tightbound.inference.stepwise import filter_pair
from tightbound.models.stateful import AbstractStateful, AbstractStepwise
from tightbound.train.setup import Setup

_NUM_ROWS = 8
_MOST_DRAWS, _MOST_PARTICLES = 512, 2**16  # filters of every row; particles of all its filters
_LOOKED_AT = 64  # held-out rows, of which the longest are taken
_MOST_STEPS = 64
_SPREAD, _LARGEST_SPREAD = (
    1.0,
    1.5,
)  # of log p-hat, in nats: with more, the mean of p-hat is that of a few lucky filters


def filters(
    setup: Setup, pair: Pair, key: PRNGKeyArray, compile: Callable[..., Any]
) -> ev.Filters | None:
    """log p-hat - log p of the run's filters and of the library's own, with the run's settings, on a few
    held-out rows; None where the run has no filter, or neither its model nor its twin a `log_marginal`.
    `compile` is the caller's jit.

    Rows are cut to as many first steps as leave the library's estimates of half of them close enough to
    average, and that half is compared."""
    trains = setup.claim is not None and setup.claim.estimator == "fivo"
    rule = getattr(setup.claim, "filtering", None) if trains else setup.filtering
    if rule is None:
        return None
    noise_key, twin_key, plain_key, objective_key, evaluator_key = jax.random.split(key, 5)
    model, proposal = pair
    used, rows = setup.evaluated(proposal), _longest(setup.data["valid"])
    if not _can_be_compared(model, proposal) and setup.twin is not None:
        small = setup.twin(twin_key)
        model, proposal, rows = small.model, small.proposal, _middle(small.observations)
        used = proposal
    elif setup.noise is not None:
        rows = compile(setup.noise)(rows, noise_key)
    if not _can_be_compared(model, proposal) or not isinstance(rows.x, Sequence):
        return None
    num_draws = int(np.clip(_MOST_PARTICLES // rule.num_particles, 2, _MOST_DRAWS))
    whole = _cut(rows, min(int(rows.mask.sum(1).min()), _MOST_STEPS))
    plain, exact, resampled = compile(partial(_of_prefixes, num_draws))(
        model, proposal, whole, rule, plain_key
    )
    exact = np.asarray(exact, np.float64)[..., None]
    relative = np.asarray(plain, np.float64) - exact
    length, close = _close_enough(relative)
    whole = jax.tree.map(lambda leaf: jnp.asarray(leaf)[close], whole)

    def at(length):
        batch, known = _cut(whole, length), exact[length - 1, close]
        found = {"the library's filter": relative[length - 1, close]}
        if trains:
            ask = compile(partial(_values, setup.objective, num_draws))
            found["the objective"] = np.asarray(ask(model, proposal, batch, objective_key)) - known
        if setup.filtering is not None:
            found["the evaluator"] = (
                _evaluated(setup, model, used, batch, num_draws, evaluator_key) - known
            )
        return found

    found = at(length)
    while length > 2 and any(_spreads_widely(ratio) for ratio in found.values()):
        length = max(
            2 * length // 3, 2
        )  # of a filter that is wrong, fewer steps may tell by how much
        found = at(length)
    return ev.Filters(
        sources=np.array(list(found)),
        log_ratio=np.stack([np.asarray(ratio, np.float64) for ratio in found.values()]),
        log_p=exact[length - 1, close, 0],
        num_steps=length,
        num_particles=rule.num_particles,
        resampled_share=float(np.asarray(resampled)[:length].any(0).mean()),
    )


def _spreads_widely(log_ratio: Float[np.ndarray, "rows draws"]) -> bool:
    """Whether the mean of the ratios is that of a few of them."""
    return not (np.isfinite(log_ratio).all() and log_ratio.std(-1).max() <= _LARGEST_SPREAD)


def _can_be_compared(model: Any, proposal: Any) -> bool:
    """Whether the pair goes step by step, and the model knows log p(x)."""
    goes = isinstance(model, AbstractStateful) and isinstance(proposal, AbstractStepwise)
    return goes and hasattr(model, "log_marginal")


def _longest(split: Split) -> Batch:
    """The longest of the first rows."""
    lengths = np.asarray(split.mask[:_LOOKED_AT]).sum(1)
    return split.take(np.sort(np.argsort(-lengths, kind="stable")[:_NUM_ROWS]))


def _middle(observations: Any) -> Batch:
    """A few of a twin's observations, from the middle of its grid, where they are likely."""
    total = len(jax.tree.leaves(observations)[0])
    rows = np.unique(np.linspace(0.4 * total, 0.6 * total, _NUM_ROWS).astype(int))
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], observations)
    mask = x.mask if isinstance(x, Sequence) else np.ones((len(rows), 1), bool)
    return Batch(x, jnp.asarray(mask), jnp.asarray(mask).sum(1), jnp.arange(len(rows)))


def _cut(batch: Batch, length: int) -> Batch:
    """The first steps of every row, none of which is padding."""
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, :length], batch.x)
    mask = jnp.asarray(batch.mask)[:, :length]
    return Batch(x, mask, mask.sum(1), jnp.asarray(batch.rows))


def _many(batch: Batch, num_draws: int) -> Batch:
    """Every row as often as filters are drawn of it, each with a number, and so with draws, of its own."""
    many = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), num_draws, axis=0), batch)
    return eqx.tree_at(lambda b: b.rows, many, jnp.arange(len(many.rows)))


def _of_prefixes(
    num_draws: int,
    model: Any,
    proposal: Any,
    batch: Batch,
    rule: Filtering,
    key: PRNGKeyArray,
) -> tuple[Any, Any, Any]:
    """For the first t steps of every row: log p-hat of every filter (t, rows, draws) and log p (t, rows);
    and whether a filter resampled at step t. A filter's estimate of a prefix is the sum of its first
    steps' evidence."""
    terms = filter_pair(model, proposal, _many(batch, num_draws), rule, key=key)
    evidence, _ = step_evidence_and_weights(terms)
    steps = jnp.arange(batch.mask.shape[1])
    masks = steps[None, :] <= steps[:, None]

    def known(x, mask):
        return model.log_marginal(Sequence(x.values, x.mask & mask))

    exact = jax.vmap(lambda mask: jax.vmap(lambda x: known(x, mask))(batch.x))(masks)
    shape = (len(steps), len(batch.rows), num_draws)
    return evidence.cumsum(0).reshape(shape), exact, terms.resampled


def _close_enough(
    relative: Float[np.ndarray, "steps rows draws"],
) -> tuple[int, Int[np.ndarray, " close"]]:
    """As many steps as leave the estimates of half of the rows within `_SPREAD`, and those rows; two steps
    at least where there are two, since a filter resamples after the first."""
    spread = relative.std(-1)
    half = (relative.shape[1] + 1) // 2
    enough = np.flatnonzero(np.sort(spread, axis=1)[:, half - 1] <= _SPREAD)
    length = max(int(enough[-1]) + 1 if len(enough) else 1, min(2, len(relative)))
    return length, np.sort(np.argsort(spread[length - 1])[:half])


def _values(
    objective: Callable[..., Any],
    num_draws: int,
    model: Any,
    proposal: Any,
    batch: Batch,
    key: PRNGKeyArray,
) -> Any:
    """The objective's value of every row alone, draw by draw."""
    shape = (len(batch.rows), num_draws)

    def one(row, key):
        alone = jax.tree.map(lambda leaf: leaf[row][None], batch)
        return objective(model, proposal, alone, key=key, step=jnp.zeros((), int))[0]

    rows = jnp.repeat(jnp.arange(shape[0]), num_draws)
    keys = jax.random.split(key, len(rows))
    return jax.lax.map(lambda pair: one(*pair), (rows, keys), batch_size=64).reshape(shape)


def _evaluated(
    setup: Setup, model: Any, proposal: Any, batch: Batch, num_draws: int, key: PRNGKeyArray
) -> np.ndarray:
    """The same of the run's evaluator, (rows, draws): its log-weights of rows that hold no noise any more."""
    on_host = jax.tree.map(np.asarray, batch)
    split = Split("valid", on_host.x, on_host.mask, on_host.num_units)
    found = setup.evaluator(
        model, proposal, split, num_samples=num_draws, key=key, filtering=setup.filtering
    )
    return found.log_weights.T
