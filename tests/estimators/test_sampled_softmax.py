"""Every estimator of a softmax against its claim. Oracle: all samples that there are, enumerated in NumPy with
their probabilities, and closed forms of the expectation."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit, log_softmax, logsumexp

from tightbound.estimators.sampled_softmax import (
    CLAIMS,
    candidates_softmax,
    exact_softmax,
    importance_softmax,
    negative_sampling,
    noise_contrast,
    with_target_softmax,
)

Q = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
NUM_CLASSES, NUM_SAMPLES, TARGET = len(Q), 3, 1
LOG_Q = np.log(Q)
SCORES = np.array([0.3, 1.1, -0.7, 1.9, -1.2])
ALL = np.array(list(itertools.product(range(NUM_CLASSES), repeat=NUM_SAMPLES)))
WEIGHTS = Q[ALL].prod(1)  # probability of each of the 125 samples
LAW = np.array([0.1, 0.35, 0.2, 0.05, 0.3])  # of the data, for optima


def importance(scores, target, drawn, log_q=LOG_Q):
    return importance_softmax(scores[target], scores[drawn], jnp.asarray(log_q)[drawn])


def with_target(scores, target, drawn, log_q=LOG_Q):
    return with_target_softmax(
        scores[target], scores[drawn], jnp.asarray(log_q)[drawn], drawn == target
    )


def candidates(scores, target, drawn, log_q=LOG_Q):
    log_q = jnp.asarray(log_q)
    return candidates_softmax(scores[target], log_q[target], scores[drawn], log_q[drawn])


def nce(scores, target, drawn, log_q=LOG_Q):
    log_q = jnp.asarray(log_q)
    return noise_contrast(scores[target], log_q[target], scores[drawn], log_q[drawn], 0.2)


def negative(scores, target, drawn, log_q=LOG_Q):
    return negative_sampling(scores[target], scores[drawn])


# Planted bugs: each leaves one thing of a formula out, or turns it round.


def without_log_m(scores, target, drawn):
    return scores[target] - jax.nn.logsumexp(scores[drawn] - jnp.asarray(LOG_Q)[drawn])


def without_log_q(scores, target, drawn):
    return importance(scores, target, drawn, np.zeros(NUM_CLASSES))


def with_plus_log_q(scores, target, drawn):
    return importance(scores, target, drawn, -LOG_Q)


def with_hits_twice(scores, target, drawn):
    none = jnp.zeros(NUM_SAMPLES, bool)
    return with_target_softmax(scores[target], scores[drawn], jnp.asarray(LOG_Q)[drawn], none)


def with_uncorrected_target(scores, target, drawn):
    log_q = jnp.asarray(LOG_Q)[drawn]
    return candidates_softmax(scores[target], jnp.zeros(()), scores[drawn], log_q)


def candidates_without_log_q(scores, target, drawn):
    return candidates(scores, target, drawn, np.zeros(NUM_CLASSES))


def nce_without_log_q(scores, target, drawn):
    return nce(scores, target, drawn, np.full(NUM_CLASSES, -np.log(NUM_CLASSES)))


def nce_without_k(scores, target, drawn):
    log_q = jnp.asarray(LOG_Q) - np.log(NUM_SAMPLES)
    return noise_contrast(scores[target], log_q[target], scores[drawn], log_q[drawn], 0.2)


def nce_with_turned_sign(scores, target, drawn):
    log_q = jnp.asarray(LOG_Q)
    return noise_contrast(scores[target], log_q[target], -scores[drawn], log_q[drawn], 0.2)


@cache
def compiled(estimator):
    return jax.jit(jax.vmap(jax.value_and_grad(estimator), in_axes=(None, None, 0)))


def every_sample(estimator, scores, target):
    """Value and gradient of every sample that there is."""
    value, gradient = compiled(estimator)(
        jnp.asarray(scores), jnp.asarray(target), jnp.asarray(ALL)
    )
    return np.asarray(value), np.asarray(gradient)


def expected_inverse(estimator):
    """E[1 / p^(y)] and its gradient: unbiased where E[Z^] = Z, since 1 / p(y) = Z exp(-s_y)."""
    value, gradient = every_sample(estimator, SCORES, TARGET)
    inverse = WEIGHTS * np.exp(-value)
    return inverse.sum(), -(inverse[:, None] * gradient).sum(0)


def exact_inverse():
    log_p = log_softmax(SCORES)
    gradient = np.exp(log_p) - np.eye(NUM_CLASSES)[TARGET]
    return np.exp(-log_p[TARGET]), np.exp(-log_p[TARGET]) * gradient


def expected_gradient(estimator, scores):
    """Of the data's classes and of all samples: 0 at the estimator's own optimum."""
    of_target = [WEIGHTS @ every_sample(estimator, scores, y)[1] for y in range(NUM_CLASSES)]
    return LAW @ np.array(of_target)


def test_the_exact_softmax_is_scipys():
    assert_allclose(
        exact_softmax(jnp.asarray(SCORES)[1], jnp.asarray(SCORES)), log_softmax(SCORES)[1]
    )


@pytest.mark.parametrize("estimator", [importance, with_target])
def test_the_estimated_normaliser_and_its_gradient_are_unbiased(estimator):
    """Oracle: the sum over all 125 samples is Z, and that of the gradients its gradient."""
    value, gradient = expected_inverse(estimator)
    exact, exact_gradient = exact_inverse()
    assert_allclose(value, exact, rtol=1e-12)
    assert_allclose(gradient, exact_gradient, rtol=1e-11)


@pytest.mark.parametrize(
    "bug",
    [without_log_m, without_log_q, with_plus_log_q, with_hits_twice],
    ids=lambda f: f.__name__,
)
def test_a_planted_normaliser_is_biased(bug):
    assert abs(expected_inverse(bug)[0] / exact_inverse()[0] - 1) > 0.05


@pytest.mark.parametrize("estimator", [importance, with_target])
def test_the_value_lies_above_log_p_by_what_the_normaliser_spreads(estimator):
    """Oracle: Jensen's gap from the enumerated normalisers of NumPy. So it is no log-probability, and its
    own gradient is biased, though that of the normaliser is not."""
    value, gradient = every_sample(estimator, SCORES, TARGET)
    terms = np.exp(SCORES - LOG_Q)[ALL] / NUM_SAMPLES
    normaliser = terms.sum(1)
    if estimator is with_target:
        normaliser = np.exp(SCORES[TARGET]) + np.where(ALL == TARGET, 0.0, terms).sum(1)
    exact = log_softmax(SCORES)
    gap = logsumexp(SCORES) - WEIGHTS @ np.log(normaliser)
    assert_allclose(WEIGHTS @ value - exact[TARGET], gap, rtol=1e-10)
    assert gap > 0.02
    exact_gradient = np.eye(NUM_CLASSES)[TARGET] - np.exp(exact)
    assert np.abs(WEIGHTS @ gradient - exact_gradient).max() > 0.01
    bound = CLAIMS[estimator.__name__.replace("_", "-")]
    assert (bound.bound, bound.is_log_probability) == ("upper", False)


def test_a_target_that_is_always_there_keeps_the_value_below_zero():
    """Identity: Z^ >= exp(s_y). Without it single values are above 0, for a class that is likely."""
    likely = int(SCORES.argmax())
    without, _ = every_sample(importance, SCORES, likely)
    value, _ = every_sample(with_target, SCORES, likely)
    assert value.max() <= 1e-15 < 0.5 < without.max()


OPTIMA = {
    "candidates": (candidates, np.log(LAW) + 0.7),  # whatever the constant
    "nce": (nce, np.log(LAW) + 0.2),  # with Z where it is said to be
    "negative": (negative, np.log(LAW) - np.log(NUM_SAMPLES) - LOG_Q),
}


@pytest.mark.parametrize("name", OPTIMA)
def test_the_expected_gradient_is_zero_where_the_scores_are_right(name):
    """Oracle: the sum over all targets and all samples, for scores that are log p of the data."""
    estimator, scores = OPTIMA[name]
    assert_allclose(expected_gradient(estimator, scores), 0.0, atol=1e-12)
    assert CLAIMS[name].bound == "none"


@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("candidates", candidates_without_log_q),
        ("candidates", with_uncorrected_target),
        ("nce", nce_without_log_q),
        ("nce", nce_without_k),
        ("nce", nce_with_turned_sign),
        ("negative", nce),
    ],
    ids=lambda f: getattr(f, "__name__", f),
)
def test_a_planted_bug_moves_the_optimum(name, bug):
    assert np.abs(expected_gradient(bug, OPTIMA[name][1])).max() > 0.02


def test_importance_weights_have_no_such_optimum():
    """The bias of the self-normalised gradient, enumerated: it is not 0 at the truth."""
    assert np.abs(expected_gradient(importance, np.log(LAW))).max() > 0.02


def test_noise_contrast_is_its_formula_in_expectation():
    """Oracle: log sigma(d_y) + k sum_w Q(w) log sigma(-d_w) in NumPy, value and gradient."""
    value, gradient = every_sample(nce, SCORES, TARGET)
    difference = SCORES - 0.2 - np.log(NUM_SAMPLES) - LOG_Q
    expected = np.log(expit(difference[TARGET])) + NUM_SAMPLES * Q @ np.log(expit(-difference))
    assert_allclose(WEIGHTS @ value, expected, rtol=1e-12)
    slope = -NUM_SAMPLES * Q * expit(difference)
    slope[TARGET] += expit(-difference[TARGET])
    assert_allclose(WEIGHTS @ gradient, slope, rtol=1e-11)


@pytest.mark.parametrize(("log_p", "is_exact"), [(log_softmax(SCORES), True), (SCORES, False)])
def test_the_gradient_of_noise_contrast_tends_to_the_exact_one(log_p, is_exact):
    """Limit of Mnih & Teh 2012, eq. 12: with 1/k, if exp(score) / Z sums to 1, and else not. Draws in
    exact proportion to Q stand for their expectation, since the objective is a sum over them."""
    distance = []
    for k in (2_000, 20_000):
        drawn = jnp.asarray(np.repeat(np.arange(NUM_CLASSES), np.round(k * Q).astype(int)))
        log_q = jnp.asarray(LOG_Q)

        def value(scores, drawn=drawn, log_q=log_q):
            return noise_contrast(scores[TARGET], log_q[TARGET], scores[drawn], log_q[drawn])

        wanted = np.eye(NUM_CLASSES)[TARGET] - np.exp(log_softmax(SCORES))
        distance.append(np.abs(jax.grad(value)(jnp.asarray(log_p)) - wanted).max())
    assert (distance[1] < 2e-4) == is_exact
    if is_exact:
        assert_allclose(distance[0] / distance[1], 10.0, rtol=0.01)


def test_the_softmax_over_candidates_tends_to_another_value_with_the_same_gradient():
    """Limit: log p(y) - log(m Q(y)); its gradient is that of log p(y)."""
    m = 20_000
    drawn = jnp.asarray(np.repeat(np.arange(NUM_CLASSES), np.round(m * Q).astype(int)))
    value, gradient = jax.value_and_grad(candidates)(jnp.asarray(SCORES), TARGET, drawn)
    log_p = log_softmax(SCORES)
    assert_allclose(value, log_p[TARGET] - np.log(m) - LOG_Q[TARGET], rtol=1e-4)
    assert_allclose(gradient, np.eye(NUM_CLASSES)[TARGET] - np.exp(log_p), atol=1e-3)


def test_negative_sampling_is_noise_contrast_for_as_many_uniform_draws_as_classes():
    """Identity (Dyer 2014, arXiv:1410.8251): k Q(w) = 1. With fewer draws, or another Q, it is not."""
    drawn, scores = jnp.array([4, 0, 2, 2, 1]), jnp.asarray(SCORES)
    uniform = jnp.full(NUM_CLASSES, -np.log(NUM_CLASSES))

    def both(drawn, log_q):
        of_nce = noise_contrast(scores[TARGET], log_q[TARGET], scores[drawn], log_q[drawn])
        return float(of_nce), float(negative_sampling(scores[TARGET], scores[drawn]))

    assert_allclose(*both(drawn, uniform), rtol=1e-12)
    for other in (both(drawn[:3], uniform), both(drawn, jnp.asarray(LOG_Q))):
        assert abs(other[0] - other[1]) > 0.05


def test_no_classes_and_no_samples_are_refused():
    none, score = jnp.zeros(0), jnp.zeros(())
    with pytest.raises(ValueError, match="A softmax over no classes was asked for; give the score"):
        exact_softmax(score, none)
    for call in (
        lambda: importance_softmax(score, none, none),
        lambda: with_target_softmax(score, none, none, none > 0),
        lambda: candidates_softmax(score, score, none, none),
        lambda: noise_contrast(score, score, none, none),
        lambda: negative_sampling(score, none),
    ):
        with pytest.raises(ValueError, match="with no samples; draw at least one class"):
            call()
