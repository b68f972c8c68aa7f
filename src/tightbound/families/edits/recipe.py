"""Text written by edits: doublings and other toys, English web text with its trees, captions."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import tyro

from tightbound.errors import UserError
from tightbound.families.edits import FAMILY
from tightbound.train.settings import OptimiserSettings, RunSettings
from tightbound.unread import refuse_unread

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    from jaxtyping import PRNGKeyArray

    from tightbound.data.batch import Split
    from tightbound.data.vocabulary import Vocabulary
    from tightbound.families.edits.model import EditModel
    from tightbound.families.edits.noising import AbstractNoising
    from tightbound.train.objective import Claim
    from tightbound.train.setup import Setup

_TREES_ONLY = "leaf-pruning"


@dataclass(frozen=True)
class DoublingData:
    """A letter, doubled again and again."""

    source: Literal["doubling"] = "doubling"
    """Others, with settings of their own: prefix-doubling, remap; ewt, conllu (trees of yours);
    multi30k, text (a text of yours). For instance `--data.source text --help`."""
    held_out_letters: bool = False
    """Valid and test are written with x, y, z; training always with a, b, c."""
    doublings: int = 3
    """A letter is repeated 2 to this power times."""


@dataclass(frozen=True)
class PrefixDoublingData:
    """Random strings of two letters, doubled again and again; the first string is given."""

    source: Literal["prefix-doubling"] = "prefix-doubling"
    """Others, with settings of their own: doubling, remap; ewt, conllu; multi30k, text."""
    held_out_letters: bool = False
    """Valid and test are written with x, y, z; training always with a, b, c."""
    doublings: int = 3
    """A string is repeated 2 to this power times."""
    num_strings: int = 64
    """In each split."""


@dataclass(frozen=True)
class RemapData:
    """Random strings, whose letters are replaced by their images."""

    source: Literal["remap"] = "remap"
    """Others, with settings of their own: doubling, prefix-doubling; ewt, conllu; multi30k, text."""
    held_out_letters: bool = False
    """Valid and test are written with x, y, z; training always with a, b, c."""
    num_strings: int = 64
    """In each split."""


@dataclass(frozen=True)
class TreebankData:
    """Sentences with their dependency trees."""

    source: Literal["ewt", "conllu"] = "ewt"
    """conllu: a treebank of yours. Others, with settings of their own: doubling, prefix-doubling, remap;
    multi30k, text."""
    path: str | None = None
    """A file in CoNLL-U, or a folder of `.conllu`; ewt: None takes the published files."""
    units: Literal["words", "sub-words"] = "words"
    min_count: int = 3
    """words: those rarer in the training split are one symbol, unknown."""
    vocabulary_size: int = 4000
    """sub-words: number of symbols."""
    max_length: int = 24
    """Longer sentences are dropped, and counted."""
    max_swaps: int = 24
    """Sentences whose equal words can be rearranged in more ways are dropped, and counted."""
    max_rows: int | None = None
    """Read only the first sentences of each file."""


@dataclass(frozen=True)
class CaptionData:
    """Captions of pictures, without trees."""

    source: Literal["multi30k"] = "multi30k"
    """Others, with settings of their own: text; ewt, conllu; doubling, prefix-doubling, remap."""
    path: str | None = None
    """A folder with files of the published names; None takes the published files."""
    language: Literal["en", "de"] = "en"
    units: Literal["words", "sub-words"] = "words"
    min_count: int = 3
    """words: those rarer in the training split are one symbol, unknown."""
    vocabulary_size: int = 4000
    """sub-words: number of symbols."""
    max_length: int = 24
    """Longer sentences are dropped, and counted."""
    max_rows: int | None = None
    """Read only the first sentences of each file."""


@dataclass(frozen=True)
class TextFileData:
    """A text of your own, one sentence a line."""

    source: Literal["text"] = "text"
    """Others, with settings of their own: ewt, conllu; multi30k; doubling, prefix-doubling, remap."""
    path: str | None = None
    """A text, plain, `.gz` or `.xz`, or a folder of `.txt`."""
    units: Literal["words", "sub-words"] = "words"
    min_count: int = 3
    """words: those rarer in the training split are one symbol, unknown."""
    vocabulary_size: int = 4000
    """sub-words: number of symbols."""
    max_length: int = 24
    """Longer sentences are dropped, and counted."""
    max_rows: int | None = None
    """Read only the first sentences of each file."""


Text = TreebankData | CaptionData | TextFileData
TextData = DoublingData | PrefixDoublingData | RemapData | TreebankData | CaptionData | TextFileData


@dataclass(frozen=True)
class NoisingSettings:
    """q(z | x): how a sentence is taken apart, backwards, down to nothing."""

    law: Literal["halving", "token-drop", "leaf-pruning", "prefix-growth", "remap", "one-step"] = (
        "halving"
    )
    max_steps: int = 4
    """Strings of a trajectory at most."""
    drop: float = 0.5
    """token-drop: probability of every word, in every round."""
    keep: float = 0.5
    """leaf-pruning: probability with which a leaf stays for another round."""
    thin: int = 2
    """leaf-pruning: every how many rounds a string is kept, counted back from the sentence."""
    min_strings: int = 3
    """leaf-pruning: shorter trajectories are not drawn."""
    chunk: int = 1
    """prefix-growth: words added by each string."""
    collapse: bool = False
    """token-drop, leaf-pruning: leave out rounds that change nothing. With leaf-pruning log q is then
    that of one path, and the bound is none."""

    def __post_init__(self):
        read = {
            "token-drop": ("drop", "collapse"),
            "leaf-pruning": ("keep", "thin", "min_strings", "collapse"),
            "prefix-growth": ("chunk",),
        }.get(self.law, ())
        own = ("drop", "keep", "thin", "min_strings", "chunk", "collapse")
        refuse_unread(self, "law", *(name for name in own if name not in read))


@dataclass(frozen=True)
class EditModelSettings:
    """Sizes of the network, what an edit hands on, and the filter that sums edits out."""

    handed_on: Literal["edits", "edits-within", "tokens"] = "edits"
    """Deep; static (Markov in the strings); words alone, where edits sum out exactly."""
    ops: Literal["all", "insert"] = "all"
    """insert: every string is written word by word, as by an autoregressive decoder."""
    size: int = 64
    num_heads: int = 4
    hidden_size: int = 256
    num_layers: int = 2
    condition_on_step: bool = False
    """Tell the encoder which string it reads."""
    norm_place: Literal["pre", "post"] = "pre"
    dropout: float = 0.0
    embedding_scale: float | None = None
    """Standard deviation of the first embeddings; None is size^-1/2, as large as position signals."""
    exchangeable: bool = False
    """Draw the words' embeddings anew for every batch, so that none is known."""
    num_particles: int = 3
    threshold: float = 0.5
    """Share of the particles below which the effective sample size makes them resample."""
    resample_every: int = 1
    temperature: float = 1.0
    """Of the proposal of edits; 1 is fully adapted."""

    def __post_init__(self):
        if self.handed_on == "tokens":  # edits are summed out: there is no filter
            refuse_unread(
                self,
                "handed_on",
                *("num_particles", "threshold", "resample_every", "temperature"),
            )


