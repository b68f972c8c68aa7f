"""The referee of texts by edits: log p by listing every sequence of edits. Slow on purpose, and for tests,
probes and shrunken twins only.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tightbound.data.sentences import NUM_MARKS, PAD
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.network import CPY, END, INS, SUB
from tightbound.families.edits.trajectory import Edits, Trajectory
from tightbound.inference.exact import enumerate_log_marginal

_MOST_EDITS = 1 << 18  # sequences of edits: some seconds, and a few gigabytes with a wide network


def enumerate_edits(model: EditModel, x: Any, trajectory: Trajectory) -> Float[Array, ""]:
    """log p(x, z) = log sum_e p(x, z, e), in nats, over all edits e that write the trajectory's strings.

    Each is scored by teacher forcing, from nothing. Differentiable in the model; `x` and the
    trajectory must be concrete.
    """
    edits = all_edits(model, trajectory, int(x.num_given))
    return enumerate_log_marginal(lambda e: model.score(x, (trajectory, e)), edits)


def all_edits(model: EditModel, trajectory: Trajectory, num_given: int = 0) -> Edits:
    """Every sequence of edits that writes these strings, on a leading axis.

    A word w can be inserted, copied from any w of the string before, and substituted for any of its
    words, as far as the model has these edits; a given word in one way only.
    """
    rows = np.asarray(trajectory.strings)[: int(trajectory.num_steps)]
    strings = [tuple(row[row != PAD].tolist()) for row in rows]
    return _edits(_edits_of_strings(model, strings, num_given))


def all_writings(model: EditModel) -> tuple[Trajectory, Edits]:
    """Everything a tiny model can write, on a leading axis: every trajectory with all its edits.

    Their probabilities sum to one. Two words, strings of at most three and at most two strings
    are 240 trajectories and 14,394 sequences of edits.
    """
    words = range(NUM_MARKS, len(model.network.token_bias))
    strings = [
        string
        for size in range(model.max_length + 1)
        for string in itertools.product(words, repeat=size)
    ]
    rows, num_steps, tables = [], [], []
    for size in range(1, model.max_steps + 1):
        for written in itertools.product(strings, repeat=size):
            row = np.full((model.max_steps, model.max_length), PAD)
            for step, string in enumerate(written):
                row[step, : len(string)] = string
            tables.append(_edits_of_strings(model, written, num_given=0))
            rows += [row] * len(tables[-1])
            num_steps += [size] * len(tables[-1])
    trajectories = jax.vmap(Trajectory)(jnp.asarray(np.array(rows)), jnp.asarray(num_steps))
    return trajectories, _edits(np.concatenate(tables))


def _edits_of_strings(
    model: EditModel, strings: Sequence[tuple[int, ...]], num_given: int
) -> Int[np.ndarray, "sequences steps positions 2"]:
    """The (op, index) of every decision of every sequence of edits that writes these strings."""
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for step, (before, string) in enumerate(zip([(), *strings], strings, strict=False)):
        for position, word in enumerate(string):
            ways[step, position] = (
                [(CPY, position + 1) if step else (INS, 0)]
                if position < num_given
                else _edits_that_write(word, before, model.network.legal_ops)
            )
        ways[step, len(string)] = [(END, 0)]
    num_sequences = math.prod(map(len, ways.values()))
    if num_sequences > _MOST_EDITS:
        raise ValueError(
            f"These strings are written by {num_sequences:,} sequences of edits, more than the "
            f"{_MOST_EDITS:,} that are enumerated. Take fewer or shorter strings."
        )
    table = np.zeros((num_sequences, model.max_steps, model.num_positions, 2), int)
    steps, positions = np.array(list(ways)).T
    table[:, steps, positions] = list(itertools.product(*ways.values()))
    return table


def _edits_that_write(
    word: int, before: tuple[int, ...], legal_ops: tuple[int, ...]
) -> list[tuple[int, int]]:
    """The (op, index) of every edit that writes a word, given the string before."""
    copies = [(CPY, slot) for slot, old in enumerate(before, start=1) if old == word]
    substitutions = [(SUB, slot) for slot in range(1, len(before) + 1)]
    return [edit for edit in [(INS, 0), *copies, *substitutions] if edit[0] in legal_ops]


def _edits(table: Int[np.ndarray, "sequences steps positions 2"]) -> Edits:
    return jax.vmap(Edits)(jnp.asarray(table[..., 0]), jnp.asarray(table[..., 1]))
