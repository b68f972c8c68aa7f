"""Can the model fit one batch?  A batch of n different rows, seen over and over, has a known limit."""

import logging
from dataclasses import dataclass, replace

import jax
import numpy as np

from tightbound.data.batch import first_rows
from tightbound.data.labelled import image_of
from tightbound.diagnose.finding import Cause, Finding, Verdict
from tightbound.evaluation import evaluate
from tightbound.train.loop import fit
from tightbound.train.run import first_state, run_keys
from tightbound.train.setup import Setup

_log = logging.getLogger(__name__)

NUM_ROWS = 8

CANNOT_FIT = Cause(
    "cannot_fit_one_batch",
    "Eight rows, seen hundreds of times, are not learnt by heart: a part does not train, or the bound is "
    "not what is raised.",
    "Switch parts off (`objective.latent_noise`, `objective.kl_weight`) until it fits; the part "
    "switched off last is to blame.",
)


@dataclass(frozen=True)
class Fitted:
    """The bound on one batch before and after, and what a model that knows the batch reaches."""

    before: float  # nats per sequence
    after: float
    limit: float | None  # None for densities, which have none without a floor
    steps: int


def overfit(setup: Setup, *, steps: int = 1500) -> Fitted:
    """Train on eight rows whose noise is drawn once; the objective and optimiser are the setup's."""
    rows = first_rows(setup.data["train"], NUM_ROWS)
    batch = rows.take(np.arange(NUM_ROWS))
    _, key, evaluation_key = run_keys(setup.seed)
    if setup.noise is not None:
        batch = jax.tree.map(np.asarray, setup.noise(batch, key))
    fixed = replace(rows, x=batch.x)
    state = first_state(setup)

    def bound(state):
        terms = evaluate(state.model, state.proposal, fixed, num_samples=64, key=evaluation_key)
        return float(terms.log_weights.mean())

    before = bound(state)
    _log.info("fitting one batch, %d steps", steps)
    records = fit(state, (batch for _ in range(steps)), setup.objective, setup.optimiser, key=key)
    for record in records:
        state = record.state
    return Fitted(before, bound(state), _limit(image_of(batch.x)), steps)


def _limit(x: np.ndarray) -> float | None:
    """The largest mean log-probability of n rows of bits: -sum_i f_i log f_i over different rows,
    negated, reached by the distribution that draws exactly these rows."""
    if not np.isin(x, (0.0, 1.0)).all():
        return None
    _, counts = np.unique(np.asarray(x).reshape(len(x), -1), axis=0, return_counts=True)
    share = counts / counts.sum()
    return float((share * np.log(share)).sum())


def one_batch_is_fitted(fitted: Fitted, *, share: float = 0.8) -> Finding:
    """TB218. How much of the way from the untrained bound to the known limit was covered?

    Measured: (after - before) / (limit - before). A density has no limit without a floor; there
    half of the untrained bound's size must be gained.
    """
    code, check = "TB218", "one_batch_is_fitted"
    size = max(abs(fitted.before), 1.0)
    limit = fitted.limit if fitted.limit is not None else fitted.before + 0.5 * size
    covered = (fitted.after - fitted.before) / max(limit - fitted.before, 1e-6)
    fault = not covered >= share
    return Finding(
        code,
        check,
        Verdict.FAULT if fault else Verdict.OK,
        covered,
        share,
        "of the way to the limit",
        f"{NUM_ROWS} training rows, {fitted.steps} steps",
        f"The bound of one batch went from {fitted.before:.4g} to {fitted.after:.4g} nats per sequence; "
        f"knowing the batch by heart gives {limit:.4g}.",
        (CANNOT_FIT,) if fault else (),
    )
