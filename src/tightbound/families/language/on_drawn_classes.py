"""An objective raised on a few drawn classes in place of a softmax over all of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.estimators.class_proposals import ClassProposal, DrawnClasses
from tightbound.families.language.emissions import AbstractEmission, AbstractScored
from tightbound.families.language.emissions_sampled import DrawnKind, SampledEmission
from tightbound.families.language.model import LanguageModel, is_scored
from tightbound.families.language.sequence_vae import SequenceVAE
from tightbound.families.language.structure import Direct
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import LogTerms
from tightbound.train.objective import InnerClaim, Objective

_DRAW = 0x50F7  # folded into the key of the step: that of its first sequence is not used twice


@dataclass(frozen=True, eq=False)
class OnDrawnClasses(InnerClaim):
    """`inner`, with an estimator of every token's log p from classes that are drawn once for the batch.

    The record's token scores are then no log-probabilities, and what is made of them no bound
    (`values_are_bounds`). Held-out numbers do not see it: they are of the model itself, whose softmax is
    exact. ValueError for a model without one softmax over scores.
    """

    inner: Objective
    kind: DrawnKind
    num_drawn: int  # classes for each batch
    classes: ClassProposal
    from_batch: bool = False  # the samples are targets of the batch
    tilt: float = 0.0  # share of the samples that are

    values_are_bounds = False

    @property
    def mixes_rows(self) -> bool:
        """Whether a row is held against words of its neighbours, by intention."""
        return self.from_batch or self.tilt > 0

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms]:
        drawn = self.draw(model, batch, jax.random.fold_in(key, _DRAW))
        sampled = with_emission(model, lambda emission: SampledEmission(emission, drawn, self.kind))
        return self.inner(sampled, proposal, batch, key=key, step=step)

    def draw(self, model: AbstractModel, batch: Batch, key: PRNGKeyArray) -> DrawnClasses:
        """The classes of one step."""
        if not self.mixes_rows:
            return self.classes.draw(key, self.num_drawn)
        tokens = jnp.asarray(batch.x.values).ravel()
        targets = language_model_of(model).classes(tokens)
        is_real = jax.vmap(is_scored)(batch.x).ravel()
        if self.from_batch:
            return self.classes.draw_from_batch(key, self.num_drawn, targets, is_real)
        return self.classes.draw_tilted(key, self.num_drawn, targets, is_real, self.tilt)


def language_model_of(model: AbstractModel) -> LanguageModel:
    """The language model that a model is, or that it decodes with. ValueError for others."""
    if isinstance(model, SequenceVAE):
        return model.network
    if isinstance(model, LanguageModel):
        return model
    raise ValueError(
        f"Classes were to be drawn in place of a softmax, but {type(model).__name__} is no language "
        "model. Raise the objective itself."
    )


def with_emission(
    model: AbstractModel, change: Callable[[AbstractScored], AbstractEmission]
) -> AbstractModel:
    """The same model with its emission changed. ValueError where p(class) is no single softmax."""
    structure = language_model_of(model).structure
    emission = structure.emission if isinstance(structure, Direct) else None
    if not isinstance(emission, AbstractScored):
        part = type(structure).__name__ if emission is None else type(emission).__name__
        raise ValueError(
            f"Classes were to be drawn in place of a softmax, but {part} gives p(class) as a sum over "
            "components or choices: the log of a sum of estimates is an estimate of nothing that is "
            "known. Use one softmax, in a `Direct` structure, or raise the objective itself."
        )

    def where(model: Any) -> AbstractEmission:
        changed: Any = language_model_of(model).structure
        return changed.emission

    return eqx.tree_at(where, model, change(emission))
