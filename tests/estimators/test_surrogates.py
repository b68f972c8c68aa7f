"""The mean gradient of every surrogate is the gradient of the bound it is for.

No sampling: a discrete proposal is enumerated over every set of draws, a Gaussian one is
integrated by Gauss-Hermite quadrature through `weigh` itself, and the rest are finite differences
on fixed draws. Next to each stands the bug it is there for, planted and seen.
"""

from itertools import product
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from jax.scipy.stats import norm
from numpy.testing import assert_allclose

from tightbound.data.batch import Batch
from tightbound.estimators.bounds import elbo, iwae_bound
from tightbound.estimators.surrogates import (
    free_bits,
    kl_weighted,
    pathwise_elbo,
    pathwise_iwae,
    pathwise_renyi,
    reweighted_wake_sleep,
    vimco,
    wake_model,
    wake_proposal,
)
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import Kind, LogTerms, Site

# A discrete latent with three states: p(z) = softmax(theta), q(z | x) = softmax(phi), one x.

LOG_LIKELIHOOD = jnp.log(jnp.array([0.10, 0.45, 0.80]))
PARAMETERS = {"theta": jnp.array([0.4, -0.3, 0.1]), "phi": jnp.array([0.9, -0.2, 0.3])}


def discrete_terms(parameters, z):
    """The terms of one sequence whose draws are z [samples]."""

    def site(name, kind, log_p, log_q=None):
        log_q = None if log_q is None else log_q[:, None, None]
        mask = jnp.ones((len(z), 1, 1), bool)
        return Site(name, kind, log_p=log_p[:, None, None], log_q=log_q, mask=mask)

    log_prior = jax.nn.log_softmax(parameters["theta"])[z]
    log_q = jax.nn.log_softmax(parameters["phi"])[z]
    sites = (
        site("z", Kind.LATENT, log_prior, log_q),
        site("x", Kind.OBSERVED, LOG_LIKELIHOOD[z]),
    )
    return LogTerms(sites, num_units=jnp.ones(1, jnp.int32))


def every_draw(num_samples):
    return jnp.array(list(product(range(3), repeat=num_samples)))


def probability(parameters, tuples):
    return jnp.exp(jax.nn.log_softmax(parameters["phi"])[tuples].sum(-1))


def mean_and_variance(surrogate, num_samples):
    """Mean and total variance of a surrogate's gradient over every set of K draws from q."""
    tuples = every_draw(num_samples)

    def gradient(z):
        return ravel_pytree(jax.grad(lambda p: surrogate(discrete_terms(p, z)))(PARAMETERS))[0]

    gradients = jax.jit(jax.vmap(gradient))(tuples)
    weight = probability(PARAMETERS, tuples)
    mean = weight @ gradients
    variance = weight @ jnp.square(gradients - mean[None]).sum(axis=1)
    return ravel_pytree(PARAMETERS)[1](mean), float(variance)


def exact_gradient(bound, num_samples):
    """Gradient of the enumerated expectation of a bound, through the probabilities too."""
    tuples = every_draw(num_samples)

    def expectation(parameters):
        values = jax.vmap(lambda z: bound(discrete_terms(parameters, z).log_weights)[0])(tuples)
        return probability(parameters, tuples) @ values

    return jax.jit(jax.grad(expectation))(PARAMETERS)


@pytest.mark.parametrize("num_samples", [2, 4])
def test_the_mean_vimco_gradient_is_the_gradient_of_the_exact_k_sample_bound(num_samples):
    """Oracle: autodiff of E[L_K], enumerated over every set of draws."""
    mean, _ = mean_and_variance(vimco, num_samples)
    exact = exact_gradient(iwae_bound, num_samples)
    for name in PARAMETERS:
        assert_allclose(mean[name], exact[name], atol=1e-14, rtol=1e-10)


