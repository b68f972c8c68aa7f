"""How a setup that is right is made wrong: the ways the catalogue's faults are planted.

Each works on a setup as a whole, in the run and in its twin, and leaves alone what the doctor is
told: the claim, the baselines.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Split, rows_of
from tightbound.data.labelled import Labelled, image_of
from tightbound.data.noising import AsFloat
from tightbound.data.sequences import Sequence
from tightbound.evaluation import Evaluation, evaluate
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.twin import Twin
from tightbound.terms import Kind, LogTerms
from tightbound.train.setup import Setup

# --- the objective -------------------------------------------------------------------------------


def with_value(change: Callable[[LogTerms], Array]) -> Callable[[Setup], Setup]:
    """The objective's value replaced by a function of its terms."""

    def plant(setup: Setup) -> Setup:
        claim = setup.objective

        def wrong(model, proposal, batch, *, key, step):
            _, terms = claim(model, proposal, batch, key=key, step=step)
            return change(terms), terms

        return replace(setup, objective=wrong)

    return plant


def kl(terms: LogTerms) -> Array:
    return terms.log_proposal - terms.log_prior


def standard_kl(mean: Array, scale: Array) -> Array:
    """KL of N(mean, scale^2) from N(0, 1), in nats, summed over latents."""
    return 0.5 * (mean**2 + scale**2 - 1.0 - 2.0 * jnp.log(scale)).sum()


def with_closed_kl(form: Callable[[Array, Array], Array]) -> Callable[[Setup], Setup]:
    """The ELBO of one draw with a KL that is a function of q's mean and scale."""

    def plant(setup: Setup) -> Setup:
        def objective(model, proposal, batch, *, key, step):
            del step
            terms = weigh(model, proposal, batch, num_samples=1, key=key)

            def kl_of(x):
                q = proposal.proposal(x)
                return form(q.mean, jnp.sqrt(q.variance))

            return terms.log_likelihood.mean() - jax.vmap(kl_of)(batch.x).mean(), terms

        return replace(setup, objective=objective)

    return plant


def log_q_per_position(setup: Setup) -> Setup:
    """The record holds log q of all latents at every position, where it is counted once for each."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        _, terms = claim(model, proposal, batch, key=key, step=step)

        def spread(site):
            if site.log_q is None:
                return site
            mask = jnp.broadcast_to(batch.mask, (len(site.log_q), *batch.mask.shape))
            return replace(site, log_q=jnp.broadcast_to(site.log_q, mask.shape), mask=mask)

        terms = LogTerms(tuple(map(spread, terms.sites)), terms.num_units)
        return terms.log_weights.mean(), terms

    return replace(setup, objective=wrong)


def stop_draw(setup: Setup) -> Setup:
    """z is detached, so the decoder's gradient never reaches the encoder."""

    def wrong(model, proposal, batch, *, key, step):
        del step
        terms = weigh(model, proposal, batch, num_samples=1, key=key, path="stop_draw")
        return terms.log_weights.mean(), terms

    return replace(setup, objective=wrong)


