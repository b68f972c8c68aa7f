"""Evidence about sequences, gathered from tiny setups: nothing is wrong with a healthy one, each planted
fault changes what it says it changes, and moves the number that its check reads."""

from dataclasses import fields, replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp

from fixtures.examinations import FAULTS, SUBJECTS, TRAPS, family_of
from tightbound.data.sequences import Sequence
from tightbound.data.strokes import Strokes
from tightbound.diagnose.checks import data as data_checks
from tightbound.diagnose.checks import steps as step_checks
from tightbound.diagnose.checks.probability import weights_average_to_the_marginal
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import gather as laws
from tightbound.diagnose.laws.gather import jit_once
from tightbound.diagnose.laws.steps import steps, with_padding, without_earlier_weights
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.families.sequences import planting as planting_sequences
from tightbound.families.sequences import recipe as recipes
from tightbound.families.sequences.checks import (
    drawing_undoes_the_transform,
    offsets_are_normalised,
)
from tightbound.families.sequences.details import offset_scale_of
from tightbound.families.sequences.laws import transform
from tightbound.inference.stepwise import filter_pair
from tightbound.models.stateful import proposed
from tightbound.unread import replaced

pytestmark = pytest.mark.usefixtures("compiled_once")

STEP_CHECKS = {
    "TB111": step_checks.padding_counts_for_nothing,
    "TB112": step_checks.steps_score_as_the_whole_does,
    "TB113": step_checks.past_ignores_the_future,
}
TRANSFORM_CHECKS = {
    "TB507": offsets_are_normalised,
    "TB508": drawing_undoes_the_transform,
}
DATA_CHECKS = {
    "TB501": data_checks.data_are_finite,
    "TB502": data_checks.data_can_be_drawn,
    "TB504": data_checks.rows_are_different,
    "TB505": data_checks.splits_are_disjoint,
    "TB509": data_checks.rows_have_steps,
}
PLANTED = {
    name: next(recipe for recipe in fault.recipes if family_of(recipe) == "sequences")
    for name, fault in FAULTS.items()
    if any(family_of(recipe) == "sequences" for recipe in fault.recipes)
}
FOUND_BY_LAWS = [
    "padding_counted",
    "padding_drives_the_state",
    "state_dropped_in_scores",
    "future_read",
    "not_normalised",
    "statistics_of_each_step",
    "own_statistics",
    "inverted_wrongly",
    "cut_from_index_one",
    "nan_among_offsets",
    "grey_rows_for_bits",
    "pen_as_gaussian",
    "trained_on_held_out_rows",
]


def of_sequences_alone(kind):
    """Faults that images have too are seen to change something there (`test_laws`)."""
    recipes_of = FAULTS[kind].recipes
    return all(family_of(recipe) == "sequences" for recipe in recipes_of) or kind == "large_heads"


def tiny(name):
    """The subject with a state of 4, one latent and short words."""
    recipe = SUBJECTS[name]
    sizes = {"latent_size": 1, "hidden_size": 4, "network_size": 4, "num_components": 2}
    short = {"num_letters": 1} if hasattr(recipe.data, "num_letters") else {}
    return replace(
        recipe,
        data=replace(recipe.data, **short),
        model=replaced(recipe.model, **sizes),
    ).build(0)


