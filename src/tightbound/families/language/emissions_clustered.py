"""Emissions that find a class by its cluster: normalised laws of their own."""

import jax
from jaxtyping import Array, Float, Int

from tightbound.families.language.emissions import AbstractEmission, Table
from tightbound.nn.adaptive_softmax import AdaptiveSoftmax
from tightbound.nn.two_level_softmax import TwoLevelSoftmax


class AdaptiveEmission(AbstractEmission):
    """An adaptive softmax, with matrices of its own."""

    softmax: AdaptiveSoftmax

    def log_probs(
        self, features: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        return self.softmax.log_probs(features)[asked]

    def along(
        self,
        features: Float[Array, "time features"],
        classes: Int[Array, " time"],
        table: Table,
    ) -> Float[Array, " time"]:
        return self.softmax.along(features, classes)


class TwoLevelEmission(AbstractEmission):
    """A two-level softmax, with matrices of its own."""

    softmax: TwoLevelSoftmax

    def log_probs(
        self, features: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        return self.softmax.log_probs(features)[asked]

    def along(
        self,
        features: Float[Array, "time features"],
        classes: Int[Array, " time"],
        table: Table,
    ) -> Float[Array, " time"]:
        return jax.vmap(self.softmax.log_prob)(features, classes)
