"""From a sequence of words to q(z | x): networks that read all of it."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tightbound.data.sequences import Sequence
from tightbound.families.language.cells import AbstractCell
from tightbound.families.language.inputs import Normalisation, normalise
from tightbound.models.base import AbstractProposal
from tightbound.nn.outputs import AbstractOutput


class AbstractEncoder(eqx.Module):
    """Features of a whole sequence. What stands at padding must not be read."""

    @abstractmethod
    def __call__(
        self, words: Float[Array, "time size"], mask: Bool[Array, " time"]
    ) -> Float[Array, " features"]:
        """The raw features of the law of z."""


class RecurrentEncoder(AbstractEncoder):
    """W h + b with the last state h of a cell that reads the words from the last to the first
    (Sutskever et al. 2014, arXiv:1409.3215, sec. 3.3), passing over padding."""

    cell: AbstractCell
    head: eqx.nn.Linear  # W, b

    def __init__(self, cell: AbstractCell, bias: Float[Array, " features"], *, key: PRNGKeyArray):
        """`bias` is the first value of b."""
        self.cell = cell
        self.head = _starting_at(bias, eqx.nn.Linear(cell.size, len(bias), key=key))

    def __call__(
        self, words: Float[Array, "time size"], mask: Bool[Array, " time"]
    ) -> Float[Array, " features"]:
        def step(state, inputs):
            projected, real = inputs
            following = self.cell.step(state, projected)
            return jax.tree.map(lambda new, old: jnp.where(real, new, old), following, state), None

        inputs = (self.cell.project(words), mask)
        start = self.cell.begin(self.cell.init())
        last, _ = jax.lax.scan(step, start, inputs, reverse=True)
        return self.head(self.cell.read(last))


class AtOnceEncoder(AbstractEncoder):
    """One network over all words side by side, zeros at padding: a linear map where it has no
    hidden layer. Made for at most `num_positions` words."""

    network: eqx.nn.MLP
    num_positions: int = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        num_positions: int,
        bias: Float[Array, " features"],
        *,
        hidden_size: int,
        depth: int,
        key: PRNGKeyArray,
    ):
        """`bias` is the first value of the last layer's."""
        network = eqx.nn.MLP(num_positions * size, len(bias), hidden_size, depth, key=key)
        last = _starting_at(bias, network.layers[-1])
        self.network = eqx.tree_at(lambda network: network.layers[-1], network, last)
        self.num_positions = num_positions

    def __call__(
        self, words: Float[Array, "time size"], mask: Bool[Array, " time"]
    ) -> Float[Array, " features"]:
        missing = self.num_positions - len(words)
        if missing < 0:
            raise ValueError(
                f"A sequence of {len(words)} symbols came, but the encoder was made for at most "
                f"{self.num_positions}. Cut it, or build the encoder for more positions."
            )
        words = jnp.where(mask[:, None], words, 0.0)
        return self.network(jnp.pad(words, ((0, missing), (0, 0))).ravel())


def _starting_at(bias: Float[Array, " features"], layer: eqx.nn.Linear) -> eqx.nn.Linear:
    """The same layer with another bias."""
    return eqx.tree_at(lambda layer: layer.bias, layer, bias)


class SequenceProposal(AbstractProposal):
    """q(z | x): a law of z at the features that an encoder makes of all words."""

    embedding: Float[Array, "symbols size"]
    encoder: AbstractEncoder
    law: AbstractOutput
    normalisation: Normalisation = eqx.field(static=True)  # of the words

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
        encoder: AbstractEncoder,
        law: AbstractOutput,
        *,
        normalisation: Normalisation = "feature",
        key: PRNGKeyArray,
    ):
        self.embedding = jax.random.normal(key, (vocabulary_size, size))
        self.encoder = encoder
        self.law = law
        self.normalisation = normalisation

    def proposal(self, x: Sequence) -> dist.Distribution:
        symbols = jnp.clip(jnp.asarray(x.values), 0, len(self.embedding) - 1)
        words = normalise(self.embedding[symbols], self.normalisation)
        return self.law(self.encoder(words, jnp.asarray(x.mask)))
