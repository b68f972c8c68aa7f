"""A language model and its proposal, from their settings."""

from typing import TYPE_CHECKING

from tightbound.errors import UserError
from tightbound.families.language.build import language_model
from tightbound.families.language.settings import LanguageModelSettings

if TYPE_CHECKING:  # a recipe is looked up without JAX; only building needs it
    from jaxtyping import PRNGKeyArray

    from tightbound.models.base import AbstractModel, AbstractProposal


def model_and_proposal(
    settings: LanguageModelSettings,
    num_symbols: int,
    num_positions: int,
    latent_noise: bool,
    key: "PRNGKeyArray",
) -> "tuple[AbstractModel, AbstractProposal]":
    """The model and its proposal."""
    _check_sizes(settings)
    if settings.latent.kind == "none":
        from tightbound.models.no_latents import NoLatents

        return language_model(settings, num_symbols, num_positions, key), NoLatents()
    from tightbound.families.language.build_latents import sequence_vae
    from tightbound.models.wrappers import Noiseless

    model, proposal = sequence_vae(settings, num_symbols, num_positions, key)
    return model, proposal if latent_noise else Noiseless(proposal)


def _check_sizes(settings: LanguageModelSettings) -> None:
    """UserError for a model without features. What else is counted, the parts check themselves."""
    for name in ("size", "num_heads", "num_layers"):
        value = getattr(settings, name)
        if value < 1:
            raise UserError(f"`model.{name}` is {value}, but it counts something: give at least 1.")
