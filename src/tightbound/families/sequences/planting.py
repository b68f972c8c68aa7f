"""How setups of sequences are made wrong: the faults of the first variational recurrent network.

As in `planting.py`, the doctor is told nothing: claim, baselines and the stated scale of offsets
stay as they are, but where the fault is that the scale is undone wrongly.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Split
from tightbound.data.sequences import Sequence
from tightbound.data.strokes import OffsetScale, Strokes
from tightbound.diagnose.laws.steps import without_earlier_weights
from tightbound.drill.planting import all_real, with_model, with_proposal
from tightbound.estimators.bounds import filtering_terms
from tightbound.evaluation import evaluate
from tightbound.families.sequences.details import Details, offset_scale_of
from tightbound.inference.stepwise import filter_pair, stepwise_pair
from tightbound.inference.weigh import weigh
from tightbound.models.base import Distribution
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, as_vector, harmless
from tightbound.nn.mixture_output import Mixture
from tightbound.nn.pen_output import StrokeLaw
from tightbound.terms import Kind
from tightbound.train.setup import Setup

Scores = dict[str, Array]

# --- the model -----------------------------------------------------------------------------------


def _as_it_is(value: Any) -> Any:
    return value


def _score_as_it_is(score: Scores, law: Any, x_t: PyTree[Array]) -> Scores:
    return score


class ChangedSteps(AbstractStateful):
    """A stateful model of which one part is changed: the scores of a step, the law of an observation,
    what the model sees of z, or what its state takes in of x."""

    inner: Any
    change_score: Callable[[Scores, Any, PyTree[Array]], Scores] = eqx.field(
        static=True, default=_score_as_it_is
    )
    change_law: Callable[[Any], Any] = eqx.field(static=True, default=_as_it_is)
    see: Callable[[PyTree[Array]], PyTree[Array]] = eqx.field(static=True, default=_as_it_is)
    change_readings: Callable[[PyTree[Array]], PyTree[Array]] = eqx.field(
        static=True, default=_as_it_is
    )

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.num_steps

    @property
    def decoder(self) -> Any:
        return self.inner.decoder

    def init(self) -> PyTree[Array]:
        return self.inner.init()

    def read(self, x_t: PyTree[Array]) -> PyTree[Array]:
        return self.inner.read(x_t)

    def readings(self, x: Sequence) -> PyTree[Array]:
        return self.change_readings(self.inner.readings(x))

    def memory(self, state: PyTree[Array]) -> Float[Array, " memory"]:
        return self.inner.memory(state)

    def prior(self, state: PyTree[Array], clock: Int[Array, ""]) -> Distribution:
        return self.inner.prior(state, clock)

    def likelihood(self, state: PyTree[Array], z: PyTree[Array]) -> Distribution:
        return self.change_law(self.inner.likelihood(state, self.see(z)))

    def advance(
        self, state: PyTree[Array], z: PyTree[Array], reading: PyTree[Array]
    ) -> PyTree[Array]:
        return self.inner.advance(state, self.see(z), reading)

    def step_score(
        self, state: PyTree[Array], z: PyTree[Array], x_t: PyTree[Array], clock: Int[Array, ""]
    ) -> Scores:
        score = super().step_score(state, z, x_t, clock)
        return self.change_score(score, self.likelihood(state, z), x_t)


def _changed(inner: Any, **changes: Any) -> ChangedSteps:
    kind: Any = ChangedSteps  # its abstract fields are properties
    return kind(inner, **changes)


def with_steps(**changes: Any) -> Callable[[Setup], Setup]:
    """The model changed, in the run and in its twin."""
    return with_model(lambda model: _changed(model, **changes))


def wrong_event_size(score: Scores, law: Any, x_t: PyTree[Array]) -> Scores:
    """The density of a vector of 200 entries, the number of latents, where x_t has two (docs/vrnn.md)."""
    return score | {"x": score["x"] - 0.5 * (200 - 2) * math.log(2 * math.pi)}


def squared_error(score: Scores, law: Any, x_t: PyTree[Array]) -> Scores:
    """Minus the squared error where log p belongs."""
    return score | {"x": -jnp.square(_residual(law, x_t)).sum()}


def signed_error(score: Scores, law: Any, x_t: PyTree[Array]) -> Scores:
    """Minus the sum of differences, not squared."""
    return score | {"x": -_residual(law, x_t).sum()}


def _residual(law: Any, x_t: PyTree[Array]) -> Float[Array, " size"]:
    """x less the output's mean; of strokes the offset alone, since the pen has a site of its own."""
    mean = law.mean
    if isinstance(x_t, Strokes):
        x_t, mean = x_t.offset, mean.offset
    return as_vector(x_t) - as_vector(mean)


def weights_for_log_weights(law: StrokeLaw) -> StrokeLaw:
    """log sum_k exp(pi_k + log N_k): pi where log pi belongs."""
    mixture: Any = law.offset
    return StrokeLaw(Mixture(jnp.exp(mixture.log_weights), mixture.components), law.pen_logit)


