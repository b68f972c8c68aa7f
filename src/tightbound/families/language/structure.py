"""What lies between a context and a token: nothing, or choices that are summed out exactly."""

from abc import abstractmethod

import equinox as eqx
from jaxtyping import Array, Float, Int

from tightbound.families.language.emissions import AbstractEmission, Table


class AbstractStructure(eqx.Module):
    """p(class at position i | contexts up to i), all choices on the way summed out.

    It is asked for one position at a time and mapped over them: what does not depend on the position
    is then computed once. `contexts` of positions after i must not be read.
    """

    @abstractmethod
    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        """log p(class) of the classes asked for, in nats."""


class AbstractBounded(AbstractStructure):
    """A structure that is cheaper to bound than to sum out."""

    @abstractmethod
    def lower_bound(self) -> AbstractStructure:
        """The same structure with a lower bound on log p(class) in its place."""


class Direct(AbstractStructure):
    """No choices: the emission reads the context of the position."""

    emission: AbstractEmission

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        return self.emission.log_probs(contexts[position], asked, table)
