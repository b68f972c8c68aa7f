"""Formulas that circulate in a wrong form, one test for each row of docs/formulas-that-slip.md: what is computed
in another way agrees with the right form and not with the wrong one.

Oracles: quadrature, enumeration, finite differences, SciPy. NumPy only; no model is run.
"""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit, log_softmax, softmax

from tightbound.estimators.estimate import Estimate
from tightbound.estimators.units import bits_per_unit

RNG = np.random.default_rng(0)


def slopes(function, at, width=1e-5):
    """The Jacobian by central differences: a row for each output."""
    at = np.asarray(at, float)
    columns = [
        (function(at + width * e) - function(at - width * e)) / (2 * width) for e in np.eye(at.size)
    ]
    return np.stack(columns, axis=-1)


def test_1_the_kl_of_a_gaussian_is_not_negative():
    """Oracle: the integral of q log(q / p)."""
    mean, scale = 0.7, 1.6
    q, p = stats.norm(mean, scale), stats.norm()
    integral, _ = quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -30, 30)
    right = 0.5 * (mean**2 + scale**2 - 1 - np.log(scale**2))
    stands = 0.5 * (1 + np.log(scale**2) - mean**2 - scale**2)
    assert_allclose(right, integral, rtol=1e-9)
    assert_allclose(stands, -integral, rtol=1e-9)


SCORES, Q, M = np.array([0.4, 1.3, -0.8]), np.array([0.6, 0.3, 0.1]), 2
DRAWS = np.array(list(itertools.product(range(3), repeat=M)))
WEIGHTS = Q[DRAWS].prod(1)


def test_2_the_self_normalised_estimate_is_biased_and_without_log_m_is_off_by_it():
    """Oracle: all samples. The normaliser is unbiased, the ratio and the logarithm are not."""
    terms = np.exp(SCORES - np.log(Q))[DRAWS]
    assert_allclose(WEIGHTS @ terms.mean(1), np.exp(SCORES).sum())
    estimated = WEIGHTS @ ((DRAWS == 1) * terms / terms.sum(1, keepdims=True)).sum(1)
    assert abs(estimated - softmax(SCORES)[1]) > 0.1
    log_p = SCORES[1] - WEIGHTS @ np.log(terms.mean(1))
    without_log_m = SCORES[1] - WEIGHTS @ np.log(terms.sum(1))
    assert log_p > log_softmax(SCORES)[1] + 0.05
    assert_allclose(log_p - without_log_m, np.log(M))


def test_3_weight_and_gradient_stand_at_the_same_draw():
    """Oracle: the gradient of Z by the enumerated mean. With the gradient at the i-th class instead of at
    the i-th draw it is another."""
    weight = np.exp(SCORES - np.log(Q))[DRAWS]
    of_draw, of_number = np.eye(3)[DRAWS], np.eye(3)[np.arange(M)][None]
    right = WEIGHTS @ (weight[:, :, None] * of_draw).mean(1)
    slip = WEIGHTS @ (weight[:, :, None] * of_number).mean(1)
    assert_allclose(right, np.exp(SCORES), rtol=1e-12)
    assert np.abs(slip - np.exp(SCORES)).max() > 0.3


def test_4_the_gradient_of_noise_contrast_has_that_of_log_p():
    """Oracle: finite differences of log(P / (P + kQ))."""
    noise = 5 * 0.04
    log_p = np.array([-1.7])

    def posterior(log_p):
        return np.log(np.exp(log_p) / (np.exp(log_p) + noise))

    p = np.exp(log_p)
    right, stands = noise / (p + noise), noise / (p + noise) * p  # times grad log P; times grad P
    assert_allclose(right, slopes(posterior, log_p)[0], rtol=1e-7)
    assert np.abs(stands - right) > 0.1


def test_5_a_recurrent_jacobian_has_the_whole_preactivation_and_its_norm_is_no_verdict():
    """Oracle: finite differences, and a product of two matrices of norm 3 that is 0."""
    recurrent, inputs = RNG.normal(size=(3, 3)), RNG.normal(size=3)
    state = RNG.normal(size=3)
    found = slopes(lambda h: np.tanh(recurrent @ h + inputs), state)
    derivative = lambda a: np.diag(1 - np.tanh(a) ** 2)  # noqa: E731
    assert_allclose(found, derivative(recurrent @ state + inputs) @ recurrent, atol=1e-8)
    assert np.abs(found - derivative(recurrent @ state) @ recurrent).max() > 0.05
    nilpotent = np.array([[0.0, 3.0], [0.0, 0.0]])
    assert np.linalg.svd(nilpotent)[1].max() == 3.0
    assert np.abs(np.linalg.eigvals(nilpotent)).max() == 0.0
    assert (nilpotent @ nilpotent == 0).all()


