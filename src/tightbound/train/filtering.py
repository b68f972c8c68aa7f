"""The filtering bound as an objective."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.estimators import surrogates
from tightbound.estimators.bounds import filtering_terms
from tightbound.inference.filtering import Filtering
from tightbound.inference.stepwise import filter_pair, stepwise_pair
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import LogTerms
from tightbound.train.objective import always_one


@dataclass(frozen=True)
class FilteringObjective:
    """log p-hat(x) of a filter, averaged over the batch (FIVO: Maddison et al. 2017,
    arXiv:1705.09279; AESMC: Le et al. 2018, arXiv:1705.10306).

    The gradient leaves out how resampling depends on the parameters ("dropped": biased, low
    variance), or has it all ("kept": multinomial resampling at every step, or never). The terms
    are of one draw per sequence, whose log-weight is log p-hat.
    """

    filtering: Filtering = field(default_factory=Filtering)
    resampling_gradient: Literal["dropped", "kept"] = "dropped"
    estimator: ClassVar[str] = "fivo"
    kl_weight: ClassVar = staticmethod(always_one)

    def __post_init__(self):
        rule = self.filtering
        exact = rule.resampling == "multinomial" and rule.threshold in (0, 1)
        if self.resampling_gradient == "kept" and not exact:
            raise ValueError(
                "The gradient of resampling was asked for ('kept') with "
                f"{rule.resampling} resampling at threshold {rule.threshold}, whose ancestors have no "
                "probability of their own. Use 'multinomial' and threshold 1, or 'dropped'."
            )

    @property
    def num_samples(self) -> int:
        return self.filtering.num_particles

    @property
    def path(self) -> str:
        """How the draw is differentiated; where resampling has a gradient, the value's is not it."""
        return "full" if self.resampling_gradient == "dropped" else "score"

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms]:
        del step
        terms = filter_pair(*stepwise_pair(model, proposal), batch, self.filtering, key=key)
        if self.resampling_gradient == "kept":
            value = surrogates.filtering_with_resampling(terms)
        else:
            value = surrogates.filtering(terms)
        return value, filtering_terms(terms)
