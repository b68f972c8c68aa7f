"""The referee of models that are Markov in their strings: log p(x) by summing over all trajectories.

Uses a model's own `summed` and law of steps, never a proposal or a filter.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from tightbound.data.sentences import NUM_MARKS, PAD, Sentence
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.trajectory import Trajectory

_MOST_STRINGS = 2_000  # their square is the number of pairs that are scored
_PAIRS_AT_ONCE = 4_096


def all_strings(num_symbols: int, max_length: int) -> Int[np.ndarray, "strings length"]:
    """Every string of at most `max_length` words, the empty one first, padded."""
    words = range(NUM_MARKS, num_symbols)
    strings = [
        (*string, *[PAD] * (max_length - size))
        for size in range(max_length + 1)
        for string in itertools.product(words, repeat=size)
    ]
    return np.array(strings, np.int32).reshape(len(strings), max_length)


def log_marginals(model: EditModel) -> tuple[np.ndarray, Float[np.ndarray, " strings"]]:
    """Every string, and log p(x) of each in nats: all latent strings summed out.

        a_1(y) = p(y | nothing),   a_t(y) = p(continue after t - 1) sum_y' a_{t-1}(y') p(y | y')
        p(x) = sum_t p(stop after t) a_t(x)

    For `handed_on` "tokens" and no conditioning on the step, where p(y | y') is the same at every
    step. ValueError for other models, and for more strings than can be paired.
    """
    if not model.sums_out or model.network.depth is not None:
        raise ValueError(
            "Strings are summed out one by one only where the next depends on nothing but the one "
            "before: `handed_on` 'tokens' without `condition_on_step`."
        )
    strings = all_strings(len(model.network.token_bias), model.max_length)
    if len(strings) > _MOST_STRINGS:
        raise ValueError(
            f"The model has {len(strings):,} strings, more than the {_MOST_STRINGS:,} whose pairs are "
            "enumerated. Take fewer letters or shorter strings."
        )
    table = _log_transitions(model, strings)
    log_stop, log_continue = np.asarray(model.log_stop()), np.asarray(model.log_continue())
    reached = table[0]
    total = reached + log_stop[0]
    for step in range(1, model.max_steps):
        reached = np.asarray(logsumexp(reached[:, None] + table, axis=0)) + log_continue[step - 1]
        total = np.logaddexp(total, reached + log_stop[step])
    return strings, total


def _log_transitions(
    model: EditModel, strings: Int[np.ndarray, "strings length"]
) -> Float[np.ndarray, "before after"]:
    """log p(y | y') of every pair of strings, in nats, from a trajectory of these two."""

    @jax.jit
    def score(pairs: Int[Array, "pairs two length"]) -> Float[Array, " pairs"]:
        def one(pair):
            rest = jnp.full((model.max_steps - 2, pair.shape[1]), PAD, pair.dtype)
            trajectory = Trajectory(jnp.concatenate([pair, rest]), jnp.array(2))
            sentence = Sentence(pair[1], jnp.zeros((), jnp.int32))
            scores = model.summed(sentence, trajectory)
            second = [
                (log_p if log_q is None else log_p - log_q).reshape(model.max_steps, -1)[1].sum()
                for name, (log_p, log_q) in scores.items()
                if name != "steps"
            ]
            return jnp.stack(second).sum()

        return jax.vmap(one)(pairs)

    size = len(strings)
    first, second = np.divmod(np.arange(size * size), size)
    pairs = np.stack([strings[first], strings[second]], axis=1)
    filled = -(-len(pairs) // _PAIRS_AT_ONCE) * _PAIRS_AT_ONCE
    padded = np.concatenate([pairs, np.repeat(pairs[:1], filled - len(pairs), axis=0)])
    parts = [score(part) for part in np.split(padded, filled // _PAIRS_AT_ONCE)]
    return np.concatenate([np.asarray(part) for part in parts])[: size * size].reshape(size, size)
