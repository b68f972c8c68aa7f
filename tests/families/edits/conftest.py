"""Everything a tiny model can write, scored by teacher forcing: the oracle of several files here."""

from functools import cache
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tightbound.data.sentences import PAD, Sentence
from tightbound.families.edits.exact import all_writings
from tightbound.families.edits.model import EditModel
from tightbound.families.edits.trajectory import Edits, Trajectory

SIZES = {"size": 8, "num_heads": 2, "hidden_size": 8, "num_layers": 1, "embedding_scale": 1.0}


class Table(NamedTuple):
    """Every trajectory of a model with all its edits, one a row."""

    model: EditModel
    trajectories: Trajectory
    edits: Edits
    sites: dict[str, np.ndarray]  # rows, time

    @property
    def log_p(self):
        return sum(term.sum(-1) for term in self.sites.values())

    @property
    def probability(self):
        return np.exp(self.log_p)

    @property
    def lengths(self):
        return (np.asarray(self.trajectories.strings) != PAD).sum(-1)

    @property
    def num_steps(self):
        return np.asarray(self.trajectories.num_steps)

    def log_p_of_trajectories(self):
        """{trajectory: log p(x, z)}, its edits summed out by adding up rows."""
        totals: dict[tuple, float] = {}
        for name, log_p in zip(names(self.trajectories), self.log_p, strict=True):
            totals[name] = np.logaddexp(totals.get(name, -np.inf), log_p)
        return totals


def names(trajectories):
    """Trajectories as tuples of tuples of words."""
    rows = np.asarray(trajectories.strings).tolist()
    steps = np.asarray(trajectories.num_steps).tolist()
    return [
        tuple(tuple(word for word in string if word) for string in row[:size])
        for row, size in zip(rows, steps, strict=True)
    ]


def scores_uncompiled(model, trajectories, edits, num_given):
    def one(trajectory, edits):
        return model.score(Sentence(trajectory.last, num_given), (trajectory, edits))

    return jax.vmap(one)(trajectories, edits)


scores = eqx.filter_jit(scores_uncompiled)


def tiny_model(handed_on, max_length=3, max_steps=2, **changes):
    """Two words, 3 and 4; which string it writes is known to the encoder."""
    settings = {**SIZES, "handed_on": handed_on, "condition_on_step": True} | changes
    model = EditModel(5, max_length, max_steps, key=jax.random.key(0), **settings)
    hazard = jnp.full(max_steps, -0.02)  # neither certain nor a coin
    return eqx.tree_at(lambda model: model.step_hazard, model, hazard)


@cache
def table_of(handed_on, **changes):
    model = tiny_model(handed_on, **changes)
    trajectories, edits = all_writings(model)
    sites = scores(model, trajectories, edits, jnp.zeros((), int))
    return Table(model, trajectories, edits, jax.tree.map(np.asarray, sites))


@pytest.fixture(name="table_of", scope="session")
def _table_of():
    """(handed_on, **settings) -> Table, made once a session."""
    return table_of


@pytest.fixture(name="scores", scope="session")
def _scores():
    """(model, trajectories, edits, num_given) -> {site: (rows, time)} of `model.score`."""
    return scores


@pytest.fixture
def scores_anew():
    """The same, compiled anew, for a model whose code a test has changed."""
    return eqx.filter_jit(lambda *arguments: scores_uncompiled(*arguments))


@pytest.fixture(name="tiny_model", scope="session")
def _tiny_model():
    return tiny_model


@pytest.fixture(name="names", scope="session")
def _names():
    return names
