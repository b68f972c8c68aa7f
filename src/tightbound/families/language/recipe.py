"""The diagnostic language models: contexts, latent structures and emissions, put together by name."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import tyro

from tightbound.errors import UserError
from tightbound.families.language import FAMILY
from tightbound.families.language.settings import (
    ContextKind,
    EmissionKind,
    LanguageModelSettings,
    LatentSettings,
    StructureSettings,
    TokenData,
)
from tightbound.train.settings import ObjectiveSettings, OptimiserSettings, RunSettings
from tightbound.unread import refuse_unread_of

if TYPE_CHECKING:  # a recipe is looked up without JAX; only `build` needs it
    from tightbound.data.batch import Split
    from tightbound.data.token_corpora import Corpus
    from tightbound.train.objective import Claim
    from tightbound.train.setup import Setup


@dataclass(frozen=True)
class LanguageRecipe:
    """A small language model."""

    name: tyro.conf.Suppress[str]
    summary: tyro.conf.Suppress[str]
    data: TokenData = field(default_factory=TokenData)
    model: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def build(self, seed: int) -> "Setup":
        """Load the text and make everything the run needs."""
        refuse_unread_of(self.objective, "recipe", self.name, ("squared_error",))
        from functools import partial

        from tightbound.data.baselines.sequences import baseline_estimates
        from tightbound.data.baselines.tokens import token_references
        from tightbound.families.language.details import Details
        from tightbound.families.language.pair import model_and_proposal
        from tightbound.families.language.twin import twin_of
        from tightbound.train.run import run_keys
        from tightbound.train.schedules import optimiser
        from tightbound.train.setup import Setup

        corpus = _load(self.data)
        train, valid = corpus.splits["train"], corpus.splits["valid"]
        init_key, _, _ = run_keys(seed)
        symbols, num_positions = len(corpus.vocabulary), train.mask.shape[1]
        try:
            model, proposal = model_and_proposal(
                self.model, symbols, num_positions, self.objective.latent_noise, init_key
            )
            claim = _objective(self.objective, self.model)
        except ValueError as error:
            raise UserError(str(error)) from error
        is_bound = self.objective.latent_noise
        rows = partial(token_references, train, vocabulary_size=symbols)
        return Setup(
            name=self.name,
            model=model,
            proposal=proposal,
            data=corpus.splits,
            objective=claim,
            claim=claim,
            optimiser=optimiser(self.optimiser, self.run.steps),
            run=self.run,
            # An auto-encoder's figure is no log p(x), and has nothing to beat.
            baselines=baseline_estimates(rows(valid), valid) if is_bound else {},
            baseline_rows=rows,
            twin=twin_of(self.model),
            entropy=corpus.entropy,
            is_bound=is_bound,
            family=FAMILY,
            details=Details(corpus.vocabulary),
            notes=(*corpus.notes, _bag_note(valid)),
            seed=seed,
        )


def _load(data: TokenData) -> "Corpus":
    from tightbound.data.token_corpora import load_tokens

    if data.source == "file" and data.path is None:
        raise UserError("The data source 'file' reads a text of yours: give it as --data.path.")
    if data.source in ("multi30k", "wikitext2") and data.path and os.path.isfile(data.path):
        raise UserError(
            f"{data.path} is one file, but {data.source!r} is a folder of them. For a text of yours "
            "give --data.source file too."
        )
    return load_tokens(
        data.source,
        path=data.path,
        language=data.language,
        units=data.units,
        rules=data.rules,
        vocabulary_from=data.vocabulary_from,
        max_length=data.max_length,
        min_count=data.min_count,
        max_rows=data.max_rows,
    )


def _bag_note(held_out: "Split") -> str:
    """What it costs to order known words: no baseline, since no model of sequences is given the bag."""
    from tightbound.data.baselines.sequences import baseline_estimates
    from tightbound.data.baselines.tokens import bag_of_tokens

    nats = bag_of_tokens(held_out)
    estimate = baseline_estimates({"bag-of-tokens": nats}, held_out)["bag-of-tokens"]
    per_token = -float(nats.sum() / held_out.num_units.sum())
    return (
        f"Ordering the known symbols of a sequence costs {-estimate.value:.2f} nats per sequence, "
        f"{per_token:.3f} per token: where order carries nothing, as in residues, a model near it has "
        "seen what is to come."
    )


def _objective(settings: ObjectiveSettings, model: LanguageModelSettings) -> "Claim":
    """What is raised: the likelihood, a bound on it, or the factorial model's own lower bound."""
    from tightbound.families.language.build_latents import check_latent_objective
    from tightbound.families.language.lower_bound import OnLowerBound
    from tightbound.train.schedules import objective

    if model.latent.kind == "none" and not settings.latent_noise:
        raise UserError(
            "`latent_noise` is off, but the model has no latent for the whole sequence. Set "
            "`model.latent.kind`, or leave the noise on."
        )
    check_latent_objective(model.latent, settings)
    bound = objective(settings)
    return OnLowerBound(bound) if model.structure.kind == "factorial" else bound


