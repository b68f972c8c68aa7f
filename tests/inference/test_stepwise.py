"""Identities: what a population of particles is worth, as the scored sites of one draw."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.data.strokes import Strokes
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.inference.filtering import Filtering
from tightbound.inference.stepwise import filter_pair, stepwise_pair, weigh_populations
from tightbound.inference.weigh import weigh
from tightbound.models.posterior import ExactPosterior
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.nn.gaussian_outputs import DiagonalGaussianOutput
from tightbound.nn.pen_output import PenOutput
from tightbound.terms import Kind

MASK = jnp.arange(5)[None] < jnp.array([[5], [3], [1]])
KEY = jax.random.key(2)


@pytest.fixture(scope="module")
def pair():
    keys = jax.random.split(jax.random.key(0), 2)
    sizes = {"network_size": 4, "min_scale": 0.1}
    output = PenOutput(DiagonalGaussianOutput(0.1))
    model = VRNN(3, 2, output, num_features=5, hidden_size=3, **sizes, key=keys[0])
    return model, StepProposal(4, 3, 2, **sizes, key=keys[1])


@pytest.fixture(scope="module")
def batch():
    values = jax.random.normal(jax.random.key(1), (3, 5, 3))
    strokes = Strokes(values[..., :2], 1.0 * (values[..., 2] > 0))
    return Batch(Sequence(strokes, MASK), MASK, MASK.sum(1), jnp.arange(3))


def test_the_sites_of_every_population_sum_to_its_bound(pair, batch):
    """Oracle: `filtering_log_marginal` of the same filters, one for each draw. The remainder is what
    makes it so: without it the sum is off, and it is below 0 (minus a divergence)."""
    rule = Filtering(4, threshold=0.8)

    @eqx.filter_jit
    def run(model, proposal):
        terms = weigh_populations(model, proposal, batch, rule, num_samples=3, key=KEY)

        def bound(key):
            return filtering_log_marginal(filter_pair(model, proposal, batch, rule, key=key))

        return terms, jax.vmap(bound)(jax.random.split(KEY, 3))

    terms, bounds = run(*pair)
    assert_allclose(terms.log_weights, bounds, rtol=1e-10)
    assert [site.name for site in terms.sites] == ["z", "x", "pen", "reweighting"]
    assert terms.sites[-1].kind is Kind.AUXILIARY
    assert_array_equal(terms.num_units, batch.num_units)
    remainder = terms.sites[-1].total_log_p
    assert (remainder[:, :2] < -1e-3).all()
    assert len(np.unique(bounds[:, 0])) == 3  # filters of their own


def test_one_particle_gives_the_elbo_of_the_same_draw(pair, batch):
    """Identity: site by site, and nothing is left for the remainder. Two particles give another."""

    @eqx.filter_jit
    def run(model, proposal):
        key = jax.random.split(KEY, 1)[0]
        populations = [
            weigh_populations(model, proposal, batch, Filtering(n), num_samples=1, key=KEY)
            for n in (1, 2)
        ]
        return *populations, weigh(model, proposal, batch, num_samples=1, key=key)

    one, two, expected = run(*pair)
    for found, site in zip(one.sites, expected.sites, strict=False):
        assert (found.name, found.kind) == (site.name, site.kind)
        assert_allclose(found.total_log_p, site.total_log_p, rtol=1e-12)
        assert_allclose(found.total_log_q, site.total_log_q, rtol=1e-12)
    assert_allclose(one.sites[-1].total_log_p, 0.0, atol=1e-12)
    assert_allclose(one.log_weights, expected.log_weights, rtol=1e-12)
    assert (jnp.abs(two.log_weights - one.log_weights) > 1e-3).all()


def test_pairs_without_steps_are_refused(pair):
    """Either half decides: a model without a state, or a proposal that draws all of z at once."""
    model, proposal = pair
    assert stepwise_pair(model, proposal) == (model, proposal)
    without_state = ProbabilisticPCA(2, 1, key=KEY)
    for halves in [(without_state, proposal), (model, ExactPosterior(without_state))]:
        with pytest.raises(ValueError, match="has no steps at which particles could be resampled"):
            stepwise_pair(*halves)


def test_a_whole_draw_cannot_be_scaled_where_it_is_scored_on_the_way(pair, batch):
    with pytest.raises(
        ValueError, match="'doubly' scales the gradient of a whole draw, but a step"
    ):
        weigh(*pair, batch, num_samples=2, key=KEY, path="doubly")
