"""Bounds against 50-digit arithmetic, enumeration of every set of draws, and identities."""

from decimal import Decimal, localcontext
from itertools import product

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from tightbound.estimators.bounds import (
    bound_estimate,
    cubo,
    elbo,
    filtering_decomposition,
    filtering_log_marginal,
    filtering_terms,
    iwae_bound,
    renyi_bound,
)
from tightbound.estimators.units import in_unit
from tightbound.terms import Kind, Site, StepTerms

BOUNDS = {
    "elbo": elbo,
    "iwae": iwae_bound,
    "renyi 0.5": lambda log_weights: renyi_bound(log_weights, 0.5),
    "renyi 2": lambda log_weights: renyi_bound(log_weights, 2),
    "renyi -1": lambda log_weights: renyi_bound(log_weights, -1.0),
    "cubo 2": cubo,
}
TURNED_UNITS = (
    *("nats per unit", "bits per unit", "perplexity", "nats per unit, mean over sequences"),
)
POWERS = {"iwae": 1, "renyi 0.5": 0.5, "renyi 2": -1, "renyi -1": 2, "cubo 2": 2}
each_bound = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS.keys())

# One x of a tiny model: three values of z, their log p(x, z) and log q(z | x).
LOG_JOINT = np.log([0.10, 0.03, 0.20])
LOG_Q = np.log([0.5, 0.3, 0.2])
LOG_MARGINAL = np.log(0.33)


def draws(num_samples):
    """Every set of K draws from q (as a batch): its log-weights, and its probability."""
    tuples = np.array(list(product(range(3), repeat=num_samples))).T
    return (LOG_JOINT - LOG_Q)[tuples], np.exp(LOG_Q[tuples].sum(0))


def log_weight_arrays(samples=4, batch=2, size=50.0):
    return arrays(np.float64, (samples, batch), elements=st.floats(-size, size))


@pytest.mark.parametrize("name", POWERS)
def test_a_bound_equals_fifty_digit_arithmetic_however_large_the_log_weights(name):
    """Oracle: the power mean (1/K sum w^s)^(1/s) in decimal arithmetic, at +-2000 nats."""
    log_weights = np.array([[-2000.0, 3.0], [-2001.5, 2000.0], [-2700.0, 1999.0]])
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 50, 10**9, -(10**9)
        power = Decimal(POWERS[name])
        means = [
            sum((power * Decimal(value)).exp() for value in column) / len(column)
            for column in log_weights.T
        ]
        oracle = [float(mean.ln() / power) for mean in means]
    assert_allclose(BOUNDS[name](jnp.array(log_weights)), oracle, rtol=1e-13)


@settings(max_examples=50, deadline=None)
@given(log_weight_arrays())
def test_on_every_draw_the_elbo_is_below_the_halves_below_the_whole(log_weights):
    """mean log w <= mean of the halves' L_K <= L_2K: Jensen twice, on each set of draws."""
    weights = jnp.array(log_weights)
    halves = (iwae_bound(weights[:2]) + iwae_bound(weights[2:])) / 2
    assert np.all(elbo(weights) <= halves + 1e-10)
    assert np.all(halves <= iwae_bound(weights) + 1e-10)


@each_bound
@settings(max_examples=15, deadline=None)
@given(log_weights=log_weight_arrays())
def test_a_bound_lies_between_the_smallest_and_the_largest_log_weight(bound, log_weights):
    """A mean of whatever power does. Planted: without `- log K`, equal weights exceed themselves."""
    value = bound(jnp.array(log_weights))
    assert np.all((log_weights.min(0) - 1e-10 <= value) & (value <= log_weights.max(0) + 1e-10))
    equal = np.full((4, 2), -3.0)
    assert np.all(logsumexp(equal, axis=0) > equal.max() + 1.0)


