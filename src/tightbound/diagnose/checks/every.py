"""Every general check, in the order of explanation: what is named first explains what it brings with it.

Numbers that are none spoil everything, then what is predicted from itself, then other data; a density that
is none spoils every number; a step comes after its gradient.
"""

from typing import Any

from tightbound.diagnose.case import Case, Check
from tightbound.diagnose.checks import (
    data,
    discrete,
    evaluation,
    filters,
    latents,
    mixtures,
    objective,
    optimisation,
    probability,
    steps,
    weights,
)
from tightbound.diagnose.finding import Finding


def _redrawn(case: Case) -> Any:
    """What many keys say of the newest objective, where they were asked."""
    return next((e.redrawn for e in reversed(case.history) if e.objective is not None), None)


def _output_starts_near_the_data(case: Case) -> Finding:
    uniform = case.baselines.get("uniform")
    value = None if uniform is None else uniform.value
    return optimisation.output_starts_near_the_data(case.history[0], value, per_unit=case.pooled)


def _likelihood_listens(case: Case) -> Finding:
    observes = case.sites is None or bool(case.sites.observed.any())
    return latents.likelihood_listens(case.newest("scores"), observes=observes)


CHECKS: tuple[Check, ...] = (
    Check("TB501", lambda case: data.data_are_finite(case.newest("data"))),
    Check("TB113", lambda case: steps.past_ignores_the_future(case.newest("steps"))),
    Check("TB502", lambda case: data.data_can_be_drawn(case.newest("data"))),
    Check("TB503", lambda case: data.splits_are_alike(case.newest("splits"))),
    Check("TB504", lambda case: data.rows_are_different(case.newest("data"))),
    Check("TB505", lambda case: data.splits_are_disjoint(case.newest("data"))),
    Check("TB506", lambda case: data.labels_inform(case.newest("data"))),
    Check("TB509", lambda case: data.rows_have_steps(case.newest("data"))),
    Check("TB101", lambda case: probability.likelihood_is_normalised(case.newest("twin"))),
    Check(
        "TB118",
        lambda case: probability.discrete_probability_is_at_most_one(case.newest("joint")),
    ),
    Check("TB222", lambda case: mixtures.every_component_moves(case.history)),
    Check("TB102", lambda case: probability.proposal_draws_what_it_scores(case.newest("scores"))),
    Check("TB103", lambda case: probability.prior_draws_what_it_scores(case.newest("scores"))),
    Check("TB119", lambda case: probability.weight_is_the_joint(case.newest("joint"))),
    Check("TB115", lambda case: mixtures.components_start_apart(case.history)),
    Check("TB116", lambda case: mixtures.mixture_is_per_datum(case.newest("objective"))),
    Check("TB117", lambda case: latents.kl_is_not_negative(case.history, is_bound=case.is_bound)),
    Check("TB402", _likelihood_listens),
    Check("TB105", lambda case: probability.rows_are_scored_alone(case.newest("objective"))),
    Check("TB111", lambda case: steps.padding_counts_for_nothing(case.newest("steps"))),
    Check("TB112", lambda case: steps.steps_score_as_the_whole_does(case.newest("steps"))),
    Check("TB114", lambda case: steps.steps_see_the_one_before(case.newest("steps"))),
    Check("TB104", lambda case: probability.weights_average_to_the_marginal(case.newest("twin"))),
    Check("TB120", lambda case: discrete.proposal_mass_is_one(case.newest("discrete"))),
    Check("TB121", lambda case: discrete.draws_follow_probabilities(case.newest("discrete"))),
    Check("TB122", lambda case: filters.filter_evidence_is_unbiased(case.newest("filters"))),
    Check(
        "TB201",
        lambda case: objective.objective_is_its_claim(case.newest("objective"), _redrawn(case)),
    ),
    Check("TB202", lambda case: objective.gradient_is_the_slope(case.oldest("objective"))),
    Check("TB204", lambda case: discrete.gradient_reaches_the_proposal(case.newest("discrete"))),
    Check("TB601", lambda case: evaluation.evaluator_is_plain(case.newest("evaluator"))),
    Check("TB602", lambda case: evaluation.evaluation_leaves_parameters(case.newest("evaluator"))),
    Check("TB610", lambda case: evaluation.report_is_the_bound(case.newest("reported"))),
    Check(
        "TB604", lambda case: evaluation.evaluated_under_the_trained_law(case.newest("evaluator"))
    ),
    Check("TB220", lambda case: mixtures.components_repel(case.newest("interaction"))),
    Check("TB212", lambda case: optimisation.every_module_moves(case.newest("optimiser"))),
    Check("TB214", lambda case: optimisation.every_gradient_counts(case.newest("optimiser"))),
    Check("TB213", lambda case: optimisation.gradients_are_forgotten(case.newest("optimiser"))),
    Check("TB215", lambda case: optimisation.clipping_leaves_sizes(case.newest("optimiser"))),
    Check("TB217", _output_starts_near_the_data),
    Check("TB210", lambda case: optimisation.updates_do_not_overshoot(case.history)),
    Check("TB219", lambda case: optimisation.updates_help_other_rows(case.history)),
    Check("TB216", lambda case: optimisation.values_are_finite(case.history)),
    Check("TB221", lambda case: optimisation.bound_does_not_fall(case.history, climbs=case.climbs)),
    Check("TB223", lambda case: optimisation.updates_have_not_stopped(case.history)),
    Check(
        "TB211",
        lambda case: optimisation.updates_are_large_enough(case.history, is_bound=case.is_bound),
    ),
    Check("TB405", lambda case: mixtures.every_component_is_used(case.history)),
    Check("TB403", lambda case: latents.latents_keep_their_noise(case.history)),
    Check(
        "TB401",
        lambda case: latents.latents_are_used(case.history, asked_for=case.collapse_asked_for),
    ),
    Check("TB301", lambda case: weights.weights_are_finite(case.log_weights)),
    Check("TB302", lambda case: weights.weights_keep_the_evidence(case.log_weights)),
    Check(
        "TB303", lambda case: weights.draws_differ(case.log_weights, has_latents=case.has_latents)
    ),
    Check("TB304", lambda case: weights.tails_are_light_enough(case.log_weights)),
    Check("TB605", lambda case: evaluation.bound_is_possible(case.bound, case.source)),
    Check(
        "TB603",
        lambda case: evaluation.bound_beats_the_baselines(
            case.bound, case.baselines, finished=case.finished
        ),
    ),
)
