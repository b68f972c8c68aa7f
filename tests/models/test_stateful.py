"""Identities and laws that every stateful family keeps, and exact families in the mean (keys fixed
beforehand, level 1e-3 over the file)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.families.sequences.model_markov import DeepMarkovModel
from tightbound.inference import filter as filter_module
from tightbound.inference.filtering import Filtering
from tightbound.inference.smoothing import smooth
from tightbound.inference.stepwise import filter_pair
from tightbound.inference.weigh import weigh
from tightbound.models.lgssm import LinearGaussianSSM
from tightbound.models.stateful import FromPrior, harmless, proposed
from tightbound.nn.outputs import BernoulliOutput

LENGTHS = jnp.array([5, 3, 1])
MASK = jnp.arange(5)[None] < LENGTHS[:, None]
SIZES = {"network_size": 4, "min_scale": 0.1}


def vrnn(key, smoothing=False, **changes):
    keys = jax.random.split(key, 2)
    model = VRNN(
        3, 2, BernoulliOutput(), num_features=3, hidden_size=3, **SIZES, **changes, key=keys[0]
    )
    return model, StepProposal(4, 3, 2, smoothing=smoothing, **SIZES, key=keys[1])


def dmm(key):
    keys = jax.random.split(key, 2)
    model = DeepMarkovModel(2, BernoulliOutput(), num_features=3, **SIZES, key=keys[0])
    return model, StepProposal(3, 2, 2, **SIZES, key=keys[1])


PAIRS = {
    "vrnn, from its prior": lambda: (vrnn(jax.random.key(0))[0], FromPrior()),
    "vrnn, lstm, smoothing": lambda: vrnn(jax.random.key(1), True, cell="lstm"),
    "dmm": lambda: dmm(jax.random.key(3)),
}


def batch_of(values, mask, rows=None):
    rows = jnp.arange(len(mask)) if rows is None else rows
    return Batch(Sequence(values, mask), mask, mask.sum(1), rows)


@pytest.fixture(scope="module", params=PAIRS)
def case(request):
    """A pair, a batch of lengths 5, 3 and 1, its record of two draws, and the draws."""
    model, proposal = PAIRS[request.param]()
    values = 1.0 * jax.random.bernoulli(jax.random.key(4), 0.5, (3, 5, 3))
    batch, key = batch_of(values, MASK), jax.random.key(5)

    @eqx.filter_jit
    def run(model, proposal, batch):
        never = Filtering(2, threshold=0.0)
        terms = weigh(model, proposal, batch, num_samples=2, key=key)
        return terms, smooth(model, proposal, batch, never, key=key)[0]

    return model, proposal, batch, run, *run(model, proposal, batch)


@eqx.filter_jit
def rescored(model, proposal, batch, z):
    """log p by `score`, log q by `Proposed.log_prob`, of the same z."""

    def one(x, z):
        return model.score(x, z), proposed(model, proposal, x).log_prob(z)

    return jax.vmap(jax.vmap(one), in_axes=(None, 0))(batch.x, z)


def test_what_is_scored_while_drawn_is_the_score_of_the_whole(case):
    """Identity: site by site and step by step, `weigh`'s one pass is `score` and
    `Proposed.log_prob` at the same z. It fails by far at a z of another draw."""
    model, proposal, batch, _, terms, z = case
    log_p, log_q = rescored(model, proposal, batch, z)
    of_others, _ = rescored(model, proposal, batch, z[::-1])
    for site in terms.sites:
        real = np.where(site.mask, site.log_p, 0.0)
        assert_allclose(log_p[site.name], real, atol=1e-10)
        assert np.abs(of_others[site.name] - real).max() > 1e-2
        if site.log_q is not None:
            assert_allclose(log_q[site.name], np.where(site.mask, site.log_q, 0.0), atol=1e-10)


def test_padding_and_neighbours_change_nothing(case):
    """Law: NaN at padding gives the same bits; alone or in another order a sequence has the same
    weights. Without its mask a padded sequence has others."""
    model, proposal, batch, run, terms, _ = case
    values = jnp.where(MASK[:, :, None], batch.x.values, jnp.nan)
    broken, _ = run(model, proposal, batch_of(values, MASK))
    assert_array_equal(broken.log_weights, terms.log_weights)
    order = jnp.array([2, 0, 1])
    moved, _ = run(model, proposal, batch_of(batch.x.values[order], MASK[order], order))
    assert_allclose(moved.log_weights, terms.log_weights[:, order], rtol=1e-12)
    unmasked, _ = run(model, proposal, batch_of(batch.x.values, jnp.ones_like(MASK)))
    assert (jnp.abs(unmasked.log_weights - terms.log_weights)[:, 1:] > 0.1).all()


@eqx.filter_grad
def gradient(pair, batch):
    return weigh(*pair, batch, num_samples=1, key=jax.random.key(6)).log_weights.sum()


def test_nan_at_padding_does_not_reach_the_gradient(monkeypatch):
    """Law: the gradient has the same bits. Planted: scores that are selected away only after they
    were computed (0 * NaN)."""
    model, proposal = dmm(jax.random.key(3))
    batch = batch_of(1.0 * jax.random.bernoulli(jax.random.key(4), 0.5, (3, 5, 3)), MASK)
    broken = batch_of(jnp.where(MASK[:, :, None], batch.x.values, jnp.nan), MASK)
    of = eqx.filter_jit(gradient)
    found, expected = (jax.tree.leaves(of((model, proposal), b)) for b in (broken, batch))
    for leaf, other in zip(found, expected, strict=True):
        assert_array_equal(leaf, other)
    monkeypatch.setattr("tightbound.models.stateful.harmless", lambda x: x)
    wrong = jax.tree.leaves(eqx.filter_jit(lambda *a: gradient(*a))((model, proposal), broken))
    assert any(jnp.isnan(leaf).any() for leaf in wrong)


def test_what_cannot_be_scored_is_replaced_at_padding_alone():
    """By hand: the first observation stands at padding; what is real stays, even NaN."""
    values = jnp.array([[1.0], [jnp.nan], [0.0]])
    found = harmless(Sequence(values, jnp.array([True, True, False])))
    assert_array_equal(found.values, np.array([[1.0], [np.nan], [1.0]]))


def changed_steps(model, proposal, x, other, z):
    """Which steps of log p and of log q differ between two x that agree before step 3."""

    @eqx.filter_jit
    def scores(x):
        log_p = sum(model.score(x, z).values())
        return log_p, proposed(model, proposal, x).log_prob(z)["z"]

    return [np.asarray(a != b)[:3].any() for a, b in zip(scores(x), scores(other), strict=True)]


@pytest.mark.parametrize("name", PAIRS)
def test_what_comes_later_does_not_change_what_was_scored_before(name, monkeypatch):
    """Law: another x_{>=3} leaves log p(x_t, z_t | before) of t < 3 alone, to the bit, and log q too
    unless the proposal smooths. Planted: a model that reads its observations in both directions."""
    model, proposal = PAIRS[name]()
    values = 1.0 * jax.random.bernoulli(jax.random.key(7), 0.5, (5, 3))
    x = Sequence(values, jnp.ones(5, bool))
    other = Sequence(values.at[3:].set(1 - values[3:]), x.mask)
    z = jax.random.normal(jax.random.key(8), (5, 2))
    assert changed_steps(model, proposal, x, other, z) == [False, "smoothing" in name]
    if "lstm" in name:
        plain = VRNN.readings
        monkeypatch.setattr(VRNN, "readings", lambda self, x: plain(self, x) + plain(self, x)[::-1])
        assert changed_steps(model, proposal, x, other, z)[0]


@pytest.mark.parametrize("name", ["vrnn, from its prior", "dmm"])
def test_a_joint_draw_and_a_posterior_draw_are_what_the_score_takes(name):
    """Both have the shapes that `score` and `residual` take, and equal keys give equal draws."""
    model, proposal = PAIRS[name]()

    @eqx.filter_jit
    def draw(key):
        z, x = model.sample(key)
        q = proposed(model, proposal, x)
        return z, x.values, q.sample(key), model.score(x, q.sample(key)), model.residual(x, z)

    z, values, from_q, scores, residual = draw(jax.random.key(9))
    assert z.shape == from_q.shape == (100, 2)
    assert values.shape == residual.shape == (100, 3)
    assert set(np.unique(values)) == {0.0, 1.0}
    assert all(jnp.isfinite(log_p).all() for log_p in scores.values())
    assert_allclose(np.abs(residual), np.where(values > 0, residual, -residual))


def test_latents_that_know_of_observations_cannot_come_before_them():
    model, _ = vrnn(jax.random.key(0))
    with pytest.raises(NotImplementedError, match=r"latents of VRNN depend on earlier observation"):
        model.sample_likelihood(jnp.zeros((4, 2)), jax.random.key(0))
    with pytest.raises(NotImplementedError, match="FromPrior proposes along the state of a model"):
        FromPrior().proposal(Sequence(jnp.zeros((1, 1)), jnp.ones(1, bool)))


# Linear-Gaussian parts: log p(x) is known.

NUM_RUNS = 2_000
RULES = {
    "one particle": Filtering(1),
    "always": Filtering(2, threshold=1.0),
    "adaptive": Filtering(8, threshold=0.7),
    "never": Filtering(8, threshold=0.0),
}
PROPOSALS = {
    "prior": FromPrior(),
    # Untrained, and at least as wide as the posterior, so that weights have a variance.
    "network": StepProposal(1, 2, 2, network_size=4, min_scale=0.7, key=jax.random.key(10)),
}
CASES = [
    *(("network", rule) for rule in RULES),
    ("prior", "adaptive"),
]


@pytest.fixture(scope="module")
def linear():
    model = LinearGaussianSSM(
        initial_mean=jnp.array([0.5, -0.5]),
        initial_scale=0.6 * jnp.eye(2),
        transition_weight=jnp.array([[0.9, 0.3], [-0.2, 0.7]]),
        transition_scale=0.5 * jnp.eye(2),
        emission_weight=jnp.array([[1.0, 0.5]]),
        emission_scale=jnp.array([[0.7]]),
        num_steps=4,
    )
    values = jnp.broadcast_to(jnp.array([[0.6], [1.0], [-0.4], [0.9]]), (NUM_RUNS, 4, 1))
    batch = batch_of(values, jnp.ones((NUM_RUNS, 4), bool))
    exact = model.log_marginal(jax.tree.map(lambda leaf: leaf[0], batch.x))
    return model, batch, float(exact)


@pytest.fixture(scope="module")
def filtered(linear):
    """log p-hat and the increments of 2,000 filters, for every case."""
    model, batch, _ = linear

    @jax.jit
    def run(key):
        records = {
            (name, rule): filter_pair(model, PROPOSALS[name], batch, RULES[rule], key=key)
            for name, rule in CASES
        }
        return {
            case: (filtering_log_marginal(record), record.log_increments)
            for case, record in records.items()
        }

    return jax.tree.map(np.asarray, run(jax.random.key(11)))


def z_score(log_ratios):
    ratios = np.exp(log_ratios)
    return (ratios.mean() - 1) / (ratios.std(ddof=1) / np.sqrt(len(ratios)))


@pytest.mark.parametrize(("proposal", "rule"), CASES)
def test_every_rule_of_resampling_estimates_the_marginal_without_bias(
    proposal, rule, linear, filtered
):
    """Oracle: the Kalman filter; the mean of p-hat / p is 1 within its own errors. Planted: only
    the last step's normaliser is counted."""
    log_marginal, increments = filtered[proposal, rule]
    assert abs(z_score(log_marginal - linear[-1])) < norm.isf(1e-3 / (2 * len(CASES)))
    if rule == "always":
        last = np.log(np.exp(increments[-1]).mean(0))
        assert abs(z_score(last - linear[-1])) > 8


