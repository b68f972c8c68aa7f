"""Alignments against brute force over all ways to align two short strings."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.data.sentences import PAD
from tightbound.families.edits.alignment import align
from tightbound.families.edits.model import framed
from tightbound.families.edits.network import CPY, END, INS, SUB
from tightbound.families.edits.trajectory import Trajectory

A, B, C = 3, 4, 5
STRINGS = [
    string for size in range(4) for string in itertools.product((A, B, C), repeat=size)
]  # 40 of at most three words


def words_written(trajectory, edits):
    """What the edits write where they copy, and the trajectory's own words elsewhere: the same
    strings, if the edits are right."""
    root = jnp.full(trajectory.strings.shape[1], PAD)
    before = jax.vmap(framed)(jnp.concatenate([root[None], trajectory.strings[:-1]]))
    copied = jnp.take_along_axis(before, edits.index[:, :-1], -1)
    return jnp.where(edits.op[:, :-1] == CPY, copied, trajectory.strings)


aligned = jax.jit(jax.vmap(align))
rewritten = jax.jit(jax.vmap(words_written))


def pairs_of(strings, length=4):
    """Every trajectory of two of these strings."""
    rows = [
        [[*string, *[PAD] * (length - len(string))] for string in pair]
        for pair in itertools.product(strings, repeat=2)
    ]
    return jax.vmap(Trajectory)(jnp.array(rows), jnp.full(len(rows), 2))


def cost(source, target, pairs):
    """Of a monotone alignment: copies free, substitutions 1.5, what is inserted or lost 1 each."""
    unequal = sum(source[i] != target[j] for i, j in pairs)
    return 1.5 * unequal + len(source) + len(target) - 2 * len(pairs)


def cheapest(source, target):
    """Brute force: over all monotone alignments."""
    return min(
        cost(source, target, list(zip(left, right, strict=True)))
        for size in range(min(len(source), len(target)) + 1)
        for left in itertools.combinations(range(len(source)), size)
        for right in itertools.combinations(range(len(target)), size)
    )


@pytest.fixture(scope="module")
def every_pair():
    trajectories = pairs_of(STRINGS)
    return trajectories, aligned(trajectories)


def test_the_edits_write_the_strings(every_pair):
    """Identity: what copies take from the string before, and the words of the others, are the
    string; a substitution changes a word, an end closes every string, nothing comes after it."""
    trajectories, edits = every_pair
    assert_array_equal(rewritten(trajectories, edits), trajectories.strings)
    strings, op, index = (
        np.asarray(leaf) for leaf in (trajectories.strings, edits.op, edits.index)
    )
    lengths = (strings != PAD).sum(-1)
    place = np.arange(5)
    assert_array_equal(op[place == lengths[:, :, None]], END)
    assert (op[place < lengths[:, :, None]] != END).all()
    assert (op[place > lengths[:, :, None]] == 0).all()
    assert (index[(op == INS) | (op == END)] == 0).all()
    old = np.take_along_axis(strings[:, 0], np.maximum(index[:, 1, :4] - 1, 0), 1)
    substituted = op[:, 1, :4] == SUB
    assert (old[substituted] != strings[:, 1][substituted]).all()
    assert (index[:, 1][(op[:, 1] == CPY) | (op[:, 1] == SUB)] > 0).all()


def test_no_alignment_is_cheaper(every_pair):
    """Brute force over all monotone alignments of all 1,600 pairs; the first string is inserted."""
    _, edits = every_pair
    op, index = np.asarray(edits.op), np.asarray(edits.index)
    assert_array_equal(np.isin(op[:, 0], (INS, END)), True)
    costs = []
    for row, (source, target) in enumerate(itertools.product(STRINGS, repeat=2)):
        pairs = [
            (index[row, 1, j] - 1, j) for j in range(len(target)) if op[row, 1, j] in (CPY, SUB)
        ]
        assert all(i < k for (i, _), (k, _) in itertools.pairwise(pairs))
        assert cost(source, target, pairs) == cheapest(source, target)
        costs.append(cost(source, target, []) > cheapest(source, target))
    assert any(costs)  # inserting everything would fail


@pytest.mark.parametrize(
    ("source", "target", "index"),
    [
        ((A, A), (A, A, A, A), [0, 0, 1, 2]),  # later words first
        ((A, B), (A, B, A, B), [0, 0, 1, 2]),
        ((A, B, A), (A, A), [1, 3]),
    ],
)
def test_of_equally_cheap_ones_later_words_are_aligned_first(source, target, index):
    strings = np.zeros((1, 2, 4), int)
    strings[0, 0, : len(source)], strings[0, 1, : len(target)] = source, target
    edits = aligned(jax.vmap(Trajectory)(jnp.asarray(strings), jnp.array([2])))
    assert_array_equal(edits.index[0, 1, : len(target)], index)
    expected = [CPY if slot else INS for slot in index]
    assert_array_equal(edits.op[0, 1, : len(target)], expected)


def test_a_wrong_edit_writes_something_else(every_pair):
    """Bug: every copy one place to the right."""
    trajectories, edits = every_pair
    moved = jax.vmap(lambda op, index: type(edits)(op, index))(
        edits.op, jnp.where(edits.op == CPY, edits.index + 1, edits.index)
    )
    assert (np.asarray(rewritten(trajectories, moved)) != trajectories.strings).any(
        (1, 2)
    ).sum() > 800
