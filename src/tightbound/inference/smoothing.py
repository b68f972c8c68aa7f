"""Smoothing by ancestor tracing: what the particles that survived a filter were at every step."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, Shaped

from tightbound.data.batch import Batch
from tightbound.estimators.bounds import step_evidence_and_weights
from tightbound.inference.filter import filter_particles
from tightbound.inference.filtering import Filtering
from tightbound.models.sequential import AbstractSequential, StepScores
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, Guide, Guided
from tightbound.terms import Kind, StepTerms

Read = Callable[[PyTree[Array], PyTree[Array]], PyTree[Array]]


def latents(state: PyTree[Array], z: PyTree[Array]) -> PyTree[Array]:
    """What `smooth` reads of a step by default: z_t."""
    return z


def smooth(
    model: AbstractStateful,
    proposal: AbstractStepwise,
    batch: Batch,
    filtering: Filtering,
    *,
    key: PRNGKeyArray,
    read: Read = latents,
) -> tuple[PyTree[Array], Float[Array, "particles batch"]]:
    """Whole trajectories of z with their normalised log-weights: an approximation to p(z | x).

        p(z | x)  ~  sum_n W_T^n delta(z^n),   z^n the line of descent that ends in particle n

    Kitagawa 1996, sec. 4.1. What `read(h_{t+1}, z_t)` makes of every step is kept: leaves begin with
    particles, batch, time. The draws are those of `filter_pair` with the same key and settings.

    Weighted means are biased, by O(1 / particles); multiplied by p-hat(x) / p(x) they have no bias.
    Each resampling leaves fewer distinct ancestors of early steps, so long sequences need many
    particles. At padding stands the last real step. Where every weight is 0 they count as equal.
    """
    terms, paths = lines(model, proposal, batch, filtering, key=key, read=read)
    return paths, final_log_weights(terms)


def lines(
    model: AbstractStateful,
    proposal: AbstractStepwise,
    batch: Batch,
    filtering: Filtering,
    *,
    key: PRNGKeyArray,
    read: Read = latents,
) -> tuple[StepTerms, PyTree[Array]]:
    """The record of the filter, and what `read` found along every line of descent, as in `smooth`."""
    terms, population = filter_particles(
        _Remembering(Guided(model, proposal)),
        batch,
        key=key,
        **filtering.arguments,
        read=lambda state: read(*state),
    )
    return terms, along(population.history, trace(terms.ancestors))


def trace(ancestors: Int[Array, "time particles batch"]) -> Int[Array, "time particles batch"]:
    """Which particle of every step each particle of the last step descends from.

        b_{T-1}^n = n,   b_{t-1}^n = a_t^(b_t^n)

    The ancestors of a padded step are the particles themselves, so lines pass straight through.
    """

    def step(line, parents):
        return jnp.take_along_axis(parents, line, axis=0), line

    last = jnp.broadcast_to(jnp.arange(ancestors.shape[1])[:, None], ancestors.shape[1:])
    return jax.lax.scan(step, last.astype(ancestors.dtype), ancestors, reverse=True)[1]


def along(
    history: PyTree[Array], lineages: Int[Array, "time particles batch"]
) -> PyTree[Shaped[Array, "particles batch time ..."]]:
    """What stood along every line of descent, from what the particles of every step were."""

    def of_sequence(values, line):  # time, particles
        return jax.vmap(lambda now, indices: now[indices])(values, line)

    def gather(leaf):
        by_sequence = jax.vmap(of_sequence, in_axes=(1, 2))(leaf, lineages)
        return jnp.moveaxis(by_sequence, (0, 1, 2), (1, 2, 0))

    return jax.tree.map(gather, history)


def final_log_weights(terms: StepTerms) -> Float[Array, "particles batch"]:
    """Normalised log-weights of the particles after the last step, in nats."""
    return step_evidence_and_weights(terms)[1][-1]


class _Remembering(AbstractSequential):
    """A guided particle that carries the z of its last step beside the model's state."""

    particle: Guided

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.particle.kinds

    def inputs(self, x: PyTree[Array]) -> Guide:
        return self.particle.inputs(x)

    def init(self, key: PRNGKeyArray) -> tuple[PyTree[Array], PyTree[Array]]:
        """Zeros stand for z: they are overwritten before anything reads them."""
        state = self.particle.init(key)
        prior = self.particle.model.prior
        z = jax.eval_shape(lambda: prior(state, jnp.zeros((), int)).sample(key))
        return state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), z)

    def step(
        self,
        state: tuple[PyTree[Array], PyTree[Array]],
        x_t: Guide,
        clock: Int[Array, ""],
        key: PRNGKeyArray,
    ) -> tuple[tuple[PyTree[Array], PyTree[Array]], StepScores]:
        z, following, scores = self.particle.drawn_step(state[0], x_t, clock, key)
        return (following, z), scores
