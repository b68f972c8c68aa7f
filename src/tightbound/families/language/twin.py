"""The shrunken twin of a language model: two words and at most three symbols, so that all strings can
be listed and their probabilities summed."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tightbound.families.language.build_latents import DISCRETE
from tightbound.families.language.settings import LanguageModelSettings
from tightbound.unread import replaced

if TYPE_CHECKING:  # a recipe is looked up without JAX; only building needs it
    from jaxtyping import PRNGKeyArray

    from tightbound.models.twin import Twin

_LENGTH = 3
_EXPERTS = 32  # components of a product of experts: two experts, since one alone is its own bound


def twin_of(settings: LanguageModelSettings) -> "Callable[[PRNGKeyArray], Twin] | None":
    """What makes the twin of these settings; None for discrete latents, whose sums are no integrals."""
    if settings.latent.kind in DISCRETE:
        return None
    return partial(language_twin, settings)


def language_twin(settings: LanguageModelSettings, key: "PRNGKeyArray") -> "Twin":
    """The same settings, shrunken; a latent for the whole sequence has one entry (two where they are
    correlated).

    The observations are all there are: ended strings of up to three symbols, the end among them, and
    strings that three symbols cut short. Their probabilities sum to 1, given z where there is one.
    """
    import itertools

    import numpy as np

    from tightbound.data.sentences import EOS, UNKNOWN
    from tightbound.data.sequences import sequence_split
    from tightbound.families.language.pair import model_and_proposal
    from tightbound.models.twin import Twin

    words = (UNKNOWN, UNKNOWN + 1)
    unended = [list(row) for row in itertools.product(words, repeat=_LENGTH)]
    ended = [
        [*row, EOS] for size in range(_LENGTH) for row in itertools.product(words, repeat=size)
    ]
    rows = [np.array(row, np.int32) for row in [*ended, *unended]]
    model, proposal = model_and_proposal(_shrunken(settings), UNKNOWN + 2, _LENGTH, True, key)
    return Twin(model, proposal, observations=sequence_split("twin", rows).x)


def _shrunken(settings: LanguageModelSettings) -> LanguageModelSettings:
    structure, latent = settings.structure, settings.latent
    return replaced(
        settings,
        size=6,
        window=min(settings.window, _LENGTH),
        num_heads=2,
        num_layers=1,
        num_components=_EXPERTS if structure.kind == "factorial" else 4,
        structure=replaced(structure, num_slots=min(structure.num_slots, 2)),
        latent=replaced(latent, size=2 if latent.kind == "full-gaussian" else 1),
    )
