"""What the parts of a language model have learned, as numbers to draw: where they look, what they
mix, which state follows which. Everything is of one sequence; callers map it over rows."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeGuard

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tightbound.data.sentences import EOS
from tightbound.data.sequences import Sequence
from tightbound.families.language.chains import LocalHMM, WordChain
from tightbound.families.language.contexts import GPT
from tightbound.families.language.emissions import Components
from tightbound.families.language.factorial import Factorial
from tightbound.families.language.inputs import normalise, shifted
from tightbound.families.language.maps import Gate, MapMixture
from tightbound.families.language.model import LanguageModel, is_scored
from tightbound.families.language.parents import Parents, TwoParents
from tightbound.families.language.slots import SlotChain, Slots
from tightbound.families.language.structure import AbstractStructure

Choice = Literal["start", "kind of relation", "map", "vector"]

_NEVER = -1e30  # finite: a row of -inf would make NaN of a softmax
_LOGITS: Mapping[Choice, Callable[[Any], Array]] = {
    "start": lambda model: model.start_logits,
    "kind of relation": lambda model: model.structure.kind_logits,
    "map": lambda model: model.structure.weight_logits,
    "vector": lambda model: model.structure.weight_bias,
}


def alignment_priors(
    structure: AbstractStructure,
) -> dict[str, Float[Array, "positions positions"]]:
    """P(a | i) by position i and parent a: of one parent, or of each of two, the other summed out.
    Rows sum to 1. Nothing where no prior of this kind is learned."""
    if isinstance(structure, Parents) and structure.prior_logits is not None:
        positions = jnp.arange(structure.num_positions)
        return {"parent": jnp.exp(jax.vmap(structure.log_prior)(positions))}
    if isinstance(structure, TwoParents):
        positions = jnp.arange(len(structure.prior_logits))
        pairs = jnp.exp(jax.vmap(structure.log_prior)(positions))
        return {"first parent": pairs.sum(2), "second parent": pairs.sum(1)}
    return {}


def distance_priors(structure: AbstractStructure) -> Float[Array, "slots distances"] | None:
    """P_m(i - j = d) of every slot m at the last position, where all distances are possible; None
    where slots have no such prior."""
    if not isinstance(structure, Slots):
        return None
    last = jnp.asarray(len(structure.distance_logits) - 1)
    return jnp.exp(structure.log_prior(last)).T[:, ::-1]


def log_starts(model: LanguageModel, x: Sequence) -> Float[Array, "starts time"]:
    """log p(start | x_<t) before every token, in nats."""
    log_words = _log_seen(model, x)
    before = jnp.cumsum(log_words, axis=1) - log_words
    return jax.nn.log_softmax(before + model.start_logits[:, None], axis=0)


def attention_weights(
    model: LanguageModel, tokens: Int[Array, " time"]
) -> Float[Array, "layers heads time time"] | None:
    """How much every position takes of each input so far, layer by layer; rows sum to 1. None
    without attention."""
    context = model.context
    if not isinstance(context, GPT):
        return None
    inputs = normalise(shifted(tokens, model.embedding), model.normalisation)
    causal = jnp.tril(jnp.ones((len(inputs), len(inputs)), bool))
    states = inputs + context.positions[: len(inputs)]
    layers = []
    for block in context.blocks:
        normal = jax.vmap(block.norms[0])(states)
        attention = block.self_attention
        layers.append(attention.weights(normal, attention.read(normal), causal))
        states = block(states, causal)
    return jnp.stack(layers)


def slot_weights(model: LanguageModel, x: Sequence) -> Float[Array, "slots time time"] | None:
    """How much slot m takes of each input j before every token i, as m, i, j; rows sum to 1. Learned
    starts are averaged by their probability before the token. None without slots."""
    structure = model.structure
    weights: Callable[[Float[Array, "time size"], Int[Array, ""]], Float[Array, "slots time"]]
    match structure:
        case Slots():
            weights = lambda contexts, i: structure.weights(contexts, i).T  # noqa: E731
        case SlotChain():
            weights = structure.marginals
        case _:
            return None
    contexts = model.contexts(jnp.asarray(x.values))
    positions = jnp.arange(contexts.shape[1])
    by_start = jax.vmap(lambda c: jax.vmap(lambda i: weights(c, i))(positions))(contexts)
    return jnp.einsum("st,stmj->mtj", jnp.exp(log_starts(model, x)), by_start)


def components_of(structure: AbstractStructure) -> Components | None:
    """The distributions over words that the structure mixes, where p(class) is a mixture of them: not
    of a product of experts, and not of a gate, which has one more alternative."""
    if isinstance(structure, Factorial | Gate):
        return None
    leaves = jax.tree.leaves(structure, is_leaf=_is_components)
    return next((leaf for leaf in leaves if _is_components(leaf)), None)


def component_weights(model: LanguageModel, x: Sequence) -> Float[Array, "time components"] | None:
    """log p(component | x_<t) before every token, in nats, whatever the structure chooses on the way;
    None where there are no components.

    The structure is asked for its component as it is for a word: in place of the components stand as
    many that are certain of one class each.
    """
    components = components_of(model.structure)
    if components is None:
        return None
    certain = _certain(len(components.vectors), components.vectors.dtype)
    asked = jax.tree.map(
        lambda node: certain if _is_components(node) else node,
        model.structure,
        is_leaf=_is_components,
    )
    contexts, every = model.contexts(jnp.asarray(x.values)), jnp.arange(len(components.vectors))
    table = model.embedding[EOS:]

    def of_start(contexts):
        at = lambda i: asked.log_probs(contexts, i, every, table)  # noqa: E731
        return jax.vmap(at)(jnp.arange(len(contexts)))

    return jax.nn.logsumexp(log_starts(model, x)[:, :, None] + jax.vmap(of_start)(contexts), axis=0)


def component_log_joint(
    model: LanguageModel, x: Sequence
) -> Float[Array, "time components"] | None:
    """log p(component, x_t | x_<t) of every token, in nats: over the components it sums to
    log p(x_t | x_<t), and its softmax is which component is answerable for the token."""
    log_weights = component_weights(model, x)
    components = components_of(model.structure)
    if log_weights is None or components is None:
        return None
    classes = model.classes(jnp.asarray(x.values))
    return log_weights + components.log_probs(classes, model.embedding[EOS:]).T


def component_words(model: LanguageModel) -> Float[Array, "components classes"] | None:
    """log p(class | component), in nats."""
    components = components_of(model.structure)
    if components is None:
        return None
    return components.log_probs(jnp.arange(model.num_classes), model.embedding[EOS:])


def choices_of(model: LanguageModel) -> list[Choice]:
    """The choices among few alternatives that the model sums out, and that have logits."""
    structure = model.structure
    found: dict[Choice, bool] = {
        "start": len(model.start_logits) > 1,
        "kind of relation": isinstance(structure, Parents) and len(structure.kind_logits) > 1,
        "map": isinstance(structure, MapMixture) and structure.weight_logits is not None,
        "vector": isinstance(structure, Gate),
    }
    return [choice for choice, is_there in found.items() if is_there]


def choice_shares(
    model: LanguageModel, choice: Choice, x: Sequence
) -> tuple[Float[Array, " alternatives"], Float[Array, " alternatives"]]:
    """How often each alternative is taken in x: as expected before each token is seen, and with the
    token seen. Of a start, which is chosen once, a probability; of the others, sums over the tokens.

    With p = sum_a g_a p_a and g = softmax(logits), d log p / d logits_a = g_a p_a / p - g_a: what is
    seen less what was expected. Learned starts are weighed as the whole of x judges them.
    """
    where = _LOGITS[choice]
    nothing = jnp.zeros(0)
    structure = model.structure

    def log_p(logits):
        return eqx.tree_at(where, model, logits).score(x, nothing)["token"].sum()

    num_tokens = is_scored(x).sum()
    if isinstance(structure, Gate) and choice == "vector":
        starts = jax.nn.softmax(_log_seen(model, x).sum(1) + model.start_logits)
        contexts = model.contexts(jnp.asarray(x.values))
        gates = jnp.exp(jax.vmap(jax.vmap(structure.log_weights))(contexts))
        expected = jnp.einsum("s,t,sta->a", starts, is_scored(x).astype(gates.dtype), gates)
    else:
        expected = jax.nn.softmax(where(model)) * (1 if choice == "start" else num_tokens)
    return expected, expected + jax.grad(log_p)(where(model))


def transition(model: LanguageModel, x: Sequence) -> Float[Array, "time states states"] | None:
    """P(state before, state after | x_<t) of the last step of the chain before every token; each sums
    to 1. Learned starts are averaged. None where states do not follow each other."""
    structure = model.structure
    pair: Callable[[Float[Array, "time size"], Int[Array, ""]], Float[Array, "states states"]]
    match structure:
        case LocalHMM():
            pair = lambda contexts, i: _hidden_markov_pair(structure, contexts[i])  # noqa: E731
        case WordChain():
            pair = lambda contexts, i: _chain_pair(structure, contexts, i)  # noqa: E731
        case _:
            return None
    contexts = model.contexts(jnp.asarray(x.values))
    positions = jnp.arange(contexts.shape[1])
    by_start = jax.vmap(lambda c: jax.vmap(lambda i: pair(c, i))(positions))(contexts)
    return jnp.einsum("st,stij->tij", jnp.exp(log_starts(model, x)), by_start)


def _log_seen(model: LanguageModel, x: Sequence) -> Float[Array, "starts time"]:
    """log p(x_t | x_<t, start) in nats; 0 where nothing is predicted."""
    tokens = jnp.asarray(x.values)
    log_p = model.log_probs(model.contexts(tokens), model.classes(tokens))
    return jnp.where(is_scored(x)[None], log_p, 0.0)


def _hidden_markov_pair(
    structure: LocalHMM, context: Float[Array, " size"]
) -> Float[Array, "states states"]:
    before = jax.nn.softmax(structure.weights @ context + structure.weight_bias)
    return before[:, None] * jax.nn.softmax(structure.transition_logits, axis=-1)


def _chain_pair(
    structure: WordChain, contexts: Float[Array, "time size"], position: Int[Array, ""]
) -> Float[Array, "states states"]:
    """P(z_{N-1}, z_N | words): the forward message up to z_{N-1} times the last potential."""
    last = structure.num_words - 1
    words = jnp.pad(contexts, ((last, 0), (0, 0)))
    potential = lambda n: structure.weights @ words[position + n] + structure.bias  # noqa: E731
    log_state = jnp.zeros(len(structure.bias))
    for n in range(last):
        log_state = jax.nn.logsumexp(log_state[:, None] + potential(n), axis=0)
    joint = log_state[:, None] + potential(last)
    return jax.nn.softmax(joint.ravel()).reshape(joint.shape)


def _is_components(node: Any) -> TypeGuard[Components]:
    return isinstance(node, Components)


def _certain(num_components: int, dtype: jnp.dtype) -> Components:
    """As many components as classes, each certain of its own."""
    free = Components("free", num_components, 1, num_components, key=jax.random.key(0))
    identity = jnp.where(jnp.eye(num_components, dtype=bool), 0.0, _NEVER).astype(dtype)
    return eqx.tree_at(lambda components: components.vectors, free, identity)
