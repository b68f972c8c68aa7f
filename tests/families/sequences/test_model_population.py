"""Oracles: scipy's densities; the Kalman filter, since exponential growth is linear-Gaussian in
log x; and identities of the optimal proposal."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.sequences.model_population import ThetaLogistic, ThetaLogisticOptimal
from tightbound.inference.filter import particle_filter
from tightbound.inference.weigh import weigh
from tightbound.models.lgssm import LGSSMSmoothing, LinearGaussianSSM
from tightbound.models.stateful import AbstractStepwise, FromPrior, Guided

FIRST = {"initial_mean": 0.8, "initial_scale": 0.5, "process_scale": 0.2, "observation_scale": 0.3}
GROWTH = 0.15
VALUES = np.array([[[2.0], [3.5], [2.2], [4.0]], [[1.0], [0.4], [0.0], [0.0]]])
MASK = np.array([[True] * 4, [True, True, False, False]])
BATCH = Batch(Sequence(VALUES, MASK), MASK, MASK.sum(1), np.arange(2))


@pytest.fixture(scope="module")
def exponential():
    return ThetaLogistic(growth_law="exponential", growth=GROWTH, **FIRST)


@pytest.fixture(scope="module")
def linear():
    """Of log x_t - b0 t: without its growth, exponential growth is a random walk seen in noise."""

    def matrix(value):
        return jnp.full((1, 1), value)

    return LinearGaussianSSM(
        initial_mean=jnp.full(1, FIRST["initial_mean"]),
        initial_scale=matrix(FIRST["initial_scale"]),
        transition_weight=matrix(1.0),
        transition_scale=matrix(FIRST["process_scale"]),
        emission_weight=matrix(1.0),
        emission_scale=matrix(FIRST["observation_scale"]),
        num_steps=4,
    )


def without_growth(x):
    """log x_t - b0 t, and 0 at padding."""
    seen = jnp.log(jnp.where(x.values > 0, x.values, 1.0))
    clock = jnp.arange(seen.shape[-2])[:, None]
    return Sequence(seen - GROWTH * jnp.broadcast_to(clock, seen.shape), x.mask)


class Smoothing(AbstractStepwise):
    """p(z_t | z_{t-1}, x_{t:}) of exponential growth, by that of the linear-Gaussian twin."""

    linear: LinearGaussianSSM

    def context(self, model, x, readings):
        shifted = without_growth(x)
        return LGSSMSmoothing().context(self.linear, shifted, shifted.values)

    def propose(self, model, state, context, clock):
        before = state - GROWTH * (clock - 1)
        q = LGSSMSmoothing().propose(self.linear, before, context, clock)
        return type(q)(q.mean + GROWTH * clock, scale_tril=q.scale_tril)


def kalman(linear):
    """log p(x): the Kalman filter's, less the sum of log x (the change of variables)."""
    jacobian = np.where(MASK, np.log(np.where(MASK, VALUES[..., 0], 1.0)), 0.0).sum(1)
    log_p = jax.vmap(linear.log_marginal)(without_growth(jax.tree.map(jnp.asarray, BATCH.x)))
    return np.asarray(log_p) - jacobian


def test_every_weight_of_the_smoothing_proposal_is_the_kalman_filters_marginal(exponential, linear):
    """Identity: with q = p(z | x) every weight is p(x), unequal lengths included. Planted: without
    the Jacobian, sum of log x, it is not."""
    terms = eqx.filter_jit(weigh)(
        exponential, Smoothing(linear), BATCH, num_samples=5, key=jax.random.key(0)
    )
    expected = np.broadcast_to(kalman(linear), (5, 2))
    assert_allclose(terms.log_weights, expected, rtol=1e-10)
    seen = jnp.log(jnp.where(BATCH.mask, VALUES[..., 0], 1.0)).sum(1)
    assert (np.abs(np.asarray(seen)) > 0.5).all()


def test_evidence_of_the_filter_averages_to_the_kalman_filters_marginal(exponential, linear):
    """Oracle: the Kalman filter; 4 standard errors over 2,000 fixed keys. Planted: b0 = 0 shifts the
    mean by more than 8."""

    @eqx.filter_jit
    def log_marginals(model, keys):
        def one(proposal, key):
            return filtering_log_marginal(
                particle_filter(
                    Guided(model, proposal), BATCH, num_particles=4, key=key, threshold=1
                )
            )

        return [
            jax.lax.map(lambda key, q=q: one(q, key), keys, batch_size=500)
            for q in (FromPrior(), ThetaLogisticOptimal())
        ]

    keys = jax.random.split(jax.random.key(1), 2000)

    def off(model):
        ratios = np.exp(np.asarray(log_marginals(model, keys)) - kalman(linear))
        return (ratios.mean(1) - 1) / (ratios.std(1, ddof=1) / np.sqrt(len(keys)))

    assert (np.abs(off(exponential)) < 4).all()
    still = eqx.tree_at(lambda model: model.growth, exponential, jnp.zeros(()))
    assert (np.abs(off(still)) > 8).any(1).all()


