"""Sequential family x batch -> `StepTerms`: a population of particles, resampled on the way."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Shaped

from tightbound.data.batch import Batch
from tightbound.inference.filtering import Filtering
from tightbound.inference.resampling import SCHEMES, Scheme
from tightbound.models.sequential import AbstractPopulation, AbstractSequential, StepScores
from tightbound.terms import Kind, Site, StepTerms


def particle_filter(
    model: AbstractSequential | AbstractPopulation,
    batch: Batch,
    *,
    num_particles: int,
    key: PRNGKeyArray,
    resampling: str | Scheme = "systematic",
    threshold: float | int = 0.5,
    every: int = 1,
) -> StepTerms:
    """Run `num_particles` particles through every sequence: log-increments in nats, step by step.

        log p-hat(x) = sum_t log sum_n W_{t-1}^n w_t^n,   W normalised, 1/N after resampling

    is in expectation a lower bound on log p(x), and its exp is unbiased for p(x), whatever the
    rule of resampling: the filtering bound, Maddison et al. 2017 (arXiv:1705.09279), sec. 3, and
    Le et al. 2018 (arXiv:1705.10306), eq. 3. `estimators.bounds` reads it from the record.

    Before a step whose index is a multiple of `every`, a sequence whose effective number of
    particles is below `threshold * num_particles` is resampled. Threshold 1 resamples always;
    0 never, which is the importance-weighted bound and, with one particle, the ELBO.
    `resampling` names a scheme of `inference.resampling`, or is one: (key, weights) -> ancestors.

    Steps outside the mask leave states and weights alone. The keys of a sequence come from `key`,
    its row and the step, so neither padding nor neighbours change its draws. If all its weights
    are zero, its effective number is 0 and its bound -inf. NaN is passed on, not hidden.

    Call it under `eqx.filter_jit` together with what reads the record: parts that nobody reads
    (sites, ancestors) are then never stored.
    """
    settings = {"resampling": resampling, "threshold": threshold, "every": every}
    return filter_particles(model, batch, num_particles=num_particles, key=key, **settings)[0]


class Population(eqx.Module):
    """The particles after the last step, with everything they carry."""

    state: PyTree[Array]  # every leaf begins with batch, particles
    log_weights: Float[Array, "batch particles"]  # not normalised
    history: PyTree[Array] | None = None  # time, batch, particles: what was read after every step


def filter_particles(
    model: AbstractSequential | AbstractPopulation,
    batch: Batch,
    *,
    num_particles: int,
    key: PRNGKeyArray,
    resampling: str | Scheme = "systematic",
    threshold: float | int = 0.5,
    every: int = 1,
    read: Callable[[PyTree[Array]], PyTree[Array]] | None = None,
    start: Population | None = None,
    first_clock: Int[Array, ""] | int = 0,
    skip_padding: bool = True,
) -> tuple[StepTerms, Population]:
    """`particle_filter`, and the particles it ends with.

    What `read` makes of the state of one particle is kept after every step, as the history of the
    particles that were there then: `inference.smoothing` follows the lines of descent through it.

    `skip_padding` computes nothing at steps at which the whole batch is padding. Where gradients are
    taken through the filter it costs more than it saves: what the branch reads, all parameters among
    it, is then stored anew at every step. Cut the batch to its longest row instead (`Split.lengths`).

    The batch may go on where another ended: `start` are the particles from there, `first_clock` is
    the index of its first step. Keys and rules go by that index, so it makes the same draws as one
    pass. The weights at the start are in the first increments (normalised, over 1/N): the evidence
    of the record is that of its steps given those before them.

    A particle drawn by its weight, with the history it carries, is a draw from an approximation to
    the posterior that gets better with their number (Andrieu et al. 2010, sec. 2.2).
    """
    scheme = _scheme(resampling)
    Filtering(num_particles, threshold, every)  # refuses what cannot be meant
    population = model if isinstance(model, AbstractPopulation) else _Each(model, num_particles)
    mask = jnp.asarray(batch.mask)
    num_sequences, num_steps = mask.shape
    identity = jnp.broadcast_to(jnp.arange(num_particles), (num_sequences, num_particles))

    def is_needy(ess, real, clock):
        poor = ess < threshold * num_particles if threshold < 1 else jnp.ones_like(real)
        return real & poor & (clock > 0) & (clock % every == 0)

    def resample(state, log_weights, keys, needy):
        weights = jax.vmap(_relative_weights)(jax.lax.stop_gradient(log_weights))
        drawn = jax.vmap(scheme)(keys, weights).astype(identity.dtype)
        ancestors = jnp.where(needy[:, None], drawn, identity)
        log_weights = jnp.where(needy[:, None], 0.0, log_weights)
        return _gather(state, ancestors), log_weights, ancestors

    def keep(state, log_weights, keys, needy):
        return state, log_weights, identity

    def step(carry, inputs):
        state, log_weights, ess = carry
        x_t, real, clock, keys = inputs
        needy, ancestors = jnp.zeros_like(real), identity
        if threshold > 0 and num_particles > 1:
            needy = is_needy(ess, real, clock)
            # One scalar decides for the whole batch. A decision per sequence, under vmap, would
            # turn the branch into a select that resamples at every step and throws it away.
            state, log_weights, ancestors = jax.lax.cond(
                needy.any(), resample, keep, state, log_weights, keys[:, 0], needy
            )
        move = partial(_move, population, x_t, real, clock, keys[:, 1])
        if skip_padding:  # that the whole batch shares
            state, scores = jax.lax.cond(real.any(), move, partial(_stay, move), state)
        else:
            state, scores = move(state)
        increments = jnp.where(real[:, None], _log_increments(scores), 0.0)
        log_weights = log_weights + increments
        ess = jax.vmap(_ess)(log_weights)
        readings = None if read is None else jax.vmap(jax.vmap(read))(state)
        return (state, log_weights, ess), (increments, ancestors, needy, ess, scores, readings)

    clocks = first_clock + jnp.arange(num_steps)
    init_keys, step_keys = _keys(key, jnp.asarray(batch.rows), clocks)
    first = (
        (
            jax.vmap(lambda key: population.init(num_particles, key))(init_keys),
            jnp.zeros((num_sequences, num_particles)),
            jnp.full(num_sequences, float(num_particles)),
        )
        if start is None
        else (start.state, start.log_weights, jax.vmap(_ess)(start.log_weights))
    )
    inputs = jax.vmap(model.inputs)(batch.x)
    by_time = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), inputs)
    steps = (by_time, mask.T, clocks, step_keys)
    end, found = jax.lax.scan(step, first, steps)
    increments, ancestors, resampled, ess, scores, history = found
    if start is not None:
        before = jnp.where(resampled[0, :, None], 0.0, _over_uniform(start.log_weights))
        increments = increments.at[0].add(before)
    terms = StepTerms(
        log_increments=jnp.swapaxes(increments, 1, 2),
        ancestors=jnp.swapaxes(ancestors, 1, 2),
        resampled=resampled,
        mask=mask.T,
        ess=ess,
        num_units=jnp.asarray(batch.num_units),
        sites=tuple(_site(name, kind, scores[name], mask) for name, kind in model.kinds.items()),
    )
    return terms, Population(state=end[0], log_weights=end[1], history=history)


def one_of_each(
    particles: PyTree[Array],
    log_weights: Float[Array, "batch particles"],
    rows: Int[Array, " batch"],
    key: PRNGKeyArray,
) -> PyTree[Array]:
    """Of every sequence, one particle drawn by its weight; leaves begin with batch, particles."""

    def choose(particles, log_weights, row):
        chosen = jax.random.categorical(jax.random.fold_in(key, row), log_weights)
        return jax.tree.map(lambda leaf: leaf[chosen], particles)

    return jax.vmap(choose)(particles, log_weights, rows)


class _Each(AbstractPopulation):
    """The population of a family written for one particle: a key for each."""

    particle: AbstractSequential
    num_particles: int = eqx.field(static=True)

    def init(self, num_particles, key):
        return jax.vmap(self.particle.init)(jax.random.split(key, num_particles))

    def step(self, state, x_t, clock, key):
        keys = jax.random.split(key, self.num_particles)
        return jax.vmap(self.particle.step, in_axes=(0, None, None, 0))(state, x_t, clock, keys)


def _keys(
    key: PRNGKeyArray, rows: Int[Array, " batch"], clocks: Int[Array, " time"]
) -> tuple[Shaped[Array, "batch *key"], Shaped[Array, "time batch 2 *key"]]:
    """A key per sequence to start with; per step and sequence, one to resample and one to move."""

    def of_sequence(row):
        init_key, steps_key = jax.random.split(jax.random.fold_in(key, row))
        # Not `split` into their number: the keys of the real steps must not depend on the padding.
        of_step = jax.vmap(lambda clock: jax.random.split(jax.random.fold_in(steps_key, clock)))
        return init_key, of_step(clocks)

    return jax.vmap(of_sequence, out_axes=(0, 1))(rows)


def _move(population, x_t, real, clock, keys, state):
    """One step of every sequence at which it is real: the states, and the scores of all."""
    following, scores = jax.vmap(population.step, in_axes=(0, 0, None, 0))(state, x_t, clock, keys)
    return _select(real, following, state), scores


def _stay(move, state):
    """What `move` gives where no sequence is real: the states as they are, scores nobody reads."""
    _, scores = jax.eval_shape(move, state)
    return state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), scores)


def _gather(state: PyTree[Array], ancestors: Int[Array, "batch particles"]) -> PyTree[Array]:
    """Every leaf of the state of every particle's ancestor: a part left behind would belong to
    another particle."""
    return jax.tree.map(
        lambda leaf: jax.vmap(lambda own, index: own[index])(leaf, ancestors), state
    )


def _select(real: Bool[Array, " batch"], following: PyTree[Array], state: PyTree[Array]):
    """The state after the step where the step is real, the one before it at padding."""

    def select(new, old):
        return jnp.where(real.reshape(real.shape + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(select, following, state)


def _log_increments(scores: StepScores) -> Float[Array, "batch particles"]:
    """Sum over sites of log p - log q, in nats."""
    terms = [log_p if log_q is None else log_p - log_q for log_p, log_q in scores.values()]
    return jnp.sum(jnp.stack(terms), axis=0)


def _relative_weights(log_weights: Float[Array, " particles"]) -> Float[Array, " particles"]:
    """Weights scaled by the largest; all zero where all are zero."""
    largest = log_weights.max()
    return jnp.exp(log_weights - jnp.where(jnp.isneginf(largest), 0.0, largest))


def _over_uniform(
    log_weights: Float[Array, "batch particles"],
) -> Float[Array, "batch particles"]:
    """log W + log N, W the normalised weights: 0 for all where they are equal, or all zero."""
    mean = logsumexp(log_weights, axis=1, keepdims=True) - jnp.log(log_weights.shape[1])
    return jnp.where(jnp.isneginf(mean), 0.0, log_weights - mean)


def _ess(log_weights: Float[Array, " particles"]) -> Float[Array, ""]:
    """(sum w)^2 / sum w^2, from 1 to the number of particles; 0 where all weights are zero."""
    weights = _relative_weights(log_weights)
    return weights.sum() ** 2 / jnp.maximum((weights**2).sum(), jnp.finfo(weights.dtype).tiny)


def _site(
    name: str,
    kind: Kind,
    scores: tuple[
        Float[Array, "time batch particles"], Float[Array, "time batch particles"] | None
    ],
    mask: Bool[Array, "batch time"],
) -> Site:
    log_p, log_q = scores
    return Site(
        name=name,
        kind=kind,
        log_p=_particles_first(log_p),
        log_q=None if log_q is None else _particles_first(log_q),
        mask=jnp.broadcast_to(mask, (log_p.shape[-1], *mask.shape)),
    )


def _particles_first(
    term: Float[Array, "time batch particles"],
) -> Float[Array, "particles batch time"]:
    return term.transpose(2, 1, 0)


def _scheme(resampling: str | Scheme) -> Scheme:
    if callable(resampling):
        return resampling
    if resampling not in SCHEMES:
        raise ValueError(
            f"`resampling` is {resampling!r}, but the schemes are {', '.join(SCHEMES)}.\n"
            "Name one of them, or give a function (key, weights) -> ancestors."
        )
    return SCHEMES[resampling]
