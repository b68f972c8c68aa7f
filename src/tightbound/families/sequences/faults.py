"""How runs on sequences are examined: whom faults are planted in, traps, and the faults."""

from typing import Any

from tightbound.diagnose.checks import data, evaluation, latents, objective, probability, steps
from tightbound.drill import altered
from tightbound.drill.altered import Altered
from tightbound.drill.fault import Examination, Fault, Planted, on
from tightbound.drill.faults import GENERAL
from tightbound.drill.planting import with_split
from tightbound.families.lookup import Recipe
from tightbound.families.sequences import checks, planting
from tightbound.families.sequences import recipe as vrnn
from tightbound.families.sequences.objective import StepObjective
from tightbound.families.sequences.recipe import SequenceRecipe
from tightbound.train.settings import OptimiserSettings
from tightbound.unread import replaced

_STROKES = vrnn.RECIPES["vrnn/toy-strokes"]

_ROWS = vrnn.RECIPES["vrnn/digits"]


def _strokes(name: str, **changes: Any) -> SequenceRecipe:
    return replaced(_STROKES, name=name, **changes)


def _strokes_model(**settings: Any) -> dict[str, Any]:
    return {"model": replaced(_STROKES.model, **settings)}


def _steps(**settings: Any) -> dict[str, Any]:
    return {"objective": StepObjective(**settings)}


SUBJECTS: tuple[Recipe, ...] = (
    _strokes("vrnn/toy-strokes"),
    replaced(_ROWS, name="vrnn/digits"),
    replaced(_ROWS, name="vrnn/digits-fivo", objective=StepObjective("fivo", num_samples=4)),
    _strokes("vrnn/toy-dmm", **_strokes_model(family="dmm", smoothing=True, output="bivariate")),
)

TRAPS: tuple[Recipe, ...] = (
    _strokes("vrnn/no-latents", **_strokes_model(family="rnn")),
    _strokes("vrnn/fixed-prior", **_strokes_model(learned_prior=False)),
    _strokes("vrnn/smoothing", **_strokes_model(smoothing=True)),
    _strokes("vrnn/lstm", **_strokes_model(cell="lstm")),
    _strokes("vrnn/kl-warm-up", **_steps(kl_warmup_steps=500)),
    _strokes("vrnn/beta-0.5", **_steps(kl_weight=0.5)),
    _strokes("vrnn/free-bits", **_steps(free_bits=5.0)),
    _strokes("vrnn/iwae", **_steps(estimator="iwae", num_samples=5)),
    _strokes("vrnn/sticking-the-landing", **_steps(path="stop_proposal")),
    _strokes("vrnn/long-and-padded", data=replaced(_STROKES.data, num_letters=16)),
    _strokes("vrnn/tiny-data", data=replaced(_STROKES.data, max_rows=64)),
    _strokes("vrnn/unclipped", optimiser=OptimiserSettings(learning_rate=3e-3)),
    Altered("vrnn/digits-bootstrap", SUBJECTS[2], altered.proposing_from_the_prior),
    replaced(_ROWS, name="vrnn/digits-no-latents", model=replaced(_ROWS.model, family="rnn")),
)

