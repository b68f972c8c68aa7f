"""Oracle: every joint choice of the experts' states, summed one by one in NumPy."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.families.language.emissions import Components
from tightbound.families.language.factorial import Factorial
from tightbound.families.language.structure import Direct

KEY = jax.random.key(0)


def make_factorial(tiny, num_states):
    components = tiny.components(num_states)
    return tiny.model(tiny.shaken(Factorial(tiny.size, components, key=KEY)))


def joint_choices(tiny, model, context):
    """sum over (z_1, ..., z_G) of prod_g P_g(z_g | c) P_g(class | z_g), choice by choice."""
    plain = tiny.plain
    structure = plain.in_numpy(model.structure)
    of_state = plain.components(structure.components, plain.table(model))
    logits = structure.weights @ context + structure.weight_bias
    experts = [
        [(p, of_state[16 * g + z]) for z, p in enumerate(plain.softmax(row))]
        for g, row in enumerate(logits)
    ]
    total = np.zeros(tiny.num_classes)
    for choice in itertools.product(*experts):
        total += np.prod([p for p, _ in choice]) * np.prod(
            [by_class for _, by_class in choice], axis=0
        )
    return total


@pytest.fixture(scope="module")
def two_experts(tiny):
    return make_factorial(tiny, 32)


def test_joint_states_of_all_experts_are_summed_out(tiny, two_experts):
    """Oracle: enumeration of all 256 pairs of states, then normalised; planted, the product
    without its normaliser is told apart."""

    def product(contexts, i):
        return joint_choices(tiny, two_experts, contexts[i])

    def normalised(contexts, i):
        return product(contexts, i) / product(contexts, i).sum()

    few = tiny.strings._replace(whole=slice(40, 121, 9))
    assert tiny.largest_difference(two_experts, few, normalised) < 1e-10
    assert tiny.largest_difference(two_experts, few, product) > 0.5
    assert tiny.largest_difference(two_experts.lower_bound(), few, product) < 1e-10


def test_the_product_without_its_normaliser_is_below_log_p(tiny, two_experts):
    """Law: at every class of every position, strictly, and equal to log p with a single expert."""
    exact, bound = (tiny.say(m, tiny.strings.x) for m in (two_experts, two_experts.lower_bound()))
    assert (bound.distributions < exact.distributions - 1e-3).all()
    assert (bound.log_p.sum(1) < exact.log_p.sum(1)).all()
    single = make_factorial(tiny, 3)
    exact, bound = (tiny.say(m, tiny.strings.x) for m in (single, single.lower_bound()))
    assert_allclose(bound.distributions, exact.distributions, rtol=1e-12)


def test_what_no_state_of_an_expert_can_write_has_no_probability(tiny):
    """Edge case: with 32 bits a factor may underflow to 0; the normaliser then still is the sum
    over the other classes, in value and gradient."""
    vectors = jnp.full((32, 4), jnp.float32(-300.0)).at[:, 0].set(0.0)
    factorial = Factorial(
        tiny.size, Components("free", 32, tiny.size, tiny.num_classes, key=KEY), key=KEY
    )
    factorial = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), factorial)
    factorial = eqx.tree_at(lambda f: f.components.vectors, factorial, vectors)
    context, table = jnp.ones(4, jnp.float32), jnp.ones((4, 4), jnp.float32)
    log_normaliser = lambda f: f.log_normaliser(context, table)  # noqa: E731
    value, slope = eqx.filter_jit(eqx.filter_value_and_grad(log_normaliser))(factorial)
    assert_allclose(value, 0.0, atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_what_makes_no_whole_experts_or_has_no_bound_is_refused(tiny):
    with pytest.raises(
        ValueError, match=r"16 states were asked for with 20 components in all. Give"
    ):
        Factorial(tiny.size, tiny.components(20), key=KEY)
    with pytest.raises(
        ValueError, match=r"the structure Direct has none of its own. Raise the obj"
    ):
        tiny.model(Direct(tiny.mixture())).lower_bound()
