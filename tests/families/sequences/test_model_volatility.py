"""Oracles: scipy's densities, the sum of a power series, integrals on a grid, and the library
`particles`. Sampled tests: keys fixed beforehand, 4 standard errors (level below 1e-3 for the file)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.special import logsumexp

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.sequences.model_volatility import (
    LinearisedProposal,
    LinearShocks,
    StochasticVolatility,
    correlation_factor,
)
from tightbound.inference.filter import particle_filter
from tightbound.models.stateful import FromPrior, Guided

PROPOSALS = [FromPrior(), LinearisedProposal()]


@pytest.fixture(scope="module")
def three():
    """Three series with every option, no two of whose parameters are alike."""
    keys = jax.random.split(jax.random.key(0), 2)
    model = StochasticVolatility(
        jnp.array([-1.0, 0.3, -4.0]), full_noise=True, correlated_returns=True, df=5.0
    )
    return eqx.tree_at(
        lambda m: (m.raw_persistence, m.raw_scale, m.noise_mixing, m.return_mixing, m.raw_df),
        model,
        (
            jnp.array([2.0, 0.5, -0.3]),
            jnp.array([-1.0, 0.2, -2.0]),
            *jax.random.normal(keys[0], (2, 3, 3)),
            jnp.array([0.5, 3.0, 20.0]),
        ),
    )


def noise_covariance(model):
    factor = np.asarray(correlation_factor(model.noise_mixing)) * np.asarray(model.scale)[:, None]
    return factor @ factor.T


def test_transition_is_the_multivariate_normal_of_its_formula(three):
    """Oracle: scipy, with mu + phi (z - mu) and Q written out. Planted: Q without its correlations."""
    z, before = np.array([-0.7, 1.0, -4.5]), np.array([-1.2, -0.3, -3.0])
    mean = three.mean + three.persistence * (before - three.mean)
    found = three.transition(jnp.asarray(before)).log_prob(jnp.asarray(z))
    cov = noise_covariance(three)
    assert_allclose(found, stats.multivariate_normal(mean, cov).logpdf(z), rtol=1e-10)
    alone = stats.multivariate_normal(mean, np.diag(np.diag(cov))).logpdf(z)
    assert abs(found - alone) > 0.01


def test_initial_law_is_what_the_transition_leaves_alone(three):
    """Oracle: the sum over k of diag(phi)^k Q diag(phi)^k, term by term. Planted: Q itself."""
    phi, cov = np.diag(np.asarray(three.persistence)), noise_covariance(three)
    total, term = np.zeros((3, 3)), cov
    for _ in range(2000):
        total, term = total + term, phi @ term @ phi
    law = three.initial()
    factor = np.asarray(law.factor) * np.asarray(law.scale)[:, None]
    assert_allclose(factor @ factor.T, total, rtol=1e-10)
    assert_allclose(law.mean, three.mean)
    assert np.abs(cov - total).max() > 0.1


def test_observation_is_the_change_of_variables_of_its_shocks(three):
    """Oracle: scipy's Student-t at C^-1 x exp(-z / 2), and the determinant by NumPy. Planted: the
    scale exp(z) in place of exp(z / 2)."""
    z, x = np.array([-0.7, 1.0, -4.5]), np.array([0.4, -3.0, 0.05])
    factor = np.asarray(correlation_factor(three.return_mixing))

    def expected(scale):
        matrix = np.diag(scale) @ factor
        shocks = stats.t(np.asarray(three.df)).logpdf(np.linalg.solve(matrix, x))
        return shocks.sum() - np.linalg.slogdet(matrix)[1]

    found = three.observation(jnp.asarray(z)).log_prob(jnp.asarray(x))
    assert_allclose(found, expected(np.exp(z / 2)), rtol=1e-10)
    assert abs(found - expected(np.exp(z))) > 1


def test_gaussian_returns_have_variance_exp_z_and_one_correlation_matrix(three):
    """Oracle: scipy's normal with covariance D C C^T D, D = diag exp(z / 2), whose diagonal is exp(z)."""
    model = eqx.tree_at(lambda m: m.raw_df, three, None)
    z, x = np.array([-0.7, 1.0, -4.5]), np.array([0.4, -3.0, 0.05])
    factor = np.exp(z / 2)[:, None] * np.asarray(correlation_factor(three.return_mixing))
    cov = factor @ factor.T
    assert_allclose(np.diag(cov), np.exp(z), rtol=1e-12)
    found = model.observation(jnp.asarray(z)).log_prob(jnp.asarray(x))
    assert_allclose(found, stats.multivariate_normal(np.zeros(3), cov).logpdf(x), rtol=1e-10)


