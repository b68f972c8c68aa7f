"""Oracles: enumeration of every path, the referee's log-space recursions, and the identity
p(x, z) = p(z | x) p(x)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.families.edits.exact import all_sequences, enumerate_log_marginal, forward_backward
from tightbound.inference.weigh import weigh
from tightbound.models.base import AbstractProposal
from tightbound.models.hmm import CategoricalEmission, GaussianEmission, HiddenMarkovModel
from tightbound.models.posterior import ExactPosterior

LENGTHS = jnp.array([5, 3, 1])
MASK = jnp.broadcast_to(jnp.arange(5), (3, 5)) < LENGTHS[:, None]


def make_model(kind):
    keys = jax.random.split(jax.random.key(0), 4)
    if kind == "categorical":
        emission = CategoricalEmission(jax.random.normal(keys[2], (3, 4)))
    else:
        emission = GaussianEmission(jax.random.normal(keys[2], (3, 2)), jnp.full((3, 2), -0.3))
    initial, transition = jax.random.normal(keys[0], (3,)), jax.random.normal(keys[1], (3, 3))
    return HiddenMarkovModel(initial, 2 * transition, emission, num_steps=5)


@pytest.fixture(scope="module", params=["categorical", "gaussian"])
def case(request):
    """A model and three sequences of lengths 5, 3 and 1, padded to 5."""
    model = make_model(request.param)
    keys = jax.random.split(jax.random.key(1), (3, 2))

    @jax.vmap
    def draw(keys):
        return model.sample_likelihood(model.sample_prior(keys[0]), keys[1])

    return model, Sequence(jax.jit(draw)(keys).values, MASK)


def log_parameters(model, x):
    """Normalised log-probabilities, as the referee takes them."""
    by_state = jax.vmap(lambda k, x_t: model.emission(k).log_prob(x_t), (0, None))
    emission = jax.jit(jax.vmap(by_state, (None, 0)))(jnp.arange(3), x.values)
    return (
        np.asarray(jax.nn.log_softmax(model.initial_logits)),
        np.asarray(jax.nn.log_softmax(model.transition_logits)),
        np.asarray(emission),
    )


def sequence(x, row):
    return jax.tree.map(lambda leaf: leaf[row], x)


def test_log_marginal_is_the_sum_over_every_path(case):
    """Oracle: enumeration. The choices at padding are free and score 0, so each real path is met
    3^(number of padded steps) times."""
    model, x = case
    paths = jnp.asarray(all_sequences(3, 5))

    @jax.jit
    @jax.vmap
    def both(x):
        return model.log_marginal(x), enumerate_log_marginal(lambda z: model.score(x, z), paths)

    found, repeated = both(x)
    assert_allclose(found, repeated - (5 - LENGTHS) * jnp.log(3), rtol=1e-12)


def test_every_weight_is_the_marginal_when_the_proposal_is_the_posterior(case):
    """Identity: if q = p(z | x), every weight is p(x), whatever the length."""
    model, x = case
    batch = Batch(x, MASK, LENGTHS, jnp.arange(3))
    terms = eqx.filter_jit(weigh)(
        model, ExactPosterior(model), batch, num_samples=6, key=jax.random.key(2)
    )
    expected = jnp.broadcast_to(jax.jit(jax.vmap(model.log_marginal))(x), (6, 3))
    assert_allclose(terms.log_weights, expected, rtol=1e-10)


def test_a_posterior_that_looks_at_the_past_only_shows_in_the_weights(case):
    """The identity above must fail when the posterior's messages lack the future."""
    model, x = case
    batch = Batch(x, MASK, LENGTHS, jnp.arange(3))

    class Filtering(AbstractProposal):
        model: HiddenMarkovModel

        def proposal(self, x):
            posterior = self.model.posterior(x)
            return eqx.tree_at(lambda q: q.messages, posterior, self.model._log_emission(x))

    terms = eqx.filter_jit(weigh)(
        model, Filtering(model), batch, num_samples=6, key=jax.random.key(2)
    )
    assert jnp.ptp(terms.log_weights[:, 0]) > 0.1


def test_posterior_marginals_are_forward_times_backward(case):
    """Oracle: the referee's forward-backward, at real positions."""
    model, x = case
    found = jax.jit(jax.vmap(lambda x: model.posterior(x).marginals()))(x)
    for row, length in enumerate(LENGTHS):
        initial, transition, emission = log_parameters(model, sequence(x, row))
        _, expected = forward_backward(initial, transition, emission[:length])
        assert_allclose(found[row, :length], expected, rtol=1e-10)


def test_what_stands_at_padding_changes_nothing(case):
    """Law: other values at padding give the same bits; and without the mask they would not."""
    model, x = case
    other = jax.tree.map(
        lambda v: jnp.where(MASK.reshape(MASK.shape + (1,) * (v.ndim - 2)), v, v[:, :1]), x.values
    )
    log_marginal = jax.jit(jax.vmap(model.log_marginal))
    expected = log_marginal(x)
    assert_array_equal(log_marginal(Sequence(other, MASK)), expected)
    unmasked = log_marginal(Sequence(other, jnp.ones_like(MASK)))
    assert (jnp.abs(unmasked - expected)[1:] > 0.1).all()


def test_a_long_sequence_does_not_underflow():
    """Oracle: the referee's log-space recursion; p(x) itself is below the smallest float."""
    model = make_model("categorical")
    values = jax.random.randint(jax.random.key(3), (800,), 0, 4)
    x = Sequence(values, jnp.ones(800, bool))
    expected, _ = forward_backward(*log_parameters(model, x))
    assert expected < np.log(np.finfo(float).tiny)
    assert_allclose(eqx.filter_jit(model.log_marginal)(x), expected, rtol=1e-12)


def test_an_impossible_sequence_has_log_marginal_minus_infinity():
    """Edge: no state emits the symbol; neither NaN nor a large finite number."""
    model = make_model("categorical")
    logits = jnp.array([[0.0, -jnp.inf]] * 3)
    model = eqx.tree_at(lambda m: m.emission.logits, model, logits)
    log_marginal = eqx.filter_jit(model.log_marginal)
    mask = jnp.ones(3, bool)
    assert log_marginal(Sequence(jnp.array([0, 1, 0]), mask)) == -jnp.inf
    assert_allclose(log_marginal(Sequence(jnp.array([0, 0, 0]), mask)), 0.0, atol=1e-14)
