"""Evidence from a model in training: jitted apart from the step, on fixed rows, with keys of its own.

Probes never touch the state they look at, so training is the same to the bit with or without them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Split
from tightbound.data.sequences import Sequence
from tightbound.diagnose import evidence as ev
from tightbound.diagnose.laws.mixtures import (
    components_on_host,
    motion_of_components,
    worth_of_components,
)
from tightbound.diagnose.modules import module_names, modules
from tightbound.diagnose.refused import watch_guard
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.mixture import mixtures
from tightbound.models.sequential import AbstractFiltered
from tightbound.models.stateful import proposed
from tightbound.terms import Kind
from tightbound.train.em import MonteCarloEM
from tightbound.train.loop import TrainState
from tightbound.train.setup import Setup

# A probe every 100 steps is to cost a few of them: so few rows and draws suffice in between.
NUM_ROWS = 32
FEW, MANY = 8, 32  # draws per held-out row: in between; before the first step and after the last
_MOST_POINTS = 4096  # of one data set
_DRAWS_OF_ONE_ROW = 20
MULTIPLES = (0.0, 1 / 30, 0.1, 1.0, 30.0)  # of the update

Pair = tuple[AbstractModel, AbstractProposal]


def is_probe_step(step: int) -> bool:
    """Steps 0, 1, 2, 4, ... 64, 100, 200, 300, ..."""
    return step % 100 == 0 or (step < 100 and step & (step - 1) == 0)


@runtime_checkable
class FamilyProbe(Protocol):
    """What a family's `probe` adds: a part of the compiled look at an update, and its evidence."""

    def during_update(self, model: PyTree[Any], gradient: PyTree[Any]) -> PyTree[Any]:
        """Of the model and the gradient of the loss by its parameters; compiled with the rest."""
        ...

    def on_host(self, model: PyTree[Any], found: PyTree[Any]) -> Mapping[str, Any]:
        """What was found, as groups of evidence by name."""
        ...


@dataclass(frozen=True)
class Probe:
    """The compiled probe of a run and the batches it always looks at."""

    same: Batch  # rows of the training split
    other: Batch
    held_out: Batch
    key: PRNGKeyArray
    look_at_draws: Callable[..., Any]
    look_at_update: Callable[..., Any]
    look_at_guard: Callable[[TrainState], ev.Guard | None]
    of_family: FamilyProbe | None

    def __call__(self, state: TrainState, *, num_samples: int = FEW) -> ev.Evidence:
        """Enqueue, wait, and bring the evidence to the host."""
        pair = (state.model, state.proposal)
        drawn = self.look_at_draws(pair, self.held_out, self.key, num_samples)
        moved = self.look_at_update(state, self.same, self.other, self.key)
        (terms, latents, residuals, worth), (gradients, line, own, motion, ahead) = jax.device_get(
            (drawn, moved)
        )
        same, other = np.split(line, 2, axis=1)
        return ev.Evidence(
            step=int(state.step),
            sites=sites_on_host(state.model, terms, self.held_out),
            latents=None if latents is None else ev.Latents(*latents),
            outputs=None if residuals is None else ev.Outputs(residuals),
            gradients=ev.Gradients(
                modules=np.array(module_names(pair)),
                norm=gradients["norm"],
                update_norm=gradients["update_norm"],
                parameter_norm=gradients["parameter_norm"],
                quantiles=gradients["quantiles"],
                cosine_with_bound=float(gradients["cosine_with_bound"]),
                cosine_of_halves=float(gradients["cosine_of_halves"]),
            ),
            line=ev.Line(np.array(MULTIPLES), same=same, other=other),
            schedule=ev.Schedule(float(ahead)),
            components=components_on_host(worth, motion),
            guard=self.look_at_guard(state),
        ).with_groups({} if self.of_family is None else self.of_family.on_host(state.model, own))