class GaussianPen(eqx.Module):
    """The law of a stroke's step whose pen is a normal number."""

    inner: StrokeLaw

    @property
    def mean(self) -> Strokes:
        return self.inner.mean

    @property
    def _pen(self) -> dist.Normal:
        return dist.Normal(self.inner.mean.pen, 0.1)

    def sample(self, key: PRNGKeyArray) -> Strokes:
        offset_key, pen_key = jax.random.split(key)
        offset = jnp.asarray(self.inner.offset.sample(offset_key))
        return Strokes(offset, jnp.asarray(self._pen.sample(pen_key)))

    def log_prob(self, value: Strokes) -> Scores:
        return self.inner.log_prob(value) | {"pen": self._pen.log_prob(value.pen)}


def one_step_ahead(readings: PyTree[Array]) -> PyTree[Array]:
    """What the state takes in of x_t is mixed with what it would take in of x_{t+1}: a network that
    reads in both directions, inside the generative model."""
    return jax.tree.map(lambda leaf: (leaf + jnp.roll(leaf, -1, axis=0)) / 2, readings)


def nothing(z: PyTree[Array]) -> PyTree[Array]:
    return jax.tree.map(jnp.zeros_like, z)


class ScoredInPieces(ChangedSteps):
    """Whole sequences are scored in pieces of three steps, each from the first state."""

    def score(self, x: Sequence, z: PyTree[Array]) -> dict[str, Float[Array, " time"]]:
        x = harmless(x)

        def step(state, inputs):
            z_t, x_t, reading, clock = inputs
            begins = clock % 3 == 0
            state = jax.tree.map(lambda new, old: jnp.where(begins, new, old), self.init(), state)
            return self.advance(state, z_t, reading), self.step_score(state, z_t, x_t, clock)

        inputs = (z, x.values, self.readings(x), jnp.arange(len(x.mask)))
        _, scores = jax.lax.scan(step, self.init(), inputs)
        return {name: jnp.where(x.mask, log_p, 0.0) for name, log_p in scores.items()}


def scored_in_pieces(setup: Setup) -> Setup:
    """Training goes on along the state; the pass that scores whole sequences begins anew."""
    kind: Any = ScoredInPieces
    return with_model(kind)(setup)


class WithoutCarry(ChangedSteps):
    """Every step begins from the first state."""

    def advance(
        self, state: PyTree[Array], z: PyTree[Array], reading: PyTree[Array]
    ) -> PyTree[Array]:
        return self.inner.init()


def evaluated_without_carry(setup: Setup) -> Setup:
    """Evaluation forgets the state between steps."""
    forgetful: Any = WithoutCarry

    def wrong(model, proposal, split, **settings):
        return evaluate(forgetful(model), proposal, split, **settings)

    return replace(setup, evaluator=wrong)


# --- the proposal --------------------------------------------------------------------------------


class ChangedProposal(AbstractStepwise):
    """A stepwise proposal whose distribution, or whose view of the mask, is changed."""

    inner: Any
    change: Callable[[Any], Any] = eqx.field(static=True, default=_as_it_is)
    sees_padding: bool = eqx.field(static=True, default=False)

    def context(self, model: Any, x: Sequence, readings: PyTree[Array]) -> PyTree[Array]:
        if self.sees_padding:
            x = Sequence(x.values, jnp.ones_like(x.mask))
        return self.inner.context(model, x, readings)

    def propose(
        self, model: Any, state: PyTree[Array], context: PyTree[Array], clock: Int[Array, ""]
    ) -> Distribution:
        return self.change(self.inner.propose(model, state, context, clock))