def batch_statistics(setup: Setup) -> Setup:
    """Every image is centred by the mean of its batch before it is scored."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        centred = batch.x - batch.x.mean(0, keepdims=True)
        return claim(
            model, proposal, eqx.tree_at(lambda b: b.x, batch, centred), key=key, step=step
        )

    return replace(setup, objective=wrong)


# --- the model and the proposal ------------------------------------------------------------------


def _as_it_is(value: Any) -> Any:
    return value


class Changed(AbstractModel):
    """A model of which one part is changed: its scores, the draws of its prior, or what its
    likelihood sees of z."""

    inner: Any
    change_score: Callable[[dict[str, Array]], dict[str, Array]] = eqx.field(
        static=True, default=_as_it_is
    )
    change_draw: Callable[[PyTree[Array]], PyTree[Array]] = eqx.field(
        static=True, default=_as_it_is
    )
    see: Callable[[PyTree[Array]], PyTree[Array]] = eqx.field(static=True, default=_as_it_is)

    @property
    def kinds(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.change_draw(self.inner.sample_prior(key))

    def score(self, x: PyTree[Array], z: PyTree[Array]) -> dict[str, Array]:
        scores = self.inner.score(x, self.see(z))
        observed = {name: scores[name] for name in scores if self.kinds[name] is Kind.OBSERVED}
        return self.change_score(self.inner.score(x, z) | observed)

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(self.see(z), key)


def blind(model: AbstractModel) -> AbstractModel:
    """The decoder is given zeros for z."""
    return Changed(model, see=lambda z: jax.tree.map(jnp.zeros_like, z))


def wide_prior(model: AbstractModel) -> AbstractModel:
    """The prior is drawn twice as wide as it is scored."""
    return Changed(model, change_draw=lambda z: jax.tree.map(lambda leaf: 2.0 * leaf, z))


class VarianceForScale(AbstractProposal):
    """A proposal that takes its variance for its scale when drawing."""

    inner: Any

    def proposal(self, x: PyTree[Array]) -> Any:
        return _DrawnWithVariance(self.inner.proposal(x))


class _DrawnWithVariance:
    def __init__(self, inner: Any):
        self.inner = inner

    def sample(self, key: PRNGKeyArray) -> Array:
        noise = jax.random.normal(key, self.inner.mean.shape)
        return self.inner.mean + self.inner.variance * noise

    def log_prob(self, value: Array) -> Array:
        return self.inner.log_prob(value)


class NarrowProposal(AbstractProposal):
    """A proposal with a scale of 1e-4 whatever x is."""

    inner: Any

    def proposal(self, x: PyTree[Array]) -> Any:
        q = self.inner.proposal(x)
        return type(q.base_dist)(q.mean, jnp.full_like(q.mean, 1e-4)).to_event(1)


def with_model(change: Callable[[AbstractModel], AbstractModel]) -> Callable[[Setup], Setup]:
    """The model replaced, in the run and in its twin."""

    def plant(setup: Setup) -> Setup:
        return replace(
            setup,
            model=change(setup.model),
            twin=_twin(setup, lambda twin: replace(twin, model=change(twin.model))),
        )

    return plant


def with_proposal(
    change: Callable[[AbstractProposal], AbstractProposal],
) -> Callable[[Setup], Setup]:
    """The proposal replaced, in the run and in its twin."""

    def plant(setup: Setup) -> Setup:
        return replace(
            setup,
            proposal=change(setup.proposal),
            twin=_twin(setup, lambda twin: replace(twin, proposal=change(twin.proposal))),
        )

    return plant


def _twin(setup: Setup, change: Callable[[Twin], Twin]):
    original = setup.twin
    return None if original is None else lambda key: change(original(key))


def with_score(change: Callable[[dict[str, Array]], dict[str, Array]]) -> Callable[[Setup], Setup]:
    return with_model(lambda model: Changed(model, change))


def density_averaged(setup: Setup) -> Setup:
    """The mean over pixels for the sum, in the run and in its twin, each by its own size."""

    def averaged(model, x):
        size = image_of(x).shape[-1]
        return Changed(model, lambda score: score | {"x": score["x"] / size})

    return replace(
        setup,
        model=averaged(setup.model, setup.data["train"].x),
        twin=_twin(setup, lambda t: replace(t, model=averaged(t.model, t.observations))),
    )


def large_heads(setup: Setup) -> Setup:
    """Output weights fifty times too large."""
    where = lambda model: model.decoder.layers[-1].weight  # noqa: E731
    model: Any = setup.model
    return replace(setup, model=eqx.tree_at(where, model, 50.0 * where(model)))


# --- the optimiser -------------------------------------------------------------------------------


def with_optimiser(
    change: Callable[[optax.GradientTransformation], optax.GradientTransformation],
) -> Callable[[Setup], Setup]:
    return lambda setup: replace(setup, optimiser=change(setup.optimiser))


def scaled(factor: float):
    return lambda inner: optax.chain(inner, optax.scale(factor))


def accumulating(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Gradients add up and are never cleared."""
    return forgetting_every(None)(inner)


def forgetting_every(
    num_steps: int | None,
) -> Callable[[optax.GradientTransformation], optax.GradientTransformation]:
    """Gradients add up and are cleared every `num_steps` steps, or never."""

    def accumulate(inner: optax.GradientTransformation) -> optax.GradientTransformation:
        def init(params):
            return (
                inner.init(params),
                jax.tree.map(jnp.zeros_like, params),
                jnp.zeros((), jnp.int32),
            )

        def update(updates, state, params=None):
            inner_state, total, count = state
            clear = False if num_steps is None else count % num_steps == 0
            total = jax.tree.map(lambda old, new: jnp.where(clear, 0.0, old) + new, total, updates)
            updates, inner_state = inner.update(total, inner_state, params)
            return updates, (inner_state, total, count + 1)

        return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]

    return accumulate


