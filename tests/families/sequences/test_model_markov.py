"""Oracle: Krishnan et al. 2017, eq. 1 and sec. 5, written in NumPy and SciPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit, log_expit
from scipy.stats import norm

from tightbound.data.sequences import Sequence
from tightbound.families.sequences.model_markov import DeepMarkovModel
from tightbound.nn.outputs import BernoulliOutput


@pytest.fixture(scope="module")
def model():
    return DeepMarkovModel(
        2,
        BernoulliOutput(),
        num_features=3,
        network_size=4,
        min_scale=0.05,
        num_steps=6,
        key=jax.random.key(0),
    )


def layer(linear, x):
    return np.asarray(linear.weight) @ x + np.asarray(linear.bias)


def mlp(network, x):
    first, second = network.layers
    return layer(second, np.maximum(layer(first, x), 0.0))


def transition(model, z):
    """Mean and scale of z_t given z_{t-1} = z."""
    parts = model.gated_transition
    gate, proposed = expit(mlp(parts.gate, z)), mlp(parts.proposed_mean, z)
    mean = (1 - gate) * layer(parts.linear, z) + gate * proposed
    return mean, 0.05 + np.log1p(np.exp(layer(parts.scale, np.maximum(proposed, 0.0))))


def test_the_score_is_the_papers_formulas(model):
    """Oracle: the formulas, step by step, with padding last. Planted: gate and its complement
    exchanged, which some step must show."""
    random = np.random.default_rng(1)
    x, z = 1.0 * (random.normal(size=(5, 3)) > 0), random.normal(size=(5, 2))
    mask = np.arange(5) < 4
    found = eqx.filter_jit(model.score)(Sequence(jnp.asarray(x), jnp.asarray(mask)), jnp.asarray(z))
    of_z = [norm.logpdf(z[0]).sum()]
    of_z += [norm.logpdf(z[t], *transition(model, z[t - 1])).sum() for t in range(1, 5)]
    of_x = [log_expit((2 * x[t] - 1) * mlp(model.decoder, z[t])).sum() for t in range(5)]
    assert set(found) == set(model.kinds) == {"z", "x"}
    assert_allclose(found["z"], np.where(mask, of_z, 0.0), rtol=1e-10)
    assert_allclose(found["x"], np.where(mask, of_x, 0.0), rtol=1e-10)

    parts = model.gated_transition
    exchanged = eqx.tree_at(
        lambda m: m.gated_transition.gate.layers[-1],
        model,
        jax.tree.map(lambda leaf: -leaf, parts.gate.layers[-1]),
    )
    wrong = [norm.logpdf(z[t], *transition(exchanged, z[t - 1])).sum() for t in range(1, 4)]
    assert np.abs(np.array(wrong) - of_z[1:4]).max() > 1e-2


def test_the_linear_part_starts_as_the_identity(model):
    """Where the gate is shut the mean of a step is z itself."""
    gate = model.gated_transition.gate
    shut = eqx.tree_at(
        lambda m: (
            m.gated_transition.gate.layers[-1].weight,
            m.gated_transition.gate.layers[-1].bias,
        ),
        model,
        (jnp.zeros_like(gate.layers[-1].weight), jnp.full(2, -1e3)),
    )
    z = jnp.array([0.7, -1.2])
    assert_allclose(shut.transition(z).mean, z, rtol=1e-14)
    assert np.abs(model.transition(z).mean - z).max() > 1e-2


def test_chains_begin_with_a_standard_normal_and_x_can_be_drawn_given_all_of_z(model):
    """The state before the first step is not read; `num_steps` is the length of a joint draw."""
    law = model.prior(jnp.full(2, 7.0), jnp.array(0))
    assert_allclose(
        law.log_prob(jnp.array([0.3, -1.0])), norm.logpdf([0.3, -1.0]).sum(), rtol=1e-12
    )
    z, x = eqx.filter_jit(model.sample)(jax.random.key(2))
    assert (z.shape, x.values.shape) == ((6, 2), (6, 3))
    given = model.sample_likelihood(z[:4], jax.random.key(3))
    assert given.values.shape == (4, 3)
    assert given.mask.all()
