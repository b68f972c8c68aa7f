"""What a bound has to beat, and whether it does."""

from collections.abc import Mapping

import numpy as np

from tightbound.estimators.estimate import Estimate


def best_baseline(baselines: Mapping[str, Estimate]) -> tuple[str, Estimate] | None:
    """The one to beat. Baselines are log-likelihoods in nats per sequence: larger is better."""
    finite = {name: e for name, e in baselines.items() if np.isfinite(e.value)}
    if not finite:
        return None
    name = max(finite, key=lambda name: finite[name].value)
    return name, finite[name]


def held_against(bound: Estimate, baseline: Estimate) -> str:
    """Where a bound lies against a baseline: "above", "below" or "not told apart from".

    Told apart by two standard errors of the difference, as if the two were independent: on the
    same sequences they rise and fall together, so this errs towards "not told apart from".
    """
    if not np.isfinite(bound.value):
        return "not to be compared with"
    margin = 2 * np.hypot(bound.standard_error or 0.0, baseline.standard_error or 0.0)
    if abs(bound.value - baseline.value) <= margin:
        return "not told apart from"
    return "above" if bound.value > baseline.value else "below"
