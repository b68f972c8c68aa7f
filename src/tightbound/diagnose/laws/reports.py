"""What a run reports of held-out rows, beside what plain evaluation says of the same state."""

import numpy as np

from tightbound.data.batch import rows_of
from tightbound.diagnose import evidence as ev
from tightbound.evaluation import evaluate
from tightbound.train.loop import TrainState
from tightbound.train.run import run_keys
from tightbound.train.setup import Setup

_NUM_ROWS = 256


def reported(setup: Setup, state: TrainState, stated: float) -> ev.Reported | None:
    """The bound of every row by the run's evaluator and by the plain one, with the run's own draws, and
    the number `stated` in its record. None for points of one data set, whose rows are one."""
    split = setup.data["valid"]
    if split.pooled:
        return None
    _, _, key = run_keys(setup.seed)

    def of_rows(function, some):
        found = function(
            *(state.model, setup.evaluated(state.proposal), some),
            num_samples=setup.run.evaluate_samples,
            key=key,
            noise=setup.noise,
            filtering=setup.filtering,
        )
        return np.asarray(found.log_weights, np.float64).mean(0)

    few = rows_of(split, np.arange(min(_NUM_ROWS, len(split))))
    return ev.Reported(
        stated=stated,
        num_rows=len(split),
        by_evaluator=of_rows(setup.evaluator, split),
        by_plain=of_rows(evaluate, few),
    )
