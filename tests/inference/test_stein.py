"""The Stein force: what pulls a component is the path gradient of every datum's own mixture bound.

Oracles: the gradient by hand in NumPy at the same draws; quadrature of the bound; the paper's sum in a
double loop; for targets N(0, I) a NumPy implementation of the whole algorithm (`stein_reference.py`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm as scipy_norm
from stein_reference import numpy_stein_gaussian

from tightbound.data.batch import Batch
from tightbound.data.no_data import target_splits
from tightbound.families.stein.model_target import GaussianTarget
from tightbound.families.stein.transport import stein_mixture, svgd
from tightbound.inference.kernels import RBF
from tightbound.inference.stein import stein_force, transported
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.mean_field import MeanField, PointMass
from tightbound.models.mixture import Mixture
from tightbound.terms import Kind
from tightbound.train.loop import init_state, train_step
from tightbound.train.objective import Objective

LIMIT = scipy_norm.isf(1e-3 / 6 / 2)  # six sampled statistics in this file, at level 1e-3 together


class Wave(AbstractModel):
    """z ~ N(0, 1),  x | z ~ N(b + sin z, 1/4): smooth, and no Gaussian."""

    kinds = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    bias: jax.Array  # b

    def sample_prior(self, key):
        return jax.random.normal(key)

    def score(self, x, z):
        return {"z": norm.logpdf(z)[None], "x": norm.logpdf(x, self.bias + jnp.sin(z), 0.5)}

    def sample_likelihood(self, z, key):
        return self.bias + jnp.sin(z) + 0.5 * jax.random.normal(key, (1,))


class Line(AbstractProposal):
    """q(z | x) = N(a x + b, exp(c)^2)."""

    slope: jax.Array
    offset: jax.Array
    log_scale: jax.Array

    def proposal(self, x):
        return dist.Normal(self.slope * x[0] + self.offset, jnp.exp(self.log_scale))


MODEL = Wave(jnp.array(0.2))
SLOPE, OFFSET, LOG_SCALE = np.array([[0.5, -0.3], [0.4, -0.7], [-0.5, 0.1]])
X = np.array([0.9, -1.2])
BATCH = Batch(jnp.array(X)[:, None], jnp.ones((2, 1), bool), jnp.ones(2, int), jnp.arange(2))


@pytest.fixture(scope="module")
def pair():
    components = Line(*map(jnp.array, (SLOPE, OFFSET, LOG_SCALE)))
    return Mixture(components, eqx.filter(components, lambda leaf: False))


def gradient_of(mixture, key, *, num_samples, path="stop_proposal"):
    """The gradient of the mixture's ELBO in everything, before it is transported."""
    objective = Objective("elbo", num_samples, path)
    at = {"key": key, "step": jnp.zeros((), int)}
    return eqx.filter_grad(lambda both: objective(*both, BATCH, **at)[0])((MODEL, mixture))


def draws_of(mixture, key, num_samples):
    """The draws that gradient was made of, (draw, datum): the keys are by row and sample."""

    def of_row(x, row):
        keys = jax.random.split(jax.random.fold_in(key, row), num_samples)
        return mixture.proposal(x).sample_strata(keys)

    return jax.vmap(of_row, out_axes=1)(BATCH.x, BATCH.rows)


def by_hand(z, kind="per datum"):
    """The gradient in (slope, offset, log scale) of each of two components from draws of shape
    (..., draw, datum), of component 0, 1, 0, 1, ...: through z alone, or with a planted fault."""
    drawn = np.arange(z.shape[-2])[:, None] % 2
    mean, scale = SLOPE[:, None] * X + OFFSET[:, None], np.exp(LOG_SCALE)  # (component, datum)
    whitened = (z[..., None] - mean.T) / scale  # (..., draw, datum, component)
    log_q = scipy_norm.logpdf(whitened) - LOG_SCALE
    own = np.eye(2)[np.broadcast_to(drawn, z.shape)]
    if kind == "whole minibatch":
        log_q = np.broadcast_to(log_q.sum(-2, keepdims=True), log_q.shape)
    share = (
        own
        if kind == "own component"
        else np.exp(log_q - np.logaddexp.reduce(log_q, -1)[..., None])
    )
    slope_of_log_p = -z + (X - 0.2 - np.sin(z)) / 0.25 * np.cos(z)
    through_z = slope_of_log_p + (share * whitened / scale).sum(-1)
    in_mean = own * through_z[..., None]
    in_log_scale = own * (through_z * (whitened * own * scale).sum(-1))[..., None]
    if kind == "densities move":
        in_mean = in_mean - share * whitened / scale
        in_log_scale = in_log_scale - share * (whitened**2 - 1)
    parts = [in_mean * X[:, None], in_mean, in_log_scale]
    return np.stack([part.mean((-3, -2)) for part in parts], axis=-2)


def as_array(components):
    return np.stack([components.slope, components.offset, components.log_scale], axis=-2)


