"""Evidence of mixtures from real setups, and the bugs that it must show."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from tightbound.diagnose.checks import mixtures as checks
from tightbound.diagnose.checks import objective as objective_checks
from tightbound.diagnose.checks import optimisation, probability
from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.laws import gather as laws
from tightbound.diagnose.laws.gather import jit_once
from tightbound.diagnose.laws.mixtures import (
    distances,
    interaction,
    log_q_candidates,
    norms,
    worth_of_components,
)
from tightbound.diagnose.probes import make_probe, probe_batches, repeated
from tightbound.diagnose.refused import watch_guard
from tightbound.drill import planting
from tightbound.families.stein import planting as planting_stein
from tightbound.families.stein import recipe_points as stein_points
from tightbound.families.stein import recipe_targets as stein_targets
from tightbound.families.stein.settings import MixtureSettings
from tightbound.inference.weigh import weigh
from tightbound.train.loop import fit
from tightbound.train.run import batches_of, first_state, run_keys

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def target():
    """Three components on N(0, I) in two dimensions."""
    recipe = stein_targets.RECIPES["stein/gaussian"]
    small = replace(recipe.target, latent_size=2)
    return replace(recipe, target=small, mixture=MixtureSettings(num_components=3, draws=2)).build(
        0
    )


@pytest.fixture(scope="module")
def line():
    """A regression on 20 points, of which a step sees five."""
    recipe = stein_points.RECIPES["stein/line"]
    return replace(
        recipe,
        data=replace(recipe.data, num_points=20),
        run=replace(recipe.run, batch_size=5),
    ).build(0)


def pair_of(setup):
    return setup.model, setup.proposal


# --- the repulsion -------------------------------------------------------------------------------


def test_a_repulsion_spreads_components_missing_it_does_not_and_turned_it_gathers(target):
    """Without a gradient. Planted: the force written anew, times 0 and times -1."""
    cosine = {
        factor: interaction(plant(target), pair_of(target), jit_once).spreading
        for factor, plant in {
            1: lambda setup: setup,
            0: planting_stein.with_repulsion_times(0.0),
            -1: planting_stein.with_repulsion_times(-1.0),
        }.items()
    }
    assert cosine[1] > 0.5
    assert cosine[0] == 0.0
    assert cosine[-1] < -0.5


def test_equal_components_have_no_repulsion_to_speak_of(target):
    equal = planting_stein.equal_at_start(target)
    assert np.isnan(interaction(equal, pair_of(equal), jit_once).spreading)


def test_norms_and_distances_are_those_of_all_parameters_of_a_component(target):
    """Oracle: NumPy, on the parameters of each component in one row."""
    own = eqx.filter(target.proposal.components, eqx.is_inexact_array)
    rows = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(own)], axis=1)
    assert_allclose(norms(own), np.linalg.norm(rows, axis=1), rtol=1e-6)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert_allclose(distances(own), apart, rtol=1e-6)


# --- the density ---------------------------------------------------------------------------------


def test_ways_to_reduce_over_components_are_computed_from_the_draws_of_weigh(target):
    """Oracle: `weigh` itself for the mixture; its sums over a batch of three, written out."""
    batch = repeated(probe_batches(target)[0], 3)
    key = jax.random.key(3)
    terms = weigh(*pair_of(target), batch, num_samples=6, key=key)
    per_datum, over_batch, own, num_components = log_q_candidates(
        pair_of(target), batch, key, 6, jit_once
    )
    assert num_components == 3
    assert_allclose(per_datum, terms.log_proposal.mean(), rtol=1e-6)
    mixture = target.proposal.proposal(jnp.asarray(batch.x[0]))

    def each(row):
        z = mixture.sample_strata(jax.random.split(jax.random.fold_in(key, row), 6))
        return np.asarray(jax.vmap(mixture.component_log_probs)(z))

    scores = np.stack([each(row) for row in range(3)])  # rows, samples, components
    assert_allclose(
        over_batch, (logsumexp(scores.sum(0), axis=1) - np.log(3)).mean() / 3, rtol=1e-6
    )
    drawn_by = np.arange(6) % 3
    assert_allclose(own, scores[:, np.arange(6), drawn_by].mean(), rtol=1e-6)


def test_the_mixture_over_a_minibatch_is_what_its_plant_subtracts(target):
    """Identity on random scores: what the evidence calls it, and what the planted objective does."""
    each = np.random.default_rng(0).normal(size=(4, 5, 3))
    expected = (logsumexp(each.sum(0), axis=1) - np.log(3)).mean() / 4
    assert_allclose(planting_stein.mixed_over_batch(jnp.asarray(each)), expected)
    own = np.mean([each[:, s, s % 3] for s in range(5)])
    assert_allclose(planting_stein.own_component_only(jnp.asarray(each)), own)


@pytest.mark.parametrize(
    ("plant", "code", "cause"),
    [
        (planting.with_proposal(planting_stein.WithoutLogM), "TB116", "log_m_missing"),
        (planting_stein.force_norm_as_loss, "TB201", "force_norm_as_loss"),
        (planting_stein.nothing_held_constant, "TB202", "component_constants_missing"),
        (lambda setup: setup, None, None),
    ],
    ids=["log m", "force norm", "constants", "nothing"],
)
def test_what_is_wrong_with_the_objective_of_a_mixture_is_named(target, plant, code, cause):
    setup = plant(target)
    found = laws.objective(setup, first_state(setup), jax.random.key(1))
    findings = [
        checks.mixture_is_per_datum(found),
        objective_checks.objective_is_its_claim(found),
        objective_checks.gradient_is_the_slope(found),
    ]
    named = {f.code: f.causes[0].name for f in findings if f.causes}
    assert named == ({} if code is None else {code: cause})


def test_a_missing_minibatch_weight_is_named(line):
    """A point that stands for two in the probe's batch of half the points stands for itself."""
    setup = planting_stein.weight_missing(line)
    found = laws.objective(setup, first_state(setup), jax.random.key(1))
    assert found.point_weight == 2.0
    finding = objective_checks.objective_is_its_claim(found)
    assert finding.causes[0].name == "minibatch_weight_missing"


