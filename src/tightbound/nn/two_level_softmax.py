"""A softmax over clusters and one within the cluster: square roots of the vocabulary instead of all of it."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


class TwoLevelSoftmax(eqx.Module):
    """p(y) = p(cluster of y) p(y | cluster), each a softmax of the same features.   Goodman 2001
    (arXiv:cs/0108006).

    There are about sqrt(V) clusters of as many classes, in the order of the classes: by frequency, where
    a vocabulary is in that order. The last cluster is filled up with places that no class has. It is a
    law of its own, not an estimate of another softmax.
    """

    cluster_matrix: Float[Array, "clusters features"]
    cluster_bias: Float[Array, " clusters"]
    matrix: Float[Array, "clusters places features"]
    bias: Float[Array, "clusters places"]
    num_classes: int = eqx.field(static=True)

    def __init__(self, num_features: int, num_classes: int, *, key: PRNGKeyArray):
        if num_classes < 1:
            raise ValueError(
                f"A softmax over {num_classes} classes was asked for; give at least one."
            )
        cluster_key, key = jax.random.split(key)
        places = math.ceil(math.sqrt(num_classes))
        clusters = math.ceil(num_classes / places)
        scale = num_features**-0.5
        self.cluster_matrix = scale * jax.random.normal(cluster_key, (clusters, num_features))
        self.cluster_bias = jnp.zeros(clusters)
        self.matrix = scale * jax.random.normal(key, (clusters, places, num_features))
        self.bias = jnp.zeros((clusters, places))
        self.num_classes = num_classes

    def log_probs(self, features: Float[Array, " features"]) -> Float[Array, " classes"]:
        """log p of every class, in nats."""
        log_cluster = jax.nn.log_softmax(self.cluster_matrix @ features + self.cluster_bias)
        logits = self._in_use(self.matrix @ features + self.bias, jnp.arange(len(log_cluster)))
        log_place = jax.nn.log_softmax(logits, axis=-1)
        return (log_cluster[:, None] + log_place).reshape(-1)[: self.num_classes]

    def log_prob(self, features: Float[Array, " features"], y: Int[Array, ""]) -> Float[Array, ""]:
        """log p of one class, from the scores of the clusters and of its own cluster alone."""
        cluster, place = y // self.bias.shape[1], y % self.bias.shape[1]
        log_cluster = jax.nn.log_softmax(self.cluster_matrix @ features + self.cluster_bias)
        logits = self.matrix[cluster] @ features + self.bias[cluster]
        log_place = jax.nn.log_softmax(self._in_use(logits[None], cluster[None])[0])
        return log_cluster[cluster] + log_place[place]

    def _in_use(
        self, logits: Float[Array, "clusters places"], clusters: Int[Array, " clusters"]
    ) -> Float[Array, "clusters places"]:
        places = jnp.arange(logits.shape[1])[None]
        used = clusters[:, None] * logits.shape[1] + places < self.num_classes
        return jnp.where(used, logits, -jnp.inf)
