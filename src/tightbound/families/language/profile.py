"""What a language model says of held-out texts, token by token: numbers for the report to draw."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Batch
from tightbound.data.sentences import BOS, EOS
from tightbound.data.sequences import Sequence
from tightbound.data.vocabulary import Vocabulary
from tightbound.errors import UserError
from tightbound.families.language.draws import as_language_model, inferred_latents
from tightbound.families.language.sequence_vae import SequenceVAE
from tightbound.families.language.usage import (
    as_texts,
    attention_on,
    choice_usage,
    component_usage,
    on_sentence,
    slots_on,
    state_transitions,
)
from tightbound.models.base import AbstractModel
from tightbound.report.json_numbers import number, numbers

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

_ROWS, _SHOWN = 64, 3  # that numbers are averaged over; whose tokens are shown one by one
_WORST = 10  # tokens
_ALTERNATIVES = 5
_GIVEN = 6  # tokens before a bad one that are shown


def language_profile(
    setup: "Setup", state: "TrainState", vocabulary: Vocabulary, row: int, key: PRNGKeyArray
) -> dict[str, Any]:
    """Losses by token and by position, the words that were likelier, and what the model's parts do on
    the same rows. Parts the model does not have are absent."""
    model, valid = state.model, setup.data["valid"]
    batch = valid.take(rows_from(len(valid), row))
    z = latents_for(setup, state, batch, key)
    log_p = np.asarray(token_log_probs(model, batch.x, z))
    scored = np.asarray(batch.mask) & (np.asarray(batch.x.values) != BOS)
    network = as_language_model(model, jax.tree.map(lambda leaf: leaf[0], z))
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batch.x)
    profile = {
        "split": valid.description,
        "family": "sequence VAE" if isinstance(model, SequenceVAE) else "language model",
        "num_rows": len(log_p),
        "num_classes": network.num_classes,
        "by_position": by_position(-log_p, scored),
        **_tokens(model, batch, z, log_p, scored, vocabulary),
        "attention": on_sentence(attention_on, network, first, batch, vocabulary),
        "slots": on_sentence(slots_on, network, first, batch, vocabulary),
        "usage": component_usage(model, batch, z, vocabulary),
        "choices": choice_usage(model, batch, z),
        "transitions": state_transitions(model, batch, z, vocabulary),
    }
    return {name: value for name, value in profile.items() if value is not None}


def rows_from(num_rows: int, first: int) -> Int[np.ndarray, " rows"]:
    """The row that is shown first, and others up to `_ROWS`; UserError where it is not there."""
    if not 0 <= first < num_rows:
        raise UserError(
            f"--row {first} was asked for, but the held-out split has the rows 0 to {num_rows - 1}."
        )
    after = (first + np.arange(num_rows)) % num_rows
    return after[:_ROWS]


def latents_for(
    setup: "Setup", state: "TrainState", batch: Batch, key: PRNGKeyArray
) -> PyTree[Array]:
    """One z ~ q(z | x) of every row; nothing where the model has none."""
    if isinstance(state.model, SequenceVAE):
        return inferred_latents(setup.evaluated(state.proposal), batch, key)
    return jnp.zeros((len(batch.rows), 0))


@eqx.filter_jit
def token_log_probs(
    model: AbstractModel, x: Sequence, z: PyTree[Array]
) -> Float[Array, "rows time"]:
    """log p(x_t | x_<t, z) of every row, in nats; 0 at padding and where a begin symbol stands."""

    def one(x, z):
        return as_language_model(model, z).score(x, jnp.zeros(0))["token"]

    return jax.vmap(one)(x, z)


@eqx.filter_jit
def likeliest(
    model: AbstractModel, x: Sequence, z: PyTree[Array], num: int
) -> tuple[Float[Array, "rows time num"], Int[Array, "rows time num"]]:
    """log p of the likeliest symbols at every position, in nats, and which they are."""

    def one(inputs):
        x, z = inputs
        return jax.lax.top_k(as_language_model(model, z).distributions(x), num)

    log_p, classes = jax.lax.map(one, (x, z))  # row by row: all classes at every position are many
    return log_p, classes + EOS


def by_position(
    nats: Float[np.ndarray, "rows time"], scored: Bool[np.ndarray, "rows time"]
) -> dict[str, Any]:
    """Mean nats over the rows that have the position, its standard error (None for one row), and
    their number. Positions that no row has are left out."""
    there = np.flatnonzero(scored.any(0))
    columns = [nats[scored[:, t], t] for t in there]
    errors = [c.std(ddof=1) / len(c) ** 0.5 if len(c) > 1 else np.nan for c in columns]
    return {
        "position": (there + 1).tolist(),
        "mean": numbers(np.array([c.mean() for c in columns])),
        "error": numbers(np.array(errors)),
        "rows": [len(c) for c in columns],
    }


def _tokens(
    model: AbstractModel,
    batch: Batch,
    z: PyTree[Array],
    log_p: Float[np.ndarray, "rows time"],
    scored: Bool[np.ndarray, "rows time"],
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """Sentences token by token, the first rows and the worst, and the worst tokens of all rows."""
    nats = np.where(scored, -log_p, -np.inf)
    flat = np.argsort(-nats, axis=None, kind="stable")[: min(_WORST, int(scored.sum()))]
    worst = np.stack(np.unravel_index(flat, nats.shape), 1)
    per_token = np.where(scored, nats, 0.0).sum(1) / scored.sum(1)
    shown = list(dict.fromkeys([*range(min(_SHOWN, len(nats))), int(per_token.argmax())]))
    asked = np.array(sorted({*shown, *worst[:, 0].tolist()}))
    x, of_asked = (
        jax.tree.map(lambda leaf: jnp.asarray(leaf)[asked], tree) for tree in (batch.x, z)
    )
    count = min(
        _ALTERNATIVES, as_language_model(model, jax.tree.map(lambda l: l[0], z)).num_classes
    )
    best, symbols = (np.asarray(leaf) for leaf in likeliest(model, x, of_asked, count))
    place = {row: i for i, row in enumerate(asked.tolist())}

    def alternatives(row: int, position: int) -> list[list[Any]]:
        at = place[row], position
        return [
            [vocabulary.symbols[symbol], number(p)]
            for symbol, p in zip(symbols[at].tolist(), np.exp(best[at]), strict=True)
        ]

    values = np.asarray(batch.x.values)

    def sentence(row: int) -> dict[str, Any]:
        there = np.flatnonzero(np.asarray(batch.mask)[row])
        return {
            "row": int(batch.rows[row]),
            "tokens": as_texts(vocabulary, values[row, there]),
            "nats": [number(float(nats[row, t])) if scored[row, t] else None for t in there],
            "alternatives": [alternatives(row, int(t)) for t in there],
        }

    return {
        "sentences": [sentence(row) for row in shown],
        "worst": [
            {
                "row": int(batch.rows[row]),
                "position": int(t) + 1,
                "before": as_texts(vocabulary, values[row, max(t - _GIVEN, 0) : t]),
                "token": vocabulary.symbols[values[row, t]],
                "nats": number(float(nats[row, t])),
                "alternatives": alternatives(int(row), int(t)),
            }
            for row, t in worst.tolist()
        ],
    }
