"""Emissions that are trained on drawn classes, and what that leaves in the model."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tightbound.estimators.class_proposals import DrawnClasses
from tightbound.estimators.sampled_softmax import (
    candidates_softmax,
    importance_softmax,
    negative_sampling,
    noise_contrast,
    with_target_softmax,
)
from tightbound.families.language.emissions import (
    AbstractEmission,
    AbstractScored,
    InnerProducts,
    Table,
)

DrawnKind = Literal["importance", "with-target", "candidates", "nce", "negative"]


class LearnedNormaliser(AbstractScored):
    """An emission with log Z = w . y + w_0 beside it, which noise-contrastive training reads; the exact
    softmax computes its own."""

    inner: AbstractScored
    weights: Float[Array, " features"]  # w
    bias: Float[Array, ""]  # w_0

    def __init__(self, inner: AbstractScored, num_features: int):
        self.inner = inner
        self.weights = jnp.zeros(num_features)
        self.bias = jnp.zeros(())

    def inner_products(
        self, features: Float[Array, "time features"], table: Table
    ) -> InnerProducts:
        return self.inner.inner_products(features, table)

    def log_normalisers(self, features: Float[Array, "time features"]) -> Float[Array, " time"]:
        """What is learned in place of log Z, in nats."""
        return features @ self.weights + self.bias


class ShiftedByProposal(AbstractScored):
    """softmax(s + log Q) of an emission's scores s: what negative sampling with noise Q learns to be p,
    since its best scores are log p - log(k Q) (Levy & Goldberg 2014, sec. 3.1). Nothing of Q is trained."""

    inner: AbstractScored
    counts: Int[Array, " classes"]  # Q is in proportion to (1 + count)^power
    power: float = eqx.field(static=True)

    def inner_products(
        self, features: Float[Array, "time features"], table: Table
    ) -> InnerProducts:
        products = self.inner.inner_products(features, table)
        shift = self.power * jnp.log1p(self.counts.astype(products.bias.dtype))
        return InnerProducts(products.vectors, products.matrix, products.bias + shift)


class SampledEmission(AbstractEmission):
    """In place of log p of the class that came, what an estimator makes of its score and of those of drawn
    classes, the same for every position. What is asked for beside training is exact."""

    exact: AbstractScored
    drawn: DrawnClasses
    kind: DrawnKind = eqx.field(static=True)

    def log_probs(
        self, features: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        return self.exact.log_probs(features, asked, table)

    def along(
        self,
        features: Float[Array, "time features"],
        classes: Int[Array, " time"],
        table: Table,
    ) -> Float[Array, " time"]:
        scored, drawn = self.exact, self.drawn
        if self.kind == "negative" and isinstance(scored, ShiftedByProposal):
            scored = scored.inner
        log_z = jnp.zeros(len(classes))
        if isinstance(scored, LearnedNormaliser):
            log_z = scored.log_normalisers(features)
        products = scored.inner_products(features, table)
        targets, samples = products.of(classes), products.of_all(drawn.classes)
        own, log_q = drawn.own_log_q, drawn.log_q[classes]
        match self.kind:
            case "importance":
                of_one = lambda t, s: importance_softmax(t, s, own)  # noqa: E731
                return jax.vmap(of_one)(targets, samples)
            case "with-target":
                hits = drawn.classes[None] == classes[:, None]
                of_one = lambda t, s, hit: with_target_softmax(t, s, own, hit)  # noqa: E731
                return jax.vmap(of_one)(targets, samples, hits)
            case "candidates":
                of_one = lambda t, q, s: candidates_softmax(t, q, s, own)  # noqa: E731
                return jax.vmap(of_one)(targets, log_q, samples)
            case "nce":
                of_one = lambda t, q, s, z: noise_contrast(t, q, s, own, z)  # noqa: E731
                return jax.vmap(of_one)(targets, log_q, samples, log_z)
            case "negative":
                return jax.vmap(negative_sampling)(targets, samples)
