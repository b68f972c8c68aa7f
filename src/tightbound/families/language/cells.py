"""Recurrent cells, from one matrix to four gates: what a state takes in and how it goes on.

A cell projects all inputs at once, where the product with a matrix is cheapest, and then steps.
"""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


class AbstractCell(eqx.Module):
    """h_t = cell(x_t, h_{t-1}), with what x_t alone gives computed for all t beforehand."""

    size: eqx.AbstractVar[int]  # of what is read of a state

    @abstractmethod
    def project(self, inputs: Float[Array, "time inputs"]) -> PyTree[Float[Array, "time ..."]]:
        """All that needs no state, for every step at once."""

    @abstractmethod
    def init(self) -> PyTree[Array]:
        """Where a sequence starts, if that is not learned."""

    def begin(self, start: PyTree[Array]) -> PyTree[Array]:
        """The state before the first step, of a start shaped as `init()`: more than it, if a cell
        remembers what is not learned."""
        return start

    @abstractmethod
    def step(self, state: PyTree[Array], projected: PyTree[Array]) -> PyTree[Array]:
        """The state after one more input."""

    def read(self, state: PyTree[Array]) -> Float[Array, " size"]:
        """What later layers see of the state."""
        return state

    def masked(self, state: PyTree[Array], mask: Float[Array, " size"]) -> PyTree[Array]:
        """The state with its recurrent output multiplied by `mask` (dropout)."""
        return state * mask


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Float[Array, "..."]:
    """U(-1, 1) / sqrt(fan in), as the library's linear maps are drawn."""
    limit = fan_in**-0.5
    return jax.random.uniform(key, shape, minval=-limit, maxval=limit)


class TanhCell(AbstractCell):
    """h' = tanh(W x + U h + b).   Elman 1990."""

    from_input: Float[Array, "size inputs"]  # W
    from_state: Float[Array, "size size"]  # U
    bias: Float[Array, " size"]  # b
    size: int = eqx.field(static=True)

    def __init__(self, input_size: int, size: int, *, key: PRNGKeyArray):
        input_key, state_key = jax.random.split(key)
        self.from_input = uniform(input_key, (size, input_size), input_size)
        self.from_state = uniform(state_key, (size, size), size)
        self.bias = jnp.zeros(size)
        self.size = size

    def project(self, inputs: Float[Array, "time inputs"]) -> Float[Array, "time size"]:
        return inputs @ self.from_input.T + self.bias[None]

    def init(self) -> Float[Array, " size"]:
        return jnp.zeros(self.size)

    def step(
        self, state: Float[Array, " size"], projected: Float[Array, " size"]
    ) -> Float[Array, " size"]:
        return jnp.tanh(projected + self.from_state @ state)


class GRU(AbstractCell):
    """`equinox.nn.GRUCell`, with its input products taken together.   Cho et al. 2014
    (arXiv:1406.1078), with the reset gate after the matrix."""

    cell: eqx.nn.GRUCell
    size: int = eqx.field(static=True)

    def __init__(self, input_size: int, size: int, *, key: PRNGKeyArray):
        self.cell = eqx.nn.GRUCell(input_size, size, key=key)
        self.size = size

    def project(self, inputs: Float[Array, "time inputs"]) -> Float[Array, "time gates"]:
        return inputs @ self.cell.weight_ih.T + jnp.asarray(self.cell.bias)[None]

    def init(self) -> Float[Array, " size"]:
        return jnp.zeros(self.size)

    def step(
        self, state: Float[Array, " size"], projected: Float[Array, " gates"]
    ) -> Float[Array, " size"]:
        reset, update, new = jnp.split(projected, 3)
        of_reset, of_update, of_new = jnp.split(self.cell.weight_hh @ state, 3)
        reset = jax.nn.sigmoid(reset + of_reset)
        update = jax.nn.sigmoid(update + of_update)
        new = jnp.tanh(new + reset * (of_new + jnp.asarray(self.cell.bias_n)))
        return new + update * (state - new)


