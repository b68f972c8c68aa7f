"""What a run on sequences needs besides its setup."""

from dataclasses import dataclass

from tightbound.data.strokes import OffsetScale
from tightbound.train.setup import Setup


@dataclass(frozen=True)
class Details:
    """`Setup.details` of this family."""

    offset_scale: OffsetScale | None = None  # of strokes: how their offsets were normalised


def offset_scale_of(setup: Setup) -> OffsetScale | None:
    """None where the run is not on strokes, or does not say how they were normalised."""
    return setup.details.offset_scale if isinstance(setup.details, Details) else None