@settings(max_examples=30, deadline=None)
@given(log_weight_arrays())
def test_a_renyi_bound_falls_as_alpha_rises(log_weights):
    """Power means rise with their power: alpha = -1, 0 (IWAE), 0.5, 1 (ELBO), 2, and the minimum."""
    weights = jnp.array(log_weights)
    values = [renyi_bound(weights, alpha) for alpha in (-1.0, 0.0, 0.5, 1.0, 2.0)]
    values = np.array([weights.max(0), *values, weights.min(0)])
    assert np.all(np.diff(values, axis=0) <= 1e-9)
    assert_allclose(values[2], iwae_bound(weights), rtol=1e-15)
    assert_allclose(values[4], elbo(weights), rtol=1e-15)


def test_the_renyi_bound_runs_into_the_elbo_at_alpha_one():
    """The limit alpha -> 1: L_alpha = mean + (1 - alpha)/2 variance + O((1 - alpha)^2)."""
    weights = jnp.array([[0.3], [-1.2], [2.0]])
    slope = (renyi_bound(weights, 1 - 1e-5) - renyi_bound(weights, 1 + 1e-5)) / 2e-5
    assert_allclose(slope, np.var(weights, axis=0) / 2, rtol=1e-6)
    assert_allclose(renyi_bound(weights, 1 + 1e-5), renyi_bound(weights, 1), atol=2e-5)


@each_bound
@settings(max_examples=15, deadline=None)
@given(
    log_weights=log_weight_arrays(), shift=st.floats(-1000, 1000), order=st.permutations(range(4))
)
def test_a_shift_moves_a_bound_by_as_much_and_reordering_does_nothing(
    bound, log_weights, shift, order
):
    """Adding c to all log-weights multiplies p(x) by exp(c); samples have no order."""
    before = bound(jnp.array(log_weights))
    after = bound(jnp.array(log_weights[list(order)] + shift))
    assert_allclose(after, before + shift, atol=1e-9)


@each_bound
def test_with_one_sample_every_bound_is_the_log_weight(bound):
    """K = 1: a mean over one draw, of whatever power."""
    log_weights = jnp.array([[-3.5, 0.0, 700.0]])
    assert_allclose(bound(log_weights), log_weights[0], rtol=1e-15)


@each_bound
def test_a_zero_weight_counts_as_zero_and_nan_is_passed_on(bound):
    """Columns: one weight zero, all zero, one NaN. The power mean of (0, w), in closed form."""
    inf, nan = np.inf, np.nan
    values = np.asarray(bound(jnp.array([[-inf, -inf, nan], [-2.0, -inf, 0.0]])))
    assert values[1] == -inf
    assert np.isnan(values[2])
    name = next(name for name, function in BOUNDS.items() if function is bound)
    power = POWERS.get(name, 0)
    assert_allclose(values[0], -2.0 - np.log(2) / power if power > 0 else -inf, rtol=1e-14)


@pytest.mark.parametrize("num_samples", [1, 2, 3, 5])
def test_the_exponential_of_the_iwae_bound_is_unbiased(num_samples):
    """E[exp L_K] = p(x), by enumerating every set of draws."""
    log_weights, probability = draws(num_samples)
    estimate = np.exp(iwae_bound(jnp.array(log_weights)))
    assert_allclose(probability @ estimate, np.exp(LOG_MARGINAL), rtol=1e-13)


def test_enumeration_catches_the_mean_of_logs_and_the_self_normalised_bound():
    """Planted: exp of the mean log-weight, and sum_k w~_k log w_k, have another expectation."""
    log_weights, probability = draws(3)
    normalised = np.exp(log_weights - logsumexp(log_weights, axis=0))
    for wrong in (log_weights.mean(0), (normalised * log_weights).sum(0)):
        assert abs(probability @ np.exp(wrong) / np.exp(LOG_MARGINAL) - 1) > 0.05


