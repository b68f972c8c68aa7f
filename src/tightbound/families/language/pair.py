"""A language model and its proposal, from their settings."""

from typing import TYPE_CHECKING

from tightbound.families.language.build import language_model
from tightbound.families.language.settings import LanguageModelSettings

if TYPE_CHECKING:  # a recipe is looked up without JAX; only building needs it
    from jaxtyping import PRNGKeyArray

    from tightbound.families.language.build_softmax import Counts
    from tightbound.models.base import AbstractModel, AbstractProposal


def model_and_proposal(
    settings: LanguageModelSettings,
    num_symbols: int,
    num_positions: int,
    latent_noise: bool,
    key: "PRNGKeyArray",
    counts: "Counts | None" = None,
) -> "tuple[AbstractModel, AbstractProposal]":
    """The model and its proposal; `counts` as for `language_model`."""
    if settings.latent.kind == "none":
        from tightbound.models.no_latents import NoLatents

        return language_model(settings, num_symbols, num_positions, key, counts), NoLatents()
    from tightbound.families.language.build_latents import sequence_vae
    from tightbound.models.wrappers import Noiseless

    model, proposal = sequence_vae(settings, num_symbols, num_positions, key, counts)
    return model, proposal if latent_noise else Noiseless(proposal)
