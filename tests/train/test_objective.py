"""Every setting of the objective is the surrogate it names; what has no meaning is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from tightbound.data.batch import rows
from tightbound.estimators.bounds import iwae_bound, renyi_bound
from tightbound.models.vae import VAE, GaussianProposal
from tightbound.nn.outputs import BernoulliOutput
from tightbound.train.objective import Objective
from tightbound.train.schedules import kl_weight_schedule
from tightbound.train.settings import ObjectiveSettings

KEY = jax.random.key(2)
HALF = kl_weight_schedule(ObjectiveSettings(kl_warmup_steps=4))  # 1/4, 2/4, 3/4, 1

EVERY_OBJECTIVE = {
    "elbo": Objective(),
    "sticking the landing": Objective(path="stop_proposal", num_samples=2),
    "iwae": Objective("iwae", 3),
    "doubly reparameterised": Objective("iwae", 3, path="doubly"),
    "renyi": Objective("renyi", 3, alpha=0.5),
    "vimco": Objective("vimco", 3),
    "wake-sleep": Objective("wake-sleep", 3),
    "kl weight": Objective(num_samples=2, kl_weight=HALF),
    "free bits": Objective(num_samples=2, free_bits=0.1),
}


@pytest.fixture(scope="module")
def pair_and_batch():
    model_key, proposal_key = jax.random.split(jax.random.key(1))
    model = VAE(6, 2, BernoulliOutput(), hidden_size=3, key=model_key)
    proposal = GaussianProposal(6, 2, hidden_size=3, key=proposal_key)
    bits = np.random.default_rng(0).integers(0, 2, (4, 6)).astype(float)
    return model, proposal, rows("train", bits).take(np.arange(4))


@pytest.fixture(scope="module")
def results(pair_and_batch):
    """Value, terms and flat gradients (model, proposal) of every objective at step 1."""
    model, proposal, batch = pair_and_batch

    @eqx.filter_jit
    def everything(pair):
        def one(objective):
            def surrogate(pair):
                return objective(*pair, batch, key=KEY, step=jnp.asarray(1))

            return eqx.filter_value_and_grad(surrogate, has_aux=True)(pair)

        return {name: one(objective) for name, objective in EVERY_OBJECTIVE.items()}

    return {
        name: (value, terms, *(ravel_pytree(eqx.filter(g, eqx.is_array))[0] for g in gradients))
        for name, ((value, terms), gradients) in everything((model, proposal)).items()
    }


@pytest.mark.parametrize("name", EVERY_OBJECTIVE)
def test_every_objective_moves_the_model_and_the_proposal_by_a_finite_gradient(results, name):
    """Both gradients are finite and neither is zero."""
    for gradient in results[name][2:]:
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 1e-6


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("elbo", lambda log_weights: log_weights.mean(0)),
        ("sticking the landing", lambda log_weights: log_weights.mean(0)),
        ("iwae", iwae_bound),
        ("doubly reparameterised", iwae_bound),
        ("renyi", lambda log_weights: renyi_bound(log_weights, 0.5)),
    ],
)
def test_the_value_of_a_pathwise_objective_is_its_bound(results, name, bound):
    """Oracle: the bound of the same log-weights, averaged over the batch."""
    value, terms, *_ = results[name]
    assert_allclose(value, bound(terms.log_weights).mean(), rtol=1e-13)


def test_the_gradient_path_changes_the_proposals_gradient_only(results):
    """Law of `path`: the same value, the same gradient of the model, another of the proposal."""
    value, _, model_gradient, proposal_gradient = results["iwae"]
    doubly = results["doubly reparameterised"]
    assert_allclose(doubly[0], value, rtol=1e-14)
    assert_allclose(doubly[2], model_gradient, rtol=1e-10)
    assert np.abs(doubly[3] - proposal_gradient).max() > 1e-3


@pytest.mark.parametrize("step", [0, 1, 2, 7])
def test_the_kl_is_weighed_by_the_schedule_at_the_step(results, step):
    """Oracle: log-likelihood less w (log q - log p(z)), w = min((step + 1) / 4, 1), by the terms
    themselves. Planted: the schedule of the step before."""
    _, terms, *_ = results["kl weight"]
    kl = terms.log_proposal - terms.log_prior

    def by_hand(weight):
        return (terms.log_likelihood - weight * kl).mean()

    found = EVERY_OBJECTIVE["kl weight"].surrogate(terms, jnp.asarray(step))
    assert_allclose(found, by_hand(min((step + 1) / 4, 1.0)), rtol=1e-14)
    if step < 4:
        assert abs(found - by_hand(step / 4)) > 1e-2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"estimator": "iwae", "path": "stop_proposal"}, r"'iwae', where it is biased .* Use path"),
        ({"estimator": "elbo", "path": "doubly"}, r"estimator is 'elbo'\. Use 'iwae', or path"),
        ({"estimator": "vimco"}, r"'vimco' .* at least 2 samples, but `num_samples` is 1\."),
        ({"estimator": "wake-sleep"}, r"'wake-sleep' .* at least 2 samples"),
        ({"estimator": "iwae", "free_bits": 0.5}, r"'iwae', which has no such halves\. Use 'elbo'"),
        ({"estimator": "renyi", "kl_weight": HALF}, r"'renyi', which has no such halves"),
        ({"kl_weight": HALF, "free_bits": 0.5}, r"Free bits \(0\.5\) .* Set one of them\."),
    ],
)
def test_a_combination_without_meaning_is_refused_in_a_sentence(settings, sentence):
    """The sentence says what came and what to use instead."""
    with pytest.raises(ValueError, match=sentence):
        Objective(**settings)


def test_no_draws_at_all_are_refused_in_a_sentence(pair_and_batch):
    """Zero samples: `weigh` says what was given and what to give."""
    objective = Objective(num_samples=0)
    with pytest.raises(ValueError, match="`num_samples` is 0, but a bound needs at least one"):
        objective(*pair_and_batch, key=KEY, step=jnp.asarray(0))