def test_in_expectation_the_bounds_rise_with_k_towards_log_p():
    """E[ELBO] = log p - KL(q || posterior) for every K; E[L_K] rises strictly; all by enumeration."""
    kl = np.exp(LOG_Q) @ (LOG_Q - LOG_JOINT + LOG_MARGINAL)
    means = []
    for num_samples in range(1, 7):
        log_weights, probability = draws(num_samples)
        means.append(probability @ iwae_bound(jnp.array(log_weights)))
        assert_allclose(probability @ elbo(jnp.array(log_weights)), LOG_MARGINAL - kl, rtol=1e-12)
    assert_allclose(means[0], LOG_MARGINAL - kl, rtol=1e-12)
    assert np.all(np.diff(means) > 0)
    assert means[-1] < LOG_MARGINAL


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("num_samples", [1, 2, 5])
def test_for_nonnegative_alpha_the_sampled_renyi_value_is_a_lower_bound(alpha, num_samples):
    """Its enumerated mean is below log p, on its side of the exact L_alpha (alpha != 1)."""
    log_weights, probability = draws(num_samples)
    mean = probability @ renyi_bound(jnp.array(log_weights), alpha)
    assert mean < LOG_MARGINAL
    if alpha not in (0.0, 1.0):
        log_w = LOG_JOINT - LOG_Q
        exact = np.log(np.exp(LOG_Q) @ np.exp((1 - alpha) * log_w)) / (1 - alpha)
        assert (mean < exact) == (alpha < 1)


def test_the_sampled_chi_bound_is_on_either_side_of_log_p():
    """Why it is reported as no bound: enumerated, it is the ELBO at K = 1, above log p at K = 6,
    and always below the exact upper bound."""
    exact = np.log(np.exp(LOG_Q) @ np.exp(2 * (LOG_JOINT - LOG_Q))) / 2
    means = {}
    for num_samples in (1, 6):
        log_weights, probability = draws(num_samples)
        means[num_samples] = probability @ cubo(jnp.array(log_weights))
    assert means[1] < LOG_MARGINAL < means[6] < exact


def test_a_chi_bound_of_order_below_one_is_refused():
    with pytest.raises(ValueError, match=r"order 1 or more, but `order` is 0.5.\nUse `renyi_bound"):
        cubo(jnp.zeros((2, 1)), 0.5)


# Filtering


def steps(increments, resampled=None, mask=None, sites=()):
    """StepTerms from increments [time particles batch]; never resampled, all real, if not said."""
    num_steps, _, batch = increments.shape
    never, real = np.zeros((num_steps, batch), bool), np.ones((num_steps, batch), bool)
    return StepTerms(
        log_increments=jnp.array(increments),
        ancestors=jnp.zeros(increments.shape, jnp.int32),
        resampled=jnp.array(never if resampled is None else resampled),
        mask=jnp.array(real if mask is None else mask),
        ess=jnp.ones((num_steps, batch)),
        num_units=jnp.full(batch, num_steps),
        sites=sites,
    )


@pytest.fixture
def increments():
    return np.random.default_rng(0).normal(size=(5, 4, 3)) * 2


def test_never_resampled_the_filtering_bound_is_the_iwae_bound(increments):
    """Identity: the product over time of the weighted means telescopes to 1/N sum_n prod_t."""
    bound = filtering_log_marginal(steps(increments))
    assert_allclose(bound, iwae_bound(jnp.array(increments.sum(0))), rtol=1e-13)


def test_always_resampled_the_filtering_bound_is_a_sum_of_log_means(increments):
    """Identity: with uniform weights before every step, each step is an IWAE bound of its own."""
    bound = filtering_log_marginal(steps(increments, np.ones((5, 3), bool)))
    assert_allclose(bound, sum(iwae_bound(jnp.array(i)) for i in increments), rtol=1e-13)