def vimco_with_baseline(make_baseline, *, through_the_bound=True):
    """A twin of `vimco` in which something is to be got wrong."""

    def surrogate(terms):
        bound = iwae_bound(terms.log_weights)
        signal = stop_gradient(bound[None] - make_baseline(terms.log_weights))
        own = bound if through_the_bound else stop_gradient(bound)
        return ((signal * terms.log_proposal).sum(axis=0) + own).mean()

    return surrogate


@pytest.mark.parametrize(
    "twin",
    [
        vimco_with_baseline(lambda log_w: log_w - jnp.log(2)),  # it looks at its own draw
        vimco_with_baseline(lambda log_w: log_w[::-1], through_the_bound=False),
        lambda terms: pathwise_iwae(terms),  # the draws' own probabilities are forgotten
    ],
    ids=["baseline depends on its draw", "no gradient of the weights", "no score function"],
)
def test_enumeration_catches_a_wrong_score_function_gradient(twin):
    """Planted: each twin's mean gradient for the proposal is off by more than a hundredth."""
    mean, _ = mean_and_variance(twin, 2)
    error = np.abs(mean["phi"] - exact_gradient(iwae_bound, 2)["phi"]).max()
    assert error > 1e-2


def test_the_leave_one_out_baseline_changes_the_variance_and_not_the_mean():
    """Enumerated at K = 4, against the same estimator with no baseline."""
    mean, variance = mean_and_variance(vimco, 4)
    without = vimco_with_baseline(jnp.zeros_like)
    mean_without, variance_without = mean_and_variance(without, 4)
    assert_allclose(mean["phi"], mean_without["phi"], atol=1e-12)
    assert variance < 0.2 * variance_without


def test_vimco_refuses_a_single_sample():
    with pytest.raises(ValueError, match=r"at least 2 samples per sequence, but the terms hold 1"):
        vimco(discrete_terms(PARAMETERS, jnp.array([0])))


def self_normalised_expectation(num_samples):
    """E[sum_k w~_k grad log p(z_k)] and E[sum_k w~_k grad log q(z_k)] in NumPy, with the gradient of
    a log-softmax in closed form: the one-hot of z minus the probabilities."""
    p, q = (np.array(jax.nn.softmax(PARAMETERS[name])) for name in ("theta", "phi"))
    weights_of = p * np.exp(np.array(LOG_LIKELIHOOD)) / q
    model, proposal = np.zeros(3), np.zeros(3)
    for z in product(range(3), repeat=num_samples):
        chance = np.prod(q[list(z)])
        normalised = weights_of[list(z)] / weights_of[list(z)].sum()
        for k in range(num_samples):
            model += chance * normalised[k] * (np.eye(3)[z[k]] - p)
            proposal += chance * normalised[k] * (np.eye(3)[z[k]] - q)
    return {"theta": model, "phi": proposal}


def test_the_mean_wake_gradients_are_the_enumerated_self_normalised_expectations():
    """Oracle: the expectation at K = 2 in NumPy; for the model it is also the gradient of E[L_2]."""
    oracle = self_normalised_expectation(2)
    mean, _ = mean_and_variance(reweighted_wake_sleep, 2)
    for name in PARAMETERS:
        assert_allclose(mean[name], oracle[name], atol=1e-14, rtol=1e-11)
    assert_allclose(mean["theta"], exact_gradient(iwae_bound, 2)["theta"], rtol=1e-10)


def test_each_wake_phase_moves_its_own_parameters_only():
    """The weights are constants: no gradient leaks through them to the other network."""
    z = jnp.array([0, 2])
    model = jax.jit(jax.grad(lambda p: wake_model(discrete_terms(p, z))))(PARAMETERS)
    proposal = jax.jit(jax.grad(lambda p: wake_proposal(discrete_terms(p, z))))(PARAMETERS)
    assert np.all(model["phi"] == 0)
    assert np.all(proposal["theta"] == 0)
    assert np.any(model["theta"] != 0)
    assert np.any(proposal["phi"] != 0)


