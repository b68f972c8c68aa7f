"""TB201 and TB202. Oracle: the wrong objective is made from the terms by hand, so its cause is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from tightbound.diagnose.checks.objective import gradient_is_the_slope, objective_is_its_claim
from tightbound.diagnose.finding import Verdict

# What is differentiated, from log p(x | z), log p(z), log q(z | x), the KL weight and a scale.
WRONG_TERMS = {
    "kl_sign_flipped": lambda a, p, q, w, s: a - w * (p - q),
    "kl_missing": lambda a, p, q, w, s: a,
    "log_q_missing": lambda a, p, q, w, s: a + w * p,
    "log_prior_missing": lambda a, p, q, w, s: a - w * q,
    "kl_scaled": lambda a, p, q, w, s: a + s * w * (p - q),
    "likelihood_scaled": lambda a, p, q, w, s: s * a + w * (p - q),
    "objective_scaled": lambda a, p, q, w, s: s * (a + w * (p - q)),
    "constant_in_objective": lambda a, p, q, w, s: a + w * (p - q) + 30.0 * s,
    "objective_sign_flipped": lambda a, p, q, w, s: -(a + w * (p - q)),
}
# What wrong reductions over the samples make of the log-weights.
WRONG_REDUCTIONS = {
    "mean_of_logs": lambda lw: lw.mean(0),
    "missing_log_k": lambda lw: logsumexp(lw, axis=0),
    "self_normalised": lambda lw: (np.exp(lw - logsumexp(lw, axis=0)) * lw).sum(0),
    "best_of_k": lambda lw: lw.max(0),
}

seeds = st.integers(0, 2**32 - 1)
scales = st.one_of(st.floats(0.01, 0.8), st.floats(1.25, 40.0))


def with_surrogate(evidence, surrogate):
    """The evidence of a setup whose objective has this value for every row."""
    return replace(evidence, surrogate=surrogate, batch_surrogate=float(surrogate.mean()))


@pytest.mark.parametrize("precision", [np.float64, np.float32])
@pytest.mark.parametrize("cause", WRONG_TERMS)
@settings(max_examples=25, deadline=None)
@given(seed=seeds, kl_weight=st.sampled_from([0.05, 0.5, 1.0, 4.0]), scale=scales)
def test_a_wrong_combination_of_the_terms_is_named_first(
    made, precision, cause, seed, kl_weight, scale
):
    """Also where the values were computed in 32 bits, as they are in a run."""
    # near 1 / w or -1 / w another combination is the same one
    assume(all(abs(scale * kl_weight - other) > 0.05 for other in (0.0, kl_weight)))
    rng = np.random.default_rng(seed)
    right = made.objective(rng, kl_weight=kl_weight)
    parts = [part[0] for part in (right.log_likelihood, right.log_prior, right.log_proposal)]
    wrong = WRONG_TERMS[cause](*parts, kl_weight, scale).astype(precision).astype(float)
    finding = objective_is_its_claim(with_surrogate(right, wrong))
    assert finding.verdict is Verdict.FAULT
    assert finding.causes[0].name == cause
    assert finding.causes[-1].name == "objective_differs"
    assert finding.measured == pytest.approx(
        np.abs(wrong - right.claimed).max() / np.abs(right.claimed).max()
    )


@settings(max_examples=50, deadline=None)
@given(seed=seeds, kl_weight=st.sampled_from([0.0, 0.002, 0.05, 1.0, 4.0]))
def test_a_constant_is_named_whatever_the_weight_of_the_kl(made, seed, kl_weight):
    """At the foot of a warm-up a flipped, a missing and a right KL are nearly the same: still, what
    differs by a constant alone differs by a constant."""
    right = made.objective(np.random.default_rng(seed), kl_weight=kl_weight)
    finding = objective_is_its_claim(with_surrogate(right, right.surrogate - 57.0))
    assert finding.causes[0].name == "constant_in_objective"


@pytest.mark.parametrize("cause", ["kl_sign_flipped", "kl_missing", "log_q_missing", "kl_scaled"])
def test_terms_are_told_apart_for_several_draws_too(made, cause):
    """The ELBO of five draws is a mean over them: the regression reads the means."""
    right = made.objective(np.random.default_rng(0), samples=5)
    parts = [part.mean(0) for part in (right.log_likelihood, right.log_prior, right.log_proposal)]
    finding = objective_is_its_claim(with_surrogate(right, WRONG_TERMS[cause](*parts, 1.0, 0.125)))
    assert finding.causes[0].name == cause


@pytest.mark.parametrize("spread", [0.3, 3.0])
@pytest.mark.parametrize("cause", WRONG_REDUCTIONS)
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_a_wrong_reduction_over_samples_is_named_first(made, cause, spread, seed):
    """K = 5 draws; log-weights that differ by tenths of nats, or by so much that one draw counts."""
    rng = np.random.default_rng(seed)
    right = made.objective(rng, samples=5, estimator="iwae")
    level = rng.normal(-40.0, 4.0, 32)
    right = replace(
        right, log_likelihood=level + spread * (right.log_likelihood - right.log_likelihood.mean(0))
    )
    log_weights = right.log_likelihood + right.log_prior - right.log_proposal
    claimed = logsumexp(log_weights, axis=0) - np.log(5)
    right = replace(right, claimed=claimed, batch_claimed=float(claimed.mean()))
    assert objective_is_its_claim(with_surrogate(right, claimed)).verdict is Verdict.OK
    finding = objective_is_its_claim(with_surrogate(right, WRONG_REDUCTIONS[cause](log_weights)))
    assert finding.verdict is Verdict.FAULT
    assert finding.causes[0].name == cause


def test_a_wrong_reduction_over_the_batch_is_right_for_one_row(made):
    """Only the value of all rows together is off; NaN there is off, too."""
    right = made.objective(np.random.default_rng(1))
    for together in (right.batch_claimed - 300.0, np.nan, np.inf):
        finding = objective_is_its_claim(replace(right, batch_surrogate=together))
        assert finding.verdict is Verdict.FAULT
        assert finding.causes[0].name == "reduced_over_batch"


@settings(max_examples=60, deadline=None)
@given(off=st.floats(0, 3))
def test_heads_that_are_averaged_apart_are_recognised_by_their_value(made, off):
    """Every row is what three losses, each divided by its own decisions, add up to, up to a
    thousandth of the claim's size."""
    right = made.objective(np.random.default_rng(4), estimator="monte-carlo-em")
    assume(abs(off - 1) > 1e-6)
    tolerance = 1e-3 * np.abs(right.claimed).max()
    averaged = right.claimed / np.arange(6, 38)
    right = replace(right, heads_averaged=averaged)
    assert objective_is_its_claim(right).verdict is Verdict.OK
    finding = objective_is_its_claim(with_surrogate(right, averaged + off * tolerance))
    assert finding.verdict is Verdict.FAULT
    assert (finding.causes[0].name == "heads_averaged_apart") == (off < 1)
    assert finding.causes[-1].name == "objective_differs"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_heads_without_a_value_explain_nothing(made, bad):
    """An ELBO is no total of heads: the field is NaN. Infinity less infinity is no match."""
    right = made.objective(np.random.default_rng(5))
    found = np.where(np.arange(32) == 3, bad, right.claimed)
    heads = replace(with_surrogate(right, found), heads_averaged=found)
    finding = objective_is_its_claim(heads)
    assert finding.verdict is Verdict.FAULT
    names = [cause.name for cause in finding.causes]
    assert names == ["objective_not_finite", "objective_differs"]


