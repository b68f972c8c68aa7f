"""Figures beside the bound of images: how well they are rebuilt, and what z costs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tightbound.data.batch import Split
    from tightbound.estimators.estimate import Estimate
    from tightbound.evaluation import Evaluation
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


def figures(
    setup: "Setup", state: "TrainState", split: "Split", evaluation: "Evaluation", seed: int
) -> "dict[str, Estimate]":
    """The error of the reconstruction and the KL; nothing where images are not made of grey levels."""
    import jax

    from tightbound.inference.reconstruction import reconstruction_figures

    return reconstruction_figures(
        state.model,
        setup.evaluated(state.proposal),
        split,
        setup.noise,
        jax.random.key(seed),
        kl=evaluation.kl,
        num_samples=len(evaluation.log_weights),
    )
