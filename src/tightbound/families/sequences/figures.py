"""Two figures of a stroke model that are no likelihoods, beside those of a pen that knows nothing."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tightbound.families.sequences.details import offset_scale_of

if TYPE_CHECKING:
    from tightbound.data.batch import Split
    from tightbound.data.strokes import OffsetScale
    from tightbound.estimators.estimate import Estimate
    from tightbound.evaluation import Evaluation
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup


def stroke_figures(
    setup: "Setup", state: "TrainState", split: "Split", evaluation: "Evaluation", seed: int
) -> "dict[str, Estimate]":
    """Mean absolute offset error, in the file's units per step and coordinate, at one draw of z from
    the proposal (which has seen the offset), and the pen's cross-entropy, in nats per step; each
    beside its reference: the training mean, and the training base rate. Nothing for other data."""
    from tightbound.data.baselines.sequences import stroke_references
    from tightbound.estimators.units import per_unit

    scale = offset_scale_of(setup)
    if scale is None:
        return {}
    common: dict[str, Any] = {"bound": "none", "num_samples": 1, "split": evaluation.split}
    error = _absolute_errors(setup, state, split, scale, seed)
    figures = {
        "reconstructed offsets": per_unit(
            error, split.num_units, estimator="mean absolute offset error", **common
        ),
        "pen": per_unit(
            -evaluation.log_p["pen"].mean(0),
            split.num_units,
            estimator="cross-entropy",
            **common,
        ),
    }
    units = {"reconstructed offsets": "data units per step", "pen": "nats per step"}
    named = {name: replace(figure, unit=units[name]) for name, figure in figures.items()}
    return named | stroke_references(setup.data["train"], split, scale)


def _absolute_errors(
    setup: "Setup", state: "TrainState", split: "Split", offset_scale: "OffsetScale", seed: int
):
    """Of every row: |x - mean of x given z|, averaged over coordinates and summed over real steps."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    from tightbound.data.batch import chunks
    from tightbound.models.stateful import proposed

    @eqx.filter_jit
    def errors(model, proposal, batch, scale):
        def one_row(x, row):
            z = proposed(model, proposal, x).sample(jax.random.fold_in(jax.random.key(seed), row))
            off = jnp.abs(model.residual(x, z)[:, :2]) * scale[None]
            return jnp.where(x.mask, off.mean(1), 0.0).sum()

        return jax.vmap(one_row)(batch.x, batch.rows)

    scale = jnp.asarray(offset_scale.scale, jnp.float32)
    proposal = setup.evaluated(state.proposal)
    found = [
        np.asarray(errors(state.model, proposal, jax.tree.map(jnp.asarray, batch), scale))[:real]
        for batch, real in chunks(split, min(256, len(split)))
    ]
    return np.concatenate(found).astype(np.float64)