def test_one_particle_is_the_elbo_resampled_or_not(increments):
    """N = 1: the only weight is 1 before every step."""
    resampled = np.random.default_rng(1).random((5, 3)) < 0.5
    bound = filtering_log_marginal(steps(increments[:, :1], resampled))
    assert_allclose(bound, increments[:, 0].sum(0), rtol=1e-13)


def test_masked_steps_change_nothing_whatever_they_hold(increments):
    """Padding in the middle and at the end, with NaN increments and resampling flags set there."""
    resampled = np.random.default_rng(1).random((5, 3)) < 0.5
    padded = np.insert(increments, [2, 5, 5], np.nan, axis=0)
    flags = np.insert(resampled, [2, 5, 5], True, axis=0)
    mask = np.insert(np.ones((5, 3), bool), [2, 5, 5], False, axis=0)
    bound = filtering_log_marginal(steps(padded, flags, mask))
    assert_allclose(bound, filtering_log_marginal(steps(increments, resampled)), rtol=1e-14)


def test_a_shift_of_every_increment_moves_the_filtering_bound_once_per_step(increments):
    resampled = np.random.default_rng(1).random((5, 3)) < 0.5
    moved = filtering_log_marginal(steps(increments + 100.0, resampled))
    assert_allclose(moved, filtering_log_marginal(steps(increments, resampled)) + 500, rtol=1e-12)


def test_a_step_that_kills_every_particle_makes_the_filtering_bound_minus_infinity(increments):
    """Killed in sequence 0 only; one dead particle (sequence 1) is no death of the population."""
    increments[2, :, 0] = -np.inf
    increments[2, 0, 1] = -np.inf
    bound = np.asarray(filtering_log_marginal(steps(increments)))
    assert bound[0] == -np.inf
    assert_allclose(bound[1:], iwae_bound(jnp.array(increments.sum(0)))[1:], rtol=1e-13)


INITIAL = np.array([0.6, 0.4])
TRANSITION = np.array([[0.9, 0.1], [0.2, 0.8]])
EMISSION = np.array([[0.9, 0.3, 0.8], [0.05, 0.6, 0.1]])  # p(x_t | z_t) of the x that was seen
PROPOSAL = np.array([[0.7, 0.3], [0.5, 0.5]])


def exact_marginal():
    """Sum over the eight paths of z."""
    return sum(
        INITIAL[z[0]]
        * TRANSITION[z[0], z[1]]
        * TRANSITION[z[1], z[2]]
        * EMISSION[z, range(3)].prod()
        for z in map(list, product(range(2), repeat=3))
    )


def every_run_of_a_filter(threshold):
    """All runs of a two-particle multinomial filter over three steps that resamples below
    `threshold` of the ESS: (probability, increments [time particles], resampled [time])."""

    def extend(t, states, weights, probability, increments, resampled):
        if t == 3:
            yield probability, increments, resampled
            return
        resample = t > 0 and 1 / np.square(weights).sum() < threshold
        for ancestors in product(range(2), repeat=2) if resample else [(0, 1)]:
            chance = weights[list(ancestors)].prod() if resample else 1.0
            before = np.full(2, 0.5) if resample else weights
            origins = states[list(ancestors)] if t > 0 else None
            prior = np.tile(INITIAL, (2, 1)) if origins is None else TRANSITION[origins]
            q = np.tile(PROPOSAL[0], (2, 1)) if origins is None else PROPOSAL[origins]
            for z in map(np.array, product(range(2), repeat=2)):
                particle = np.arange(2)
                factor = prior[particle, z] * EMISSION[z, t] / q[particle, z]
                after = before * factor / (before * factor).sum()
                yield from extend(
                    t + 1,
                    z,
                    after,
                    probability * chance * q[particle, z].prod(),
                    [*increments, np.log(factor)],
                    [*resampled, resample],
                )

    runs = list(extend(0, np.zeros(2, int), np.full(2, 0.5), 1.0, [], []))
    probability, increments, resampled = (np.array(part) for part in zip(*runs, strict=True))
    return probability, np.moveaxis(increments, 0, -1), resampled.T


