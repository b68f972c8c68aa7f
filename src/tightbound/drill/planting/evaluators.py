"""The evaluator made wrong: training is right, and what is reported is not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from tightbound.data.batch import Batch, rows_of
from tightbound.data.labelled import image_of
from tightbound.evaluation import Evaluation, evaluate
from tightbound.train.setup import Setup


def with_evaluation(change: Callable[[Evaluation], Evaluation]) -> Callable[[Setup], Setup]:
    def plant(setup: Setup) -> Setup:
        inner = setup.evaluator

        def wrong(model, proposal, split, **settings):
            return change(inner(model, proposal, split, **settings))

        return replace(setup, evaluator=wrong)

    return plant


def thresholded(setup: Setup) -> Setup:
    """Evaluation binarises by a threshold where training draws."""
    levels = int(np.max(setup.data["train"].x))

    def at_half(batch: Batch, key: PRNGKeyArray) -> Batch:
        del key
        grey = jnp.asarray(batch.x, float)
        return eqx.tree_at(lambda b: b.x, batch, (2 * grey > levels).astype(grey.dtype))

    def wrong(model, proposal, split, **settings: Any):
        return evaluate(model, proposal, split, **{**settings, "noise": at_half})

    return replace(setup, evaluator=wrong)


def evaluated_with_dropout(setup: Setup) -> Setup:
    """Evaluation runs the decoder with a tenth of its hidden units switched off."""

    def dropped(model):
        where = lambda m: m.decoder.layers[-1].weight  # noqa: E731
        weight = where(model)
        keep = jnp.arange(weight.shape[1]) % 10 != 0
        return eqx.tree_at(where, model, jnp.where(keep[None, :], weight, 0.0))

    def wrong(model, proposal, split, **settings):
        return evaluate(dropped(model), proposal, split, **settings)

    return replace(setup, evaluator=wrong)


def whole_batches_alone(setup: Setup) -> Setup:
    """Evaluation leaves out the rows that fill no whole batch of 64."""
    inner = setup.evaluator

    def wrong(model, proposal, split, **settings):
        whole = rows_of(split, np.arange(len(split) // 64 * 64))
        return inner(model, proposal, whole, **settings)

    return replace(setup, evaluator=wrong)


def mean_over_pixels(setup: Setup) -> Setup:
    """Evaluation averages log p(x | z) over pixels."""
    size = image_of(setup.data["train"].x).shape[-1]

    def averaged(evaluation: Evaluation) -> Evaluation:
        return replace(evaluation, log_p=evaluation.log_p | {"x": evaluation.log_p["x"] / size})

    return with_evaluation(averaged)(setup)


def without_kl(evaluation: Evaluation) -> Evaluation:
    zero = np.zeros_like(evaluation.log_p["z"])
    return replace(evaluation, log_p=evaluation.log_p | {"z": zero}, log_q={"z": zero})


def normaliser_discarded(setup: Setup) -> Setup:
    """Evaluation reports the log of the first particle's normalised weight."""
    model: Any = setup.model if setup.filtering is None else setup.filtering
    num_particles = model.num_particles

    def normalised(evaluation: Evaluation) -> Evaluation:
        log_p = {name: np.zeros_like(value) for name, value in evaluation.log_p.items()}
        some = evaluation.log_weights
        log_p["reweighting"] = -np.log(num_particles) + 0.1 * np.tanh(some - some.mean())
        log_q = {name: np.zeros_like(value) for name, value in evaluation.log_q.items()}
        return replace(evaluation, log_p=log_p, log_q=log_q)

    return with_evaluation(normalised)(setup)


def divided_by_rows(setup: Setup) -> Setup:
    """Evaluation divides what is per sequence already by the number of sequences."""

    def divided(evaluation: Evaluation) -> Evaluation:
        num_rows = len(evaluation.rows)
        return replace(
            evaluation,
            log_p={name: value / num_rows for name, value in evaluation.log_p.items()},
            log_q={name: value / num_rows for name, value in evaluation.log_q.items()},
        )

    return with_evaluation(divided)(setup)