@dataclass(frozen=True)
class EditTraining:
    """What is differentiated."""

    method: Literal["monte-carlo-em", "supervised", "exact"] = "monte-carlo-em"
    """Edits drawn by the filter; edits of a cheapest alignment; edits summed out ("tokens" only)."""
    num_samples: int = 1
    """Trajectories per sentence and step: averaged by monte-carlo-em; with exact, more than one
    raises the importance-weighted bound."""


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

    def build(self, seed: int) -> "Setup":
        """Load the sentences and make everything the run needs."""
        from functools import partial

        from tightbound.data.baselines.sentences import token_baselines
        from tightbound.evaluation import evaluate
        from tightbound.families.edits.details import Details
        from tightbound.train.run import run_keys
        from tightbound.train.schedules import optimiser
        from tightbound.train.setup import Setup

        splits, vocabulary, notes = _load(self.data, self.noising)
        init_key, _, _ = run_keys(seed)
        max_length = splits["train"].mask.shape[1]
        model = _model(self.model, len(vocabulary), max_length, self.noising.max_steps, init_key)
        noising = _noising(self.noising, vocabulary)
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


def _load(
    data: TextData, noising: NoisingSettings
) -> "tuple[dict[str, Split], Vocabulary, tuple[str, ...]]":
    """The splits, their symbols, and what is to be said of the sentences left out."""
    from tightbound.data.toys import strings as toys

    if noising.law == _TREES_ONLY and not isinstance(data, TreebankData):
        raise UserError(
            f"The noising law 'leaf-pruning' was asked for on {data.source!r}, whose sentences have "
            "no trees. Use 'ewt' or 'conllu', or the law 'token-drop'."
        )
    match data:
        case DoublingData():
            splits, vocabulary = toys.doubling_toy(
                held_out=data.held_out_letters, doublings=data.doublings
            )
        case PrefixDoublingData():
            splits, vocabulary = toys.prefix_doubling_toy(
                held_out=data.held_out_letters, doublings=data.doublings, num_rows=data.num_strings
            )
        case RemapData():
            splits, vocabulary = toys.remap_toy(
                held_out=data.held_out_letters, num_rows=data.num_strings
            )
        case TreebankData() | CaptionData() | TextFileData():
            return _load_text(data, noising)
    return splits, vocabulary, ()


