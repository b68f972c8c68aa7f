"""Oracle: every parent, pair of parents and kind of relation, summed one by one in NumPy."""

from functools import partial
from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from numpy.testing import assert_allclose

from tightbound.families.language.emissions import VectorEmission
from tightbound.families.language.parents import Parents, TwoParents

KEY = jax.random.key(0)


class NormalisedOverAllPositions(Parents):
    """The planted bug: the prior is shared out among positions that are not there yet, too."""

    def log_prior(self, position):
        log_p = jax.nn.log_softmax(self.prior_logits[position])
        return jnp.where(jnp.arange(self.num_positions) <= position, log_p, -1e30)


def vector_emission(tiny):
    return VectorEmission(tiny.size, tiny.size, tiny.num_classes, key=jax.random.key(1))


def make_parents(tiny, emission, family=Parents, *, num_kinds=1, learned_prior=True):
    structure = family(
        tiny.size,
        tiny.num_positions,
        emission,
        num_kinds=num_kinds,
        learned_prior=learned_prior,
        key=KEY,
    )
    return tiny.model(tiny.shaken(structure))


def summed_over_parents(tiny, model, contexts, i):
    """p(class at i), parent by parent and kind by kind."""
    plain = tiny.plain
    structure = plain.in_numpy(model.structure)
    kinds = plain.softmax(structure.kind_logits)
    prior = np.full(i + 1, 1 / (i + 1))
    if structure.prior_logits is not None:
        prior = plain.softmax(structure.prior_logits[i, : i + 1])
    total = np.zeros(tiny.num_classes)
    for a, r in product(range(i + 1), range(len(kinds))):
        features = structure.maps[r] @ contexts[a]
        total += (
            kinds[r] * prior[a] * plain.emission(structure.emission, features, plain.table(model))
        )
    return total


@pytest.mark.parametrize(
    ("num_kinds", "learned_prior", "is_mixture"),
    [(1, False, False), (1, True, False), (2, True, False), (2, True, True), (1, False, True)],
)
def test_parents_and_kinds_are_summed_out(tiny, num_kinds, learned_prior, is_mixture):
    """Oracle: enumeration, at every position of every string."""
    emission = tiny.mixture() if is_mixture else vector_emission(tiny)
    model = make_parents(tiny, emission, num_kinds=num_kinds, learned_prior=learned_prior)
    sums = partial(summed_over_parents, tiny, model)
    assert tiny.largest_difference(model, tiny.strings, sums) < 1e-10


def test_a_prior_over_positions_to_come_is_caught(tiny):
    """Planted: with the prior normalised over all positions, what is left for the earlier ones is
    no distribution."""
    model = make_parents(tiny, tiny.mixture(), NormalisedOverAllPositions)
    sums = partial(summed_over_parents, tiny, model)
    assert tiny.largest_difference(model, tiny.strings, sums) > 0.5
    distributions = tiny.say(model, tiny.strings.x).distributions
    assert np.exp(distributions).sum(-1)[:, 0].max() < 0.9


def test_the_prior_of_a_parent_is_normalised_over_the_positions_so_far(tiny):
    """Identity; a uniform prior gives each of them the same."""
    for learned_prior in (True, False):
        model = make_parents(tiny, tiny.mixture(), learned_prior=learned_prior)
        prior = np.exp(jax.vmap(model.structure.log_prior)(jnp.arange(tiny.num_positions)))
        assert_allclose(prior.sum(1), 1.0, rtol=1e-12)
        assert (np.triu(prior, 1) == 0).all()
    assert_allclose(prior[2, :3], 1 / 3, rtol=1e-12)


def most_values(function, *arguments):
    """The most entries that one operation of a function computes, all turns of a loop together."""

    def sizes(jaxpr, turns=1):
        for equation in jaxpr.eqns:
            yield from (turns * variable.aval.size for variable in equation.outvars)
            for inner in jaxprs_in_params(equation.params):
                yield from sizes(inner, turns * equation.params.get("length", 1))

    return max(sizes(jax.make_jaxpr(function)(*arguments).jaxpr))


@pytest.mark.parametrize("is_mixture", [False, True])
def test_the_emission_is_evaluated_once_for_every_parent(is_mixture, tiny):
    """Oracle: the size of what is computed. A softmax over classes or components for every parent
    is enough; planted, contexts that are touched at every position need one for every pair."""
    time, size, wide = 7, 5, 31
    emission = VectorEmission(size, size, wide, key=KEY)
    if is_mixture:
        emission = tiny.mixture(size, wide)
        components = jnp.zeros((wide, size))
        emission = eqx.tree_at(lambda e: e.components.vectors, emission, components)
    structure = Parents(size, time, emission, num_kinds=1, learned_prior=True, key=KEY)
    contexts, table = jnp.ones((time, size)), jnp.ones((wide, size))

    def most(touched):
        def at(i):
            return structure.log_probs(touched(contexts, i), i, jnp.zeros(1, int), table)

        return most_values(jax.vmap(at), jnp.arange(time))

    per_pair = time * time * wide
    assert most(lambda contexts, i: contexts) < per_pair
    assert most(lambda contexts, i: contexts * (1 + i)) >= per_pair


def two_parents(tiny, model, contexts, i, *, prior=None):
    """p(class at i), pair by pair and state by state."""
    plain = tiny.plain
    structure = plain.in_numpy(model.structure)
    exists = structure.prior_logits[i, : i + 1, : i + 1]
    prior = plain.softmax(exists) if prior is None else prior(exists)
    of_state = plain.components(structure.components, plain.table(model))
    total = np.zeros(tiny.num_classes)
    for a, b in product(range(i + 1), repeat=2):
        logits = structure.from_first @ contexts[a] + structure.from_second @ contexts[b]
        for z, p_z in enumerate(plain.softmax(logits)):
            total += prior[a, b] * p_z * of_state[z]
    return total


def test_pairs_of_parents_are_summed_out(tiny):
    """Oracle: enumeration of pairs and states; planted, a prior that takes the two parents to be
    independent is told apart."""
    structure = TwoParents(tiny.size, tiny.num_positions, tiny.components(), key=KEY)
    model = tiny.model(tiny.shaken(structure, 1.0))

    def independent(logits):
        joint = tiny.plain.softmax(logits)
        return joint.sum(1)[:, None] * joint.sum(0)[None]

    sums = partial(two_parents, tiny, model)
    wrong = partial(two_parents, tiny, model, prior=independent)
    assert tiny.largest_difference(model, tiny.strings, sums) < 1e-10
    assert tiny.largest_difference(model, tiny.strings, wrong) > 1e-3


def test_what_cannot_be_summed_is_refused(tiny):
    with pytest.raises(ValueError, match=r"sequences of up to 65 symbols, but .* ends at 64"):
        TwoParents(tiny.size, 65, tiny.components(), key=KEY)
    with pytest.raises(ValueError, match="0 kinds of transition were asked for; give at least 1"):
        make_parents(tiny, tiny.mixture(), num_kinds=0)
