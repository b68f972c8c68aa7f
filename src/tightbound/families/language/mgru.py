"""The gated unit whose gate reads the state alone, and what it becomes when parts are changed."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.families.language.cells import AbstractCell, checked_mutations, uniform

_NUM_HEADS = 4
_FORBIDDEN = -1e30  # finite: a row of -inf would make NaN of a softmax
_EDGE = 1e-6  # a mean this close to 0 or 1 has the log-odds of one there


class Remembering(eqx.Module):
    """A state with all those before it, for a carry that looks back."""

    present: Float[Array, " size"]
    past: Float[Array, "positions size"]  # written up to `clock`
    clock: Int[Array, ""]  # steps taken


class MGRU(AbstractCell):
    """The Minimal Gated Unit without input in its gate, state in its candidate, and biases:

        f  = sigmoid(U h)
        h' = (1 - f) * h + f * tanh(W x),   and h' is read

    which is `SingleGate` with the mutations 0, 2, 4, 5. Its own `mutations` change it:

     0  f = 1/2                              6  the gate and the reader see h - 1/2; h starts at 1/2
     1  W x = 0                              7  with 6: the gate sees h
     2  without (1 - f) * h                  8  with 6: the reader sees h
     3  without f * tanh(W x)                9  with 4, 6: instead of h - 1/2 they see
     4  sigmoid(W x) instead of tanh(W x)       atanh(2 (h - 1/2)), which is half the log-odds of h
     5  f * h is added: nothing forgotten  10, 11  (1 - f) * a instead of (1 - f) * h, below

    With 4 and 6, h is the mean of Bernoulli units, and every step mixes it with another: all
    entries stay between 0 and 1. That is so with 10 and 11 too, where a is a mean of all states so
    far, the present one among them, entry by entry under the weights of one of 4 heads:

        a_d = sum_{j <= t} softmax_j(p_{t-j} + h_t . B_{r(d)} h_j) h_jd

    10 has the learned log-prior p of the distance, 11 the bilinear form; either alone leaves the
    other term out. A sequence has at most `num_positions` steps then.
    """

    from_input: Float[Array, "size inputs"]  # W
    from_state: Float[Array, "size size"]  # U
    distance_logits: Float[Array, " positions"] | None  # p
    bilinear: Float[Array, "heads size size"] | None  # B
    mutations: tuple[int, ...] = eqx.field(static=True)
    num_positions: int = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __init__(
        self,
        input_size: int,
        size: int,
        *,
        mutations: Sequence[int] = (),
        num_positions: int,
        key: PRNGKeyArray,
    ):
        self.mutations = _compatible(checked_mutations(mutations, 12))
        input_key, state_key, bilinear_key = jax.random.split(key, 3)
        self.from_input = uniform(input_key, (size, input_size), input_size)
        self.from_state = uniform(state_key, (size, size), size)
        self.distance_logits = jnp.zeros(num_positions) if 10 in self.mutations else None
        self.bilinear = None
        if 11 in self.mutations:
            self.bilinear = jax.random.normal(bilinear_key, (_NUM_HEADS, size, size)) / size
        self.num_positions = num_positions
        self.size = size

    def project(self, inputs: Float[Array, "time inputs"]) -> Float[Array, "time size"]:
        """The candidates: they need no state."""
        if self._looks_back and len(inputs) > self.num_positions:
            raise ValueError(
                f"A sequence of {len(inputs)} steps came, but the cell remembers "
                f"{self.num_positions}. Build it for more positions."
            )
        candidate = inputs @ self.from_input.T
        if 1 in self.mutations:
            candidate = jnp.zeros_like(candidate)
        return jax.nn.sigmoid(candidate) if 4 in self.mutations else jnp.tanh(candidate)

    def init(self) -> Float[Array, " size"]:
        return jnp.full(self.size, 0.5 if 6 in self.mutations else 0.0)

    def begin(self, start: Float[Array, " size"]) -> PyTree[Array]:
        if not self._looks_back:
            return start
        past = jnp.zeros((self.num_positions, self.size), start.dtype)
        return Remembering(start, past, jnp.array(0))

    def step(self, state: PyTree[Array], projected: Float[Array, " size"]) -> PyTree[Array]:
        if not self._looks_back:
            return self._next(state, state, projected)
        past = state.past.at[state.clock].set(state.present)
        state = Remembering(state.present, past, state.clock)
        following = self._next(state.present, self._looked_back(state), projected)
        return Remembering(following, past, state.clock + 1)

    def read(self, state: PyTree[Array]) -> Float[Array, " size"]:
        present = state.present if self._looks_back else state
        return present if 8 in self.mutations else self._centred(present)

    def masked(self, state: PyTree[Array], mask: Float[Array, " size"]) -> PyTree[Array]:
        if not self._looks_back:
            return state * mask
        return Remembering(state.present * mask, state.past, state.clock)

    @property
    def _looks_back(self) -> bool:
        return 10 in self.mutations or 11 in self.mutations

    def _next(
        self,
        state: Float[Array, " size"],
        carried: Float[Array, " size"],
        candidate: Float[Array, " size"],
    ) -> Float[Array, " size"]:
        centred = state if 7 in self.mutations else self._centred(state)
        logits = self.from_state @ centred
        gate = jax.nn.sigmoid(jnp.zeros_like(logits) if 0 in self.mutations else logits)
        following = jnp.zeros_like(state)
        if 2 not in self.mutations:
            following = following + (1 - gate) * carried
        if 3 not in self.mutations:
            following = following + gate * candidate
        if 5 in self.mutations:
            following = following + gate * state
        return following

    def _centred(self, state: Float[Array, " size"]) -> Float[Array, " size"]:
        if 6 not in self.mutations:
            return state
        if 9 not in self.mutations:
            return state - 0.5
        return jnp.arctanh(2 * (jnp.clip(state, _EDGE, 1 - _EDGE) - 0.5))

    def _looked_back(self, state: Remembering) -> Float[Array, " size"]:
        """a: the mean of the states so far."""
        distance = state.clock - jnp.arange(self.num_positions)
        logits = jnp.zeros((_NUM_HEADS, self.num_positions), state.past.dtype)
        if self.distance_logits is not None:
            logits = logits + self.distance_logits[jnp.maximum(distance, 0)][None]
        if self.bilinear is not None:
            logits = logits + jnp.einsum("d,rde,je->rj", state.present, self.bilinear, state.past)
        weights = jax.nn.softmax(jnp.where((distance >= 0)[None], logits, _FORBIDDEN), axis=-1)
        head = jnp.arange(self.size) * _NUM_HEADS // self.size
        return jnp.einsum("dj,jd->d", weights[head], state.past)


def _compatible(mutations: tuple[int, ...]) -> tuple[int, ...]:
    """The mutations; ValueError where one changes what another has not put there."""
    for index in (7, 8, 9):
        if index in mutations and 6 not in mutations:
            raise ValueError(
                f"Mutation {index} changes what mutation 6 centres, but the mutations are "
                f"{list(mutations)}. Add 6, or leave out {index}."
            )
    if 9 in mutations and (4 not in mutations or 5 in mutations):
        raise ValueError(
            f"Mutation 9 reads the state as probabilities, which takes 4 and rules out 5, but the "
            f"mutations are {list(mutations)}. Change them, or leave out 9."
        )
    return mutations
