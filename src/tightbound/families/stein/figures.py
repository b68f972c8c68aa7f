"""Figures beside the bound of Stein mixtures: predictions, reconstructions, who answers for what."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Array, Float, PRNGKeyArray

    from tightbound.data.batch import Split
    from tightbound.estimators.estimate import Estimate
    from tightbound.evaluation import Evaluation
    from tightbound.models.mixture import Mixture
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

_MOST_ROWS = 256  # at once


def figures(
    setup: "Setup", state: "TrainState", split: "Split", evaluation: "Evaluation", seed: int
) -> "dict[str, Estimate]":
    """Of points that share their latents: how well they are predicted. Of images: how well they are
    rebuilt. Of mixtures with a density: who answers for what."""
    import jax

    from tightbound.families.stein.figures_points import point_figures
    from tightbound.inference.reconstruction import reconstruction_figures

    key = jax.random.key(seed)
    rebuilt = reconstruction_figures(
        state.model,
        setup.evaluated(state.proposal),
        split,
        setup.noise,
        key,
        kl=evaluation.kl,
        num_samples=len(evaluation.log_weights),
    )
    points = point_figures(setup, state, split, evaluation, seed)
    return points | rebuilt | component_figures(setup, state, split, evaluation, key)


def component_figures(
    setup: "Setup",
    state: "TrainState",
    split: "Split",
    evaluation: "Evaluation",
    key: "PRNGKeyArray",
) -> "dict[str, Estimate]":
    """Of a mixture whose components have densities, where z is inferred (not predicted from):

    - the entropy of the responsibilities q_l(z | x) / sum_j q_j(z | x), in nats per sequence, at one z
      of every component: 0 where components are apart, log m where they are one and the same;
    - every component's usage: the share of the normalised weights of its draws, 1 / m where all are
      worth the same. It needs as many draws as components, and uses those that are even over them.
    """
    from tightbound.estimators.units import per_sequence
    from tightbound.models.mixture import Mixture

    proposal = setup.evaluated(state.proposal)
    if not (isinstance(proposal, Mixture) and setup.is_bound) or split.given:
        return {}
    common: dict[str, Any] = {"bound": "none", "split": evaluation.split}
    num = proposal.num_components
    entropy = per_sequence(
        _responsibility_entropies(setup, proposal, state, split, key),
        estimator=f"of {num} components, one z of each",
        num_samples=num,
        **common,
    )
    figures = {f"entropy of responsibilities (at most {math.log(num):.3f})": entropy}
    shares = component_usage(evaluation.log_weights, num)
    if shares is None:
        return figures
    for index, share in enumerate(shares):
        usage = per_sequence(
            share,
            estimator="share of normalised weights",
            num_samples=len(evaluation.log_weights),
            **common,
        )
        figures[f"usage of component {index}"] = replace(usage, unit="share")
    return figures


def component_usage(
    log_weights: "Float[np.ndarray, 'samples rows']", num_components: int
) -> "Float[np.ndarray, 'component rows'] | None":
    """The share of every row's normalised weights that each component's draws hold; None where there
    are fewer draws than components. Draw s is of component s mod m, but for the last that are left
    over (`MixtureDistribution.sample_strata`), which do not count."""
    import numpy as np

    from tightbound.estimators.weights import normalised_weights

    num_even = len(log_weights) - len(log_weights) % num_components
    if num_even == 0:
        return None
    shares = normalised_weights(np.asarray(log_weights[:num_even], np.float64))
    return shares.reshape(-1, num_components, shares.shape[1]).sum(0)


def _responsibility_entropies(
    setup: "Setup",
    proposal: "Mixture",
    state: "TrainState",
    split: "Split",
    key: "PRNGKeyArray",
) -> "Float[np.ndarray, ' rows']":
    """Of every sequence (a pooled split is one), the mean over its components' draws."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.scipy.special import entr

    from tightbound.data.batch import chunks
    from tightbound.inference.predictive import posterior_draws

    noise_key, draw_key = jax.random.split(key)

    @eqx.filter_jit
    def entropies(model, proposal, batch) -> "Float[Array, ' batch']":
        noisy = batch if setup.noise is None else setup.noise(batch, noise_key)
        drawn = posterior_draws(model, proposal, noisy, num_samples=1, key=draw_key)

        def one_row(x, z):
            q = proposal.proposal(x)
            return entr(jax.vmap(q.responsibilities)(z)).sum(1).mean()

        of_rows = jax.tree.map(lambda leaf: jnp.moveaxis(leaf[:, 0], 1, 0), drawn)
        return jax.vmap(one_row)(noisy.x, of_rows)

    if split.pooled:
        batches = [(split.take(np.arange(len(split))), 1)]
    else:
        batches = chunks(split, min(_MOST_ROWS, len(split)))
    found = [
        np.asarray(entropies(state.model, proposal, jax.tree.map(jnp.asarray, batch)))[:real]
        for batch, real in batches
    ]
    return np.concatenate(found).astype(np.float64)
