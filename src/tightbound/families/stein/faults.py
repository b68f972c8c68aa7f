"""How runs on Stein mixtures are examined: whom faults are planted in, traps, and the faults."""

from typing import Any

from tightbound.diagnose.checks import mixtures as checks
from tightbound.diagnose.checks import objective, probability
from tightbound.drill.fault import Examination, Fault, Planted, on
from tightbound.drill.faults import GENERAL
from tightbound.drill.planting import with_optimiser, with_proposal
from tightbound.families.lookup import Recipe
from tightbound.families.stein import planting
from tightbound.families.stein import recipe_encoders as stein_vae
from tightbound.families.stein import recipe_points as stein_points
from tightbound.families.stein import recipe_targets as stein_targets
from tightbound.families.stein.recipe_encoders import SteinVAERecipe
from tightbound.families.stein.recipe_points import PointModelSettings, SteinPointRecipe
from tightbound.families.stein.recipe_targets import SteinTargetRecipe, TargetSettings
from tightbound.families.stein.settings import GuideSettings, MixtureSettings
from tightbound.unread import replaced

_STEIN_DIGITS = stein_vae.RECIPES["stein/digits"]

_LINE = stein_points.RECIPES["stein/line"]

_GAUSSIAN = stein_targets.RECIPES["stein/gaussian"]

_THREE = MixtureSettings(num_components=3)


def _encoders(name: str, **changes: Any) -> SteinVAERecipe:
    """Three small encoders and one decoder."""
    small = replaced(
        _STEIN_DIGITS,
        name=name,
        model=replaced(_STEIN_DIGITS.model, hidden_size=32),
        mixture=_THREE,
    )
    return replaced(small, **changes)


def _line(name: str, **changes: Any) -> SteinPointRecipe:
    """A quarter of the points at every step, so that each stands for four."""
    return replaced(replaced(_LINE, name=name, run=replaced(_LINE.run, batch_size=25)), **changes)


def _gaussian(name: str, **changes: Any) -> SteinTargetRecipe:
    return replaced(_GAUSSIAN, name=name, **changes)


def _three(**settings: Any) -> dict[str, Any]:
    return {"mixture": replaced(_THREE, **settings)}


def _of_line(**settings: Any) -> dict[str, Any]:
    return {"mixture": replaced(_LINE.mixture, **settings)}


SUBJECTS: tuple[Recipe, ...] = (
    _encoders("stein/digits"),
    _line("stein/line"),
    _gaussian("stein/gaussian"),
)

TRAPS: tuple[Recipe, ...] = (
    _encoders("stein/one-component", **_three(num_components=1)),
    _encoders("stein/single-guide", **_three(method="single-guide")),
    _encoders("stein/imq", **_three(kernel="imq")),
    _encoders("stein/per-site", **_three(per_site=True)),
    _encoders("stein/large-repulsion", **_three(repulsion=10.0)),
    _encoders("stein/no-repulsion", **_three(repulsion=0.0)),
    _encoders("stein/cool", **_three(temperature=0.5)),
    _encoders("stein/model-rate", **_three(model_rate=5e-4)),
    _line("stein/svgd", **_of_line(method="svgd", num_components=10)),
    _line("stein/mean-field", guide=GuideSettings()),
    _line("stein/linear-kernel", **_of_line(kernel="linear")),
    _line("stein/all-points", run=_LINE.run),
    _line(
        "stein/small-network",
        model=PointModelSettings("network", hidden_sizes=(8,)),
        guide=GuideSettings(start_scale=0.05, start_spread=0.3),
    ),
    _gaussian("stein/far-start", guide=GuideSettings(start_spread=2.0)),
    _gaussian("stein/correlated", target=TargetSettings("correlated-gaussian")),
    _gaussian("stein/two-modes", target=TargetSettings("two-modes", latent_size=1)),
)