@pytest.mark.parametrize(
    ("twin", "wrong_for"),
    [
        (lambda t: (jax.nn.softmax(t.log_weights, 0) * t.log_joint).sum(0).mean(), "theta"),
        (lambda t: t.log_joint.mean(), "theta"),
        (lambda t: -wake_proposal(t), "phi"),
        (lambda t: t.log_proposal.mean(), "phi"),
    ],
    ids=["weights not constant", "model unweighted", "sign flipped", "proposal unweighted"],
)
def test_enumeration_catches_a_wrong_wake_phase(twin, wrong_for):
    """Planted: each twin's mean gradient is off by more than a hundredth."""
    mean, _ = mean_and_variance(twin, 2)
    assert np.abs(mean[wrong_for] - self_normalised_expectation(2)[wrong_for]).max() > 1e-2


# A Gaussian latent, weighed by `weigh` at draws chosen by the test: z ~ N(0, 1), x ~ N(w z, s^2).

KEY = jax.random.key(0)
X = 1.3


class Gaussian(AbstractModel):
    weight: jax.Array
    log_scale: jax.Array
    kinds: ClassVar = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    def sample_prior(self, key):
        raise NotImplementedError

    def sample_likelihood(self, z, key):
        raise NotImplementedError

    def score(self, x, z):
        log_likelihood = norm.logpdf(x["x"], self.weight * z, jnp.exp(self.log_scale))
        return {"z": norm.logpdf(z)[None], "x": log_likelihood[None]}


class NormalAtNodes(eqx.Module):
    """N(mean, exp(log_scale)^2) whose k-th draw is mean + scale * noise[k]: which draw is asked for
    is told by the key, looked up among the keys that `weigh` makes for row 0."""

    mean: jax.Array
    log_scale: jax.Array
    noise: jax.Array
    hold_draw: bool = eqx.field(static=True)  # the planted bug: no gradient through the draw

    def sample(self, key):
        keys = jax.random.split(jax.random.fold_in(KEY, 0), len(self.noise))
        asked_for = (jax.random.key_data(keys) == jax.random.key_data(key)[None]).all(axis=1)
        noise = jnp.where(asked_for.any(), self.noise[jnp.argmax(asked_for)], jnp.nan)
        z = self.mean + jnp.exp(self.log_scale) * noise
        return stop_gradient(z) if self.hold_draw else z

    def log_prob(self, z):
        return norm.logpdf(z, self.mean, jnp.exp(self.log_scale))


class GaussianProposal(AbstractProposal):
    mean: jax.Array
    log_scale: jax.Array
    hold_draw: bool = eqx.field(static=True, default=False)

    def proposal(self, x):
        return NormalAtNodes(self.mean, self.log_scale, x["noise"], self.hold_draw)


MODEL = Gaussian(jnp.array(0.8), jnp.array(-0.2))
PROPOSAL = GaussianProposal(jnp.array(0.2), jnp.array(-0.5))


