"""Slots that look for a word each among those before: independently, or as a chain of positions."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.families.language.emissions import AbstractEmission, Table
from tightbound.families.language.mixtures import mixed_log_probs
from tightbound.families.language.structure import AbstractStructure

AffinityKind = Literal["linear", "log-softmax", "states", "log-softmax-states"]
Reads = Literal["last", "lstm"]
_FORBIDDEN = -1e30  # finite: a row of -inf would make NaN of a softmax


class Slots(AbstractStructure):
    """Every slot takes the mean of the inputs so far, under weights of its own:

        y_m = sum_{j <= i} softmax_j(log P_m(j | i) + w_m . c_j) c_j

    and the emission reads y_1 .. y_N side by side. P_m is a learned prior of the distance i - j.

    This is mean field: were the position j_m a choice to sum out, the emission would be averaged over
    it; here the average is taken inside the emission. It is a distribution over tokens like any other,
    but not the sum over (j_1, .., j_N), which has time^N terms.
    """

    distance_logits: Float[Array, "distances slots"]  # log P, not normalised
    address: Float[Array, "slots features"]  # w
    emission: AbstractEmission

    def __init__(
        self,
        num_features: int,
        num_positions: int,
        emission: AbstractEmission,
        *,
        num_slots: int,
        key: PRNGKeyArray,
    ):
        """`emission` reads `num_slots * num_features` numbers."""
        _check_slots(num_slots)
        self.distance_logits = jnp.zeros((num_positions, num_slots))
        self.address = jax.random.normal(key, (num_slots, num_features)) / num_features**0.5
        self.emission = emission

    def log_prior(self, position: Int[Array, ""]) -> Float[Array, "positions slots"]:
        """log P_m(j | position) of every j and slot, in nats; -1e30 for the j after it."""
        distance = position - jnp.arange(len(self.distance_logits))
        logits = self.distance_logits[jnp.maximum(distance, 0)]
        past = jnp.where((distance >= 0)[:, None], logits, _FORBIDDEN)
        return jax.nn.log_softmax(past, axis=0)

    def weights(
        self, contexts: Float[Array, "time features"], position: Int[Array, ""]
    ) -> Float[Array, "time slots"]:
        """How much each slot takes of each input; exactly 0 of those to come."""
        logits = self.log_prior(position)[: len(contexts)] + contexts @ self.address.T
        return jax.nn.softmax(logits, axis=0)

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        taken = self.weights(contexts, position).T @ contexts
        return self.emission.log_probs(taken.reshape(-1), asked, table)


class Affinity(eqx.Module):
    """How well slot m suits a word, in nats, up to a constant for each slot:

    linear              w_m . c
    log-softmax         log softmax_m(w_m . c): the slots compete for the word
    states              log sum_k softmax(U_m)_k P(k | c),   P(k | c) = softmax(B c)_k
    log-softmax-states  log softmax_m(sum_k U_mk P(k | c))
    """

    slots: Float[Array, "slots features"]  # w, or U where there are states
    states: Float[Array, "states context"] | None  # B
    kind: AffinityKind = eqx.field(static=True)

    def __init__(
        self,
        kind: AffinityKind,
        num_features: int,
        *,
        num_slots: int,
        num_states: int,
        key: PRNGKeyArray,
    ):
        """`num_states` is read by the kinds with states."""
        slot_key, state_key = jax.random.split(key)
        self.kind = kind
        if kind in ("linear", "log-softmax"):
            self.slots = jax.random.normal(slot_key, (num_slots, num_features)) / num_features**0.5
            self.states = None
        else:
            self.slots = jax.random.normal(slot_key, (num_slots, num_states))
            shape = (num_states, num_features)
            self.states = jax.random.normal(state_key, shape) / num_features**0.5

    def __call__(self, contexts: Float[Array, "time features"]) -> Float[Array, "time slots"]:
        """The affinity of every slot for every word."""
        if self.states is None:
            affinity = contexts @ self.slots.T
            return affinity if self.kind == "linear" else jax.nn.log_softmax(affinity, axis=-1)
        log_state = jax.nn.log_softmax(contexts @ self.states.T, axis=-1)
        if self.kind == "log-softmax-states":
            return jax.nn.log_softmax(jnp.exp(log_state) @ self.slots.T, axis=-1)
        log_slot = jax.nn.log_softmax(self.slots, axis=-1)
        return jax.nn.logsumexp(log_slot[None] + log_state[:, None], axis=-1)


class SlotChain(AbstractStructure):
    """Slots at the positions j_1 .. j_N <= i, each near the one before it:

        P(j_1 .. j_N | i) is proportional to prod_m exp(move(j_{m-1}, j_m) + affinity_m(c_{j_m})),

    j_0 = i. A move has one of three learned weights: one back, stay, or anywhere else; it never leaves
    0..i, and the whole chain is normalised at once. What the emission reads of it:

    last   p(s) = sum_j P(j_N = j) p(s | c_j): the chain is summed out exactly
    lstm   the last state of an LSTM over the slots, which is given sum_j P(j_m = j) c_j for slot m;
           the marginals are exact, but the average is taken inside the network (mean field)

    Time and memory of one position are slots x time^2.
    """

    moves: Float[Array, "3"]  # log-weights of one back, stay, anywhere else
    affinity: Affinity
    reader: eqx.nn.LSTMCell | None  # None reads the last slot
    emission: AbstractEmission

    def __init__(
        self,
        num_features: int,
        emission: AbstractEmission,
        *,
        num_slots: int,
        affinity: AffinityKind,
        reads: Reads,
        num_states: int,
        key: PRNGKeyArray,
    ):
        _check_slots(num_slots)
        affinity_key, reader_key = jax.random.split(key)
        self.moves = jnp.zeros(3)
        self.affinity = Affinity(
            affinity, num_features, num_slots=num_slots, num_states=num_states, key=affinity_key
        )
        self.reader = None
        if reads == "lstm":
            self.reader = eqx.nn.LSTMCell(num_features, num_features, key=reader_key)
        self.emission = emission

    def log_last(
        self, contexts: Float[Array, "time features"], position: Int[Array, ""]
    ) -> Float[Array, " time"]:
        """log P(j_N = j | position), in nats; about -1e30 for the j after it."""
        affinity, log_moves = self._log_potentials(contexts, position)
        return jax.nn.log_softmax(_forward(affinity, log_moves, position)[-1])

    def marginals(
        self, contexts: Float[Array, "time features"], position: Int[Array, ""]
    ) -> Float[Array, "slots time"]:
        """P(j_m = j | position) of every slot m: forward-backward, Rabiner 1989, eq. 27."""
        affinity, log_moves = self._log_potentials(contexts, position)
        forward = _forward(affinity, log_moves, position)
        return jax.nn.softmax(forward + _backward(affinity, log_moves), axis=-1)

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        if self.reader is not None:
            expected = self.marginals(contexts, position) @ contexts
            return self.emission.log_probs(_last_state(self.reader, expected), asked, table)
        log_last = self.log_last(contexts, position)
        return mixed_log_probs(self.emission, contexts, log_last, asked, table)

    def _log_potentials(
        self, contexts: Float[Array, "time features"], position: Int[Array, ""]
    ) -> tuple[Float[Array, "slots time"], Float[Array, "time time"]]:
        """What a slot says of each position, and of each move, from the row to the column."""
        places = jnp.arange(len(contexts))
        back = places[:, None] - places[None, :]
        one_back, stay, elsewhere = self.moves
        log_moves = jnp.where(back == 1, one_back, jnp.where(back == 0, stay, elsewhere))
        past = (places <= position)[None, :]
        return self.affinity(contexts).T, jnp.where(past, log_moves, _FORBIDDEN)


def _forward(
    affinity: Float[Array, "slots time"],
    log_moves: Float[Array, "time time"],
    position: Int[Array, ""],
) -> Float[Array, "slots time"]:
    """log of the sum over j_1 .. j_{m-1} of all factors up to slot m, at every j_m."""

    def step(message, affinity):
        message = jax.nn.logsumexp(message[:, None] + log_moves, axis=0) + affinity
        return message, message

    first = log_moves[position] + affinity[0]
    _, later = jax.lax.scan(step, first, affinity[1:])
    return jnp.concatenate([first[None], later])


def _backward(
    affinity: Float[Array, "slots time"], log_moves: Float[Array, "time time"]
) -> Float[Array, "slots time"]:
    """log of the sum over j_{m+1} .. j_N of all factors after slot m, at every j_m."""

    def step(message, affinity):
        message = jax.nn.logsumexp(log_moves + (affinity + message)[None, :], axis=1)
        return message, message

    last = jnp.zeros(affinity.shape[1])
    _, earlier = jax.lax.scan(step, last, affinity[1:], reverse=True)
    return jnp.concatenate([earlier, last[None]])


def _last_state(cell: eqx.nn.LSTMCell, inputs: Float[Array, "slots size"]) -> Float[Array, " size"]:
    """The output of the cell after the last slot."""

    def step(state, slot):
        return cell(slot, state), None

    zeros = jnp.zeros(cell.hidden_size)
    (hidden, _), _ = jax.lax.scan(step, (zeros, zeros), inputs)
    return hidden


def _check_slots(num_slots: int) -> None:
    if num_slots < 1:
        raise ValueError(f"{num_slots} slots were asked for; give at least 1.")