@pytest.mark.parametrize("threshold", [0.0, 1.5, 2.1], ids=["never", "adaptive", "always"])
def test_the_filters_evidence_is_unbiased_whether_or_not_it_resampled(threshold):
    """E[p^] = p(x), by enumerating every run of a two-particle filter with its ancestors; the
    same for the law of a wrong twin that forgets the carried weights, which breaks when some
    steps do not resample."""
    probability, increments, resampled = every_run_of_a_filter(threshold)
    assert_allclose(probability.sum(), 1.0, rtol=1e-12)
    evidence = np.exp(filtering_log_marginal(steps(increments, resampled)))
    assert_allclose(probability @ evidence, exact_marginal(), rtol=1e-12)

    forgets_weights = np.exp(filtering_log_marginal(steps(increments, np.ones_like(resampled))))
    error = abs(probability @ forgets_weights / exact_marginal() - 1)
    assert error > 0.02 if threshold < 2 else error < 1e-12
    if threshold == 1.5:
        assert 0.1 < probability @ resampled[1:].mean(0) < 0.9


def sites_of(increments):
    """Two sites, one with a log q, that sum to the increments."""
    values = jnp.moveaxis(jnp.array(increments), 0, -1)
    mask, log_q = jnp.ones(values.shape, bool), jnp.sin(7 * values)
    return (
        Site("z", Kind.LATENT, log_p=0.3 * values + log_q, log_q=log_q, mask=mask),
        Site("x", Kind.OBSERVED, log_p=0.7 * values, log_q=None, mask=mask),
    )


def one_site_of(increments):
    """One observed site that is the increments."""
    values = jnp.moveaxis(jnp.array(increments), 0, -1)
    return (Site("x", Kind.OBSERVED, log_p=values, log_q=None, mask=jnp.ones(values.shape, bool)),)


def direct_weights(increments, resampled):
    """The weights before and after each step, one sequence and step at a time."""
    before, after = np.zeros_like(increments), np.zeros_like(increments)
    num_steps, num_particles, batch = increments.shape
    for b in range(batch):
        weights = np.full(num_particles, 1 / num_particles)
        for t in range(num_steps):
            before[t, :, b] = 1 / num_particles if resampled[t, b] else weights
            weights = before[t, :, b] * np.exp(increments[t, :, b])
            weights = after[t, :, b] = weights / weights.sum()
    return before, after


def test_site_means_and_the_reweighting_sum_to_the_filtering_bound(increments):
    """Oracles: the sum itself, direct weighted means, and -sum_t KL(W_t || W_{t-1})."""
    resampled = np.random.default_rng(1).random((5, 3)) < 0.5
    terms = steps(increments, resampled, sites=sites_of(increments))
    parts = filtering_decomposition(terms)
    assert parts.names == ("z", "x")
    total = parts.site_means.sum(0) + parts.reweighting
    assert_allclose(total, filtering_log_marginal(terms), rtol=1e-13)

    before, after = direct_weights(increments, resampled)
    assert_allclose(parts.site_means[1], (after * 0.7 * increments).sum((0, 1)), rtol=1e-12)
    kl = (after * np.log(after / before)).sum((0, 1))
    assert_allclose(parts.reweighting, -kl, rtol=1e-11)
    # Planted: means under the weights before the step leave a remainder of the other sign.
    remainder_of_twin = filtering_log_marginal(terms) - (before * increments).sum((0, 1))
    assert np.all(remainder_of_twin > 0)
    assert np.all(parts.reweighting < 0)


def test_with_one_particle_the_sites_alone_are_the_filtering_bound(increments):
    """N = 1: no weights to differ, so the remainder is 0."""
    one = increments[:, :1]
    parts = filtering_decomposition(steps(one, sites=sites_of(one)))
    assert_allclose(parts.reweighting, 0.0, atol=1e-13)
    assert_allclose(parts.site_means.sum(0), one.sum((0, 1)), rtol=1e-12)