def expected_gradient(surrogate, num_samples, path, proposal=PROPOSAL, num_nodes=48):
    """E over the draws' noise of the gradient of surrogate(weigh(...)), by tensor Gauss-Hermite
    quadrature; and the gradient at each set of nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    noise = jnp.array(list(product(nodes, repeat=num_samples)))
    weights = weights / np.sqrt(2 * np.pi)
    weight = jnp.array([np.prod(w) for w in product(weights, repeat=num_samples)])

    def gradient(noise):
        def value(networks):
            batch = Batch(
                x={"x": jnp.full(1, X), "noise": noise[None]},
                mask=jnp.ones((1, 1), bool),
                num_units=jnp.ones(1, jnp.int32),
                rows=jnp.zeros(1, jnp.int32),
            )
            terms = weigh(*networks, batch, num_samples=num_samples, key=KEY, path=path)
            return surrogate(terms)

        return ravel_pytree(jax.grad(value)((MODEL, proposal)))[0]

    gradients = jax.jit(jax.vmap(gradient))(noise)
    return weight @ gradients, gradients


def gradient_of_exact_bound(num_samples):
    """Gradient of E[L_K] with the draws integrated on a fixed grid of z (trapezoids, which converge
    geometrically for such integrands): no reparameterisation, no `weigh`, no estimator."""
    grid = jnp.linspace(-7.0, 7.0, 400)
    spacing = grid[1] - grid[0]

    def value(networks):
        model, proposal = networks
        log_q = norm.logpdf(grid, proposal.mean, jnp.exp(proposal.log_scale))
        log_w = norm.logpdf(grid) - log_q
        log_w += norm.logpdf(X, model.weight * grid, jnp.exp(model.log_scale))
        mass = jnp.exp(log_q) * spacing
        if num_samples == 1:
            return mass @ log_w
        pairs = jnp.logaddexp(log_w[:, None], log_w[None]) - jnp.log(2)
        return mass @ pairs @ mass

    return ravel_pytree(jax.jit(jax.grad(value))((MODEL, PROPOSAL)))[0]


@pytest.fixture(scope="module")
def exact_elbo_gradient():
    return gradient_of_exact_bound(1)


@pytest.fixture(scope="module")
def exact_iwae_gradient():
    return gradient_of_exact_bound(2)


@pytest.mark.parametrize("path", ["full", "stop_proposal"])
def test_the_mean_pathwise_and_landing_gradients_are_the_gradient_of_the_exact_elbo(
    path, exact_elbo_gradient
):
    """Oracle: autodiff of the ELBO integrated on a grid of z. "stop_proposal" sticks the landing."""
    mean, _ = expected_gradient(pathwise_elbo, 1, path)
    assert_allclose(mean, exact_elbo_gradient, rtol=1e-10, atol=1e-12)


def test_quadrature_catches_a_draw_that_is_held_constant(exact_elbo_gradient):
    """Planted: without the path through z only the score of q is left, whose mean is zero."""
    held = GaussianProposal(PROPOSAL.mean, PROPOSAL.log_scale, hold_draw=True)
    mean, _ = expected_gradient(pathwise_elbo, 1, "full", held)
    assert_allclose(mean[2:], 0.0, atol=1e-12)
    assert np.abs(exact_elbo_gradient[2:]).min() > 0.1


def test_sticking_the_landing_has_no_noise_at_the_posterior():
    """Identity: with q = p(z | x) the gradient is zero at every draw. The full path's is zero in
    the mean only: its variance is what the landing is stuck for."""
    scale = np.exp(MODEL.log_scale)
    precision = 1 + (MODEL.weight / scale) ** 2
    mean = MODEL.weight * X / scale**2 / precision
    posterior = GaussianProposal(mean, -0.5 * jnp.log(precision))
    _, stuck = expected_gradient(pathwise_elbo, 1, "stop_proposal", posterior, num_nodes=8)
    full_mean, full = expected_gradient(pathwise_elbo, 1, "full", posterior, num_nodes=8)
    assert_allclose(stuck[:, 2:], 0.0, atol=1e-12)
    assert_allclose(full_mean[2:], 0.0, atol=1e-12)
    assert np.abs(full[:, 2:]).max() > 0.5


@pytest.mark.parametrize(
    ("surrogate", "path"),
    [(pathwise_iwae, "full"), (pathwise_iwae, "doubly"), (vimco, "stop_draw")],
    ids=["pathwise", "doubly reparameterised", "score function"],
)
def test_at_gaussian_draws_too_the_mean_gradient_is_that_of_the_exact_iwae_bound(
    surrogate, path, exact_iwae_gradient
):
    """Oracle: autodiff of E[L_2] integrated on a grid of (z_1, z_2)."""
    mean, _ = expected_gradient(surrogate, 2, path)
    assert_allclose(mean, exact_iwae_gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("surrogate", "path"),
    [(pathwise_iwae, "stop_proposal"), (pathwise_elbo, "doubly"), (vimco, "full")],
    ids=["weight not squared", "scaled draws in the wrong bound", "score function plus pathwise"],
)
def test_quadrature_catches_a_gradient_path_of_another_bound(surrogate, path, exact_iwae_gradient):
    """Planted: sticking the landing is biased for K > 1 (Tucker et al. 2018), the doubly
    reparameterised draw belongs to the IWAE bound alone, and a score function wants a constant."""
    mean, _ = expected_gradient(surrogate, 2, path)
    assert np.abs(mean - exact_iwae_gradient).max() > 0.05


# Fixed draws: the gradient is that of the value, by finite differences.


def annealed_terms(parameters):
    """Two latent sites with one position masked, two draws of three sequences; smooth in all."""
    noise = np.random.default_rng(0).normal(size=(3, 2, 3, 4))
    mask = jnp.ones((2, 3, 4), bool).at[:, 1, 3].set(False)
    a, b, c = parameters

    def site(name, kind, log_p, log_q=None):
        return Site(name, kind, log_p=log_p, log_q=log_q, mask=mask)

    z, y = a + jnp.exp(b) * noise[0], c + noise[1]
    return LogTerms(
        sites=(
            site("z", Kind.LATENT, norm.logpdf(z), norm.logpdf(z, a, jnp.exp(b))),
            site("y", Kind.LATENT, norm.logpdf(y, 0.1), norm.logpdf(y, c)),
            site("x", Kind.OBSERVED, norm.logpdf(noise[2], z * y)),
        ),
        num_units=jnp.array([4, 3, 4]),
    )


AT = jnp.array([0.7, -0.6, 0.2])


@jax.jit
def kl_of_latents(parameters):
    latents = annealed_terms(parameters).sites[:2]
    return jnp.stack([(site.total_log_q - site.total_log_p).mean() for site in latents])


def finite_difference(function, at, step=1e-5):
    rows = jnp.eye(len(at)) * step
    return np.array([(function(at + row) - function(at - row)) / (2 * step) for row in rows])


# A floor between the two sites' KLs: one pays, the other is free.
FLOOR = float(kl_of_latents(AT).mean())

SURROGATES = {
    "kl weight 0.3": lambda terms: kl_weighted(terms, 0.3),
    "kl weight 2": lambda terms: kl_weighted(terms, 2.0),
    "free bits": lambda terms: free_bits(terms, FLOOR),
    "renyi 0.5": lambda terms: pathwise_renyi(terms, 0.5),
    "renyi 1": lambda terms: pathwise_renyi(terms, 1),
    "renyi -1": lambda terms: pathwise_renyi(terms, -1.0),
}


@pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=SURROGATES.keys())
def test_on_fixed_draws_the_gradient_is_the_finite_difference_of_the_value(surrogate):
    """Nothing in these surrogates is held constant. Planted: with one of the terms held constant,
    as a stop_gradient in the wrong place does, gradient and difference part."""
    value = jax.jit(lambda parameters: surrogate(annealed_terms(parameters)))
    difference = finite_difference(value, AT)
    assert_allclose(jax.jit(jax.grad(value))(AT), difference, rtol=1e-7, atol=1e-7)

    def with_proposal_held(parameters):
        terms = annealed_terms(parameters)
        held = [eqx.tree_at(lambda s: s.log_q, s, stop_gradient(s.log_q)) for s in terms.sites[:2]]
        return surrogate(LogTerms((*held, terms.sites[2]), terms.num_units))

    assert np.abs(jax.jit(jax.grad(with_proposal_held))(AT) - difference).max() > 1e-2


def test_the_kl_weight_scales_prior_and_proposal_alike():
    """Oracle: the two ends are the likelihood alone and the ELBO, and it is linear between them.
    Planted: a weight on log q only leaves the prior in at weight zero."""
    terms = annealed_terms(AT)
    assert_allclose(kl_weighted(terms, 0), terms.log_likelihood.mean(), rtol=1e-14)
    assert_allclose(kl_weighted(terms, 1), elbo(terms.log_weights).mean(), rtol=1e-14)
    ends = 0.7 * kl_weighted(terms, 0) + 0.3 * kl_weighted(terms, 1)
    assert_allclose(kl_weighted(terms, 0.3), ends, rtol=1e-13)
    on_log_q_only = terms.log_likelihood + terms.log_prior - 0 * terms.log_proposal
    assert abs(on_log_q_only.mean() - terms.log_likelihood.mean()) > 1.0


def test_a_latent_below_the_floor_pays_the_floor_and_has_no_gradient():
    """Oracle: the KLs of the two sites, averaged by NumPy before the floor. Planted: a floor for
    every sequence apart charges more, because the larger KLs no longer make up for the smaller."""
    terms = annealed_terms(AT)
    z, y, x = terms.sites
    kl = {s.name: np.asarray(s.total_log_q - s.total_log_p) for s in (z, y)}
    free, paying = sorted(kl, key=lambda name: kl[name].mean())
    expected = x.total_log_p.mean() - FLOOR - kl[paying].mean()
    assert kl[free].mean() < FLOOR < kl[paying].mean()
    assert_allclose(free_bits(terms, FLOOR), expected, rtol=1e-13)
    per_sequence = x.total_log_p.mean() - sum(np.maximum(v, FLOOR).mean() for v in kl.values())
    assert per_sequence < expected - 0.1

    def objective(log_q):
        changed = eqx.tree_at(lambda t: [s.log_q for s in t.sites[:2]], terms, log_q)
        return free_bits(changed, FLOOR)

    gradients = dict(zip(("z", "y"), jax.grad(objective)([z.log_q, y.log_q]), strict=True))
    assert np.all(gradients[free] == 0)
    assert np.any(gradients[paying] != 0)


def test_latents_drawn_jointly_share_one_floor():
    """Where one site holds the log q of both, only the sum of their KLs is known."""
    terms = annealed_terms(AT)
    z, y, x = terms.sites
    joint = LogTerms(
        sites=(
            Site("z", Kind.LATENT, log_p=z.log_p, log_q=z.log_q + y.log_q, mask=z.mask),
            Site("y", Kind.LATENT, log_p=y.log_p, log_q=None, mask=y.mask),
            x,
        ),
        num_units=terms.num_units,
    )
    total = float((joint.log_proposal - joint.log_prior).mean())
    likelihood = joint.log_likelihood.mean()
    assert_allclose(free_bits(joint, total + 1), likelihood - total - 1, rtol=1e-12)
    assert_allclose(free_bits(joint, total - 1), likelihood - total, rtol=1e-12)


def test_no_surrogate_depends_on_the_order_of_its_samples():
    """Reordering identity, on values and gradients, for three draws."""

    def surrogates(parameters, z):
        terms = discrete_terms(parameters, z)
        return jnp.stack([f(terms) for f in (vimco, reweighted_wake_sleep, pathwise_iwae)])

    values, gradients = jax.jit(surrogates), jax.jit(jax.jacobian(surrogates))
    z = jnp.array([2, 0, 1])
    assert_allclose(values(PARAMETERS, z), values(PARAMETERS, z[::-1]), rtol=1e-13)
    one, other = gradients(PARAMETERS, z), gradients(PARAMETERS, z[::-1])
    assert_allclose(ravel_pytree(one)[0], ravel_pytree(other)[0], rtol=1e-12, atol=1e-14)


def test_a_vimco_gradient_stays_finite_when_one_draw_is_impossible():
    """A zero weight counts as zero. By hand, for two draws of which the first is impossible: its
    baseline is the other's log-weight; the other's would be -inf, and 0 stands in. The other holds
    all the normalised weight, which is what grad log w adds."""

    def surrogate(log_q):
        log_p = jnp.array([-jnp.inf, -1.0])[:, None, None]
        mask = jnp.ones((2, 1, 1), bool)
        site = Site("z", Kind.LATENT, log_p=log_p, log_q=log_q[:, None, None], mask=mask)
        return vimco(LogTerms((site,), jnp.ones(1, jnp.int32)))

    gradient = jax.jit(jax.grad(surrogate))(jnp.array([-0.5, -0.7]))
    log_weight = -1.0 + 0.7
    bound = log_weight - np.log(2)
    baselines = np.array([log_weight, 0.0])
    assert_allclose(gradient, bound - baselines - np.array([0.0, 1.0]), rtol=1e-12)
