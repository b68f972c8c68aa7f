"""Points of one data set that share their latents: what a Bayesian regression or a classifier sees."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PyTree, Real


class Points(eqx.Module):
    """Inputs, which are given, and the target, which is modelled: of one point, or of many."""

    inputs: Real[Array | np.ndarray, "*points inputs"]
    target: Real[Array | np.ndarray, "*points"]


class PointSet(eqx.Module):
    """Points of one data set, as a batch of a pooled split holds them.

    `weight` says how many points of the data set each stands for: 1 where all are there, N / n in a
    minibatch of n of N, 0 at padding. A model multiplies log p(y_i | x_i, theta) by it, so the
    minibatch's log p(D, theta) is unbiased.
    """

    points: PyTree[Array | np.ndarray]  # leaves have an axis of points
    weight: Float[Array | np.ndarray, "*batch points"]
