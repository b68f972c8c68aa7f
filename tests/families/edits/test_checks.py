"""TB106 to TB110, TB203 and TB225. Oracle: differences, estimates and masses set by hand, site by site."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.diagnose.evidence import Evidence, Words
from tightbound.diagnose.finding import Verdict
from tightbound.families.edits.checks import (
    decisions_have_one_target,
    estimate_is_unbiased,
    particles_keep_their_history,
    particles_score_as_training_does,
    proposal_sums_to_one,
    strings_hand_on_what_training_does,
    words_start_near_uniform,
)

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN
FIRST_OP, OP, TOKEN, END = range(4)  # the sites
CHECKS = {
    "TB106": particles_score_as_training_does,
    "TB107": strings_hand_on_what_training_does,
    "TB108": particles_keep_their_history,
    "TB109": estimate_is_unbiased,
    "TB110": proposal_sums_to_one,
    "TB203": decisions_have_one_target,
}


def differing(made, places, off=0.5, *, in_the_mean=-0.3):
    """Evidence whose replays differ by `off` at (site, string), and whose ends by so much in the
    mean if one of them does."""
    right = made.choices()
    replayed = right.replayed.copy()
    for place in places:
        replayed[place] = off
    ends = any(site == END for site, _ in places)
    mean = in_the_mean if ends else right.end_difference
    return replace(right, replayed=replayed, end_difference=mean)


def verdicts(choices):
    return {code: check(choices).verdict for code, check in CHECKS.items()}


def first_causes(choices):
    """Of every fault, by code."""
    findings = {code: check(choices) for code, check in CHECKS.items()}
    return {code: f.causes[0].name for code, f in findings.items() if f.verdict is FAULT}


EVERYWHERE = [(site, string) for site in range(4) for string in range(3)]
LATER = [(site, string) for site in range(4) for string in (1, 2)]
ENDS = [(END, string) for string in range(3)]


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ([], {}),
        (EVERYWHERE, {"TB106": "masks_only_in_training"}),
        ([(TOKEN, 0)], {"TB106": "masks_only_in_training"}),
        ([(END, 0), (OP, 2)], {"TB106": "masks_only_in_training"}),
        (LATER, {"TB107": "carried_state_differs"}),
        ([(OP, 2)], {"TB107": "carried_state_differs"}),
        ([(END, 1), (OP, 1)], {"TB107": "carried_state_differs"}),
        (ENDS, {"TB203": "end_has_two_targets"}),
        ([(END, 2)], {"TB203": "end_has_two_targets"}),
    ],
)
def test_where_the_scores_part_says_what_is_wrong(made, places, found):
    """From the first string on: another network; from the second: what is handed on; at ends alone:
    their target. One of the three, never two."""
    assert first_causes(differing(made, places)) == found


def test_what_an_earlier_difference_explains_is_not_run(made):
    """Skipped is not passed: every check that cannot tell says so."""
    everywhere = verdicts(differing(made, EVERYWHERE))
    assert [everywhere[code] for code in ("TB107", "TB108", "TB203")] == [NOT_RUN] * 3
    later = verdicts(differing(made, LATER))
    assert [later[code] for code in ("TB106", "TB108", "TB203")] == [OK, NOT_RUN, NOT_RUN]
    ends = verdicts(differing(made, ENDS))
    assert [ends[code] for code in ("TB106", "TB107", "TB108")] == [OK, OK, NOT_RUN]


@pytest.mark.parametrize(("string", "code"), [(0, "TB106"), (2, "TB107")])
def test_ends_that_differ_to_both_sides_have_no_second_target(made, string, code):
    """A second target moves all ends alike. If they cancel, something else moves them, and it does
    not go unnamed."""
    choices = differing(made, [(END, string)], in_the_mean=1e-4)
    assert list(first_causes(choices)) == [code]


@settings(max_examples=60, deadline=None)
@given(off=st.floats(0, 3e-3), string=st.integers(0, 2), site=st.integers(0, 2))
def test_scores_may_part_by_a_thousandth_of_a_nat(made, off, string, site):
    assume(abs(off - 1e-3) > 1e-9 and off > 1e-4)
    code = "TB106" if string == 0 else "TB107"
    finding = CHECKS[code](differing(made, [(site, string)], off))
    assert finding.verdict is (FAULT if off > 1e-3 else OK)
    assert finding.measured == pytest.approx(off)


@settings(max_examples=60, deadline=None)
@given(mean=st.floats(-3e-3, 3e-3))
def test_ends_may_part_by_a_thousandth_of_a_nat_in_the_mean(made, mean):
    assume(abs(abs(mean) - 1e-3) > 1e-9)
    finding = decisions_have_one_target(differing(made, ENDS, in_the_mean=mean))
    assert finding.verdict is (FAULT if abs(mean) > 1e-3 else OK)
    assert finding.measured == abs(mean)


@settings(max_examples=60, deadline=None)
@given(off=st.floats(0, 3e-3))
def test_a_copied_particle_may_part_by_as_much(made, off):
    assume(abs(off - 1e-3) > 1e-9)
    finding = particles_keep_their_history(replace(made.choices(), after_resampling=off))
    assert finding.verdict is (FAULT if off > 1e-3 else OK)
    assert finding.measured == off
    causes = ["state_not_gathered"] if off > 1e-3 else []
    assert [cause.name for cause in finding.causes] == causes


def test_one_string_hands_nothing_on(made):
    """Its score is checked all the same."""
    right = made.choices()
    one = replace(right, replayed=right.replayed[:, :1])
    assert verdicts(one) == dict.fromkeys(CHECKS, OK) | {"TB107": NOT_RUN}
    assert "one string" in strings_hand_on_what_training_does(one).meaning


def with_ratios(made, mean, spread, **changes):
    """256 estimates, half of them `spread` above the mean and half below."""
    ratios = mean + spread * np.tile([-1.0, 1.0], 128)
    return replace(made.choices(), relative_estimate=ratios, **changes)


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [
        (1.0, 0.0, OK),
        (1.019, 0.0, OK),
        (1.021, 0.0, FAULT),
        (0.979, 0.0, FAULT),
        (1.021, 0.16, OK),  # an error of 0.01: six of them are 0.06
        (1.059, 0.16, OK),
        (1.061, 0.16, FAULT),
        (0.939, 0.16, FAULT),
        (1.0, 0.319, OK),
        (1.0, 0.321, UNDECIDED),  # an error of 0.02 says too little to pass
        (1.13, 0.35, UNDECIDED),
        (1.14, 0.35, FAULT),  # but enough to fail
    ],
)
def test_a_mean_estimate_is_judged_by_its_error(made, mean, spread, verdict):
    """256 draws: the standard error is a sixteenth of the spread, up to 0.2 % for ddof."""
    finding = estimate_is_unbiased(with_ratios(made, mean, spread))
    assert finding.verdict is verdict
    assert finding.measured == pytest.approx(abs(mean - 1.0))
    assert finding.threshold == pytest.approx(max(0.02, 6 * spread / 16), rel=3e-3)
    causes = ["estimate_biased", "argmax_choices"] if verdict is FAULT else []
    assert [cause.name for cause in finding.causes] == causes


@pytest.mark.parametrize("mean", [1.0, 1.6])
def test_choices_that_never_vary_are_a_fault_whatever_the_mean(made, mean):
    """One path of four; where only one is possible it is no wonder, and one draw is no estimate."""
    finding = estimate_is_unbiased(with_ratios(made, mean, 0.0, num_paths=1))
    assert finding.verdict is FAULT
    assert [cause.name for cause in finding.causes] == ["argmax_choices", "estimate_biased"]
    only_one = estimate_is_unbiased(with_ratios(made, mean, 0.0, num_paths=1, num_possible=1))
    assert only_one.verdict is (OK if mean == 1.0 else FAULT)
    two = estimate_is_unbiased(with_ratios(made, 1.0, 0.0, num_paths=2))
    assert two.verdict is OK
    one_draw = replace(made.choices(), relative_estimate=np.ones(1))
    assert estimate_is_unbiased(one_draw).verdict is NOT_RUN


@settings(max_examples=60, deadline=None)
@given(off=st.floats(-3e-3, 3e-3))
def test_a_law_may_miss_one_by_a_thousandth(made, off):
    assume(abs(abs(off) - 1e-3) > 1e-9)
    finding = proposal_sums_to_one(replace(made.choices(), proposal_mass=1.0 + off))
    assert finding.verdict is (FAULT if abs(off) > 1e-3 else OK)
    assert finding.measured == pytest.approx(abs(off), abs=1e-12)


def test_a_part_of_the_mass_is_that_of_one_path_and_more_than_all_of_it_a_normaliser(made):
    """ "a a b" loses one of two equal words in two ways: the law of one of them sums to less than 1;
    no choice among ways sums to more."""
    names = {
        mass: [
            c.name for c in proposal_sums_to_one(replace(made.choices(), proposal_mass=mass)).causes
        ]
        for mass in (0.74, 1.2, np.inf)
    }
    both = ["log_q_of_one_path", "proposal_not_normalised"]
    assert names == {0.74: both, 1.2: both[::-1], np.inf: both[::-1]}


def test_a_law_that_claims_no_bound_is_not_held_to_one(made):
    wrong = replace(made.choices(), proposal_mass=0.74)
    assert proposal_sums_to_one(wrong, claimed=True).verdict is FAULT
    finding = proposal_sums_to_one(wrong, claimed=False)
    assert (finding.verdict, finding.measured) == (NOT_RUN, None)
    assert "no bound" in finding.meaning


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("replayed", {"TB106": FAULT, "TB107": NOT_RUN, "TB108": NOT_RUN, "TB203": NOT_RUN}),
        ("after_resampling", {"TB108": FAULT}),
        ("end_difference", {"TB203": FAULT}),
        ("relative_estimate", {"TB109": FAULT}),
        ("proposal_mass", {"TB110": NOT_RUN}),
    ],
)
def test_a_nan_passes_no_check_that_reads_it(made, field, wanted):
    """A mass that is NaN is one that was not enumerated; everything else should be a number."""
    right = made.choices()
    nan = replace(right, **{field: np.full_like(getattr(right, field), np.nan)[()]})
    assert verdicts(nan) == dict.fromkeys(CHECKS, OK) | wanted


@pytest.mark.parametrize(("place", "code"), [((TOKEN, 0), "TB106"), ((END, 2), "TB107")])
def test_one_score_that_is_nan_is_a_fault(made, place, code):
    """Also at an end, whose mean difference was a number: it is not left to TB203."""
    choices = differing(made, [place], np.nan, in_the_mean=0.0)
    assert list(first_causes(choices)) == [code]
    assert np.isnan(CHECKS[code](choices).measured)


def test_an_estimate_beyond_all_bounds_is_a_fault_not_a_crash(made):
    """Infinite once, and so large that its square overflows: warnings are errors here."""
    right = made.choices().relative_estimate
    infinite = np.where(np.arange(256) == 7, np.inf, right)
    assert (
        estimate_is_unbiased(replace(made.choices(), relative_estimate=infinite)).verdict is FAULT
    )
    huge = np.where(np.arange(256) == 7, 1e200, right)
    verdict = estimate_is_unbiased(replace(made.choices(), relative_estimate=huge)).verdict
    assert verdict is UNDECIDED  # one draw that outweighs all others has no error to be judged by


def test_a_model_without_choices_is_not_judged():
    for code, check in CHECKS.items():
        finding = check(None)
        assert (finding.code, finding.verdict) == (code, NOT_RUN)
        assert finding.not_checked == (finding.meaning,)


# --- TB225 ---------------------------------------------------------------------------------------


def first_word(cost, written, *, step=0, num_words=8):
    """An untrained model to which a word costs `cost` times the log of their number on average: half of
    them are likely and the others so unlikely that it does. Training rows write words of cost `written`,
    in the same measure."""
    ignorance = np.log(num_words)
    log_p = np.repeat([-0.1, -2 * cost * ignorance + 0.1], num_words // 2)
    words = Words(log_p=log_p, written=-np.repeat(written * ignorance, 3))
    return Evidence(step=step, words=words)


@pytest.mark.parametrize(
    ("cost", "written", "verdict"),
    [
        (1.0, 1.0, OK),
        (1.9, 2.5, OK),
        (2.1, 2.1, UNDECIDED),
        (2.9, 4.0, UNDECIDED),
        (3.1, 3.1, FAULT),
        (16.0, 9.0, FAULT),
        (16.0, 0.1, NOT_RUN),  # it knows what it writes: trained before
        (2.5, 0.1, NOT_RUN),
        (np.nan, 3.0, UNDECIDED),
        (16.0, np.nan, UNDECIDED),
        (1.0, np.nan, UNDECIDED),
        (np.inf, 3.0, UNDECIDED),
    ],
)
def test_words_that_are_far_from_uniform_before_training_are_named(cost, written, verdict):
    """By hand: the mean of -log p over the words, in multiples of log 8."""
    finding = words_start_near_uniform(first_word(cost, written))
    assert (finding.code, finding.verdict) == ("TB225", verdict)
    causes = ["embeddings_too_large"] if verdict is FAULT else []
    assert [cause.name for cause in finding.causes] == causes
    if verdict in (OK, FAULT):
        assert finding.measured == pytest.approx(cost)


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(step=0),
        first_word(16.0, 16.0, step=100),
        Evidence(step=0, words=Words(log_p=np.zeros(1), written=np.zeros(3))),
        Evidence(step=0, words=Words(log_p=np.full(8, -9.0), written=np.zeros(0))),
    ],
    ids=["no words", "a trained model", "one word", "no rows"],
)
def test_without_an_untrained_choice_of_words_nothing_is_judged(evidence):
    finding = words_start_near_uniform(evidence)
    assert (finding.code, finding.verdict) == ("TB225", NOT_RUN)
    assert finding.not_checked == (finding.meaning,)
