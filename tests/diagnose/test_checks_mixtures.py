"""Checks of mixtures on evidence made by hand: each is shown the fault it names, and one that is not its."""

from dataclasses import fields, replace

import numpy as np
import pytest

from tightbound.diagnose import evidence as ev
from tightbound.diagnose.checks import mixtures, objective, optimisation
from tightbound.diagnose.finding import Verdict

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN


def causes(finding):
    return [cause.name for cause in finding.causes]


# --- TB115 ---------------------------------------------------------------------------------------


def starting(made, distance):
    components = replace(made.components(), distance=np.array(distance, float))
    return mixtures.components_start_apart(made.history(components=components))


def test_equal_components_are_named_before_the_first_step(made):
    """All three, or two of them; a distance of a thousandth of the norm is one."""
    every = starting(made, np.zeros((3, 3)))
    assert (every.verdict, every.measured, causes(every)) == (
        FAULT,
        0.0,
        ["components_equal_at_start"],
    )
    assert "3 pairs" in every.meaning
    two = starting(made, [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert two.verdict is FAULT
    assert two.where == "components 0 and 2, step 0"
    assert starting(made, 1e-3 * (1 - np.eye(3))).verdict is OK


def test_components_that_meet_later_did_not_start_equal(made):
    history = made.history()
    history[-1] = replace(
        history[-1], components=replace(made.components(), distance=np.zeros((3, 3)))
    )
    assert mixtures.components_start_apart(history).verdict is OK
    assert mixtures.components_start_apart(history[1:]).verdict is NOT_RUN


def test_a_single_component_has_nothing_to_be_equal_to(made):
    """Nor a single one to be used."""
    three = made.components()
    own = {f.name: getattr(three, f.name)[:1] for f in fields(three)[:-2] if f.name != "distance"}
    one = made.history(components=replace(three, **own, distance=np.zeros((1, 1))))
    assert mixtures.components_start_apart(one).verdict is NOT_RUN
    assert mixtures.every_component_is_used(one).verdict is NOT_RUN


# --- TB116 ---------------------------------------------------------------------------------------


def scored(made, proposed=0.0, counted=0.0, **changes):
    """The finding where the proposal's log q is `proposed` above the components' log-mean, and the
    objective counts it `counted` above its own."""
    right = made.objective(np.random.default_rng(0))
    return mixtures.mixture_is_per_datum(
        replace(
            right,
            log_proposal=right.log_proposal + proposed,
            batch_surrogate=right.batch_claimed - counted,
            **changes,
        )
    )


@pytest.mark.parametrize("of_proposal", [True, False])
def test_a_missing_log_m_is_named_whoever_misses_it(made, of_proposal):
    """log 3 too high, in the proposal's density or in what the objective subtracts."""
    off = {"proposed" if of_proposal else "counted": np.log(3)}
    finding = scored(made, **off)
    assert finding.verdict is FAULT
    assert causes(finding)[0] == "log_m_missing"
    assert finding.measured == pytest.approx(np.log(3))


def test_other_reductions_over_components_are_named(made):
    """-0.9 and 0.4 nats from the right one are what the evidence has for them."""
    assert causes(scored(made, counted=-0.9))[0] == "mixture_over_the_minibatch"
    assert causes(scored(made, counted=0.4))[0] == "own_component_only"


def test_an_objective_that_is_wrong_otherwise_is_left_to_its_own_finding(made):
    assert scored(made).verdict is OK
    assert scored(made, counted=0.2).verdict is UNDECIDED
    assert causes(scored(made, proposed=0.2)) == ["mixture_density_differs"]
    assert scored(made, num_components=1).verdict is NOT_RUN


# --- TB220 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spreading", "verdict", "said"),
    [
        (0.9, OK, []),
        (0.0, FAULT, ["repulsion_missing", "repulsion_sign_flipped"]),
        (-0.9, FAULT, ["repulsion_sign_flipped", "repulsion_missing"]),
        (np.nan, UNDECIDED, []),
    ],
)
def test_a_repulsion_that_is_stated_must_push(spreading, verdict, said):
    finding = mixtures.components_repel(ev.Spreading(1.0, 3, spreading))
    assert (finding.verdict, causes(finding)) == (verdict, said)


def test_a_repulsion_that_is_not_stated_need_not_push():
    for stated, num_components in ((0.0, 3), (1.0, 1)):
        finding = mixtures.components_repel(ev.Spreading(stated, num_components, 0.0))
        assert finding.verdict is NOT_RUN


# --- TB405 ---------------------------------------------------------------------------------------


def used(made, usage, **changes):
    components = replace(made.components(), usage=np.array(usage), **changes)
    return mixtures.every_component_is_used(made.history(components=components))


def test_a_component_that_takes_all_and_one_that_has_none_are_faults(made):
    """0.99 is all of it; a third of 1 / 50 is 0.0067: 0.005 is none of it, and 0.01 is some."""
    all_of_it, none_of_it = used(made, [0.99, 0.005, 0.005]), used(made, [0.6, 0.395, 0.005])
    assert (all_of_it.verdict, all_of_it.measured) == (FAULT, 0.99)
    assert (none_of_it.verdict, none_of_it.measured) == (FAULT, 0.005)
    assert causes(all_of_it)[0] == "one_component_takes_all"
    assert used(made, [0.6, 0.39, 0.01]).verdict is OK


def moved(made, **changes):
    components = replace(made.components(), **changes)
    return mixtures.every_component_moves(made.history(components=components))


def test_a_component_that_is_left_behind_is_named(made):
    """It has a gradient and no update, or no gradient; a guard that has stopped moves none of them."""
    frozen = moved(made, update_ratio=np.array([1e-3, 0.0, 0.0]))
    assert (frozen.verdict, frozen.where) == (FAULT, "component 1, 2, step 300")
    assert causes(frozen)[0] == "component_never_moves"
    undrawn = moved(made, gradient_norm=np.array([1.0, 0.0, 2.0]))
    assert (undrawn.verdict, undrawn.measured) == (FAULT, 1.0)
    assert causes(undrawn)[0] == "component_never_drawn"
    assert moved(made, update_ratio=np.zeros(3)).verdict is OK
    assert moved(made, update_ratio=np.full(3, np.nan)).verdict is UNDECIDED


def test_a_share_of_few_rows_says_nothing(made):
    """Nor does an early one."""
    assert used(made, [1.0, 0.0, 0.0], entropy=np.zeros(1)).verdict is NOT_RUN
    early = made.history(components=replace(made.components(), usage=np.array([1.0, 0.0, 0.0])))
    assert mixtures.every_component_is_used(early[:-1]).verdict is NOT_RUN


# --- TB221, TB216 and the advice of TB210 --------------------------------------------------------


def falling(made, by):
    """Six probes, the last of which is lower than that of step 100 by so much of the size of 40."""
    history = made.history(line=made.line(np.random.default_rng(1)))
    line = history[-1].line
    lower = replace(line, same=line.same - 40 * by, other=line.other - 40 * by)
    return [*history[:-1], replace(history[-1], line=lower)]


def test_a_bound_that_falls_is_a_fault_where_it_is_what_is_climbed(made):
    """A tenth of its size; a hundredth is undecided, and a rise is what is meant."""
    fallen = optimisation.bound_does_not_fall(falling(made, 0.1))
    assert (fallen.verdict, causes(fallen)) == (FAULT, ["bound_falls"])
    assert fallen.measured == pytest.approx(0.1, rel=0.1)
    assert optimisation.bound_does_not_fall(falling(made, 0.01)).verdict is UNDECIDED
    assert optimisation.bound_does_not_fall(falling(made, -0.1)).verdict is OK
    assert optimisation.bound_does_not_fall(falling(made, 0.1), climbs=False).verdict is NOT_RUN


def test_a_bound_that_ends_as_no_number_has_fallen(made):
    finding = optimisation.bound_does_not_fall(falling(made, np.nan))
    assert (finding.verdict, finding.measured) == (FAULT, np.inf)


def test_a_refused_step_is_named_with_site_component_and_rows(made):
    guard = ev.Guard(
        step=137,
        names=np.array(["z", "x"]),
        bad_scores=np.array([4, 0]),
        rows=np.array([5, 17]),
        components=np.array([2]),
        modules=np.array(["q.encoder"]),
    )
    finding = optimisation.values_are_finite(made.history(guard=guard))
    assert finding.verdict is FAULT
    assert finding.where == "the step after step 137, site z, component 2, training rows 5, 17"
    assert "q.encoder" in finding.meaning
    assert causes(finding) == ["learning_rate_too_high", "not_finite"]
    assert "Along the update of step 100" in finding.advice


def test_advice_without_a_line_is_read_off_the_size_of_the_update(made):
    """0.1 of an encoder of size 8 is 12.5 times the thousandth that is usual."""
    fallen = falling(made, 0.1)
    assert "divide the learning rate by about 12" in optimisation.bound_does_not_fall(fallen).advice


def test_advice_names_the_best_multiple_of_components_and_model_apart(made):
    """An update that loses half of the bound, of which a tenth gains; the model's part gains whole."""
    line = made.line(np.random.default_rng(2))
    lost = np.where(line.multiples >= 0.9, -20.0, 2 * line.multiples)[:, None]
    line = replace(line, same=line.same[:1] + lost)
    gains = np.array([lost[:, 0], line.multiples / 30])
    history = made.history(line=line, components=replace(made.components(), gains=gains))
    advice = optimisation.updates_do_not_overshoot(history).advice
    assert "lower that of the components to about 1/3" in advice
    assert "that of the model may stay" in advice
    alone = optimisation.updates_do_not_overshoot(made.history(line=line, components=None)).advice
    assert "lower the learning rate to about 1/3" in alone


# --- TB201, TB202 and TB217 ----------------------------------------------------------------------


def test_a_norm_in_the_place_of_the_loss_is_named(made):
    """Either sign; the same size by a tenth is another number."""
    right = made.objective(np.random.default_rng(3))
    for value, named in ((6.1, True), (-6.1, True), (5.4, False)):
        wrong = replace(
            right, surrogate=np.full(len(right.surrogate), value), batch_surrogate=value
        )
        said = causes(objective.objective_is_its_claim(wrong))
        assert (said[0] == "force_norm_as_loss") is named


def test_a_missing_minibatch_weight_is_told_from_another_scale(made):
    """A quarter of the likelihood, where a point stands for four, and where it stands for itself."""
    right = made.objective(np.random.default_rng(4))
    value = right.claimed - 0.75 * right.log_likelihood.mean(0)
    wrong = replace(right, surrogate=value, batch_surrogate=float(value.mean()))
    assert causes(objective.objective_is_its_claim(wrong))[0] == "likelihood_scaled"
    pooled = objective.objective_is_its_claim(replace(wrong, point_weight=4.0))
    assert causes(pooled)[0] == "minibatch_weight_missing"


def test_a_gradient_that_is_not_the_claimed_one_is_a_fault(made):
    """Named by whether it is the one with nothing held constant."""
    right = replace(made.objective(np.random.default_rng(5)), gradient_change=0.0)
    assert objective.gradient_is_the_slope(right).verdict is OK
    full = replace(right, gradient_change=0.8, full_gradient_change=1e-6)
    other = replace(right, gradient_change=0.8, full_gradient_change=0.9)
    assert causes(objective.gradient_is_the_slope(full))[0] == "component_constants_missing"
    assert causes(objective.gradient_is_the_slope(other))[0] == "gradient_wrong"


def test_a_data_set_is_held_against_the_baseline_of_its_points(made):
    """-30 nats of a data set of 50 points, whose baseline is -0.69 each: 0.87 times it."""
    first = made.evidence(0)
    first = replace(first, sites=replace(first.sites, num_units=np.full(16, 50)))
    per_point = optimisation.output_starts_near_the_data(first, -0.69, per_unit=True)
    assert (per_point.verdict, round(per_point.measured, 1)) == (OK, 0.9)
    assert optimisation.output_starts_near_the_data(first, -0.69).verdict is FAULT