def test_the_decomposition_is_blind_to_padding_and_to_ruled_out_particles(increments):
    """A particle at -inf has weight zero afterwards; a masked step may hold NaN."""
    increments[1, 2] = -np.inf
    padded = np.concatenate([increments, np.full((1, 4, 3), np.nan)])
    mask = np.ones((6, 3), bool)
    mask[5] = False
    expected = filtering_decomposition(steps(increments, sites=one_site_of(increments)))
    parts = filtering_decomposition(steps(padded, mask=mask, sites=one_site_of(padded)))
    assert np.all(np.isfinite(parts.site_means))
    assert_allclose(parts.site_means, expected.site_means, rtol=1e-14)
    assert_allclose(parts.reweighting, expected.reweighting, rtol=1e-13)


def test_a_death_of_the_population_shows_at_the_site_that_caused_it(increments):
    increments[2, :, 0] = -np.inf
    parts = filtering_decomposition(steps(increments, sites=one_site_of(increments)))
    assert parts.site_means[0, 0] == -np.inf
    assert parts.reweighting[0] == 0.0
    assert np.all(np.isfinite(parts.reweighting))


def test_terms_whose_sites_cannot_be_weighted_are_refused(increments):
    with pytest.raises(ValueError, match=r"have no sites.\nRun the filter so that it keeps them"):
        filtering_decomposition(steps(increments))
    short = sites_of(increments[:1])
    with pytest.raises(ValueError, match=r"of 5 steps the sites have \[\('z', 1\), \('x', 1\)\]"):
        filtering_decomposition(steps(increments, sites=short))


def test_as_one_draw_of_sites_the_record_weighs_the_filtering_bound(increments):
    """Identity, resampled or not: the log-weight of the record, and site by site the decomposition,
    step by step; every site keeps its kind, and what weighting costs is auxiliary."""
    resampled = np.random.default_rng(1).random((5, 3)) < 0.5
    terms = steps(increments, resampled, sites=sites_of(increments))
    record, parts = filtering_terms(terms), filtering_decomposition(terms)
    assert_allclose(record.log_weights[0], filtering_log_marginal(terms), rtol=1e-13)
    *sites, rest = record.sites
    assert [(site.name, site.kind) for site in sites] == [("z", Kind.LATENT), ("x", Kind.OBSERVED)]
    assert (rest.name, rest.kind) == ("reweighting", Kind.AUXILIARY)
    totals = [site.total_log_p - site.total_log_q for site in record.sites]
    assert_allclose(jnp.stack(totals)[:2, 0], parts.site_means, rtol=1e-12)
    assert_allclose(totals[2][0], parts.reweighting, rtol=1e-11)
    _, after = direct_weights(increments, resampled)
    assert_allclose(sites[1].log_p[0], (after * 0.7 * increments).sum(1).T, rtol=1e-12)
    # Planted: the plain mean over particles is another number.
    assert np.all(np.abs((0.7 * increments).mean(1).T - sites[1].log_p[0]).max(1) > 0.1)


def test_the_record_is_blind_to_padding_and_to_ruled_out_particles(increments):
    """A particle at -inf has weight zero afterwards; a masked step may hold NaN."""
    increments[1, 2] = -np.inf
    padded = np.concatenate([increments, np.full((1, 4, 3), np.nan)])
    mask = np.ones((6, 3), bool)
    mask[5] = False
    expected = filtering_terms(steps(increments, sites=one_site_of(increments)))
    record = filtering_terms(steps(padded, mask=mask, sites=one_site_of(padded)))
    for site, whole in zip(record.sites, expected.sites, strict=True):
        assert_allclose(site.log_p[..., :5], whole.log_p, rtol=1e-13)
        assert not site.mask[..., 5].any()
    assert_allclose(record.log_weights, expected.log_weights, rtol=1e-13)


