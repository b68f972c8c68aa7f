"""From features to the next token: one softmax over all classes, or a mixture of few.

Classes are the symbols that can come next: end, unknown and the words. `table` has their embeddings.
"""

from abc import abstractmethod
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.families.language.inputs import over_feature_deviation

ComponentKind = Literal["tied", "scaled", "free"]
Table = Float[Array, "classes size"]


class AbstractEmission(eqx.Module):
    """p(class | features). What is asked for is a list of classes: one that came, or all of them."""

    @abstractmethod
    def log_probs(
        self, features: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        """log p(class | features) of the classes asked for, in nats."""

    @abstractmethod
    def along(
        self,
        features: Float[Array, "time features"],
        classes: Int[Array, " time"],
        table: Table,
    ) -> Float[Array, " time"]:
        """log p of the class that came, at every position of a sequence."""


class VectorEmission(AbstractEmission):
    """softmax(E (M y) + b): the output matrix is the embedding of the inputs.   Press & Wolf 2017
    (arXiv:1608.05859)."""

    map: Float[Array, "size features"]  # M
    bias: Float[Array, " classes"]  # b

    def __init__(self, num_features: int, size: int, num_classes: int, *, key: PRNGKeyArray):
        self.map = jax.random.normal(key, (size, num_features)) / num_features**0.5
        self.bias = jnp.zeros(num_classes)

    def log_probs(
        self, features: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        return _softmax_of(self.map @ features, asked, table, self.bias)

    def along(
        self,
        features: Float[Array, "time features"],
        classes: Int[Array, " time"],
        table: Table,
    ) -> Float[Array, " time"]:
        return _softmax_along(features @ self.map.T, classes, table, self.bias)


class MatrixEmission(AbstractEmission):
    """softmax(M y + b), with an output matrix of its own."""

    matrix: Float[Array, "classes features"]  # M
    bias: Float[Array, " classes"]  # b

    def __init__(self, num_features: int, num_classes: int, *, key: PRNGKeyArray):
        self.matrix = jax.random.normal(key, (num_classes, num_features)) / num_features**0.5
        self.bias = jnp.zeros(num_classes)

    def log_probs(
        self, features: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        return _softmax_of(features, asked, self.matrix, self.bias)

    def along(
        self,
        features: Float[Array, "time features"],
        classes: Int[Array, " time"],
        table: Table,
    ) -> Float[Array, " time"]:
        return _softmax_along(features, classes, self.matrix, self.bias)


def _softmax_of(
    vector: Float[Array, " size"],
    asked: Int[Array, " asked"],
    matrix: Float[Array, "classes size"],
    bias: Float[Array, " classes"],
) -> Float[Array, " asked"]:
    """log softmax(matrix vector + bias) at the classes asked for. Their rows are looked up: reading
    them off all logits would scatter the gradient over as many zeros."""
    logits = matrix[asked] @ vector + bias[asked]
    return logits - jax.nn.logsumexp(vector @ matrix.T + bias)


def _softmax_along(
    vectors: Float[Array, "time size"],
    classes: Int[Array, " time"],
    matrix: Float[Array, "classes size"],
    bias: Float[Array, " classes"],
) -> Float[Array, " time"]:
    """`_softmax_of` position by position, the logits made once more on the way back: those of one
    position of a batch stay in the processor's cache, where those of all would fill the memory. A
    third more arithmetic, and 0.6 of the time at 8,000 classes."""

    @jax.checkpoint
    def normaliser(vector):
        return jax.nn.logsumexp(vector @ matrix.T + bias)

    logits = (matrix[classes] * vectors).sum(-1) + bias[classes]
    return logits - jax.lax.map(normaliser, vectors)


class Components(eqx.Module):
    """K distributions over the classes, the same whatever the context.

    tied     softmax(E v_k)
    scaled   softmax(exp(s_k) E v_k / std(v_k)), std over the entries of v_k
    free     softmax(m_k), with K x classes numbers of their own
    """

    vectors: Float[Array, "components size"]  # v, or m where free
    log_scale: Float[Array, " components"] | None  # s
    kind: ComponentKind = eqx.field(static=True)

    def __init__(
        self,
        kind: ComponentKind,
        num_components: int,
        size: int,
        num_classes: int,
        *,
        key: PRNGKeyArray,
    ):
        if num_components < 1:
            raise ValueError(f"{num_components} components were asked for; give at least 1.")
        width = num_classes if kind == "free" else size
        self.vectors = jax.random.normal(key, (num_components, width))
        self.log_scale = jnp.zeros(num_components) if kind == "scaled" else None
        self.kind = kind

    def log_probs(
        self, asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, "components asked"]:
        """log p(class | k), in nats: one softmax for each component, whatever the number of tokens."""
        if self.kind == "free":
            logits = self.vectors
        else:
            vectors = self.vectors
            if self.log_scale is not None:
                vectors = jnp.exp(self.log_scale)[:, None] * over_feature_deviation(vectors)
            logits = vectors @ table.T
        return jax.nn.log_softmax(logits, axis=-1).T[asked].T


def mixed(
    log_weights: Float[Array, " components"], log_component: Float[Array, "components asked"]
) -> Float[Array, " asked"]:
    """log sum_k exp(log_weights_k) p(class | k), in nats.

    Along the last axis: of a batch of positions the sum along the first takes four times as long on a CPU.
    """
    return jax.nn.logsumexp(log_weights[None] + log_component.T, axis=1)


class MixtureEmission(AbstractEmission):
    """sum_k softmax(A y + a)_k p(class | k): the vocabulary is normalised over K times only, and the
    matrix of probabilities has rank K at most."""

    weights: Float[Array, "components features"]  # A
    weight_bias: Float[Array, " components"]  # a
    components: Components

    def __init__(self, num_features: int, components: Components, *, key: PRNGKeyArray):
        shape = (len(components.vectors), num_features)
        self.weights = jax.random.normal(key, shape) / num_features**0.5
        self.weight_bias = jnp.zeros(shape[0])
        self.components = components

    def log_weights(self, features: Float[Array, " features"]) -> Float[Array, " components"]:
        """log p(k | features), in nats."""
        return jax.nn.log_softmax(self.weights @ features + self.weight_bias)

    def log_probs(
        self, features: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        log_component = self.components.log_probs(asked, table)
        return mixed(self.log_weights(features), log_component)

    def along(
        self,
        features: Float[Array, "time features"],
        classes: Int[Array, " time"],
        table: Table,
    ) -> Float[Array, " time"]:
        return jax.vmap(lambda f, c: self.log_probs(f, c, table))(features, classes[:, None])[:, 0]