_RUN = RunSettings(
    steps=6330,  # 30 epochs of the 27,010 captions of at most 20 tokens
    batch_size=128,
    log_every=20,
    evaluate_every=422,
    checkpoint_every=422,
    evaluate_samples=1,
)
_OPTIMISER = OptimiserSettings(
    "adam", learning_rate=2e-3, warmup_steps=100, decay="cosine", clip_norm=1.0
)


def _model(
    context: ContextKind, emission: EmissionKind = "mixture", **choices: Any
) -> LanguageModelSettings:
    """A row of the table: context and emission first, then whatever else is chosen, the fields of the
    structure and of the latent by their own names; `size` is the model's."""
    parts: dict[str, Any] = {}
    for part, kind in (("structure", StructureSettings), ("latent", LatentSettings)):
        own = kind.__dataclass_fields__.keys() - {"size"}
        fields = {name: choices.pop(name) for name in own & choices.keys()}
        if part in choices:
            fields["kind"] = choices.pop(part)
        parts[part] = kind(**fields)
    return LanguageModelSettings(context=context, emission=emission, **parts, **choices)


# One row for each model that the study of docs/dlm.md names, made causal: where the study divided by a
# statistic over time (those in `_LEAKED`), features are divided by theirs. A number it did not give is
# ours: 32 states where transitions are computed from words, 4 parallel maps.
_NONE: dict[str, Any] = {"normalisation": "none"}
_FREE: dict[str, Any] = {"components": "free", "normalisation": "none"}
_TIED: dict[str, Any] = {"components": "tied", "normalisation": "none"}
_STATES: dict[str, Any] = {"components": "free", "num_components": 32}

