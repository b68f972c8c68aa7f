"""Laws of proposals of discrete latents, by listing every value of z: each function asks one question of
a setup and answers with numbers; `diagnose.checks.discrete` judges them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.data.points import PointSet
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.probes import Pair, probe_batches
from tightbound.inference.weigh import proposal_score
from tightbound.models.sequential import AbstractFiltered
from tightbound.models.stateful import AbstractStateful, FromPrior, proposed
from tightbound.terms import Kind, mask_of
from tightbound.train.setup import Setup

_NUM_ROWS = 4
_NUM_DRAWS = 4096  # of every row
_NUM_GRADIENTS = 512
_LARGEST_SUPPORT = 512  # values of z that are listed
_LOOKED_AT = 256  # draws from which the support is read


def discrete(
    setup: Setup, pair: Pair, step: Array, key: PRNGKeyArray, compile: Callable[..., Any]
) -> ev.Discrete | None:
    """Everything asked of discrete latents; None where a latent is a real number, or the values of z are
    more than can be listed and the setup has no twin in which they are fewer. `compile` is the caller's
    jit."""
    if Kind.LATENT not in pair[0].kinds.values() or isinstance(pair[0], AbstractFiltered):
        return None
    keys = jax.random.split(key, 5)
    batch = probe_batches(setup)[0]
    if isinstance(batch.x, PointSet):
        return None
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:_NUM_ROWS]), batch)
    if setup.noise is not None:
        batch = compile(setup.noise)(batch, keys[0])
    found = _support(pair, batch, keys[1])
    if found is None and setup.twin is not None:
        small = setup.twin(keys[2])
        pair, batch = (small.model, small.proposal), _batch_of(small.observations)
        found = _support(pair, batch, keys[1])
    if found is None:
        return None
    support, batch = found
    log_q, log_prior, log_posterior = compile(_table)(pair, batch, support)
    counts = compile(_counts)(pair, batch, support, keys[3])
    reached = _reached(setup, pair, batch, support, log_posterior, step, keys[4], compile)
    return ev.Discrete(
        log_q=np.asarray(log_q, np.float64),
        log_prior=np.asarray(log_prior, np.float64),
        counts=np.asarray(counts),
        num_draws=_NUM_DRAWS,
        estimator="none" if setup.claim is None else setup.claim.estimator,
        reached=np.asarray(reached, np.float64),
    )


def _batch_of(observations: PyTree[Any]) -> Batch:
    """A few observations of a twin, evenly spaced among all, as a batch."""
    total = len(jax.tree.leaves(observations)[0])
    rows = np.unique(np.linspace(0, total - 1, _NUM_ROWS, dtype=int))
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf)[rows], observations)
    mask = x.mask if isinstance(x, Sequence) else np.ones((len(rows), 1), bool)
    return Batch(x, jnp.asarray(mask), jnp.asarray(mask).sum(1), jnp.arange(len(rows)))


def _support(pair: Pair, batch: Batch, key: PRNGKeyArray) -> tuple[PyTree[Array], Batch] | None:
    """Every value of z, with a leading axis, and the batch they belong to: of a model that goes along a
    sequence, its first steps, as many as can be listed. None where z is real, or has too many values.

    An entry takes the whole numbers from 0 to the largest that prior or proposal have drawn; whether
    these are all is seen from the mass of the prior over them."""
    model, proposal = pair
    drawn = _draws(model, proposal, batch, key)
    flat = np.concatenate(
        [np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in drawn], 1
    )
    if flat.size == 0 or not (np.isfinite(flat).all() and (flat == flat.round()).all()):
        return None
    if flat.min() < 0:
        return None
    if isinstance(model, AbstractStateful) and isinstance(batch.x, Sequence):
        shortened = _first_steps(batch, drawn)
        if shortened is None:
            return None
        batch = shortened
        drawn = _draws(model, proposal, batch, key)
    largest = [np.asarray(leaf).reshape(len(leaf), -1).max(0) for leaf in drawn]
    sizes = np.concatenate(largest).astype(int) + 1
    if np.log(sizes).sum() > np.log(_LARGEST_SUPPORT + 0.5):
        return None
    grid = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(sizes))
    example = jax.eval_shape(
        lambda key: proposed(model, proposal, _row(batch.x, 0)).sample(key), key
    )
    leaves, structure = jax.tree.flatten(example)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(grid, ends, axis=1)
    values = [
        jnp.asarray(part.reshape(len(grid), *leaf.shape), leaf.dtype)
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, values), batch


def _first_steps(batch: Batch, drawn: list[Array]) -> Batch | None:
    """As many first steps of every sequence as have few enough z between them."""
    per_step = sum(
        float(np.log(np.asarray(leaf).reshape(*leaf.shape[:2], -1).max((0, 1)) + 1.0).sum())
        for leaf in drawn
    )
    length = int(np.log(_LARGEST_SUPPORT + 0.5) / max(per_step, 1e-9))
    length = min(length, batch.mask.shape[1])
    if length < 1:
        return None
    cut = lambda leaf: leaf[:, :length]  # noqa: E731
    mask = batch.mask[:, :length]
    return Batch(jax.tree.map(cut, batch.x), mask, mask.sum(1), batch.rows)


def _row(x: PyTree[Array], row: int) -> PyTree[Array]:
    return jax.tree.map(lambda leaf: leaf[row], x)


def _draws(model: Any, proposal: Any, batch: Batch, key: PRNGKeyArray) -> list[Array]:
    """The leaves of draws of prior and proposal, one after the other."""

    def draw(x, key):
        prior_key, q_key = jax.random.split(key)
        q = proposed(model, proposal, x)
        goes_along = isinstance(model, AbstractStateful) and isinstance(x, Sequence)
        prior = proposed(model, FromPrior(), x).sample if goes_along else model.sample_prior
        return prior(prior_key), q.sample(q_key)

    num_rows = len(batch.rows)
    keys = jax.random.split(key, (num_rows, _LOOKED_AT // num_rows))
    drawn = eqx.filter_jit(jax.vmap(jax.vmap(draw, in_axes=(None, 0))))(batch.x, keys)
    first, second = (jax.tree.leaves(tree) for tree in drawn)
    flat = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])  # noqa: E731
    return [jnp.concatenate([flat(a), flat(b)]) for a, b in zip(first, second, strict=True)]


def _log_joint(
    model: Any, x: PyTree[Array], mask: Array, z: PyTree[Array]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """log p(z), and log p(x, z), of real positions."""
    terms = model.score(x, z)
    totals = {n: jnp.where(mask_of(mask, t.shape[-1]), t, 0.0).sum() for n, t in terms.items()}
    prior = sum(total for n, total in totals.items() if model.kinds[n] is Kind.LATENT)
    return jnp.asarray(prior), jnp.asarray(sum(totals.values()))


def _log_q(
    model: Any, proposal: Any, x: PyTree[Array], mask: Array, support: PyTree[Array]
) -> Float[Array, " support"]:
    q = proposed(model, proposal, x)

    def of_value(z):
        terms = proposal_score(model, q, z).values()
        return sum(jnp.where(mask_of(mask, t.shape[-1]), t, 0.0).sum() for t in terms)

    return jnp.asarray(jax.vmap(of_value)(support))


def _table(pair: Pair, batch: Batch, support: PyTree[Array]) -> tuple[Array, Array, Array]:
    """log q(z | x), log p(z) and log p(z | x) of every row and value of z."""
    model, proposal = pair

    def of_row(x, mask):
        prior, joint = jax.vmap(lambda z: _log_joint(model, x, mask, z))(support)
        return _log_q(model, proposal, x, mask, support), prior, jax.nn.log_softmax(joint)

    return jax.vmap(of_row)(batch.x, jnp.asarray(batch.mask))


def _counts(pair: Pair, batch: Batch, support: PyTree[Array], key: PRNGKeyArray) -> Array:
    """How often every value of z was drawn for every row; what is not in the support counts nowhere."""
    model, proposal = pair
    values = jax.vmap(lambda z: ravel_pytree(z)[0])(support)

    def of_row(x, row):
        def one(key):
            drawn = ravel_pytree(proposed(model, proposal, x).sample(key))[0]
            return (values == drawn[None]).all(-1)

        keys = jax.random.split(jax.random.fold_in(key, row), (_NUM_DRAWS // 256, 256))
        return jax.lax.map(lambda some: jax.vmap(one)(some).sum(0), keys).sum(0)

    return jax.vmap(of_row)(batch.x, jnp.arange(len(batch.rows)))


def _reached(
    setup: Setup,
    pair: Pair,
    batch: Batch,
    support: PyTree[Array],
    log_posterior: Array,
    step: Array,
    key: PRNGKeyArray,
    compile: Callable[..., Any],
) -> Float[Array, " draws"]:
    """The objective's gradient with respect to the proposal, draw by draw, along the gradient it should
    have, as a multiple of that: 1 on average for an estimate without bias, 0 where none arrives. What it
    should be is the sum over all z: that of the ELBO, or, for wake-sleep, of E[log q] under p(z | x). Of
    no draw where the proposal has no parameters or nothing to gain."""
    model, proposal = pair
    parameters, static = eqx.partition(proposal, eqx.is_inexact_array)
    if not jax.tree.leaves(parameters):
        return jnp.zeros(0)
    wake = setup.claim is not None and setup.claim.estimator == "wake-sleep"

    def value(parameters, log_posterior):
        proposal = eqx.combine(parameters, static)

        def of_row(x, mask, log_posterior):
            log_q = _log_q(model, proposal, x, mask, support)
            if wake:
                return (jnp.exp(log_posterior) * log_q).sum()
            q = jnp.exp(log_q)
            return jnp.where(q > 0, q * (log_posterior - log_q), 0.0).sum()

        return jax.vmap(of_row)(batch.x, jnp.asarray(batch.mask), log_posterior).mean()

    wanted = compile(jax.grad(value))(parameters, log_posterior)
    length = float(optax.tree.norm(wanted))
    if not length > 1e-6:
        return jnp.zeros(0)

    def along(key):
        def objective(parameters):
            proposal = eqx.combine(parameters, static)
            return setup.objective(model, proposal, batch, key=key, step=step)[0]

        found = jax.grad(objective)(parameters)
        return optax.tree.vdot(found, wanted) / length**2

    return compile(lambda keys: jax.lax.map(along, keys))(jax.random.split(key, _NUM_GRADIENTS))
