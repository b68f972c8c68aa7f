"""Made-up points that need no download, from laws that are known: a line, a wave, two classes.

Every set has the splits train, valid and test, the latter two to be predicted from the first, and is
a function of its settings and the seed.
"""

import numpy as np
from jaxtyping import Float

from tightbound.data.batch import Split
from tightbound.data.point_splits import point_splits
from tightbound.data.points import Points
from tightbound.errors import UserError

WAVE_CLUSTERS = ((-1.0, -0.7), (0.5, 1.0))  # where the inputs of training points are


def linear_points(
    num_points: int = 100,
    *,
    num_held_out: int = 100,
    input_size: int = 3,
    prior_scale: float = 1.0,
    noise_scale: float = 0.5,
    seed: int = 0,
) -> dict[str, Split]:
    """Points of a Bayesian linear regression: its log-marginal and its posterior are known.

        w ~ N(0, prior_scale^2 I),   x_i ~ N(0, I),   y_i ~ N(w . x_i, noise_scale^2)

    One w for all splits, and no intercept. `num_points` to train, `num_held_out` in each other split.
    """
    _check_sizes(num_points, num_held_out)
    random = np.random.default_rng((seed, 0x11EA))
    weights = prior_scale * random.standard_normal(input_size)
    parts = {}
    for name, size in _sizes(num_points, num_held_out).items():
        inputs = random.standard_normal((size, input_size))
        noise = noise_scale * random.standard_normal(size)
        parts[name] = _points(inputs, inputs @ weights + noise)
    return point_splits(parts, law=f"line with noise {noise_scale:g}")


def wave_points(
    num_points: int = 40, *, num_held_out: int = 200, noise_scale: float = 0.1, seed: int = 0
) -> dict[str, Split]:
    """A wave that is seen at both its ends and not between, with one input.

        y_i ~ N(cos(4 x_i + 0.8), noise_scale^2)

    Train and valid have every other point in [-1, -0.7] and every other in [0.5, 1], as in the studies
    of uncertainty between the data (Foong et al. 2019, arXiv:1906.11537). Test points are uniform on
    [-1, 1] and grouped by whether they lie "in" the clusters or "between" them.
    """
    _check_sizes(num_points, num_held_out)
    random = np.random.default_rng((seed, 0x3A7E))
    parts = {}
    for name, size in _sizes(num_points, num_held_out).items():
        ends = np.array([(-1.0, 1.0)] if name == "test" else WAVE_CLUSTERS)
        low, high = ends[np.arange(size) % len(ends)].T
        inputs = random.uniform(low, high)
        noise = noise_scale * random.standard_normal(size)
        parts[name] = _points(inputs[:, None], np.cos(4 * inputs + 0.8) + noise)
    groups = {name: _is_between(parts[name].inputs[:, 0]) for name in ("valid", "test")}
    return point_splits(
        parts, law=f"wave with noise {noise_scale:g}", groups=groups, group_names=("in", "between")
    )


def two_classes(
    num_points: int = 100,
    *,
    num_held_out: int = 100,
    input_size: int = 2,
    separation: float = 2.0,
    seed: int = 0,
) -> dict[str, Split]:
    """Two clouds, whose targets are the classes 0 and 1, equally likely.

        x_i | c_i ~ N((c_i - 1/2) separation u, I),   u = (1, ..., 1) / sqrt(input_size)

    So the classes given the inputs are a logistic regression without an intercept:
    log p(c = 1 | x) / p(c = 0 | x) = separation u . x.
    """
    _check_sizes(num_points, num_held_out)
    random = np.random.default_rng((seed, 0x2C1A))
    direction = np.full(input_size, separation / np.sqrt(input_size))
    parts = {}
    for name, size in _sizes(num_points, num_held_out).items():
        classes = random.integers(2, size=size, dtype=np.int32)
        centres = (classes - 0.5)[:, None] * direction[None]
        inputs = centres + random.standard_normal((size, input_size))
        parts[name] = Points(inputs.astype(np.float32), classes)
    return point_splits(parts, law=f"two clouds at distance {separation:g}")


def _is_between(inputs: np.ndarray) -> np.ndarray:
    """1 outside both clusters, else 0."""
    inside = [(low <= inputs) & (inputs <= high) for low, high in WAVE_CLUSTERS]
    return (~np.any(inside, axis=0)).astype(np.int32)


def _sizes(num_points: int, num_held_out: int) -> dict[str, int]:
    return {"train": num_points, "valid": num_held_out, "test": num_held_out}


def _points(
    inputs: Float[np.ndarray, "points inputs"], target: Float[np.ndarray, " points"]
) -> Points:
    return Points(inputs.astype(np.float32), target.astype(np.float32))


def _check_sizes(num_points: int, num_held_out: int) -> None:
    if min(num_points, num_held_out) < 1:
        raise UserError(
            f"{num_points} points to train and {num_held_out} to hold out were asked for; give at "
            "least 1 of each."
        )