@pytest.fixture(scope="module")
def setups():
    """Without baselines, which no fault here touches: fitting them takes longer than the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "_baseline_rows", lambda *arguments: {})
        return {name: tiny(name) for name in sorted(set(PLANTED.values()))}


def batch_of(setup, size=4):
    """A few training rows as the model sees them."""
    batch = jax.tree.map(jnp.asarray, setup.data["train"].take(np.arange(size)))
    return batch if setup.noise is None else setup.noise(batch, jax.random.key(1))


def gathered(setup, code):
    """What the checks that are gathered with this one say."""
    pair, key = (setup.model, setup.proposal), jax.random.key(2)
    if code in STEP_CHECKS:
        checks = STEP_CHECKS
        group = steps(setup, pair, setup.data["train"].take(np.arange(4)), key, jit_once)
    elif code in DATA_CHECKS:
        checks, group = DATA_CHECKS, laws.data(setup, pair, key)
    elif code == "TB503":
        checks, group = {code: data_checks.splits_are_alike}, laws.splits(setup, key)
    else:
        checks, group = TRANSFORM_CHECKS, transform(setup)
    return {name: check(group) for name, check in checks.items()}


def test_nothing_is_wrong_with_a_healthy_setup(setups):
    """Scores move by rounding alone: in 64 bits by less than a millionth of the thresholds."""
    setup = setups["vrnn/toy-dmm"]
    pair, batch = (setup.model, setup.proposal), setup.data["train"].take(np.arange(4))
    found = steps(setup, pair, batch, jax.random.key(2), jit_once)
    for change in (found.future_change, found.padding_change, found.descent_change):
        assert change.max() < 1e-10
    assert found.padding_counted == 0
    for code in ("TB501", "TB503", "TB507"):
        assert {finding.verdict for finding in gathered(setup, code).values()} == {Verdict.OK}


def test_a_network_without_latents_has_a_mass_and_nothing_to_weigh(setups):
    """Oracle: the sum over all x of its twin, 16 of them, is 1."""
    recipe = TRAPS["vrnn/digits-no-latents"]
    build = partial(recipes._twin, recipe.model, recipe.objective)
    twin = laws.twin(replace(setups["vrnn/digits"], twin=build), jax.random.key(0))
    assert_allclose(logsumexp(twin.log_likelihood, axis=1), 0.0, atol=1e-10)
    assert twin.relative_weight.size == 0
    assert weights_average_to_the_marginal(twin).verdict is Verdict.NOT_RUN


@pytest.mark.parametrize("kind", FOUND_BY_LAWS)
def test_each_fault_is_found_under_its_own_code_and_first_cause(setups, kind):
    """And no other check of its group fires."""
    fault = FAULTS[kind]
    findings = gathered(fault.plant(setups[PLANTED[kind]]), fault.codes[0])
    assert {code for code, f in findings.items() if f.verdict is Verdict.FAULT} == set(fault.codes)
    assert findings[fault.codes[0]].causes[0] == fault.expected


# --- every fault changes something ---------------------------------------------------------------


def scores_and_draws(setup, healthy):
    """log p of fixed z on the healthy setup's rows, and log q of its own draws."""
    x = jax.tree.map(lambda leaf: leaf[0], batch_of(healthy).x)
    drawn = proposed(healthy.model, healthy.proposal, x).sample(jax.random.key(3))

    @jit_once
    def both(model, proposal):
        q = proposed(model, proposal, x)
        return model.score(x, drawn), q.sample(jax.random.key(4)), q.log_prob(drawn)

    return both(setup.model, setup.proposal)


def draws_of_observations(setup, healthy):
    return jit_once(lambda model: model.sample(jax.random.key(5))[1])(setup.model)


def value(setup, healthy):
    """The objective on the healthy setup's rows."""

    @jit_once
    def of_pair(pair):
        step = jnp.zeros((), int)
        return setup.objective(*pair, batch_of(healthy), key=jax.random.key(6), step=step)[0]

    return of_pair((healthy.model, healthy.proposal))


def three_updates(setup, healthy):
    parameters = eqx.filter((healthy.model, healthy.proposal), eqx.is_inexact_array)
    update, state = jax.jit(setup.optimiser.update), setup.optimiser.init(parameters)
    found = []
    for size in (1.0, -1e-3, 1e-6):
        gradient = jax.tree.map(lambda leaf, size=size: jnp.full_like(leaf, size), parameters)
        updates, state = update(gradient, state, parameters)
        found.append(updates)
    return found


def reported(setup, healthy):
    few = replace(laws.rows_of(healthy.data["valid"], np.arange(4)), groups=None)
    settings = {"noise": healthy.noise, "filtering": healthy.filtering}
    return setup.evaluator(
        *(healthy.model, healthy.proposal, few), num_samples=1, key=jax.random.key(7), **settings
    ).site_means


OBSERVATIONS = {
    "model": scores_and_draws,
    "proposal": scores_and_draws,
    "objective": value,
    "optimiser": three_updates,
    "data": lambda setup, healthy: {name: split.x for name, split in setup.data.items()},
    "noise": lambda setup, healthy: batch_of(setup).x,
    "evaluator": reported,
    "offset_scale": lambda setup, healthy: offset_scale_of(setup).undo(np.ones((1, 2))),
}


def differ(one, other):
    """Beyond rounding, anywhere; a NaN differs from a number."""
    ones, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return len(ones) != len(others) or any(
        np.shape(a) != np.shape(b) or not np.allclose(a, b, rtol=1e-6, atol=1e-9)
        for a, b in zip(ones, others, strict=True)
    )


@pytest.fixture(scope="module")
def observed(setups):
    """What the healthy setups do, each observed once."""
    cache = {}

    def observe(name, field):
        if (name, field) not in cache:
            cache[name, field] = OBSERVATIONS[field](setups[name], setups[name])
        return cache[name, field]

    return observe


