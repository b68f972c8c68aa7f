"""Oracles: the Rauch-Tung-Striebel marginals of a linear-Gaussian model (keys fixed beforehand, level
1e-3 over the file), and identities: what a line of descent scored is the score of its trajectory."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.inference.filter import filter_particles
from tightbound.inference.filtering import Filtering
from tightbound.inference.smoothing import along, final_log_weights, smooth, trace
from tightbound.inference.stepwise import filter_pair
from tightbound.models.lgssm import LGSSMSmoothing, LinearGaussianSSM
from tightbound.models.stateful import FromPrior, Guided, proposed
from tightbound.nn.outputs import BernoulliOutput

NUM_RUNS = 4_000


@pytest.fixture(scope="module")
def model():
    return LinearGaussianSSM(
        initial_mean=jnp.array([1.0, -0.5]),
        initial_scale=jnp.eye(2),
        transition_weight=jnp.array([[0.9, 0.3], [-0.2, 0.7]]),
        transition_scale=0.5 * jnp.eye(2),
        emission_weight=jnp.array([[1.0, 0.5]]),
        emission_scale=jnp.array([[0.7]]),
        num_steps=4,
    )


X = jnp.array([[0.3], [1.0], [-1.0], [0.9]])


def batch_of(values, mask):
    return Batch(Sequence(values, mask), mask, mask.sum(1), jnp.arange(len(mask)))


def repeated(num_rows):
    """One sequence as every row: rows have keys of their own."""
    return batch_of(jnp.broadcast_to(X, (num_rows, *X.shape)), jnp.ones((num_rows, len(X)), bool))


def test_lines_of_descent_are_followed_backward():
    """By hand: three steps of three particles; at the padded last step particles are their own
    ancestors, so it only passes the lines on."""
    ancestors = jnp.array([[0, 1, 2], [1, 1, 0], [2, 0, 0], [0, 1, 2]])[:, :, None]
    found = trace(ancestors)[:, :, 0]
    assert_array_equal(found, np.array([[0, 1, 1], [2, 0, 0], [0, 1, 2], [0, 1, 2]]))
    one = jnp.zeros((4, 1, 2), int)  # one particle is its own line
    assert_array_equal(trace(one), one)


@pytest.fixture(scope="module")
def smoothed(model):
    """Of 4,000 filters: trajectories, weights, p-hat / p, the untraced history and the exact means."""
    batch = repeated(NUM_RUNS)

    @jax.jit
    def run():
        terms, population = filter_particles(
            Guided(model, FromPrior()),
            batch,
            num_particles=6,
            key=jax.random.key(1),
            threshold=0.8,
            read=lambda state: state,  # z_t
        )
        x = jax.tree.map(lambda leaf: leaf[0], batch.x)
        ratio = jnp.exp(filtering_log_marginal(terms) - model.log_marginal(x))
        trajectories = along(population.history, trace(terms.ancestors))
        untraced = jnp.moveaxis(population.history, (0, 1, 2), (2, 1, 0))
        weights = jnp.exp(final_log_weights(terms))
        return trajectories, weights, ratio, untraced, model.posterior(x).marginals()[0]

    return jax.tree.map(np.asarray, run())


def z_scores(trajectories, weights, ratio, means):
    """Of the mean over runs of ratio (sum_n W_n z_n - E[z | x]), which is exactly 0."""
    off = np.einsum("nb,nbtd->btd", weights, trajectories) - weights.sum(0)[:, None, None] * means
    off = ratio[:, None, None] * off
    return off.mean(0) / (off.std(0, ddof=1) / np.sqrt(len(off)))


def test_traced_trajectories_have_the_posterior_means(smoothed):
    """E[p-hat sum_n W_n f(z_n)] = p(x) E[f | x] exactly, for any number of particles. Planted: lines
    not followed (the particles of every step under the weights of the last), and no weights."""
    trajectories, weights, ratio, untraced, means = smoothed
    limit = norm.isf(1e-3 / (2 * 2 * means.size))  # two sampled tests of as many means
    assert np.abs(z_scores(trajectories, weights, ratio, means)).max() < limit
    assert np.abs(z_scores(untraced, weights, ratio, means)).max() > 8
    equal = np.full_like(weights, 1 / len(weights))
    assert np.abs(z_scores(trajectories, equal, ratio, means)).max() > 8


def test_with_the_smoothing_proposal_all_trajectories_are_posterior_draws(model):
    """Identity: never resampled, every weight is 1 / N; and the plain mean of the draws is that of
    the posterior. Planted: means of the filter, E[z_t | x_{<=t}]."""
    batch = repeated(NUM_RUNS)
    rule = Filtering(num_particles=2, threshold=0.0)
    z, log_weights = eqx.filter_jit(smooth)(
        model, LGSSMSmoothing(), batch, rule, key=jax.random.key(2)
    )
    assert_allclose(log_weights, np.full((2, NUM_RUNS), -np.log(2)), atol=1e-10)
    means, _ = model.posterior(Sequence(X, jnp.ones(len(X), bool))).marginals()
    _, filtered, _ = model._kalman_filter(Sequence(X, jnp.ones(len(X), bool)))
    draws = np.asarray(z).reshape(-1, *means.shape)
    errors = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert np.abs((draws.mean(0) - means) / errors).max() < norm.isf(1e-3 / (2 * 2 * means.size))
    assert np.abs((draws.mean(0) - filtered) / errors).max() > 8


@pytest.fixture(scope="module")
def pair():
    keys = jax.random.split(jax.random.key(3), 2)
    sizes = {"network_size": 4, "min_scale": 0.1}
    model = VRNN(3, 2, BernoulliOutput(), num_features=3, hidden_size=3, **sizes, key=keys[0])
    return model, StepProposal(4, 3, 2, **sizes, key=keys[1])


def test_a_line_of_descent_is_the_trajectory_it_scored(pair):
    """Identity: log p and log q of the sites, gathered along each line, are those of its trajectory,
    whatever the lengths, and the states it read are those that z leads to. It fails for the history
    as it stood, where lines cross."""
    model, proposal = pair
    mask = jnp.arange(6)[None] < jnp.array([[6], [4], [1]])
    batch = batch_of(1.0 * jax.random.bernoulli(jax.random.key(4), 0.5, (3, 6, 3)), mask)
    key, rule = jax.random.key(5), Filtering(5, threshold=1.0, resampling="multinomial")

    def from_start(x, z):
        """The scores of a trajectory, and the state after every step."""

        def step(state, inputs):
            state = model.advance(state, *inputs)
            return state, state

        states = jax.lax.scan(step, model.init(), (z, model.readings(x)))[1]
        return model.score(x, z), proposed(model, proposal, x).log_prob(z), states

    @jax.jit
    def run():
        terms = filter_pair(model, proposal, batch, rule, key=key)
        (states, z), log_weights = smooth(
            model, proposal, batch, rule, key=key, read=lambda state, z: (state, z)
        )
        expected = jax.vmap(jax.vmap(from_start), in_axes=(None, 0))(batch.x, z)
        return terms, z, states, log_weights, expected

    terms, z, states, log_weights, expected = jax.tree.map(np.asarray, run())
    log_p, log_q, expected_states = expected
    lines = np.moveaxis(trace(jnp.asarray(terms.ancestors)), 0, 2)  # particles, batch, time

    def of_lines(term):
        return np.where(mask, np.take_along_axis(term, lines, axis=0), 0.0)

    for site in terms.sites:
        assert_allclose(of_lines(site.log_p), log_p[site.name], atol=1e-12)
    of_z = terms.sites[0]
    assert_allclose(of_lines(of_z.log_q), log_q["z"], atol=1e-12)
    assert np.abs(np.where(mask, of_z.log_p, 0.0) - log_p["z"]).max() > 0.1
    assert_allclose(states[:, mask], expected_states[:, mask], atol=1e-12)
    assert_array_equal(z[:, 1, 4:], z[:, 1, 3:4].repeat(2, 1))  # the last real step, at padding
    assert_allclose(np.exp(log_weights).sum(0), np.ones(3), rtol=1e-12)
