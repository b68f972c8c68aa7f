"""Draws of the latents and of new data from any pair, with an axis for the proposal's components.

A proposal that is no mixture has one component. Every component has the same weight, so a mean over
both axes, component and sample, is one under the whole proposal.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree, Real

from tightbound.data.batch import Batch
from tightbound.models.base import AbstractModel, AbstractProposal, Distribution
from tightbound.models.mixture import MixtureDistribution
from tightbound.models.point_model import AbstractPointModel
from tightbound.models.stateful import proposed

_MOST_PREDICTIONS = 32_768  # draws times points at once


class Predictions(NamedTuple):
    """What every draw of the latents says of every new point."""

    expected: Float[
        Array, "component sample points *outputs"
    ]  # mean, or the classes' probabilities
    target: Real[Array, "component sample points"]  # a draw


def posterior_draws(
    model: AbstractModel,
    proposal: AbstractProposal,
    batch: Batch,
    *,
    num_samples: int,
    key: PRNGKeyArray,
) -> PyTree[Array]:
    """z ~ q(z | x), `num_samples` from every component for every sequence of the batch.

    The axes of every array are component, sample, batch, and then those of z; components are in the
    order of `Mixture.components`. Points of one data set (`Split.take` of a pooled split) are one
    sequence, so their batch axis is 1. A sequence's draws come from its entry of `batch.rows`.
    """
    _check_num_samples(num_samples)

    def one_sequence(x, row):
        q = proposed(model, proposal, x)
        return _draws_of(q, _keys(q, num_samples, jax.random.fold_in(key, row)))

    return jax.vmap(one_sequence, out_axes=2)(batch.x, jnp.asarray(batch.rows))


def predictive_draws(
    model: AbstractModel,
    proposal: AbstractProposal,
    batch: Batch,
    *,
    num_samples: int,
    key: PRNGKeyArray,
) -> PyTree[Array]:
    """x* ~ p(x* | z), one for each z ~ q(z | x) of `posterior_draws`, with the same first axes.

    Replicates of what was observed. Of a model of points each is a new data set with inputs of its
    own; `predicted` is for given inputs.
    """
    _check_num_samples(num_samples)

    def one_sequence(x, row):
        z_key, x_key = jax.random.split(jax.random.fold_in(key, row))
        q = proposed(model, proposal, x)
        z = _draws_of(q, _keys(q, num_samples, z_key))
        return jax.vmap(jax.vmap(model.sample_likelihood))(z, _keys(q, num_samples, x_key))

    return jax.vmap(one_sequence, out_axes=2)(batch.x, jnp.asarray(batch.rows))


def predicted(
    model: AbstractPointModel,
    proposal: AbstractProposal,
    batch: Batch,
    inputs: Real[Array, "points inputs"],
    *,
    num_samples: int,
    key: PRNGKeyArray,
) -> Predictions:
    """What is predicted at `inputs` from the data set that `batch` is, by every draw of its latents.

    `batch` holds the points that q was fitted to: `train.take(np.arange(len(train)))`. The mean of
    `expected` over both axes is the predictive mean (or the classes' probabilities); the spread of
    `target` over them has the noise in it, that of `expected` has not. ValueError where the batch is
    more than one sequence.
    """
    if len(batch.rows) != 1:
        raise ValueError(
            f"Points are predicted from one data set, but the batch holds {len(batch.rows)} sequences. "
            "Take the training points from a pooled split: `train.take(numpy.arange(len(train)))`."
        )
    theta_key, target_key = jax.random.split(key)
    drawn = posterior_draws(model, proposal, batch, num_samples=num_samples, key=theta_key)
    theta = jax.tree.map(lambda leaf: leaf[:, :, 0], drawn)
    num_components = len(jax.tree.leaves(theta)[0])

    def one_point(point):
        place, of_point = point
        keys = jax.random.split(
            jax.random.fold_in(target_key, place), (num_components, num_samples)
        )

        def one_draw(theta, key):
            law = model.likelihood(of_point, theta)
            return Predictions(model.expected(of_point, theta), jnp.asarray(law.sample(key)))

        return jax.vmap(jax.vmap(one_draw))(theta, keys)

    at_once = max(_MOST_PREDICTIONS // (num_components * num_samples), 1)
    points = (jnp.arange(len(inputs)), jnp.asarray(inputs))
    found = jax.lax.map(one_point, points, batch_size=min(at_once, len(inputs)))
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 2), found)


def _draws_of(q: Distribution, keys: Key[Array, "component sample"]) -> PyTree[Array]:
    if isinstance(q, MixtureDistribution):
        return q.each(lambda component, own: jax.vmap(component.sample)(own), keys)
    return jax.vmap(jax.vmap(q.sample))(keys)


def _keys(q: Distribution, num_samples: int, key: PRNGKeyArray) -> Key[Array, "component sample"]:
    num_components = q.num_components if isinstance(q, MixtureDistribution) else 1
    return jax.random.split(key, (num_components, num_samples))


def _check_num_samples(num_samples: int) -> None:
    if num_samples < 1:
        raise ValueError(
            f"`num_samples` is {num_samples}, but every component draws at least once. Give 1 or more."
        )