def test_half_a_state_left_behind_biases_the_estimate(linear, monkeypatch):
    """Planted: resampling gathers the first latent of the ancestor and leaves the second."""
    model, batch, exact = linear

    def left_behind(state, ancestors):
        moved = jnp.take_along_axis(state, ancestors[:, :, None], axis=1)
        return jnp.stack([moved[..., 0], state[..., 1]], axis=-1)

    monkeypatch.setattr(filter_module, "_gather", left_behind)
    many = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 10), batch)
    many = eqx.tree_at(lambda b: b.rows, many, jnp.arange(10 * NUM_RUNS))
    terms = eqx.filter_jit(filter_pair)(
        model, FromPrior(), many, Filtering(8, threshold=1.0), key=jax.random.key(11)
    )
    assert abs(z_score(np.asarray(filtering_log_marginal(terms)) - exact)) > 8


def test_bounds_rise_with_the_number_of_draws_and_stay_below_the_marginal(linear, filtered):
    """Burda et al. 2016, Theorem 1: of the same eight draws, the mean of one, of pairs and of all
    eight are in this order in every run; the mean over runs is below log p(x) by 4 errors."""
    exact = linear[-1]
    draws = filtered["network", "never"][1].sum(0)  # particles, runs
    one, all_eight = draws.mean(0), np.logaddexp.reduce(draws) - np.log(8)
    pairs = (np.logaddexp(draws[::2], draws[1::2]) - np.log(2)).mean(0)
    assert (one <= pairs).all()
    assert (pairs <= all_eight).all()
    assert_allclose(all_eight, filtered["network", "never"][0], rtol=1e-12)
    error = all_eight.std(ddof=1) / np.sqrt(NUM_RUNS)
    assert (exact - all_eight.mean()) / error > 4
