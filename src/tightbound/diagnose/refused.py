"""Evidence about a step that a guard refused: which site, component and rows were not finite."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, epoch_rows, steps_per_epoch
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.mixtures import norms
from tightbound.diagnose.modules import modules
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.mixture import mixtures
from tightbound.terms import Kind
from tightbound.train.guard import GuardState, stopped_at
from tightbound.train.loop import TrainState, step_keys
from tightbound.train.run import batches_of, run_keys
from tightbound.train.setup import Setup


def watch_guard(setup: Setup) -> Callable[[TrainState], ev.Guard | None]:
    """`refused` of this setup's states; the replay is compiled at most once."""
    return partial(refused, setup, eqx.filter_jit(partial(_replay, setup)))


def refused(
    setup: Setup, replay: Callable[..., tuple[dict[str, Array], PyTree]], state: TrainState
) -> ev.Guard | None:
    """What a guard refused: the batch and the keys of a step are functions of its number, and the
    parameters are those that were kept. None where the optimiser has no guard."""
    is_guard = lambda node: isinstance(node, GuardState)  # noqa: E731
    if not any(map(is_guard, jax.tree.leaves(state.opt_state, is_leaf=is_guard))):
        return None
    step = stopped_at(state.opt_state)
    if step is None:
        unnamed, none = np.zeros(0, np.str_), np.zeros(0, int)
        return ev.Guard(-1, unnamed, none, none, none, unnamed)
    batch = next(batches_of(setup, start=step))
    _, key, _ = run_keys(setup.seed)
    bad, gradient = replay((state.model, state.proposal), batch, key, jnp.asarray(step))
    bad_scores = {name: np.asarray(flags) for name, flags in bad.items()}
    own = mixtures(gradient)
    sizes = np.asarray(norms(own[0].components)) if own else np.zeros(0)
    by_module = {
        name: all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
        for name, leaves in modules(gradient).items()
    }
    return ev.Guard(
        step=step,
        names=np.array(list(bad_scores)),
        bad_scores=np.array([int(flags.sum()) for flags in bad_scores.values()]),
        rows=_rows_of(setup, batch, bad_scores, step),
        components=np.flatnonzero(~np.isfinite(sizes)),
        modules=np.array([name for name, is_finite in by_module.items() if not is_finite], np.str_),
    )


def _replay(
    setup: Setup,
    pair: tuple[AbstractModel, AbstractProposal],
    batch: Batch,
    key: PRNGKeyArray,
    step: Int[Array, ""],
) -> tuple[dict[str, Bool[Array, "samples rows time"]], PyTree]:
    """Which scores of every site are not finite at an update, and its gradient."""
    parameters, static = eqx.partition(pair, eqx.is_inexact_array)
    noise_key, draw_key = step_keys(key, step)
    if setup.noise is not None:
        batch = setup.noise(batch, noise_key)

    def loss(parameters):
        model, proposal = eqx.combine(parameters, static)
        value, terms = setup.objective(model, proposal, batch, key=draw_key, step=step)
        return -value, terms

    gradient, terms = jax.grad(loss, has_aux=True)(parameters)
    bad = {
        site.name: ~jnp.isfinite(
            site.log_p if site.log_q is None else site.log_p + jnp.abs(site.log_q)
        )
        for site in terms.sites
    }
    return bad, gradient


def _rows_of(
    setup: Setup,
    batch: Batch,
    bad_scores: dict[str, Bool[np.ndarray, "samples rows time"]],
    step: int,
) -> np.ndarray:
    """Places in the training split; of a pooled one those of its points."""
    train = setup.data["train"]
    if not train.pooled:
        bad = np.any([flags.any((0, 2)) for flags in bad_scores.values()], axis=0)
        return np.asarray(batch.rows)[bad].astype(int)
    epoch, position = divmod(step, steps_per_epoch(train, setup.run.batch_size))
    rows = epoch_rows(train, setup.run.batch_size, setup.seed, epoch)[position]
    observed = [n for n, kind in setup.model.kinds.items() if kind is Kind.OBSERVED]
    bad = np.any([bad_scores[name].any((0, 1)) for name in observed], axis=0)
    return rows[bad].astype(int)
