"""The mean gradient of the filtering surrogates, by enumeration: every draw and every choice of
ancestors of a tiny filter, with its probability. The exact expected bound is then one differentiable
function of the parameters. Next to each law stands the bug it is there for, planted and seen."""

from functools import cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from jax.scipy.stats import norm
from numpy.testing import assert_allclose

from tightbound.estimators.bounds import filtering_log_marginal, step_evidence_and_weights
from tightbound.estimators.surrogates import filtering, filtering_with_resampling
from tightbound.terms import StepTerms

# z_t = m z_{t-1} + b + s e_t with e_t = -1 or 1, each with probability 1/2: a reparameterised draw
# whose noise can be enumerated. Any function of the parameters may be its weight; this one is that
# of a linear-Gaussian model with a Gaussian proposal.
NUM_STEPS, NUM_PARTICLES = 3, 2
X = jnp.array([0.4, -1.3, 0.9])
PARAMETERS = {
    "model": {"transition": jnp.array(0.8), "log_scale": jnp.array(-0.2)},
    "proposal": {
        "slope": jnp.array(0.5),
        "offset": jnp.array([0.2, -0.4]),
        "log_s": jnp.array(0.1),
    },
}


def every(num_values, shape):
    """Every array of this shape with whole numbers below `num_values`."""
    size = int(np.prod(shape))
    return jnp.array(list(product(range(num_values), repeat=size))).reshape(-1, *shape)


NOISE = 2.0 * every(2, (NUM_STEPS, NUM_PARTICLES)) - 1  # 64
PARENTS = every(NUM_PARTICLES, (NUM_STEPS - 1, NUM_PARTICLES))  # 16


def terms_of(parameters, noise, parents, *, resample=True, length=NUM_STEPS):
    """The record of one filter whose noise and ancestors are given."""
    model, proposal = parameters["model"], parameters["proposal"]
    identity = jnp.arange(NUM_PARTICLES)
    z, increments, ancestors = jnp.zeros(NUM_PARTICLES), [], []
    for t in range(NUM_STEPS):
        parent = parents[t - 1] if resample and 0 < t < length else identity
        before, x_t = z[parent], X[t]
        mean = proposal["slope"] * before + proposal["offset"][0] + proposal["offset"][1] * x_t
        z = mean + jnp.exp(proposal["log_s"]) * noise[t]
        log_q = norm.logpdf(z, mean, jnp.exp(proposal["log_s"]))
        log_prior = norm.logpdf(z, model["transition"] * before, jnp.exp(model["log_scale"]))
        increments.append(log_prior + norm.logpdf(x_t, z, 0.7) - log_q)
        ancestors.append(parent)
    steps = jnp.arange(NUM_STEPS)[:, None]
    return StepTerms(
        log_increments=jnp.stack(increments)[:, :, None],
        ancestors=jnp.stack(ancestors)[:, :, None],
        resampled=(steps > 0) & (steps < length) & resample,
        mask=steps < length,
        ess=jnp.ones((NUM_STEPS, 1)),  # nobody reads it
        num_units=jnp.array([length]),
    )


def chance_of(terms):
    """The probability of an outcome: noise is uniform, and each ancestor is drawn by the weights
    before its step. Where steps resample nothing, ancestors say nothing and repeat each other."""
    _, log_weights = step_evidence_and_weights(terms)
    chosen = jnp.take_along_axis(log_weights[:-1], terms.ancestors[1:], axis=1)
    of_ancestors = jnp.exp(jnp.where(terms.resampled[1:], chosen.sum(1), 0.0).sum())
    num_different = NUM_PARTICLES ** (NUM_PARTICLES * terms.resampled.sum())
    return of_ancestors * num_different / len(PARENTS) / len(NOISE)


def over_outcomes(function):
    """The sum of `function(noise, parents)` over all outcomes."""
    of_all = jax.vmap(jax.vmap(function, in_axes=(None, 0)), in_axes=(0, None))(NOISE, PARENTS)
    return of_all.sum((0, 1))


FLAT, unravel = ravel_pytree(PARAMETERS)


def mean_gradients(surrogates, **rule):
    """The mean over outcomes of the gradient of every surrogate."""

    @jax.jit
    def run():
        def outcome(noise, parents):
            def values(flat):
                terms = terms_of(unravel(flat), noise, parents, **rule)
                return jnp.stack([surrogate(terms) for surrogate in surrogates])

            chance = chance_of(terms_of(PARAMETERS, noise, parents, **rule))
            return chance * jax.jacobian(values)(FLAT)

        return over_outcomes(outcome)

    return run()


