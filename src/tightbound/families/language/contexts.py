"""What a model knows before a token: from nothing, by a window of words, to a network's state."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tightbound.families.language.cells import AbstractCell
from tightbound.nn.dropout import dropout_mask
from tightbound.nn.transformer import Block


class AbstractContext(eqx.Module):
    """c_t from the inputs of positions up to t. A context with W learned starts gives W of each."""

    size: eqx.AbstractVar[int]

    @abstractmethod
    def __call__(
        self,
        inputs: Float[Array, "time inputs"],
        *,
        state_dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "starts time size"]:
        """The contexts of all positions. Without a key nothing is dropped."""


class Nothing(AbstractContext):
    """No context: the same one everywhere."""

    size: int = eqx.field(static=True, default=1)

    def __call__(
        self,
        inputs: Float[Array, "time inputs"],
        *,
        state_dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "starts time size"]:
        return jnp.ones((1, len(inputs), 1), inputs.dtype)


class Window(AbstractContext):
    """The last `num_words` inputs side by side, the newest first, zeros before the first; with
    `decay` each counts half as much as the one after it, .5, .25, ..."""

    size: int = eqx.field(static=True)
    num_words: int = eqx.field(static=True)
    decay: bool = eqx.field(static=True)

    def __init__(self, input_size: int, num_words: int, *, decay: bool = False):
        if num_words < 1:
            raise ValueError(
                f"A window of {num_words} words was asked for; give at least 1. The context "
                "'nothing' has none."
            )
        self.size = num_words * input_size
        self.num_words = num_words
        self.decay = decay

    def __call__(
        self,
        inputs: Float[Array, "time inputs"],
        *,
        state_dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "starts time size"]:
        padded = jnp.pad(inputs, ((self.num_words - 1, 0), (0, 0)))
        back = [padded[self.num_words - 1 - k :][: len(inputs)] for k in range(self.num_words)]
        if self.decay:
            back = [0.5 ** (k + 1) * word for k, word in enumerate(back)]
        return jnp.concatenate(back, axis=-1)[None]


class Recurrent(AbstractContext):
    """The states of a cell. With `starts`, of as many runs as there are learned first states."""

    cell: AbstractCell
    starts: PyTree[Float[Array, "starts ..."]] | None  # None: the cell's own, not learned
    size: int = eqx.field(static=True)

    def __init__(self, cell: AbstractCell, num_starts: int | None, *, key: PRNGKeyArray):
        self.cell = cell
        self.size = cell.size
        self.starts = None
        if num_starts is not None:
            if num_starts < 1:
                raise ValueError(f"{num_starts} learned starts were asked for; give at least 1.")
            first, unravel = ravel_pytree(cell.init())
            noise = 0.1 * jax.random.normal(key, (num_starts, first.size))
            self.starts = jax.vmap(unravel)(first[None] + noise)

    def __call__(
        self,
        inputs: Float[Array, "time inputs"],
        *,
        state_dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "starts time size"]:
        cell = self.cell
        projected = cell.project(inputs)
        mask = None
        if key is not None and state_dropout > 0:
            mask = dropout_mask(state_dropout, (cell.size,), key)

        def step(state, projected):
            state = state if mask is None else cell.masked(state, mask)
            state = cell.step(state, projected)
            return state, cell.read(state)

        def run(start):
            return jax.lax.scan(step, cell.begin(start), projected)[1]

        if self.starts is None:
            return run(cell.init())[None]
        if len(jax.tree.leaves(self.starts)[0]) == 1:  # an axis of one would only be in the way
            return run(jax.tree.map(lambda leaf: leaf[0], self.starts))[None]
        return jax.vmap(run)(self.starts)


class GPT(AbstractContext):
    """A stack of causal Transformer blocks over the inputs and learned positions, normalised before
    every branch and once at the end.   Radford et al. 2019, sec. 2.3."""

    positions: Float[Array, "positions size"]
    blocks: list[Block]
    norm: eqx.nn.LayerNorm
    size: int = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        num_positions: int,
        *,
        num_heads: int,
        num_layers: int,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ):
        position_key, *keys = jax.random.split(key, num_layers + 1)
        self.positions = 0.1 * jax.random.normal(position_key, (num_positions, size))
        self.blocks = [
            Block(size, num_heads, 4 * size, attends_to_source=False, dropout=dropout, key=key)
            for key in keys
        ]
        self.norm = eqx.nn.LayerNorm(size)
        self.size = size

    def __call__(
        self,
        inputs: Float[Array, "time inputs"],
        *,
        state_dropout: float = 0.0,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "starts time size"]:
        causal = jnp.tril(jnp.ones((len(inputs), len(inputs)), bool))
        states = inputs + self.positions[: len(inputs)]
        keys = [None] * len(self.blocks)
        if key is not None:
            keys = list(jax.random.split(key, len(self.blocks)))
        for block, block_key in zip(self.blocks, keys, strict=True):
            states = block(states, causal, key=block_key)
        return jax.vmap(self.norm)(states)[None]
