"""Evidence about language models, gathered from tiny setups: nothing is wrong with healthy ones, and each
planted fault is found under its own code by its own first cause."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from fixtures.examinations import FAULTS, SUBJECTS, family_of
from tightbound.data.batch import rows_of
from tightbound.data.sentences import EOS, NUM_MARKS
from tightbound.diagnose.checks import steps as step_checks
from tightbound.diagnose.checks.evaluation import evaluator_is_plain
from tightbound.diagnose.checks.optimisation import gradients_are_forgotten
from tightbound.diagnose.checks.probability import likelihood_is_normalised
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import gather as laws
from tightbound.diagnose.laws.gather import jit_once
from tightbound.diagnose.laws.steps import lag_changes, steps
from tightbound.diagnose.watch import source_of_held_out
from tightbound.families.language import planting as planting_language
from tightbound.families.language.checks import components_differ, symbols_stand_in_training
from tightbound.families.language.details import vocabulary_of
from tightbound.families.language.laws import (
    component_differences,
    mixtures_on_host,
    new_symbols,
)
from tightbound.unread import replaced

pytestmark = pytest.mark.usefixtures("compiled_once")

OF_LANGUAGE = [
    name
    for name, fault in FAULTS.items()
    if all(family_of(recipe) == "language" for recipe in fault.recipes)
]


def tiny(name, **settings):
    """The subject with states of 4 and 80 training sentences."""
    recipe = SUBJECTS[name]
    sizes = {"size": 4, "num_components": 32 if "factorial" in name else 4} | settings
    return replace(
        recipe,
        data=replace(recipe.data, max_rows=80),
        model=replaced(recipe.model, **sizes),
        run=replace(recipe.run, batch_size=2),
    ).build(0)


@pytest.fixture(scope="module")
def setups():
    names = {FAULTS[kind].recipes[0] for kind in OF_LANGUAGE}
    return {name: tiny(name) for name in sorted(names)}


def mixtures(setup):
    """As a probe gathers them, along the gradient of the objective at step 0."""
    parameters, static = eqx.partition(setup.model, eqx.is_inexact_array)
    batch = setup.data["train"].take(np.arange(4))

    def value(parameters):
        model = eqx.combine(parameters, static)
        key, step = jax.random.key(0), jnp.zeros((), int)
        return setup.objective(model, setup.proposal, batch, key=key, step=step)[0]

    @jit_once
    def found(parameters):
        model = eqx.combine(parameters, static)
        return component_differences(model, jax.grad(value)(parameters))

    return mixtures_on_host(setup.model, jax.device_get(found(parameters)))


def of_steps(setup):
    pair, rows = (setup.model, setup.proposal), setup.data["train"].take(np.arange(4))
    return steps(setup, pair, rows, jax.random.key(2), jit_once)


GATHERED = {
    "TB101": (lambda s: laws.twin(s, jax.random.key(3)), likelihood_is_normalised),
    "TB113": (of_steps, step_checks.past_ignores_the_future),
    "TB114": (of_steps, step_checks.steps_see_the_one_before),
    "TB213": (lambda s: laws.optimiser(s, (s.model, s.proposal)), gradients_are_forgotten),
    "TB404": (mixtures, components_differ),
    "TB510": (new_symbols, symbols_stand_in_training),
    "TB601": (
        lambda s: laws.evaluator(s, (s.model, s.proposal), jax.random.key(4)),
        evaluator_is_plain,
    ),
}


def said(setup, code):
    gather, check = GATHERED[code]
    return check(gather(setup))


@pytest.mark.parametrize("code", [code for code in GATHERED if code != "TB114"])
def test_nothing_is_wrong_with_a_healthy_setup(setups, code):
    """A window with dropout, trained under noise; of mixtures, the LSTM. One gathering of steps answers
    for both of their checks."""
    setup = setups["dlm/toy-grammar" if code == "TB404" else "dlm/toy-window"]
    gather, check = GATHERED[code]
    found = gather(setup)
    assert check(found).verdict is Verdict.OK
    if code == "TB113":
        assert step_checks.steps_see_the_one_before(found).verdict is Verdict.OK
        assert found.future_change.max() < 1e-10
        assert found.padding_change.max() < 1e-10


ELSEWHERE = ("large_embedding", "log_q_per_position")  # below, and in diagnose/laws/test_joint.py


@pytest.mark.parametrize("kind", [k for k in OF_LANGUAGE if k not in ELSEWHERE])
def test_each_fault_is_found_under_its_own_code_and_first_cause(setups, kind):
    """On the first of its recipes, from the evidence that its check reads and nothing else."""
    fault = FAULTS[kind]
    finding = said(fault.plant(setups[fault.recipes[0]]), fault.codes[0])
    assert finding.verdict is Verdict.FAULT
    assert finding.causes[0] == fault.expected


def test_large_embeddings_are_worse_than_knowing_nothing(setups):
    """Oracle: TB217's own measure, -log p of the untrained model over that of uniform words: beyond the
    threshold of 3 with the fault and below it without."""
    setup = setups["dlm/toy-grammar"]
    batch = setup.data["valid"].take(np.arange(8))
    uniform = np.log(len(vocabulary_of(setup)) - EOS) * batch.num_units.sum()
    cost = jit_once(lambda model: -jax.vmap(lambda x: model.score(x, None)["token"].sum())(batch.x))
    assert cost(setup.model).sum() < 1.5 * uniform
    assert cost(planting_language.large_embedding(setup).model).sum() > 3 * uniform


# --- lags ----------------------------------------------------------------------------------------


def test_a_word_moves_the_scores_within_its_window_and_no_others(setups):
    """Oracle: the window, of five words and of two; beyond it the change is exactly 0. Planted: shifted
    once more, the newest word has no say, and one further back has."""

    def lags(setup):
        batch = jax.tree.map(jnp.asarray, setup.data["train"].take(np.arange(4)))
        found = jit_once(lag_changes)(setup.model, setup.proposal, batch, jax.random.key(0))
        return list(np.asarray(found) > 1e-3), list(np.asarray(found) == 0.0)

    wide, narrow = setups["dlm/toy-window"], tiny("dlm/toy-window", window=2)
    assert lags(wide) == ([True] * 5, [False] * 5)
    assert lags(narrow) == ([True] * 2 + [False] * 3, [False] * 2 + [True] * 3)
    left_out = planting_language.with_inputs(planting_language.shifted_again)
    moved, still = lags(left_out(narrow))
    assert moved == [False, True, True, False, False]
    assert still == [True, False, False, True, True]


# --- mixtures ------------------------------------------------------------------------------------


def test_the_difference_of_components_is_that_of_their_distributions(setups):
    """Oracle: log softmax of the logits in NumPy, and its central difference along a direction."""
    model = setups["dlm/toy-grammar"].model
    parameters = eqx.filter(model, eqx.is_inexact_array)
    direction = jax.tree.map(lambda leaf: jnp.sin(jnp.arange(leaf.size) * 1.0), parameters)
    direction = jax.tree.map(lambda d, leaf: d.reshape(leaf.shape), direction, parameters)

    def log_components(shift):
        moved = eqx.apply_updates(model, jax.tree.map(lambda d: shift * d, direction))
        components, table = moved.structure.emission.components, np.asarray(moved.embedding)[EOS:]
        vectors = np.asarray(components.vectors)
        vectors = vectors / np.sqrt(vectors.var(1, keepdims=True) + 1e-8)
        logits = np.exp(np.asarray(components.log_scale))[:, None] * vectors @ table.T
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    slope = (log_components(1e-5) - log_components(-1e-5)) / 2e-5
    found = mixtures_on_host(
        model, jax.device_get(jit_once(component_differences)(model, direction))
    )
    assert list(found.names) == ["structure.emission.components"]
    assert list(found.num_components) == [4]
    assert_allclose(found.difference[0], np.ptp(log_components(0.0), axis=0).max(), rtol=1e-10)
    assert_allclose(found.motion[0], np.ptp(slope, axis=0).max() / np.abs(slope).max(), rtol=1e-6)


def test_equal_vectors_with_weights_of_their_own_part_at_the_first_step(setups):
    """Nothing is wrong by construction there: the gradient of each is as large as its weight."""
    setup = setups["dlm/toy-grammar"]
    where = lambda model: model.structure.emission.components.vectors  # noqa: E731
    alike = jnp.broadcast_to(where(setup.model)[:1], where(setup.model).shape)
    found = mixtures(replace(setup, model=eqx.tree_at(where, setup.model, alike)))
    assert found.difference[0] < 1e-12
    assert found.motion[0] > 1e-3
    assert components_differ(found).verdict is Verdict.OK


def test_a_model_without_a_mixture_has_none(setups):
    assert mixtures(setups["dlm/toy-window"]) is None


# --- symbols and source --------------------------------------------------------------------------


def test_new_words_are_counted_and_the_unknown_one_is_none(setups):
    """Oracle: sets. The word that no training sentence has is put there by hand, and so is UNKNOWN."""
    setup = setups["dlm/toy-grammar"]
    train, valid = setup.data["train"], setup.data["valid"]
    word = valid.x.values[0, 0]
    without = rows_of(train, np.flatnonzero(~(train.x.values == word).any(1)))
    found = new_symbols(replace(setup, data=dict(setup.data) | {"train": without}))
    known = set(without.x.values.ravel())
    new = [w for w in valid.x.values.ravel() if w >= NUM_MARKS and w not in known]
    place = list(found.split_names).index("valid")
    assert found.num_new[place] == len(set(new)) >= 1
    assert_allclose(found.new_share[place], len(new) / (valid.x.values >= NUM_MARKS).sum())
    unknown = np.where(np.isin(valid.x.values, new), NUM_MARKS, valid.x.values)
    data = {"train": without, "valid": replace(valid, x=replace_values(valid.x, unknown))}
    assert new_symbols(replace(setup, data=data)).num_new.tolist() == [0, 0]


def replace_values(x, values):
    return eqx.tree_at(lambda x: x.values, x, values)


def test_the_source_is_known_per_sentence(setups):
    """Minus the entropy per unit of the grammar times the units of a held-out sentence."""
    setup = setups["dlm/toy-grammar"]
    source = source_of_held_out(setup)
    units = setup.data["valid"].num_units
    assert_allclose(source.value * len(units), -setup.entropy.value * units.sum(), rtol=1e-12)
    assert source.unit == "nats per sequence"
    assert source_of_held_out(replace(setup, entropy=None)) is None