def _load_text(
    data: Text, noising: NoisingSettings
) -> "tuple[dict[str, Split], Vocabulary, tuple[str, ...]]":
    from tightbound.data.formats.own_sentences import load_text_sentences, load_treebank
    from tightbound.data.sets.english_web import load_ewt
    from tightbound.data.sets.multi30k import load_multi30k

    words: Any = {"units": data.units, "min_count": data.min_count, "max_rows": data.max_rows}
    words |= {"vocabulary_size": data.vocabulary_size, "max_length": data.max_length}
    how = None
    match data:
        case TreebankData(source="ewt", path=None):
            loaded = load_ewt(**words, max_swaps=data.max_swaps)
        case TreebankData():
            loaded, how = load_treebank(_own(data), **words, max_swaps=data.max_swaps)
        case TextFileData():
            loaded, how = load_text_sentences(_own(data), **words)
        case CaptionData():
            if data.path is not None and os.path.isfile(data.path):
                raise UserError(
                    f"{data.path} is one file, but the captions of 'multi30k' are six: --data.path names "
                    "their folder. For a text of yours give --data.source text too."
                )
            loaded = load_multi30k(data.path, **words, language=data.language)
    splits, vocabulary, dropped = loaded
    notes = ([how] if how else []) + [f"{name}: {count}." for name, count in dropped.items()]
    if noising.law == _TREES_ONLY:
        splits, refused = _with_likely_lengths(splits, noising)
        notes.append(refused)
    return splits, vocabulary, tuple(notes)


def _own(data: TreebankData | TextFileData) -> str:
    """The path of sentences of one's own."""
    if data.path is None:
        raise UserError(
            f"The data source {data.source!r} reads a file or a folder of yours: give it as "
            "--data.path."
        )
    return data.path


_LEAST_ACCEPTANCE = 0.01  # of the draws: below it a sentence costs too much to draw trajectories of


def _with_likely_lengths(
    splits: "dict[str, Split]", settings: NoisingSettings
) -> "tuple[dict[str, Split], str]":
    """The sentences whose trajectories have an allowed length often enough, and how many had not."""
    import jax
    import numpy as np

    from tightbound.data.batch import rows_of
    from tightbound.data.sentences import Sentence

    noising = _pruning(settings)
    accept = jax.jit(jax.vmap(noising.log_acceptance))
    kept, refused = {}, []
    for name, split in splits.items():
        trees = Sentence(split.x.tokens, split.x.num_given, split.x.heads)
        likely = np.exp(np.asarray(accept(trees))) >= _LEAST_ACCEPTANCE
        kept[name] = rows_of(split, np.flatnonzero(likely))
        refused.append(f"{(~likely).sum():,} {name}")
    return kept, (
        f"Left out, since fewer than {_LEAST_ACCEPTANCE:.0%} of their trajectories have "
        f"{settings.min_strings} to {settings.max_steps} strings: {', '.join(refused)}."
    )


def _pruning(settings: NoisingSettings):
    from tightbound.families.edits.pruning import LeafPruning

    law: Any = LeafPruning  # its `max_steps` is a property
    return law(
        keep=settings.keep,
        thin=settings.thin,
        min_strings=settings.min_strings,
        max_strings=settings.max_steps,
        collapse=settings.collapse,
    )


def _noising(settings: NoisingSettings, vocabulary: "Vocabulary") -> "AbstractNoising":
    """The law of the trajectories."""
    from tightbound.data.toys.strings import TRAINED, UNSEEN, shifted, symbol_images
    from tightbound.families.edits.deterministic import Halving, OneShot, PrefixGrowth, Remap
    from tightbound.families.edits.token_drop import TokenDrop

    steps = settings.max_steps
    match settings.law:
        case "halving":
            return Halving(max_steps=steps)
        case "token-drop":
            return TokenDrop(probability=settings.drop, max_steps=steps, collapse=settings.collapse)
        case "leaf-pruning":
            return _pruning(settings)
        case "prefix-growth":
            return PrefixGrowth(chunk=settings.chunk, max_steps=steps)
        case "remap":
            images = shifted(TRAINED, 1) | shifted(UNSEEN, 1)
            back = {image: letter for letter, image in images.items()}
            return Remap(inverse=tuple(symbol_images(back, vocabulary)), max_steps=steps)
        case "one-step":
            return OneShot(max_steps=steps)


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
    return _noising(dataclasses.replace(recipe.noising, law=recipe.evaluate_law), vocabulary)


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
