"""Training by Stein mixtures: one component is variational inference, points are SVGD, and what is known
exactly is found.

Oracles: `single_guide`; the paper's update in NumPy; the closed form of a regression.
"""

from itertools import islice

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import rows, training_batches
from tightbound.data.no_data import target_splits
from tightbound.data.toys.points import linear_points
from tightbound.evaluation import evaluate
from tightbound.families.stein.model_regression import BayesianLinearRegression
from tightbound.families.stein.model_target import GaussianMixtureTarget, GaussianTarget
from tightbound.families.stein.transport import (
    annealed,
    constant_temperature,
    single_guide,
    stein_mixture,
    stein_transport,
    svgd,
)
from tightbound.inference.kernels import RBF
from tightbound.models.mean_field import FullRank, MeanField, PointMass
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.train.loop import fit, init_state, train_step
from tightbound.train.objective import Objective

KEY = jax.random.key(0)
NOTHING = target_splits()["train"]  # what a target without data is fitted to


def after(model, inference, split, *, num_steps):
    """Model and proposal after `num_steps` updates of `fit`, on batches of two rows or all."""
    state = init_state(model, inference.proposal, inference.optimiser)
    batches = islice(training_batches(split, min(2, len(split)), seed=0), num_steps)
    *_, last = fit(state, batches, inference.objective, inference.optimiser, key=KEY)
    return last.state.model, last.state.proposal


