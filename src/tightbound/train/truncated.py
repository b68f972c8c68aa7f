"""Training on windows of long sequences: backpropagation through the last steps only."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.estimators.bounds import filtering_terms, step_evidence_and_weights
from tightbound.inference.filter import Population, filter_particles
from tightbound.inference.filtering import Filtering
from tightbound.inference.stepwise import stepwise_pair
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.sequential import AbstractSequential, StepScores
from tightbound.models.stateful import Guide, Guided, constant
from tightbound.terms import Kind, LogTerms, Site
from tightbound.train.filtering import FilteringObjective
from tightbound.train.objective import InnerClaim, Objective


@dataclass(frozen=True)
class Truncated(InnerClaim):
    """An ELBO or a filtering bound, raised window by window (truncated backpropagation through time).

    A window has `span` steps (k2) and begins `stride` (k1) after the one before it. Its last `stride`
    steps count, in the first window all: every step counts once, and its gradient goes back through
    the steps of the window *before* it, not after it. Williams & Peng 1990, BPTT(h; h') with
    h = span, h' = stride; Sutskever 2013 (thesis), sec. 2.8.6.

    A window begins where the last one of the same rows was at that step, with the parameters of
    then, held constant; with a filter that is the whole population and its weights. With probability
    `reset`, drawn for every row and window, it begins anew instead, at clock 0. The steps shared by
    two windows are drawn once in each.

    The values of all windows sum to the bound of the whole sequences where the parameters do not
    move, unless the proposal reads ahead: it then reads to the end of the window. Called on whole
    sequences, it is `inner`.
    """

    inner: Objective | FilteringObjective
    stride: int  # k1
    span: int  # k2
    reset: float = 0.0

    def __post_init__(self):
        if not 1 <= self.stride <= self.span:
            raise ValueError(
                f"A gradient through the last {self.span} steps was asked for at every {self.stride} "
                "steps. The first number counts at least the second, and that at least 1: no step may "
                "be left out."
            )
        if not 0 <= self.reset <= 1:
            raise ValueError(
                f"`reset` is {self.reset}, but it is the probability that a window begins anew. Give "
                "0 to carry every state on, a few hundredths to start from nothing now and then."
            )
        if isinstance(self.inner, Objective):
            if self.inner.estimator != "elbo" or self.inner.free_bits > 0:
                raise ValueError(
                    "Windows were combined with free bits or with the estimator "
                    f"{self.inner.estimator!r}, which are of whole sequences: their windows do not "
                    "add up. Use 'elbo', or 'fivo' (threshold 0 makes it the IWAE bound)."
                )
        elif self.inner.resampling_gradient == "kept":
            raise ValueError(
                "The gradient of resampling was asked for ('kept'): it needs all that comes after, "
                "but a window ends before. Use 'dropped', or whole sequences."
            )

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms]:
        return self.inner(model, proposal, batch, key=key, step=step)

    def first_carry(
        self, model: AbstractModel, proposal: AbstractProposal, batch_size: int
    ) -> Population:
        """Particles before their first step; the first window makes them afresh, so that what
        the model says of its first state is learned."""
        size = (batch_size, self.num_samples)
        particle = _Since(Guided(*stepwise_pair(model, proposal), self.path))
        state = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (*size, *leaf.shape)),
            particle.init(jax.random.key(0)),
        )
        return Population(state=state, log_weights=jnp.zeros(size))

    def on_window(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        window: Batch,
        carry: Population,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms, Population]:
        """Of the steps that count: the scalar that is raised, the terms in nats, and the
        particles after the first `stride` steps, where the next window begins."""
        first_clock = jnp.asarray(window.first_clock)
        is_first = first_clock == 0
        rule = self._filtering
        start = _restarted(
            self.first_carry(model, proposal, len(window.rows)),
            constant(carry),
            is_first | _begins_anew(key, jnp.asarray(window.rows), first_clock, self.reset),
            first_clock,
        )
        terms, end = filter_particles(
            _Since(Guided(*stepwise_pair(model, proposal), self.path)),
            window,
            key=key,
            **rule.arguments,
            read=lambda state: state,
            start=start,
            first_clock=first_clock,
            skip_padding=False,
        )
        is_last = jnp.arange(self.span)[None] >= self.span - self.stride
        counts = jnp.asarray(window.mask) & (is_first | is_last)
        state = jax.tree.map(lambda leaf: leaf[self.stride - 1], end.history)
        if isinstance(self.inner, Objective):
            # Independent draws are not weighed against each other, so no weights go along.
            counted = _counted(LogTerms(terms.sites, terms.num_units), counts)
            value, log_weights = self.inner.surrogate(counted, step), start.log_weights
        else:
            evidence, weights = step_evidence_and_weights(terms)
            counted = _counted(filtering_terms(terms), counts)
            value = jnp.where(counts.T, evidence, 0.0).sum(0).mean()
            log_weights = weights[self.stride - 1].T
        return value, counted, constant(Population(state, log_weights))

    @property
    def _filtering(self) -> Filtering:
        """Independent draws are a filter that never resamples."""
        if isinstance(self.inner, FilteringObjective):
            return self.inner.filtering
        return Filtering(self.inner.num_samples, threshold=0.0)


class _Since(AbstractSequential):
    """A particle that counts its steps from where it last began: `AbstractStateSpace.prior` is
    the initial law there, wherever in the sequence that is."""

    particle: Guided

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.particle.kinds

    def inputs(self, x: Sequence) -> Guide:
        return self.particle.inputs(x)

    def init(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.particle.init(key), jnp.zeros((), jnp.int32)

    def step(
        self, state: PyTree[Array], x_t: Guide, clock: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[PyTree[Array], StepScores]:
        inner, begun = state
        inner, scores = self.particle.step(inner, x_t, clock - begun, key)
        return (inner, begun), scores


def _begins_anew(
    key: PRNGKeyArray, rows: Int[Array, " batch"], clock: Int[Array, ""], probability: float
) -> Bool[Array, " batch"]:
    """Which rows do not go on from what was carried."""

    def one(row):
        # The third key of a sequence: the filter uses the first two.
        own = jax.random.split(jax.random.fold_in(key, row), 3)[2]
        return jax.random.bernoulli(jax.random.fold_in(own, clock), probability)

    return jax.vmap(one)(rows)


def _restarted(
    fresh: Population, carried: Population, anew: Bool[Array, " batch"], clock: Int[Array, ""]
) -> Population:
    """The fresh particles where a row begins anew, at this clock; elsewhere the carried ones."""
    state, begun = fresh.state
    fresh = Population((state, jnp.full_like(begun, clock)), fresh.log_weights)

    def choose(new, old):
        return jnp.where(anew.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, carried)


def _counted(terms: LogTerms, counts: Bool[Array, "batch time"]) -> LogTerms:
    """The terms with only these steps left in them."""

    def counted(site: Site) -> Site:
        return Site(site.name, site.kind, site.log_p, site.log_q, site.mask & counts[None])

    return LogTerms(tuple(counted(site) for site in terms.sites), counts.sum(1))