def make_probe(setup: Setup) -> Probe:
    """The probe of this setup: fixed rows of its splits, a key no other part uses."""
    noise = (lambda batch, key: batch) if setup.noise is None else setup.noise
    filtered = isinstance(setup.model, AbstractFiltered)  # its latents are no numbers
    kind = None if setup.family is None else setup.family.load("probe")
    of_family = None if kind is None else kind()

    @eqx.filter_jit
    def look_at_draws(pair, held_out, key, num_samples):
        model, proposal = pair[0], setup.evaluated(pair[1])
        noise_key, draw_key = jax.random.split(key)
        held_out = noise(held_out, noise_key)
        terms = weigh(model, proposal, held_out, num_samples=num_samples, key=draw_key)
        latents = None if filtered else _latents(model, proposal, held_out, draw_key)
        residuals = _residual_quantiles(model, proposal, held_out, draw_key)
        worth = worth_of_components(model, proposal, held_out, draw_key)
        return terms, latents, residuals, worth

    @eqx.filter_jit
    def look_at_update(state, same, other, key):
        noise_key, draw_key = jax.random.split(key)
        same, other = noise(same, noise_key), noise(other, noise_key)
        pair = (state.model, state.proposal)
        gradient, gradients = _gradients(setup, state, same, draw_key)
        parameters = eqx.filter(pair, eqx.is_inexact_array)
        update, opt_state = next_update(setup.optimiser, gradient, state.opt_state, parameters)
        steps_left = setup.run.steps - state.step
        ahead = largest_ahead(
            setup.optimiser, gradient, update, opt_state, parameters, steps_left=steps_left
        )
        update = optax.tree.scale(state.learning_rate_scale, update)
        gradients["update_norm"] = _norms(update)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), same, other)
        has_parts = bool(mixtures(state.proposal))
        line, gains = _along(pair, update, both, draw_key, in_parts=has_parts)
        motion = motion_of_components(setup, parameters, gradient, update)
        if motion is not None:
            motion["gains"] = gains
        own = None if of_family is None else of_family.during_update(state.model, gradient[0])
        return gradients, line, own, motion, ahead

    key = jax.random.fold_in(jax.random.key(setup.seed), 0xD0C)
    return Probe(
        *probe_batches(setup), key, look_at_draws, look_at_update, watch_guard(setup), of_family
    )


_MOST_CALLS = 32


def next_update(
    optimiser: optax.GradientTransformation, gradient: PyTree, state: PyTree, parameters: PyTree
) -> tuple[PyTree, PyTree]:
    """The first update that moves something if this gradient is given again and again, and the optimiser's
    state before it: one that accumulates gradients waits for several. Zeros if 32 gradients move nothing."""

    def waits(carry):
        calls, update, _, _ = carry
        still = [~(leaf != 0).any() for leaf in jax.tree.leaves(update)]
        return (calls < _MOST_CALLS) & jnp.all(jnp.array(still))

    def ask(carry):
        calls, _, _, state = carry
        update, after = optimiser.update(gradient, state, parameters)
        return calls + 1, update, state, after

    nothing = jax.tree.map(jnp.zeros_like, gradient)
    _, update, before, _ = jax.lax.while_loop(
        waits, ask, (jnp.zeros((), int), nothing, state, state)
    )
    return update, before


def largest_ahead(
    optimiser: optax.GradientTransformation,
    gradient: PyTree,
    update: PyTree,
    state: PyTree,
    parameters: PyTree,
    *,
    steps_left: Int[Array, ""],
    num_looks: int = 16,
) -> Float[Array, ""]:
    """The largest update that the optimiser would make of this gradient at steps to come, over `update`,
    which it makes now: its schedules are moved on, its moments stay. 1 where no update moves anything."""

    def size_after(share):
        steps = jnp.ceil(share * steps_left).astype(int)
        later, _ = optimiser.update(gradient, later_in_schedule(state, steps), parameters)
        return optax.tree.norm(later)

    largest = jax.lax.map(size_after, jnp.arange(1, num_looks + 1) / num_looks).max()
    now = optax.tree.norm(update)
    return jnp.where(now > 0, largest / now, jnp.where(largest > 0, jnp.inf, 1.0))


def later_in_schedule(state: PyTree, steps: Int[Array, ""]) -> PyTree:
    """The state of an optimiser with the counts of its schedules `steps` further: of optax's states those
    that count and hold nothing else, and those that hold hyperparameters."""

    def is_schedule(node: Any) -> bool:
        names = getattr(node, "_fields", ())
        return names == ("count",) or "hyperparams" in names

    def moved(node: Any) -> Any:
        if not is_schedule(node):
            return node
        held = {
            name: later_in_schedule(getattr(node, name), steps)
            for name in ("hyperparams_states", "inner_state")
            if hasattr(node, name)
        }
        return node._replace(count=node.count + steps.astype(node.count.dtype), **held)

    return jax.tree.map(moved, state, is_leaf=is_schedule)


