"""Oracle: the emission evaluated at every alternative, one by one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from tightbound.families.language.emissions import VectorEmission
from tightbound.families.language.mixtures import mean_in_turn, mixed_log_probs

FEATURES = jax.random.normal(jax.random.key(0), (3, 4))
WEIGHTS = jnp.array([0.5, 0.2, 0.3])
ALIKE = jnp.full(3, 1 / 3)
ASKED = jnp.array([2, 0])


def one_by_one(emission, weights, table):
    """log sum_a w_a p(class | features_a)."""
    log_p = [emission.log_probs(features, ASKED, table) for features in FEATURES]
    return jnp.log(sum(w * jnp.exp(p) for w, p in zip(weights, log_p, strict=True)))


def mean_of_logs(emission, weights, table):
    """The planted bug: sum_a w_a log p(class | features_a)."""
    log_p = [emission.log_probs(features, ASKED, table) for features in FEATURES]
    return sum(w * p for w, p in zip(weights, log_p, strict=True))


@pytest.fixture(scope="module")
def table(tiny):
    return jax.random.normal(jax.random.key(2), (tiny.num_classes, tiny.size))


@pytest.fixture(scope="module", params=["mixture", "vector"])
def results(request, tiny, table):
    """{way: (value, flat gradient of its sum)} of one emission."""
    if request.param == "mixture":
        emission = tiny.mixture()
    else:
        emission = VectorEmission(4, 4, tiny.num_classes, key=jax.random.key(1))
    rows = jnp.arange(len(FEATURES))[:, None]
    ways = {
        "mixed": lambda e: mixed_log_probs(e, FEATURES, jnp.log(WEIGHTS), ASKED, table),
        "one by one": lambda e: one_by_one(e, WEIGHTS, table),
        "planted": lambda e: mean_of_logs(e, WEIGHTS, table),
        "in turn": lambda e: mean_in_turn(e, lambda row: FEATURES[row[0]], rows, ASKED, table),
        "one by one, alike": lambda e: one_by_one(e, ALIKE, table),
    }

    @jax.jit
    def everything(emission):
        def total(way):
            return lambda emission: (way(emission).sum(), way(emission))

        return {
            name: jax.value_and_grad(total(way), has_aux=True)(emission)
            for name, way in ways.items()
        }

    found = everything(tiny.shaken(emission))
    return {name: (value, ravel_pytree(slope)[0]) for name, ((_, value), slope) in found.items()}


@pytest.mark.parametrize(
    ("way", "oracle"), [("mixed", "one by one"), ("in turn", "one by one, alike")]
)
def test_a_mixture_of_emissions_is_the_sum_over_its_alternatives(results, way, oracle):
    """Identity, in value and gradient, at once or in turn; planted, a mean of logs is caught."""
    (found, slope), (wanted, wanted_slope) = results[way], results[oracle]
    assert_allclose(found, wanted, rtol=1e-12)
    assert_allclose(slope, wanted_slope, rtol=1e-9, atol=1e-12)
    assert np.abs(wanted_slope).max() > 1e-2
    assert np.abs(results["planted"][0] - results["one by one"][0]).max() > 1e-4


def test_weights_that_underflow_leave_value_and_gradient_finite(tiny, table):
    """Oracle: 64 bits. With 32 bits and logits hundreds apart most weights are 0; planted, their
    logarithm has no gradient."""
    emission = tiny.mixture()
    sharp = eqx.tree_at(lambda e: e.weights, emission, 400 * emission.weights)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), sharp)
    features, table_32 = FEATURES[:1].astype(jnp.float32), table.astype(jnp.float32)
    log_one = jnp.zeros(1, jnp.float32)

    def mixed(emission):
        return mixed_log_probs(emission, features, log_one, ASKED, table_32).sum()

    def through_a_log(emission):
        weights = jnp.exp(emission.log_weights(features[0]))
        log_component = emission.components.log_probs(ASKED, table_32)
        return jax.nn.logsumexp(jnp.log(weights)[:, None] + log_component, axis=0).sum()

    assert np.exp(single.log_weights(features[0])).min() == 0
    assert_allclose(mixed(single), sharp.log_probs(FEATURES[0], ASKED, table).sum(), rtol=1e-5)

    @jax.jit
    def gradients(single):
        return [ravel_pytree(jax.grad(f)(single))[0] for f in (mixed, through_a_log)]

    slope, planted = gradients(single)
    assert np.isfinite(slope).all()
    assert not np.isfinite(planted).all()