_FAULTS = (
    Fault(
        "wrong_event_size",
        "not a probability model",
        "log p(x | z) is that of a vector of 200 entries where x has two: -182 nats a step.",
        planting.with_steps(change_score=planting.wrong_event_size),
        probability.CONSTANT_IN_DENSITY,
        ("TB101",),
    ),
    Fault(
        "squared_error_for_log_p",
        "not a probability model",
        "The squared error takes the place of log p(x | z).",
        planting.with_steps(change_score=planting.squared_error),
        probability.CONSTANT_IN_DENSITY,
        ("TB101",),
    ),
    Fault(
        "signed_error_for_log_p",
        "not a probability model",
        "The sum of differences, not squared, takes the place of log p(x | z).",
        planting.with_steps(change_score=planting.signed_error),
        probability.NOT_NORMALISED,
        ("TB101",),
    ),
    Fault(
        "weights_for_log_weights",
        "not a probability model",
        "A mixture adds its weights to log-densities where log-weights belong.",
        planting.with_steps(change_law=planting.weights_for_log_weights),
        probability.NOT_NORMALISED,
        ("TB101",),
    ),
    Fault(
        "pen_as_gaussian",
        "not a probability model",
        "The pen, 0 or 1, is given a Gaussian.",
        planting.with_steps(change_law=planting.GaussianPen),
        data.OFF_SUPPORT,
        ("TB502",),
    ),
    Fault(
        "future_read",
        "leakage and mode",
        "The generative model's state takes in the next observation with the present one.",
        planting.with_steps(change_readings=planting.one_step_ahead),
        steps.FUTURE_READ,
        ("TB113",),
    ),
    Fault(
        "latents_cut_off",
        "latent use",
        "Neither the decoder nor the state is given z.",
        planting.with_steps(see=planting.nothing),
        latents.DECODER_IGNORES_Z,
        ("TB402",),
    ),
    Fault(
        "state_dropped_in_scores",
        "state",
        "The pass that scores whole sequences begins anew every three steps; training does not.",
        planting.scored_in_pieces,
        steps.STEPS_DIFFER,
        ("TB112",),
    ),
    Fault(
        "noise_excluded",
        "latent use",
        "Every step's z is the proposal's mean: epsilon is 0.",
        planting.with_steps_proposed(change=planting.AtMean),
        probability.NO_NOISE,
        ("TB102",),
    ),
    Fault(
        "variance_for_scale_of_steps",
        "not a probability model",
        "Draws of every step use the variance where the scale belongs.",
        planting.with_steps_proposed(change=planting.VarianceForScale),
        probability.SCALES_DIFFER,
        ("TB102",),
    ),
    Fault(
        "identity_latents_of_steps",
        "latent use",
        "The scale of every step's z is 1e-4 whatever x is.",
        planting.with_steps_proposed(change=planting.narrow),
        latents.IDENTITY_LATENTS,
        ("TB403",),
    ),
    Fault(
        "padding_drives_the_state",
        "masks, padding, units",
        "The proposal's backward pass begins in the padding.",
        planting.with_steps_proposed(sees_padding=True),
        steps.PADDING_READ,
        ("TB111",),
    ),
    Fault(
        "masked_by_multiplication",
        "masks, padding, units",
        "Scores are multiplied by the mask, and those of padding are infinite: 0 * inf.",
        planting.masked_by_multiplication,
        objective.OBJECTIVE_NOT_FINITE,
        ("TB201", "TB216"),
    ),
    Fault(
        "earlier_weights_dropped",
        "multi-sample bounds, filters",
        "Where no step resamples, the filter's estimate forgets the weights so far.",
        planting.earlier_weights_dropped,
        objective.WEIGHTS_DROPPED,
        ("TB201",),
    ),
    Fault(
        "not_normalised",
        "data",
        "Offsets are normalised on a copy; the raw ones reach the model.",
        planting.not_normalised,
        checks.RAW_OFFSETS,
        ("TB507",),
    ),
    Fault(
        "statistics_of_each_step",
        "data",
        "Mean and scale are taken over rows, padding counted, for each step apart.",
        planting.statistics_of_each_step,
        checks.OTHER_STATISTICS,
        ("TB507",),
    ),
    Fault(
        "own_statistics",
        "leakage and mode",
        "Held-out offsets are normalised by their own statistics.",
        planting.own_statistics,
        checks.OWN_STATISTICS,
        ("TB507",),
    ),
    Fault(
        "inverted_wrongly",
        "data",
        "Offsets are drawn as (x + mean) * scale.",
        planting.inverted_wrongly,
        checks.WRONG_INVERSE,
        ("TB508",),
    ),
    Fault(
        "cut_from_index_one",
        "data",
        "Rows are cut at cumulative lengths from the second on: two in one, and an empty one.",
        with_split("train", planting.cut_from_index_one),
        data.EMPTY_ROW,
        ("TB509",),
    ),
    Fault(
        "nan_among_offsets",
        "data",
        "One offset of the training split is NaN.",
        with_split("train", planting.with_nan),
        data.BAD_VALUES,
        ("TB501",),
    ),
    Fault(
        "grey_rows_for_bits",
        "data",
        "The draw that makes bits of grey levels does nothing.",
        planting.without_a_draw,
        data.OFF_SUPPORT,
        ("TB502",),
    ),
    Fault(
        "rows_drawn_at_half",
        "leakage and mode",
        "Evaluation thresholds the grey levels that training draws bits from.",
        planting.drawn_at_half,
        evaluation.EVALUATED_LAW,
        ("TB601",),
    ),
    Fault(
        "evaluated_without_carry",
        "state",
        "Evaluation forgets the state between steps.",
        planting.evaluated_without_carry,
        evaluation.EVALUATED_NETWORK,
        ("TB601",),
    ),
)
_OWN = {fault.name: fault for fault in _FAULTS}

PLANTED: tuple[Planted, ...] = (
    *on(
        ("vrnn/toy-strokes",),
        GENERAL["kl_sign_flipped"],
        GENERAL["kl_missing"],
        GENERAL["minibatch_scale"],
        GENERAL["draw_detached"],
        GENERAL["gradient_not_reset"],
        GENERAL["everything_clipped"],
        GENERAL["rows_duplicated"],
        GENERAL["evaluation_without_kl"],
        _OWN["squared_error_for_log_p"],
        _OWN["signed_error_for_log_p"],
        _OWN["weights_for_log_weights"],
        _OWN["masked_by_multiplication"],
        GENERAL["kl_weight_not_stated"],
        _OWN["statistics_of_each_step"],
        _OWN["own_statistics"],
        _OWN["inverted_wrongly"],
        _OWN["cut_from_index_one"],
        _OWN["nan_among_offsets"],
    ),
    *on(
        ("vrnn/digits",),
        GENERAL["kl_summed_over_batch"],
        GENERAL["batches_dropped"],
        GENERAL["proposal_frozen"],
        _OWN["grey_rows_for_bits"],
        _OWN["rows_drawn_at_half"],
    ),
    *on(
        (
            "vrnn/toy-strokes",
            "vrnn/digits",
        ),
        GENERAL["rate_too_high"],
        GENERAL["rate_too_low"],
        GENERAL["large_heads"],
        _OWN["future_read"],
        _OWN["state_dropped_in_scores"],
        _OWN["variance_for_scale_of_steps"],
        _OWN["identity_latents_of_steps"],
        GENERAL["trained_on_held_out_rows"],
        _OWN["evaluated_without_carry"],
        GENERAL["divided_by_rows"],
    ),
    *on(
        ("vrnn/digits-fivo",),
        GENERAL["normaliser_discarded"],
        _OWN["earlier_weights_dropped"],
    ),
    *on(
        (
            "vrnn/toy-strokes",
            "vrnn/digits",
            "vrnn/toy-dmm",
        ),
        _OWN["wrong_event_size"],
        _OWN["latents_cut_off"],
        _OWN["noise_excluded"],
    ),
    *on(
        (
            "vrnn/toy-strokes",
            "vrnn/toy-dmm",
        ),
        _OWN["pen_as_gaussian"],
        GENERAL["padding_counted"],
        _OWN["not_normalised"],
    ),
    *on(
        ("vrnn/toy-dmm",),
        _OWN["padding_drives_the_state"],
    ),
)

EXAMINATION = Examination(SUBJECTS, TRAPS, PLANTED)
