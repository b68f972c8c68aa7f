"""Sequences drawn from a model with a state: from its beginning, after a prefix, between two rows."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.inference.filter import filter_particles, one_of_each
from tightbound.inference.filtering import Filtering
from tightbound.inference.interpolation import linear_mixture, spherical_mixture
from tightbound.inference.smoothing import smooth
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, Guided, continued

NUM_PARTICLES = 16  # of the filter that a prefix, or a row to mix, is inferred with


@eqx.filter_jit
def states_after(
    model: AbstractStateful, proposal: AbstractStepwise, batch: Batch, key: PRNGKeyArray
) -> PyTree[Float[Array, "batch ..."]]:
    """h after the last step of every row, of one particle drawn by its weight.

    The filter has `NUM_PARTICLES`; the more, the closer to a draw given x (Andrieu et al. 2010, sec.
    2.2). A row's draws come from its entry of `batch.rows`.
    """
    filter_key, choice_key = jax.random.split(key)
    _, population = filter_particles(
        Guided(model, proposal), batch, num_particles=NUM_PARTICLES, key=filter_key
    )
    rows = jnp.asarray(batch.rows)
    return one_of_each(population.state, population.log_weights, rows, choice_key)


@eqx.filter_jit
def latents_of(
    model: AbstractStateful, proposal: AbstractStepwise, batch: Batch, key: PRNGKeyArray
) -> PyTree[Float[Array, "batch time latent"]]:
    """z of every step of every row, of one particle drawn by its weight, as in `states_after`."""
    filter_key, choice_key = jax.random.split(key)
    filtering = Filtering(NUM_PARTICLES)
    paths, log_weights = smooth(model, proposal, batch, filtering, key=filter_key)
    paths = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), paths)
    return one_of_each(paths, log_weights.T, jnp.asarray(batch.rows), choice_key)


@eqx.filter_jit
def free(
    model: AbstractStateful, key: PRNGKeyArray, num: int, num_steps: int
) -> PyTree[Float[Array, "num time ..."]]:
    """`num` sequences x from the model's beginning."""

    def one(key):
        return continued(model, model.init(), jnp.zeros((), int), key, num_steps)[1]

    return jax.vmap(one)(jax.random.split(key, num))


def primed(
    model: AbstractStateful,
    proposal: AbstractStepwise,
    batch: Batch,
    prefix: int,
    num_steps: int,
    key: PRNGKeyArray,
) -> PyTree[Float[Array, "batch time ..."]]:
    """`num_steps` further steps after the first `prefix` of every row, which the result leaves out.

    What follows the prefix is cut off before the proposal sees the row: one that reads backwards
    would tell of it.
    """
    infer_key, draw_key = jax.random.split(key)
    given = Batch(
        x=jax.tree.map(lambda leaf: leaf[:, :prefix], batch.x),
        mask=batch.mask[:, :prefix],
        num_units=batch.mask[:, :prefix].sum(1),
        rows=batch.rows,
    )
    states = states_after(model, proposal, given, infer_key)
    return _continuations(model, states, jnp.asarray(prefix), draw_key, num_steps)


@eqx.filter_jit
def _continuations(model, states, clock, key, num_steps):
    def one(state, key):
        return continued(model, state, clock, key, num_steps)[1]

    keys = jax.random.split(key, len(jax.tree.leaves(states)[0]))
    return jax.vmap(one)(states, keys)


@eqx.filter_jit
def between(
    model: AbstractStateful,
    first: PyTree[Float[Array, "time latent"]],
    last: PyTree[Float[Array, "time latent"]],
    shares: Float[Array, " num"],
    key: PRNGKeyArray,
    *,
    spherical: bool = False,
) -> PyTree[Float[Array, "num time ..."]]:
    """x drawn along mixtures of the latents z of two sequences, all with the same noise.

    What is mixed is z_t, step by step: at share 0 that of `first`, at share 1 that of `last`. The
    state h is not: it goes along with the z and x that are drawn. So the ends are not the two
    sequences again, but others that share their latents.
    """
    mix = spherical_mixture if spherical else linear_mixture

    def one(share):
        z = jax.tree.map(lambda a, b: jax.vmap(mix, (0, 0, None))(a, b, share), first, last)
        return _drawn_along(model, z, key)

    return jax.vmap(one)(shares)


def _drawn_along(model: AbstractStateful, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
    """x_t ~ p(x_t | z_t, h_t), one step after the other, with all of z given."""

    def step(state, inputs):
        z_t, key = inputs
        x_t = model.likelihood(state, z_t).sample(key)
        return model.advance(state, z_t, model.read(x_t)), x_t

    keys = jax.random.split(key, len(jax.tree.leaves(z)[0]))
    return jax.lax.scan(step, model.init(), (z, keys))[1]
