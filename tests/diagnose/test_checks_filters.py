"""TB122 on made evidence. Oracle: the mean of log-normal ratios, exp(mean + spread^2 / 2), and the law of
a standard error."""

from dataclasses import replace

import numpy as np
import pytest

from tightbound.diagnose.checks.filters import (
    NORMALISER_DROPPED,
    SCORES_DISAGREE,
    WEIGHTS_KEPT,
    filter_evidence_is_unbiased,
)
from tightbound.diagnose.finding import Verdict

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN


def log_normal(mean_ratio, spread, seed=0):
    """Draws of log p-hat - log p whose exp has this mean; (rows, draws)."""
    noise = np.random.default_rng(seed).normal(size=(4, 512))
    return np.log(mean_ratio) - spread**2 / 2 + spread * noise


def filtered(made, of_objective):
    """Three filters of which the objective's is this one."""
    right = log_normal(1.0, 0.5, seed=1)
    return with_ratios(made, right, of_objective, right)


def with_ratios(made, *log_ratios, log_p=-20.0):
    return replace(made.filters(), log_ratio=np.stack(log_ratios), log_p=np.full(4, log_p))


@pytest.mark.parametrize(
    ("mean_ratio", "spread", "verdict"),
    [
        (1.0, 0.01, OK),
        (1.0, 1.0, OK),
        (1.01, 0.01, OK),  # within the tolerance
        (1.05, 0.01, FAULT),
        (0.95, 0.01, FAULT),
        (0.95, 1.0, OK),  # within six standard errors
        (0.7, 1.0, FAULT),
        (2.0, 1.0, FAULT),
        (0.1, 3.0, UNDECIDED),  # may be 1, by draws too rare to be seen
        (1.0, 3.0, UNDECIDED),
        (1e4, 3.0, FAULT),  # capped ratios have a mean above 1
    ],
)
def test_the_mean_is_held_against_one_within_its_error(made, mean_ratio, spread, verdict):
    finding = filter_evidence_is_unbiased(filtered(made, log_normal(mean_ratio, spread)))
    assert finding.verdict is verdict
    assert bool(finding.causes) == (verdict is FAULT)
    if verdict is UNDECIDED:
        assert "use more particles, or shorter sequences" in finding.meaning
    if verdict is not OK:
        assert finding.where.startswith("objective, 4 held-out rows, 12 steps, 16 particles, 512")


def test_the_first_cause_says_whose_filter_and_on_which_side(made):
    """Evidence that is counted twice moves the estimate the way of log p, evidence that is lost the other
    way; where the library's own is biased, no filter is to blame."""

    def first_cause(mean_ratio, log_p):
        ratios = [log_normal(m, 0.5) for m in (1.0, mean_ratio, 1.0)]
        return filter_evidence_is_unbiased(with_ratios(made, *ratios, log_p=log_p)).causes[0]

    assert first_cause(0.5, -20.0) == first_cause(2.0, 20.0) == WEIGHTS_KEPT
    assert first_cause(2.0, -20.0) == first_cause(0.5, 20.0) == NORMALISER_DROPPED
    all_low = with_ratios(made, *[log_normal(0.5, 0.5)] * 3)
    assert filter_evidence_is_unbiased(all_low).causes == (SCORES_DISAGREE,)


def test_a_fault_is_found_beside_what_is_undecided(made):
    wide = log_normal(1.0, 3.0)
    finding = filter_evidence_is_unbiased(with_ratios(made, wide, wide, log_normal(3.0, 0.5)))
    assert (finding.verdict, finding.where[:9]) == (FAULT, "evaluator")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_estimate_that_is_no_number_is_undecided(made, bad):
    ratio = log_normal(1.0, 0.5)
    ratio[0, 0] = bad
    finding = filter_evidence_is_unbiased(filtered(made, ratio))
    assert (finding.verdict, finding.meaning[-16:]) == (UNDECIDED, "is not a number.")


def test_estimates_of_zero_are_not_called_small(made):
    """Particles that all die are a filter's right, if they do so rarely enough."""
    ratio = log_normal(1.0, 0.5)
    ratio[0, :10] = -np.inf
    assert filter_evidence_is_unbiased(filtered(made, ratio)).verdict is UNDECIDED


def test_nothing_to_compare_is_not_run(made):
    assert filter_evidence_is_unbiased(None).verdict is NOT_RUN
    one = replace(made.filters(), log_ratio=made.filters().log_ratio[:, :, :1])
    assert filter_evidence_is_unbiased(one).meaning == "fewer than two draws"
