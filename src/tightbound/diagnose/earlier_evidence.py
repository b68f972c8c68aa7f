"""Evidence of earlier versions, brought to the groups of this one."""

from collections.abc import Mapping

import numpy as np

# fields of "objective" that were numbers of one family each: the cause they are named after now
_OF_ROWS = {
    "objective.heads_averaged": "heads_averaged_apart",
    "objective.weights_dropped": "earlier_weights_dropped",
}
_NORMS = ("objective.norms", "force_norm_as_loss")
_OF_DENSITY = {
    "objective.log_q_over_batch": "mixture_over_the_minibatch",
    "objective.log_q_own": "own_component_only",
}


def with_tables_of_rivals(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file, with the groups "rivals" and "density" where fields of "objective" were meant
    by them. Arrays that do not have the shape of those fields are left to the reader to refuse."""
    found = dict(arrays)
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
    if "density.log_q" not in arrays and number.ndim == 0 and number > 1:
        right = arrays["objective.log_q_per_datum"]
        values = {cause: arrays[name] for name, cause in _OF_DENSITY.items()}
        values["log_m_missing"] = right + np.log(number)
        found["density.log_q"], found["density.num_components"] = right, number
        found["density.causes"] = np.array(list(values))
        found["density.values"] = np.array(list(values.values()), float)
    return found
