"""The catalogue of planted faults: each takes a setup that is right and returns one that is not.

A fault says beforehand which finding must name it and by which cause. It never touches what the
doctor is told (`claim`, baselines), only what the run does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch, Split
from tightbound.data.labelled import Labelled, image_of
from tightbound.data.noising import AsFloat
from tightbound.diagnose.checks import (
    data,
    evaluation,
    latents,
    objective,
    optimisation,
    probability,
)
from tightbound.diagnose.finding import Cause
from tightbound.evaluation import Evaluation, evaluate
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.wrappers import Noiseless
from tightbound.terms import LogTerms
from tightbound.train.setup import Setup, Twin


@dataclass(frozen=True)
class Fault:
    """A kind of fault: what it does, to which setups, and what must be said of it."""

    name: str
    group: str  # as in the list of fault kinds: "not a probability model", "optimisation", ...
    says: str
    plant: Callable[[Setup], Setup]
    expected: Cause
    codes: tuple[str, ...]  # findings that count as found
    recipes: tuple[str, ...] = ("vae/digits", "vae/digits-gaussian", "vae/digits-iwae")


# --- the objective -------------------------------------------------------------------------------


def _with_value(change: Callable[[LogTerms], Array]) -> Callable[[Setup], Setup]:
    """The objective's value replaced by a function of its terms."""

    def plant(setup: Setup) -> Setup:
        claim = setup.objective

        def wrong(model, proposal, batch, *, key, step):
            _, terms = claim(model, proposal, batch, key=key, step=step)
            return change(terms), terms

        return replace(setup, objective=wrong)

    return plant


def _kl(terms: LogTerms) -> Array:
    return terms.log_proposal - terms.log_prior


def _stop_draw(setup: Setup) -> Setup:
    """z is detached, so the decoder's gradient never reaches the encoder."""

    def wrong(model, proposal, batch, *, key, step):
        del step
        terms = weigh(model, proposal, batch, num_samples=1, key=key, path="stop_draw")
        return terms.log_weights.mean(), terms

    return replace(setup, objective=wrong)


def _batch_statistics(setup: Setup) -> Setup:
    """Every image is centred by the mean of its batch before it is scored."""
    claim = setup.objective

    def wrong(model, proposal, batch, *, key, step):
        centred = batch.x - batch.x.mean(0, keepdims=True)
        return claim(
            model, proposal, eqx.tree_at(lambda b: b.x, batch, centred), key=key, step=step
        )

    return replace(setup, objective=wrong)


# --- the model and the proposal ------------------------------------------------------------------