FAULTS = ("densities move", "whole minibatch", "own component")


def test_the_gradient_goes_through_the_draws_of_every_datums_own_mixture_alone(pair):
    """Identity at the same draws, by hand in NumPy: d z / d psi times the slope of log p less that of
    log 1/m sum_j q_j, whose parameters are constants. Planted: densities that move with their
    parameters (which is what the path "full" gives), one mixture for the whole minibatch, and a
    component that knows its own density alone."""
    key, num_samples = jax.random.key(0), 6
    gradient = jax.jit(gradient_of, static_argnames=("num_samples", "path"))
    z = np.asarray(draws_of(pair, key, num_samples))
    _, found = gradient(pair, key, num_samples=num_samples)
    assert_allclose(as_array(found.components), by_hand(z), rtol=1e-10)
    for fault in FAULTS:
        assert np.abs(by_hand(z, fault) - by_hand(z)).max() > 0.01, fault
    _, full = gradient(pair, key, num_samples=num_samples, path="full")
    assert_allclose(as_array(full.components), by_hand(z, "densities move"), rtol=1e-10)


def bound_by_quadrature(components):
    """The mixture's ELBO, a mean over both data: 80 Gauss-Hermite points over every component."""
    nodes, weights = map(jnp.array, np.polynomial.hermite_e.hermegauss(80))

    def of_datum(x):
        mean, scale = components.slope * x[0] + components.offset, jnp.exp(components.log_scale)
        z = mean[:, None] + scale[:, None] * nodes[None]

        def log_weight(z):
            log_q = logsumexp(norm.logpdf(z, mean, scale)) - jnp.log(2)
            return sum(score.sum() for score in MODEL.score(x, z).values()) - log_q

        return (jax.vmap(jax.vmap(log_weight))(z) @ weights).mean() / weights.sum()

    return jax.vmap(of_datum)(BATCH.x).mean()


def test_the_gradient_is_on_average_that_of_the_bound(pair):
    """Oracle: the gradient of the bound by quadrature, everything differentiated (what is held constant
    adds 0 on average). The mean over 10,000 keys is within its standard errors (6 statistics, level
    1e-3); a mixture of the whole minibatch and components that know themselves alone are off by more
    than 8 of them."""
    keys = jax.random.split(jax.random.key(1), 10_000)

    @jax.jit
    def of_all(keys):
        gradients = jax.vmap(lambda key: gradient_of(pair, key, num_samples=2)[1].components)(keys)
        return gradients, jax.vmap(lambda key: draws_of(pair, key, 2))(keys)

    expected = as_array(jax.jit(jax.grad(bound_by_quadrature))(pair.components))
    found, z = of_all(keys)
    right = np.stack([found.slope, found.offset, found.log_scale], axis=1)

    def z_scores(gradients):
        return np.abs(gradients.mean(0) - expected) / (gradients.std(0) / np.sqrt(len(keys)))

    assert z_scores(right).max() < LIMIT
    for fault in ("whole minibatch", "own component"):
        assert z_scores(by_hand(np.asarray(z), fault)).max() > 8, fault


