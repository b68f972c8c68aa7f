"""What a run of a Stein mixture needs besides its setup."""

from dataclasses import dataclass

from tightbound.data.point_tables import TargetScale
from tightbound.inference.stein import Interaction
from tightbound.train.setup import Setup


@dataclass(frozen=True)
class Details:
    """`Setup.details` of this family."""

    interaction: Interaction | None = None  # between the components, where one is stated
    target_scale: TargetScale | None = None  # of a regression: how its targets were normalised


def target_scale_of(setup: Setup) -> TargetScale | None:
    """None where targets are as they were stored."""
    return setup.details.target_scale if isinstance(setup.details, Details) else None
