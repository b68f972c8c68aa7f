"""What is differentiated: a surrogate per sequence, made from the waist."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, get_args, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.errors import UserError
from tightbound.estimators import surrogates
from tightbound.inference.weigh import GradientPath, weigh
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import LogTerms
from tightbound.train.settings import EstimatorName

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]


@runtime_checkable
class AbstractObjective(Protocol):
    """What `fit` raises: a scalar whose gradient is followed, and the terms it was made from."""

    def __call__(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        batch: Batch,
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms]: ...


@runtime_checkable
class CarriedObjective(AbstractObjective, Protocol):
    """An objective that can also be raised window by window, with a state carried between them."""

    def first_carry(
        self, model: AbstractModel, proposal: AbstractProposal, batch_size: int
    ) -> PyTree[Array]:
        """What stands in for the carried state before the first window."""
        ...

    def on_window(
        self,
        model: AbstractModel,
        proposal: AbstractProposal,
        window: Batch,
        carry: PyTree[Array],
        *,
        key: PRNGKeyArray,
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], LogTerms, PyTree[Array]]:
        """The scalar of one window, its terms, and what is carried to the next."""
        ...


@runtime_checkable
class Claim(AbstractObjective, Protocol):
    """A built-in objective, which says of itself what the doctor needs to know of one."""

    @property
    def estimator(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def num_samples(self) -> int: ...

    def kl_weight(self, step: Int[Array, ""], /) -> Float[Array, ""]: ...


class InnerClaim:
    """What a wrapped objective says of itself: all that its `inner` one says."""

    inner: Any

    @property
    def estimator(self) -> str:
        return self.inner.estimator

    @property
    def path(self) -> str:
        return self.inner.path

    @property
    def num_samples(self) -> int:
        return self.inner.num_samples

    def kl_weight(self, step: Int[Array, ""], /) -> Float[Array, ""]:
        return self.inner.kl_weight(step)


def always_one(step: Int[Array, ""]) -> Float[Array, ""]:
    """The KL weight of the bound itself."""
    return jnp.ones(())


@dataclass(frozen=True)
class Constant:
    """The schedule that is one number at every step."""

    value: float

    def __call__(self, step: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(self.value)


@dataclass(frozen=True)
class Objective:
    """A named estimator with its number of draws and its gradient path; a mean over the batch.

    `kl_weight` multiplies log p(z) - log q(z | x): a number, or a schedule (annealing); `free_bits` is
    the KL of a latent site, averaged over the batch, below which nothing is gained. `temperature`
    multiplies log p(x, z).
    Each makes the value something other than a bound. Combinations that have no meaning raise
    ValueError.
    """

    estimator: EstimatorName = "elbo"
    num_samples: int = 1
    path: GradientPath = "full"
    alpha: float = 0.5  # of the Renyi bound
    kl_weight: Any = always_one  # a Schedule; a number becomes the constant one
    free_bits: float = 0.0
    temperature: Any = always_one  # the same; multiplies log p(x, z)

    def __post_init__(self):
        for name, known in (
            ("estimator", get_args(EstimatorName)),
            ("path", get_args(GradientPath)),
        ):
            value = getattr(self, name)
            if value not in known:
                close = difflib.get_close_matches(str(value).lower(), known, n=1)
                hint = f"Did you mean {close[0]!r}? " if close else ""
                raise UserError(
                    f"The {name} of an objective is {value!r}, which is none. {hint}There are: "
                    f"{', '.join(known)}."
                )
        for name in ("kl_weight", "temperature"):
            value = getattr(self, name)
            if isinstance(value, int | float):
                schedule = always_one if value == 1 else Constant(float(value))
                object.__setattr__(self, name, schedule)
            elif not callable(value):
                raise UserError(
                    f"The {name} of an objective is {value!r}; a number was meant, or a schedule: step -> "
                    "number."
                )
        if self.path == "stop_proposal" and self.estimator != "elbo":
            raise ValueError(
                "The gradient path 'stop_proposal' (sticking the landing) was combined with "
                f"'{self.estimator}', where it is biased for more than one sample. "
                "Use path 'doubly' with 'iwae', or 'full'."
            )
        if self.path == "doubly" and self.estimator != "iwae":
            raise ValueError(
                "The gradient path 'doubly' is the doubly reparameterised gradient of the IWAE "
                f"bound, but the estimator is '{self.estimator}'. Use 'iwae', or path 'full'."
            )
        if self.estimator in ("vimco", "wake-sleep") and self.num_samples < 2:
            raise ValueError(
                f"'{self.estimator}' compares draws with each other and needs at least 2 samples, "
                f"but `num_samples` is {self.num_samples}."
            )
        weighted = self.kl_weight is not always_one
        if (weighted or self.free_bits > 0) and self.estimator != "elbo":
            raise ValueError(
                "KL weights and free bits change the two halves of the ELBO, but the estimator is "
                f"'{self.estimator}', which has no such halves. Use 'elbo'."
            )
        tempered = self.temperature is not always_one
        if tempered and (weighted or self.free_bits > 0 or self.estimator != "elbo"):
            raise ValueError(
                f"A temperature was combined with the estimator '{self.estimator}', a KL weight or free "
                "bits, which share log p among other terms. Use it with 'elbo' alone."
            )
        if weighted and self.free_bits > 0:
            raise ValueError(
                f"Free bits ({self.free_bits}) were combined with a KL weight: both act on the same "
                "term. Set one of them."
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
        path = "stop_draw" if self.estimator in ("vimco", "wake-sleep") else self.path
        terms = weigh(
            model,
            proposal,
            batch,
            num_samples=self.num_samples,
            key=key,
            path=path,
            training=True,
        )
        return self.surrogate(terms, step), terms

    def surrogate(self, terms: LogTerms, step: Int[Array, ""]) -> Float[Array, ""]:
        """The scalar that is raised; in nats per sequence where it is a bound."""
        match self.estimator:
            case "elbo" if self.free_bits > 0:
                return surrogates.free_bits(terms, self.free_bits)
            case "elbo" if self.kl_weight is not always_one:
                return surrogates.kl_weighted(terms, self.kl_weight(step))
            case "elbo" if self.temperature is not always_one:
                return surrogates.tempered(terms, self.temperature(step))
            case "elbo":
                return surrogates.pathwise_elbo(terms)
            case "iwae":
                return surrogates.pathwise_iwae(terms)
            case "renyi":
                return surrogates.pathwise_renyi(terms, self.alpha)
            case "vimco":
                return surrogates.vimco(terms)
            case "wake-sleep":
                return surrogates.reweighted_wake_sleep(terms)