def test_6_the_cell_of_an_lstm_also_changes_through_its_gates():
    """Oracle: finite differences of one step, the state of which the gates read made from the cell."""
    weights, output = RNG.normal(size=(3, 4, 4)), expit(RNG.normal(size=4))

    def step(cell):
        forget, entry, candidate = weights @ (output * np.tanh(cell))
        return expit(forget) * cell + expit(entry) * np.tanh(candidate)

    cell = RNG.normal(size=4)
    forget = expit(weights[0] @ (output * np.tanh(cell)))
    found = slopes(step, cell)
    assert np.abs(found - np.diag(forget)).max() > 0.1
    assert np.abs(found - np.eye(4)).max() > 0.1


def test_7_he_initialisation_is_two_over_the_inputs():
    """Oracle: E[relu(a)^2] = Var(a) / 2 by quadrature; the second moment is kept for 2 / n_in."""
    half, _ = quad(lambda a: max(a, 0.0) ** 2 * stats.norm.pdf(a), -12, 12)
    num_in, num_out = 300, 1200
    growth = lambda variance: num_in * variance * half  # noqa: E731
    assert_allclose(growth(2 / num_in), 1.0, rtol=1e-8)
    assert_allclose(growth(2 * 2 / (num_in + num_out)), 0.4, rtol=1e-8)


def test_8_dropout_drops_activations_and_dropconnect_weights():
    """Oracle: all masks. Only with dropped activations do two outputs vary together."""
    weights, x, keep = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0.5, 2.0]), 0.75

    def covariance(outputs, masks):
        probability = (keep**masks * (1 - keep) ** (1 - masks)).reshape(len(masks), -1).prod(1)
        mean = probability @ outputs
        assert_allclose(mean, weights @ x, rtol=1e-12)  # inverted: unbiased both
        return probability @ ((outputs - mean)[:, 0] * (outputs - mean)[:, 1])

    masks = np.array(list(itertools.product((0, 1), repeat=2)))
    of_activations = covariance((masks / keep * x) @ weights.T, masks)
    masks = np.array(list(itertools.product((0, 1), repeat=4))).reshape(-1, 2, 2)
    of_weights = covariance((masks / keep * weights) @ x, masks)
    assert_allclose(of_activations, (1 - keep) / keep * (weights[0] * weights[1]) @ x**2)
    assert abs(of_activations) > 1
    assert_allclose(of_weights, 0.0, atol=1e-12)


def test_9_truncated_backpropagation_goes_through_the_last_steps():
    """Oracle: finite differences of h_t = a h_{t-1} + x_t. The gradient of the loss at step 4 through its last
    k2 = 4 steps is the whole one at their inputs; through the next 4 it has next to nothing of it."""
    decay, x, t = 0.8, RNG.normal(size=8), 4

    def loss(x):
        return np.array([sum(decay ** (t - s) * x[s] for s in range(t + 1)) ** 2])

    def through(steps):
        root = np.sqrt(loss(x)) * np.sign(sum(decay ** (t - s) * x[s] for s in range(t + 1)))
        return np.array(
            [2 * root[0] * decay ** (t - s) * (s in steps and s <= t) for s in range(8)]
        )

    whole = slopes(loss, x)[0]
    assert_allclose(through(range(1, 5))[1:], whole[1:], rtol=1e-6, atol=1e-9)
    assert np.abs(through(range(5, 9)) - whole)[1:4].min() > 0.1


def test_10_bits_have_a_logarithm_to_base_two():
    """Oracle: a fair coin has one bit."""
    nats = Estimate(-np.log(0.5), None, None, "nats per unit", "exact", "log_marginal", 1, "test")
    assert_allclose(bits_per_unit(nats).value, 1.0)
    assert abs(nats.value - 1.0) > 0.3


def test_11_the_argmax_of_standard_gumbels_is_a_softmax_draw():
    """Oracle: the integral over the winner's noise. With uniform noise it is another law."""
    logits = np.array([0.0, 1.0])

    def first_wins(law):
        low, high = law.ppf(1e-13), law.ppf(1 - 1e-13)
        return quad(lambda g: law.pdf(g) * law.cdf(g + logits[0] - logits[1]), low, high)[0]

    assert_allclose(first_wins(stats.gumbel_r()), softmax(logits)[0], rtol=1e-8)
    assert abs(first_wins(stats.uniform()) - softmax(logits)[0]) > 0.2


def test_12_scheduled_sampling_gives_the_models_own_word():
    """Oracle: the law of the next input by enumeration, with p = 0.3 of the true word. Where "the previous
    label" stood in both cases, p would change nothing."""
    truth, prediction, p = np.array([0.0, 1.0, 0.0]), np.array([0.5, 0.2, 0.3]), 0.3
    drawn = sum(
        weight * np.eye(3)[word]
        for teacher, share in ((True, p), (False, 1 - p))
        for word, weight in enumerate(share * (truth if teacher else prediction))
    )
    assert_allclose(drawn, p * truth + (1 - p) * prediction)
    assert np.abs(drawn - truth).max() > 0.5