def test_what_no_known_mistake_explains_is_not_explained(made):
    """Noise over rows is no combination of the terms."""
    rng = np.random.default_rng(2)
    right = made.objective(rng)
    finding = objective_is_its_claim(with_surrogate(right, rng.normal(-40.0, 5.0, 32)))
    assert [cause.name for cause in finding.causes] == ["objective_differs"]


@settings(max_examples=100, deadline=None)
@given(seed=seeds, off=st.floats(-3e-3, 3e-3))
def test_the_objective_may_be_off_by_a_thousandth_of_its_size(made, seed, off):
    """Both sides of the threshold, and of zero."""
    assume(abs(abs(off) - 1e-3) > 1e-6)
    right = made.objective(np.random.default_rng(seed))
    size = np.abs(right.claimed).max()
    finding = objective_is_its_claim(with_surrogate(right, right.claimed + off * size))
    assert finding.verdict is (Verdict.FAULT if abs(off) > 1e-3 else Verdict.OK)
    assert finding.measured == pytest.approx(abs(off), rel=1e-6, abs=1e-12)


def test_a_claim_that_is_not_finite_decides_nothing(made):
    """TB216 says which score it is; nothing can be held against a NaN."""
    right = made.objective(np.random.default_rng(3))
    claimed = np.where(np.arange(32) == 5, np.nan, right.claimed)
    assert objective_is_its_claim(replace(right, claimed=claimed)).verdict is Verdict.UNDECIDED