def test_a_death_of_the_population_makes_the_record_minus_infinity_at_its_site(increments):
    increments[2, :, 0] = -np.inf
    record = filtering_terms(steps(increments, sites=one_site_of(increments)))
    x, rest = record.sites
    assert_allclose(np.isneginf(x.log_p[0]), np.eye(3, 5, k=2) * [[1], [0], [0]])
    assert np.all(np.isfinite(rest.log_p))
    assert record.log_weights[0, 0] == -np.inf
    assert np.all(np.isfinite(record.log_weights[0, 1:]))


# Estimates


def test_an_estimate_says_which_bound_it_is_and_averages_it_over_sequences():
    """Oracles: NumPy's means and standard deviations of the per-sequence values."""
    log_weights = np.random.default_rng(2).normal(size=(8, 20)) - 100
    values = logsumexp(log_weights, axis=0) - np.log(8)
    made = bound_estimate(log_weights, bound="iwae", split="test (static binarisation)")
    assert_allclose(made.value, values.mean(), rtol=1e-13)
    assert_allclose(made.standard_error, values.std(ddof=1) / np.sqrt(20), rtol=1e-12)
    assert (made.bound, made.estimator, made.num_samples) == ("lower", "iwae-8", 8)
    assert (made.unit, made.split) == ("nats per sequence", "test (static binarisation)")

    made = bound_estimate(log_weights, bound="elbo", split="test")
    assert_allclose(made.value, log_weights.mean(), rtol=1e-13)
    draw_variance = log_weights.var(axis=0, ddof=1) / 8
    assert_allclose(made.monte_carlo_error, np.sqrt(draw_variance.sum()) / 20, rtol=1e-12)


@pytest.mark.parametrize(
    ("bound", "order", "claim", "name"),
    [
        ("renyi", 0.5, "lower", "renyi(0.5)-3"),
        ("renyi", 2, "lower", "renyi(2)-3"),
        ("renyi", 1, "lower", "renyi(1)-3"),
        ("renyi", -1.0, "none", "renyi(-1)-3"),
        ("cubo", 2, "none", "cubo(2)-3"),
        ("cubo", 1, "none", "cubo(1)-3"),
    ],
)
def test_an_estimate_claims_no_more_than_its_sampled_value_is(bound, order, claim, name):
    """The claims are those that the enumerations above establish."""
    log_weights = np.random.default_rng(3).normal(size=(3, 4))
    made = bound_estimate(log_weights, bound=bound, order=order, split="test")
    assert (made.bound, made.estimator) == (claim, name)
    function = cubo if bound == "cubo" else renyi_bound
    values = function(jnp.array(log_weights), order)
    assert_allclose(made.value, values.mean(), rtol=1e-13)


def test_an_estimate_in_another_unit_is_a_negative_log_likelihood_and_an_upper_bound():
    """Oracle: sum over sum, by hand; exp and log 2 of it."""
    log_weights, num_units = np.array([[-3.0, -20.0, -1.0]]), np.array([2, 11, 1])

    def made(unit):
        return bound_estimate(
            log_weights, bound="elbo", split="test", unit=unit, num_units=num_units
        )

    assert_allclose(made("nats per unit").value, 24 / 14)
    assert_allclose(made("bits per unit").value, 24 / 14 / np.log(2))
    assert_allclose(made("perplexity").value, np.exp(24 / 14))
    for unit in ("nats per unit", "bits per unit", "perplexity"):
        assert (made(unit).unit, made(unit).bound) == (unit, "upper")


