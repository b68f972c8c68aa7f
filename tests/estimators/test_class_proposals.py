"""Oracles: Q summed back from the table that draws from it, the mixture's formula, and frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.errors import UserError
from tightbound.estimators.class_proposals import class_proposal, proposal_of

COUNTS = np.array([900, 0, 40, 7, 52])
TARGETS, IS_REAL = jnp.array([2, 2, 4, 1, 0]), jnp.array([True, True, True, True, False])
NUM_DRAWS = 40_000
NUM_ERRORS = 4.3  # 30 sampled statistics: two-sided level 1e-3 for them all


def of_table(proposal):
    """The law that the cells and their aliases have."""
    law = proposal.keep.copy()
    np.add.at(law, proposal.alias, 1 - proposal.keep)
    return law / len(law)


@pytest.mark.parametrize("kind", ["uniform", "unigram", "unigram-0.75"])
def test_the_table_draws_what_the_proposal_says(kind):
    """Oracle: the cells summed, and (1 + count)^power in NumPy; log Q is of that law."""
    power = {"uniform": 0.0, "unigram": 1.0, "unigram-0.75": 0.75}[kind]
    proposal = class_proposal(kind, COUNTS)
    weights = (1.0 + COUNTS) ** power
    assert_allclose(proposal.probabilities, weights / weights.sum())
    assert_allclose(of_table(proposal), proposal.probabilities, rtol=1e-12)
    drawn = proposal.draw(jax.random.key(0), NUM_DRAWS)
    assert_allclose(drawn.log_q, np.log(proposal.probabilities), rtol=1e-6)
    assert_frequencies(drawn.classes, proposal.probabilities)


def test_a_large_table_keeps_small_probabilities():
    """The cells of 40,000 classes by Zipf's law, summed."""
    law = 1 / np.arange(1.0, 40_001)
    proposal = proposal_of(law / law.sum())
    assert_allclose(of_table(proposal), proposal.probabilities, rtol=1e-9)


def assert_frequencies(classes, law):
    found = np.bincount(classes, minlength=len(law)) / NUM_DRAWS
    errors = np.sqrt(law * (1 - law) / NUM_DRAWS)
    assert (np.abs(found - law) < NUM_ERRORS * errors + 1e-12).all()


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_the_tilted_proposal_is_the_mixture_that_it_says(share):
    """Oracle: (1 - share) Q + share n(w)/n in NumPy; padding is no target. Planted: the weights of Q itself."""
    proposal = class_proposal("unigram", COUNTS)
    tilted = np.array([0.0, 0.25, 0.5, 0.0, 0.25])
    law = (1 - share) * proposal.probabilities + share * tilted
    drawn = proposal.draw_tilted(jax.random.key(1), NUM_DRAWS, TARGETS, IS_REAL, share)
    assert_allclose(np.exp(drawn.log_q), law, rtol=1e-6)
    assert_frequencies(drawn.classes, law)
    scores = np.array([0.2, 1.5, 2.0, -1.0, 0.4])

    def errors_off(log_q):
        """How far the mean weight is from Z, in its own standard errors."""
        weights = np.exp(scores - np.asarray(log_q))[np.asarray(drawn.classes)]
        error = weights.std() / np.sqrt(NUM_DRAWS)
        return abs(weights.mean() - np.exp(scores).sum()) / error

    assert errors_off(drawn.log_q) < NUM_ERRORS
    if share:
        assert errors_off(np.log(proposal.probabilities)) > 8


def test_draws_from_the_batch_are_its_real_targets_under_the_law_of_the_text():
    proposal = class_proposal("batch", COUNTS)
    drawn = proposal.draw_from_batch(jax.random.key(2), NUM_DRAWS, TARGETS, IS_REAL)
    assert_frequencies(drawn.classes, np.array([0.0, 0.25, 0.5, 0.0, 0.25]))
    assert_allclose(np.exp(drawn.own_log_q), proposal.probabilities[drawn.classes], rtol=1e-6)


def test_a_proposal_that_cannot_draw_a_class_is_refused_by_the_class():
    with pytest.raises(UserError, match=r"gives class 2 the probability 0 \(1 of 3 .* is infinite"):
        proposal_of(np.array([0.5, 0.5, 0.0]))
    with pytest.raises(UserError, match=r"sum to 1\.5, but -log Q is only right"):
        proposal_of(np.array([0.5, 1.0]))
    with pytest.raises(UserError, match="from an empty vocabulary; give at least one word"):
        class_proposal("uniform", np.zeros(0))
    with pytest.raises(UserError, match="from an empty vocabulary; give at least one word"):
        proposal_of(np.zeros(0))
