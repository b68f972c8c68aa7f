"""Language models from their settings: a context, what is summed out, an emission."""

from typing import TYPE_CHECKING

from tightbound.errors import UserError
from tightbound.families.language.settings import CELLS, LanguageModelSettings

if TYPE_CHECKING:  # a recipe is looked up without JAX; only building needs it
    from jaxtyping import PRNGKeyArray

    from tightbound.families.language.cells import AbstractCell
    from tightbound.families.language.contexts import AbstractContext
    from tightbound.families.language.emissions import AbstractEmission, Components
    from tightbound.families.language.structure import AbstractStructure
    from tightbound.models.base import AbstractModel


def language_model(
    settings: LanguageModelSettings, num_symbols: int, num_positions: int, key: "PRNGKeyArray"
) -> "AbstractModel":
    """The model of a sequence without a latent of its own."""
    import jax

    from tightbound.families.language.model import LanguageModel
    from tightbound.nn.dropout import Dropout

    if settings.mutations and settings.context not in ("single-gate", "mgru"):
        raise UserError(
            f"The mutations {list(settings.mutations)} were asked for with the context "
            f"{settings.context!r}, which has none. Use 'single-gate' or 'mgru'."
        )
    if settings.num_starts is not None and settings.context not in CELLS:
        raise UserError(
            f"{settings.num_starts} learned starts were asked for with the context "
            f"{settings.context!r}, which has no state. Use one of {', '.join(CELLS)}."
        )
    model_key, context_key, structure_key = jax.random.split(key, 3)
    context = _context(settings, num_positions, context_key)
    structure = _structure(settings, context.size, num_symbols, num_positions, structure_key)
    rates = settings.dropout
    return LanguageModel(
        num_symbols,
        settings.size,
        context,
        structure,
        num_positions=num_positions,
        num_starts=settings.num_starts or 1,
        normalisation=settings.normalisation,
        normalise_contexts=settings.normalise_contexts,
        dropout=Dropout(rates.input, rates.output, rates.state, rates.shared),
        key=model_key,
    )


def _context(
    settings: LanguageModelSettings, num_positions: int, key: "PRNGKeyArray"
) -> "AbstractContext":
    """What is known before a token."""
    import jax

    from tightbound.families.language.contexts import GPT, Nothing, Recurrent, Window

    cell_key, start_key = jax.random.split(key)
    match settings.context:
        case "nothing":
            return Nothing()
        case "previous":
            return Window(settings.size, 1)
        case "window":
            return Window(settings.size, settings.window, decay=settings.decay)
        case "gpt":
            return GPT(
                settings.size,
                num_positions,
                num_heads=settings.num_heads,
                num_layers=settings.num_layers,
                dropout=settings.dropout.state,
                key=key,
            )
        case _:
            cell = recurrent_cell(settings, num_positions, cell_key)
            return Recurrent(cell, settings.num_starts, key=start_key)


def recurrent_cell(
    settings: LanguageModelSettings, num_positions: int, key: "PRNGKeyArray"
) -> "AbstractCell":
    from tightbound.families.language.cells import GRU, LSTM, SingleGate, TanhCell
    from tightbound.families.language.mgru import MGRU

    sizes = (settings.size, settings.size)
    match settings.context:
        case "tanh":
            return TanhCell(*sizes, key=key)
        case "gru":
            return GRU(*sizes, key=key)
        case "single-gate":
            return SingleGate(*sizes, mutations=settings.mutations, key=key)
        case "mgru":
            return MGRU(*sizes, mutations=settings.mutations, num_positions=num_positions, key=key)
        case _:
            return LSTM(*sizes, key=key)


def _structure(
    settings: LanguageModelSettings,
    num_features: int,
    num_symbols: int,
    num_positions: int,
    key: "PRNGKeyArray",
) -> "AbstractStructure":
    """What is summed out between a context and a token."""
    import jax

    from tightbound.families.language import chains, factorial, maps, parents, slots
    from tightbound.families.language.structure import Direct

    asked = settings.structure
    emission_key, components_key, key = jax.random.split(key, 3)

    def emission(num_features: int) -> "AbstractEmission":
        return _emission(settings, num_features, num_symbols, emission_key)

    def components() -> "Components":
        return _components(settings, num_symbols, components_key)

    match asked.kind:
        case "direct":
            return Direct(emission(num_features))
        case "parents":
            return parents.Parents(
                num_features,
                num_positions,
                emission(num_features),
                num_kinds=asked.num_maps,
                learned_prior=asked.learned_prior,
                key=key,
            )
        case "two-parents":
            return parents.TwoParents(num_features, num_positions, components(), key=key)
        case "permutations":
            if settings.context != "window":
                raise UserError(
                    "All orders of a window were asked for with the context "
                    f"{settings.context!r}, which is none. Use 'window'."
                )
            return maps.Permutations(
                settings.window, settings.size, emission(settings.size), key=key
            )
        case "maps":
            return maps.MapMixture(
                num_features,
                settings.size,
                emission(settings.size),
                num_maps=asked.num_maps,
                unigram=asked.unigram,
                learned_weights=asked.learned_weights,
                key=key,
            )
        case "gate":
            return maps.Gate(
                num_features, settings.size, settings.num_components, num_symbols, key=key
            )
        case "local-hmm":
            return chains.LocalHMM(num_features, components(), key=key)
        case "word-chain":
            return chains.WordChain(num_features, components(), num_words=asked.num_words, key=key)
        case "factorial":
            return factorial.Factorial(num_features, components(), key=key)
        case "slots":
            return slots.Slots(
                num_features,
                num_positions,
                emission(asked.num_slots * num_features),
                num_slots=asked.num_slots,
                key=key,
            )
        case "slot-chain":
            return slots.SlotChain(
                num_features,
                emission(num_features),
                num_slots=asked.num_slots,
                affinity=asked.affinity,
                reads=asked.reads_slots,
                num_states=settings.num_components,
                key=key,
            )


def _emission(
    settings: LanguageModelSettings, num_features: int, num_symbols: int, key: "PRNGKeyArray"
) -> "AbstractEmission":
    import jax

    from tightbound.data.sentences import EOS
    from tightbound.families.language.emissions import (
        MatrixEmission,
        MixtureEmission,
        VectorEmission,
    )

    num_classes = num_symbols - EOS
    key, components_key = jax.random.split(key)
    match settings.emission:
        case "vector":
            return VectorEmission(num_features, settings.size, num_classes, key=key)
        case "matrix":
            return MatrixEmission(num_features, num_classes, key=key)
        case "mixture":
            components = _components(settings, num_symbols, components_key)
            return MixtureEmission(num_features, components, key=key)


def _components(
    settings: LanguageModelSettings, num_symbols: int, key: "PRNGKeyArray"
) -> "Components":
    from tightbound.data.sentences import EOS
    from tightbound.families.language.emissions import Components

    num_classes = num_symbols - EOS
    return Components(
        settings.components, settings.num_components, settings.size, num_classes, key=key
    )