def test_the_force_is_the_papers_sum_over_components():
    """Oracle: a double loop in NumPy with k = exp(-|x - y|^2 / h); the scores are those of the
    mixture's ELBO, grad L_x / m, and the repulsion stands beside N rows. Planted: the scores as they
    come, and a repulsion that does not know the rows."""
    random = np.random.default_rng(0)
    rows, scores = random.normal(size=(2, 3, 4))
    force = jax.jit(
        lambda rows, scores: stein_force(rows, scores, RBF(), repulsion=0.3, num_rows=7)
    )(rows, scores)
    pairs = [np.linalg.norm(rows[i] - rows[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    bandwidth = np.median(pairs) ** 2 / np.log(3)
    attraction, repulsion = np.zeros((3, 4)), np.zeros((3, 4))
    for y in range(3):
        for x in range(3):
            k = np.exp(-((rows[x] - rows[y]) ** 2).sum() / bandwidth)
            attraction[y] += k * 3 * scores[x]
            repulsion[y] += 0.3 / (7 * 3) * -2 / bandwidth * (rows[x] - rows[y]) * k
    assert_allclose(force.attraction, attraction, rtol=1e-10)
    assert_allclose(force.repulsion, repulsion, rtol=1e-10)
    assert np.abs(force.attraction - attraction / 3).max() > 0.1
    assert np.abs(force.repulsion - 7 * repulsion).max() > 0.01


@pytest.fixture(scope="module")
def sharing(pair):
    """The same, but with one slope for both, and its gradient."""
    components = eqx.tree_at(lambda line: line.slope, pair.components, None)
    shared = Mixture(components, Line(jnp.array(0.4), None, None))
    return shared, eqx.filter_jit(gradient_of)(shared, jax.random.key(2), num_samples=4)


def test_only_components_are_transported_and_what_they_share_is_not(sharing):
    """To the bit: the gradients of the model and of what components share stay what they were; they are
    not 0, so any factor would show."""
    shared, gradient = sharing
    transport = jax.jit(lambda *both: transported(*both, RBF(), repulsion=1.0, num_rows=2))
    moved = transport(gradient, (MODEL, shared))
    assert_array_equal(moved[0].bias, gradient[0].bias)
    assert_array_equal(moved[1].shared.slope, gradient[1].shared.slope)
    assert min(abs(gradient[0].bias), abs(gradient[1].shared.slope)) > 0.01
    assert np.abs(moved[1].components.offset - gradient[1].components.offset).max() > 0.01


def test_what_components_share_has_the_gradient_of_the_mixture_once(pair, sharing):
    """Identity: the sum over components of what each would have, were the copies their own. Planted:
    the mean over components."""
    _, (_, of_shared) = sharing
    own = eqx.tree_at(lambda m: m.components.slope, pair, jnp.full(2, 0.4))
    _, of_own = eqx.filter_jit(gradient_of)(own, jax.random.key(2), num_samples=4)
    assert_allclose(of_shared.shared.slope, of_own.components.slope.sum(), rtol=1e-12)
    assert_allclose(of_shared.components.offset, of_own.components.offset, rtol=1e-12)
    assert abs(of_shared.shared.slope - of_own.components.slope.mean()) > 0.01


# Targets N(0, I): the variance of the fitted mixture.


def last_components(inference, model, *, steps, key):
    """The components after `steps` updates, in one compiled loop."""
    state = init_state(model, inference.proposal, inference.optimiser)
    batch = jax.tree.map(jnp.asarray, target_splits()["train"].take(np.arange(1)))
    arrays, static = eqx.partition(state, eqx.is_array)

    @jax.jit
    def run(arrays):
        def one(arrays, _):
            state = eqx.combine(arrays, static)
            state, _ = train_step(state, batch, key, inference.objective, inference.optimiser, None)
            return eqx.filter(state, eqx.is_array), None

        return jax.lax.scan(one, arrays, None, length=steps)[0]

    return eqx.combine(run(arrays), static).proposal.components


DRAWS = {1: 16, 10: 4}  # the fewer dimensions, the more one draw of each counts


def fitted_variance(size, count, *, repulsion, draws, steps=2500):
    """The dimension-averaged variance of the mixture fitted to N(0, I)."""
    model = GaussianTarget(size)
    inference = stein_mixture(
        lambda key: MeanField(model.sample_prior, scale=0.1, key=key),
        optax.adam(optax.cosine_decay_schedule(0.05, steps)),
        num_components=count,
        num_rows=1,
        draws=draws,
        repulsion=repulsion,
        key=jax.random.key(0),
    )
    parts = last_components(inference, model, steps=steps, key=jax.random.key(1))
    return float((np.exp(2 * parts.log_scale).mean(0) + np.var(parts.mean, axis=0)).mean())


@pytest.mark.parametrize(("size", "count"), [(10, 1), (1, 5), (10, 5)])
def test_a_mixture_fitted_to_a_standard_normal_has_its_variance(size, count):
    """Closed form: 1 in every dimension, within 2 %, and exactly for a single component. What breaks it
    is below: full repulsion, and points in place of components."""
    variance = fitted_variance(size, count, repulsion=0.1, draws=DRAWS[size])

    assert abs(variance - 1) < (0.02 if count > 1 else 1e-3)


@pytest.mark.parametrize("size", [1, 10])
def test_at_full_repulsion_the_variance_is_that_of_an_independent_implementation(size):
    """Oracle: NumPy, within 0.02. Repulsion widens the mixture, the more the fewer dimensions: in one
    its variance is 1.13. Planted: the weaker repulsion."""
    expected = numpy_stein_gaussian(size, 5, 1.0, steps=2500, rate=0.05, seed=1)
    found = fitted_variance(size, 5, repulsion=1.0, draws=DRAWS[size])
    weaker = numpy_stein_gaussian(size, 5, 0.1, steps=2500, rate=0.05, seed=1)

    assert abs(found - expected) < 0.02
    assert abs(found - weaker) > 0.02


def test_the_variance_of_svgd_collapses_with_the_dimension():
    """Known: points of SVGD cover less of a normal the more dimensions it has (Ba et al. 2022);
    a mixture of as many components does not. Five points."""
    variances = []
    for size in (1, 10):
        model = GaussianTarget(size)
        inference = svgd(
            lambda key, model=model: PointMass(model.sample_prior, key=key),
            optax.adam(optax.cosine_decay_schedule(0.05, 1000)),
            num_components=5,
            num_rows=1,
            key=jax.random.key(0),
        )
        points = last_components(inference, model, steps=1000, key=jax.random.key(1)).value
        variances.append(float(np.var(points, axis=0).mean()))
    assert variances[0] > 0.5
    assert variances[1] < 0.25
