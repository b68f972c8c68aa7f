"""Whom the drill plants faults in: a few small recipes of every family, and healthy runs that look ill."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tightbound.data.images import ImageData
from tightbound.drill import planting
from tightbound.families.edits import recipe as edits
from tightbound.families.edits.recipe import DoublingData, EditRecipe, EditTraining, NoisingSettings
from tightbound.families.images import recipe as vae
from tightbound.families.images.recipe import VAERecipe
from tightbound.families.language import recipe as dlm
from tightbound.families.language.recipe import LanguageRecipe
from tightbound.families.language.settings import DropoutSettings, LatentSettings, StructureSettings
from tightbound.families.lookup import Recipe
from tightbound.families.sequences import recipe as vrnn
from tightbound.families.sequences.objective import StepObjective
from tightbound.families.sequences.recipe import SequenceRecipe
from tightbound.families.stein import recipe_encoders as stein_vae
from tightbound.families.stein import recipe_points as stein_points
from tightbound.families.stein import recipe_targets as stein_targets
from tightbound.families.stein.recipe_encoders import SteinVAERecipe
from tightbound.families.stein.recipe_points import PointModelSettings, SteinPointRecipe
from tightbound.families.stein.recipe_targets import SteinTargetRecipe, TargetSettings
from tightbound.families.stein.settings import GuideSettings, MixtureSettings
from tightbound.train.settings import ObjectiveSettings, OptimiserSettings, PlateauSettings
from tightbound.train.setup import Setup
from tightbound.unread import replaced as replace

_BASE = vae.RECIPES["vae/digits"]


def _digits(name: str, **changes: Any) -> VAERecipe:
    return replace(_BASE, name=name, **changes)


_VAE_SUBJECTS: list[Recipe] = [
    _digits("vae/digits"),
    _digits(
        "vae/digits-gaussian",
        data=ImageData("digits", law="grey"),
        model=replace(_BASE.model, output="gaussian", output_scale=0.5),
    ),
    _digits(
        "vae/digits-iwae",
        objective=ObjectiveSettings(estimator="iwae", num_samples=5),
    ),
    _digits("cvae/digits", model=replace(_BASE.model, family="cvae")),
]


@dataclass(frozen=True)
class _ClosedFormKL(VAERecipe):
    """Raises the ELBO of one draw with its KL in closed form; the claim is the plain ELBO."""

    def build(self, seed: int) -> Setup:
        return planting.with_closed_kl(planting.standard_kl)(super().build(seed))


def _objective(**settings: Any) -> dict[str, Any]:
    return {"objective": ObjectiveSettings(**settings)}


def _rate(**settings: Any) -> dict[str, Any]:
    return {"optimiser": replace(_BASE.optimiser, **settings)}


# Healthy runs that look ill: each does on purpose what a fault does by mistake.
_VAE_TRAPS: list[Recipe] = [
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
        model=replace(_BASE.model, output="gaussian", output_scale=3.0, learn_output_scale=False),
    ),
    _digits("tiny-data", data=ImageData("digits", num_valid=1397)),
    _digits("two-latents", model=replace(_BASE.model, latent_size=2)),
    _digits("deep", model=replace(_BASE.model, family="deep-vae", depth=2, activation="tanh")),
    _digits("plateau", run=replace(_BASE.run, steps=300, plateau=PlateauSettings(patience=1))),
    _digits("sgd", optimiser=OptimiserSettings("sgd", learning_rate=0.01)),
    _digits("adagrad", optimiser=OptimiserSettings("adagrad", learning_rate=0.05)),
    _ClosedFormKL("closed-form-kl", _BASE.summary, _BASE.data, _BASE.model, run=_BASE.run),
    _digits("relu-wide", model=replace(_BASE.model, activation="relu", hidden_size=400)),
]


_DOUBLING = edits.RECIPES["edits/doubling"]
_SMALL = replace(_DOUBLING.model, size=32, hidden_size=64, num_heads=2, num_layers=1)


def _doubling(name: str, **changes: Any) -> EditRecipe:
    """t, tt, tttt with a small network."""
    small = replace(
        _DOUBLING,
        name=name,
        data=DoublingData(doublings=2),
        noising=NoisingSettings(max_steps=3),
        model=_SMALL,
        optimiser=replace(_DOUBLING.optimiser, learning_rate=3e-3),
    )
    return replace(small, **changes)


_DROP = NoisingSettings("token-drop", max_steps=3)
_EDIT_SUBJECTS: list[Recipe] = [
    _doubling("edits/doubling"),
    _doubling("edits/doubling-drop", noising=_DROP),
    _doubling(
        "edits/doubling-one-by-one",
        optimiser=OptimiserSettings(learning_rate=3e-4),
        run=replace(_DOUBLING.run, batch_size=1),
    ),
]
_EDIT_TRAPS: list[Recipe] = [
    _doubling("edits/static", model=replace(_SMALL, handed_on="edits-within")),
    _doubling(
        "edits/summed-out",
        model=replace(_SMALL, handed_on="tokens", temperature=1.0),
        training=EditTraining("exact"),
    ),
    _doubling("edits/supervised", training=EditTraining("supervised")),
    _doubling("edits/one-particle", model=replace(_SMALL, num_particles=1)),
    _doubling("edits/held-out-letters", data=DoublingData(doublings=2, held_out_letters=True)),
    _doubling("edits/redrawn-letters", model=replace(_SMALL, exchangeable=True)),
    _doubling("edits/collapsed-rounds", noising=replace(_DROP, collapse=True)),
    _doubling("edits/knows-the-step", model=replace(_SMALL, condition_on_step=True)),
]

_STROKES = vrnn.RECIPES["vrnn/toy-strokes"]
_ROWS = vrnn.RECIPES["vrnn/digits"]


def _strokes(name: str, **changes: Any) -> SequenceRecipe:
    return replace(_STROKES, name=name, **changes)


def _strokes_model(**settings: Any) -> dict[str, Any]:
    return {"model": replace(_STROKES.model, **settings)}


def _steps(**settings: Any) -> dict[str, Any]:
    return {"objective": StepObjective(**settings)}


_SEQUENCE_SUBJECTS: list[Recipe] = [
    _strokes("vrnn/toy-strokes"),
    replace(_ROWS, name="vrnn/digits"),
    replace(_ROWS, name="vrnn/digits-fivo", objective=StepObjective("fivo", num_samples=4)),
    _strokes("vrnn/toy-dmm", **_strokes_model(family="dmm", smoothing=True, output="bivariate")),
]
_SEQUENCE_TRAPS: list[Recipe] = [
    _strokes("vrnn/no-latents", **_strokes_model(family="rnn")),
    _strokes("vrnn/fixed-prior", **_strokes_model(learned_prior=False)),
    _strokes("vrnn/smoothing", **_strokes_model(smoothing=True)),
    _strokes("vrnn/lstm", **_strokes_model(cell="lstm")),
    _strokes("vrnn/kl-warm-up", **_steps(kl_warmup_steps=500)),
    _strokes("vrnn/beta-0.5", **_steps(kl_weight=0.5)),
    _strokes("vrnn/free-bits", **_steps(free_bits=5.0)),
    _strokes("vrnn/iwae", **_steps(estimator="iwae", num_samples=5)),
    _strokes("vrnn/sticking-the-landing", **_steps(path="stop_proposal")),
    _strokes("vrnn/long-and-padded", data=replace(_STROKES.data, num_letters=16)),
    _strokes("vrnn/tiny-data", data=replace(_STROKES.data, max_rows=64)),
    _strokes("vrnn/unclipped", optimiser=OptimiserSettings(learning_rate=3e-3)),
    replace(_ROWS, name="vrnn/digits-no-latents", model=replace(_ROWS.model, family="rnn")),
]

_GRAMMAR = dlm.RECIPES["dlm/toy-grammar"]


def _grammar(name: str, **changes: Any) -> LanguageRecipe:
    return replace(_GRAMMAR, name=name, **changes)


def _grammar_model(**settings: Any) -> dict[str, Any]:
    return {"model": replace(_GRAMMAR.model, **settings)}


def _structure(kind: Any, **settings: Any) -> dict[str, Any]:
    """Transitions from the word before, through one of the structures."""
    structure = StructureSettings(kind, **settings)
    return _grammar_model(context="previous", structure=structure, normalise_contexts=False)


_OF_SENTENCE = _grammar_model(
    context="gru", emission="vector", latent=LatentSettings("gaussian", size=4)
)


def _of_sentence(**settings: Any) -> dict[str, Any]:
    """A sequence VAE with other settings of its latent."""
    model = _OF_SENTENCE["model"]
    return {"model": replace(model, latent=replace(model.latent, **settings))}


_LANGUAGE_SUBJECTS: list[Recipe] = [
    _grammar("dlm/toy-grammar"),
    _grammar(
        "dlm/toy-window",
        **_grammar_model(
            context="window",
            emission="vector",
            normalise_contexts=False,
            dropout=DropoutSettings(output=0.1),
        ),
    ),
    _grammar("dlm/toy-starts", **_grammar_model(context="tanh", num_starts=5)),
    _grammar("dlm/toy-factorial", **_structure("factorial")),
    _grammar("dlm/toy-vae", **_OF_SENTENCE),
]
_LANGUAGE_TRAPS: list[Recipe] = [
    _grammar("dlm/not-normalised", **_grammar_model(normalisation="none")),
    _grammar("dlm/running-deviation", **_grammar_model(normalisation="running")),
    _grammar("dlm/gpt", **_grammar_model(context="gpt", emission="vector")),
    _grammar("dlm/uniform-parents", **_structure("parents", learned_prior=False)),
    _grammar(
        "dlm/permutations",
        **_grammar_model(
            context="window",
            window=3,
            structure=StructureSettings("permutations"),
            normalise_contexts=False,
        ),
    ),
    _grammar("dlm/word-chain", **_structure("word-chain", num_words=2)),
    _grammar("dlm/mutated", **_grammar_model(context="single-gate", mutations=(0, 4, 5))),
    _grammar(
        "dlm/unigrams",
        **_grammar_model(context="nothing", components="tied", normalise_contexts=False),
    ),
    _grammar(
        "dlm/variational-dropout",
        **_grammar_model(dropout=DropoutSettings(input=0.5, output=0.5, state=0.5, shared=True)),
    ),
    _grammar(
        "dlm/rmsprop",
        optimiser=OptimiserSettings("rmsprop", learning_rate=1e-3, epsilon=0.01, memory=0.99),
    ),
    _grammar("dlm/kl-warm-up", **_OF_SENTENCE, objective=ObjectiveSettings(kl_warmup_steps=500)),
    _grammar("dlm/word-dropout", **_of_sentence(word_dropout=0.5)),
    _grammar("dlm/free-components", **_grammar_model(components="free")),
    _grammar("dlm/tiny-data", data=replace(_GRAMMAR.data, max_rows=200)),
]

_STEIN_DIGITS = stein_vae.RECIPES["stein/digits"]
_LINE = stein_points.RECIPES["stein/line"]
_GAUSSIAN = stein_targets.RECIPES["stein/gaussian"]
_THREE = MixtureSettings(num_components=3)


def _encoders(name: str, **changes: Any) -> SteinVAERecipe:
    """Three small encoders and one decoder."""
    small = replace(
        _STEIN_DIGITS,
        name=name,
        model=replace(_STEIN_DIGITS.model, hidden_size=32),
        mixture=_THREE,
    )
    return replace(small, **changes)


def _line(name: str, **changes: Any) -> SteinPointRecipe:
    """A quarter of the points at every step, so that each stands for four."""
    return replace(replace(_LINE, name=name, run=replace(_LINE.run, batch_size=25)), **changes)


def _gaussian(name: str, **changes: Any) -> SteinTargetRecipe:
    return replace(_GAUSSIAN, name=name, **changes)


def _three(**settings: Any) -> dict[str, Any]:
    return {"mixture": replace(_THREE, **settings)}


def _of_line(**settings: Any) -> dict[str, Any]:
    return {"mixture": replace(_LINE.mixture, **settings)}


_STEIN_SUBJECTS: list[Recipe] = [
    _encoders("stein/digits"),
    _line("stein/line"),
    _gaussian("stein/gaussian"),
]
_STEIN_TRAPS: list[Recipe] = [
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
]

SUBJECTS: Mapping[str, Recipe] = {
    r.name: r
    for r in [
        *_VAE_SUBJECTS,
        *_EDIT_SUBJECTS,
        *_SEQUENCE_SUBJECTS,
        *_LANGUAGE_SUBJECTS,
        *_STEIN_SUBJECTS,
    ]
}
# Each does on purpose what a fault does by mistake.
TRAPS: Mapping[str, Recipe] = {
    r.name: r
    for r in [*_VAE_TRAPS, *_EDIT_TRAPS, *_SEQUENCE_TRAPS, *_LANGUAGE_TRAPS, *_STEIN_TRAPS]
}


def family_of(recipe: str) -> str:
    """The family of a subject or a trap: "edits", "vrnn", "dlm" and "stein" by its name, "vae" for all
    others (the conditional one and the traps of the first family among them)."""
    start = recipe.split("/")[0]
    by_name = {"edits": "edits", "vrnn": "vrnn", "ssm": "vrnn", "dlm": "dlm", "stein": "stein"}
    return by_name.get(start, "vae")


FAMILIES = ("vae", "edits", "vrnn", "dlm", "stein")
