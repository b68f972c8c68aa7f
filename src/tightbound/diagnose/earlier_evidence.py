"""Evidence of earlier versions, brought to the groups of this one."""

from collections.abc import Mapping

import numpy as np

# fields of "objective" that were numbers of one family each: the cause they are named after now
_OF_ROWS = {
    "objective.heads_averaged": "heads_averaged_apart",
    "objective.weights_dropped": "earlier_weights_dropped",
}
_NORMS = ("objective.norms", "force_norm_as_loss")
_MOST_NORMS = 8
_OF_DENSITY = {
    "objective.log_q_over_batch": "mixture_over_the_minibatch",
    "objective.log_q_own": "own_component_only",
}


def with_tables_of_rivals(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file, with the groups "rivals" and "density" where fields of "objective" were meant
    by them. Arrays that do not have the shape of those fields are left to the reader to refuse."""
    found = {name: array for name, array in arrays.items() if not _is_other(name, array)}
    arrays, left = found.copy(), {name: arrays[name] for name in arrays if name not in found}
    rows = len(arrays.get("objective.surrogate", np.zeros(())).reshape(-1))
    if "rivals.causes" not in arrays:
        lines = [
            (cause, arrays[name])
            for name, cause in _OF_ROWS.items()
            if name in arrays and arrays[name].shape == (rows,) and np.isfinite(arrays[name]).any()
        ]
        name, cause = _NORMS
        lines += [(cause, np.full(rows, norm)) for norm in arrays.get(name, np.zeros(0)).ravel()]
        if lines:
            found["rivals.causes"] = np.array([cause for cause, _ in lines])
            found["rivals.values"] = np.array([values for _, values in lines])
    number = arrays.get("objective.num_components", np.zeros(0))
    needed = ("objective.log_q_per_datum", *_OF_DENSITY)
    has_all = all(name in arrays for name in needed)
    if "density.log_q" not in arrays and has_all and number.ndim == 0 and number > 1:
        right = arrays["objective.log_q_per_datum"]
        values = {cause: arrays[name] for name, cause in _OF_DENSITY.items()}
        values["log_m_missing"] = right + np.log(number)
        found["density.log_q"], found["density.num_components"] = right, number
        found["density.causes"] = np.array(list(values))
        found["density.values"] = np.array(list(values.values()), float)
    return found | left


def _is_other(name: str, array: np.ndarray) -> bool:
    """Whether an array has not the shape or the type of the field that it is called after."""
    if name == _NORMS[0]:
        return array.shape > (_MOST_NORMS,) or array.ndim != 1 or array.dtype.kind != "f"
    if name in _OF_DENSITY or name in ("objective.log_q_per_datum", "objective.num_components"):
        return array.ndim > 0 or array.dtype.kind not in "fiu"
    return name in _OF_ROWS and array.dtype.kind != "f"