_TABLE: dict[int, tuple[str, LanguageModelSettings]] = {
    1: ("5-gram by linear maps", _model("window", "vector", **_NONE)),
    2: (
        "one latent parent, uniform prior",
        _model("previous", "vector", structure="parents", learned_prior=False, **_NONE),
    ),
    3: (
        "mixture over all orders of a window",
        _model("window", "vector", structure="permutations", window=3, **_NONE),
    ),
    4: (
        "uniform mixture of 5-grams",
        _model("window", "vector", structure="maps", num_maps=4, learned_weights=False, **_NONE),
    ),
    5: (
        "one latent parent, learned alignment prior",
        _model("previous", "vector", structure="parents", **_NONE),
    ),
    6: (
        "one latent parent, two kinds of transition",
        _model("previous", "vector", structure="parents", num_maps=2, **_NONE),
    ),
    7: (
        "unigram or bigram",
        _model("previous", "vector", structure="maps", unigram=True, **_NONE),
    ),
    8: (
        "unigram or one of several bigrams",
        _model("previous", "vector", structure="maps", unigram=True, num_maps=4, **_NONE),
    ),
    9: ("mixture of unigrams", _model("nothing", **_TIED)),
    10: ("discrete-state bigram", _model("previous", **_FREE)),
    11: ("tanh network, matrix of its own", _model("tanh", "matrix", **_NONE)),
    12: ("LSTM", _model("lstm", "vector", **_NONE)),
    13: (
        "discrete-state bigram of a latent parent",
        _model("previous", structure="parents", **_FREE),
    ),
    14: ("two latent parents", _model("previous", structure="two-parents", **_FREE)),
    15: (
        "discrete-state bigram as a local HMM",
        _model("previous", structure="local-hmm", **_FREE),
    ),
    16: (
        "chain of states, transitions computed from the word before",
        _model("previous", structure="word-chain", **_STATES, **_NONE),
    ),
    17: (
        "the same over two words",
        _model("previous", structure="word-chain", num_words=2, **_STATES, **_NONE),
    ),
    18: (
        "one of several vectors, or the word before rotated",
        _model("previous", structure="gate", normalisation="none"),
    ),
    19: (
        "product of independent experts of 16 states",
        _model("previous", structure="factorial", **_TIED),
    ),
    20: ("4-gram of states, nearer words more", _model("window", window=4, decay=True, **_TIED)),
    21: ("the same, free components", _model("window", window=4, decay=True, **_FREE)),
    22: ("the same, scaled components, normalised", _model("window", window=4, decay=True)),
    23: ("LSTM, normalised", _model("lstm", "vector", normalise_contexts=True)),
    24: (
        "4-gram of states, scaled components",
        _model("window", window=4, decay=True, **_NONE),
    ),
    25: (
        "discrete-state bigram of a latent parent, normalised",
        _model("previous", structure="parents"),
    ),
    26: ("LSTM, mixture", _model("lstm", normalise_contexts=True)),
    27: (
        "chain of states over two words, normalised",
        _model("previous", structure="word-chain", num_words=2, num_components=32),
    ),
    28: ("GRU, mixture", _model("gru", normalise_contexts=True)),
    29: (
        "tanh network, mixture, 5 starts",
        _model("tanh", num_starts=5, normalise_contexts=True),
    ),
    30: ("slots that attend, mean field", _model("previous", structure="slots")),
    31: ("chain of slots", _model("previous", structure="slot-chain")),
    32: (
        "chain of slots, the word chooses its slot",
        _model("previous", structure="slot-chain", affinity="log-softmax"),
    ),
    33: (
        "chain of slots, found by states",
        _model("previous", structure="slot-chain", affinity="states"),
    ),
    34: (
        "the same, an LSTM over the slots",
        _model("previous", structure="slot-chain", affinity="states", reads_slots="lstm"),
    ),
    35: (
        "chain of slots, states choose their slot",
        _model("previous", structure="slot-chain", affinity="log-softmax-states"),
    ),
    40: ("GPT", _model("gpt", "vector", **_NONE)),
    41: ("GPT, mixture", _model("gpt", **_NONE)),
    43: ("GRU", _model("gru", "vector", normalise_contexts=True)),
    44: ("GRU, mixture, 5 starts", _model("gru", num_starts=5, normalise_contexts=True)),
    45: (
        "GRU, mixture, a learned start, not normalised",
        _model("gru", num_starts=1, normalise_contexts=True, **_NONE),
    ),
    46: (
        "one gate (minimal gated unit), mixture",
        _model("single-gate", num_starts=1, normalise_contexts=True),
    ),
    47: ("gate of the state alone, mixture", _model("mgru", num_starts=1, normalise_contexts=True)),
    50: (
        "sequence VAE, tanh networks",
        _model("tanh", "vector", latent="gaussian", global_scale=True, normalise_contexts=True),
    ),
    51: (
        "sequence VAE, GRU",
        _model("gru", "vector", latent="gaussian", global_scale=True, normalise_contexts=True),
    ),
    52: (
        "sequence VAE, ternary latents",
        _model("gru", "vector", latent="ternary", normalise_contexts=True),
    ),
    53: ("auto-encoder, GRU", _model("gru", "vector", latent="gaussian", normalise_contexts=True)),
    54: (
        "auto-encoder, tanh networks",
        _model("tanh", "vector", latent="gaussian", normalise_contexts=True),
    ),
    # neither has a network that steps, so their context is not read
    55: (
        "auto-encoder, one linear layer",
        _model("gru", "vector", latent="gaussian", encoder="linear", decoder="linear", **_NONE),
    ),
    56: (
        "auto-encoder, two layers",
        _model(
            *("gru", "vector"),
            latent="gaussian",
            encoder="two-layer",
            decoder="two-layer",
            **_NONE,
        ),
    ),
}
# Those whose inputs that study divided by their deviation over time.
_LEAKED = (22, 23, 26, 28, 29, 43, 44, 46, 47, 50, 51, 52, 53, 54)
_AUTO_ENCODERS = (53, 54, 55, 56)
_OBJECTIVES: dict[int, ObjectiveSettings] = {
    50: ObjectiveSettings(kl_warmup_steps=2000),
    51: ObjectiveSettings(kl_warmup_steps=2000),
    52: ObjectiveSettings("vimco", num_samples=4),
    **{n: ObjectiveSettings(latent_noise=False, kl_weight=0.0) for n in _AUTO_ENCODERS},
}