class AtMean(eqx.Module):
    """Draws the mean of a law and scores it as if it were drawn."""

    inner: Any

    def sample(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.mean

    def log_prob(self, value: PyTree[Array]) -> Any:
        return self.inner.log_prob(value)


class VarianceForScale(eqx.Module):
    """Draws with the variance where the scale belongs."""

    inner: Any

    def sample(self, key: PRNGKeyArray) -> Array:
        noise = jax.random.normal(key, self.inner.mean.shape)
        return self.inner.mean + self.inner.variance * noise

    def log_prob(self, value: Array) -> Array:
        return self.inner.log_prob(value)


def narrow(q: Any) -> dist.Distribution:
    """A scale of 1e-4 whatever x is."""
    return dist.Normal(q.mean, jnp.full_like(q.mean, 1e-4)).to_event(1)


def with_steps_proposed(**changes: Any) -> Callable[[Setup], Setup]:
    """The proposal changed, in the run and in its twin."""
    return with_proposal(lambda proposal: ChangedProposal(proposal, **changes))


# --- the objective -------------------------------------------------------------------------------


def masked_by_multiplication(setup: Setup) -> Setup:
    """Padding holds a marker so large that its density is 0, and scores are multiplied by the mask:
    0 * inf."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        def mark(leaf):
            mask = batch.mask.reshape(*batch.mask.shape, *[1] * (leaf.ndim - 2))
            return jnp.where(mask, leaf, jnp.finfo(leaf.dtype).max)

        marked = all_real(batch, jax.tree.map(mark, batch.x.values))
        sites = weigh(model, proposal, marked, num_samples=1, key=key).sites
        total = sum(
            ((site.log_p - (0 if site.log_q is None else site.log_q)) * batch.mask[None]).sum()
            for site in sites
        )
        _, terms = claim(model, proposal, batch, key=key, step=step)
        return total / len(batch.mask), terms

    return replace(setup, objective=wrong)


def earlier_weights_dropped(setup: Setup) -> Setup:
    """A filter's estimate that is right only where every step resamples."""
    claim: Any = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        terms = filter_pair(*stepwise_pair(model, proposal), batch, claim.filtering, key=key)
        return without_earlier_weights(terms).mean(), filtering_terms(terms)

    return replace(setup, objective=wrong)


# --- the data ------------------------------------------------------------------------------------


def _with_offsets(split: Split, offset: np.ndarray) -> Split:
    """The same strokes with other offsets at real steps."""
    real = split.mask[..., None]
    values = Strokes(np.where(real, offset, 0.0).astype(np.float32), split.x.values.pen)
    return replace(split, x=Sequence(values, split.mask))


def _raw(setup: Setup, split: Split) -> np.ndarray:
    scale = offset_scale_of(setup)
    assert scale is not None
    raw = scale.undo(split.x.values.offset)
    return np.where(split.mask[..., None], raw, 0.0)


def _each_split(setup: Setup, change: Callable[[Split], Split], *names: str) -> Setup:
    chosen = names or tuple(setup.data)
    changed = {name: change(setup.data[name]) for name in chosen if name in setup.data}
    return replace(setup, data=dict(setup.data) | changed)


def not_normalised(setup: Setup) -> Setup:
    """Offsets reach the model in the file's units."""
    return _each_split(setup, lambda split: _with_offsets(split, _raw(setup, split)))


def statistics_of_each_step(setup: Setup) -> Setup:
    """Mean and scale are taken over rows, padding counted, for each step apart."""
    raw = _raw(setup, setup.data["train"])
    mean, scale = raw.mean(0), raw.std(0) + 1e-3

    def wrong(split: Split) -> Split:
        length = min(len(mean), split.mask.shape[1])
        offset = _raw(setup, split)
        offset[:, :length] = (offset[:, :length] - mean[:length]) / scale[:length]
        return _with_offsets(split, offset)

    return _each_split(setup, wrong)


def own_statistics(setup: Setup) -> Setup:
    """Held-out offsets are normalised by their own mean and scale."""

    def wrong(split: Split) -> Split:
        raw = _raw(setup, split)
        real = raw[split.mask]
        return _with_offsets(split, (raw - real.mean(0)) / real.std(0))

    return _each_split(setup, wrong, "valid", "test")


class WrongInverse(OffsetScale):
    """Another inverse than that of the normalisation: (x + mean) * scale."""

    def undo(self, offsets: Any) -> Any:
        return (np.asarray(offsets, float) + self.mean) * self.scale


def inverted_wrongly(setup: Setup) -> Setup:
    """(x + mean) * scale for x * scale + mean."""
    scale = offset_scale_of(setup)
    assert scale is not None
    return replace(setup, details=Details(WrongInverse(scale.mean, scale.scale, scale.clip)))


def cut_from_index_one(split: Split) -> Split:
    """Rows cut at the cumulative lengths from the second on: the first two are one, the last is empty."""
    lengths = split.mask.sum(1)
    longest = max(int(lengths.max()), int(lengths[0] + lengths[1]))

    def shifted(leaf):
        rows = [leaf[row, :length] for row, length in enumerate(lengths)]
        rows = [np.concatenate(rows[:2]), *rows[2:], rows[0][:0]]
        whole = np.zeros((len(rows), longest, *leaf.shape[2:]), leaf.dtype)
        for into, row in zip(whole, rows, strict=True):
            into[: len(row)] = row
        return whole

    values = jax.tree.map(shifted, split.x.values)
    num_units = np.array([lengths[0] + lengths[1], *lengths[2:], 0], np.int32)
    mask = np.arange(longest) < num_units[:, None]
    return replace(
        split, x=Sequence(values, mask), mask=mask, num_units=num_units, groups=None, lengths=()
    )


def without_a_draw(setup: Setup) -> Setup:
    """Grey levels are given to the model as they are."""
    return replace(setup, noise=lambda batch, key: batch)


def drawn_at_half(setup: Setup) -> Setup:
    """Evaluation binarises by a threshold where training draws."""

    def at_half(batch: Batch, key: PRNGKeyArray) -> Batch:
        values: Any = batch.x
        bits = (jnp.asarray(values.values) > 0.5).astype(values.values.dtype)
        return eqx.tree_at(lambda b: b.x.values, batch, bits)

    def wrong(model, proposal, split, **settings: Any):
        return evaluate(model, proposal, split, **{**settings, "noise": at_half})

    return replace(setup, evaluator=wrong)


def with_nan(split: Split) -> Split:
    """One NaN among real offsets, as a failed measurement leaves it."""
    offset = np.array(split.x.values.offset)
    offset[17, 3, 0] = np.nan
    return _with_offsets(split, offset)


# --- the evaluator -------------------------------------------------------------------------------
