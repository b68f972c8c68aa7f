"""Evidence about counts: are they drawn at the rate that scores them?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from own_family.evidence import Counts
from tightbound.diagnose.laws.asked import Asked

NUM_DRAWS = 512


def laws(asked: Asked) -> dict[str, Any]:
    """The group "counts"."""
    model, _ = asked.pair

    @asked.compile
    def excess(model, key):
        def one(key):
            z_key, x_key = jax.random.split(key)
            z = model.sample_prior(z_key)
            rate = model.counts(z).base_dist.rate
            return ((model.sample_likelihood(z, x_key) - rate) / jnp.sqrt(rate)).mean()

        return jax.vmap(one)(jax.random.split(key, NUM_DRAWS))

    return {"counts": Counts(np.asarray(excess(model, asked.key), np.float64))}
