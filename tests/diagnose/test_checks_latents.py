"""TB401 to TB403. Oracle: KL, slope and scales set by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.checks.latents import (
    kl_is_not_negative,
    latents_are_used,
    latents_keep_their_noise,
    likelihood_listens,
)
from tightbound.diagnose.evidence import Evidence, Latents, Scores
from tightbound.diagnose.finding import Verdict

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN


def with_kl(made, kl, step=300):
    """A history whose held-out rows have these KLs, in nats."""
    sites = made.sites(np.random.default_rng(0))
    log_q = sites.log_q.copy()
    log_q[0] = sites.log_p[0] + kl
    return [Evidence(step=step, sites=replace(sites, log_q=log_q))]


@settings(max_examples=60, deadline=None)
@given(mean=st.floats(-0.005, 0.03), spread=st.floats(1e-6, 0.01))
def test_a_collapse_is_named_beyond_three_standard_errors(made, mean, spread):
    """Sixteen rows of KL mean +- spread: between the two the verdict is open."""
    kl = mean + spread * np.tile([-1.0, 1.0], 8)
    margin = 3 * kl.std(ddof=1) / 4
    assume(abs(abs(mean - 0.01) - margin) > 1e-9)
    finding = latents_are_used(with_kl(made, kl))
    expected = FAULT if mean + margin < 0.01 else OK if mean - margin > 0.01 else UNDECIDED
    assert finding.verdict is expected
    assert finding.measured == pytest.approx(mean, abs=1e-12)
    if expected is FAULT:
        assert finding.causes[0].name == "posterior_collapse"
    asked_for = latents_are_used(with_kl(made, kl), asked_for=True)
    assert asked_for.verdict is OK
    assert ("ask for it" in asked_for.meaning) == (mean + margin < 0.01)


def test_a_small_kl_before_it_rises_is_no_collapse(made):
    assert latents_are_used(with_kl(made, np.zeros(16), step=199)).verdict is NOT_RUN
    assert latents_are_used(with_kl(made, np.zeros(16), step=200)).verdict is FAULT


@pytest.mark.parametrize("asked_for", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_kl_that_is_not_finite_is_open_even_where_a_collapse_is_asked_for(made, bad, asked_for):
    kl = np.where(np.arange(16) == 3, bad, 5.0)
    assert latents_are_used(with_kl(made, kl), asked_for=asked_for).verdict is UNDECIDED


@pytest.mark.parametrize("kl", [0.0, 5.0])
def test_latents_that_are_strings_have_no_kl_to_be_judged_by(made, kl):
    """A filter's choices were gathered, at the first step alone as in a run, or at every one."""
    history = [Evidence(step=0), *with_kl(made, np.full(16, kl))]
    assert latents_are_used(history).verdict is (FAULT if kl == 0.0 else OK)
    for gathered in ([0], [1], [0, 1]):
        strings = [
            replace(e, choices=made.choices()) if i in gathered else e
            for i, e in enumerate(history)
        ]
        finding = latents_are_used(strings)
        assert finding.verdict is NOT_RUN
        assert "strings" in finding.meaning


@pytest.mark.parametrize(
    ("slope", "spread", "verdict"),
    [
        (12.0, 1.0, OK),
        (1e-30, 1.0, OK),
        (0.0, 1.0, FAULT),
        (0.0, 0.0, NOT_RUN),  # z never changed: TB102 says so
        (np.nan, 1.0, UNDECIDED),
        (np.inf, 1.0, UNDECIDED),
    ],
)
def test_a_likelihood_that_never_moves_does_not_listen(slope, spread, verdict):
    finding = likelihood_listens(Scores(np.zeros(2), np.zeros(2), spread, slope))
    assert finding.verdict is verdict
    causes = ["decoder_ignores_z"] if verdict is FAULT else []
    assert [cause.name for cause in finding.causes] == causes


@settings(max_examples=50, deadline=None)
@given(narrow=st.integers(0, 8))
def test_half_of_the_latents_may_be_narrow(narrow):
    """Eight latents, `narrow` of them with a scale of 1e-4."""
    scale = np.where(np.arange(8) < narrow, 1e-4, 0.5) * np.ones((16, 1))
    finding = latents_keep_their_noise([Evidence(step=9, latents=Latents(scale, scale))])
    assert finding.measured == narrow / 8
    assert finding.verdict is (FAULT if narrow > 4 else OK)


def test_the_scale_of_a_latent_is_its_mean_over_rows():
    """One row that is sure of itself does not make a latent narrow."""
    scale = np.full((16, 1), 0.2)
    scale[0] = 1e-6
    assert latents_keep_their_noise([Evidence(step=9, latents=Latents(scale, scale))]).verdict is OK
    assert (
        latents_keep_their_noise([Evidence(step=9, latents=Latents(scale, 0 * scale))]).verdict
        is NOT_RUN
    )


def test_without_a_probe_there_is_nothing_to_judge():
    for history in ([], [Evidence(step=300)]):
        assert latents_are_used(history).verdict is NOT_RUN
        assert latents_keep_their_noise(history).verdict is NOT_RUN


