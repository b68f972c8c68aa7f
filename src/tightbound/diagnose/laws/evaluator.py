"""Does the run's evaluator report what plain evaluation reports?"""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from tightbound.data.batch import Split, rows_of
from tightbound.data.labelled import Labelled, image_of
from tightbound.data.sentences import Sentence
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.probes import Pair
from tightbound.evaluation import evaluate
from tightbound.models.sequential import AbstractFiltered
from tightbound.train.setup import Setup


def evaluator(setup: Setup, pair: Pair, key: PRNGKeyArray) -> ev.Evaluator:
    """The run's evaluator and the plain one, on 64 held-out rows and on images that noise leaves
    alone (every pixel empty or full)."""
    valid = setup.data["valid"]
    few = rows_of(valid, np.arange(min(64, len(valid))))
    before = [np.array(leaf) for leaf in jax.tree.leaves(eqx.filter(pair, eqx.is_array))]

    model, trained = pair
    used = setup.evaluated(trained)

    def rows_and_units(function, split, proposal=used):
        found = function(
            *(model, proposal, split),
            num_samples=4,
            key=key,
            noise=setup.noise,
            filtering=setup.filtering,
        )
        rows = [found.site_means.get(name, np.zeros(len(split))) for name in model.kinds]
        return np.stack(rows), np.asarray(found.num_units)

    reported, reported_units = rows_and_units(setup.evaluator, few)
    expected, expected_units = rows_and_units(evaluate, few)
    under_trained = expected if used is trained else rows_and_units(evaluate, few, trained)[0]
    extreme = _saturated(few)
    after = [np.array(leaf) for leaf in jax.tree.leaves(eqx.filter(pair, eqx.is_array))]
    # bytes, since NaN is not equal to itself
    unchanged = all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))
    return ev.Evaluator(
        names=np.array(list(model.kinds)),
        reported=reported,
        expected=expected,
        reported_saturated=rows_and_units(setup.evaluator, extreme)[0],
        expected_saturated=rows_and_units(evaluate, extreme)[0],
        parameters_changed=not unchanged,
        num_particles=_num_particles(setup),
        trained_law=_law_of(trained),
        evaluated_law=_law_of(used),
        under_trained_law=under_trained.sum(0),
        reported_units=reported_units,
        expected_units=expected_units,
    )


def _num_particles(setup: Setup) -> int:
    """Behind one draw of the evaluator."""
    if setup.filtering is not None:
        return setup.filtering.num_particles
    return setup.model.num_particles if isinstance(setup.model, AbstractFiltered) else 1


def _law_of(proposal: Any) -> str:
    """The proposal as a reader would name it."""
    return str(getattr(proposal, "description", type(proposal).__name__))


def _saturated(split: Split) -> Split:
    """The same images with every number at its smallest or largest; other data as they are."""
    if isinstance(split.x, Sentence):
        return split
    if isinstance(split.x, Sequence) and isinstance(split.x.values, np.ndarray):
        return replace(split, x=Sequence(_extreme(split.x.values), split.x.mask))
    if not isinstance(image_of(split.x), np.ndarray):
        return split
    image = np.asarray(image_of(split.x))
    extreme = _extreme(image)
    x = Labelled(extreme, split.x.label) if isinstance(split.x, Labelled) else extreme
    return Split(split.name, x, split.mask, split.num_units, split.law)


def _extreme(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    return np.where(values > (float(low) + float(high)) / 2, high, low).astype(values.dtype)