def dropping(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Accumulation over four batches that keeps the last one only."""

    def init(params):
        return inner.init(params), jnp.zeros((), jnp.int32)

    def update(updates, state, params=None):
        inner_state, count = state
        stepped, new_state = inner.update(updates, inner_state, params)
        due = (count + 1) % 4 == 0
        choose = lambda new, old: jnp.where(due, new, old)  # noqa: E731
        updates = jax.tree.map(lambda new: choose(new, jnp.zeros_like(new)), stepped)
        return updates, (jax.tree.map(choose, new_state, inner_state), count + 1)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def clipping(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.clip(1e-8), inner)


def freezing_proposal(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Updates of the proposal are dropped: it was not among the parameters handed over."""

    def update(updates, state, params=None):
        updates, state = inner.update(updates, state, params)
        model, proposal = updates  # pyright: ignore[reportGeneralTypeIssues]
        return (model, jax.tree.map(jnp.zeros_like, proposal)), state

    return optax.GradientTransformation(inner.init, update)  # pyright: ignore[reportArgumentType]


# --- the data ------------------------------------------------------------------------------------


def with_split(name: str, change: Callable[[Split], Split]) -> Callable[[Setup], Setup]:
    def plant(setup: Setup) -> Setup:
        return replace(setup, data=dict(setup.data) | {name: change(setup.data[name])})

    return plant


def no_transform(setup: Setup) -> Setup:
    """The step that makes bits of grey levels does nothing."""
    return replace(setup, noise=AsFloat())


def inverted(split: Split) -> Split:
    """Ink and paper exchanged."""
    image = np.asarray(image_of(split.x))
    flipped = (int(image.max()) - image.astype(np.int64)).astype(image.dtype)
    x = Labelled(flipped, split.x.label) if isinstance(split.x, Labelled) else flipped
    return replace(split, x=x)


def repeated(split: Split) -> Split:
    """The first 64 rows, over and over."""
    return rows_of(split, np.arange(len(split)) % 64)


def with_nan(split: Split) -> Split:
    """One NaN, as a failed measurement leaves it."""
    x = np.asarray(split.x, np.float32).copy()
    x[17, 3] = np.nan
    return replace(split, x=x)


def validation_in_training(setup: Setup) -> Setup:
    """The held-out split was never taken out of the training split."""
    train, valid = setup.data["train"], setup.data["valid"]
    rows = slice(0, len(valid))

    def overwrite(leaf, other):
        leaf = np.array(leaf)
        leaf[rows] = other
        return leaf

    x = jax.tree.map(overwrite, train.x, valid.x)
    return replace(setup, data=dict(setup.data) | {"train": replace(train, x=x)})


def shift_labels(setup: Setup) -> Setup:
    """Every image has the label of the row before, in every split."""
    shifted = {
        name: replace(split, x=Labelled(split.x.image, np.roll(split.x.label, 1)))
        for name, split in setup.data.items()
    }
    return replace(setup, data=shifted)


# --- the evaluator -------------------------------------------------------------------------------


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


def mean_over_pixels(setup: Setup) -> Setup:
    """Evaluation averages log p(x | z) over pixels."""
    size = image_of(setup.data["train"].x).shape[-1]

    def averaged(evaluation: Evaluation) -> Evaluation:
        return replace(evaluation, log_p=evaluation.log_p | {"x": evaluation.log_p["x"] / size})

    return with_evaluation(averaged)(setup)


def without_kl(evaluation: Evaluation) -> Evaluation:
    zero = np.zeros_like(evaluation.log_p["z"])
    return replace(evaluation, log_p=evaluation.log_p | {"z": zero}, log_q={"z": zero})


# --- sequences, and populations of particles -----------------------------------------------------


def all_real(batch: Batch, values: PyTree[Array]) -> Batch:
    mask = jnp.ones_like(jnp.asarray(batch.mask))
    return Batch(Sequence(values, mask), mask, batch.num_units, batch.rows)


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


def padding_counted(setup: Setup) -> Setup:
    """The objective scores padding like everything else."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        return claim(model, proposal, all_real(batch, batch.x.values), key=key, step=step)

    return replace(setup, objective=wrong)


def held_out_sequences_in_training(setup: Setup) -> Setup:
    """The held-out rows stand in the training split, in the place of its first ones."""
    train, valid = setup.data["train"], setup.data["valid"]
    length = max(train.mask.shape[1], valid.mask.shape[1])

    def joined(one, other):
        parts = [np.asarray(valid_first) for valid_first in (other, one[len(other) :])]
        pads = [
            [(0, 0), (0, length - part.shape[1]), *[(0, 0)] * (part.ndim - 2)] for part in parts
        ]
        return np.concatenate([np.pad(part, pad) for part, pad in zip(parts, pads, strict=True)])

    x = jax.tree.map(joined, train.x, valid.x)
    units = np.concatenate([valid.num_units, train.num_units[len(valid) :]])
    both = replace(train, x=x, mask=x.mask, num_units=units, groups=None)
    return replace(setup, data=dict(setup.data) | {"train": both})


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
