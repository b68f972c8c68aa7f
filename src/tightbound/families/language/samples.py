"""Samples of a language model, and what it says of held-out texts: as text, and as numbers to draw."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tightbound.data.batch import Split
from tightbound.data.sentences import BOS, EOS, NUM_MARKS, PAD, UNKNOWN
from tightbound.data.vocabulary import MARKS, Vocabulary
from tightbound.errors import UserError
from tightbound.estimators.estimate import number_text
from tightbound.families.language.details import vocabulary_of
from tightbound.families.language.draws import (
    DrawnTokens,
    draw_texts,
    draw_texts_at,
    prior_latents,
)
from tightbound.families.language.history import language_history
from tightbound.families.language.model import LanguageModel
from tightbound.families.language.profile import (
    language_profile,
    latents_for,
    rows_from,
    token_log_probs,
)
from tightbound.families.language.sequence_vae import SequenceVAE
from tightbound.families.language.usage import as_texts
from tightbound.families.sampling import (
    Checkpoints,
    Drawn,
    at_least_one,
    refuse_spherical_alone,
    temperature_of,
)
from tightbound.inference.interpolation import linear_mixture, spherical_mixture
from tightbound.models.base import AbstractModel
from tightbound.models.wrappers import Noiseless
from tightbound.report.json_numbers import number

if TYPE_CHECKING:
    from tightbound.train.loop import TrainState
    from tightbound.train.setup import Setup

_RECONSTRUCTED = 4  # held-out texts

_LEAK = (
    "The inputs are divided by a statistic over all positions, so a later word changes what is said "
    "of the earlier ones: texts drawn word by word are not from what was trained."
)
_NO_PRIOR = (
    "Nothing was drawn from the prior: this auto-encoder was trained without noise in its latents, so "
    "no prior was fitted to them, and z ~ p(z) is nowhere near a code it has seen."
)


@dataclass(frozen=True)
class LanguageSamples:
    """Texts with log p of every token, and what the model says of held-out ones."""

    num: int = 16
    """Texts drawn from the model."""
    temperature: float = 1.0
    """Of the words: below 1 the likely ones become likelier."""
    prefix: str = ""
    """The words (or characters) that every text begins with."""
    row: int | None = None
    """The first held-out text shown; 0 by default."""
    between: tuple[int, int] | None = None
    """Two held-out texts: z of both is inferred and mixed, and a text is drawn along each mixture."""
    spherical: bool = False
    """With `--between`: mix along the arc from one z to the other instead of the straight line."""
    seed: int = 0

    @property
    def first_row(self) -> int:
        return self.row or 0

    def write(
        self, setup: "Setup", state: "TrainState", folder: Path, checkpoints: Checkpoints
    ) -> Drawn:
        """Write `texts-step-N` as .txt and .json, and `language-step-N.json`: losses by token, parts in
        use, and, from the models of earlier checkpoints, how parts changed."""
        from tightbound.train.folder import write_whole

        at_least_one(num=self.num)
        temperature_of(self.temperature)
        refuse_spherical_alone(self.spherical, self.between)
        if self.between is not None and self.row is not None:
            raise UserError(
                "--row was given with --between, which names its two rows. Leave one out."
            )
        vocabulary = vocabulary_of(setup)
        assert vocabulary is not None, "a language run has a vocabulary"
        rows_from(len(setup.data["valid"]), self.first_row)  # refused before anything is drawn
        text_key, profile_key = jax.random.split(jax.random.key(self.seed))
        shown, notes = texts_asked_for(setup, state, vocabulary, self, text_key)
        step = int(state.step)
        head = {"schema": 1, "step": step}
        profile = language_profile(setup, state, vocabulary, self.first_row, profile_key)
        steps = [s for s in checkpoints.steps() if s <= step]
        models = (
            (s, old.model) for s, old in zip(steps, checkpoints.states(setup, steps), strict=True)
        )
        history = language_history(models, steps, setup.data["train"])
        document = {**head, "notes": notes, "texts": [text.to_json() for text in shown]}
        written = as_written(shown, notes)
        contents = {
            f"texts-step-{step:08d}.txt": written,
            f"texts-step-{step:08d}.json": json.dumps(document, indent=1) + "\n",
            f"language-step-{step:08d}.json": json.dumps({**head, **profile, **history}) + "\n",
        }
        for name, content in contents.items():
            write_whole(folder / name, content)
        return Drawn([folder / name for name in contents], document, written)


@dataclass(frozen=True)
class ShownText:
    """A text, token by token."""

    name: str
    tokens: tuple[str, ...]  # real ones only
    log_p: tuple[float | None, ...]  # nats; None where nothing was predicted
    num_given: int  # of the first tokens, in a text that is drawn

    def to_json(self) -> dict[str, Any]:
        nats = [None if value is None else number(-value) for value in self.log_p]
        return {
            "name": self.name,
            "tokens": list(self.tokens),
            "nats": nats,
            "num_given": self.num_given,
        }


def texts_asked_for(
    setup: "Setup",
    state: "TrainState",
    vocabulary: Vocabulary,
    request: LanguageSamples,
    key: PRNGKeyArray,
) -> tuple[list[ShownText], list[str]]:
    """The texts, and what must be known of them. UserError where the request cannot be meant."""
    model, proposal = state.model, setup.evaluated(state.proposal)
    network = model.network if isinstance(model, SequenceVAE) else model
    assert isinstance(network, LanguageModel)
    given = given_tokens(setup.data["train"], vocabulary, request.prefix, network.num_positions)
    notes = []
    if request.temperature != 1:
        notes.append(f"Drawn at temperature {request.temperature:g}; log p is the model's own.")
    if network.normalisation == "time":
        notes.append(_LEAK)
    if not isinstance(model, SequenceVAE):
        _refuse_between(request, model)
        keys = jax.random.split(key, request.num)
        drawn = draw_texts(network, given, keys, jnp.asarray(request.temperature))
        return shown_texts("drawn", drawn, given, vocabulary), notes
    if request.between is not None:
        return texts_between(setup, state, vocabulary, request, given, key), notes
    prior_key, rows_key = jax.random.split(key)
    shown = []
    if isinstance(proposal, Noiseless):
        notes.append(_NO_PRIOR)
        _refuse_prefix(request)
    else:
        shown = texts_from_prior(model, vocabulary, request, given, prior_key)
    return [*shown, *reconstructions(setup, state, vocabulary, request, given, rows_key)], notes


def texts_from_prior(
    model: SequenceVAE,
    vocabulary: Vocabulary,
    request: LanguageSamples,
    given: Int[Array, " time"],
    key: PRNGKeyArray,
) -> list[ShownText]:
    """z ~ p(z), x ~ p(x | z), which goes on from what is given; z knows nothing of that."""
    z_key, x_key = jax.random.split(key)
    z = prior_latents(model, jax.random.split(z_key, request.num))
    keys = jax.random.split(x_key, request.num)
    drawn = draw_texts_at(model, z, given, keys, jnp.asarray(request.temperature))
    return shown_texts("drawn, z from the prior", drawn, given, vocabulary)


def reconstructions(
    setup: "Setup",
    state: "TrainState",
    vocabulary: Vocabulary,
    request: LanguageSamples,
    given: Int[Array, " time"],
    key: PRNGKeyArray,
) -> list[ShownText]:
    """Held-out texts with log p(x_t | x_<t, z), z ~ q(z | x), each before a text drawn at the same z."""
    rows = rows_from(len(setup.data["valid"]), request.first_row)[:_RECONSTRUCTED]
    z_key, x_key = jax.random.split(key)
    held_out, z = _held_out(setup, state, vocabulary, rows, z_key)
    assert isinstance(state.model, SequenceVAE)
    keys = jax.random.split(x_key, len(rows))
    nothing = given_tokens(setup.data["train"], vocabulary, "", len(given))
    drawn = draw_texts_at(state.model, z, nothing, keys, jnp.asarray(request.temperature))
    again = shown_texts("drawn at its z", drawn, nothing, vocabulary)
    return [text for pair in zip(held_out, again, strict=True) for text in pair]


def texts_between(
    setup: "Setup",
    state: "TrainState",
    vocabulary: Vocabulary,
    request: LanguageSamples,
    given: Int[Array, " time"],
    key: PRNGKeyArray,
) -> list[ShownText]:
    """The first text, texts drawn along mixtures of both latents with the same noise, the second."""
    assert request.between is not None
    model, num_rows = state.model, len(setup.data["valid"])
    assert isinstance(model, SequenceVAE)
    rows = np.array([rows_from(num_rows, row)[0] for row in request.between])
    z_key, x_key = jax.random.split(key)
    ends, z = _held_out(setup, state, vocabulary, rows, z_key)
    mixed, shares = mixtures(z, request.num, spherical=request.spherical)
    keys = jnp.broadcast_to(x_key, (request.num,))
    drawn = draw_texts_at(model, mixed, given, keys, jnp.asarray(request.temperature))
    along = [
        ShownText(f"{share:.0%} of the way", text.tokens, text.log_p, text.num_given)
        for share, text in zip(shares, shown_texts("", drawn, given, vocabulary), strict=True)
    ]
    return [ends[0], *along, ends[1]]


def mixtures(
    z: PyTree[Array], num: int, *, spherical: bool
) -> tuple[Float[Array, "num latent"], list[float]]:
    """`num` mixtures from the first of two latents to the second, both among them, and their shares.
    UserError for latents that are whole numbers: between their values there is none."""
    if not jnp.issubdtype(z.dtype, jnp.floating):
        raise UserError(
            "--between mixes latents, and those of this run are whole numbers, with nothing between "
            "them. Leave it out."
        )
    shares = np.linspace(0, 1, num) if num > 1 else np.array([0.5])
    mix = spherical_mixture if spherical else linear_mixture
    mixed = jax.vmap(mix, (None, None, 0))(z[0], z[1], jnp.asarray(shares, z.dtype))
    return mixed, shares.tolist()


def given_tokens(
    train: Split, vocabulary: Vocabulary, prefix: str, num_positions: int
) -> Int[Array, " time"]:
    """What every text begins with: a begin symbol where the run's own texts have one, and the words of
    the prefix (its characters, where those are the symbols). UserError where they are unknown or too
    many."""
    begins = [BOS] if np.all(np.asarray(train.x.values)[:, 0] == BOS) else []
    parts = prefix.split() if vocabulary.units == "words" else list(prefix)
    unknown = [part for part in parts if UNKNOWN in vocabulary.encode([part])]
    if unknown:
        raise UserError(
            f"--prefix has {', '.join(map(repr, dict.fromkeys(unknown)))}, which this run's vocabulary "
            f"does not know. It has {len(vocabulary) - NUM_MARKS - 1:,} symbols of the training split."
        )
    symbols = [*begins, *vocabulary.encode(parts)]
    if len(symbols) >= num_positions:
        raise UserError(
            f"--prefix has {len(symbols) - len(begins)} symbols, but this run's texts have at most "
            f"{num_positions - len(begins)} with what follows. Give fewer."
        )
    padded = np.full(num_positions, PAD, np.int32)
    padded[: len(symbols)] = symbols
    return jnp.asarray(padded)


def shown_texts(
    name: str, drawn: DrawnTokens, given: Int[Array, " time"], vocabulary: Vocabulary
) -> list[ShownText]:
    """Draws as texts, without what comes after the end."""
    tokens, log_p = np.asarray(drawn.tokens), np.asarray(drawn.log_p)
    num_given = int((np.asarray(given) != PAD).sum())
    return [_shown(name, row, log_p[i], num_given, vocabulary) for i, row in enumerate(tokens)]


def as_written(texts: Sequence[ShownText], notes: Sequence[str]) -> str:
    """A paragraph for each text: what it is and log p in all, then every token with its own."""
    paragraphs = list(notes)
    for text in texts:
        total = sum(value for value in text.log_p if value is not None)
        num_given = sum(value is not None for value in text.log_p[: text.num_given])
        given = f", {num_given} given" if num_given else ""
        # of a text at its full width nobody knows how it ends
        cut = "" if text.tokens[-1:] == (MARKS[EOS],) else ", without an end"
        pairs = zip(text.tokens, text.log_p, strict=True)
        words = "  ".join(t if v is None else f"{t} {number_text(v)}" for t, v in pairs)
        paragraphs.append(f"{text.name}{given}{cut}, log p {number_text(total)} nats\n  {words}")
    return "\n\n".join(paragraphs) + "\n"


def _held_out(
    setup: "Setup",
    state: "TrainState",
    vocabulary: Vocabulary,
    rows: Int[np.ndarray, " rows"],
    key: PRNGKeyArray,
) -> tuple[list[ShownText], PyTree[Array]]:
    """Held-out texts given z ~ q(z | x), and their z."""
    batch = setup.data["valid"].take(rows)
    z = latents_for(setup, state, batch, key)
    log_p = np.asarray(token_log_probs(state.model, batch.x, z))
    values = np.asarray(batch.x.values)
    texts = [
        _shown(f"held-out row {row}", values[i], log_p[i], 0, vocabulary)
        for i, row in enumerate(rows.tolist())
    ]
    return texts, z


def _shown(
    name: str,
    tokens: Int[np.ndarray, " time"],
    log_p: Float[np.ndarray, " time"],
    num_given: int,
    vocabulary: Vocabulary,
) -> ShownText:
    there = np.flatnonzero(tokens != PAD)
    told = [None if tokens[t] == BOS else float(log_p[t]) for t in there]
    return ShownText(name, tuple(as_texts(vocabulary, tokens[there])), tuple(told), num_given)


def _refuse_between(request: LanguageSamples, model: AbstractModel) -> None:
    if request.between is not None:
        raise UserError(
            f"--between mixes latents, and this {type(model).__name__} has none for a whole text. "
            "Leave it out."
        )


def _refuse_prefix(request: LanguageSamples) -> None:
    if request.prefix:
        raise UserError(
            "--prefix goes on with draws from the prior, and this auto-encoder was trained without "
            "noise in its latents, so it has none to draw from. Leave it out."
        )
