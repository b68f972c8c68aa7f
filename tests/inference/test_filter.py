"""Oracles: enumeration of every draw and every ancestor of a tiny filter (the mean of p-hat(x) is
p(x), to rounding), exact families, and identities; sampled tests use keys fixed beforehand."""

import itertools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import Batch
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.edits.exact import all_sequences
from tightbound.inference import filter as filter_module
from tightbound.inference.filter import particle_filter
from tightbound.inference.resampling import SCHEMES
from tightbound.models.hmm import CategoricalEmission, HiddenMarkovModel
from tightbound.models.lgssm import LGSSMOptimal, LinearGaussianSSM
from tightbound.models.sequential import (
    AbstractPopulation,
    AbstractSequential,
    Sequence,
)
from tightbound.models.stateful import FromPrior, Guided
from tightbound.terms import Kind

# A chain whose observation depends on the last two choices, so its state has two parts:
# z_t ~ TRANSITION[z_{t-1}],  x_t ~ EMISSION[2 z_{t-1} + z_t];  proposed from PROPOSAL[z_{t-1}].
# z_{-1} is 0.
TRANSITION = np.array([[0.6, 0.4], [0.3, 0.7]])
PROPOSAL = np.array([[0.5, 0.5], [0.45, 0.55]])
EMISSION = np.array([[0.8, 0.2], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]])
X = np.zeros(5, int)


def exact_marginal(x):
    """p(x) of the chain above: the sum over every path."""
    total = 0.0
    for path in all_sequences(2, len(x)):
        last, p = 0, 1.0
        for z, x_t in zip(path, x, strict=True):
            p *= TRANSITION[last, z] * EMISSION[2 * last + z, x_t]
            last = z
        total += p
    return total


def scores_of(state, z, x_t):
    """The state after the choice z, and its scores. The two parts of the state are the same last
    choice: one is read by the transition, the other by the observation."""
    transition, proposal, emission = map(jnp.asarray, (TRANSITION, PROPOSAL, EMISSION))
    log_p, log_q = jnp.log(transition[state["last"], z]), jnp.log(proposal[state["last"], z])
    log_likelihood = jnp.log(emission[2 * state["seen"] + z, x_t])
    return {"last": z, "seen": z}, {"z": (log_p, log_q), "x": (log_likelihood, None)}


class Drawn(AbstractSequential):
    """The chain, drawn as any family is."""

    kinds = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    def init(self, key):
        return {"last": jnp.zeros((), int), "seen": jnp.zeros((), int)}

    def step(self, state, x_t, clock, key):
        z = jax.random.categorical(key, jnp.log(jnp.asarray(PROPOSAL)[state["last"]]))
        return scores_of(state, z, x_t)


class Scripted(AbstractPopulation):
    """The chain with its draws given: x_t is (the observation, the choice of every particle)."""

    kinds = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    def init(self, num_particles, key):
        return {"last": jnp.zeros(num_particles, int), "seen": jnp.zeros(num_particles, int)}

    def step(self, state, x_t, clock, key):
        return scores_of(state, *reversed(x_t))


def right(increments, resampled, ancestors):
    """p-hat(x) of every run (first axis; then time, particles): the product of sum_n W_n w_n."""
    weights, total = np.ones_like(increments[:, 0]), 1.0
    for t in range(increments.shape[1]):
        step = np.exp(increments[:, t])
        weights = np.where(resampled[:, t, None], 1.0, weights)
        total = total * (weights * step).sum(1) / weights.sum(1)
        weights = weights * step
    return total


def as_if_always_resampled(increments, resampled, ancestors):
    """Bug: the plain mean of the increments, also where the weights were kept."""
    return np.exp(increments).mean(2).prod(1)


def weights_not_reset(increments, resampled, ancestors):
    """Bug: a resampled particle keeps the weight of its ancestor, which so counts twice."""
    weights, total = np.ones_like(increments[:, 0]), 1.0
    for t in range(increments.shape[1]):
        step = np.exp(increments[:, t])
        weights = np.take_along_axis(weights, ancestors[:, t], axis=1)
        total = total * (weights * step).sum(1) / weights.sum(1)
        weights = weights * step
    return total


