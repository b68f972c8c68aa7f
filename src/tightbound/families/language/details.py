"""What a run of a language model needs besides its setup."""

from dataclasses import dataclass

from tightbound.data.vocabulary import Vocabulary
from tightbound.train.setup import Setup


@dataclass(frozen=True)
class Details:
    """`Setup.details` of this family."""

    vocabulary: Vocabulary  # what its symbols stand for


def vocabulary_of(setup: Setup) -> Vocabulary | None:
    """None where the run's symbols stand for nothing that is known."""
    return setup.details.vocabulary if isinstance(setup.details, Details) else None
