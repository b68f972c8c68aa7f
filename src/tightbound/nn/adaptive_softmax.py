"""A softmax whose rare classes stand in clusters that most positions never look into."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.nn.cluster_normalisers import BLOCK, log_normalisers

_SHRINKING = 4  # of the width from one cluster to the next
_GRID = 48  # places among which the ends of clusters are looked for
_MOST_CLUSTERS = 4  # the head and three tails


class Tail(eqx.Module):
    """One cluster of rare classes, scored through fewer dimensions."""

    down: Float[Array, "narrow features"]
    matrix: Float[Array, "places narrow"]
    bias: Float[Array, " places"]


class AdaptiveSoftmax(eqx.Module):
    """Frequent classes and one entry for each cluster of rare ones in a first softmax, the classes of a
    cluster in one of their own.   Grave et al. 2017 (arXiv:1609.04309), sec. 4.

        p(y) = p(y in the head), or p(cluster of y in the head) p(y | cluster)

    Cluster i is scored through features / 4^i dimensions (their sec. 4.3), and only for the positions
    whose class is in it. It is a law of its own, not an estimate of another softmax.
    """

    head: Float[Array, "entries features"]
    head_bias: Float[Array, " entries"]
    tails: list[Tail]
    rank: Int[Array, " classes"]  # of every class, by frequency; not trained
    ends: tuple[int, ...] = eqx.field(static=True)  # of the clusters, in ranks; the head's first

    def __init__(
        self,
        num_features: int,
        counts: Int[np.ndarray, " classes"],
        ends: Sequence[int],
        *,
        key: PRNGKeyArray,
    ):
        """`ends` are the numbers of classes up to the end of each cluster but the last."""
        num_classes = len(counts)
        ends = (*ends, num_classes)
        if num_classes == 0:
            raise ValueError("A softmax over 0 classes was asked for; give at least one.")
        if any(b <= a for a, b in pairwise((0, *ends))):
            raise ValueError(
                f"The clusters of an adaptive softmax end at {list(ends[:-1])} of {num_classes} classes, but "
                "every cluster needs a class. Give rising numbers from 1 on, below the number of "
                "classes."
            )
        head_key, *keys = jax.random.split(key, len(ends))
        entries = ends[0] + len(ends) - 1
        self.head = jax.random.normal(head_key, (entries, num_features)) / num_features**0.5
        self.head_bias = jnp.zeros(entries)
        self.tails = [
            _tail(num_features, level, end - start, tail_key)
            for level, ((start, end), tail_key) in enumerate(
                zip(pairwise(ends), keys, strict=True), start=1
            )
        ]
        self.rank = jnp.asarray(np.argsort(np.argsort(-np.asarray(counts), kind="stable")))
        self.ends = ends

    def log_probs(self, features: Float[Array, " features"]) -> Float[Array, " classes"]:
        """log p of every class, in nats."""
        log_head = jax.nn.log_softmax(self.head @ features + self.head_bias)
        parts = [log_head[: self.ends[0]]]
        for i, tail in enumerate(self.tails):
            logits = tail.matrix @ (tail.down @ features) + tail.bias
            parts.append(log_head[self.ends[0] + i] + jax.nn.log_softmax(logits))
        return jnp.concatenate(parts)[self.rank]

    def along(
        self, features: Float[Array, "positions features"], classes: Int[Array, " positions"]
    ) -> Float[Array, " positions"]:
        """log p of one class at every position, in nats; a cluster is scored where its classes are."""
        rank = self.rank[classes]
        cluster = jnp.searchsorted(jnp.asarray(self.ends), rank, side="right")
        everywhere = jnp.ones(len(classes), bool)
        entry = jnp.where(cluster == 0, rank, self.ends[0] + cluster - 1)
        log_p = (self.head[entry] * features).sum(-1) + self.head_bias[entry]
        log_p = log_p - log_normalisers(features, everywhere, self.head, self.head_bias)
        for i, (tail, start) in enumerate(zip(self.tails, self.ends, strict=False), start=1):
            members = cluster == i
            place = jnp.clip(rank - start, 0, len(tail.bias) - 1)
            narrow = features @ tail.down.T
            logit = (tail.matrix[place] * narrow).sum(-1) + tail.bias[place]
            log_z = log_normalisers(narrow, members, tail.matrix, tail.bias)
            log_p = log_p + jnp.where(members, logit - log_z, 0.0)
        return log_p


def _tail(num_features: int, level: int, places: int, key: PRNGKeyArray) -> Tail:
    down_key, key = jax.random.split(key)
    narrow = narrow_size(num_features, level)
    return Tail(
        down=jax.random.normal(down_key, (narrow, num_features)) / num_features**0.5,
        matrix=jax.random.normal(key, (places, narrow)) / narrow**0.5,
        bias=jnp.zeros(places),
    )


def narrow_size(num_features: int, level: int) -> int:
    """The width of a cluster, the head being level 0."""
    return max(num_features // _SHRINKING**level, 1)


@dataclass(frozen=True)
class ClusterCost:
    """What it takes to score a cluster: a block of `BLOCK` positions takes

        fixed + per_number x classes x width

    in a unit of the caller's: seconds, or one number of a matrix. Grave et al. 2017, eq. 1 to 3 has c
    and lambda for these.
    """

    fixed: float
    per_number: float

    def of_cluster(self, positions: float, num_classes: int, width: int) -> float:
        """Of all blocks of so many positions; a part of a block counts as a part."""
        return positions / BLOCK * (self.fixed + self.per_number * num_classes * width)


def cheapest_ends(
    counts: Int[np.ndarray, " classes"] | Float[np.ndarray, " classes"],
    num_features: int,
    cost: ClusterCost,
) -> tuple[int, ...]:
    """Where clusters should end, classes sorted by how often they come: at most four clusters, their ends
    on a grid, by dynamic programming over the cost of one position. () where one softmax is cheapest."""
    mass = np.sort(np.asarray(counts, float) + 1.0)[::-1]
    total = np.concatenate([[0.0], np.cumsum(mass / mass.sum())])
    size = len(mass)
    grid = np.unique(np.round(np.geomspace(1, size, _GRID)).astype(int))
    best: dict[int, tuple[float, tuple[int, ...]]] = {size: (0.0, ())}
    for level in reversed(range(1, _MOST_CLUSTERS)):
        best = _from_level(level, best, grid, total, num_features, cost)
    found = []
    for end, (rest, ends) in best.items():
        head = cost.of_cluster(1.0, end, num_features)
        found.append((head + rest, () if end == size else (end, *ends[:-1])))
    return min(found)[1]


def _from_level(
    level: int,
    best: dict[int, tuple[float, tuple[int, ...]]],
    grid: Int[np.ndarray, " places"],
    total: Float[np.ndarray, " classes_and_none"],
    num_features: int,
    cost: ClusterCost,
) -> dict[int, tuple[float, tuple[int, ...]]]:
    """For every start, the cheapest clusters from there on, the first of which has this level; each with
    its entry in the head."""
    size, width = len(total) - 1, narrow_size(num_features, level)
    entry = cost.of_cluster(1.0, 1, num_features) - cost.of_cluster(1.0, 0, num_features)
    found: dict[int, tuple[float, tuple[int, ...]]] = {size: (0.0, ())}
    for start in map(int, grid[grid < size]):
        options = [
            (
                entry + cost.of_cluster(total[end] - total[start], end - start, width) + rest,
                (end, *ends),
            )
            for end, (rest, ends) in best.items()
            if end > start
        ]
        found[start] = min(options)
    return found