def test_a_constraint_applied_twice_is_found_with_one_row_only(target):
    """Stein's identity of draws of the one row that a target has; that of the right mixture is 0."""
    key = jax.random.key(2)
    right, wrong = (
        probability.proposal_draws_what_it_scores(laws.scores(setup, pair_of(setup), key))
        for setup in (target, planting.with_proposal(planting_stein.constrained_again)(target))
    )
    assert (right.verdict.value, wrong.verdict.value) == ("OK", "FAULT")
    assert wrong.measured > 8 * right.threshold / 6  # standard errors
    assert wrong.causes[0].name == "sampled_and_scored_scales_differ"


# --- the probe -----------------------------------------------------------------------------------


def test_components_share_the_bound_and_the_weights(target):
    """Shares sum to 1; far apart, responsibilities have no entropy, and equal components log m."""
    batch = probe_batches(target)[2]
    for setup, entropy in ((target, 0.0), (planting_stein.equal_at_start(target), np.log(3))):
        far = eqx.tree_at(
            lambda q: q.components.mean, setup.proposal, 20 * setup.proposal.components.mean
        )
        found = worth_of_components(setup.model, far, batch, jax.random.key(4))
        assert_allclose(found["usage"].sum(), 1.0, rtol=1e-5)
        assert_allclose(found["entropy"], entropy, atol=1e-5)


def test_a_component_that_is_never_drawn_and_one_that_never_moves_are_named(target):
    """From one probe of the untrained mixture; the right one moves all three."""
    expected = {
        "component_never_drawn": planting.with_proposal(planting_stein.drawing_from_one),
        "component_never_moves": planting.with_optimiser(planting_stein.moving_one_component),
    }
    for name, plant in expected.items():
        setup = plant(target)
        finding = checks.every_component_moves([make_probe(setup)(first_state(setup))])
        assert finding.causes[0].name == name
    evidence = make_probe(target)(first_state(target))
    assert evidence.line.same.shape == (5, 20)  # draws of the one row stand for rows
    assert checks.every_component_moves([evidence]).verdict.value == "OK"
    assert evidence.guard.step == -1
    # the stated force is what the optimiser is given: attraction sums k(x, y) of at most 1
    gradient = evidence.components.gradient_norm
    assert np.all(evidence.components.attraction_norm <= 3 * gradient.sum() * (1 + 1e-5))


# --- a refused step ------------------------------------------------------------------------------


def test_a_refused_step_is_replayed_to_its_points_and_component(line):
    """A target of NaN is met at a step that a guard refuses: the point is named, whatever came first."""
    train = line.data["train"]
    bad = np.array(train.x.target)
    bad[13] = np.nan
    broken = replace(train, x=eqx.tree_at(lambda x: x.target, train.x, bad))
    setup = replace(line, data=dict(line.data) | {"train": broken})
    _, key, _ = run_keys(setup.seed)
    records = fit(first_state(setup), batches_of(setup), setup.objective, setup.optimiser, key=key)
    for record in records:
        if record.step == 6:  # four steps see every point
            break
    guard = watch_guard(setup)(record.state)
    assert 0 <= guard.step <= 3
    assert guard.rows.tolist() == [13]
    assert dict(zip(guard.names, guard.bad_scores > 0, strict=True)) == {"theta": False, "y": True}
    assert guard.components.tolist() == [0, 1, 2]  # every component has draws at every point
    finding = optimisation.values_are_finite([Evidence(step=6, guard=guard)])
    assert "site y" in finding.where
    assert "training rows 13" in finding.where
