"""All checks, in one place and in a stated order: evidence in, ranked findings out. NumPy only."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from tightbound.diagnose.checks import (
    data,
    discrete,
    evaluation,
    filters,
    latents,
    optimisation,
    probability,
    steps,
    weights,
)
from tightbound.diagnose.checks import objective as objective_checks
from tightbound.diagnose.evidence import Evidence, Sites
from tightbound.diagnose.finding import Finding
from tightbound.diagnose.findings import Findings, by_verdict
from tightbound.estimators.estimate import Estimate
from tightbound.families.edits import checks as choices
from tightbound.families.stein import checks as mixtures

# Which fault explains which: a finding high up is named before those it brings with it. Numbers that
# are none spoil everything, then what is predicted from itself, then other data; a density that is none
# spoils every number; a step comes after its gradient.
_EXPLAINS_FIRST = [
    "TB501",
    "TB113",
    "TB502",
    "TB503",
    "TB504",
    "TB505",
    "TB506",
    "TB509",
    "TB507",
    "TB508",
    "TB510",
    "TB101",
    "TB118",
    "TB222",
    "TB102",
    "TB103",
    "TB119",
    "TB115",
    "TB116",
    "TB117",
    "TB607",
    "TB402",
    "TB105",
    "TB106",
    "TB107",
    "TB108",
    "TB111",
    "TB112",
    "TB114",
    "TB203",
    "TB109",
    "TB110",
    "TB104",
    "TB120",
    "TB121",
    "TB122",
    "TB201",
    "TB202",
    "TB204",
    "TB606",
    "TB608",
    "TB609",
    "TB601",
    "TB602",
    "TB610",
    "TB604",
    "TB220",
    "TB212",
    "TB214",
    "TB213",
    "TB215",
    "TB225",
    "TB217",
    "TB210",
    "TB219",
    "TB216",
    "TB221",
    "TB223",
    "TB211",
    "TB218",
    "TB405",
    "TB404",
    "TB403",
    "TB401",
    "TB301",
    "TB302",
    "TB303",
    "TB304",
    "TB605",
    "TB603",
]


def judge(
    history: Sequence[Evidence],
    *,
    baselines: Mapping[str, Estimate] | None = None,
    bound: Estimate | None = None,
    source: Estimate | None = None,
    finished: bool = False,
    collapse_asked_for: bool = False,
    is_bound: bool = True,
    climbs: bool = False,
    pooled: bool = False,
) -> Findings:
    """Every finding about a run, from the evidence of its probes, likeliest explanation first.

    `history` is in order of steps; laws are read from the newest evidence that has them, so that a
    trained state is judged by its own. Slopes are compared before training, where they are large: near
    an optimum a difference of the value is mostly rounding. `bound` is the newest held-out bound, and `source` what the source of the data, where it
    is known, has for the same rows. `climbs` says that training raises the ELBO itself, `pooled` that
    training rows are points of one data set, whose baselines are per point.
    """
    if not history:
        raise ValueError("There is no evidence to judge. Run `check`, or train with the doctor on.")
    baselines = dict(baselines or {})
    twin, scores = _newest(history, "twin"), _newest(history, "scores")
    objective, evaluator = _newest(history, "objective"), _newest(history, "evaluator")
    redrawn = next((e.redrawn for e in reversed(history) if e.objective is not None), None)
    made, recorded = _newest(history, "choices"), _newest(history, "joint")
    listed = _newest(history, "discrete")
    optimiser, seen = _newest(history, "optimiser"), _newest(history, "data")
    moved, transform = _newest(history, "steps"), _newest(history, "transform")
    uniform_components, symbols = _newest(history, "mixtures"), _newest(history, "symbols")
    uniform = baselines.get("uniform")
    sites = history[-1].sites
    findings = [
        probability.likelihood_is_normalised(twin),
        probability.proposal_draws_what_it_scores(scores),
        probability.prior_draws_what_it_scores(scores),
        probability.weights_average_to_the_marginal(twin),
        probability.rows_are_scored_alone(objective),
        probability.discrete_probability_is_at_most_one(recorded),
        probability.weight_is_the_joint(recorded),
        mixtures.components_start_apart(history),
        mixtures.mixture_is_per_datum(objective),
        choices.particles_score_as_training_does(made),
        choices.strings_hand_on_what_training_does(made),
        choices.particles_keep_their_history(made),
        choices.estimate_is_unbiased(made),
        choices.proposal_sums_to_one(made, claimed=is_bound),
        choices.decisions_have_one_target(made),
        discrete.proposal_mass_is_one(listed),
        discrete.draws_follow_probabilities(listed),
        filters.filter_evidence_is_unbiased(_newest(history, "filters")),
        choices.words_start_near_uniform(history[0]),
        steps.padding_counts_for_nothing(moved),
        steps.steps_score_as_the_whole_does(moved),
        steps.past_ignores_the_future(moved),
        steps.steps_see_the_one_before(moved),
        objective_checks.objective_is_its_claim(objective, redrawn),
        objective_checks.gradient_is_the_slope(_oldest(history, "objective")),
        discrete.gradient_reaches_the_proposal(listed),
        optimisation.updates_do_not_overshoot(history),
        optimisation.updates_help_other_rows(history),
        optimisation.updates_are_large_enough(history, is_bound=is_bound),
        optimisation.updates_have_not_stopped(history),
        optimisation.bound_does_not_fall(history, climbs=climbs),
        mixtures.components_repel(_newest(history, "interaction")),
        mixtures.every_component_moves(history),
        optimisation.every_module_moves(optimiser),
        optimisation.gradients_are_forgotten(optimiser),
        optimisation.every_gradient_counts(optimiser),
        optimisation.clipping_leaves_sizes(optimiser),
        optimisation.values_are_finite(history),
        optimisation.output_starts_near_the_data(
            history[0], None if uniform is None else uniform.value, per_unit=pooled
        ),
        *_of_sites(sites),
        latents.kl_is_not_negative(history, is_bound=is_bound),
        latents.latents_are_used(history, asked_for=collapse_asked_for),
        latents.likelihood_listens(scores, observes=sites is None or bool(sites.observed.any())),
        latents.latents_keep_their_noise(history),
        latents.components_differ(uniform_components),
        mixtures.every_component_is_used(history),
        data.data_are_finite(seen),
        data.data_can_be_drawn(seen),
        data.splits_are_alike(_newest(history, "splits")),
        data.rows_are_different(seen),
        data.splits_are_disjoint(seen),
        data.labels_inform(seen),
        data.offsets_are_normalised(transform),
        data.drawing_undoes_the_transform(transform),
        data.rows_have_steps(seen),
        data.symbols_stand_in_training(symbols),
        evaluation.evaluator_is_plain(evaluator),
        evaluation.report_is_the_bound(_newest(history, "reported")),
        evaluation.evaluation_leaves_parameters(evaluator),
        evaluation.evaluated_under_the_trained_law(evaluator),
        evaluation.bound_beats_the_baselines(bound, baselines, finished=finished),
        evaluation.bound_is_possible(bound, source),
    ]
    return ranked(findings)


def _of_sites(sites: Sites | None) -> Findings:
    """What the log-weights of the scored sites show."""
    if sites is None:
        return judge_weights(None)
    return judge_weights(sites.log_weights, has_latents=not sites.observed.all())


def judge_weights(
    log_weights: Float[np.ndarray, "samples rows"] | None, *, has_latents: bool = True
) -> Findings:
    """What log-weights alone can show, whoever saved them; `has_latents` says whether anything was
    drawn to make them."""
    return ranked(
        [
            weights.weights_are_finite(log_weights),
            weights.weights_keep_the_evidence(log_weights),
            weights.draws_differ(log_weights, has_latents=has_latents),
            weights.tails_are_light_enough(log_weights),
        ]
    )


def ranked(findings: Sequence[Finding]) -> Findings:
    """FAULT first, then UNDECIDED, NOT_RUN, OK; within a verdict what explains the rest comes first."""
    return Findings(by_verdict(sorted(findings, key=lambda f: _EXPLAINS_FIRST.index(f.code))))


def _newest(history: Sequence[Evidence], group: str):
    for evidence in reversed(history):
        if getattr(evidence, group) is not None:
            return getattr(evidence, group)
    return None


def _oldest(history: Sequence[Evidence], group: str):
    return _newest(history[::-1], group)
