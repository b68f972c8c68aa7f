"""Does p(x | z) sum to 1 over all x, and is the mean weight p(x)? Asked of a twin so small that both can be
computed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.compiled import jit_once
from tightbound.diagnose.laws.rows import real_rows
from tightbound.inference.weigh import proposal_score
from tightbound.models.stateful import proposed
from tightbound.terms import Kind
from tightbound.train.setup import Setup

_TWIN_SAMPLES = 4096
_TWIN_OBSERVATIONS = 8
_TWIN_MASSES = 8  # that are compared with each other


def twin(setup: Setup, key: PRNGKeyArray) -> ev.Twin | None:
    """The mass of p(x | z) over all x for some z, and the mean weight over its exact value for some
    x, both on the twin. Of a model without latents, the mass of p(x) under some parameters."""
    if setup.twin is None or not has_real_latents(setup.model):
        return None
    build_key, prior_key, weigh_key = jax.random.split(key, 3)
    small = setup.twin(build_key)
    has_latents = Kind.LATENT in small.model.kinds.values()
    x: Any = jax.tree.map(jnp.asarray, small.observations)
    num_observations = len(jax.tree.leaves(x)[0])
    observed = [name for name, kind in small.model.kinds.items() if kind is Kind.OBSERVED]

    @jit_once
    def masses(model):
        z = jax.vmap(model.sample_prior)(
            jax.random.split(prior_key, _TWIN_MASSES if has_latents else 1)
        )
        score = jax.vmap(jax.vmap(model.score, in_axes=(0, None)), in_axes=(None, 0))(x, z)
        return sum(score[name].sum(-1) for name in observed)

    # from the middle of a grid: far from the data no untrained proposal can be averaged
    low, high = int(0.4 * num_observations), int(0.6 * num_observations)
    some = np.unique(np.linspace(low, high, _TWIN_OBSERVATIONS, dtype=int))
    chosen = jax.tree.map(lambda leaf: leaf[some], x)

    @jit_once
    def relative(model, proposal):
        def one_row(x, row):
            keys = jax.random.split(jax.random.fold_in(weigh_key, row), _TWIN_SAMPLES)
            q = proposed(model, proposal, x)
            z = jax.vmap(q.sample)(keys)
            log_weights = jax.vmap(lambda z: log_weight(model, q, x, z))(z)
            draws = jax.vmap(lambda z: ravel_pytree(z)[0])(z)
            first, second = jnp.split(draws, 2)
            low, high = jnp.quantile(first, jnp.array([0.1, 0.9]), axis=0)
            inside = jax.vmap(lambda z: ((z > low) & (z < high)).all())(second)
            log_mass = log_mass_in_box(model, x, low, high)
            ratio = jnp.where(inside, jnp.exp(jnp.split(log_weights, 2)[1] - log_mass), 0.0)
            return ratio.mean(), ratio.std() / np.sqrt(len(ratio))

        return jax.vmap(one_row)(chosen, jnp.arange(len(some)))

    weight = error = np.zeros(0)  # nothing to weigh where there are no latents
    if has_latents:
        weight, error = relative(small.model, small.proposal)
    models = [small.model]
    if not has_latents:
        models = [setup.twin(key).model for key in jax.random.split(build_key, _TWIN_MASSES)]
    return ev.Twin(
        log_likelihood=np.concatenate([masses(model) for model in models]),
        log_cell_volume=small.log_cell_volume,
        obs_size=len(real_rows(small.observations)[0]),
        relative_weight=np.asarray(weight),
        relative_error=np.asarray(error),
    )


def log_weight(model: Any, q: Any, x: PyTree[Array], z: PyTree[Array]) -> Float[Array, ""]:
    """log p(x, z) - log q(z | x) of one draw, in nats, from the scores of both."""
    log_q = sum(term.sum() for term in proposal_score(model, q, z).values())
    return jnp.asarray(sum(term.sum() for term in model.score(x, z).values()) - log_q)


def has_real_latents(model: Any) -> bool:
    """Whether every latent is a real number, so that densities can be differentiated and integrated."""
    z = jax.eval_shape(model.sample_prior, jax.random.key(0))
    return all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(z))


def log_mass_in_box(
    model: Any,
    x: PyTree[Array],
    low: Float[Array, " latent"],
    high: Float[Array, " latent"],
    *,
    num_nodes: int = 48,
) -> Float[Array, ""]:
    """log of the integral of p(x, z) over a box of one or two real latents, by Gauss-Legendre.

    Uses nothing of the model but `score`: it is a referee. A box, not the whole space, because
    importance weights are bounded there: E_q[w 1(z in box)] then has a small variance whatever q is.
    """
    example, unravel = ravel_pytree(model.sample_prior(jax.random.key(0)))
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)
    grid = np.stack(np.meshgrid(*[nodes] * example.size, indexing="ij"), -1)
    log_weight = np.log(np.stack(np.meshgrid(*[weights] * example.size, indexing="ij"), -1))
    centre, half = (low + high) / 2, (high - low) / 2
    points = jax.vmap(lambda node: centre + half * node)(
        jnp.asarray(grid.reshape(-1, example.size))
    )

    def log_joint(point):
        return sum(term.sum() for term in model.score(x, unravel(point)).values())

    log_terms = jax.vmap(log_joint)(points) + jnp.asarray(log_weight.sum(-1).ravel())
    return logsumexp(log_terms) + jnp.log(half).sum()
