"""The beam against enumeration of everything a tiny model can write (368 trajectories with edits)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.sentences import PAD
from tightbound.families.edits.beam import beam_search
from tightbound.families.edits.network import CPY, INS, SUB
from tightbound.families.edits.trajectory import Trajectory

A, B = 3, 4
WIDE = 384


@pytest.fixture(scope="module")
def small(table_of):
    return table_of("edits", max_length=2)


@pytest.fixture(scope="module")
def search(small):
    """(prefix, first strings) -> everything, best first, in one compiled search."""

    @jax.jit
    def wide(prefix, strings, num_strings):
        start = Trajectory(strings, num_strings)
        return beam_search(small.model, beam_size=WIDE, prefix=prefix, start=start)

    def search(prefix=(PAD, PAD), strings=()):
        rows = np.zeros((2, 2), int)
        for row, string in zip(rows, strings, strict=False):
            row[:] = string
        found = wide(jnp.array(prefix), jnp.asarray(rows), jnp.asarray(len(strings)))
        return jax.tree.map(np.asarray, found)

    return search


def same(found, table, rows, log_p):
    """Whether the beam is these rows of the table, best first."""
    trajectories, edits, found_log_p = found
    order = rows[np.argsort(-log_p[rows])]
    size = len(order)
    assert_allclose(found_log_p[:size], log_p[order], rtol=1e-10)
    assert np.isneginf(found_log_p[size:]).all()
    assert_array_equal(trajectories.strings[:size], table.trajectories.strings[order])
    assert_array_equal(trajectories.num_steps[:size], table.num_steps[order])
    assert_array_equal(edits.op[:size], table.edits.op[order])
    assert_array_equal(edits.index[:size], table.edits.index[order])


def test_as_wide_as_everything_the_beam_is_the_whole_table_in_order(small, search):
    """Enumeration: all trajectories and edits, with their log p by teacher forcing, best first."""
    assert len(small.log_p) == 368
    same(search(), small, np.arange(368), small.log_p)


def test_what_is_given_is_not_searched(small, search, scores):
    """Enumeration: of the strings that begin with b, inserted and then copied; b is not scored."""
    log_p = sum(scores(small.model, small.trajectories, small.edits, jnp.array(1)).values())
    is_step = np.arange(2) < small.num_steps[:, None]
    edit = (np.asarray(small.edits.op)[:, :, 0], np.asarray(small.edits.index)[:, :, 0])
    begins = np.asarray(small.trajectories.strings)[:, :, 0] == B
    taken = (edit[0] == [INS, CPY]) & (edit[1] == [0, 1])
    rows = np.flatnonzero(((begins & taken) | ~is_step).all(1))
    same(search(prefix=(B, PAD)), small, rows, np.asarray(log_p).sum(-1))


def test_first_strings_are_gone_on_from(small, search):
    """Enumeration: of two strings whose first is ba, however it is written."""
    first = (np.asarray(small.trajectories.strings)[:, 0] == [B, A]).all(1)
    rows = np.flatnonzero(first & (small.num_steps == 2))
    same(search(strings=[(B, A)]), small, rows, small.log_p)


def test_a_full_start_has_all_its_edits(small, search):
    """Enumeration: ab, then bb, leaves only the edits open."""
    strings = np.array([[A, B], [B, B]])
    rows = np.flatnonzero((np.asarray(small.trajectories.strings) == strings).all((1, 2)))
    assert len(rows) == 16
    same(search(strings=strings), small, rows, small.log_p)


def test_given_words_are_copied_in_first_strings_too(search):
    """Counting: of bb after ba, with b given, only the edit of the second b is open: to insert
    it, to copy it, or to put it in place of either word."""
    _, edits, log_p = search(prefix=(B, PAD), strings=[(B, A), (B, B)])
    found = np.isfinite(log_p)
    assert_array_equal(edits.op[found, 1, 0], CPY)
    assert_array_equal(edits.index[found, 1, 0], 1)
    assert sorted(edits.op[found, 1, 1].tolist()) == [INS, CPY, SUB, SUB]


@pytest.fixture(scope="module")
def narrow(small):
    """Beams of 1 and of 6, greedy and not."""
    return {
        size: eqx.filter_jit(lambda model, size=size: beam_search(model, beam_size=size))(
            small.model
        )
        for size in (1, 6)
    }


@pytest.mark.parametrize("beam_size", [1, 6])
def test_the_scores_of_a_narrow_beam_are_those_of_what_it_found(small, narrow, beam_size):
    """Oracle: the table's row of every trajectory with edits that came back; best first, none twice."""
    trajectories, edits, log_p = jax.tree.map(np.asarray, narrow[beam_size])
    rows = [
        np.flatnonzero(
            (np.asarray(small.trajectories.strings) == trajectories.strings[i]).all((1, 2))
            & (small.num_steps == trajectories.num_steps[i])
            & (np.asarray(small.edits.op) == edits.op[i]).all((1, 2))
            & (np.asarray(small.edits.index) == edits.index[i]).all((1, 2))
        )
        for i in range(beam_size)
    ]
    assert [len(row) for row in rows] == [1] * beam_size
    rows = np.concatenate(rows)
    assert len(set(rows.tolist())) == beam_size
    assert_allclose(log_p, small.log_p[rows], rtol=1e-10)
    assert (np.diff(log_p) <= 0).all()
    assert log_p[0] <= small.log_p.max()


def test_a_beam_of_one_is_greedy(small, narrow):
    """Oracle: at every decision the table's most probable one, given those before: the largest site
    totals among rows that agree so far, decision by decision."""
    _, edits, log_p = jax.tree.map(np.asarray, narrow[1])
    by_decision = sum(small.sites.values())  # rows, decisions: 'steps' at the first of a string
    choices = np.stack([small.edits.op, small.edits.index, written(small)], -1).reshape(368, 6, 3)
    rows = np.arange(368)
    for decision in range(6):
        if decision == 3:  # to stop, or to begin the second string
            goes_on = np.array([small.num_steps[rows] == 2, small.num_steps[rows] == 1])
            hazard = [small.model.log_continue()[0], small.model.log_stop()[0]]
            rows = rows[goes_on[int(np.argmax(hazard))]]
        own = by_decision[rows, decision].copy()
        if decision % 3 == 0:
            own -= small.sites["steps"][rows, decision]
        best = rows[np.argmax(own)]
        rows = rows[(choices[rows, decision] == choices[best, decision]).all(-1)]
    assert len(rows) == 1
    assert_array_equal(edits.op[0], small.edits.op[rows[0]])
    assert_allclose(log_p[0], small.log_p[rows[0]], rtol=1e-10)


def written(table):
    """The word of every decision, PAD at ends."""
    return np.pad(np.asarray(table.trajectories.strings), ((0, 0), (0, 0), (0, 1)))


def test_a_beam_of_nothing_is_refused(small):
    with pytest.raises(ValueError, match="`beam_size` is 0, but a search keeps at least one"):
        beam_search(small.model, beam_size=0)