def normalisers_discarded(increments, resampled, ancestors):
    """Bug: weights are normalised at every step, and only the last normaliser is counted."""
    whole = right(increments, resampled, ancestors)
    return whole / right(increments[:, :-1], resampled[:, :-1], ancestors[:, :-1])


def left_behind(state, ancestors):
    """Bug: only one part of the state follows its ancestor."""
    return state | {"last": jax.vmap(lambda leaf, index: leaf[index])(state["last"], ancestors)}


# Which wrong twin shows under which rule of resampling (threshold): a weight that is never
# reset is no bug where nothing is resampled, nor a plain mean where everything is.
SHOWS = {
    1.0: [weights_not_reset, normalisers_discarded],
    0.8: [weights_not_reset, normalisers_discarded, as_if_always_resampled],
    0.0: [normalisers_discarded, as_if_always_resampled],
}


def make_batch(x, mask=None, rows=None):
    first = jax.tree.leaves(x)[0]
    mask = jnp.ones(first.shape[:2], bool) if mask is None else mask
    rows = jnp.arange(len(first)) if rows is None else rows
    return Batch(x, mask, mask.sum(1), rows)


def by_run(terms):
    """Increments, resampled, ancestors of every row: runs, then time, then particles."""
    return (
        jnp.moveaxis(terms.log_increments, -1, 0),
        terms.resampled.T,
        jnp.moveaxis(terms.ancestors, -1, 0),
    )


def law_of_ancestors(scheme, weights):
    """{ancestors: probability}, from the definition of the scheme."""
    num_particles, w = len(weights), weights / weights.sum()
    if scheme == "multinomial":
        return {tuple(a): w[a].prod() for a in all_sequences(num_particles, num_particles)}
    # Systematic: the ancestors change where a point (n + u) / N meets the end of a particle.
    ends = np.cumsum(w)
    cuts = np.sort(np.concatenate([[0.0, 1.0], (num_particles * ends[:-1]) % 1]))
    law = {}
    for low, high in itertools.pairwise(cuts):
        points = (np.arange(num_particles) + (low + high) / 2) / num_particles
        ancestors = tuple(np.searchsorted(ends[:-1], points).tolist())
        law[ancestors] = law.get(ancestors, 0.0) + high - low
    return law


def every_outcome(threshold):
    """Three particles, two steps, every draw (64) and every choice of ancestors (27): the record of
    each, and the probability of its draws. The draws are the rows of one batch; the ancestors are
    forced, one call of the filter for each."""
    draws = all_sequences(2, 6).reshape(64, 2, 3)  # row, time, particle
    x = (jnp.broadcast_to(X[:2], (64, 2)), jnp.asarray(draws))

    @jax.jit
    def run(ancestors):
        terms = particle_filter(
            Scripted(),
            make_batch(x),
            num_particles=3,
            key=jax.random.key(0),
            resampling=lambda key, weights: ancestors,
            threshold=threshold,
        )
        return by_run(terms)

    records, probabilities = [], []
    for forced in all_sequences(3, 3):
        increments, resampled, ancestors = jax.tree.map(np.asarray, run(jnp.asarray(forced)))
        for row, (first, second) in enumerate(draws):
            # What kept its weights is the same whatever was forced: count it once.
            if resampled[row, 1] or tuple(forced) == (0, 1, 2):
                parents = first[ancestors[row, 1]]
                probabilities.append(PROPOSAL[0, first].prod() * PROPOSAL[parents, second].prod())
                records.append((increments[row], resampled[row], ancestors[row]))
    return [np.stack(part) for part in zip(*records, strict=True)], np.array(probabilities)


def expectation(records, probabilities, scheme, estimate):
    """The sum over outcomes of probability times estimate."""
    increments, resampled, ancestors = records
    of_ancestors = [
        law_of_ancestors(scheme, np.exp(first)).get(tuple(parents), 0.0) if was_resampled else 1.0
        for first, was_resampled, parents in zip(
            increments[:, 0], resampled[:, 1], ancestors[:, 1], strict=True
        )
    ]
    return probabilities @ (np.array(of_ancestors) * estimate(*records))