def probe_batches(setup: Setup) -> tuple[Batch, Batch, Batch]:
    """Two disjoint batches of the training split and one of the held-out split."""
    train, valid = setup.data["train"], setup.data["valid"]
    if train.pooled:
        return _of_points(train, setup.run.batch_size, setup.seed)
    order = np.random.default_rng((setup.seed, 0xD0C)).permutation(len(train))
    held_out = valid.take(np.arange(min(NUM_ROWS, len(valid))))
    if setup.run.batch_size >= len(train):  # a batch holds all rows, and there are no others
        return train.take(order), train.take(np.roll(order, 1)), held_out
    size = min(NUM_ROWS, len(train) // 2)
    return train.take(order[:size]), train.take(order[size : 2 * size]), held_out


def _of_points(train: Split, batch_size: int, seed: int) -> tuple[Batch, Batch, Batch]:
    """Two disjoint minibatches of one data set, and all of it, or as much as a probe can afford: only
    what the latents were fitted to can tell of them."""
    order = np.random.default_rng((seed, 0xD0C)).permutation(len(train))[:_MOST_POINTS]
    if batch_size >= len(train):
        return train.take(order), train.take(np.roll(order, 1)), train.take(order)
    half = max(len(order) // 2, 1)
    return train.take(order[:half]), train.take(order[-half:]), train.take(order)


def repeated(batch: Batch, times: int) -> Batch:
    """A batch of one row as that row `times` over, each with draws of its own; other batches as they
    are. What is averaged over rows then has an error over draws."""
    if len(batch.rows) > 1:
        return batch
    many = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), times, axis=0), batch)
    return eqx.tree_at(lambda b: b.rows, many, np.arange(times, dtype=np.int32))


def sites_on_host(model: AbstractModel, terms: Any, batch: Batch) -> ev.Sites:
    """The sites of a batch, stacked."""
    sites = terms.sites
    return ev.Sites(
        names=np.array([site.name for site in sites]),
        observed=np.array([site.kind is Kind.OBSERVED for site in sites]),
        log_p=np.stack([np.asarray(site.total_log_p) for site in sites]),
        log_q=np.stack([np.asarray(site.total_log_q) for site in sites]),
        num_units=np.asarray(batch.num_units),
    )


def _norms(tree: PyTree) -> Float[Array, " module"]:
    """The norm of every module's part of a tree shaped like the parameters."""
    return jnp.stack([optax.tree.norm(leaves) for leaves in modules(tree).values()])


def _gradients(
    setup: Setup, state: TrainState, batch: Batch, key: PRNGKeyArray
) -> tuple[PyTree, dict[str, Array]]:
    """The training gradient, and how it compares with the gradient of the bound itself."""
    parameters, static = eqx.partition((state.model, state.proposal), eqx.is_inexact_array)

    def loss(parameters):
        model, proposal = eqx.combine(parameters, static)
        return -setup.objective(model, proposal, batch, key=key, step=state.step)[0]

    def bound_loss(parameters, half):
        model, proposal = eqx.combine(parameters, static)
        return -bound_to_climb(model, proposal, half, key)

    gradient = jax.grad(loss)(parameters)
    gathered = {
        "norm": _norms(gradient),
        "parameter_norm": _norms(parameters),
        "quantiles": jnp.stack([_quantiles(leaves) for leaves in modules(gradient).values()]),
        "cosine_with_bound": jnp.nan,
        "cosine_of_halves": jnp.nan,
    }
    middle = len(batch.rows) // 2
    if middle == 0:  # one row has no halves
        return gradient, gathered
    halves = jax.tree.map(
        lambda leaf: leaf[: 2 * middle].reshape(2, middle, *leaf.shape[1:]), batch
    )
    of_halves = jax.vmap(jax.grad(bound_loss), in_axes=(None, 0))(parameters, halves)
    training = ravel_pytree(gradient)[0]
    one, two = jax.vmap(lambda tree: ravel_pytree(tree)[0])(of_halves)
    gathered["cosine_with_bound"] = _cosine(training, one + two)
    gathered["cosine_of_halves"] = _cosine(one, two)
    return gradient, gathered


def bound_to_climb(
    model: AbstractModel, proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray
) -> Float[Array, ""]:
    """A scalar whose gradient estimates that of the bound. Where a filter sums out choices that are
    discrete, no gradient passes through their draws: Fisher's identity gives it (`train.em`)."""
    if isinstance(model, AbstractFiltered) and not model.sums_out:
        return MonteCarloEM()(model, proposal, batch, key=key, step=jnp.zeros((), int))[0]
    return weigh(model, proposal, batch, num_samples=2, key=key).log_weights.mean()


def _cosine(a: Float[Array, " n"], b: Float[Array, " n"]) -> Float[Array, ""]:
    """The cosine of two directions; NaN where one has no length."""
    return a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))


