"""What is differentiated: a surrogate per sequence, made from the waist."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.batch import Batch
from tightbound.estimators import bounds, surrogates
from tightbound.inference.weigh import GradientPath, weigh
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import LogTerms

Estimator = Literal["elbo", "iwae", "renyi", "vimco", "wake-sleep"]
Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]


class AbstractObjective(Protocol):
    """What `fit` raises: a value per sequence whose gradient is followed, and the terms it came from."""

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, " batch"], LogTerms]: ...


def always_one(step: Int[Array, ""]) -> Float[Array, ""]:
    """The KL weight of the bound itself."""
    return jnp.ones(())


@dataclass(frozen=True)
class Objective:
    """A named estimator with its number of draws and its gradient path.

    `kl_weight` multiplies log p(z) - log q(z | x) (annealing); `free_bits` is the KL per sequence
    below which nothing is gained. Either makes the value something other than a bound; `claims_bound`
    says so. Combinations that have no meaning raise ValueError.
    """

    estimator: Estimator = "elbo"
    num_samples: int = 1
    path: GradientPath = "full"
    alpha: float = 0.5  # of the Renyi bound
    kl_weight: Schedule = always_one
    free_bits: float = 0.0

    def __post_init__(self):
        if self.path == "stop_proposal" and self.estimator != "elbo":
            raise ValueError(
                f"The gradient path 'stop_proposal' (sticking the landing) was combined with "
                f"'{self.estimator}', where it is biased for more than one sample. "
                "Use path 'doubly' with 'iwae', or 'full'."
            )
        if self.path == "doubly" and self.estimator != "iwae":
            raise ValueError(
                f"The gradient path 'doubly' is the doubly reparameterised gradient of the IWAE "
                f"bound, but the estimator is '{self.estimator}'. Use estimator 'iwae', or path 'full'."
            )
        if self.estimator in ("vimco", "wake-sleep") and self.num_samples < 2:
            raise ValueError(
                f"'{self.estimator}' compares draws with each other and needs at least 2 samples, "
                f"but `num_samples` is {self.num_samples}."
            )
        weighted = self.kl_weight is not always_one or self.free_bits > 0
        if weighted and self.estimator != "elbo":
            raise ValueError(
                f"KL weights and free bits change the two halves of the ELBO, but the estimator is "
                f"'{self.estimator}', which has no such halves. Use 'elbo'."
            )

    @property
    def value_is_bound(self) -> bool:
        """Whether the value itself, not only its gradient, is the declared bound at kl_weight 1."""
        return self.estimator in ("elbo", "iwae", "renyi") and self.free_bits == 0

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, " batch"], LogTerms]:
        terms = weigh(
            model, proposal, batch, num_samples=self.num_samples, key=key, path=self.path
        )
        return self.value(terms, step), terms

    def value(self, terms: LogTerms, step: Int[Array, ""]) -> Float[Array, " batch"]:
        """The surrogate of each sequence, in nats where it is a bound."""
        match self.estimator:
            case "elbo" if self.free_bits > 0:
                return surrogates.free_bits(terms, self.free_bits, weight=self.kl_weight(step))
            case "elbo" if self.kl_weight is not always_one:
                return surrogates.kl_weighted_elbo(terms, self.kl_weight(step))
            case "elbo":
                return bounds.elbo(terms.log_weights)
            case "iwae":
                return bounds.iwae_bound(terms.log_weights)
            case "renyi":
                return bounds.renyi_bound(terms.log_weights, self.alpha)
            case "vimco":
                return surrogates.vimco(terms)
            case "wake-sleep":
                return surrogates.wake_sleep(terms)