@pytest.mark.parametrize("threshold", SHOWS)
def test_the_estimate_is_unbiased_by_enumeration(threshold):
    """Oracle: E[p-hat(x)] over every draw and every ancestor is p(x), to rounding, whether steps
    resample always, sometimes or never. Each planted bug misses by more than 1 %."""
    outcomes, expected = every_outcome(threshold), exact_marginal(X[:2])
    (_, resampled, _), _ = outcomes
    assert (
        set(resampled[:, 1].tolist()) == {1.0: {True}, 0.8: {True, False}, 0.0: {False}}[threshold]
    )
    for scheme in ("multinomial", "systematic"):
        assert_allclose(expectation(*outcomes, scheme, right), expected, rtol=1e-12)
        for wrong in SHOWS[threshold]:
            assert abs(expectation(*outcomes, scheme, wrong) / expected - 1) > 0.01, wrong


@pytest.mark.parametrize("threshold", [1.0, 0.8])
def test_a_part_of_the_state_left_behind_biases_the_estimate(threshold, monkeypatch):
    """The enumeration above must fail when resampling gathers one leaf of the state only."""
    monkeypatch.setattr(filter_module, "_gather", left_behind)
    outcomes = every_outcome(threshold)
    for scheme in ("multinomial", "systematic"):
        found = expectation(*outcomes, scheme, right)
        assert abs(found / exact_marginal(X[:2]) - 1) > 0.01


NUM_RUNS = 20_000


def run_many(resampling, threshold):
    """20,000 independent filters of one sequence, as the rows of a batch."""
    batch = make_batch(jnp.broadcast_to(X, (NUM_RUNS, len(X))))

    @jax.jit
    def run(batch):
        terms = particle_filter(
            Drawn(),
            batch,
            num_particles=4,
            key=jax.random.key(7),
            resampling=resampling,
            threshold=threshold,
        )
        return filtering_log_marginal(terms), by_run(terms)

    return jax.tree.map(np.asarray, run(batch))


def z_score(estimates, expected):
    return (estimates.mean() - expected) / (estimates.std(ddof=1) / np.sqrt(len(estimates)))


@pytest.mark.parametrize("resampling", SCHEMES)
@pytest.mark.parametrize("threshold", [1.0, 0.8])
def test_every_scheme_gives_an_unbiased_estimate(resampling, threshold):
    """p-hat / p has mean 1 within 4 standard errors (8 cases and the families below: level 1e-3),
    through the keys and schemes as shipped; each planted bug moves it by at least 8."""
    expected = exact_marginal(X)
    log_marginal, runs = run_many(resampling, threshold)
    assert abs(z_score(np.exp(log_marginal), expected)) < 4
    for wrong in SHOWS[threshold]:
        assert abs(z_score(wrong(*runs), expected)) > 8, wrong


def test_never_resampling_is_the_importance_weighted_bound():
    """Identity: log of the mean of the products of a particle's increments."""
    log_marginal, (increments, resampled, _) = run_many("systematic", 0.0)
    assert not resampled.any()
    expected = np.logaddexp.reduce(increments.sum(1), axis=1) - np.log(4)
    assert_allclose(log_marginal, expected, rtol=1e-12)


@pytest.fixture(scope="module")
def hmm():
    keys = jax.random.split(jax.random.key(0), 3)
    logits = [jax.random.normal(k, s) for k, s in zip(keys, [(3,), (3, 3), (3, 4)], strict=True)]
    model = HiddenMarkovModel(logits[0], logits[1], CategoricalEmission(2 * logits[2]), num_steps=6)
    return Guided(model, FromPrior()), model, jnp.array([0, 3, 1, 1, 2, 0])


