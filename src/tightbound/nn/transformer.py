"""Transformer blocks over one sequence: whole, and one position at a time with a key-value cache."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tightbound.nn.dropout import dropped

NormPlace = Literal["pre", "post"]
_FORBIDDEN = -1e30  # finite: a row of -inf would make NaN of a softmax


class KeyValue(eqx.Module):
    """What attention reads of a sequence, head by head."""

    key: Float[Array, "slots heads size"]
    value: Float[Array, "slots heads size"]

    def write(self, slot: Int[Array, ""], entry: "KeyValue") -> "KeyValue":
        """The same with one slot replaced; `entry` has that one slot."""
        start = (slot, 0, 0)
        return KeyValue(
            jax.lax.dynamic_update_slice(self.key, entry.key, start),
            jax.lax.dynamic_update_slice(self.value, entry.value, start),
        )


class Attention(eqx.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017, arXiv:1706.03762, sec. 3.2)."""

    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    output: eqx.nn.Linear
    num_heads: int = eqx.field(static=True)

    def __init__(self, size: int, num_heads: int, *, key: PRNGKeyArray):
        if size % num_heads:
            raise ValueError(
                f"A size of {size} cannot be shared among {num_heads} heads; give a multiple."
            )
        keys = jax.random.split(key, 4)
        self.query, self.key, self.value, self.output = (
            eqx.nn.Linear(size, size, use_bias=False, key=key) for key in keys
        )
        self.num_heads = num_heads

    def read(self, states: Float[Array, "slots size"]) -> KeyValue:
        """Keys and values of a sequence."""
        return KeyValue(self._heads(self.key, states), self._heads(self.value, states))

    def __call__(
        self,
        states: Float[Array, "positions size"],
        source: KeyValue,
        mask: Bool[Array, "positions slots"],
    ) -> Float[Array, "positions size"]:
        """Attend from every position to the slots its row of the mask allows (at least one)."""
        weights = self.weights(states, source, mask)
        attended = jnp.einsum("hps,shd->phd", weights, source.value)
        return jax.vmap(self.output)(attended.reshape(states.shape))

    def weights(
        self,
        states: Float[Array, "positions size"],
        source: KeyValue,
        mask: Bool[Array, "positions slots"],
    ) -> Float[Array, "heads positions slots"]:
        """How much every position takes of each slot, head by head: rows sum to 1."""
        # Not `jax.nn.dot_product_attention`: its softmax is in 32 bits whatever the states are, and
        # what is written step by step would differ from the whole in the eighth digit.
        query = self._heads(self.query, states)
        logits = jnp.einsum("phd,shd->hps", query, source.key) / query.shape[-1] ** 0.5
        return jax.nn.softmax(jnp.where(mask[None], logits, _FORBIDDEN))

    def _heads(
        self, linear: eqx.nn.Linear, states: Float[Array, "slots size"]
    ) -> Float[Array, "slots heads part"]:
        return jax.vmap(linear)(states).reshape(len(states), self.num_heads, -1)