def test_an_estimate_has_no_error_that_it_cannot_know():
    """One draw has no error over draws, one sequence none over sequences; -inf has NaN errors."""
    one_draw = bound_estimate(np.zeros((1, 5)), bound="iwae", split="test")
    assert one_draw.monte_carlo_error is None
    assert one_draw.standard_error == 0.0
    one_sequence = bound_estimate(np.array([[1.0], [2.0]]), bound="elbo", split="test")
    assert one_sequence.standard_error is None
    assert_allclose(one_sequence.monte_carlo_error, 0.5)
    impossible = bound_estimate(np.array([[0.0, -np.inf]] * 2), bound="elbo", split="test")
    assert impossible.value == -np.inf
    assert np.isnan(impossible.standard_error)
    assert np.isnan(impossible.monte_carlo_error)


@pytest.mark.parametrize("bound", ["elbo", "iwae", "renyi"])
def test_the_error_over_draws_is_the_spread_over_keys(bound):
    """Enumerated: the mean of the claimed variance over all sets of K = 7 draws against the true
    variance of the bound, exactly for the ELBO, to first order in 1/K for the others. Planted: a
    variance without the division by K is seven times too large."""
    order = 0.5 if bound == "renyi" else None
    log_weights, probability = draws(7)
    values = {"elbo": elbo, "iwae": iwae_bound, "renyi": BOUNDS["renyi 0.5"]}[bound](
        jnp.array(log_weights)
    )
    true = probability @ np.square(values) - (probability @ values) ** 2
    claimed = 0.0
    counts, first, inverse = distinct_up_to_order(log_weights)
    for kind in range(len(first)):
        made = bound_estimate(log_weights[:, first[[kind]]], bound=bound, order=order, split="t")
        claimed += probability[inverse == kind].sum() * made.monte_carlo_error**2
    assert counts == 36
    assert_allclose(claimed, true, rtol=1e-10 if bound == "elbo" else 0.25)


def distinct_up_to_order(log_weights):
    """Sets of draws that differ only in their order have one value: how many, which, and whose."""
    kinds, first, inverse = np.unique(
        np.sort(log_weights, axis=0), axis=1, return_index=True, return_inverse=True
    )
    return kinds.shape[1], first, inverse.ravel()


def test_an_estimate_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"`bound='renyi'` with `order=None` names no bound"):
        bound_estimate(np.zeros((2, 2)), bound="renyi", split="test")
    with pytest.raises(ValueError, match=r"'perplexity' divides by the number of units, but"):
        bound_estimate(np.zeros((2, 2)), bound="elbo", split="test", unit="perplexity")


@pytest.mark.parametrize("unit", ["nats per sequence", *TURNED_UNITS])
@pytest.mark.parametrize(("bound", "order"), [("elbo", None), ("iwae", None), ("cubo", 2.0)])
def test_what_is_exact_is_exact_in_every_unit_and_by_every_name(unit, bound, order):
    """Nothing was drawn, so each weight is p(x): not an upper bound on nats per unit, not a bound of
    so many draws, and without an error over draws. Oracle: the same number asked of `in_unit`."""
    log_p, num_units = np.array([-3.0, -5.5, -1.25]), np.array([2, 3, 1])
    made = bound_estimate(
        np.tile(log_p, (2, 1)),
        bound=bound,
        order=order,
        split="test",
        unit=unit,
        num_units=num_units,
        kind="exact",
    )
    claim = {"bound": "exact", "estimator": "log_marginal", "num_samples": 0, "split": "test"}
    expected = in_unit(log_p, unit, num_units=num_units, **claim)
    assert str(made) == str(expected)
    assert str(made).endswith(", exact")
    assert (made.estimator, made.num_samples) == ("log_marginal", 0)
    assert made.monte_carlo_error is None


@pytest.mark.parametrize("unit", ["nats per sequence", *TURNED_UNITS])
def test_what_is_no_bound_is_none_in_any_unit(unit):
    made = bound_estimate(
        np.zeros((2, 3)), bound="iwae", split="t", unit=unit, num_units=np.ones(3, int), kind="none"
    )
    assert made.bound == "none"
