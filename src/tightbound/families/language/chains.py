"""Hidden states between the words before and the next one, summed out by the forward algorithm."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.families.language.emissions import Components, Table, mixed
from tightbound.families.language.structure import AbstractStructure


class LocalHMM(AbstractStructure):
    """The context gives a state, the state another one, and that one the token:

        p(s | c) = sum_{z, z'} P(z | c) T[z, z'] P(s | z'),   P(z | c) = softmax(A c + a)_z

    With T the identity it is a mixture emission.
    """

    weights: Float[Array, "states features"]  # A
    weight_bias: Float[Array, " states"]  # a
    transition_logits: Float[Array, "states states"]  # log T, not normalised; a row per z
    components: Components

    def __init__(self, num_features: int, components: Components, *, key: PRNGKeyArray):
        weight_key, transition_key = jax.random.split(key)
        num_states = len(components.vectors)
        shape = (num_states, num_features)
        self.weights = jax.random.normal(weight_key, shape) / num_features**0.5
        self.weight_bias = jnp.zeros(num_states)
        self.transition_logits = jax.random.normal(transition_key, (num_states, num_states))
        self.components = components

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        state = jax.nn.softmax(self.weights @ contexts[position] + self.weight_bias)
        # A product of matrices, as K^2 logarithms at every position would be slow. A state whose
        # probability is below the smallest float counts as impossible; the sum is over them all.
        following = state @ jax.nn.softmax(self.transition_logits, axis=-1)
        log_component = self.components.log_probs(asked, table)
        return jax.nn.logsumexp(log_component.T, axis=1, b=following[None])


class WordChain(AbstractStructure):
    """A conditional random field over states, with one transition for each of the last words:

        P(z_0 .. z_N | words) is proportional to prod_n exp(psi(w_n)[z_{n-1}, z_n]),
        psi(w) = W w + b,   p(s | words) = sum_{z_N} P(z_N | words) P(s | z_N)

    from z_0 weighed alike, the oldest word first, normalised once for the whole chain (Lafferty et
    al. 2001, eq. 1). A word is the context of its position, and zeros before the first. Because
    nothing is normalised word by word, a word can make its whole past unlikely: with two words this
    is not the chain of two hidden Markov steps.

    Memory: the potentials of a sequence are time x K^2 numbers, and W has K^2 x features; with 20
    words, 128 features and K = 64 in 32 bits 0.3 MB a sequence and 2 MB, with K = 400 13 MB and 82 MB.
    """

    weights: Float[Array, "states states features"]  # W, by the state before and the one after
    bias: Float[Array, "states states"]  # b
    components: Components
    num_words: int = eqx.field(static=True)  # N

    def __init__(
        self, num_features: int, components: Components, *, num_words: int, key: PRNGKeyArray
    ):
        if num_words < 1:
            raise ValueError(
                f"A chain over {num_words} words was asked for; give at least 1. Without any word the "
                "context 'nothing' and a mixture emission are the same."
            )
        num_states = len(components.vectors)
        shape = (num_states, num_states, num_features)
        self.weights = jax.random.normal(key, shape) / num_features**0.5
        self.bias = jnp.zeros((num_states, num_states))
        self.components = components
        self.num_words = num_words

    def log_states(
        self, contexts: Float[Array, "time features"], position: Int[Array, ""]
    ) -> Float[Array, " states"]:
        """log P(z_N | the last words), in nats."""
        num_before = self.num_words - 1
        words = jnp.pad(contexts, ((num_before, 0), (0, 0)))
        potentials = jnp.einsum("ijf,tf->tij", self.weights, words) + self.bias[None]
        log_state = jnp.zeros(len(self.bias))  # alike, whatever the constant
        for back in reversed(range(self.num_words)):
            potential = potentials[position + num_before - back]
            log_state = jax.nn.logsumexp(log_state[:, None] + potential, axis=0)
        return jax.nn.log_softmax(log_state)

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        log_component = self.components.log_probs(asked, table)
        log_state = self.log_states(contexts, position)
        return mixed(log_state, log_component)
