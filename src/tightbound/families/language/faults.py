"""How runs on language models are examined: whom faults are planted in, traps, and the faults."""

from typing import Any

from tightbound.diagnose.checks import evaluation, optimisation, probability, steps
from tightbound.drill.fault import Examination, Fault, Planted, on
from tightbound.drill.faults import GENERAL
from tightbound.families.language import checks, planting
from tightbound.families.language import recipe as dlm
from tightbound.families.language.recipe import LanguageRecipe
from tightbound.families.language.settings import DropoutSettings, LatentSettings, StructureSettings
from tightbound.families.lookup import Recipe
from tightbound.train.settings import ObjectiveSettings, OptimiserSettings
from tightbound.unread import replaced

_GRAMMAR = dlm.RECIPES["dlm/toy-grammar"]


def _grammar(name: str, **changes: Any) -> LanguageRecipe:
    return replaced(_GRAMMAR, name=name, **changes)


def _grammar_model(**settings: Any) -> dict[str, Any]:
    return {"model": replaced(_GRAMMAR.model, **settings)}


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
    return {"model": replaced(model, latent=replaced(model.latent, **settings))}


SUBJECTS: tuple[Recipe, ...] = (
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
)

TRAPS: tuple[Recipe, ...] = (
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
    _grammar("dlm/tiny-data", data=replaced(_GRAMMAR.data, max_rows=200)),
)

_FAULTS = (
    Fault(
        "statistic_over_time",
        "leakage and mode",
        "Inputs are divided by their deviation over all positions, those to come among them.",
        planting.with_inputs(planting.over_time),
        steps.FUTURE_READ,
        ("TB113",),
    ),
    Fault(
        "bidirectional_context",
        "leakage and mode",
        "The context adds a pass that reads the sentence backwards.",
        planting.with_context(planting.both_ways),
        steps.FUTURE_READ,
        ("TB113",),
    ),
    Fault(
        "inputs_not_shifted",
        "leakage and mode",
        "Every position is given the word that it predicts.",
        planting.inputs_not_shifted,
        probability.NOT_NORMALISED,
        ("TB101",),
    ),
    Fault(
        "newest_word_left_out",
        "state",
        "The window of a 5-gram ends one word too early: it has not the word before.",
        planting.with_inputs(planting.shifted_again),
        steps.NEWEST_LEFT_OUT,
        ("TB114",),
    ),
    Fault(
        "equal_components",
        "latent use",
        "All components of the mixture are one vector, with one weight.",
        planting.with_emission(planting.one_vector_for_all),
        checks.EQUAL_COMPONENTS,
        ("TB404",),
    ),
    Fault(
        "forgotten_once_an_epoch",
        "optimisation",
        "Gradients are cleared once an epoch: every step is given their sum so far.",
        planting.forgotten_once_an_epoch,
        optimisation.NOT_RESET,
        ("TB213",),
    ),
    Fault(
        "vocabulary_of_all_splits",
        "leakage and mode",
        "The vocabulary has a word that stands in held-out sentences alone.",
        planting.word_only_held_out,
        checks.VOCABULARY_OF_HELD_OUT,
        ("TB510",),
    ),
    Fault(
        "mean_of_means",
        "masks, padding, units",
        "The perplexity reported is that of a mean over sentences of nats per token.",
        planting.evaluated_by_mean_of_means,
        evaluation.AVERAGED_PER_SEQUENCE,
        ("TB601",),
    ),
    Fault(
        "product_not_normalised",
        "not a probability model",
        "A product of experts is reported without its normaliser: the bound that it is trained on.",
        planting.with_structure(planting.NotNormalised),
        probability.NOT_NORMALISED,
        ("TB101",),
    ),
    Fault(
        "mixed_by_weights",
        "not a probability model",
        "A mixture of softmaxes adds its weights to log-probabilities where log-weights belong.",
        planting.with_emission(planting.WeightsForLogWeights),
        probability.NOT_NORMALISED,
        ("TB101",),
    ),
    Fault(
        "starts_not_weighed",
        "not a probability model",
        "The starts of a mixture over whole sentences are summed without being weighed.",
        planting.with_tokens(planting.starts_not_weighed),
        probability.CONSTANT_IN_DENSITY,
        ("TB101",),
    ),
    Fault(
        "end_not_scored",
        "masks, padding, units",
        "The end of a sentence is never scored.",
        planting.with_tokens(planting.without_the_end),
        probability.NOT_NORMALISED,
        ("TB101",),
    ),
    Fault(
        "end_not_counted",
        "masks, padding, units",
        "The end of a sentence is scored and is no token to divide by.",
        planting.evaluated_without_counting_ends,
        evaluation.EVALUATED_UNITS,
        ("TB601",),
    ),
    Fault(
        "padding_scored_in_evaluation",
        "masks, padding, units",
        "Evaluation has no mask: padding is scored like words.",
        planting.padding_counted,
        evaluation.EVALUATED_NETWORK,
        ("TB601",),
    ),
    Fault(
        "dropout_in_evaluation",
        "leakage and mode",
        "Evaluation leaves dropout on.",
        planting.dropout_in_evaluation,
        evaluation.EVALUATED_NETWORK,
        ("TB601",),
    ),
    Fault(
        "large_embedding",
        "optimisation",
        "Embeddings start fifty times too large.",
        planting.large_embedding,
        optimisation.INITIAL_SCALE,
        ("TB217",),
    ),
)
_OWN = {fault.name: fault for fault in _FAULTS}