@pytest.fixture(scope="module")
def lgssm():
    model = LinearGaussianSSM(
        initial_mean=jnp.array([1.0, -0.5]),
        initial_scale=jnp.eye(2),
        transition_weight=jnp.array([[0.9, 0.3], [-0.2, 0.7]]),
        transition_scale=0.5 * jnp.eye(2),
        emission_weight=jnp.array([[1.0, 0.5]]),
        emission_scale=jnp.array([[0.7]]),
        num_steps=6,
    )
    return (
        Guided(model, LGSSMOptimal()),
        model,
        jnp.array([[0.3], [1.0], [-1.0], [0.2], [0.0], [2.0]]),
    )


@pytest.mark.parametrize("family", ["hmm", "lgssm"])
def test_exact_families_are_recovered_in_the_mean(family, request):
    """Oracle: the exact log p(x) of sequences of 6 and of 3 steps, within 4 standard errors."""
    sequential, model, values = request.getfixturevalue(family)
    num_runs = 4_000
    lengths = jnp.where(jnp.arange(num_runs) % 2 == 0, 6, 3)
    mask = jnp.arange(6)[None] < lengths[:, None]
    x = Sequence(jnp.broadcast_to(values, (num_runs, *values.shape)), mask)

    @jax.jit
    def run(batch):
        terms = particle_filter(sequential, batch, num_particles=8, key=jax.random.key(1))
        return filtering_log_marginal(terms), jax.vmap(model.log_marginal)(
            jax.tree.map(lambda leaf: leaf[:2], batch.x)
        )

    found, exact = run(make_batch(x, mask))
    for parity in range(2):
        ratios = np.exp(np.asarray(found[parity::2] - exact[parity]))
        assert abs(z_score(ratios, 1.0)) < 4
        assert ratios.mean() - 1 < 0.1 < ratios.max() - 1  # neither degenerate nor useless


def test_one_particle_gives_the_elbo_whatever_the_rule(hmm):
    """Identity: the bound is the sum of log p - log q over sites, for any threshold."""
    sequential, _, values = hmm
    batch = make_batch(Sequence(values[None], jnp.ones((1, 6), bool)))
    bounds = []
    for threshold in (0.0, 0.5, 1.0):

        @jax.jit
        def run(threshold=threshold):
            terms = particle_filter(
                sequential, batch, num_particles=1, key=jax.random.key(2), threshold=threshold
            )
            return filtering_log_marginal(terms), terms

        bound, terms = run()
        z, x = terms.sites
        assert (z.kind, x.kind) == (Kind.LATENT, Kind.OBSERVED)
        sites = x.total_log_p + z.total_log_p - z.total_log_q
        assert_allclose(bound, sites[0], rtol=1e-12)
        assert not terms.resampled.any()
        bounds.append(bound)
    assert_array_equal(np.ptp(np.array(bounds), axis=0), [0.0])


class WithHistory(AbstractSequential):
    """A state with parts of several types and shapes; its scores show what a particle carries."""

    kinds = {"drawn": Kind.OBSERVED, "carried": Kind.OBSERVED}

    def init(self, key):
        return {"sum": jnp.zeros(()), "count": jnp.zeros((), int), "matrix": jnp.zeros((2, 3))}

    def step(self, state, x_t, clock, key):
        z = jax.random.normal(key)
        state = {
            "sum": 0.5 * state["sum"] + z,
            "count": 2 * state["count"] + (z > 0),
            "matrix": state["matrix"] + z * (1 + clock),
        }
        carried = state["sum"] + state["count"] + state["matrix"].sum()
        return state, {"drawn": (z, None), "carried": (carried, None)}


