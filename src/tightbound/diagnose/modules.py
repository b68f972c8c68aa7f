"""The parts of a model and its proposal that a person would name."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree


def modules(tree: PyTree) -> dict[str, list[Array | np.ndarray]]:
    """The arrays of every part a person would name, of a tree shaped like (model, proposal): every
    field that holds parameters, "decoder", "output", ..., with "q." before the proposal's."""
    parts: dict[str, list[Array | np.ndarray]] = {}
    paths, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(tree, eqx.is_inexact_array))
    for path, leaf in paths:
        parts.setdefault(module_of(path), []).append(leaf)
    return parts


def module_of(path: tuple[Any, ...]) -> str:
    """The module a leaf of (model, proposal) belongs to; a wrapper is not what a person would name."""
    owner, *fields = path
    names = [str(key.name) for key in fields if hasattr(key, "name")]
    wrappers = _WRAPPERS if owner.idx == 0 else _WRAPPERS[:1]
    field = next((name for name in names if name not in wrappers), names[-1])
    return f"q.{field}" if owner.idx == 1 else field


_WRAPPERS = (
    "inner",
    "network",
)  # what they hold is what a person would name; a proposal may be one


def module_names(pair: PyTree) -> list[str]:
    """The names of `modules`, in order."""
    return list(modules(pair))
