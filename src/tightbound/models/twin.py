"""A family shrunken until its sums and integrals can be done."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tightbound.models.base import AbstractModel, AbstractProposal


@dataclass(frozen=True)
class Twin:
    """The same family shrunken until its sums and integrals can be done: few observations, one or
    two standard-normal latents. `observations` lists every value of x, or a grid of them whose
    cells have `cell_volume`."""

    model: "AbstractModel"
    proposal: "AbstractProposal"
    observations: object  # pytree with a leading axis: all x, or a grid
    log_cell_volume: float = 0.0  # 0 for a sum