def test_the_carried_state_is_what_a_particles_own_history_gives():
    """Law: after resampling with arbitrary ancestors, recomputing the state of every particle
    from the draws of its own ancestors gives what it carries, at every step; padding copies it."""
    num_steps, num_particles = 6, 5
    mask = jnp.arange(num_steps)[None] < jnp.array([[6], [4]])
    batch = make_batch(jnp.zeros((2, num_steps)), mask)

    def arbitrary(key, weights):
        return jax.random.randint(key, weights.shape, 0, len(weights))

    terms = jax.jit(
        lambda: particle_filter(
            WithHistory(),
            batch,
            num_particles=num_particles,
            key=jax.random.key(3),
            resampling=arbitrary,
            threshold=1.0,
        )
    )()
    drawn, carried = (np.asarray(site.log_p) for site in terms.sites)
    ancestors = np.asarray(terms.ancestors)
    assert (np.sort(ancestors[1], axis=0) != np.arange(num_particles)[:, None]).any()
    for row, length in enumerate([6, 4]):
        for t in range(length):
            for particle in range(num_particles):
                lineage = [particle]  # of steps t, t - 1, ..., 0
                for step in range(t, 0, -1):
                    lineage.append(ancestors[step, lineage[-1], row])
                total, count, matrix = 0.0, 0, 0.0
                for step, n in enumerate(reversed(lineage)):
                    z = drawn[n, row, step]
                    total, count, matrix = (
                        0.5 * total + z,
                        2 * count + (z > 0),
                        matrix + z * (1 + step),
                    )
                expected = total + count + 6 * matrix
                assert_allclose(carried[particle, row, t], expected, rtol=1e-12)
        assert not terms.resampled[length:, row].any()
        assert_array_equal(
            ancestors[length:, :, row], np.arange(num_particles)[None].repeat(6 - length, 0)
        )


@partial(eqx.filter_jit)
def bound_of(sequential, batch, key, **rule):
    terms = particle_filter(sequential, batch, num_particles=6, key=key, threshold=0.8, **rule)
    return filtering_log_marginal(terms), terms


@pytest.fixture(scope="module")
def unequal(lgssm):
    """Three sequences of lengths 6, 4 and 1 with their bounds and records."""
    sequential, _, values = lgssm
    mask = jnp.arange(6)[None] < jnp.array([[6], [4], [1]])
    values = jnp.stack([values, -values, 0.5 * values])
    batch = make_batch(Sequence(values, mask), mask, jnp.array([4, 0, 9]))
    key = jax.random.key(5)
    return sequential, batch, key, *bound_of(Guided(sequential.model, FromPrior()), batch, key)


def pad(batch, num_steps, value):
    def pad(leaf):
        fill = jnp.full((len(leaf), num_steps, *leaf.shape[2:]), value).astype(leaf.dtype)
        return jnp.concatenate([leaf, fill], axis=1)

    mask = jnp.pad(batch.mask, ((0, 0), (0, num_steps)))
    return Batch(Sequence(pad(batch.x.values), mask), mask, batch.num_units, batch.rows)


def test_padding_changes_nothing(unequal):
    """Law: NaN in the padding there is, and three more steps of it, give the same bound, the same
    final weights and no resampling."""
    sequential, batch, key, bound, terms = unequal
    values = jnp.where(batch.mask[:, :, None], batch.x.values, jnp.nan)
    batch = eqx.tree_at(lambda b: b.x.values, batch, values)
    longer, more = bound_of(Guided(sequential.model, FromPrior()), pad(batch, 3, jnp.nan), key)
    assert_allclose(longer, bound, rtol=1e-12)
    assert_allclose(more.log_increments[:6], terms.log_increments, atol=1e-12)
    assert_array_equal(more.log_increments[6:], jnp.zeros((3, 6, 3)))
    assert_array_equal(more.ess[5], more.ess[-1])
    assert not more.resampled[6:].any()


def test_batch_neighbours_change_nothing(unequal):
    """Law: alone, or among others in another order, a sequence has the same bound. One neighbour
    that needs resampling makes the whole batch take the branch: it must not touch the others."""
    sequential, batch, key, bound, terms = unequal
    assert terms.resampled.any(1).sum() > terms.resampled.all(1).sum()
    for rows in ([0], [2, 0, 1]):
        part = jax.tree.map(lambda leaf, rows=rows: leaf[jnp.array(rows)], batch)
        assert_allclose(
            bound_of(Guided(sequential.model, FromPrior()), part, key)[0],
            bound[jnp.array(rows)],
            rtol=1e-12,
        )


