"""The two interfaces everything else is written against: a model p(x, z) and a proposal q(z | x)."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from tightbound.terms import Kind


class AbstractModel(eqx.Module):
    """p(x, z) over one sequence, masked, without a batch axis; `weigh` adds samples and batch.

    A family declares its random choices once, in scoring order:

        kinds = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    A family whose latents are summed out exactly has observed sites only. Where log p(x) is
    known it also has `log_marginal(x)`, and where the posterior is, `posterior(x)`.
    """

    kinds: ClassVar[Mapping[str, Kind]]

    @abstractmethod
    def sample_prior(self, key: PRNGKeyArray) -> PyTree[Array]:
        """One draw z ~ p(z)."""

    @abstractmethod
    def score(self, x: PyTree[Array], z: PyTree[Array]) -> dict[str, Float[Array, " time"]]:
        """log p of every site at every position, in nats; time = 1 where there is none."""

    @abstractmethod
    def sample_likelihood(self, z: PyTree[Array], key: PRNGKeyArray) -> PyTree[Array]:
        """One draw x ~ p(x | z)."""

    def sample(self, key: PRNGKeyArray) -> tuple[PyTree[Array], PyTree[Array]]:
        """One joint draw (z, x)."""
        z_key, x_key = jax.random.split(key)
        z = self.sample_prior(z_key)
        return z, self.sample_likelihood(z, x_key)


class AbstractRegularised(AbstractModel):
    """A model whose scores are noisy in training: dropout, words that are left out."""

    @abstractmethod
    def score(
        self, x: PyTree[Array], z: PyTree[Array], *, key: PRNGKeyArray | None = None
    ) -> dict[str, Float[Array, " time"]]:
        """As for every model; with a key under the noise of training, and then no log p."""


@runtime_checkable
class Distribution(Protocol):
    """What `proposal(x)` returns: numpyro's distributions are such, and so is any pytree that can do this.

    `log_prob` gives one number for choices scored jointly (the first latent site holds it), or
    `{site: log_q[time]}` for choices scored one by one.
    """

    def sample(self, key: PRNGKeyArray) -> Any: ...

    def log_prob(self, value: Any) -> Any: ...


class AbstractProposal(eqx.Module):
    """q(z | x) over one sequence: the network is run once per sequence, whatever the number of draws."""

    @abstractmethod
    def proposal(self, x: PyTree[Array]) -> Distribution:
        """The distribution of z given x, as a pytree that can `sample(key)` and `log_prob(z)`."""


@runtime_checkable
class Stratified(Protocol):
    """A distribution that can draw a number of values more evenly than one by one: mixtures can."""

    def sample_strata(self, keys: Key[Array, " draws"]) -> Any: ...
