"""An evaluation is the same whatever its chunks, and everything reported about a split follows from it."""

import equinox as eqx
import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import rows
from tightbound.data.noising import Dequantise
from tightbound.errors import UserError
from tightbound.evaluation import evaluate
from tightbound.models.posterior import ExactPosterior
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.models.vae import GaussianProposal
from tightbound.terms import Kind

KEY = jax.random.key(3)
NOISE = Dequantise(levels=16)
SPLIT = rows("test", np.random.default_rng(0).integers(0, 17, (11, 3)), law="dequantised")


@pytest.fixture(scope="module")
def pair():
    model_key, proposal_key = jax.random.split(jax.random.key(0))
    model = ProbabilisticPCA(3, 2, key=model_key)
    return model, GaussianProposal(3, 2, hidden_size=3, key=proposal_key)


@pytest.fixture(scope="module")
def evaluation(pair):
    """Everything in one chunk."""
    return evaluate(*pair, SPLIT, num_samples=4, key=KEY, noise=NOISE)


@pytest.mark.parametrize("max_draws", [1, 16])  # chunks of 1 row, and of 4, which do not divide 11
def test_chunks_change_nothing(pair, evaluation, max_draws):
    """Identity: the evaluation in one chunk, noise and draws included. Planted: the rows that
    fill the last chunk up, left in."""
    small = evaluate(*pair, SPLIT, num_samples=4, key=KEY, noise=NOISE, max_draws=max_draws)
    assert_allclose(small.log_weights, evaluation.log_weights, rtol=1e-13)
    for name in ("z", "x"):
        assert_allclose(small.log_p[name], evaluation.log_p[name], rtol=1e-13)
    assert_array_equal(small.rows, np.arange(11))
    assert_array_equal(small.num_units, SPLIT.num_units)
    left_in = np.concatenate([small.log_weights, small.log_weights[:, :1]], axis=1)
    assert left_in.mean() != pytest.approx(evaluation.log_weights.mean(), rel=1e-6)


def test_with_the_posterior_every_weight_is_the_marginal_of_the_noisy_row(pair):
    """Oracle: `log_marginal` of probabilistic PCA, row by row. The noise comes from the key alone,
    whatever is weighed, so two models under one key see the same data. Planted: another key."""
    model, _ = pair

    def errors(key):
        noisy = eqx.filter_jit(NOISE)(SPLIT.take(np.arange(11)), jax.random.split(key)[0]).x
        return np.abs(found.log_weights - jax.jit(jax.vmap(model.log_marginal))(noisy)[None])

    found = evaluate(model, ExactPosterior(model), SPLIT, num_samples=2, key=KEY, noise=NOISE)
    assert errors(KEY).max() < 1e-10
    assert errors(jax.random.key(4)).min() > 1e-6


def test_one_key_gives_the_same_draws_to_the_bit_and_another_does_not(pair, evaluation):
    """So two checkpoints can be compared sequence by sequence."""
    again = evaluate(*pair, SPLIT, num_samples=4, key=KEY, noise=NOISE)
    assert_array_equal(again.log_weights, evaluation.log_weights)
    other = evaluate(*pair, SPLIT, num_samples=4, key=jax.random.key(4), noise=NOISE)
    assert np.abs(other.log_weights - evaluation.log_weights).min() > 1e-6


def test_the_sites_add_up_to_the_elbo_and_carry_the_claims_of_the_split(evaluation):
    """Identity: the sum of the site means is the mean log-weight, per sequence."""
    assert_allclose(sum(evaluation.site_means.values()), evaluation.log_weights.mean(0), rtol=1e-12)
    assert evaluation.kinds == {"z": Kind.LATENT, "x": Kind.OBSERVED}
    assert set(evaluation.log_q) == {"z"}
    assert evaluation.split == "test (dequantised)"


def test_no_draws_at_all_are_refused_in_a_sentence(pair):
    """Zero samples would be a division by zero."""
    with pytest.raises(UserError, match=r"`num_samples` is 0, but .* Give 1 for the ELBO"):
        evaluate(*pair, SPLIT, num_samples=0, key=KEY)