def expected_bound(flat, **rule):
    """E[log p-hat] and the sum of all probabilities, as functions of the parameters."""

    def outcome(noise, parents):
        terms = terms_of(unravel(flat), noise, parents, **rule)
        chance = chance_of(terms)
        return jnp.stack([chance * filtering_log_marginal(terms)[0], chance])

    return over_outcomes(outcome)


RULES = {"always": {}, "always, padded": {"length": 2}, "never": {"resample": False}}


@cache
def exact_gradient(name):
    """Gradient of E[log p-hat] under a rule; on the way, that the probabilities sum to one."""

    def bound(flat):
        return expected_bound(flat, **RULES[name])

    (_, one), (gradient, of_one) = jax.jit(lambda at: (bound(at), jax.jacobian(bound)(at)))(FLAT)
    assert_allclose(one, 1.0, rtol=1e-12)
    assert_allclose(of_one, 0.0, atol=1e-13)
    return gradient


@pytest.fixture(scope="module", params=RULES)
def case(request):
    """The rule, the exact gradient of E[log p-hat] and the mean gradients, kept and dropped."""
    kept, dropped = mean_gradients([filtering_with_resampling, filtering], **RULES[request.param])
    return request.param, exact_gradient(request.param), kept, dropped


def test_with_resampling_kept_the_mean_gradient_is_that_of_the_expected_bound(case):
    """Oracle: autodiff of the enumerated E[log p-hat], for the model and for a reparameterised
    proposal."""
    _, exact, kept, _ = case
    assert_allclose(kept, exact, rtol=1e-10, atol=1e-13)


def test_dropping_the_terms_of_resampling_biases_the_gradient(case):
    """Oracle: the same. Without resampling nothing is dropped, and the two are one."""
    name, exact, _, dropped = case
    off = np.abs(dropped - exact).max()
    assert off < 1e-12 if name == "never" else off > 1e-2


def kept_with(evidence_of, shift=0):
    """A twin of `filtering_with_resampling` in which something is to be got wrong: which evidence
    follows a choice of ancestors, and by which step's weights it was made."""

    def surrogate(terms):
        evidence, log_weights = step_evidence_and_weights(terms)
        before = jnp.roll(log_weights, shift, axis=0)[:-1]
        chosen = jnp.take_along_axis(before, terms.ancestors[1:], axis=1).sum(1)
        log_prob = jnp.where(terms.resampled[1:] & terms.mask[1:], chosen, 0.0)
        ahead = stop_gradient(evidence_of(evidence))
        return (evidence.sum(0) + (ahead * log_prob).sum(0)).mean()

    return surrogate


def ahead(evidence):
    return jnp.cumsum(evidence[::-1], axis=0)[::-1][1:]


TWINS = {
    "its own step only": kept_with(lambda evidence: evidence[1:]),
    "later steps only": kept_with(lambda evidence: ahead(evidence) - evidence[1:]),
    "sign": kept_with(lambda evidence: -ahead(evidence)),
    "weights after the step": kept_with(ahead, shift=-1),
    "all of the evidence": kept_with(
        lambda evidence: jnp.broadcast_to(evidence.sum(0), evidence[1:].shape)
    ),
}


def test_enumeration_catches_a_wrong_score_of_the_ancestors():
    """Planted: each wrong twin's mean gradient is off by more than a hundredth. All of log p-hat
    in place of what lies ahead is no bug: it has the same mean."""
    exact = exact_gradient("always")
    *wrong, whole = mean_gradients(TWINS.values())
    assert_allclose(whole, exact, rtol=1e-10, atol=1e-13)
    for name, gradient in zip(TWINS, wrong, strict=False):
        assert np.abs(gradient - exact).max() > 1e-2, name


def test_what_is_dropped_does_not_change_the_value():
    """Identity: `filtering` is the mean bound itself; kept, the value means nothing."""

    @jax.jit
    def values():
        terms = terms_of(PARAMETERS, NOISE[5], PARENTS[6])
        bound = filtering_log_marginal(terms).mean()
        return bound, filtering(terms), filtering_with_resampling(terms)

    bound, dropped, kept = values()
    assert_allclose(dropped, bound, rtol=1e-14)
    assert abs(kept - bound) > 0.1
