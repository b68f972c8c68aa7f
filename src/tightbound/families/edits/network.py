"""The network behind every decision: an encoder of the source string, a decoder of the edits so far."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tightbound.data.sentences import BOS, EOS, NUM_MARKS
from tightbound.nn.transformer import Block, KeyValue, NormPlace, sinusoids

INS, CPY, SUB, END = 0, 1, 2, 3
NUM_OPS = 4
HandedOn = Literal["edits", "edits-within", "tokens"]
"""What a chosen edit leaves behind for later decisions to read.

- "edits": its embedding, also as the source of the next string (deep: not Markov in the strings);
- "edits-within": its embedding, within its own string; the next string reads embedded words
  (static: Markov in the strings);
- "tokens": its word alone. The edits behind a string then sum out exactly, decision by decision
  (the pointer-generator of See et al. 2017, arXiv:1704.04368).
"""

_IMPOSSIBLE = -1e30  # finite: a row of -inf would make NaN of a log-softmax


class Source(eqx.Module):
    """A string as the decoder reads it. Slot 0 is BOS, then its words, then EOS."""

    tokens: Int[Array, " slots"]
    memory: Float[Array, "slots size"]  # what a copy hands on: before the last norm, so that a
    # position taken off is the one that was added
    index_keys: Float[Array, "slots size"]
    read: list[KeyValue]  # by every decoder block

    @property
    def is_slot(self) -> Bool[Array, " slots"]:
        """BOS, words and EOS, but no padding."""
        return (self.tokens >= NUM_MARKS) | (self.tokens == BOS) | (self.tokens == EOS)

    @property
    def is_word(self) -> Bool[Array, " slots"]:
        """What may be copied or substituted."""
        return self.tokens >= NUM_MARKS


class Decision(eqx.Module):
    """Normalised log-probabilities of the three heads at one position, in nats.

    p(edit) = p(op) p(token if INS or SUB) p(index if CPY or SUB); whatever is illegal has
    probability zero, so all legal edits together have probability one.
    """

    op: Float[Array, "*batch ops"]
    token: Float[Array, "*batch vocabulary"]
    index: Float[Array, "*batch slots"]


class EditNetwork(eqx.Module):
    """Transformer encoder and causal decoder with a tied token head, a pointer and an op head."""

    embedding: Float[Array, "vocabulary size"]
    encoder: list[Block]
    decoder: list[Block]
    encoder_norm: eqx.nn.LayerNorm | None
    decoder_norm: eqx.nn.LayerNorm | None
    depth: Float[Array, "steps size"] | None  # of the step, read by the encoder's norms
    op_head: eqx.nn.Linear
    token_bias: Float[Array, " vocabulary"]
    index_query: eqx.nn.Linear
    index_key: eqx.nn.Linear
    max_length: int = eqx.field(static=True)
    legal_ops: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        *,
        size: int,
        num_heads: int,
        hidden_size: int,
        num_layers: int,
        num_steps: int | None,  # None: the encoder does not know which string it reads
        legal_ops: tuple[int, ...],
        norm_place: NormPlace,
        dropout: float,
        embedding_scale: float | None,  # None: size^-1/2, as large as the position signal
        key: PRNGKeyArray,
    ):
        keys = iter(jax.random.split(key, 2 * num_layers + 6))
        scale = size**-0.5 if embedding_scale is None else embedding_scale
        self.embedding = scale * jax.random.normal(next(keys), (vocabulary_size, size))
        self.depth = None
        if num_steps is not None:
            self.depth = jax.random.normal(next(keys), (num_steps, size)) * size**-0.5

        def block(is_decoder: bool) -> Block:
            return Block(
                size,
                num_heads,
                hidden_size,
                attends_to_source=is_decoder,
                condition_size=None if is_decoder or num_steps is None else size,
                norm_place=norm_place,
                dropout=dropout,
                key=next(keys),
            )

        self.encoder = [block(is_decoder=False) for _ in range(num_layers)]
        self.decoder = [block(is_decoder=True) for _ in range(num_layers)]
        is_pre = norm_place == "pre"
        self.encoder_norm = eqx.nn.LayerNorm(size) if is_pre else None
        self.decoder_norm = eqx.nn.LayerNorm(size) if is_pre else None
        self.op_head = eqx.nn.Linear(size, NUM_OPS, key=next(keys))
        self.token_bias = jnp.zeros(vocabulary_size)
        self.index_query = eqx.nn.Linear(size, size, key=next(keys))
        self.index_key = eqx.nn.Linear(size, size, use_bias=False, key=next(keys))
        self.max_length = max_length
        self.legal_ops = legal_ops

    @property
    def size(self) -> int:
        """Width of every state."""
        return self.embedding.shape[1]

    @property
    def num_slots(self) -> int:
        """BOS, at most `max_length` words, EOS."""
        return self.max_length + 2

    @property
    def positions(self) -> Float[Array, "slots size"]:
        """The position signals, not learned."""
        return sinusoids(self.num_slots, self.size).astype(self.embedding.dtype)

    def embed(self, tokens: Int[Array, "*shape"]) -> Float[Array, "*shape size"]:
        """Word embeddings without position, scaled to unit root mean square."""
        return self.embedding[tokens] * self.size**0.5

    def read_source(
        self,
        tokens: Int[Array, " slots"],
        embeddings: Float[Array, "slots size"],
        step: Int[Array, ""],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Source:
        """Encode a source string; `embeddings` are its words' or those its edits handed on."""
        is_slot = (tokens >= NUM_MARKS) | (tokens == BOS) | (tokens == EOS)
        mask = jnp.broadcast_to(is_slot, (len(tokens), len(tokens)))
        condition = None if self.depth is None else self.depth[step]
        states = embeddings
        for block, block_key in zip(self.encoder, _keys(key, len(self.encoder)), strict=True):
            states = block(states, mask, condition=condition, key=block_key)
        normal = states if self.encoder_norm is None else jax.vmap(self.encoder_norm)(states)
        return Source(
            tokens=tokens,
            memory=states,
            index_keys=jax.vmap(self.index_key)(normal),
            read=[_source_attention(block).read(normal) for block in self.decoder],
        )

    def decode(
        self,
        embeddings: Float[Array, "positions size"],
        source: Source,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "positions size"]:
        """The decoder's state at every position, each reading the positions up to itself."""
        mask = jnp.tri(len(embeddings), dtype=bool)
        states = embeddings
        keys = _keys(key, len(self.decoder))
        for block, read, block_key in zip(self.decoder, source.read, keys, strict=True):
            states = block(states, mask, read, source.is_slot, key=block_key)
        return states if self.decoder_norm is None else jax.vmap(self.decoder_norm)(states)

    def decode_step(
        self,
        embedding: Float[Array, " size"],
        caches: list[KeyValue],
        position: Int[Array, ""],
        source: Source,
    ) -> tuple[Float[Array, " size"], list[KeyValue]]:
        """The same at one position, given the caches of those before it."""
        state, written = embedding, []
        for block, cache, read in zip(self.decoder, caches, source.read, strict=True):
            state, cache = block.step(state, cache, position, read, source.is_slot)
            written.append(cache)
        return (state if self.decoder_norm is None else self.decoder_norm(state)), written

    def empty_caches(self) -> list[KeyValue]:
        """Caches of the right shape for a decoder that has read nothing."""
        slots = self.max_length + 1
        zeros = jnp.zeros(
            (slots, self.decoder[0].self_attention.num_heads, self._head_size),
            self.embedding.dtype,
        )
        return [KeyValue(zeros, zeros) for _ in self.decoder]

    @property
    def _head_size(self) -> int:
        return self.size // self.decoder[0].self_attention.num_heads

    def decide(
        self, state: Float[Array, " size"], position: Int[Array, ""], source: Source
    ) -> Decision:
        """The law of the next edit. At the length cap the end has probability one."""
        has_words = source.is_word.any()
        legal = jnp.array([op in self.legal_ops for op in range(NUM_OPS)])
        legal = legal & jnp.array([True, False, False, True]) | (legal & has_words)
        at_cap = position >= self.max_length
        legal = jnp.where(at_cap, jnp.arange(NUM_OPS) == END, legal)
        is_word = jnp.arange(len(self.token_bias)) >= NUM_MARKS
        logits = self.embedding @ state + self.token_bias
        pointer = source.index_keys @ self.index_query(state) / self.size**0.5
        return Decision(
            op=_log_softmax(self.op_head(state), legal),
            token=_log_softmax(logits, is_word),
            index=_log_softmax(pointer, source.is_word),
        )

    def edit_embedding(
        self,
        op: Int[Array, ""],
        token: Int[Array, ""],
        index: Int[Array, ""],
        position: Int[Array, ""],
        source: Source,
    ) -> Float[Array, " size"]:
        """What an edit leaves at `position`: a word's embedding, or the encoder's state of what was
        copied moved there, with the new word in place of the old where it was substituted."""
        positions = self.positions
        copied = source.memory[index] - positions[index]
        substituted = copied - self.embed(source.tokens[index]) + self.embed(token)
        content = jnp.select([op == CPY, op == SUB], [copied, substituted], self.embed(token))
        return content + positions[position]

    def string_embeddings(self, tokens: Int[Array, " slots"]) -> Float[Array, "slots size"]:
        """The words of a string, embedded anew, with their positions."""
        return self.embed(tokens) + self.positions[: len(tokens)]


def _source_attention(block: Block):
    assert block.source_attention is not None
    return block.source_attention


def _log_softmax(
    logits: Float[Array, " choices"], legal: Bool[Array, " choices"]
) -> Float[Array, " choices"]:
    """log p over the legal choices; about -1e30 for the others (and for all, if none is legal)."""
    return jax.nn.log_softmax(jnp.where(legal, logits, _IMPOSSIBLE))


def _keys(key: PRNGKeyArray | None, num: int) -> list[PRNGKeyArray | None]:
    return [None] * num if key is None else list(jax.random.split(key, num))
