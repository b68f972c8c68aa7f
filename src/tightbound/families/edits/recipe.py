"""Text written by edits: doublings and other toys, English web text with its trees, captions."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import tyro

from tightbound.errors import UserError
from tightbound.families.edits import FAMILY
from tightbound.families.edits.settings import (
    CaptionData,
    DoublingData,
    EditModelSettings,
    EditTraining,
    NoisingSettings,
    PrefixDoublingData,
    RemapData,
    TextData,
    TreebankData,
)
from tightbound.families.edits.sources import load, noising_of
from tightbound.train.settings import OptimiserSettings, RunSettings
from tightbound.values import (
    require_meant,
)

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    from jaxtyping import PRNGKeyArray

    from tightbound.data.vocabulary import Vocabulary
    from tightbound.families.edits.model import EditModel
    from tightbound.families.edits.noising import AbstractNoising
    from tightbound.train.objective import Claim
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class EditRecipe:
    """Text written by edits."""

    name: tyro.conf.Suppress[str]
    summary: tyro.conf.Suppress[str]
    data: tyro.conf.AvoidSubcommands[TextData] = field(default_factory=DoublingData)
    noising: NoisingSettings = field(default_factory=NoisingSettings)
    evaluate_law: Literal["as-trained", "token-drop", "halving"] = "as-trained"
    """Trajectories that evaluation draws, where they are not those of training."""
    model: EditModelSettings = field(default_factory=EditModelSettings)
    training: EditTraining = field(default_factory=EditTraining)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self):
        require_meant(self)

    def build(self, seed: int) -> "Setup":
        """Load the sentences and make everything the run needs."""
        from functools import partial

        from tightbound.data.baselines.sentences import token_baselines
        from tightbound.evaluation import evaluate
        from tightbound.families.edits.details import Details
        from tightbound.train.run import run_keys
        from tightbound.train.schedules import optimiser
        from tightbound.train.setup import Setup

        splits, vocabulary, notes = load(self.data, self.noising)
        init_key, _, _ = run_keys(seed)
        max_length = splits["train"].mask.shape[1]
        model = _model(self.model, len(vocabulary), max_length, self.noising.max_steps, init_key)
        noising = noising_of(self.noising, vocabulary)
        evaluated = _evaluation_noising(self, noising, vocabulary)
        if evaluated is not noising:  # a number must say that its trajectories are of another law
            law = f"trajectories by {evaluated.description}"
            splits = {
                name: split if name == "train" else dataclasses.replace(split, law=law)
                for name, split in splits.items()
            }
        objective = _objective(self.training, self.model)
        return Setup(
            name=self.name,
            model=model,
            proposal=noising,
            data=splits,
            objective=objective,
            claim=objective,
            optimiser=optimiser(self.optimiser, self.run.steps),
            run=self.run,
            evaluator=partial(evaluate, max_draws=_MAX_DRAWS),
            evaluation_proposal=None if evaluated is noising else evaluated,
            baselines=token_baselines(splits["train"], splits["valid"], len(vocabulary)),
            is_bound=evaluated.is_exact,
            family=FAMILY,
            details=Details(vocabulary),
            notes=notes,
            seed=seed,
        )


def _model(
    settings: EditModelSettings,
    vocabulary_size: int,
    max_length: int,
    max_steps: int,
    key: "PRNGKeyArray",
) -> "EditModel":
    from tightbound.families.edits.model import EditModel

    return EditModel(
        vocabulary_size,
        max_length,
        max_steps,
        size=settings.size,
        num_heads=settings.num_heads,
        hidden_size=settings.hidden_size,
        num_layers=settings.num_layers,
        handed_on=settings.handed_on,
        ops=settings.ops,
        condition_on_step=settings.condition_on_step,
        norm_place=settings.norm_place,
        dropout=settings.dropout,
        embedding_scale=settings.embedding_scale,
        num_particles=1 if settings.handed_on == "tokens" else settings.num_particles,
        threshold=settings.threshold,
        every=settings.resample_every,
        temperature=settings.temperature,
        key=key,
    )


def _objective(training: EditTraining, model: EditModelSettings) -> "Claim":
    from tightbound.families.edits.alignment import align
    from tightbound.train.em import Exchangeable, MonteCarloEM, Supervised
    from tightbound.train.objective import Objective

    if training.method == "exact" and model.handed_on != "tokens":
        raise UserError(
            f"The training method 'exact' was combined with {model.handed_on!r} handed on, where "
            "edits do not sum out. Use --model.handed-on tokens, or 'monte-carlo-em'."
        )
    if training.method == "exact" and model.dropout > 0:
        raise UserError(
            f"A dropout of {model.dropout} was combined with the training method 'exact', which sums edits "
            "out without any noise. Leave `dropout` at 0, or use 'monte-carlo-em'."
        )
    if training.num_samples > 1 and training.method == "supervised":
        raise UserError(
            f"{training.num_samples} samples were asked for with 'supervised', which reads one path "
            "off every trajectory. Leave `num_samples` at 1."
        )
    match training.method:
        case "monte-carlo-em":
            objective = MonteCarloEM(num_samples=training.num_samples)
        case "supervised":
            objective = Supervised(choices=align)
        case "exact":
            name = "elbo" if training.num_samples == 1 else "iwae"
            objective = Objective(name, num_samples=training.num_samples)
    built: Any = Exchangeable(objective) if model.exchangeable else objective
    return built


def _evaluation_noising(
    recipe: EditRecipe, trained: "AbstractNoising", vocabulary: "Vocabulary"
) -> "AbstractNoising":
    """The law of the trajectories that held-out numbers are made with."""
    if recipe.evaluate_law in ("as-trained", recipe.noising.law):
        return trained
    return noising_of(dataclasses.replace(recipe.noising, law=recipe.evaluate_law), vocabulary)


_MAX_DRAWS = 512  # at a time: a particle of an edit filter carries caches
_TOY_RUN = RunSettings(
    steps=500, batch_size=3, log_every=10, evaluate_every=10, checkpoint_every=100
)
_TOY_OPTIMISER = OptimiserSettings(
    learning_rate=1e-3, warmup_steps=20, decay="cosine", clip_norm=1.0
)
# A sharpened proposal keeps to one way of writing where many are as good (which word of t t t t is
# copied), so that the network does not have to read embeddings of every possible history.
_TOY_MODEL = EditModelSettings(temperature=0.3)
_DEEP_TEXT_MODEL = EditModelSettings(
    size=128, hidden_size=512, num_layers=2, num_heads=4, temperature=0.5
)
_TEXT_MODEL = EditModelSettings(
    size=128, hidden_size=512, num_layers=2, num_heads=4, handed_on="tokens"
)
_TOY_TRAINING = EditTraining(num_samples=4)
_TEXT_OPTIMISER = OptimiserSettings(
    "adam", learning_rate=1e-3, warmup_steps=100, decay="cosine", clip_norm=1.0
)
_TEXT_RUN = RunSettings(
    steps=2000, batch_size=32, log_every=10, evaluate_every=500, checkpoint_every=500,
    evaluate_samples=1,
)  # fmt: skip
_ORIGINAL = EditRecipe(
    "edits/doubling-original",
    "the configuration whose bound only went down: width 512, one letter per step, "
    "held-out letters under another law",
    data=DoublingData(held_out_letters=True),
    evaluate_law="token-drop",
    model=EditModelSettings(
        size=512,
        num_heads=8,
        hidden_size=2048,
        norm_place="post",
        dropout=0.1,
        embedding_scale=1.0,
        num_particles=1,
    ),
    optimiser=OptimiserSettings(learning_rate=3e-4),
    run=dataclasses.replace(_TOY_RUN, steps=200, batch_size=1),
)
_EWT = TreebankData(max_length=24)
_EWT_NOISING = NoisingSettings("leaf-pruning", max_steps=8)
_MULTI30K = CaptionData(min_count=2, max_length=20)
_INSERT_ONLY = dataclasses.replace(_TEXT_MODEL, ops="insert")
RECIPES: Mapping[str, EditRecipe] = {
    recipe.name: recipe
    for recipe in [
        EditRecipe(
            "edits/doubling",
            "t, tt, tttt, tttttttt for the letters a, b, c: a bound with a known limit, -log 3",
            model=_TOY_MODEL,
            training=_TOY_TRAINING,
            optimiser=_TOY_OPTIMISER,
            run=_TOY_RUN,
        ),
        EditRecipe(
            "edits/doubling-exchangeable",
            "the same with letters' embeddings redrawn for every batch; evaluated on x, y, z",
            data=DoublingData(held_out_letters=True),
            model=dataclasses.replace(_TOY_MODEL, exchangeable=True),
            training=_TOY_TRAINING,
            optimiser=_TOY_OPTIMISER,
            run=_TOY_RUN,
        ),
        _ORIGINAL,
        dataclasses.replace(
            _ORIGINAL,
            name="edits/doubling-same-trajectories",
            summary="the same configuration watched on the very trajectories it is trained on: its bound jumps",
            data=DoublingData(),
            evaluate_law="as-trained",
        ),
        EditRecipe(
            "edits/prefix-doubling",
            "u, uu, uuuu for random given strings u of two letters",
            data=PrefixDoublingData(doublings=2),
            noising=NoisingSettings("halving", max_steps=3),
            model=_TOY_MODEL,
            optimiser=_TOY_OPTIMISER,
            run=dataclasses.replace(_TOY_RUN, batch_size=32),
        ),
        EditRecipe(
            "edits/remap",
            "random strings, then every letter replaced by its image",
            data=RemapData(),
            noising=NoisingSettings("remap", max_steps=2),
            model=_TOY_MODEL,
            optimiser=_TOY_OPTIMISER,
            run=dataclasses.replace(_TOY_RUN, batch_size=32),
        ),
        EditRecipe(
            "edits/ewt",
            "English web text, pruned leaf by leaf along its gold trees, 3 to 8 strings",
            data=_EWT,
            noising=_EWT_NOISING,
            model=_TEXT_MODEL,
            training=EditTraining("exact"),
            optimiser=_TEXT_OPTIMISER,
            run=_TEXT_RUN,
        ),
        EditRecipe(
            "edits/ewt-deep",
            "the same, with edits' embeddings handed on from string to string: Monte Carlo EM",
            data=_EWT,
            noising=_EWT_NOISING,
            model=_DEEP_TEXT_MODEL,
            optimiser=_TEXT_OPTIMISER,
            run=_TEXT_RUN,
        ),
        EditRecipe(
            "edits/ewt-autoregressive",
            "the same sentences, written in one step word by word: the baseline in the same frame",
            data=_EWT,
            noising=NoisingSettings("one-step", max_steps=1),
            model=_INSERT_ONLY,
            training=EditTraining("exact"),
            optimiser=_TEXT_OPTIMISER,
            run=_TEXT_RUN,
        ),
        EditRecipe(
            "edits/ewt-denoising",
            "the same trajectories, every string written word by word given the one before",
            data=_EWT,
            noising=_EWT_NOISING,
            model=_INSERT_ONLY,
            training=EditTraining("exact"),
            optimiser=_TEXT_OPTIMISER,
            run=_TEXT_RUN,
        ),
        EditRecipe(
            "edits/multi30k",
            "captions, every word dropped with probability 0.5 in every round",
            data=_MULTI30K,
            noising=NoisingSettings("token-drop", max_steps=6),
            model=_TEXT_MODEL,
            training=EditTraining("exact"),
            optimiser=_TEXT_OPTIMISER,
            run=_TEXT_RUN,
        ),
        EditRecipe(
            "edits/multi30k-autoregressive",
            "the same captions in one step, word by word: the baseline in the same frame",
            data=_MULTI30K,
            noising=NoisingSettings("one-step", max_steps=1),
            model=_INSERT_ONLY,
            training=EditTraining("exact"),
            optimiser=_TEXT_OPTIMISER,
            run=_TEXT_RUN,
        ),
    ]
}
