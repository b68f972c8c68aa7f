"""How language models are made wrong: the faults of the study that docs/dlm.md replays, and like ones.

As in `planting.py`, the doctor is told nothing: claim, baselines and the source's entropy stay as
they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Split, rows_of
from tightbound.data.sentences import EOS, NUM_MARKS
from tightbound.data.sequences import Sequence
from tightbound.drill.planting import forgetting_every, with_evaluation, with_model
from tightbound.evaluation import Evaluation, evaluate
from tightbound.families.language.contexts import AbstractContext
from tightbound.families.language.emissions import AbstractEmission, MixtureEmission, Table
from tightbound.families.language.factorial import Factorial
from tightbound.families.language.inputs import normalise
from tightbound.families.language.model import LanguageModel
from tightbound.families.language.sequence_vae import Written
from tightbound.families.language.structure import AbstractBounded, AbstractStructure
from tightbound.models.base import AbstractModel, AbstractRegularised
from tightbound.terms import Kind
from tightbound.train.setup import Setup

# --- the context ---------------------------------------------------------------------------------


class ChangedContext(AbstractContext):
    """A context of inputs that were changed first."""

    inner: AbstractContext
    change: Callable[[Float[Array, "time inputs"]], Float[Array, "time inputs"]] = eqx.field(
        static=True
    )

    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.size

    def __call__(
        self,
        inputs: Float[Array, "time inputs"],
        *,
        state_dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "starts time size"]:
        return self.inner(self.change(inputs), state_dropout=state_dropout, key=key)


class BothWays(AbstractContext):
    """The contexts of a pass forwards and of one backwards, added."""

    inner: AbstractContext

    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.size

    def __call__(
        self,
        inputs: Float[Array, "time inputs"],
        *,
        state_dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "starts time size"]:
        settings: dict[str, Any] = {"state_dropout": state_dropout, "key": key}
        return self.inner(inputs, **settings) + self.inner(inputs[::-1], **settings)[:, ::-1]


def over_time(inputs: Float[Array, "time inputs"]) -> Float[Array, "time inputs"]:
    """Divided by the deviation over all positions, those to come among them."""
    return normalise(inputs, "time")


def shifted_again(inputs: Float[Array, "time inputs"]) -> Float[Array, "time inputs"]:
    """One position later than they should come: a window then ends at the word before the last."""
    return jnp.pad(inputs, ((1, 0), (0, 0)))[:-1]


def with_inputs(change: Callable[[Array], Array]) -> Callable[[Setup], Setup]:
    """The context reads changed inputs, in the run and in its twin."""
    return with_context(lambda context: _made(ChangedContext, context, change))


def with_context(change: Callable[[AbstractContext], AbstractContext]) -> Callable[[Setup], Setup]:
    """The context replaced, in the run and in its twin."""
    return _with_part(lambda model: model.context, change)


def _with_part(
    where: Callable[[Any], Any], change: Callable[[Any], Any]
) -> Callable[[Setup], Setup]:
    return with_model(lambda model: eqx.tree_at(where, model, change(where(model))))


def _made(kind: Any, *fields: Any) -> Any:
    """An instance of a module whose abstract fields are properties."""
    return kind(*fields)


def both_ways(context: AbstractContext) -> AbstractContext:
    return _made(BothWays, context)


# --- the emission and the structure --------------------------------------------------------------


class WeightsForLogWeights(AbstractEmission):
    """log sum_k exp(w_k + log p(class | k)): w where log w belongs."""

    inner: MixtureEmission

    def log_probs(
        self, features: Float[Array, " features"], asked: Int[Array, " asked"], table: Table
    ) -> Float[Array, " asked"]:
        weights = jnp.exp(self.inner.log_weights(features))
        log_component = self.inner.components.log_probs(asked, table)
        return jax.nn.logsumexp(weights[:, None] + log_component, axis=0)

    def along(
        self,
        features: Float[Array, "time features"],
        classes: Int[Array, " time"],
        table: Table,
    ) -> Float[Array, " time"]:
        return jax.vmap(lambda f, c: self.log_probs(f, c, table))(features, classes[:, None])[:, 0]


class NotNormalised(AbstractBounded):
    """A product of experts as it is, taken for log p(class)."""

    inner: Factorial

    def lower_bound(self) -> AbstractStructure:
        return self.inner.lower_bound()

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        return self.inner.log_product(contexts[position], asked, table)


def with_emission(
    change: Callable[[Any], AbstractEmission],
) -> Callable[[Setup], Setup]:
    """The emission replaced, in the run and in its twin."""
    return _with_part(lambda model: model.structure.emission, change)


def with_structure(change: Callable[[Any], AbstractStructure]) -> Callable[[Setup], Setup]:
    """The structure replaced, in the run and in its twin."""
    return _with_part(lambda model: model.structure, change)


def one_vector_for_all(emission: MixtureEmission) -> MixtureEmission:
    """Every component is the first one, with the weight of the first one: K identical vectors."""
    parts = lambda e: (e.components.vectors, e.weights, e.weight_bias)  # noqa: E731
    alike = tuple(jnp.broadcast_to(leaf[:1], leaf.shape) for leaf in parts(emission))
    return eqx.tree_at(parts, emission, alike)


def large_embedding(setup: Setup) -> Setup:
    """Embeddings fifty times too large, in the run alone."""
    model: Any = setup.model
    return replace(setup, model=eqx.tree_at(lambda m: m.embedding, model, 50 * model.embedding))


# --- the scores ----------------------------------------------------------------------------------


class ChangedTokens(AbstractRegularised):
    """A language model whose scores are changed."""

    inner: LanguageModel
    change: Callable[[LanguageModel, Sequence, Array], Array] = eqx.field(static=True)

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_prior(key)

    def score(
        self, x: Sequence, z: PyTree[Array], *, key: PRNGKeyArray | None = None
    ) -> dict[str, Float[Array, " time"]]:
        log_p = self.inner.score(x, z, key=key)["token"]
        return {"token": self.change(self.inner, x, log_p)}

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(z, key)


class SeesItsWord(AbstractModel):
    """Inputs that are not shifted: position i is given the word that it predicts."""

    inner: LanguageModel

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_prior(key)

    def score(self, x: Sequence, z: PyTree[Array]) -> dict[str, Float[Array, " time"]]:
        model = self.inner
        words = model.embedding[jnp.asarray(x.values)] * model.embedding.shape[1] ** 0.5
        words = normalise(words, model.normalisation)
        seen = _made(Written, model.context(words)[0], model.context.size)
        return eqx.tree_at(lambda m: m.context, model, seen).score(x, z)

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(z, key)


def with_tokens(
    change: Callable[[LanguageModel, Sequence, Array], Array],
) -> Callable[[Setup], Setup]:
    """The scores changed, in the run and in its twin."""
    return with_model(lambda model: _made(ChangedTokens, model, change))


def inputs_not_shifted(setup: Setup) -> Setup:
    """Every position is given the word that it predicts."""
    return with_model(lambda model: _made(SeesItsWord, model))(setup)


def without_the_end(
    model: LanguageModel, x: Sequence, log_p: Float[Array, " time"]
) -> Float[Array, " time"]:
    """The end of a sentence is never scored."""
    return jnp.where(jnp.asarray(x.values) == EOS, 0.0, log_p)


def starts_not_weighed(
    model: LanguageModel, x: Sequence, log_p: Float[Array, " time"]
) -> Float[Array, " time"]:
    """logsumexp over the starts of their logits, which are not normalised: too much by the log of
    their sum, once for a sequence."""
    return log_p.at[0].add(jax.nn.logsumexp(model.start_logits))


# --- the optimiser -------------------------------------------------------------------------------


def forgotten_once_an_epoch(setup: Setup) -> Setup:
    """Gradients add up within every epoch."""
    epoch = len(setup.data["train"]) // setup.run.batch_size
    return replace(setup, optimiser=forgetting_every(epoch)(setup.optimiser))


# --- the data ------------------------------------------------------------------------------------


def word_only_held_out(setup: Setup) -> Setup:
    """The vocabulary has a word that no training sentence has: it was made from all splits."""
    train = setup.data["train"]
    counts = np.bincount(train.x.values[train.mask])
    words = NUM_MARKS + 1 + np.argsort(counts[NUM_MARKS + 1 :], kind="stable")
    held_out = np.unique(setup.data["valid"].x.values)
    rarest = next(word for word in words if counts[word] > 0 and word in held_out)
    kept = np.flatnonzero(~(train.x.values == rarest).any(1))
    return replace(setup, data=dict(setup.data) | {"train": rows_of(train, kept)})


# --- the evaluator -------------------------------------------------------------------------------


def mean_of_means(evaluation: Evaluation) -> Evaluation:
    """Every sentence's nats over its own number of tokens: the perplexity of a mean of means."""
    divided = {name: log_p / evaluation.num_units for name, log_p in evaluation.log_p.items()}
    return replace(evaluation, log_p=divided)