def test_a_collapse_after_large_steps_is_laid_to_them(made):
    """The same collapse after updates of a tenth of the parameters, and after usual ones."""
    sites = made.sites(np.random.default_rng(0))
    none = replace(sites, log_q=np.where(sites.observed[:, None, None], 0.0, sites.log_p))
    usual = made.evidence(4).gradients
    first = []
    for share in (0.1, 0.002):
        gradients = replace(usual, update_norm=share * usual.parameter_norm)
        finding = latents_are_used(made.history(sites=none, gradients=gradients))
        assert finding.verdict is Verdict.FAULT
        first.append(finding.causes[0].name)
    assert first == ["collapsed_by_large_steps", "posterior_collapse"]


def test_a_density_that_observes_nothing_need_not_listen(made):
    """Its log p(x | z) is 0 whatever z is: no fault, and not passed either."""
    silent = replace(made.evidence(0).scores, likelihood_slope=0.0)
    assert likelihood_listens(silent).verdict is Verdict.FAULT
    assert likelihood_listens(silent, observes=False).verdict is Verdict.NOT_RUN


def test_latents_that_all_data_share_may_be_narrow(made):
    """One row of them: a posterior of many points. Rows of their own are judged."""
    narrow = np.full((2, 3), 1e-3)
    for rows, verdict in ((narrow, Verdict.FAULT), (narrow[:1], Verdict.NOT_RUN)):
        history = made.history(latents=Latents(rows, rows))
        assert latents_keep_their_noise(history).verdict is verdict


def test_a_proposal_that_is_the_prior_by_construction_has_not_collapsed(made):
    """No parameters of its own and KL 0 at every draw of every probe, but for rounding. One with
    parameters has collapsed, and so has one that was not the prior at step 0."""
    sites = made.sites(np.random.default_rng(0))
    prior = np.where(sites.observed[:, None, None], 0.0, sites.log_p * (1 + 1e-7))
    of_model = replace(made.evidence(4).gradients, modules=np.array(["decoder", "prior"]))
    bootstrap = made.history(sites=replace(sites, log_q=prior), gradients=of_model)
    finding = latents_are_used(bootstrap)
    assert finding.verdict is NOT_RUN
    assert "the prior by construction" in finding.meaning
    own = made.evidence(4).gradients
    for history in (
        [replace(e, gradients=own) for e in bootstrap],
        [replace(bootstrap[0], sites=sites), *bootstrap[1:]],
        [replace(e, gradients=None) for e in bootstrap],
    ):
        assert latents_are_used(history).verdict is FAULT


@pytest.mark.parametrize("repeats", [0, 1, 2, 6])
def test_a_kl_below_zero_is_a_fault_and_never_a_collapse(made, repeats):
    """Exact draws of q = N(1, 1/4) beside p = N(0, 1) in six positions. Oracle: the KL in closed form; with
    log q counted `repeats` times it is what Gibbs' inequality forbids, unless counted once (or never, where
    it is -log p and positive)."""
    rng = np.random.default_rng(0)
    z = 1.0 + 0.5 * rng.normal(size=(200, 16, 6))
    log_p = (-0.5 * z**2 - 0.5 * np.log(2 * np.pi)).sum(-1)
    log_q = (-2.0 * (z - 1.0) ** 2 - np.log(0.5) - 0.5 * np.log(2 * np.pi)).sum(-1)
    sites = made.sites(rng)
    sites = replace(
        sites,
        log_p=np.stack([log_p, sites.log_p[1]]),
        log_q=np.stack([repeats * log_q, sites.log_q[1]]),
    )
    history = made.history(sites=sites)
    finding, used = kl_is_not_negative(history), latents_are_used(history)
    below = repeats == 6  # the entropy of q is what is taken off too often
    expected = 6 * (
        repeats * (-0.5 - np.log(0.5)) + 0.5 * (1 + 0.25) + 0.5 * (1 - repeats) * np.log(2 * np.pi)
    )
    assert finding.measured == pytest.approx(expected, abs=0.3)
    assert finding.verdict is (FAULT if expected < 0 else OK)
    assert used.verdict is (NOT_RUN if expected < 0 else OK)
    assert not below or finding.causes[0].name == "log_q_or_prior_counted_wrongly"


def test_a_kl_near_zero_is_judged_by_the_error_of_its_draws(made):
    """Differences of a known mean and a known standard error: +-1 around it, over 16 rows of 200 draws."""
    sites = made.sites(np.random.default_rng(0))
    signs = np.tile([-1.0, 1.0], 100)[:, None] * np.ones(16)
    error = np.std(signs[:, 0], ddof=1) / np.sqrt(200 * 16)

    def verdict(mean, **changes):
        log_q = np.stack([sites.log_p[0] + mean + signs, sites.log_q[1]])
        history = made.history(sites=replace(sites, log_q=log_q), **changes)
        return kl_is_not_negative(history).verdict

    found = [verdict(factor * error) for factor in (0.0, -2.0, -4.0, -7.0, np.nan)]
    assert found == [OK, OK, UNDECIDED, FAULT, UNDECIDED]
    points = replace(made.evidence(0).scores, proposal=np.zeros(0))
    assert verdict(-1.0, scores=points) is NOT_RUN
    assert verdict(-1.0, choices=made.choices()) is NOT_RUN
    assert kl_is_not_negative(made.history(sites=sites), is_bound=False).verdict is NOT_RUN
    assert kl_is_not_negative([]).verdict is NOT_RUN
