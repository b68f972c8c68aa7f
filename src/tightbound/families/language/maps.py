"""Several maps of one context, of which every token uses one: all orders of a window, linear maps
side by side, or fixed vectors and one rotated word."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tightbound.data.sentences import EOS
from tightbound.families.language.emissions import AbstractEmission, Components, Table, mixed
from tightbound.families.language.mixtures import mean_in_turn, mixed_log_probs
from tightbound.families.language.structure import AbstractStructure

_MOST_WORDS = 5  # of a window whose orders are all tried: 120 of them


class Permutations(AbstractStructure):
    """The words of a window in an order that is not known: the mean over all orders pi,

        p(class) = 1/n! sum_pi emission(class | sum_j W_j s_pi(j))

    with s_0, s_1, ... the words of the context, newest first. The emission is evaluated n! times
    for every token, one order after the other, and so n is at most 5.
    """

    maps: Float[Array, "words size inputs"]  # W
    emission: AbstractEmission

    def __init__(self, num_words: int, size: int, emission: AbstractEmission, *, key: PRNGKeyArray):
        """`size` is that of one word, and of the features."""
        if not 1 <= num_words <= _MOST_WORDS:
            raise ValueError(
                f"All orders of a window of {num_words} words were asked for, but their number "
                f"grows as its factorial. Give a window of 1 to {_MOST_WORDS} words."
            )
        shape = (num_words, size, size)
        self.maps = jax.random.normal(key, shape) / (num_words * size) ** 0.5
        self.emission = emission

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        num_words = len(self.maps)
        words = contexts[position].reshape(num_words, -1)
        mapped = jnp.einsum("jsd,kd->jks", self.maps, words)  # W_j s_k: n^2 products for n! orders
        orders = np.array(list(itertools.permutations(range(num_words))))

        def features(order: Int[Array, " words"]) -> Float[Array, " size"]:
            return mapped[jnp.arange(num_words), order].sum(0)

        return mean_in_turn(self.emission, features, jnp.asarray(orders), asked, table)


class MapMixture(AbstractStructure):
    """Parallel linear maps of the context, each through the same emission:

        p(class) = sum_r pi_r emission(class | M_r c)  [+ pi_u emission(class | u)]

    The last component is there with `unigram`; it reads a vector of its own and no context. The
    weights are learned or all the same, and do not depend on the context.
    """

    maps: Float[Array, "maps size features"]  # M
    unigram: Float[Array, " size"] | None  # u
    weight_logits: Float[Array, " alternatives"] | None  # log pi, not normalised; None: all alike
    emission: AbstractEmission

    def __init__(
        self,
        num_features: int,
        size: int,
        emission: AbstractEmission,
        *,
        num_maps: int,
        unigram: bool,
        learned_weights: bool,
        key: PRNGKeyArray,
    ):
        if num_maps < 1:
            raise ValueError(f"{num_maps} maps of the context were asked for; give at least 1.")
        map_key, unigram_key = jax.random.split(key)
        shape = (num_maps, size, num_features)
        self.maps = jax.random.normal(map_key, shape) / num_features**0.5
        self.unigram = jax.random.normal(unigram_key, (size,)) if unigram else None
        self.weight_logits = jnp.zeros(num_maps + unigram) if learned_weights else None
        self.emission = emission

    def log_weights(self) -> Float[Array, " alternatives"]:
        """log pi of the maps, and then of the component without context, in nats."""
        number = len(self.maps) + (self.unigram is not None)
        logits = jnp.zeros(number) if self.weight_logits is None else self.weight_logits
        return jax.nn.log_softmax(logits)

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        features = self.maps @ contexts[position]
        if self.unigram is not None:
            features = jnp.concatenate([features, self.unigram[None]])
        return mixed_log_probs(self.emission, features, self.log_weights(), asked, table)


class Gate(AbstractStructure):
    """K fixed vectors or the previous word, rotated: the context chooses.

        p(class) = sum_{k < K} g_k softmax(E v_k) + g_K softmax(E R c),   g = softmax(A c + a)

    R is orthogonal by Cayley's formula, R = (I + S)^-1 (I - S) with S skew-symmetric, so a word
    keeps its length; no half turn has this form. The context is one word.
    """

    weights: Float[Array, "alternatives size"]  # A
    weight_bias: Float[Array, " alternatives"]  # a
    components: Components
    skew: Float[Array, "size size"]  # G, with S = G - G^T

    def __init__(
        self,
        num_features: int,
        size: int,
        num_components: int,
        num_symbols: int,
        *,
        key: PRNGKeyArray,
    ):
        """`size` is that of an embedding, `num_symbols` counts the whole vocabulary."""
        if num_features != size:
            raise ValueError(
                f"The gate rotates the previous word, of size {size}, but its context has size "
                f"{num_features}. Use the context 'previous', or a recurrent one."
            )
        weight_key, components_key, skew_key = jax.random.split(key, 3)
        shape = (num_components + 1, size)
        self.weights = jax.random.normal(weight_key, shape) / size**0.5
        self.weight_bias = jnp.zeros(shape[0])
        num_classes = num_symbols - EOS
        self.components = Components("tied", num_components, size, num_classes, key=components_key)
        self.skew = jax.random.normal(skew_key, (size, size)) / size**0.5

    def log_weights(self, context: Float[Array, " features"]) -> Float[Array, " alternatives"]:
        """log g, in nats: of the fixed vectors, and then of the rotated word."""
        return jax.nn.log_softmax(self.weights @ context + self.weight_bias)

    def rotation(self) -> Float[Array, "size size"]:
        """R."""
        skew = self.skew - self.skew.T
        one = jnp.eye(len(skew), dtype=skew.dtype)
        return jnp.linalg.solve(one + skew, one - skew)

    def log_probs(
        self,
        contexts: Float[Array, "time features"],
        position: Int[Array, ""],
        asked: Int[Array, " asked"],
        table: Table,
    ) -> Float[Array, " asked"]:
        context = contexts[position]
        log_weights = self.log_weights(context)
        rotated = self.rotation() @ context
        of_rotated = table[asked] @ rotated - jax.nn.logsumexp(table @ rotated)
        of_fixed = self.components.log_probs(asked, table)
        log_p = jnp.concatenate([of_fixed, of_rotated[None]])
        return mixed(log_weights, log_p)
