"""TB606 to TB609 on numbers made by hand. Oracle: the numbers themselves."""

import numpy as np
import pytest

from tightbound.diagnose.checks import adapters as checks
from tightbound.diagnose.finding import Verdict

LOG_Q = np.array([[-1.0], [-2.0]])


def said(finding):
    return finding.verdict, [cause.name for cause in finding.causes]


@pytest.mark.parametrize(
    ("shifted", "expected"),
    [
        (-6.0, (Verdict.OK, [])),
        (5.0, (Verdict.FAULT, ["force_norm_reported"])),
        (3.9, (Verdict.FAULT, ["loss_is_scaled"])),
        (np.nan, (Verdict.UNDECIDED, [])),
    ],
)
def test_a_number_is_minus_a_bound_if_a_constant_arrives_in_it_whole(shifted, expected):
    """5 nats of loss, with 11 nats added to log p."""
    found = checks.reported_number_is_a_bound(5.0, shifted, -4.0, shift=11.0)
    assert said(found) == expected
    assert "reports 5 where the bound is -4 nats" in found.meaning


def test_the_bound_beside_the_number_may_be_missing():
    found = checks.reported_number_is_a_bound(5.0, 5.0, None, shift=6.0)
    assert found.meaning == "Inference reports 5 where there is no bound."


@pytest.mark.parametrize(
    ("of_loss", "again", "expected"),
    [
        (LOG_Q + 1e-4, True, (Verdict.OK, [])),
        (LOG_Q + 0.1, True, (Verdict.FAULT, ["constraint_applied_twice"])),
        (LOG_Q + 0.1, False, (Verdict.FAULT, ["another_density_scored"])),
        (LOG_Q * np.nan, False, (Verdict.FAULT, ["another_density_scored"])),
    ],
)
def test_a_mixture_is_scored_as_drawn_if_its_draws_have_one_density(of_loss, again, expected):
    found = checks.mixture_is_scored_as_drawn(of_loss, LOG_Q, constrained_again=again)
    assert said(found) == expected


def test_a_density_that_is_none_decides_nothing():
    bad = np.array([[np.nan], [-1.0]])
    assert checks.mixture_is_scored_as_drawn(LOG_Q, bad).verdict is Verdict.UNDECIDED


def test_static_arguments_are_counted_by_name():
    found = checks.static_arguments_arrive(["size", "width"])
    assert (*said(found), found.measured) == (Verdict.FAULT, ["static_arguments_lost"], 2.0)
    assert "without size, width" in found.meaning
    assert checks.static_arguments_arrive([]).verdict is Verdict.OK


def test_components_are_compared_with_those_there_are():
    found = checks.predictive_counts_the_components(7, 3)
    assert said(found) == (Verdict.FAULT, ["wrong_leaf_counted"])
    assert checks.predictive_counts_the_components(3, 3).verdict is Verdict.OK


def test_nothing_passes_by_being_absent():
    nothing = [
        checks.reported_number_is_a_bound(None, None, None, shift=1.0),
        checks.mixture_is_scored_as_drawn(None, None),
        checks.mixture_is_scored_as_drawn(np.zeros((0, 1)), np.zeros((0, 1))),
        checks.static_arguments_arrive(None),
        checks.predictive_counts_the_components(None, None),
    ]
    assert {found.verdict for found in nothing} == {Verdict.NOT_RUN}
