"""Splits of the points of one data set: training points share their latents, the others are predicted."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from tightbound.data.batch import Split, rows
from tightbound.data.points import Points


def nats_of_rows(
    nats: Mapping[str, Float[np.ndarray, " points"]], split: Split
) -> dict[str, Float[np.ndarray, " rows"]]:
    """log p of the rows of an evaluation: points that are predicted, or their sum where they are one
    data set that is explained."""
    if split.pooled and not split.given:
        return {name: of_points.sum(keepdims=True) for name, of_points in nats.items()}
    return dict(nats)


def point_splits(
    parts: Mapping[str, Points],
    *,
    law: str = "",
    groups: Mapping[str, np.ndarray] | None = None,
    group_names: tuple[str, ...] = (),
) -> dict[str, Split]:
    """Pooled splits, all but "train" to be predicted from what was fitted to "train".

    Groups are for splits that are predicted, whose points are scored one by one; the training points
    are a single sequence, which belongs to no group.
    """
    groups = groups or {}
    return {
        name: replace(
            rows(name, points, law=law, labels=groups.get(name)),
            pooled=True,
            given="" if name == "train" else "train",
            group_names=group_names if name in groups else (),
        )
        for name, points in parts.items()
    }