def _latents(
    model: AbstractModel, proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray
) -> tuple[Float[Array, "rows latent"], Float[Array, "rows latent"]] | None:
    """Mean and scale of the draws of every row, over all latents in one vector; of sequences, of
    some of their steps, each as a row. None where there are no latents."""
    if Kind.LATENT not in model.kinds.values():
        return None

    def one_row(x, row):
        keys = jax.random.split(jax.random.fold_in(key, row), MANY)
        draws = jax.vmap(proposed(model, proposal, x).sample)(keys)
        if goes_along(model, x, jax.tree.map(lambda leaf: leaf[0], draws)):
            draws = jax.vmap(lambda z: _some_steps(z, jnp.asarray(x.mask)))(draws)
        else:
            draws = jax.vmap(lambda z: ravel_pytree(z)[0][None])(draws)
        return draws.mean(0), draws.std(0)

    found = jax.vmap(one_row)(batch.x, jnp.asarray(batch.rows))
    mean, scale = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), found)
    return mean, scale


def goes_along(model: AbstractModel, x: PyTree[Array], z: PyTree[Array]) -> bool:
    """Whether z has an entry for every step of x, as the scores of its sites have; False where x is no
    sequence or z is one choice for all of it."""
    if not isinstance(x, Sequence):
        return False
    scores = jax.eval_shape(model.score, x, z)
    latents = [scores[name] for name, kind in model.kinds.items() if kind is Kind.LATENT]
    return all(score.shape == x.mask.shape for score in latents)


_STEPS = 8  # of a sequence that are looked at


def _some_steps(
    values: Float[Array, "time size"], mask: Bool[Array, " time"]
) -> Float[Array, "steps size"]:
    """Evenly spread over the real steps."""
    share = (jnp.arange(_STEPS) + 0.5) / _STEPS
    return values[(share * mask.sum()).astype(int)]


def _residual_quantiles(
    model: AbstractModel, proposal: AbstractProposal, batch: Batch, key: PRNGKeyArray
) -> Float[Array, " quantile"] | None:
    """Quantiles of x less the output's mean at one draw of z; None for a family that has no such
    `residual`."""
    inner: Any = getattr(model, "inner", model)
    if not hasattr(inner, "residual"):
        return None

    def one_row(x, row):
        z = proposed(model, proposal, x).sample(jax.random.fold_in(key, row))
        residual = inner.residual(x, z)
        return _some_steps(residual, jnp.asarray(x.mask)) if isinstance(x, Sequence) else residual

    return _quantiles([jax.vmap(one_row)(batch.x, jnp.asarray(batch.rows))])


def _quantiles(leaves: Iterable[Array | np.ndarray]) -> Float[Array, " quantile"]:
    """33 quantiles of at most some 4,000 entries, evenly spaced: sorting all of them takes longer
    than the step."""
    flat = jnp.concatenate([leaf.ravel() for leaf in leaves])
    return jnp.quantile(flat[:: max(flat.size // 4096, 1)], jnp.linspace(0.0, 1.0, 33))


def _along(
    pair: Pair, update: PyTree, batch: Batch, key: PRNGKeyArray, *, in_parts: bool
) -> tuple[Float[Array, "multiple rows"], Float[Array, "part multiple"]]:
    """The ELBO of every row at the parameters plus a multiple of the update, on fixed draws; and, with
    `in_parts`, what it gains on the first half of the rows, on average, when only the proposal or only
    the model moves (NaN for a model without parameters). A single row of each batch has several draws,
    which stand for rows: its bound has no other error."""
    parameters, static = eqx.partition(pair, eqx.is_inexact_array)
    num_samples = 1 if len(batch.rows) > 2 else _DRAWS_OF_ONE_ROW
    multiples = jnp.array(MULTIPLES)
    still = jnp.zeros_like(multiples)
    moves = [(multiples, multiples)] + [(still, multiples), (multiples, still)] * in_parts

    def at(scales):
        moved = [
            jax.tree.map(lambda p, u, scale=scale: p + scale * u, part, step)
            for part, step, scale in zip(parameters, update, scales, strict=True)
        ]
        model, proposal = eqx.combine(tuple(moved), static)
        terms = weigh(model, proposal, batch, num_samples=num_samples, key=key)
        return terms.log_weights.T.ravel()

    of_model, of_proposal = (jnp.concatenate(scales) for scales in zip(*moves, strict=True))
    bound = jax.lax.map(at, (of_model, of_proposal)).reshape(len(moves), len(multiples), -1)
    half = bound[1:, :, : bound.shape[2] // 2].mean(2)
    has_model = bool(jax.tree.leaves(parameters[0]))
    is_moved = jnp.array([[True], [has_model]])[: len(half)]
    return bound[0], jnp.where(is_moved, half - half[:, :1], jnp.nan)
