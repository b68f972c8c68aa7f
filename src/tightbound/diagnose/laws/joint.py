"""Is the weight of the record log p(x, z) - log q(z | x), and is log p of discrete data below 0?"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.data.points import Points, PointSet
from tightbound.diagnose import evidence as ev
from tightbound.inference.weigh import draws, weigh
from tightbound.models.sequential import AbstractFiltered
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, proposed
from tightbound.terms import Kind, LogTerms
from tightbound.train.loop import TrainState
from tightbound.train.setup import Setup

_NUM_DRAWS = 2


def joint(
    setup: Setup, state: TrainState, batch: Batch, key: PRNGKeyArray, jit_once: Callable[..., Any]
) -> ev.Joint | None:
    """The weights of a record beside those asked of `model.score` and `q.log_prob` of the same draws,
    which are summed over real positions here. The record is that of the run's objective where its draws
    are these (its log p says so), else that of `weigh`. No weights of a stepwise proposal, whose draws go
    along the model's state; None where a filter sums out choices, or nothing is observed."""
    model, proposal = state.model, state.proposal
    names = [name for name, kind in model.kinds.items() if kind is Kind.OBSERVED]
    if isinstance(model, AbstractFiltered) or not names:
        return None
    stepwise = isinstance(model, AbstractStateful) and isinstance(proposal, AbstractStepwise)
    at_step = jnp.asarray(state.step)

    @jit_once
    def ask(model, proposal, batch):
        own = None
        if setup.claim is not None and not stepwise:
            _, own = setup.objective(model, proposal, batch, key=key, step=at_step)
        own = own if isinstance(own, LogTerms) else None
        num_draws = _NUM_DRAWS if own is None else len(own.sites[0].log_p)

        def one_row(x, row):
            keys = jax.random.split(jax.random.fold_in(key, row), num_draws)
            q = proposed(model, proposal, x)
            z = jax.vmap(q.sample)(keys) if stepwise else draws(q, keys)
            return jax.vmap(lambda z: (model.score(x, z), q.log_prob(z)))(z)

        scores = jax.vmap(one_row)(batch.x, jnp.asarray(batch.rows))
        if stepwise:
            return scores, None
        plain = weigh(model, proposal, batch, num_samples=num_draws, key=key)
        return scores, [(t.log_weights, t.log_joint) for t in (plain, own) if t is not None]

    (log_p, log_q), records = ask(model, proposal, batch)
    mask = np.asarray(batch.mask)
    of_site = {name: _over_real(score, mask) for name, score in log_p.items()}
    total = np.asarray(sum(of_site.values()))
    asked = np.asarray(total - sum(_over_real(s, mask) for s in jax.tree.leaves(log_q)))
    record = np.zeros_like(asked)
    for weights, log_joint in records or ():  # the last that holds the same draws
        shared = np.shape(log_joint) == asked.shape and np.allclose(
            *(log_joint, total), rtol=1e-3, atol=1e-3, equal_nan=True
        )
        record = np.asarray(weights) if shared or weights is records[0][0] else record
    return ev.Joint(
        record=record[:0] if stepwise else record,
        asked=asked[:0] if stepwise else asked,
        names=np.array(names),
        discrete=np.full(len(names), _is_discrete(model, batch.x, key, jit_once)),
        largest_log_p=np.array([of_site[name].max(initial=-np.inf) for name in names]),
    )


def _over_real(score: Array, mask: np.ndarray) -> Float[np.ndarray, "samples rows"]:
    """Scores (rows, samples, ...) summed over what is real of each row: positions where there is one for
    each of the mask, and all of a score of the whole sequence."""
    totals = []
    for one, real in zip(np.asarray(score), mask, strict=True):
        by_position = one.reshape(len(one), -1)
        counted = real if by_position.shape[1] == len(real) else np.full(1, real.any())
        totals.append(by_position[:, counted].sum(1))
    return np.stack(totals, axis=1)


def _is_discrete(model: Any, x: PyTree[Array], key: PRNGKeyArray, jit_once: Any) -> bool:
    """Whether everything observed is whole numbers, in the data and in draws of the model: then log p of
    each site is that of a probability. Where some of it is real (an offset beside a pen), a site may
    hold both, and none is called discrete."""
    if not _whole(_observed(x)):
        return False

    def draw(model, keys):
        return jax.vmap(lambda k: _observed(model.sample(k)[1]))(keys)

    keys = jax.random.split(key, 4)
    shapes = jax.eval_shape(lambda keys: draw(model, keys), keys)
    if all(_has_whole_type(leaf) for leaf in jax.tree.leaves(shapes)):
        return True
    return _whole(jit_once(draw)(model, keys))


def _observed(x: PyTree[Array]) -> PyTree[Array]:
    """What is observed: of points the target, since their inputs are given."""
    points = x.points if isinstance(x, PointSet) else x
    return points.target if isinstance(points, Points) else points


def _has_whole_type(leaf: Any) -> bool:
    return leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.integer)


def _whole(x: PyTree[Array]) -> bool:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
    return all(_has_whole_type(leaf) or bool((leaf == np.round(leaf)).all()) for leaf in leaves)
