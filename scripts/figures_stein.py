"""The figures of Stein mixtures, for `verify.py`: each function is one check."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

Command = Callable[..., Any]  # a command's JSON document

DIMENSIONS, COMPONENTS, REPULSIONS = (1, 10, 100), (1, 5, 20), (0.1, 1.0)


def last_state(setup: Any) -> Any:
    """The state after all steps of a setup, without a folder."""
    from tightbound.train.loop import fit
    from tightbound.train.run import batches_of, first_state, run_keys

    state, (_, key, _) = first_state(setup), run_keys(setup.seed)
    for record in fit(
        state, batches_of(setup), setup.objective, setup.optimiser, key=key, noise=setup.noise
    ):
        if record.step == setup.run.steps:
            return record.state
    raise AssertionError("batches have no end")


def mixture_variance(proposal: Any) -> float:
    """The variance of a mixture of diagonal normals or of points, averaged over dimensions:
    mean of s_l^2 + variance of m_l."""
    parts = proposal.components
    means = np.asarray(parts.value if hasattr(parts, "value") else parts.mean, float)
    scales = np.zeros_like(means)
    if not hasattr(parts, "value"):
        scales = np.exp(np.asarray(parts.log_scale, float))
    return float((np.square(scales).mean(0) + means.var(0)).mean())


def gaussian_grid() -> dict[str, Any]:
    """N(0, I_d): the mixture's dimension-averaged variance, which must be 1, for every size and two
    repulsions, beside an independent implementation; and what SVGD has of it."""
    import jax

    found: dict[str, Any] = {"stein": {}, "svgd": {}}
    for size in DIMENSIONS:
        for count in COMPONENTS:
            for repulsion in REPULSIONS:
                setup = _gaussian(size, count, repulsion)
                variance = mixture_variance(last_state(setup).proposal)
                name = f"d {size}, m {count}, repulsion {repulsion:g}"
                found["stein"][name] = round(variance, 4)
                print(name, variance, flush=True)
            jax.clear_caches()
        svgd = _gaussian(size, 20, 1.0, method="svgd")
        found["svgd"][f"d {size}, m 20"] = round(mixture_variance(last_state(svgd).proposal), 4)
        print("svgd", size, found["svgd"], flush=True)
    return found


def _gaussian(size: int, count: int, repulsion: float, **settings: Any) -> Any:
    from tightbound.recipes.stein_targets import RECIPES

    base = RECIPES["stein/gaussian"]
    recipe = replace(
        base,
        target=replace(base.target, latent_size=size),
        mixture=replace(base.mixture, num_components=count, repulsion=repulsion, **settings),
        run=replace(base.run, steps=10_000),
    )
    return recipe.build(0)


def two_modes(keys: Sequence[int] = range(20)) -> dict[str, Any]:
    """1/2 N(-3, 1) + 1/2 N(3, 1) with 20 components: the mass of the mixture above 0, by key."""
    from scipy.stats import norm

    from tightbound.recipes.stein_targets import RECIPES

    masses = []
    for key in keys:
        parts = last_state(RECIPES["stein/two-modes"].build(key)).proposal.components
        means = np.asarray(parts.mean, float)[:, 0]
        scales = np.exp(np.asarray(parts.log_scale, float))[:, 0]
        masses.append(round(float(norm.sf(0, means, scales).mean()), 4))
        print(key, masses[-1], flush=True)
    return {"mass above 0": masses, "within 0.15": sum(abs(m - 0.5) <= 0.15 for m in masses)}
