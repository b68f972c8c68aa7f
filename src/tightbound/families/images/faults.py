"""How runs on images are examined: whom faults are planted in, traps, and the faults."""

from typing import Any

from tightbound.data.images import ImageData
from tightbound.drill import altered, planting
from tightbound.drill.altered import Altered
from tightbound.drill.fault import Examination, Planted, on
from tightbound.drill.faults import GENERAL
from tightbound.families.images import recipe as vae
from tightbound.families.images.recipe import VAERecipe
from tightbound.families.lookup import Recipe
from tightbound.train.settings import ObjectiveSettings, OptimiserSettings, PlateauSettings
from tightbound.unread import replaced

_BASE = vae.RECIPES["vae/digits"]


def _digits(name: str, **changes: Any) -> VAERecipe:
    return replaced(_BASE, name=name, **changes)


SUBJECTS: tuple[Recipe, ...] = (
    _digits("vae/digits"),
    _digits(
        "vae/digits-gaussian",
        data=ImageData("digits", law="grey"),
        model=replaced(_BASE.model, output="gaussian", output_scale=0.5),
    ),
    _digits(
        "vae/digits-iwae",
        objective=ObjectiveSettings(estimator="iwae", num_samples=5),
    ),
    _digits("cvae/digits", model=replaced(_BASE.model, family="cvae")),
)


def _objective(**settings: Any) -> dict[str, Any]:
    return {"objective": ObjectiveSettings(**settings)}


def _rate(**settings: Any) -> dict[str, Any]:
    return {"optimiser": replaced(_BASE.optimiser, **settings)}


TRAPS: tuple[Recipe, ...] = (
    _digits("kl-warm-up", **_objective(kl_warmup_steps=500)),
    _digits("kl-cycles", **_objective(kl_warmup_steps=50, kl_cycle_steps=100)),
    _digits("beta-0.5", **_objective(kl_weight=0.5)),
    _digits("beta-4", **_objective(kl_weight=4.0)),
    _digits("free-bits", **_objective(free_bits=2.0)),
    _digits("rate-warm-up", **_rate(warmup_steps=200)),
    _digits("rate-restarts", **_rate(decay="cosine", restart_every=100)),
    _digits("clipped-norm", **_rate(clip_norm=5.0)),
    _digits("clipped-entries", **_rate(clip_value=0.5)),
    _digits("sticking-the-landing", **_objective(path="stop_proposal")),
    _digits("vimco", **_objective(estimator="vimco", num_samples=5)),
    _digits("wake-sleep", **_objective(estimator="wake-sleep", num_samples=5)),
    _digits("renyi", **_objective(estimator="renyi", num_samples=5)),
    _digits("doubly", **_objective(estimator="iwae", num_samples=5, path="doubly")),
    _digits(
        "legitimate-collapse",
        data=ImageData("digits", law="grey"),
        model=replaced(_BASE.model, output="gaussian", output_scale=3.0, learn_output_scale=False),
    ),
    _digits("tiny-data", data=ImageData("digits", num_valid=1397)),
    _digits("two-latents", model=replaced(_BASE.model, latent_size=2)),
    _digits("deep", model=replaced(_BASE.model, family="deep-vae", depth=2, activation="tanh")),
    _digits("plateau", run=replaced(_BASE.run, steps=300, plateau=PlateauSettings(patience=1))),
    _digits("sgd", optimiser=OptimiserSettings("sgd", learning_rate=0.01)),
    _digits("adagrad", optimiser=OptimiserSettings("adagrad", learning_rate=0.05)),
    Altered("closed-form-kl", _BASE, planting.with_closed_kl(planting.standard_kl)),
    Altered("accumulated-gradients", _BASE, altered.accumulating(4)),
    Altered("student-t", SUBJECTS[1], altered.student_t),
    _digits("rate-warm-up-beyond-the-probes", **_rate(warmup_steps=1500)),
    _digits("relu-wide", model=replaced(_BASE.model, activation="relu", hidden_size=400)),
)

PLANTED: tuple[Planted, ...] = (
    *on(
        (
            "vae/digits",
            "vae/digits-gaussian",
        ),
        GENERAL["kl_sign_flipped"],
        GENERAL["kl_missing"],
        GENERAL["log_q_missing"],
        GENERAL["kl_averaged"],
        GENERAL["kl_summed_over_batch"],
        GENERAL["closed_kl_half_missing"],
        GENERAL["closed_kl_averaged"],
        GENERAL["log_variance_as_log_scale"],
        GENERAL["log_scale_as_log_variance"],
        GENERAL["minibatch_scale"],
        GENERAL["draw_detached"],
    ),
    *on(
        ("vae/digits-iwae",),
        GENERAL["mean_of_logs"],
        GENERAL["missing_log_k"],
        GENERAL["self_normalised"],
    ),
    *on(
        (
            "vae/digits",
            "vae/digits-gaussian",
            "vae/digits-iwae",
        ),
        GENERAL["batch_statistics"],
        GENERAL["constant_in_density"],
        GENERAL["variance_for_scale"],
        GENERAL["no_latent_noise"],
        GENERAL["wide_prior"],
        GENERAL["decoder_blind"],
        GENERAL["identity_latents"],
        GENERAL["rate_too_high"],
        GENERAL["rate_too_low"],
        GENERAL["gradient_not_reset"],
        GENERAL["batches_dropped"],
        GENERAL["everything_clipped"],
        GENERAL["proposal_frozen"],
        GENERAL["held_out_inverted"],
        GENERAL["rows_duplicated"],
        GENERAL["trained_on_validation"],
        GENERAL["evaluation_dropout"],
        GENERAL["evaluation_per_pixel"],
        GENERAL["evaluation_without_kl"],
    ),
    *on(
        (
            "vae/digits",
            "vae/digits-iwae",
        ),
        GENERAL["density_averaged"],
        GENERAL["density_not_normalised"],
        GENERAL["large_heads"],
        GENERAL["no_transform"],
        GENERAL["evaluation_law"],
    ),
    *on(
        ("vae/digits-gaussian",),
        GENERAL["nan_in_data"],
    ),
    *on(
        ("cvae/digits",),
        GENERAL["labels_shifted"],
    ),
    *on(("vae/digits", "vae/digits-iwae"), GENERAL["constant_added_to_bits"]),
    *on(("vae/digits", "vae/digits-gaussian"), GENERAL["constant_in_prior"]),
)

EXAMINATION = Examination(SUBJECTS, TRAPS, PLANTED)