PRIOR = np.array([0.5, 0.5])
LIKELIHOOD = np.array([[0.9, 0.1], [0.1, 0.9]])  # p(x | z), a row for each z


def test_13_the_prior_is_part_of_the_bound_and_an_equality():
    """Oracle: two latents, summed. E_q log p(x|z) - KL is the ELBO, not less; without the KL it is above
    log p(x); and a q whose average is the prior can be far from tight."""
    q = np.array([[0.2, 0.8], [0.8, 0.2]])  # q(z | x), a row for each x: wrong way round
    joint = PRIOR[:, None] * LIKELIHOOD
    elbo = [q[x] @ (np.log(joint[:, x]) - np.log(q[x])) for x in range(2)]
    kl = [q[x] @ (np.log(q[x]) - np.log(PRIOR)) for x in range(2)]
    reconstruction = [q[x] @ np.log(LIKELIHOOD[:, x]) for x in range(2)]
    assert_allclose(np.subtract(reconstruction, kl), elbo)
    posterior = joint / joint.sum(0)
    sharp = posterior[:, 0] @ np.log(LIKELIHOOD[:, 0])
    assert sharp > np.log(joint.sum(0)[0])
    assert_allclose(q.mean(0), PRIOR)
    assert np.log(joint.sum(0)[0]) - elbo[0] > 0.8


def test_14_the_corner_of_a_biaffine_score_is_the_bias():
    """Oracle: bilinear + linear + b term by term."""
    dependent, head, bias = RNG.normal(size=3), RNG.normal(size=2), -0.6
    bilinear, linear = RNG.normal(size=(3, 2)), RNG.normal(size=5)
    whole = dependent @ bilinear @ head + linear @ np.concatenate([dependent, head]) + bias

    def compact(corner):
        matrix = np.block([[bilinear, linear[:3, None]], [linear[None, 3:], np.array([[corner]])]])
        return np.append(dependent, 1) @ matrix @ np.append(head, 1)

    assert_allclose(compact(bias), whole)
    assert_allclose(
        compact(1.0) - 1 + bias, whole
    )  # a corner fixed at 1 is what has to be taken off
    assert abs(compact(1.0) - whole) > 1


def test_15_any_law_comes_from_a_gaussian_by_its_quantiles_of_the_normal_cdf():
    """Oracle: SciPy's exponential. F^-1(Phi(e)) has its mean and variance; Phi^-1(F(e)) does not."""
    noise = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    law = stats.expon(scale=2.0)
    drawn = law.ppf(stats.norm.cdf(noise))
    assert_allclose([drawn.mean(), drawn.var()], [2.0, 4.0], rtol=5e-3)
    turned = stats.norm.ppf(np.clip(law.cdf(noise), 1e-12, None))
    assert abs(turned.mean() - 2.0) > 1


def test_16_a_low_rank_slice_plus_the_identity_has_full_rank():
    """Oracle: the rank by singular values."""
    low_rank = RNG.normal(size=(8, 2)) @ RNG.normal(size=(2, 8))
    assert np.linalg.matrix_rank(low_rank) == 2
    assert np.linalg.matrix_rank(low_rank + np.eye(8)) == 8


@pytest.mark.parametrize("rating", [1.0, 2.3, 4.9, 5.0])
def test_17_the_target_of_a_rating_has_two_points_and_its_mean(rating):
    """Oracle: the mean of the target over 1..5 is the rating (Tai et al. 2015, eq. 16). Rounding keeps it
    only where there is nothing to round."""
    grades, low = np.arange(1, 6), int(rating)
    target = np.where(grades == low, low + 1 - rating, np.where(grades == low + 1, rating - low, 0))
    assert_allclose([target.sum(), target @ grades], [1.0, rating])
    assert (abs(round(rating) - rating) > 0.05) == (rating not in (1.0, 5.0))


def test_18_negative_sampling_is_noise_contrast_where_k_q_is_one():
    """Oracle: both, of the same scores and draws, in NumPy; the estimators themselves are held to this in
    tests/estimators/test_sampled_softmax.py."""
    target, drawn = SCORES[1], SCORES[[0, 2, 2]]
    negative = np.log(expit(target)) + np.log(expit(-drawn)).sum()

    def contrast(k, q):
        return np.log(expit(target - np.log(k * q))) + np.log(expit(np.log(k * q) - drawn)).sum()

    assert_allclose(negative, contrast(3, 1 / 3))
    assert abs(negative - contrast(3, 1 / 9)) > 0.5
