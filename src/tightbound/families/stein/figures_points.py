"""Figures of points that are predicted: log predictive, error of the mean, calibration of classes."""

from dataclasses import replace
from typing import TYPE_CHECKING

from tightbound.families.stein.details import target_scale_of

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, PRNGKeyArray, Real

    from tightbound.data.batch import Split
    from tightbound.estimators.estimate import Estimate
    from tightbound.evaluation import Evaluation
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


def point_figures(
    setup: "Setup", state: "TrainState", split: "Split", evaluation: "Evaluation", seed: int
) -> "dict[str, Estimate]":
    """Of points that are predicted from the training points; nothing for other data.

    The test log-likelihood is of the evaluation's own draws, every other figure of at most as many new
    ones, spread evenly over the components (at least one each). Of a regression also in the data's own
    units, where its targets were normalised.
    """
    import jax
    import numpy as np

    from tightbound.estimators import prediction
    from tightbound.models.point_model import AbstractPointModel

    if not (split.pooled and split.given):
        return {}
    described = evaluation.split
    log_p = np.asarray(evaluation.log_p["y"], np.float64)
    figures = {"log predictive": prediction.log_predictive(log_p, split=described)}
    if not isinstance(state.model, AbstractPointModel):  # which alone has a mean to ask for
        return figures
    expected, _ = predictions(
        setup, state, split.x.inputs, num_samples=len(log_p), key=jax.random.key(seed)
    )
    by_draw = expected.reshape(-1, *expected.shape[2:])
    target = np.asarray(split.x.target)
    if target.dtype.kind != "f":
        shares = by_draw if by_draw.ndim == 3 else prediction.both_classes(by_draw)
        return figures | {
            "accuracy": prediction.accuracy(shares, target, split=described),
            "Brier score": prediction.brier_score(shares, target, split=described),
            "calibration error": prediction.calibration_error(shares, target, split=described),
        }
    scale = target_scale_of(setup)
    unit = "data units" if scale is None else "normalised units"
    figures["RMSE"] = prediction.root_mean_square_error(
        by_draw, np.asarray(target, np.float64), unit=unit, split=described
    )
    if scale is None:
        return figures
    nats = figures["log predictive"]
    in_data_units = float(scale.log_density(np.array([nats.value]))[0])
    return figures | {
        "log predictive, data units": replace(nats, value=in_data_units),
        "RMSE, data units": times(figures["RMSE"], scale.scale, "data units"),
    }


def predictions(
    setup: "Setup",
    state: "TrainState",
    inputs: "Real[np.ndarray, 'points inputs']",
    *,
    num_samples: int,
    key: "PRNGKeyArray",
) -> """tuple[
    Float[np.ndarray, 'component sample points *outputs'], Float[np.ndarray, 'component sample points']
]""":
    """`predicted` at these inputs from the training points: what is expected, and draws of the targets.
    `num_samples` draws in all, or one of each component where these are more."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    from tightbound.inference.predictive import predicted
    from tightbound.models.mixture import Mixture
    from tightbound.models.point_model import AbstractPointModel

    assert isinstance(state.model, AbstractPointModel)
    proposal = setup.evaluated(state.proposal)
    num_components = proposal.num_components if isinstance(proposal, Mixture) else 1
    train = setup.data["train"]
    batch = jax.tree.map(jnp.asarray, train.take(np.arange(len(train))))
    found = eqx.filter_jit(predicted)(
        state.model,
        proposal,
        batch,
        jnp.asarray(inputs),
        num_samples=max(num_samples // num_components, 1),
        key=key,
    )
    return np.asarray(found.expected, np.float64), np.asarray(found.target, np.float64)


def times(estimate: "Estimate", factor: float, unit: str) -> "Estimate":
    """The same figure in a unit `factor` times smaller."""

    def scaled(error: float | None) -> float | None:
        return None if error is None else factor * error

    return replace(
        estimate,
        value=factor * estimate.value,
        standard_error=scaled(estimate.standard_error),
        monte_carlo_error=scaled(estimate.monte_carlo_error),
        unit=unit,
    )