def test_densities_are_those_of_their_formulas():
    """Oracle: scipy's normal at z + b0 + b1 N^b2, and its log-normal. Planted: N^b2 for b2 log N."""
    model = ThetaLogistic(growth=0.3, limitation=-0.2, power=0.7, **FIRST)
    before, z, x = 1.1, 1.3, 2.5
    size = np.exp(before)
    found = model.transition(jnp.array([before])).log_prob(jnp.array([z]))
    expected = stats.norm(before + 0.3 - 0.2 * size**0.7, 0.2).logpdf(z)
    assert_allclose(found, expected, rtol=1e-10)
    assert abs(found - stats.norm(before + 0.3 - 0.2 * 0.7 * before, 0.2).logpdf(z)) > 0.01
    found = model.observation(jnp.array([z])).log_prob(jnp.array([x]))
    assert_allclose(found, stats.lognorm(0.3, scale=np.exp(z)).logpdf(x), rtol=1e-10)


def test_increments_of_the_optimal_proposal_do_not_depend_on_the_draw():
    """Identity: every increment is p(x_t | z_{t-1}), scipy's log-normal with both noises. Planted:
    the bootstrap filter's increments do depend on the draw."""
    model = ThetaLogistic(growth=0.3, limitation=-0.2, power=0.7, **FIRST)
    state, x_t = jnp.array([1.1]), jnp.array([2.5])
    keys = jax.random.split(jax.random.key(2), 8)

    def increments(proposal):
        particle = Guided(model, proposal)
        inputs = particle.inputs(Sequence(x_t[None], np.ones(1, bool)))
        guide = jax.tree.map(lambda leaf: leaf[0], inputs)
        step = jax.jit(jax.vmap(particle.step, in_axes=(None, None, None, 0)))
        _, scores = step(state, guide, jnp.array(2), keys)
        return sum(log_p if log_q is None else log_p - log_q for log_p, log_q in scores.values())

    mean = 1.1 + 0.3 - 0.2 * np.exp(1.1) ** 0.7
    expected = stats.lognorm(np.hypot(0.2, 0.3), scale=np.exp(mean)).logpdf(2.5)
    assert_allclose(increments(ThetaLogisticOptimal()), np.full(8, expected), rtol=1e-10)
    assert np.ptp(increments(FromPrior())) > 0.1


def test_the_smaller_laws_are_nested_in_theta_logistic_growth():
    """Identity: b2 = 1 is Ricker's growth; b1 near 0 is exponential growth."""
    z, values = jnp.array([1.2]), {"growth": 0.3, **FIRST}

    def mean(**settings):
        return ThetaLogistic(**values, **settings).transition(z).mean

    full = mean(limitation=-0.2, power=1.0)
    assert_allclose(mean(growth_law="ricker", limitation=-0.2), full, rtol=1e-12)
    free = mean(growth_law="exponential")
    assert_allclose(mean(limitation=-1e-12), free, rtol=1e-10)
    assert abs(full - free) > 0.1


def test_padding_leaves_values_and_gradients_alone():
    """Law: zeros at padding, whose log is -inf, give the same bits as other values there, and finite
    gradients. Planted: without the mask the score of a zero is -inf."""
    model = ThetaLogistic(**FIRST)
    other = eqx.tree_at(lambda b: b.x.values, BATCH, np.where(MASK[..., None], VALUES, 7.0))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def total(model, batch):
        particle = Guided(model, ThetaLogisticOptimal())
        terms = particle_filter(particle, batch, num_particles=3, key=jax.random.key(3))
        return filtering_log_marginal(terms).sum()

    first, second = total(model, BATCH), total(model, other)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, second))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(first))
    assert model.observation(jnp.zeros(1)).log_prob(jnp.zeros(1)) == -np.inf


@pytest.mark.parametrize("wrong", [{"limitation": 0.1}, {"power": 0.0}])
def test_a_population_that_does_not_limit_itself_is_refused(wrong):
    with pytest.raises(ValueError, match=r"below 0 and the second above"):
        ThetaLogistic(**FIRST, **wrong)