@pytest.mark.parametrize(
    "kind", [k for k in PLANTED if of_sequences_alone(k) and k not in FOUND_BY_LAWS]
)
def test_a_fault_changes_the_law_the_gradient_or_the_reported_number(setups, observed, kind):
    """Whatever field of the setup it replaces does something else than before, on the same rows and
    draws; what the doctor is told is left alone. (Those found above have moved what was measured.)"""
    name = PLANTED[kind]
    healthy = setups[name]
    planted = FAULTS[kind].plant(healthy)
    touched = {
        field.name
        for field in fields(healthy)
        if getattr(healthy, field.name) is not getattr(planted, field.name)
    } - {"twin"}
    assert touched
    assert touched <= set(OBSERVATIONS)
    for field in touched:
        assert differ(OBSERVATIONS[field](planted, healthy), observed(name, field)), field


# --- what the plants are -------------------------------------------------------------------------


def test_the_wrong_event_size_is_the_logs_constant(setups):
    """Oracle: the log's 200 steps of 200 entries: 1/2 200 ln(2 pi) 200 = 36,757 nats, less the two
    entries that the density of x has by right."""
    entries, steps_of_a_line = 200, 200
    constant = 0.5 * entries * np.log(2 * np.pi) * steps_of_a_line
    assert round(constant) == 36_758  # the log read it off as 36,757
    score = {"x": jnp.zeros(()), "pen": jnp.zeros(())}
    wrong = planting_sequences.wrong_event_size(score, None, None)
    surplus = (entries - 2) / entries
    assert_allclose(-steps_of_a_line * wrong["x"], surplus * constant, rtol=1e-12)
    assert wrong["pen"] == 0


def test_weights_in_the_place_of_log_weights_have_no_mass_of_one(setups):
    """Oracle: quadrature of the mixture's density over the plane; sum_k exp(pi_k) if pi is added."""
    model = setups["vrnn/toy-strokes"].model
    law = model.likelihood(model.init(), jnp.zeros(1))
    wrong = planting_sequences.weights_for_log_weights(law)
    line, width = np.linspace(-9.0, 9.0, 181, retstep=True)
    grid = jnp.asarray(np.stack(np.meshgrid(line, line), -1).reshape(-1, 2))
    values = Strokes(grid, jnp.zeros(len(grid)))
    for found, mass in ((law, 1.0), (wrong, np.exp(np.exp(law.offset.log_weights)).sum())):
        log_p = jax.jit(jax.vmap(lambda x_t, found=found: found.log_prob(x_t)["x"]))(values)
        assert_allclose(np.exp(logsumexp(log_p)) * width**2, mass, rtol=1e-3)


def test_cutting_from_index_one_keeps_every_step(setups):
    """Oracle: the concatenation of all real steps, which a cut only divides."""
    split = setups["vrnn/toy-strokes"].data["train"]
    wrong = planting_sequences.cut_from_index_one(split)
    assert len(wrong) == len(split)
    assert wrong.num_units[0] == split.num_units[:2].sum()
    assert wrong.num_units[-1] == 0
    for of in (lambda s: s.x.values.offset[s.mask], lambda s: s.x.values.pen[s.mask]):
        np.testing.assert_array_equal(of(wrong), of(split))


def test_a_filter_that_always_resamples_has_no_earlier_weights(setups):
    """Then the mean of the increments is the estimate; at the usual threshold it is not."""
    setup = setups["vrnn/digits-fivo"]
    pair, batch = (setup.model, setup.proposal), batch_of(setup)

    def both(threshold):
        rule = replace(setup.filtering, threshold=threshold)
        terms = jit_once(lambda: filter_pair(*pair, batch, rule, key=jax.random.key(8)))()
        estimate = filtering_log_marginal(terms)
        return np.asarray(without_earlier_weights(terms)), np.asarray(estimate)

    assert_allclose(*both(1), rtol=1e-12)
    dropped, estimate = both(0.0)
    assert np.abs(dropped - estimate).max() > 1e-3


def test_appended_padding_holds_numbers_like_any_other(setups):
    batch = batch_of(setups["vrnn/toy-strokes"])
    longer = with_padding(batch, 3)
    assert isinstance(longer.x, Sequence)
    length = batch.mask.shape[1]
    np.testing.assert_array_equal(longer.x.values.offset[:, :length], batch.x.values.offset)
    np.testing.assert_array_equal(longer.x.values.offset[:, -1], batch.x.values.offset[:, 0])
    assert not np.asarray(longer.mask[:, length:]).any()
