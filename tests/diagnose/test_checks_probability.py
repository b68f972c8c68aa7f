"""TB101 to TB105. Oracle: densities and weights made by hand, whose mass and mean are known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.checks.probability import (
    likelihood_is_normalised,
    prior_draws_what_it_scores,
    proposal_draws_what_it_scores,
    rows_are_scored_alone,
    weights_average_to_the_marginal,
)
from tightbound.diagnose.evidence import Scores
from tightbound.diagnose.finding import Verdict

FAULT, OK, UNDECIDED = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED


@settings(max_examples=100, deadline=None)
@given(constant=st.floats(-0.05, 0.05))
def test_a_density_may_miss_its_mass_by_a_hundredth_of_a_nat(made, constant):
    """The mass of exp(c) p is exp(c)."""
    assume(abs(abs(constant) - 0.01) > 1e-9)
    twin = made.twin(np.random.default_rng(0))
    finding = likelihood_is_normalised(replace(twin, log_likelihood=twin.log_likelihood + constant))
    assert finding.verdict is (FAULT if abs(constant) > 0.01 else OK)
    assert finding.measured == pytest.approx(abs(constant), abs=1e-12)


def test_a_density_on_a_grid_is_integrated(made):
    """A normal density on cells of 1/8: the mass is 1 only with the volume of a cell."""
    x = np.arange(-12.0, 12.0, 0.125)
    means = np.array([[-1.0], [0.5]])
    log_density = -0.5 * (x - means) ** 2 - 0.5 * np.log(2 * np.pi)
    twin = replace(made.twin(np.random.default_rng(0)), log_likelihood=log_density, obs_size=1)
    assert likelihood_is_normalised(replace(twin, log_cell_volume=np.log(0.125))).verdict is OK
    forgotten = likelihood_is_normalised(twin)
    assert forgotten.verdict is FAULT
    assert forgotten.causes[0].name == "constant_in_density"


def test_the_way_in_which_a_mass_is_wrong_is_named(made):
    """A constant misses by as much everywhere; a mean over three entries is right three times over;
    a temperature is neither."""
    twin = made.twin(np.random.default_rng(0))
    first = {
        name: likelihood_is_normalised(replace(twin, log_likelihood=wrong)).causes[0].name
        for name, wrong in {
            "constant": twin.log_likelihood - 57.0,
            "averaged": twin.log_likelihood / twin.obs_size,
            "temperature": 1.3 * twin.log_likelihood,
            "no mass": np.full_like(twin.log_likelihood, -np.inf),
        }.items()
    }
    assert first == {
        "constant": "constant_in_density",
        "averaged": "density_averaged",
        "temperature": "density_not_normalised",
        "no mass": "density_not_normalised",
    }


@pytest.mark.parametrize(
    ("check", "field", "tolerance"),
    [
        (proposal_draws_what_it_scores, "proposal", 0.05),
        (prior_draws_what_it_scores, "prior", 0.1),
    ],
)
def test_steins_identity_must_hold_to_the_tolerance_and_six_errors(check, field, tolerance):
    """Values of a known mean and a known standard error: +-1 around it, or +-1/10."""

    def verdict(mean, spread):
        signs = np.tile([-1.0, 1.0], 32)
        error = spread * np.std(signs, ddof=1) / 8
        values = mean + spread * signs
        scores = replace(Scores(signs, signs, 1.0, 1.0), **{field: values})
        finding = check(scores)
        assert finding.measured == pytest.approx(mean)
        assert finding.threshold == pytest.approx(max(tolerance, 6 * error))
        return finding.verdict

    assert verdict(0.9 * tolerance, 0.01) is OK
    assert verdict(1.1 * tolerance, 0.01) is FAULT
    assert verdict(1.1 * tolerance, 0.3) is OK  # 1.1 tolerances, but fewer than six errors
    assert verdict(0.5, 1.0) is UNDECIDED  # four errors, each larger than the tolerance
    assert verdict(5.0, 1.0) is FAULT


def test_draws_without_noise_are_named_as_such():
    """The identity is then exactly 1; with noise, another scale is likelier."""
    scores = Scores(np.ones(64), np.zeros(64), 0.0, 0.0)
    assert proposal_draws_what_it_scores(scores).causes[0].name == "draws_carry_no_noise"
    noisy = replace(scores, proposal=np.full(64, -3.0), proposal_spread=2.0)
    first = proposal_draws_what_it_scores(noisy).causes[0].name
    assert first == "sampled_and_scored_scales_differ"
    wide = prior_draws_what_it_scores(replace(scores, prior=np.full(64, -3.0)))
    assert [cause.name for cause in wide.causes] == ["prior_sampled_and_scored_differ"]


def test_one_row_has_no_error_and_is_not_judged():
    """A standard error needs two values; passing without one would be a guess."""
    one = Scores(np.zeros(1), np.zeros(1), 1.0, 1.0)
    assert proposal_draws_what_it_scores(one).verdict is Verdict.NOT_RUN
    assert prior_draws_what_it_scores(one).verdict is Verdict.NOT_RUN


@pytest.mark.parametrize(
    ("weight", "error", "verdict"),
    [
        (1.0, 0.01, OK),
        (1.029, 0.001, OK),  # 29 errors, but within three hundredths
        (1.031, 0.001, FAULT),
        (1.059, 0.01, OK),  # fewer than six errors
        (1.061, 0.01, FAULT),
        (0.5, 0.02, FAULT),
        (1e19, 1e17, FAULT),
        (1.0, 0.0, UNDECIDED),  # draws without spread
        (0.0, 0.0, UNDECIDED),  # draws outside the box
        (1.0, 0.11, UNDECIDED),
        (5.3, 0.9, UNDECIDED),  # an error of 17 % of the weight tells little
        (1e19, np.inf, UNDECIDED),
        (np.nan, 0.01, UNDECIDED),
    ],
)
def test_a_mean_weight_is_judged_by_its_error(made, weight, error, verdict):
    """One x of six has this mean weight (over its exact value) and this standard error."""
    twin = replace(
        made.twin(np.random.default_rng(0)),
        relative_weight=np.array([1.0, 1.0, weight, 1.0, 1.0, 1.0]),
        relative_error=np.array([0.01, 0.01, error, 0.01, 0.01, 0.01]),
    )
    finding = weights_average_to_the_marginal(twin)
    assert finding.verdict is verdict
    causes = ["weights_are_not_p_over_q"] if verdict is FAULT else []
    assert [cause.name for cause in finding.causes] == causes


@settings(max_examples=50, deadline=None)
@given(change=st.floats(0, 1e-2))
def test_a_row_may_move_with_its_neighbours_by_rounding_only(made, change):
    assume(abs(change - 1e-3) > 1e-9)
    objective = replace(made.objective(np.random.default_rng(0)), neighbour_change=change)
    finding = rows_are_scored_alone(objective)
    assert finding.verdict is (FAULT if change > 1e-3 else OK)


@pytest.mark.parametrize("change", [np.nan, np.inf])
def test_weights_that_are_not_finite_say_nothing_of_neighbours(made, change):
    """TB216 and TB501 name what is not finite."""
    objective = replace(made.objective(np.random.default_rng(0)), neighbour_change=change)
    finding = rows_are_scored_alone(objective)
    assert (finding.verdict, finding.causes) == (UNDECIDED, ())
