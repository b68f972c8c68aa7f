"""How a softmax over many classes is trained, as settings."""

from dataclasses import dataclass
from typing import Literal

from tightbound.unread import refuse_unread, refuse_unread_of
from tightbound.values import Amount, Count, Share, require_meant

SoftmaxKind = Literal[
    "exact", "importance", "with-target", "candidates", "nce", "negative", "adaptive", "two-level"
]

SAMPLED: tuple[SoftmaxKind, ...] = (
    "importance",
    "with-target",
    "candidates",
    "nce",
    "negative",
)
"""Kinds that are trained on drawn classes; held-out numbers are of the exact softmax."""

OWN_LAW: tuple[SoftmaxKind, ...] = ("adaptive", "two-level")
"""Kinds with a normalised law of their own, in training and in held-out numbers."""


@dataclass(frozen=True)
class SoftmaxSettings:
    """What stands for a softmax over all classes in training (docs/large-vocabularies.md)."""

    kind: SoftmaxKind = "exact"
    """exact: every class. importance, with-target, candidates, nce, negative: drawn classes, and
    held-out numbers of the exact softmax. adaptive, two-level: clusters, a law of their own."""
    num_samples: Count = 1000
    """Drawn kinds: classes drawn for each batch, the same for all its positions."""
    proposal: Literal["uniform", "unigram", "unigram-0.75", "batch"] = "unigram"
    """Drawn kinds: the law of the draws; batch: other tokens of the batch, weighed as unigrams."""
    tilt: Share = 0.0
    """importance, with-target: this share of the draws is of the batch's own targets, with exact weights."""
    learned_normaliser: bool = False
    """nce: log Z is a linear function of the context; False is 0."""
    clusters: tuple[Count, ...] = ()
    """adaptive: classes up to the end of each cluster but the last; none given chooses the cheapest."""
    cluster_cost: Amount = 250_000.0
    """adaptive: what one more cluster costs a block of 64 positions, in numbers of an output matrix
    that could be multiplied meanwhile."""

    def __post_init__(self):
        require_meant(self)
        read = {
            "importance": ("num_samples", "proposal", "tilt"),
            "with-target": ("num_samples", "proposal", "tilt"),
            "candidates": ("num_samples", "proposal"),
            "nce": ("num_samples", "proposal", "learned_normaliser"),
            "negative": ("num_samples", "proposal"),
            "adaptive": ("clusters", "cluster_cost"),
        }.get(self.kind, ())
        own = (
            *("num_samples", "proposal", "tilt", "learned_normaliser", "clusters"),
            "cluster_cost",
        )
        refuse_unread(self, "kind", *(name for name in own if name not in read))
        if self.clusters:
            refuse_unread_of(self, "clusters", self.clusters, ("cluster_cost",))
        if self.proposal == "batch":
            refuse_unread_of(self, "proposal", self.proposal, ("tilt",))
