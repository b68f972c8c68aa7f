"""Language models with one latent for the whole sequence: settings to a model and its proposal."""

from typing import TYPE_CHECKING

from tightbound.errors import UserError
from tightbound.families.language.build import language_model, recurrent_cell
from tightbound.families.language.settings import CELLS, LanguageModelSettings, LatentSettings
from tightbound.train.settings import ObjectiveSettings

if TYPE_CHECKING:  # a recipe is looked up without JAX; only building a pair needs it
    from jaxtyping import Array, Float, PRNGKeyArray

    from tightbound.families.language.encoders import AbstractEncoder, SequenceProposal
    from tightbound.families.language.model import LanguageModel
    from tightbound.families.language.sequence_vae import AbstractDecoder, SequenceVAE
    from tightbound.nn.outputs import AbstractOutput

DISCRETE = ("bernoulli", "ternary")  # kinds of latent that are whole numbers
_SCORE_FUNCTION = ("vimco", "wake-sleep")  # estimators that need no gradient of the draw
_FLOOR = 1e-3  # of Gaussian scales, part of the laws
_WIDENING = 10  # hidden units of a two-layer network per unit of `size`


def check_latent_objective(latent: LatentSettings, objective: ObjectiveSettings) -> None:
    """UserError for what would leave discrete latents without a gradient, or without a meaning."""
    if latent.kind not in DISCRETE:
        return
    if objective.estimator not in _SCORE_FUNCTION:
        raise UserError(
            f"The estimator {objective.estimator!r} follows the gradient through the draw, but the "
            f"draw of a {latent.kind} latent has none: the encoder would not learn from the words. "
            "Use 'vimco' or 'wake-sleep', with `objective.num_samples` 2 or more."
        )
    if not objective.latent_noise:
        raise UserError(
            "`latent_noise` is off, which replaces a draw by its mean, but the mean of a "
            f"{latent.kind} latent is no value that it has. Use 'gaussian', or leave the noise on."
        )


def sequence_vae(
    settings: LanguageModelSettings, num_symbols: int, num_positions: int, key: "PRNGKeyArray"
) -> "tuple[SequenceVAE, SequenceProposal]":
    """The model of a sequence with a latent, and its proposal."""
    import jax

    from tightbound.families.language.encoders import SequenceProposal
    from tightbound.families.language.sequence_latents import (
        Prior,
        SharedScaleOutput,
        standard_features,
    )
    from tightbound.families.language.sequence_vae import SequenceVAE

    _check(settings)
    latent = settings.latent
    decoder_key, encoder_key, embedding_key = jax.random.split(key, 3)
    law = proposal_law = _law(latent)
    if latent.global_scale:
        proposal_law = SharedScaleOutput(latent.size, min_scale=_FLOOR)
    decoder, network = _decoder(settings, num_symbols, num_positions, decoder_key)
    bias = standard_features(proposal_law, latent.size)  # q starts around the first prior
    model = SequenceVAE(Prior(law, latent.size), decoder, network, latent.word_dropout)
    proposal = SequenceProposal(
        num_symbols,
        settings.size,
        _encoder(settings, num_positions, bias, encoder_key),
        proposal_law,
        normalisation=settings.normalisation,
        key=embedding_key,
    )
    return model, proposal


def _check(settings: LanguageModelSettings) -> None:
    latent = settings.latent
    if latent.size < 1:
        raise UserError(f"A latent of size {latent.size} was asked for; give at least 1.")
    if latent.global_scale and latent.kind != "gaussian":
        raise UserError(
            f"`latent.global_scale` was set for the latent {latent.kind!r}, which has no scale for "
            "each dimension. Use 'gaussian', or leave it off."
        )
    if settings.context not in CELLS:
        raise UserError(
            f"A latent for the whole sequence was asked for with the context {settings.context!r}, "
            f"which has no state to start or to end at. Use one of {', '.join(CELLS)}."
        )
    if settings.num_starts is not None:
        raise UserError(
            f"{settings.num_starts} learned starts were combined with a latent for the whole "
            "sequence, which says where the decoder starts. Leave out one of them."
        )
    if settings.structure.kind == "factorial":
        raise UserError(
            "The structure 'factorial', trained on a lower bound of its own, was combined with a "
            "latent for the whole sequence, trained on another. Leave out one of them."
        )
    if latent.decoder != "recurrent" and latent.word_dropout > 0:
        raise UserError(
            f"A word dropout of {latent.word_dropout} was asked for, but the {latent.decoder} "
            "decoder is given no words. Leave it at 0."
        )


def _law(latent: LatentSettings) -> "AbstractOutput":
    from tightbound.families.language.sequence_latents import TernaryOutput
    from tightbound.nn.gaussian_outputs import DiagonalGaussianOutput, FullGaussianOutput
    from tightbound.nn.outputs import BernoulliOutput

    match latent.kind:
        case "full-gaussian":
            return FullGaussianOutput(_FLOOR)
        case "bernoulli":
            return BernoulliOutput()
        case "ternary":
            return TernaryOutput()
        case _:
            return DiagonalGaussianOutput(_FLOOR)


def _decoder(
    settings: LanguageModelSettings, num_symbols: int, num_positions: int, key: "PRNGKeyArray"
) -> "tuple[AbstractDecoder, LanguageModel]":
    """What z does, and the language model that it does it to, whose own context is left out."""
    import equinox as eqx
    import jax

    from tightbound.families.language.contexts import Nothing, Recurrent
    from tightbound.families.language.model import LanguageModel
    from tightbound.families.language.sequence_vae import AtOnceDecoder, RecurrentDecoder

    network_key, decoder_key = jax.random.split(key)
    latent = settings.latent
    network = language_model(settings, num_symbols, num_positions, network_key)
    assert isinstance(network, LanguageModel)
    if latent.decoder == "recurrent":
        assert isinstance(network.context, Recurrent)
        decoder = RecurrentDecoder(network.context, latent.size, key=decoder_key)
    else:
        decoder = AtOnceDecoder(
            latent.size,
            num_positions,
            settings.size,
            **_layers(latent.decoder, settings.size),
            key=decoder_key,
        )
    return decoder, eqx.tree_at(lambda network: network.context, network, Nothing())


def _encoder(
    settings: LanguageModelSettings,
    num_positions: int,
    bias: 'Float[Array, " features"]',
    key: "PRNGKeyArray",
) -> "AbstractEncoder":
    """What reads the words, from the features at which the proposal starts."""
    import jax

    from tightbound.families.language.encoders import AtOnceEncoder, RecurrentEncoder

    cell_key, head_key = jax.random.split(key)
    kind, size = settings.latent.encoder, settings.size
    if kind == "recurrent":
        cell = recurrent_cell(settings, num_positions, cell_key)
        return RecurrentEncoder(cell, bias, key=head_key)
    return AtOnceEncoder(size, num_positions, bias, **_layers(kind, size), key=head_key)


def _layers(kind: str, size: int) -> dict[str, int]:
    """The hidden layers of a network that reads or writes all words at once."""
    return {"hidden_size": _WIDENING * size, "depth": 1 if kind == "two-layer" else 0}