def test_draws_have_the_covariance_that_is_scored(three):
    """Oracle: 20,000 draws of the transition, each entry of their second moment within 4 standard
    errors. Planted: the factor transposed is more than 8 away."""
    law = three.transition(three.mean)
    draws = jax.vmap(law.sample)(jax.random.split(jax.random.key(1), 20_000))
    centred = (np.asarray(draws) - np.asarray(law.mean)) / np.asarray(law.scale)
    products = centred[:, :, None] * centred[:, None, :]
    error = products.std(0) / np.sqrt(len(products))
    factor = np.asarray(law.factor)
    assert (np.abs(products.mean(0) - factor @ factor.T) < 4 * error).all()
    assert (np.abs(products.mean(0) - factor.T @ factor) > 8 * error).any()


def test_linearised_proposal_is_bayes_rule_for_a_linear_log_likelihood(three):
    """Oracle: q - prior is linear in z with the slope of log p(x | z) at the prior's mean, by
    finite differences. Planted: at the state itself the slope is another."""
    state, x_t = jnp.array([-1.5, 0.2, -3.7]), jnp.array([0.4, -3.0, 0.05])
    clock = jnp.array(3)
    prior, q = three.prior(state, clock), LinearisedProposal().propose(three, state, x_t, clock)
    mean = np.asarray(prior.mean)
    directions = np.eye(3)

    def slope(function, z):
        return (
            np.array([function(z + 1e-4 * d) - function(z - 1e-4 * d) for d in directions]) / 2e-4
        )

    def likelihood(z):
        return float(three.observation(jnp.asarray(z)).log_prob(x_t))

    def tilt(z):
        return float(q.log_prob(jnp.asarray(z)) - prior.log_prob(jnp.asarray(z)))

    assert_allclose(slope(tilt, mean + 0.7), slope(likelihood, mean), rtol=1e-5)
    assert np.abs(slope(likelihood, np.asarray(state)) - slope(likelihood, mean)).max() > 0.01


def batch_of(*rows):
    length = max(map(len, rows))
    mask = np.array([[t < len(row) for t in range(length)] for row in rows])
    values = np.zeros((len(rows), length, 1))
    for i, row in enumerate(rows):
        values[i, : len(row), 0] = row
    return Batch(Sequence(values, mask), mask, mask.sum(1), np.arange(len(rows)))


def relative_evidence(model, proposal, batch, log_p, num_keys, num_particles=8):
    """Mean over keys of Z-hat / p(x) - 1, in its own standard errors, row by row."""

    @eqx.filter_jit
    def log_marginals(model, keys):
        def one(key):
            particle = Guided(model, proposal)
            terms = particle_filter(
                particle, batch, num_particles=num_particles, key=key, threshold=1
            )
            return filtering_log_marginal(terms)

        return jax.lax.map(one, keys, batch_size=500)

    keys = jax.random.split(jax.random.key(7), num_keys)
    ratios = np.exp(np.asarray(log_marginals(model, keys)) - log_p)
    return (ratios.mean(0) - 1) / (ratios.std(0, ddof=1) / np.sqrt(num_keys))