class _ChangedScore(AbstractModel):
    """A model whose score is changed site by site."""

    inner: Any
    change: Callable[[dict[str, Array]], dict[str, Array]] = eqx.field(static=True)

    @property
    def kinds(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_prior(key)

    def score(self, x: PyTree[Array], z: PyTree[Array]) -> dict[str, Array]:
        return self.change(self.inner.score(x, z))

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(z, key)


class _BlindModel(AbstractModel):
    """A model whose decoder is given zeros for z."""

    inner: Any

    @property
    def kinds(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_prior(key)

    def score(self, x: PyTree[Array], z: PyTree[Array]) -> dict[str, Array]:
        blind = self.inner.score(x, jnp.zeros_like(z))
        return self.inner.score(x, z) | {"x": blind["x"]}

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(jnp.zeros_like(z), key)


class _WidePrior(AbstractModel):
    """A model whose prior is drawn twice as wide as it is scored."""

    inner: Any

    @property
    def kinds(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return jax.tree.map(lambda leaf: 2.0 * leaf, self.inner.sample_prior(key))

    def score(self, x: PyTree[Array], z: PyTree[Array]) -> dict[str, Array]:
        return self.inner.score(x, z)

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(z, key)


class _VarianceForScale(AbstractProposal):
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


class _NarrowProposal(AbstractProposal):
    """A proposal with a scale of 1e-4 whatever x is."""

    inner: Any

    def proposal(self, x: PyTree[Array]) -> Any:
        q = self.inner.proposal(x)
        return type(q.base_dist)(q.mean, jnp.full_like(q.mean, 1e-4)).to_event(1)


def _model(change: Callable[[AbstractModel], AbstractModel]) -> Callable[[Setup], Setup]:
    """The model replaced, in the run and in its twin."""

    def plant(setup: Setup) -> Setup:
        return replace(
            setup,
            model=change(setup.model),
            twin=_twin(setup, lambda twin: replace(twin, model=change(twin.model))),
        )

    return plant


def _proposal(change: Callable[[AbstractProposal], AbstractProposal]) -> Callable[[Setup], Setup]:
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


def _score(change: Callable[[dict[str, Array]], dict[str, Array]]) -> Callable[[Setup], Setup]:
    return _model(lambda model: _ChangedScore(model, change))


def _density_averaged(setup: Setup) -> Setup:
    """The mean over pixels for the sum, in the run and in its twin, each by its own size."""

    def averaged(model, x):
        size = image_of(x).shape[-1]
        return _ChangedScore(model, lambda score: score | {"x": score["x"] / size})

    return replace(
        setup,
        model=averaged(setup.model, setup.data["train"].x),
        twin=_twin(setup, lambda t: replace(t, model=averaged(t.model, t.observations))),
    )


def _large_heads(setup: Setup) -> Setup:
    """Output weights fifty times too large."""
    where = lambda model: model.decoder.layers[-1].weight  # noqa: E731
    model: Any = setup.model
    return replace(setup, model=eqx.tree_at(where, model, 50.0 * where(model)))


# --- the optimiser -------------------------------------------------------------------------------


def _optimiser(
    change: Callable[[optax.GradientTransformation], optax.GradientTransformation],
) -> Callable[[Setup], Setup]:
    return lambda setup: replace(setup, optimiser=change(setup.optimiser))


def _scaled(factor: float):
    return lambda inner: optax.chain(inner, optax.scale(factor))


def _accumulated(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Gradients add up and are never cleared."""

    def init(params):
        return inner.init(params), jax.tree.map(jnp.zeros_like, params)

    def update(updates, state, params=None):
        inner_state, total = state
        total = jax.tree.map(jnp.add, total, updates)
        updates, inner_state = inner.update(total, inner_state, params)
        return updates, (inner_state, total)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _dropping(inner: optax.GradientTransformation) -> optax.GradientTransformation:
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


def _clipped(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(optax.clip(1e-8), inner)


def _frozen_proposal(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Updates of the proposal are dropped: it was not among the parameters handed over."""

    def update(updates, state, params=None):
        updates, state = inner.update(updates, state, params)
        model, proposal = updates  # pyright: ignore[reportGeneralTypeIssues]
        return (model, jax.tree.map(jnp.zeros_like, proposal)), state

    return optax.GradientTransformation(inner.init, update)  # pyright: ignore[reportArgumentType]


# --- the data ------------------------------------------------------------------------------------


def _split(name: str, change: Callable[[Split], Split]) -> Callable[[Setup], Setup]:
    def plant(setup: Setup) -> Setup:
        return replace(setup, data=dict(setup.data) | {name: change(setup.data[name])})

    return plant


def _no_transform(setup: Setup) -> Setup:
    """The step that makes bits of grey levels does nothing."""
    return replace(setup, noise=AsFloat())


def _inverted(split: Split) -> Split:
    """Ink and paper exchanged."""
    image = np.asarray(image_of(split.x))
    flipped = (int(image.max()) - image.astype(np.int64)).astype(image.dtype)
    x = Labelled(flipped, split.x.label) if isinstance(split.x, Labelled) else flipped
    return replace(split, x=x)


def _repeated(split: Split) -> Split:
    """The first 64 rows, over and over."""
    rows = np.arange(len(split)) % 64
    return replace(split, x=jax.tree.map(lambda leaf: leaf[rows], split.x))


def _with_nan(split: Split) -> Split:
    """One NaN, as a failed measurement leaves it."""
    x = np.asarray(split.x, np.float32).copy()
    x[17, 3] = np.nan
    return replace(split, x=x)


def _validation_in_training(setup: Setup) -> Setup:
    """The held-out split was never taken out of the training split."""
    train, valid = setup.data["train"], setup.data["valid"]
    rows = slice(0, len(valid))

    def overwrite(leaf, other):
        leaf = np.array(leaf)
        leaf[rows] = other
        return leaf

    x = jax.tree.map(overwrite, train.x, valid.x)
    return replace(setup, data=dict(setup.data) | {"train": replace(train, x=x)})


def _shift_labels(setup: Setup) -> Setup:
    """Every image has the label of the row before, in every split."""
    shifted = {
        name: replace(split, x=Labelled(split.x.image, np.roll(split.x.label, 1)))
        for name, split in setup.data.items()
    }
    return replace(setup, data=shifted)


# --- the evaluator -------------------------------------------------------------------------------


def _evaluated(change: Callable[[Evaluation], Evaluation]) -> Callable[[Setup], Setup]:
    def plant(setup: Setup) -> Setup:
        inner = setup.evaluator

        def wrong(model, proposal, split, *, num_samples, key, noise=None):
            return change(
                inner(model, proposal, split, num_samples=num_samples, key=key, noise=noise)
            )

        return replace(setup, evaluator=wrong)

    return plant


def _thresholded(setup: Setup) -> Setup:
    """Evaluation binarises by a threshold where training draws."""

    def at_half(batch: Batch, key: PRNGKeyArray) -> Batch:
        del key
        grey = jnp.asarray(batch.x, float)
        return eqx.tree_at(lambda b: b.x, batch, (2 * grey > 16).astype(grey.dtype))

    def wrong(model, proposal, split, *, num_samples, key, noise=None):
        del noise
        return evaluate(model, proposal, split, num_samples=num_samples, key=key, noise=at_half)

    return replace(setup, evaluator=wrong)


def _evaluated_with_dropout(setup: Setup) -> Setup:
    """Evaluation runs the decoder with a tenth of its hidden units switched off."""

    def dropped(model):
        where = lambda m: m.decoder.layers[-1].weight  # noqa: E731
        weight = where(model)
        keep = jnp.arange(weight.shape[1]) % 10 != 0
        return eqx.tree_at(where, model, jnp.where(keep[None, :], weight, 0.0))

    def wrong(model, proposal, split, *, num_samples, key, noise=None):
        return evaluate(
            dropped(model), proposal, split, num_samples=num_samples, key=key, noise=noise
        )

    return replace(setup, evaluator=wrong)


def _mean_over_pixels(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, log_p=evaluation.log_p | {"x": evaluation.log_p["x"] / 64})


def _without_kl(evaluation: Evaluation) -> Evaluation:
    zero = np.zeros_like(evaluation.log_p["z"])
    return replace(evaluation, log_p=evaluation.log_p | {"z": zero}, log_q={"z": zero})


_BITS = ("vae/digits", "vae/digits-iwae")
_ELBO = ("vae/digits", "vae/digits-gaussian")
_IWAE = ("vae/digits-iwae",)

_CATALOGUE = [
    Fault(
        "kl_sign_flipped",
        "not a probability model",
        "The KL is added where it must be subtracted.",
        _with_value(lambda t: (t.log_likelihood + _kl(t)).mean()),
        objective.KL_SIGN_FLIPPED,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "kl_missing",
        "not a probability model",
        "The KL is left out.",
        _with_value(lambda t: t.log_likelihood.mean()),
        objective.KL_MISSING,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "log_q_missing",
        "not a probability model",
        "log q is not subtracted.",
        _with_value(lambda t: t.log_joint.mean()),
        objective.LOG_Q_MISSING,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "kl_averaged",
        "masks, padding, units",
        "The KL is averaged over latents, the reconstruction summed over pixels.",
        _with_value(lambda t: (t.log_likelihood - _kl(t) / 8).mean()),
        objective.KL_SCALED,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "kl_summed_over_batch",
        "not a probability model",
        "A KL summed over the batch is added to every row.",
        _with_value(lambda t: (t.log_likelihood - _kl(t).sum()).mean()),
        objective.REDUCED_OVER_BATCH,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "minibatch_scale",
        "masks, padding, units",
        "The likelihood is multiplied by N / M although the latents are local.",
        _with_value(lambda t: (20.0 * t.log_likelihood - _kl(t)).mean()),
        objective.LIKELIHOOD_SCALED,
        ("TB201",),
        _ELBO,
    ),
    Fault(
        "mean_of_logs",
        "multi-sample bounds, filters",
        "The log-weights are averaged where the weights must be.",
        _with_value(lambda t: t.log_weights.mean()),
        objective.MEAN_OF_LOGS,
        ("TB201",),
        _IWAE,
    ),
    Fault(
        "missing_log_k",
        "multi-sample bounds, filters",
        "log K is not subtracted.",
        _with_value(lambda t: jax.nn.logsumexp(t.log_weights, axis=0).mean()),
        objective.MISSING_LOG_K,
        ("TB201",),
        _IWAE,
    ),
    Fault(
        "self_normalised",
        "multi-sample bounds, filters",
        "Log-weights averaged by normalised weights are called the bound.",
        _with_value(lambda t: (jax.nn.softmax(t.log_weights, 0) * t.log_weights).sum(0).mean()),
        objective.SELF_NORMALISED,
        ("TB201",),
        _IWAE,
    ),
    Fault(
        "draw_detached",
        "latent use",
        "A stop_gradient on z: the encoder learns from the KL alone.",
        _stop_draw,
        objective.GRADIENT_STOPPED,
        ("TB202",),
        ("vae/digits", "vae/digits-gaussian"),
    ),
    Fault(
        "batch_statistics",
        "leakage and mode",
        "Images are centred by the mean of their batch.",
        _batch_statistics,
        probability.ROWS_COUPLED,
        ("TB105",),
    ),
    Fault(
        "constant_in_density",
        "not a probability model",
        "The density of a vector of the wrong size: a constant of 57 nats.",
        _score(lambda score: score | {"x": score["x"] - 57.0}),
        probability.CONSTANT_IN_DENSITY,
        ("TB101",),
    ),
    Fault(
        "density_averaged",
        "masks, padding, units",
        "log p(x | z) is the mean over pixels.",
        _density_averaged,
        probability.DENSITY_AVERAGED,
        ("TB101",),
        _BITS,
    ),
    Fault(
        "density_not_normalised",
        "not a probability model",
        "log p(x | z) is multiplied by 1.3: a temperature without its normaliser.",
        _score(lambda score: score | {"x": 1.3 * score["x"]}),
        probability.NOT_NORMALISED,
        ("TB101",),
        _BITS,
    ),
    Fault(
        "variance_for_scale",
        "not a probability model",
        "Draws use the variance where the scale belongs.",
        _proposal(_VarianceForScale),
        probability.SCALES_DIFFER,
        ("TB102",),
    ),
    Fault(
        "no_latent_noise",
        "latent use",
        "The noise is left out: a deterministic auto-encoder sold as a generative model.",
        _proposal(Noiseless),
        probability.NO_NOISE,
        ("TB102",),
    ),
    Fault(
        "wide_prior",
        "not a probability model",
        "The prior is drawn twice as wide as it is scored.",
        _model(_WidePrior),
        probability.PRIOR_DIFFERS,
        ("TB103",),
    ),
    Fault(
        "decoder_blind",
        "latent use",
        "The decoder is given zeros for z.",
        _model(_BlindModel),
        latents.DECODER_IGNORES_Z,
        ("TB402",),
    ),
    Fault(
        "identity_latents",
        "latent use",
        "The proposal's scale is 1e-4 whatever x is.",
        _proposal(_NarrowProposal),
        latents.IDENTITY_LATENTS,
        ("TB403",),
    ),
    Fault(
        "rate_too_high",
        "optimisation",
        "The learning rate is 30 times too high.",
        _optimiser(_scaled(30.0)),
        optimisation.RATE_TOO_HIGH,
        ("TB210",),
    ),
    Fault(
        "rate_too_low",
        "optimisation",
        "The learning rate is 30 times too low.",
        _optimiser(_scaled(1 / 30)),
        optimisation.RATE_TOO_LOW,
        ("TB211",),
    ),
    Fault(
        "gradient_not_reset",
        "optimisation",
        "Gradients add up from step to step.",
        _optimiser(_accumulated),
        optimisation.NOT_RESET,
        ("TB213",),
    ),
    Fault(
        "batches_dropped",
        "optimisation",
        "Accumulation over four batches keeps the last one only.",
        _optimiser(_dropping),
        optimisation.BATCHES_DROPPED,
        ("TB214",),
    ),
    Fault(
        "everything_clipped",
        "optimisation",
        "Entries of the gradient are clipped at 1e-8.",
        _optimiser(_clipped),
        optimisation.EVERYTHING_CLIPPED,
        ("TB215",),
    ),
    Fault(
        "proposal_frozen",
        "optimisation",
        "The proposal's parameters were never handed to the optimiser.",
        _optimiser(_frozen_proposal),
        optimisation.MODULE_FROZEN,
        ("TB212",),
    ),
    Fault(
        "large_heads",
        "optimisation",
        "Output weights start fifty times too large.",
        _large_heads,
        optimisation.INITIAL_SCALE,
        ("TB217",),
        _BITS,
    ),
    Fault(
        "no_transform",
        "data",
        "The transform that makes bits of grey levels does nothing.",
        _no_transform,
        data.OFF_SUPPORT,
        ("TB502",),
        _BITS,
    ),
    Fault(
        "held_out_inverted",
        "data",
        "Ink and paper are exchanged in the held-out split.",
        _split("valid", _inverted),
        data.SPLITS_DIFFER,
        ("TB503",),
    ),
    Fault(
        "rows_duplicated",
        "data",
        "The training split is 64 rows, over and over.",
        _split("train", _repeated),
        data.DUPLICATES,
        ("TB504",),
    ),
    Fault(
        "trained_on_validation",
        "leakage and mode",
        "The held-out rows are in the training split.",
        _validation_in_training,
        data.OVERLAP,
        ("TB505",),
    ),
    Fault(
        "nan_in_data",
        "data",
        "One number of the training split is NaN.",
        _split("train", _with_nan),
        data.BAD_VALUES,
        ("TB501",),
        ("vae/digits-gaussian",),
    ),
    Fault(
        "labels_shifted",
        "data",
        "Every image has the label of the row before.",
        _shift_labels,
        data.LABELS_EMPTY,
        ("TB506",),
        ("cvae/digits",),
    ),
    Fault(
        "evaluation_law",
        "leakage and mode",
        "Evaluation thresholds the grey levels that training draws bits from.",
        _thresholded,
        evaluation.EVALUATED_LAW,
        ("TB601",),
        _BITS,
    ),
    Fault(
        "evaluation_dropout",
        "leakage and mode",
        "Evaluation runs with a tenth of the decoder's hidden units off.",
        _evaluated_with_dropout,
        evaluation.EVALUATED_NETWORK,
        ("TB601",),
    ),
    Fault(
        "evaluation_per_pixel",
        "masks, padding, units",
        "Evaluation averages log p(x | z) over pixels.",
        _evaluated(_mean_over_pixels),
        evaluation.EVALUATED_SCALE,
        ("TB601",),
    ),
    Fault(
        "evaluation_without_kl",
        "leakage and mode",
        "Evaluation reports the reconstruction alone.",
        _evaluated(_without_kl),
        evaluation.EVALUATED_SITE,
        ("TB601",),
    ),
]

FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _CATALOGUE}
