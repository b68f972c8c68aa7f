"""The settings of a filter, as one record. Importing this imports no JAX."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

SchemeName = Literal["systematic", "stratified", "residual", "multinomial"]


@dataclass(frozen=True)
class Filtering:
    """How a population of particles is resampled; `particle_filter` says what each means."""

    num_particles: int = 16
    threshold: float | int = 0.5
    """Share of the particles below which the effective sample size makes them resample: 1 always, 0
    never."""
    every: int = 1
    """Steps between which resampling is considered."""
    resampling: SchemeName = "systematic"

    @property
    def arguments(self) -> dict[str, Any]:
        """The same as keyword arguments of `particle_filter`."""
        return asdict(self)

    def __post_init__(self):
        if self.num_particles < 1:
            raise ValueError(
                f"`num_particles` is {self.num_particles}, but a filter needs at least one particle "
                "per sequence. Give 1 for the ELBO, more for the filtering bound."
            )
        if not 0 <= self.threshold <= 1:
            raise ValueError(
                f"`threshold` is {self.threshold}, but it is a fraction of `num_particles`.\n"
                "Give 0 to never resample, 1 to resample at every step, 0.5 for the usual rule."
            )
        if self.every < 1:
            raise ValueError(
                f"`every` is {self.every}, but it counts steps between resamplings. Give 1 to "
                "consider every step, or `threshold=0` to never resample."
            )
