"""Trajectories of edits as plain records: drawn from a model, or explaining a held-out sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray, Shaped

from tightbound.data.batch import Batch
from tightbound.data.sentences import NUM_MARKS, PAD, UNKNOWN, Sentence
from tightbound.data.vocabulary import Vocabulary
from tightbound.diagnose.laws.gather import jit_once
from tightbound.errors import UserError
from tightbound.families.edits.beam import beam_search
from tightbound.families.edits.generation import generate
from tightbound.families.edits.in_words import DrawnEdit, DrawnString, DrawnTrajectory, Op
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.network import CPY, END, INS, SUB
from tightbound.families.edits.trajectory import Edits, Trajectory
from tightbound.inference.filtered import draw_filtered
from tightbound.models.base import AbstractProposal
from tightbound.terms import LogTerms

OPS: dict[int, Op] = {INS: "INS", CPY: "CPY", SUB: "SUB", END: "EOS"}

# The sites that score a decision: each decision counts in one class of them.
_DECISIONS = tuple(
    name for name in EditModel.kinds if name not in ("steps", "choice", "proposal", "reweighting")
)


@dataclass(frozen=True)
class Start:
    """What is given to a sampler: leading words of every string, and the first strings."""

    prefix: Int[np.ndarray, " length"]
    strings: Int[np.ndarray, "steps length"]

    @property
    def num_given(self) -> int:
        return int((self.prefix != PAD).sum())

    @property
    def num_strings(self) -> int:
        return int((self.strings[:, 0] != PAD).sum())


def read_start(model: EditModel, vocabulary: Vocabulary, prefix: str, strings: str) -> Start:
    """What `--prefix "words"` and `--start "string | string"` give; UserError where the model cannot
    write it."""
    given = _symbols(model, vocabulary, "--prefix", prefix)
    parts = strings.split(" | ") if strings.strip() else []
    if len(parts) > model.max_steps:
        raise UserError(
            f"--start gives {len(parts)} strings, but a trajectory of this run has at most "
            f"{model.max_steps}. Leave some out."
        )
    rows = [_symbols(model, vocabulary, "--start", part) for part in parts]
    num_given = int((given != PAD).sum())
    for part, row in zip(parts, rows, strict=True):
        if row[0] == PAD:
            raise UserError("--start gives an empty string. Write words between every two |.")
        if not np.array_equal(row[:num_given], given[:num_given]):
            raise UserError(
                f"--start gives the string {part.strip()!r}, which does not begin with the words of "
                "--prefix. Begin every string with them, or leave --prefix out."
            )
    table = np.full((model.max_steps, model.max_length), PAD, np.int32)
    if rows:
        table[: len(rows)] = rows
    return Start(given, table)


def draw(
    model: EditModel,
    vocabulary: Vocabulary,
    key: PRNGKeyArray,
    num: int,
    *,
    temperature: float = 1.0,
    start: Start | None = None,
) -> list[DrawnTrajectory]:
    """Trajectories drawn from the model, with log p of every decision.

    At another temperature the draws come from another law; log p stays the model's own.
    """
    start = read_start(model, vocabulary, "", "") if start is None else start
    keys = jax.random.split(key, num)
    drawn = _draw(model, keys, temperature, start.prefix, start.strings)
    return _drawn(vocabulary, drawn, start, _note(vocabulary, temperature, start))


def search(
    model: EditModel, vocabulary: Vocabulary, num: int, *, start: Start | None = None
) -> list[DrawnTrajectory]:
    """The most probable trajectories with their edits that a beam of `num` finds, best first."""
    start = read_start(model, vocabulary, "", "") if start is None else start
    found = _search(model, num, start.prefix, start.strings)
    note = _note(vocabulary, 1.0, start).replace("drawn from the model", f"best of a beam of {num}")
    return _drawn(vocabulary, found, start, note)


def _drawn(vocabulary: Vocabulary, drawn: Any, start: Start, note: str) -> list[DrawnTrajectory]:
    """Plain records of what was drawn or searched, all at once."""
    trajectories, edits, log_p, log_steps = jax.tree.map(np.asarray, drawn)
    return [
        _drawn_trajectory(
            vocabulary,
            _at((trajectories, edits), row),
            log_p[row],
            log_steps[row],
            num_given=start.num_given,
            note=note,
        )
        for row in range(len(log_p))
    ]


def explain(
    model: EditModel,
    proposal: AbstractProposal,
    vocabulary: Vocabulary,
    batch: Batch,
    key: PRNGKeyArray,
) -> tuple[DrawnTrajectory, LogTerms]:
    """The batch's first sentence explained by z ~ q(z | x) and edits drawn by a filter of one
    particle, each decision with its weight; and the terms of every sentence.

    The weights of all decisions, less log q(z | x), are this draw's ELBO. With the proposal fully
    adapted a decision's weight is the log of the sum over all edits that write its word.
    """
    explained = _explain(model, proposal, batch, key)
    (trajectories, edits), terms = jax.tree.map(np.asarray, explained)
    log_p = total_on_grid(model, terms, _DECISIONS)
    log_q = on_grid(model, terms, "choice", of="log_q")
    first = _drawn_trajectory(
        vocabulary,
        _at((trajectories, edits), 0),
        log_p[0],
        on_grid(model, terms, "steps", of="log_p")[0].sum(-1),
        num_given=int(np.asarray(batch.x.num_given)[0]),
        note=f"held-out sentence {int(batch.rows[0])}, taken apart and put together again",
        log_q_edits=log_q[0],
        log_q=float(site_of(terms, "proposal").log_q[0, 0].sum()),
    )
    return first, terms


def site_of(terms: LogTerms, name: str) -> Any:
    """The site of this name."""
    return next(site for site in terms.sites if site.name == name)


def on_grid(
    model: EditModel, terms: LogTerms, name: str, *, of: Literal["log_p", "log_q", "mask"]
) -> Shaped[np.ndarray, "batch steps positions"]:
    """A part of a site at every decision of the only draw, 0 outside the strings."""
    site = site_of(terms, name)
    values = np.where(site.mask, getattr(site, of), 0)[0]
    return values.reshape(-1, model.max_steps, model.num_positions)


def total_on_grid(
    model: EditModel, terms: LogTerms, names: Sequence[str]
) -> Float[np.ndarray, "batch steps positions"]:
    """log p of several sites together at every decision of the only draw."""
    return np.sum([on_grid(model, terms, name, of="log_p") for name in names], axis=0)


@jit_once
def _draw(model, keys, temperature, prefix, strings):
    num_strings = (strings[:, 0] != PAD).sum()

    def one(key):
        trajectory, edits = generate(
            model,
            key,
            temperature=temperature,
            prefix=prefix,
            start=Trajectory(strings, num_strings),
        )
        return _scored(model, trajectory, edits, prefix)

    return jax.vmap(one)(keys)


@jit_once
def _search(model, num, prefix, strings):
    start = Trajectory(strings, (strings[:, 0] != PAD).sum())
    trajectories, edits, _ = beam_search(model, beam_size=num, prefix=prefix, start=start)
    return jax.vmap(lambda z, e: _scored(model, z, e, prefix))(trajectories, edits)


def _scored(model, trajectory, edits, prefix):
    """A trajectory and its edits, with log p of every decision and of every step."""
    x = Sentence(trajectory.last, (prefix != PAD).sum())
    scores = model.score(x, (trajectory, edits))
    log_p = jnp.stack([scores[name] for name in _DECISIONS]).sum(0)
    grid = (model.max_steps, model.num_positions)
    return trajectory, edits, log_p.reshape(grid), scores["steps"].reshape(grid).sum(-1)


@jit_once
def _explain(model, proposal, batch, key):
    model = model.with_filter(num_particles=1)
    z, state, terms = draw_filtered(model, proposal, batch, key=key)
    return jax.vmap(model.complete)(z, state), terms


def _at(completed: tuple[Trajectory, Edits], row: int) -> tuple[Trajectory, Edits]:
    return jax.tree.map(lambda leaf: leaf[row], completed)


def _drawn_trajectory(
    vocabulary: Vocabulary,
    completed: tuple[Trajectory, Edits],
    log_p: Float[np.ndarray, "steps positions"],
    log_steps: Float[np.ndarray, " steps"],
    *,
    num_given: int,
    note: str,
    log_q_edits: Float[np.ndarray, "steps positions"] | None = None,
    log_q: float | None = None,
) -> DrawnTrajectory:
    trajectory, edits = completed
    log_q_edits = np.zeros_like(log_p) if log_q_edits is None else log_q_edits
    strings = []
    for step in range(int(trajectory.num_steps)):
        words = [int(symbol) for symbol in trajectory.strings[step] if symbol != PAD]
        decided = tuple(
            DrawnEdit(
                op=OPS[int(edits.op[step, position])],
                word=vocabulary.symbols[words[position]] if position < len(words) else "",
                source=int(edits.index[step, position]),
                log_p=None
                if position < min(num_given, len(words))
                else float(log_p[step, position]),
                log_q=float(log_q_edits[step, position]),
            )
            for position in range(len(words) + 1)
        )
        strings.append(DrawnString(vocabulary.decode(words), decided, float(log_steps[step])))
    return DrawnTrajectory(tuple(strings), note, log_q)


def _symbols(
    model: EditModel, vocabulary: Vocabulary, option: str, text: str
) -> Int[np.ndarray, " length"]:
    """A text as padded symbols; UserError where it has unknown ones or too many."""
    words = text.split()
    if vocabulary.units == "letters":
        words = list("".join(words))
    unknown = [word for word in words if UNKNOWN in vocabulary.encode([word])]
    if unknown:
        raise UserError(
            f"{option} has {', '.join(map(repr, unknown))}, which this run's vocabulary does not "
            f"know. It has {len(vocabulary) - NUM_MARKS - 1:,} symbols of the training split."
        )
    symbols = vocabulary.encode(words)
    if len(symbols) > model.max_length:
        raise UserError(
            f"{option} has a string of {len(symbols)} symbols, but this run's strings have at most "
            f"{model.max_length}. Give fewer."
        )
    padded = np.full(model.max_length, PAD, np.int32)
    padded[: len(symbols)] = symbols
    return padded


def _note(vocabulary: Vocabulary, temperature: float, start: Start) -> str:
    parts = ["drawn from the model"]
    if temperature != 1:
        parts = [f"drawn at temperature {temperature:g}, log p at 1"]
    if start.num_given:
        parts.append(f"every string begins with {vocabulary.decode(start.prefix)!r}")
    if start.num_strings:
        parts.append(f"the first {start.num_strings} strings given")
    return ", ".join(parts)