def end_not_counted(evaluation: Evaluation) -> Evaluation:
    """The end is scored, but is no token to divide by."""
    return replace(evaluation, num_units=evaluation.num_units - 1)


def padding_counted(setup: Setup) -> Setup:
    """Nats and tokens of held-out sentences are those of all positions: the mask is missing there."""

    def wrong(model, proposal, split: Split, **settings):
        mask = np.ones_like(split.mask)
        units = mask.sum(1).astype(split.num_units.dtype)
        whole = replace(split, x=Sequence(split.x.values, mask), mask=mask, num_units=units)
        return evaluate(model, proposal, whole, **settings)

    return replace(setup, evaluator=wrong)


class AsInTraining(AbstractModel):
    """A model that is noisy in training, and always scored under one draw of that noise."""

    inner: AbstractRegularised

    @property
    def kinds(self) -> Mapping[str, Kind]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.kinds

    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_prior(key)

    def score(self, x: PyTree[Array], z: PyTree[Array]) -> dict[str, Float[Array, " time"]]:
        return self.inner.score(x, z, key=jax.random.key(0))

    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        return self.inner.sample_likelihood(z, key)


def dropout_in_evaluation(setup: Setup) -> Setup:
    """Evaluation leaves dropout on."""

    def wrong(model, proposal, split, **settings):
        return evaluate(_made(AsInTraining, model), proposal, split, **settings)

    return replace(setup, evaluator=wrong)


evaluated_by_mean_of_means = with_evaluation(mean_of_means)
evaluated_without_counting_ends = with_evaluation(end_not_counted)