class LSTM(AbstractCell):
    """`equinox.nn.LSTMCell`, with its input products taken together.   Hochreiter & Schmidhuber
    1997, with forget gates. The state is (h, c); h is read."""

    cell: eqx.nn.LSTMCell
    size: int = eqx.field(static=True)

    def __init__(self, input_size: int, size: int, *, key: PRNGKeyArray):
        self.cell = eqx.nn.LSTMCell(input_size, size, key=key)
        self.size = size

    def project(self, inputs: Float[Array, "time inputs"]) -> Float[Array, "time gates"]:
        return inputs @ self.cell.weight_ih.T + jnp.asarray(self.cell.bias)[None]

    def init(self) -> tuple[Float[Array, " size"], Float[Array, " size"]]:
        return jnp.zeros(self.size), jnp.zeros(self.size)

    def step(self, state: PyTree[Array], projected: Float[Array, " gates"]) -> PyTree[Array]:
        hidden, carried = state
        gates = projected + self.cell.weight_hh @ hidden
        write, keep, new, out = jnp.split(gates, 4)
        carried = jax.nn.sigmoid(keep) * carried + jax.nn.sigmoid(write) * jnp.tanh(new)
        return jax.nn.sigmoid(out) * jnp.tanh(carried), carried

    def read(self, state: PyTree[Array]) -> Float[Array, " size"]:
        return state[0]

    def masked(self, state: PyTree[Array], mask: Float[Array, " size"]) -> PyTree[Array]:
        return state[0] * mask, state[1]


class SingleGate(AbstractCell):
    """One gate that both resets and updates, with parts to leave out:

        f  = sigmoid(m0 W_f x + m1 U_f h + m2 b_f)
        c  = tanh(m3 W x + m4 U (h * f) + m5 b)
        h' = m6 (1 - f) * h + m7 f * c

    `mutations` lists the i whose m_i is 0; all others are 1. Without any it is the Minimal Gated
    Unit of Zhou et al. 2016 (arXiv:1603.09420), eq. 6, and not a GRU, which has a second gate.
    """

    input_to_gate: Float[Array, "size inputs"]  # W_f
    state_to_gate: Float[Array, "size size"]  # U_f
    gate_bias: Float[Array, " size"]  # b_f
    input_to_candidate: Float[Array, "size inputs"]  # W
    state_to_candidate: Float[Array, "size size"]  # U
    candidate_bias: Float[Array, " size"]  # b
    mutations: tuple[int, ...] = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __init__(
        self, input_size: int, size: int, *, mutations: Sequence[int] = (), key: PRNGKeyArray
    ):
        self.mutations = checked_mutations(mutations, 8)
        keys = jax.random.split(key, 4)
        self.input_to_gate = uniform(keys[0], (size, input_size), input_size)
        self.state_to_gate = uniform(keys[1], (size, size), size)
        self.gate_bias = jnp.zeros(size)
        self.input_to_candidate = uniform(keys[2], (size, input_size), input_size)
        self.state_to_candidate = uniform(keys[3], (size, size), size)
        self.candidate_bias = jnp.zeros(size)
        self.size = size

    def project(
        self, inputs: Float[Array, "time inputs"]
    ) -> tuple[Float[Array, "time size"], Float[Array, "time size"]]:
        """What goes into the gate, and into the candidate."""
        zeros = jnp.zeros((len(inputs), self.size), inputs.dtype)
        gate = zeros if 0 in self.mutations else inputs @ self.input_to_gate.T
        candidate = zeros if 3 in self.mutations else inputs @ self.input_to_candidate.T
        if 2 not in self.mutations:
            gate = gate + self.gate_bias[None]
        if 5 not in self.mutations:
            candidate = candidate + self.candidate_bias[None]
        return gate, candidate

    def init(self) -> Float[Array, " size"]:
        return jnp.zeros(self.size)

    def step(
        self,
        state: Float[Array, " size"],
        projected: tuple[Float[Array, " size"], Float[Array, " size"]],
    ) -> Float[Array, " size"]:
        gate, candidate = projected
        if 1 not in self.mutations:
            gate = gate + self.state_to_gate @ state
        gate = jax.nn.sigmoid(gate)
        if 4 not in self.mutations:
            candidate = candidate + self.state_to_candidate @ (state * gate)
        carried = 0.0 if 6 in self.mutations else (1 - gate) * state
        written = 0.0 if 7 in self.mutations else gate * jnp.tanh(candidate)
        return jnp.broadcast_to(jnp.asarray(carried + written), state.shape)


def checked_mutations(mutations: Sequence[int], number: int) -> tuple[int, ...]:
    """The mutations, sorted; ValueError for one that the cell does not have."""
    unknown = [index for index in mutations if not 0 <= index < number]
    if unknown or len(set(mutations)) != len(mutations):
        raise ValueError(
            f"The mutations {list(mutations)} were asked for, but this cell has those from 0 to "
            f"{number - 1}, each once. Leave out {unknown[0] if unknown else 'what comes twice'}."
        )
    return tuple(sorted(mutations))