def flat(tree):
    return np.concatenate(
        [np.ravel(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]
    )


def test_one_component_is_a_single_guide():
    """Identity: the same draws, the same updates of proposal and model, five times over, to rounding.
    Planted: a guide that follows its density too (the path "full")."""
    model = ProbabilisticPCA(3, 2, key=KEY)
    split = rows("train", np.random.default_rng(0).normal(size=(8, 3)))

    def make(key):
        return MeanField(model.sample_prior, key=key)

    rule, (own_key,) = optax.adam(0.01), jax.random.split(KEY, 1)
    single = single_guide(make, rule, draws=2, key=own_key)
    one = stein_mixture(make, rule, num_components=1, num_rows=8, draws=2, key=KEY)
    expected = after(model, single, split, num_steps=5)
    found = after(model, one, split, num_steps=5)
    assert_allclose(flat(found), flat(expected), rtol=1e-10)
    assert np.abs(flat(expected[0]) - flat(model)).max() > 0.01
    planted = after(model, single._replace(objective=Objective("elbo", 2)), split, num_steps=5)
    assert np.abs(flat(planted) - flat(expected)).max() > 1e-3


def test_points_at_the_temperature_of_one_over_m_are_svgd():
    """Oracle: Liu & Wang 2016, eq. 8, in NumPy, for 1/2 N(-3, I) + 1/2 N(3, I) in two dimensions: one
    step of gradient ascent. Planted: the temperature 1, an attraction m times too strong."""
    target, rate = GaussianMixtureTarget(2), 0.1

    def make(key):
        return PointMass(lambda key: 2 * jax.random.normal(key, (2,)), key=key)

    def moved(method):
        inference = method(make, optax.sgd(rate), num_components=4, num_rows=1, key=KEY)
        first = np.asarray(inference.proposal.components.value)
        _, proposal = after(target, inference, NOTHING, num_steps=1)
        return first, np.asarray(proposal.components.value)

    x, found = moved(svgd)
    distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
    bandwidth = np.median(distances[np.triu_indices(4, 1)]) ** 2 / np.log(4)
    kernel = np.exp(-(distances**2) / bandwidth)
    log_modes = np.stack([-0.5 * ((x + 3) ** 2).sum(1), -0.5 * ((x - 3) ** 2).sum(1)])
    share = np.exp(log_modes - np.logaddexp(*log_modes))
    scores = -x + share.T @ np.array([[-3.0, -3.0], [3.0, 3.0]])
    phi = np.zeros_like(x)
    for i in range(4):
        for j in range(4):
            repulsion = -2 / bandwidth * (x[j] - x[i]) * kernel[j, i]
            phi[i] += (kernel[j, i] * scores[j] + repulsion) / 4
    assert_allclose(found, x + rate * phi, rtol=1e-6)
    assert np.abs(moved(stein_mixture)[1] - found).max() > 0.1


def test_a_tempered_guide_rests_where_it_is_the_target_to_that_power():
    """Identity: at N(1, 2^2)^T normalised, N(1, 4 / T), every draw's gradient is 0, to rounding.
    Planted: the target itself, where it is at T = 1."""
    target, temperature = GaussianTarget(1, mean=1.0, scale=2.0), 0.25
    objective = Objective("elbo", 3, "stop_proposal", temperature=constant_temperature(temperature))
    batch = NOTHING.take(np.arange(1))

    @jax.jit
    def slope(scale):
        proposal = MeanField(lambda key: jnp.ones(1), key=KEY)
        proposal = eqx.tree_at(lambda q: q.log_scale, proposal, jnp.log(scale)[None])
        at = {"key": KEY, "step": jnp.zeros((), int)}
        return eqx.filter_grad(lambda q: objective(target, q, batch, **at)[0])(proposal)

    assert np.abs(flat(slope(2 / np.sqrt(temperature)))).max() < 1e-6
    assert np.abs(flat(slope(2.0))).max() > 0.1


@pytest.mark.parametrize(
    "others",
    [
        {"estimator": "iwae", "num_samples": 2},
        {"kl_weight": constant_temperature(0.5)},
        {"free_bits": 0.1},
    ],
)
def test_a_temperature_is_refused_where_log_p_is_one_of_several_terms(others):
    with pytest.raises(ValueError, match="A temperature was combined with the estimator"):
        Objective(**others, temperature=constant_temperature(0.5))


def test_annealing_rises_in_every_cycle_and_ends_at_one():
    """By hand: three cycles of four steps, the last of them at 1."""
    schedule = annealed(12, cycles=3, power=2.0)
    cycle = [(i / 4) ** 2 for i in (1, 2, 3, 4)]
    found = [float(schedule(jnp.asarray(step))) for step in range(12)]
    assert_allclose(found, [*cycle, *cycle, 1, 1, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(("steps", "cycles", "power"), [(10, 1, 1.0), (10, 2, 0.0), (3, 4, 1.0)])
def test_annealing_without_cycles_steps_or_power_is_refused(steps, cycles, power):
    with pytest.raises(ValueError, match="Give at least two cycles"):
        annealed(steps, cycles=cycles, power=power)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="it multiplies log p: give a number above 0"):
        constant_temperature(temperature)


@pytest.mark.parametrize("repulsion", [-0.1, float("nan"), float("inf")])
def test_a_repulsion_that_draws_together_is_refused(repulsion):
    with pytest.raises(ValueError, match="a negative one draws components together"):
        stein_transport(RBF(), repulsion=repulsion, num_rows=1)


@pytest.mark.parametrize("num_rows", [0, -5])
def test_a_split_of_no_rows_is_refused(num_rows):
    with pytest.raises(ValueError, match="Give the rows of the training split"):
        stein_transport(RBF(), num_rows=num_rows)


def test_components_that_begin_equal_and_draw_the_same_stay_equal():
    """To the bit: points have no noise, and equal ones do not repel each other."""
    inference = stein_mixture(
        lambda key: PointMass(lambda key: jnp.array([0.3, -0.2]), key=key),
        optax.sgd(0.1),
        num_components=3,
        num_rows=1,
        key=KEY,
    )
    _, proposal = after(GaussianTarget(2), inference, NOTHING, num_steps=4)
    points = np.asarray(proposal.components.value)
    assert_array_equal(points, np.tile(points[:1], (3, 1)))
    assert np.abs(points[0] - [0.3, -0.2]).max() > 0.1


def test_a_guide_of_full_rank_finds_the_posterior_of_a_regression_and_its_log_marginal():
    """Closed form: mean, covariance and log p(D) of Bayesian linear regression, to 1e-3. Planted: the
    covariance without what only a full rank has."""
    split = linear_points(20, input_size=2)["train"]
    model = BayesianLinearRegression(2, noise_scale=0.5)
    batch, num_steps = jax.tree.map(jnp.asarray, split.take(np.arange(20))), 1000
    inference = single_guide(
        lambda key: FullRank(model.sample_prior, key=key),
        optax.adam(optax.cosine_decay_schedule(0.1, num_steps)),
        draws=4,
        key=KEY,
    )
    arrays, static = eqx.partition(
        init_state(model, inference.proposal, inference.optimiser), eqx.is_array
    )

    def one(arrays, _):
        state = eqx.combine(arrays, static)
        state, _ = train_step(state, batch, KEY, inference.objective, inference.optimiser, None)
        return eqx.filter(state, eqx.is_array), None

    arrays, _ = jax.jit(lambda a: jax.lax.scan(one, a, None, length=num_steps))(arrays)
    proposal = eqx.combine(arrays, static).proposal
    bound = evaluate(model, proposal, split, num_samples=100, key=KEY).log_weights.mean()

    points = jax.tree.map(lambda leaf: leaf[0], batch.x)
    posterior, log_marginal = jax.jit(lambda x: (model.posterior(x), model.log_marginal(x)))(points)
    lower, expected = np.asarray(proposal.proposal(batch.x).lower), posterior.covariance_matrix
    assert_allclose(proposal.mean, posterior.mean, atol=1e-3)
    assert_allclose(lower @ lower.T, expected, atol=1e-3)
    assert bound == pytest.approx(float(log_marginal), abs=1e-3)
    assert np.abs(np.diag(np.diag(expected)) - expected).max() > 2e-3