def _ours(number: int) -> LanguageRecipe:
    summary, model = _TABLE[number]
    return LanguageRecipe(
        f"dlm/{number}",
        summary,
        model=model,
        objective=_OBJECTIVES.get(number, ObjectiveSettings()),
        optimiser=_OPTIMISER,
        run=_RUN,
    )


_AS_RUN_EPOCH = 82  # full batches of 280 in 80 % of 29,000 captions


def _as_run(number: int) -> LanguageRecipe:
    """The model as the study of docs/dlm.md ran it: its split and vocabulary, its statistic over time,
    and gradients that are forgotten once an epoch. `check` says what is wrong with it."""
    summary, model = _TABLE[number]
    if number in _LEAKED:
        model = replace(model, normalisation="time")
    objective = _OBJECTIVES.get(number, ObjectiveSettings())
    return LanguageRecipe(
        f"dlm/{number}-original",
        f"{summary}, as a study ran it, faults included",
        data=TokenData(rules="original", units="raw-words", max_length=None, min_count=1),
        model=model,
        objective=replace(objective, kl_warmup_steps=0),
        optimiser=OptimiserSettings(
            "rmsprop", learning_rate=1e-3, epsilon=0.01, memory=0.99, forget_every=_AS_RUN_EPOCH
        ),
        run=replace(
            _RUN,
            steps=30 * _AS_RUN_EPOCH,
            batch_size=280,
            evaluate_every=_AS_RUN_EPOCH,
            checkpoint_every=_AS_RUN_EPOCH,
        ),
    )


_RESIDUES = LanguageRecipe(
    "dlm/iid-residues",
    "LSTM on residues drawn independently: nothing to learn but their frequencies",
    data=TokenData("iid-residues"),
    model=_model("lstm", "vector", normalise_contexts=True),
    optimiser=_OPTIMISER,
    run=replace(_RUN, steps=4000, evaluate_every=500, checkpoint_every=500),
)
_TOY = LanguageRecipe(
    "dlm/toy-grammar",
    "LSTM, mixture, on a small grammar that is drawn: no download",
    data=TokenData("toy-grammar"),
    model=_model("lstm", num_components=32, normalise_contexts=True),
    optimiser=replace(_OPTIMISER, learning_rate=5e-3),
    run=replace(_RUN, steps=600, batch_size=64, evaluate_every=100, checkpoint_every=200),
)

RECIPES: Mapping[str, LanguageRecipe] = {
    recipe.name: recipe
    for recipe in [
        *map(_ours, _TABLE),
        *map(_as_run, sorted({*_LEAKED, *_AUTO_ENCODERS, 40})),
        _RESIDUES,
        replace(
            _RESIDUES,
            name="dlm/iid-residues-original",
            summary="the same, divided by a statistic over time: it learns what cannot be learned",
            model=replace(_RESIDUES.model, normalisation="time"),
        ),
        _TOY,
    ]
}