class Block(eqx.Module):
    """Self-attention, attention to a source if there is one, and a two-layer perceptron.

    Each is a residual branch, normalised before it ("pre", which trains without warm-up: Xiong et
    al. 2020, arXiv:2002.04745) or after it ("post", as in Vaswani et al. 2017). With
    `condition_size` the first and last norm are shifted and scaled by a linear map of a condition
    that is zero at first (adaptive layer norm: Peebles & Xie 2023, arXiv:2212.09748, sec. 3.2).
    """

    self_attention: Attention
    source_attention: Attention | None
    widen: eqx.nn.Linear
    narrow: eqx.nn.Linear
    norms: list[eqx.nn.LayerNorm]
    modulation: eqx.nn.Linear | None
    dropout: float = eqx.field(static=True)  # of every branch
    norm_place: NormPlace = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        num_heads: int,
        hidden_size: int,
        *,
        attends_to_source: bool,
        condition_size: int | None = None,
        norm_place: NormPlace = "pre",
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ):
        self_key, source_key, widen_key, narrow_key, modulation_key = jax.random.split(key, 5)
        self.self_attention = Attention(size, num_heads, key=self_key)
        self.source_attention = (
            Attention(size, num_heads, key=source_key) if attends_to_source else None
        )
        self.widen = eqx.nn.Linear(size, hidden_size, key=widen_key)
        self.narrow = eqx.nn.Linear(hidden_size, size, key=narrow_key)
        self.norms = [eqx.nn.LayerNorm(size) for _ in range(3 if attends_to_source else 2)]
        self.modulation = None
        if condition_size is not None:
            linear = eqx.nn.Linear(condition_size, 4 * size, key=modulation_key)
            self.modulation = jax.tree.map(jnp.zeros_like, linear)
        self.dropout = dropout
        self.norm_place = norm_place

    def __call__(
        self,
        states: Float[Array, "positions size"],
        mask: Bool[Array, "positions positions"],
        source: KeyValue | None = None,
        source_mask: Bool[Array, " slots"] | None = None,
        condition: Float[Array, " condition"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "positions size"]:
        """All positions at once. Without `key` nothing is dropped."""

        def attend(states):
            return self.self_attention(states, self.self_attention.read(states), mask)

        return self._branches(states, attend, source, source_mask, condition, key)

    def step(
        self,
        state: Float[Array, " size"],
        cache: KeyValue,
        position: Int[Array, ""],
        source: KeyValue | None = None,
        source_mask: Bool[Array, " slots"] | None = None,
    ) -> tuple[Float[Array, " size"], KeyValue]:
        """One position, given the cache of those before it; the cache with this one in it."""
        written = cache
        visible = jnp.arange(len(cache.key)) <= position

        def attend(states):
            nonlocal written
            written = cache.write(position, self.self_attention.read(states))
            return self.self_attention(states, written, visible[None])

        states = self._branches(state[None], attend, source, source_mask, None, None)
        return states[0], written

    def _branches(self, states, attend, source, source_mask, condition, key):
        keys = [None] * 3 if key is None else list(jax.random.split(key, 3))
        first, last = self._modulations(condition)
        states = self._residual(states, attend, self.norms[0], first, keys[0])
        source_attention = self.source_attention
        if source_attention is not None:
            mask = jnp.broadcast_to(source_mask, (len(states), len(source_mask)))

            def look(states):
                return source_attention(states, source, mask)

            states = self._residual(states, look, self.norms[1], None, keys[1])
        return self._residual(states, self._perceptron, self.norms[-1], last, keys[2])

    def _residual(self, states, branch, norm, modulation, key):
        def normalise(states):
            normal = jax.vmap(norm)(states)
            if modulation is None:
                return normal
            scale, shift = modulation
            return normal * (1.0 + scale)[None] + shift[None]

        if self.norm_place == "post":
            return normalise(states + self._drop(branch(states), key))
        return states + self._drop(branch(normalise(states)), key)

    def _drop(self, states, key):
        return dropped(states, self.dropout, False, key)

    def _perceptron(self, states):
        return jax.vmap(self.narrow)(jax.nn.relu(jax.vmap(self.widen)(states)))

    def _modulations(self, condition):
        if self.modulation is None:
            return None, None
        parts = jnp.split(self.modulation(condition), 4)
        return tuple(parts[:2]), tuple(parts[2:])


def sinusoids(num_positions: int, size: int) -> Float[Array, "positions size"]:
    """Fixed position signals, sin and cos of geometrically spaced frequencies (Vaswani et al. 2017,
    sec. 3.5); every row has the root mean square 0.71."""
    frequency = 10_000.0 ** (-jnp.arange(0, size, 2) / size)
    angle = jnp.arange(num_positions)[:, None] * frequency[None]
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1).reshape(num_positions, -1)[:, :size]
