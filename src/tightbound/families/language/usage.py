"""Which of its parts a language model uses for held-out texts: components, choices, states, and where
it looks; numbers for the report to draw."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from tightbound.data.batch import Batch
from tightbound.data.sentences import EOS
from tightbound.data.sequences import Sequence
from tightbound.data.vocabulary import Vocabulary
from tightbound.families.language.chains import LocalHMM, WordChain
from tightbound.families.language.draws import as_language_model
from tightbound.families.language.model import LanguageModel, is_scored
from tightbound.families.language.parts import (
    Choice,
    attention_weights,
    choice_shares,
    choices_of,
    component_log_joint,
    component_weights,
    component_words,
    components_of,
    slot_weights,
    transition,
)
from tightbound.models.base import AbstractModel
from tightbound.report.json_numbers import number, numbers

_BUSIEST = 12  # components whose words are named
_STATES = 16  # in a table of transitions
_WORDS = 5  # of a component


def as_texts(vocabulary: Vocabulary, tokens: Int[np.ndarray, " length"]) -> list[str]:
    """Each token as it is shown; marks as `<eos>` and the like."""
    return [vocabulary.symbols[token] for token in tokens.tolist()]


def component_usage(
    model: AbstractModel, batch: Batch, z: PyTree[Array], vocabulary: Vocabulary
) -> dict[str, Any] | None:
    """How often each component is expected, and is answerable for the tokens that came; None for a
    model without components."""
    network = as_language_model(model, jax.tree.map(lambda leaf: leaf[0], z))
    if components_of(network.structure) is None:
        return None
    weight, answerable = component_shares(model, batch.x, z)
    busiest = np.argsort(-answerable, kind="stable")
    log_words = np.asarray(component_words(network))
    return {
        "entropy": number(_entropy(answerable)),
        "expected": numbers(weight[busiest]),
        "answerable": numbers(answerable[busiest]),
        "components": busiest.tolist(),
        "words": [_words(log_words[k], vocabulary) for k in busiest[:_BUSIEST]],
    }


def component_shares(
    model: AbstractModel, x: Sequence, z: PyTree[Array]
) -> tuple[Float[np.ndarray, " components"], Float[np.ndarray, " components"]]:
    """Mean over all tokens of p(component | x_<t) and of p(component | x_<=t); each sums to 1."""

    @eqx.filter_jit
    def sums(model, x, z):
        def one(inputs):
            x, z = inputs
            network = as_language_model(model, z)
            scored = is_scored(x)[:, None]
            before = jnp.exp(_there(component_weights(network, x)))
            after = jax.nn.softmax(_there(component_log_joint(network, x)), axis=-1)
            return jnp.where(scored, before, 0.0).sum(0), jnp.where(scored, after, 0.0).sum(0)

        return jax.tree.map(lambda leaf: leaf.sum(0), jax.lax.map(one, (x, z)))

    before, after = (np.asarray(leaf, float) for leaf in sums(model, _on_device(x), z))
    return before / before.sum(), after / after.sum()


def choice_usage(
    model: AbstractModel, batch: Batch, z: PyTree[Array]
) -> list[dict[str, Any]] | None:
    """The shares of every choice among few alternatives; None where there is none."""
    network = as_language_model(model, jax.tree.map(lambda leaf: leaf[0], z))
    tables = []
    for choice in choices_of(network):
        expected, answerable = _mean_shares(model, choice, batch.x, z)
        tables.append(
            {
                "choice": choice,
                "alternatives": _alternatives(network, choice, len(expected)),
                "expected": numbers(expected),
                "answerable": numbers(answerable),
            }
        )
    return tables or None


def state_transitions(
    model: AbstractModel, batch: Batch, z: PyTree[Array], vocabulary: Vocabulary
) -> dict[str, Any] | None:
    """P(state after | state before) averaged over the tokens by how often the state before is there,
    among the busiest states; None where states do not follow each other."""
    network = as_language_model(model, jax.tree.map(lambda leaf: leaf[0], z))
    if not isinstance(network.structure, LocalHMM | WordChain):
        return None
    pairs = mean_transition(model, batch.x, z)
    before = np.argsort(-pairs.sum(1), kind="stable")[:_STATES]
    after = np.argsort(-pairs.sum(0), kind="stable")[:_STATES]
    following = pairs / pairs.sum(1, keepdims=True)
    log_words = np.asarray(component_words(network))
    return {
        "before": before.tolist(),
        "after": after.tolist(),
        "share_before": numbers(pairs.sum(1)[before]),
        "share_after": numbers(pairs.sum(0)[after]),
        "words": [_words(log_words[k], vocabulary) for k in after],
        "values": [numbers(row) for row in following[before][:, after]],
        "num_states": len(pairs),
    }


@eqx.filter_jit
def _transition_sum(model, x, z):
    def one(inputs):
        x, z = inputs
        pairs = _there(transition(as_language_model(model, z), x))
        scored = is_scored(x)[:, None, None]
        return jnp.where(scored, pairs, 0.0).sum(0)

    return jax.lax.map(one, (x, z)).sum(0)


def mean_transition(
    model: AbstractModel, x: Sequence, z: PyTree[Array]
) -> Float[np.ndarray, "states states"]:
    """Mean over all tokens of P(state before, state after | x_<t); sums to 1."""
    total = np.asarray(_transition_sum(model, _on_device(x), z), float)
    return total / total.sum()


def attention_on(model: LanguageModel, x: Sequence) -> dict[str, Float[Array, "time time"]] | None:
    """Layer by layer and head by head."""
    weights = attention_weights(model, jnp.asarray(x.values))
    if weights is None:
        return None
    return {
        f"layer {layer + 1}, head {head + 1}": of_head
        for layer, heads in enumerate(weights)
        for head, of_head in enumerate(heads)
    }


def slots_on(model: LanguageModel, x: Sequence) -> dict[str, Float[Array, "time time"]] | None:
    """Slot by slot."""
    weights = slot_weights(model, x)
    return None if weights is None else {f"slot {m + 1}": w for m, w in enumerate(weights)}


def on_sentence(
    weights_of: Callable[[LanguageModel, Sequence], dict[str, Array] | None],
    network: LanguageModel,
    x: Sequence,
    batch: Batch,
    vocabulary: Vocabulary,
) -> dict[str, Any] | None:
    """Heat maps on the first row: what is read before each of its tokens."""
    weights = weights_of(network, x)
    if weights is None:
        return None
    length = int(np.asarray(x.mask).sum())
    tokens = as_texts(vocabulary, np.asarray(x.values)[:length])
    return {
        "row": int(batch.rows[0]),
        "tokens": tokens,
        "read": ["begin", *tokens[:-1]],
        "maps": [
            {"name": name, "values": [numbers(r) for r in np.asarray(w)[:length, :length]]}
            for name, w in weights.items()
        ],
    }


@eqx.filter_jit
def _share_sums(model, choice, x, z):
    def one(inputs):
        x, z = inputs
        return choice_shares(as_language_model(model, z), choice, x)

    return jax.tree.map(lambda leaf: leaf.sum(0), jax.lax.map(one, (x, z)))


def _mean_shares(
    model: AbstractModel, choice: Choice, x: Sequence, z: PyTree[Array]
) -> tuple[Float[np.ndarray, " alternatives"], Float[np.ndarray, " alternatives"]]:
    sums = _share_sums(model, choice, _on_device(x), z)
    expected, answerable = (np.asarray(leaf, float) for leaf in sums)
    return expected / expected.sum(), answerable / answerable.sum()


def _alternatives(network: LanguageModel, choice: Choice, count: int) -> list[str]:
    """What the alternatives of a choice are called."""
    names = [f"{choice} {i + 1}" for i in range(count)]
    if choice == "vector":
        names[-1] = "the word before, rotated"
    if choice == "map" and getattr(network.structure, "unigram", None) is not None:
        names[-1] = "no context"
    return names


def _words(log_p: Float[np.ndarray, " classes"], vocabulary: Vocabulary) -> list[list[Any]]:
    """The likeliest symbols of a component, with their probabilities."""
    best = np.argsort(-log_p, kind="stable")[:_WORDS]
    return [[vocabulary.symbols[EOS + k], number(float(np.exp(log_p[k])))] for k in best.tolist()]


def _entropy(shares: Float[np.ndarray, " components"]) -> float:
    """In nats; a share of 0 counts for nothing."""
    there = shares[shares > 0]
    return float(-(there * np.log(there)).sum())


def _there(array: Array | None) -> Array:
    assert array is not None, "asked of a model without the part"
    return array


def _on_device(x: Sequence) -> Sequence:
    return jax.tree.map(jnp.asarray, x)
