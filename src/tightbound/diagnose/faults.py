"""The catalogue of planted faults: each takes a setup that is right and returns one that is not.

A fault says beforehand which finding must name it and by which cause. It never touches what the
doctor is told (`claim`, baselines), only what the run does; `planting.py` holds the ways.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax

from tightbound.diagnose import planting, planting_choices
from tightbound.diagnose.checks import (
    choices,
    data,
    evaluation,
    latents,
    objective,
    optimisation,
    probability,
)
from tightbound.diagnose.finding import Cause
from tightbound.models.wrappers import Noiseless
from tightbound.train.setup import Setup


@dataclass(frozen=True)
class Fault:
    """A kind of fault: what it does, to which setups, and what must be said of it."""

    name: str
    group: str  # as in the list of fault kinds: "not a probability model", "optimisation", ...
    says: str
    plant: Callable[[Setup], Setup]
    expected: Cause
    codes: tuple[str, ...]  # findings that count as found
    recipes: tuple[str, ...] = ("vae/digits", "vae/digits-gaussian", "vae/digits-iwae")


_BITS = ("vae/digits", "vae/digits-iwae")
_ELBO = ("vae/digits", "vae/digits-gaussian")
_IWAE = ("vae/digits-iwae",)
_DOUBLING = ("edits/doubling",)

_CATALOGUE = [
    Fault(
        "kl_sign_flipped",
        "not a probability model",
        "The KL is added where it must be subtracted.",
        planting.with_value(lambda t: (t.log_likelihood + planting.kl(t)).mean()),
        objective.KL_SIGN_FLIPPED,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "kl_missing",
        "not a probability model",
        "The KL is left out.",
        planting.with_value(lambda t: t.log_likelihood.mean()),
        objective.KL_MISSING,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "log_q_missing",
        "not a probability model",
        "log q is not subtracted.",
        planting.with_value(lambda t: t.log_joint.mean()),
        objective.LOG_Q_MISSING,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "kl_averaged",
        "masks, padding, units",
        "The KL is averaged over latents, the reconstruction summed over pixels.",
        planting.with_value(lambda t: (t.log_likelihood - planting.kl(t) / 8).mean()),
        objective.KL_SCALED,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "kl_summed_over_batch",
        "not a probability model",
        "A KL summed over the batch is added to every row.",
        planting.with_value(lambda t: (t.log_likelihood - planting.kl(t).sum()).mean()),
        objective.REDUCED_OVER_BATCH,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "minibatch_scale",
        "masks, padding, units",
        "The likelihood is multiplied by N / M although the latents are local.",
        planting.with_value(lambda t: (20.0 * t.log_likelihood - planting.kl(t)).mean()),
        objective.LIKELIHOOD_SCALED,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "mean_of_logs",
        "multi-sample bounds, filters",
        "The log-weights are averaged where the weights must be.",
        planting.with_value(lambda t: t.log_weights.mean()),
        objective.MEAN_OF_LOGS,
        ("TB201",),
        _IWAE,
    ),
    Fault(
        "missing_log_k",
        "multi-sample bounds, filters",
        "log K is not subtracted.",
        planting.with_value(lambda t: jax.nn.logsumexp(t.log_weights, axis=0).mean()),
        objective.MISSING_LOG_K,
        ("TB201",),
        _IWAE,
    ),
    Fault(
        "self_normalised",
        "multi-sample bounds, filters",
        "Log-weights averaged by normalised weights are called the bound.",
        planting.with_value(
            lambda t: (jax.nn.softmax(t.log_weights, 0) * t.log_weights).sum(0).mean()
        ),
        objective.SELF_NORMALISED,
        ("TB201",),
        _IWAE,
    ),
    Fault(
        "draw_detached",
        "latent use",
        "A stop_gradient on z: the encoder learns from the KL alone.",
        planting.stop_draw,
        objective.GRADIENT_STOPPED,
        ("TB202",),
        ("vae/digits", "vae/digits-gaussian"),
    ),
    Fault(
        "batch_statistics",
        "leakage and mode",
        "Images are centred by the mean of their batch.",
        planting.batch_statistics,
        probability.ROWS_COUPLED,
        ("TB105",),
    ),
    Fault(
        "constant_in_density",
        "not a probability model",
        "The density of a vector of the wrong size: a constant of 57 nats.",
        planting.with_score(lambda score: score | {"x": score["x"] - 57.0}),
        probability.CONSTANT_IN_DENSITY,
        ("TB101",),
    ),
    Fault(
        "density_averaged",
        "masks, padding, units",
        "log p(x | z) is the mean over pixels.",
        planting.density_averaged,
        probability.DENSITY_AVERAGED,
        ("TB101",),
        _BITS,
    ),
    Fault(
        "density_not_normalised",
        "not a probability model",
        "log p(x | z) is multiplied by 1.3: a temperature without its normaliser.",
        planting.with_score(lambda score: score | {"x": 1.3 * score["x"]}),
        probability.NOT_NORMALISED,
        ("TB101",),
        _BITS,
    ),
    Fault(
        "variance_for_scale",
        "not a probability model",
        "Draws use the variance where the scale belongs.",
        planting.with_proposal(planting.VarianceForScale),
        probability.SCALES_DIFFER,
        ("TB102",),
    ),
    Fault(
        "no_latent_noise",
        "latent use",
        "The noise is left out: a deterministic auto-encoder sold as a generative model.",
        planting.with_proposal(Noiseless),
        probability.NO_NOISE,
        ("TB102",),
    ),
    Fault(
        "wide_prior",
        "not a probability model",
        "The prior is drawn twice as wide as it is scored.",
        planting.with_model(planting.wide_prior),
        probability.PRIOR_DIFFERS,
        ("TB103",),
    ),
    Fault(
        "decoder_blind",
        "latent use",
        "The decoder is given zeros for z.",
        planting.with_model(planting.blind),
        latents.DECODER_IGNORES_Z,
        ("TB402",),
    ),
    Fault(
        "identity_latents",
        "latent use",
        "The proposal's scale is 1e-4 whatever x is.",
        planting.with_proposal(planting.NarrowProposal),
        latents.IDENTITY_LATENTS,
        ("TB403",),
    ),
    Fault(
        "rate_too_high",
        "optimisation",
        "The learning rate is 30 times too high.",
        planting.with_optimiser(planting.scaled(30.0)),
        optimisation.RATE_TOO_HIGH,
        ("TB210",),
    ),
    Fault(
        "rate_too_low",
        "optimisation",
        "The learning rate is 30 times too low.",
        planting.with_optimiser(planting.scaled(1 / 30)),
        optimisation.RATE_TOO_LOW,
        ("TB211",),
    ),
    Fault(
        "gradient_not_reset",
        "optimisation",
        "Gradients add up from step to step.",
        planting.with_optimiser(planting.accumulating),
        optimisation.NOT_RESET,
        ("TB213",),
    ),
    Fault(
        "batches_dropped",
        "optimisation",
        "Accumulation over four batches keeps the last one only.",
        planting.with_optimiser(planting.dropping),
        optimisation.BATCHES_DROPPED,
        ("TB214",),
    ),
    Fault(
        "everything_clipped",
        "optimisation",
        "Entries of the gradient are clipped at 1e-8.",
        planting.with_optimiser(planting.clipping),
        optimisation.EVERYTHING_CLIPPED,
        ("TB215",),
    ),
    Fault(
        "proposal_frozen",
        "optimisation",
        "The proposal's parameters were never handed to the optimiser.",
        planting.with_optimiser(planting.freezing_proposal),
        optimisation.MODULE_FROZEN,
        ("TB212",),
    ),
    Fault(
        "large_heads",
        "optimisation",
        "Output weights start fifty times too large.",
        planting.large_heads,
        optimisation.INITIAL_SCALE,
        ("TB217",),
        _BITS,
    ),
    Fault(
        "no_transform",
        "data",
        "The transform that makes bits of grey levels does nothing.",
        planting.no_transform,
        data.OFF_SUPPORT,
        ("TB502",),
        _BITS,
    ),
    Fault(
        "held_out_inverted",
        "data",
        "Ink and paper are exchanged in the held-out split.",
        planting.with_split("valid", planting.inverted),
        data.SPLITS_DIFFER,
        ("TB503",),
    ),
    Fault(
        "rows_duplicated",
        "data",
        "The training split is 64 rows, over and over.",
        planting.with_split("train", planting.repeated),
        data.DUPLICATES,
        ("TB504",),
    ),
    Fault(
        "trained_on_validation",
        "leakage and mode",
        "The held-out rows are in the training split.",
        planting.validation_in_training,
        data.OVERLAP,
        ("TB505",),
    ),
    Fault(
        "nan_in_data",
        "data",
        "One number of the training split is NaN.",
        planting.with_split("train", planting.with_nan),
        data.BAD_VALUES,
        ("TB501",),
        ("vae/digits-gaussian",),
    ),
    Fault(
        "labels_shifted",
        "data",
        "Every image has the label of the row before.",
        planting.shift_labels,
        data.LABELS_EMPTY,
        ("TB506",),
        ("cvae/digits",),
    ),
    Fault(
        "evaluation_law",
        "leakage and mode",
        "Evaluation thresholds the grey levels that training draws bits from.",
        planting.thresholded,
        evaluation.EVALUATED_LAW,
        ("TB601",),
        _BITS,
    ),
    Fault(
        "evaluation_dropout",
        "leakage and mode",
        "Evaluation runs with a tenth of the decoder's hidden units off.",
        planting.evaluated_with_dropout,
        evaluation.EVALUATED_NETWORK,
        ("TB601",),
    ),
    Fault(
        "evaluation_per_pixel",
        "masks, padding, units",
        "Evaluation averages log p(x | z) over pixels.",
        planting.mean_over_pixels,
        evaluation.EVALUATED_SCALE,
        ("TB601",),
    ),
    Fault(
        "evaluation_without_kl",
        "leakage and mode",
        "Evaluation reports the reconstruction alone.",
        planting.with_evaluation(planting.without_kl),
        evaluation.EVALUATED_SITE,
        ("TB601",),
    ),
    Fault(
        "masks_only_in_training",
        "masks, padding, units",
        "Particles read their source without its padding mask; the teacher-forced pass has it.",
        planting_choices.with_particles(lambda p: planting_choices.Unmasked(p.model)),
        choices.MASKS_DIFFER,
        ("TB106",),
        _DOUBLING,
    ),
    Fault(
        "carried_without_its_end",
        "state",
        "Particles hand on what they built without the position of the end.",
        planting_choices.with_particles(lambda p: planting_choices.WithoutItsEnd(p.model)),
        choices.CARRIED_STATE_DIFFERS,
        ("TB107",),
        _DOUBLING,
    ),
    Fault(
        "cache_not_gathered",
        "state",
        "Resampling gathers the particles but not their key-value caches.",
        planting_choices.cache_not_gathered,
        choices.STATE_NOT_GATHERED,
        ("TB108",),
        _DOUBLING,
    ),
    Fault(
        "argmax_particles",
        "inference",
        "Every particle takes the most probable edit and is weighted as if it had drawn it.",
        planting_choices.with_particles(lambda p: planting_choices.Argmax(p.model)),
        choices.ARGMAX_CHOICES,
        ("TB109",),
        _DOUBLING,
    ),
    Fault(
        "log_q_of_one_path",
        "not a probability model",
        "log q is that of the positions dropped, where equal words leave the same string.",
        planting_choices.one_path,
        choices.ONE_PATH,
        ("TB110",),
        ("edits/doubling-drop",),
    ),
    Fault(
        "end_trained_twice",
        "objective",
        "The target of a string's end is set for two ops at once.",
        planting_choices.end_trained_twice,
        choices.SECOND_TARGET,
        ("TB203",),
        _DOUBLING,
    ),
    Fault(
        "heads_averaged_apart",
        "objective",
        "The losses of the three heads are averaged each over its own decisions.",
        planting_choices.heads_averaged,
        objective.HEADS_AVERAGED_APART,
        ("TB201",),
        _DOUBLING,
    ),
    Fault(
        "normaliser_discarded",
        "inference",
        "Evaluation reports the log of a normalised weight.",
        planting_choices.normaliser_discarded,
        evaluation.NORMALISER_DISCARDED,
        ("TB601",),
        _DOUBLING,
    ),
    Fault(
        "evaluated_under_another_law",
        "leakage and mode",
        "Trajectories are halved in training and dropped at random in evaluation.",
        planting_choices.other_law_at_evaluation,
        evaluation.EVALUATED_UNDER_OTHER_LAW,
        ("TB604",),
        ("edits/doubling", "edits/doubling-one-by-one"),
    ),
    Fault(
        "letters_interfere",
        "optimisation",
        "One letter per step at thirty times the learning rate: each step undoes the others.",
        planting.with_optimiser(planting.scaled(30.0)),
        optimisation.ROWS_INTERFERE,
        ("TB219", "TB210"),
        ("edits/doubling-one-by-one",),
    ),
]

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _CATALOGUE}
