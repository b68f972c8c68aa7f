"""What the family's law finds and its check judges. NumPy only."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Counts:
    """Draws of x at draws of z, against the rates that score them."""

    excess: Float[
        np.ndarray, " draws"
    ]  # mean over counts of (x - rate) / sqrt(rate): mean 0, variance 1 / D