@pytest.mark.parametrize("proposal", PROPOSALS, ids=["prior", "linearised"])
def test_evidence_of_the_filter_averages_to_the_integral_on_a_grid(proposal):
    """Oracle: p(x_0) and p(x_0, x_1) of one series, with both z summed over a grid in NumPy. Planted:
    a model begun at Q in place of the stationary law."""
    model = StochasticVolatility(jnp.array([-0.5]), persistence=0.9, scale=0.6, df=4.0)
    mu, phi, s, df = -0.5, 0.9, 0.6, float(model.df[0])
    z, width = np.linspace(-10, 9, 800, retstep=True)

    def exact(row, initial_scale):
        x = [stats.t(df).logpdf(value * np.exp(-z / 2)) - z / 2 for value in row]
        log_joint = stats.norm(mu, initial_scale).logpdf(z) + x[0]
        for seen in x[1:]:
            step = stats.norm(mu + phi * (z[:, None] - mu), s).logpdf(z[None, :])
            log_joint = logsumexp(log_joint[:, None] + step, axis=0) + np.log(width) + seen
        return logsumexp(log_joint) + np.log(width)

    rows = [[2.0, -3.0], [0.1]]
    batch, stationary = batch_of(*rows), s / np.sqrt(1 - phi**2)
    log_p = np.array([exact(row, stationary) for row in rows])
    wrong = np.array([exact(row, s) for row in rows])
    assert (np.abs(relative_evidence(model, proposal, batch, log_p, 4000)) < 4).all()
    assert (np.abs(relative_evidence(model, proposal, batch, wrong, 4000)) > 8).all()


def test_evidence_agrees_with_the_library_particles():
    """Independent library: the bootstrap filter of `particles` on its own StochVol, 20 steps. Both
    are noisy: their mean Z-hat differ by less than 4 joint standard errors. Planted: the scale
    exp(z) shifts ours by more than 8."""
    particles = pytest.importorskip("particles")
    from particles import state_space_models

    settings = {"mu": -1.0, "rho": 0.9, "sigma": 0.4}
    x = np.random.default_rng(0).normal(0, 0.8, 20)
    theirs = state_space_models.Bootstrap(ssm=state_space_models.StochVol(**settings), data=x)
    np.random.seed(1)  # noqa: NPY002 - the generator that library draws from
    runs = [particles.SMC(fk=theirs, N=500) for _ in range(20)]
    for run in runs:
        run.run()
    log_z = np.array([run.logLt for run in runs])
    z_hat = np.exp(log_z - log_z.mean())
    their_mean, their_error = z_hat.mean(), z_hat.std(ddof=1) / np.sqrt(len(runs))

    class Wrong(StochasticVolatility):
        def observation(self, z):
            return LinearShocks(jnp.zeros_like(z), jnp.exp(z))

    def off(kind):
        model = kind(jnp.array([-1.0]), persistence=0.9, scale=0.4)
        batch = batch_of(x)

        @eqx.filter_jit
        def log_marginals(model, keys):
            return jax.lax.map(
                lambda key: filtering_log_marginal(
                    particle_filter(Guided(model, FromPrior()), batch, num_particles=500, key=key)
                )[0],
                keys,
            )

        ours = np.exp(log_marginals(model, jax.random.split(jax.random.key(2), 20)) - log_z.mean())
        error = np.hypot(ours.std(ddof=1) / np.sqrt(len(ours)), their_error)
        return (ours.mean() - their_mean) / error

    assert abs(off(StochasticVolatility)) < 4
    assert abs(off(Wrong)) > 8


def test_a_return_of_zero_can_be_read(three):
    """Law: log x^2 at 0 is finite, and so is its gradient, at padding too."""
    reading = three.read(jnp.zeros(3))
    slope = jax.grad(lambda x: three.read(x).sum())(jnp.zeros(3))
    assert_allclose(reading, np.log(1e-3))
    assert_allclose(slope, np.zeros(3))


def test_a_persistence_that_is_not_stationary_is_refused():
    with pytest.raises(ValueError, match=r"`persistence` is 1.0, but .* Give 0.95"):
        StochasticVolatility(jnp.zeros(1), persistence=1.0)