_FAULTS = (
    Fault(
        "force_norm_as_loss",
        "Stein",
        "The number shown for the loss is the norm of the Stein force.",
        planting.force_norm_as_loss,
        objective.FORCE_NORM_AS_LOSS,
        ("TB201",),
    ),
    Fault(
        "constraint_applied_twice",
        "Stein",
        "Components draw with a scale and are scored with softplus of it.",
        with_proposal(planting.constrained_again),
        probability.SCALES_DIFFER,
        ("TB102",),
    ),
    Fault(
        "repulsion_missing",
        "Stein",
        "The components' repulsion is left out.",
        planting.with_repulsion_times(0.0),
        checks.REPULSION_MISSING,
        ("TB220",),
    ),
    Fault(
        "repulsion_sign_flipped",
        "Stein",
        "The components' repulsion has the sign of a loss.",
        planting.with_repulsion_times(-1.0),
        checks.REPULSION_FLIPPED,
        ("TB220",),
    ),
    Fault(
        "components_equal_at_start",
        "Stein",
        "All components are made with one key.",
        planting.equal_at_start,
        checks.EQUAL_AT_START,
        ("TB115",),
    ),
    Fault(
        "mixture_over_the_minibatch",
        "Stein",
        "log q is a mixture over whole minibatches.",
        planting.with_another_log_q(planting.mixed_over_batch),
        checks.MIXED_OVER_BATCH,
        ("TB116", "TB201"),
    ),
    Fault(
        "own_component_only",
        "Stein",
        "A draw is scored by the component that has drawn it.",
        planting.with_another_log_q(planting.own_component_only),
        checks.OWN_COMPONENT_ONLY,
        ("TB116", "TB201"),
        # far apart, components score their own draws log m above the mixture: log m missing
    ),
    Fault(
        "log_m_missing",
        "Stein",
        "The components' densities are added and not divided by their number.",
        with_proposal(planting.WithoutLogM),
        checks.LOG_M_MISSING,
        ("TB116", "TB104"),
    ),
    Fault(
        "minibatch_weight_missing",
        "Stein",
        "Points of a minibatch stand for themselves alone, not for N / n.",
        planting.weight_missing,
        objective.WEIGHT_MISSING,
        ("TB201",),
    ),
    Fault(
        "component_never_moves",
        "Stein",
        "The optimiser was given the first component only.",
        with_optimiser(planting.moving_one_component),
        checks.COMPONENT_FROZEN,
        ("TB222",),
    ),
    Fault(
        "component_never_drawn",
        "Stein",
        "All draws are of the first component, scored by the whole mixture.",
        with_proposal(planting.drawing_from_one),
        checks.COMPONENT_NEVER_DRAWN,
        ("TB222",),
    ),
    Fault(
        "component_unused",
        "Stein",
        "One encoder begins far narrower than the others, from which the decoder learns.",
        with_proposal(planting.others_too_wide),
        checks.ONE_TAKES_ALL,
        ("TB405",),
    ),
    Fault(
        "component_constants_missing",
        "Stein",
        "The gradient passes through the parameters in log q, which are to be held constant.",
        planting.nothing_held_constant,
        objective.CONSTANTS_MISSING,
        ("TB202",),
    ),
)
_OWN = {fault.name: fault for fault in _FAULTS}

PLANTED: tuple[Planted, ...] = (
    *on(
        (
            "stein/digits",
            "stein/line",
            "stein/gaussian",
        ),
        _OWN["force_norm_as_loss"],
        _OWN["repulsion_missing"],
        _OWN["repulsion_sign_flipped"],
        _OWN["components_equal_at_start"],
        _OWN["log_m_missing"],
        _OWN["component_never_moves"],
        _OWN["component_never_drawn"],
        _OWN["component_constants_missing"],
    ),
    *on(
        ("stein/gaussian",),
        _OWN["constraint_applied_twice"],
    ),
    *on(
        ("stein/digits",),
        _OWN["mixture_over_the_minibatch"],
        _OWN["own_component_only"],
        _OWN["component_unused"],
        GENERAL["same_image_for_all"],
    ),
    *on(
        ("stein/line",),
        _OWN["minibatch_weight_missing"],
    ),
    *on(
        (
            "stein/digits",
            "stein/line",
        ),
        GENERAL["rate_far_too_high"],
    ),
)

EXAMINATION = Examination(SUBJECTS, TRAPS, PLANTED)