def test_draws_belong_to_rows_and_not_to_places(unequal):
    """The law above must fail when keys come from the place in the batch."""
    sequential, batch, key, bound, _ = unequal
    by_place = eqx.tree_at(lambda b: b.rows, batch, jnp.arange(3))
    assert (bound_of(Guided(sequential.model, FromPrior()), by_place, key)[0] != bound).all()


def test_resampling_is_considered_at_multiples_of_every_only(unequal):
    """Definition: steps 0, 1, 3 and 5 keep their weights with every = 2, and step 0 always does."""
    sequential, batch, key, _, terms = unequal
    _, sparse = bound_of(Guided(sequential.model, FromPrior()), batch, key, every=2)
    assert terms.resampled[1::2].any()
    assert not sparse.resampled[1::2].any()
    assert sparse.resampled[2::2].any()
    assert not terms.resampled[0].any()


def test_ess_is_that_of_the_weights_after_the_step(unequal):
    """Definition: (sum w)^2 / sum w^2, with weights made equal where the step resampled."""
    *_, terms = unequal
    increments, resampled = np.asarray(terms.log_increments), np.asarray(terms.resampled)
    log_weights = np.zeros(increments.shape[1:])
    for t in range(len(increments)):
        log_weights = np.where(resampled[t], 0.0, log_weights) + increments[t]
        weights = np.exp(log_weights)
        assert_allclose(terms.ess[t], weights.sum(0) ** 2 / (weights**2).sum(0), rtol=1e-10)
        if t + 1 < len(increments):
            poor = (terms.ess[t] < 0.8 * 6) & terms.mask[t + 1]
            assert_array_equal(resampled[t + 1], poor)


def test_an_impossible_step_makes_the_bound_minus_infinity(hmm):
    """Edge: every particle has zero weight at step 1; no NaN, and steps after it change nothing.
    NaN in the data is passed on."""
    sequential, model, values = hmm
    logits = model.emission.logits.at[:, 3].set(-jnp.inf)
    impossible = eqx.tree_at(lambda s: s.model.emission.logits, sequential, logits)
    mask = jnp.ones((1, 6), bool)
    for threshold in (0.0, 0.5):
        run = eqx.filter_jit(partial(particle_filter, num_particles=4, threshold=threshold))
        terms = run(impossible, make_batch(Sequence(values[None], mask)), key=jax.random.key(0))
        assert filtering_log_marginal(terms)[0] == -jnp.inf
        assert terms.ess[1, 0] == 0
    broken = eqx.tree_at(
        lambda s: s.model.emission.logits, sequential, logits.at[:, 3].set(jnp.nan)
    )
    terms = run(broken, make_batch(Sequence(values[None], mask)), key=jax.random.key(0))
    assert jnp.isnan(filtering_log_marginal(terms)[0])


def test_many_calls_are_one_trace(unequal):
    """Other keys, rows, values and lengths of the same shapes do not compile anew."""
    sequential, batch, *_ = unequal

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def run(batch, key):
        return particle_filter(sequential, batch, num_particles=3, key=key).log_increments

    for index in range(3):
        other = eqx.tree_at(lambda b: b.rows, batch, batch.rows + index)
        run(eqx.tree_at(lambda b: b.mask, other, batch.mask[:, ::-1]), jax.random.key(index))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_particles": 0}, "`num_particles` is 0, but a filter needs at least one particle"),
        ({"threshold": 50}, "`threshold` is 50, but it is a fraction of `num_particles`"),
        ({"every": 0}, "`every` is 0, but it counts steps between resamplings"),
        (
            {"resampling": "systemic"},
            "'systemic', but the schemes are multinomial, residual, strat",
        ),
    ],
)
def test_calls_that_cannot_be_meant_are_refused(unequal, change, sentence):
    sequential, batch, key, *_ = unequal
    with pytest.raises(ValueError, match=sentence):
        particle_filter(sequential, batch, **{"num_particles": 2, "key": key} | change)