def slopes(made, autodiff, difference):
    """Three directions of one module, after those of a module that is right."""
    right = made.objective(np.random.default_rng(0))
    here = np.stack([autodiff, difference], axis=1)
    return replace(
        right,
        slopes=np.concatenate([right.slopes[:3], here]),
        slope_modules=np.repeat(["decoder", "q.encoder"], 3),
    )


def test_a_stopped_gradient_is_told_from_a_wrong_one(made):
    """A gradient that is missing a part is shorter than the slope; one that is wrong need not be."""
    slope = np.array([3.0, -4.0, 5.0])
    stopped = gradient_is_the_slope(slopes(made, 0.2 * slope, slope))
    assert stopped.verdict is Verdict.FAULT
    assert stopped.causes[0].name == "gradient_stopped"
    assert stopped.measured == pytest.approx(0.8)
    assert "q.encoder" in stopped.where
    wrong = gradient_is_the_slope(slopes(made, -slope, slope))
    assert wrong.causes[0].name == "gradient_wrong"
    assert wrong.measured == pytest.approx(2.0)


@settings(max_examples=50, deadline=None)
@given(relative=st.floats(0.0, 0.5))
def test_a_gradient_may_be_off_by_a_fifth_of_the_slope(made, relative):
    assume(abs(relative - 0.2) > 1e-6)
    slope = np.array([3.0, -4.0, 5.0])
    finding = gradient_is_the_slope(slopes(made, (1 + relative) * slope, slope))
    assert finding.verdict is (Verdict.FAULT if relative > 0.2 else Verdict.OK)


def test_slopes_below_the_floor_say_nothing(made):
    """0.02 nats per unit step is rounding, however large its share; twice that is not."""
    off = np.array([0.019, 0.0, 0.0])
    assert gradient_is_the_slope(slopes(made, off, 0 * off)).verdict is Verdict.OK
    assert gradient_is_the_slope(slopes(made, 2 * off, 0 * off)).verdict is Verdict.FAULT


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("module", [0, 3])
def test_a_slope_that_is_not_finite_is_a_fault_of_its_module(made, bad, module):
    """Whichever module comes first: a maximum that forgets NaN would pass one of them."""
    right = made.objective(np.random.default_rng(0))
    changed = right.slopes.copy()
    changed[module, 0] = bad
    finding = gradient_is_the_slope(replace(right, slopes=changed))
    assert finding.verdict is Verdict.FAULT
    assert str(right.slope_modules[module]) in finding.where


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_leave_the_slope_undecided(made, bad):
    """The NaN has its own findings (TB216, TB501), and a module with a wrong slope is still named."""
    right = made.objective(np.random.default_rng(0))
    for places in ([0], [5], range(len(right.slopes))):
        changed = right.slopes.copy()
        changed[list(places)] = bad
        finding = gradient_is_the_slope(replace(right, slopes=changed))
        assert (finding.verdict, finding.causes) == (Verdict.UNDECIDED, ())
    changed[3:] = [[-4.0, 4.0]] * 3
    assert gradient_is_the_slope(replace(right, slopes=changed)).verdict is Verdict.FAULT


def test_an_objective_whose_value_is_not_differentiated_has_no_slope(made):
    right = made.objective(np.random.default_rng(0))
    none = replace(right, slopes=np.zeros((0, 2)), slope_modules=np.zeros(0, np.str_))
    assert gradient_is_the_slope(none).verdict is Verdict.NOT_RUN
    assert gradient_is_the_slope(None).verdict is Verdict.NOT_RUN


def test_terms_that_happen_to_be_as_large_as_a_norm_are_named_by_the_terms(made):
    """Several rows tell them apart; the norm of the batch is made the very value."""
    right = made.objective(np.random.default_rng(0))
    wrong = 0.3 * right.log_likelihood[0] + right.log_prior[0] - right.log_proposal[0]
    found = with_surrogate(right, wrong)
    found = replace(found, norms=np.array([abs(found.batch_surrogate)]))
    assert objective_is_its_claim(found).causes[0].name == "likelihood_scaled"
