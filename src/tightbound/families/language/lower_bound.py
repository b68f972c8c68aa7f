"""An objective raised on a model's own lower bound on log p(x), which itself costs too much."""

from dataclasses import dataclass

from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.families.language.model import LanguageModel
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import LogTerms
from tightbound.train.objective import InnerClaim, Objective


@dataclass(frozen=True)
class OnLowerBound(InnerClaim):
    """`inner`, with `model.lower_bound()` in place of the model. Held-out numbers do not see it:
    they are of the model itself. ValueError for a model without such a bound."""

    inner: Objective

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms]:
        if not isinstance(model, LanguageModel):
            raise ValueError(
                f"A lower bound was to be raised, but {type(model).__name__} has none of its own. "
                "Raise the objective itself."
            )
        return self.inner(model.lower_bound(), proposal, batch, key=key, step=step)