PLANTED: tuple[Planted, ...] = (
    *on(
        ("dlm/toy-vae",),
        GENERAL["kl_sign_flipped"],
        GENERAL["kl_missing"],
        GENERAL["draw_detached"],
        GENERAL["no_latent_noise"],
        GENERAL["decoder_blind"],
        GENERAL["identity_latents"],
    ),
    *on(
        ("dlm/toy-window",),
        GENERAL["rate_too_high"],
        _OWN["dropout_in_evaluation"],
    ),
    *on(
        (
            "dlm/toy-grammar",
            "dlm/toy-window",
        ),
        GENERAL["rate_too_low"],
        GENERAL["padding_counted"],
        _OWN["inputs_not_shifted"],
        _OWN["forgotten_once_an_epoch"],
        _OWN["vocabulary_of_all_splits"],
        _OWN["end_not_scored"],
        _OWN["end_not_counted"],
        _OWN["padding_scored_in_evaluation"],
    ),
    *on(
        ("dlm/toy-grammar",),
        GENERAL["gradient_not_reset"],
        GENERAL["batches_dropped"],
        GENERAL["everything_clipped"],
        GENERAL["rows_duplicated"],
        GENERAL["trained_on_held_out_rows"],
        GENERAL["divided_by_rows"],
        _OWN["mixed_by_weights"],
        _OWN["large_embedding"],
    ),
    *on(
        (
            "dlm/toy-grammar",
            "dlm/toy-window",
            "dlm/toy-starts",
            "dlm/toy-factorial",
        ),
        _OWN["statistic_over_time"],
    ),
    *on(
        (
            "dlm/toy-grammar",
            "dlm/toy-starts",
        ),
        _OWN["bidirectional_context"],
        _OWN["equal_components"],
    ),
    *on(
        (
            "dlm/toy-window",
            "dlm/toy-grammar",
        ),
        _OWN["newest_word_left_out"],
    ),
    *on(
        (
            "dlm/toy-grammar",
            "dlm/toy-window",
            "dlm/toy-factorial",
        ),
        _OWN["mean_of_means"],
    ),
    *on(
        ("dlm/toy-factorial",),
        _OWN["product_not_normalised"],
    ),
    *on(
        ("dlm/toy-starts",),
        _OWN["starts_not_weighed"],
    ),
    *on(("dlm/toy-vae",), GENERAL["log_q_per_position"]),
)

EXAMINATION = Examination(SUBJECTS, TRAPS, PLANTED)
