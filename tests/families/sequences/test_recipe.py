"""Recipes of sequences: their settings make the families they name, and what contradicts is refused."""

import dataclasses
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tightbound.data.batch import training_batches
from tightbound.errors import UserError
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.families.sequences.model_markov import DeepMarkovModel
from tightbound.families.sequences.objective import StepObjective
from tightbound.families.sequences.recipe import RECIPES
from tightbound.models.stateful import FromPrior
from tightbound.terms import Kind
from tightbound.train.filtering import FilteringObjective
from tightbound.train.truncated import Truncated

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)
DIGITS = RECIPES["vrnn/digits"]
MADE_UP = ("vrnn/toy-strokes", "vrnn/digits")


def changed(**model):
    return dataclasses.replace(DIGITS, model=dataclasses.replace(DIGITS.model, **model))


@pytest.mark.parametrize(
    ("settings", "model", "proposal", "latents"),
    [
        ({}, VRNN, StepProposal, True),
        ({"learned_prior": False, "cell": "lstm"}, VRNN, StepProposal, True),
        ({"family": "rnn"}, VRNN, FromPrior, False),
        ({"family": "dmm", "smoothing": True}, DeepMarkovModel, StepProposal, True),
    ],
)
def test_settings_choose_the_family_and_its_proposal(settings, model, proposal, latents):
    setup = changed(**settings).build(0)
    assert isinstance(setup.model, model)
    assert isinstance(setup.proposal, proposal)
    assert (Kind.LATENT in setup.model.kinds.values()) is latents


def test_a_filter_is_trained_and_judged_with_the_same_settings():
    objective = StepObjective("fivo", num_samples=4, threshold=0.9, resampling="stratified")
    setup = dataclasses.replace(DIGITS, objective=objective).build(0)
    assert isinstance(setup.objective, FilteringObjective)
    assert setup.filtering == setup.objective.filtering
    assert setup.filtering is not None
    assert (setup.filtering.num_particles, setup.filtering.threshold) == (4, 0.9)


@pytest.mark.parametrize("estimator", ["elbo", "fivo"])
def test_windows_wrap_the_objective_they_truncate(estimator):
    built = StepObjective(estimator, num_samples=2, truncate=3, backpropagate=5).build()
    assert isinstance(built, Truncated)
    assert (built.stride, built.span) == (3, 5)
    assert built.inner.estimator == estimator


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (StepObjective("fivo", kl_weight=0.5), "'fivo', which has no such parts"),
        (StepObjective("fivo", path="stop_proposal"), "'fivo', which has no such parts"),
        (StepObjective("iwae", num_samples=2, path="stop_proposal"), "sticking the landing"),
        (StepObjective("fivo", resampling_gradient="kept"), "Use 'multinomial' and threshold 1"),
        (StepObjective(backpropagate=5), "truncate"),
    ],
)
def test_objectives_that_contradict_themselves_are_refused(objective, sentence):
    with pytest.raises(UserError, match=sentence):
        objective.build()


@pytest.mark.parametrize(
    ("source", "output"), [("digits", "mixture"), ("toy-strokes", "bernoulli")]
)
def test_an_output_law_that_does_not_fit_the_data_is_refused(source, output):
    data = dataclasses.replace(DIGITS.data, source=source)
    model = dataclasses.replace(DIGITS.model, output=output)
    with pytest.raises(UserError, match="Strokes are offsets"):
        dataclasses.replace(DIGITS, data=data, model=model).build(0)


@needs_data
@pytest.mark.parametrize("name", sorted(set(RECIPES) - set(MADE_UP)))
def test_every_recipe_on_real_data_can_be_built_and_traced(name):
    """With a few rows where that can be said; baselines are finite, and known row by row."""
    recipe = RECIPES[name]
    if recipe.data.source in ("omniglot", "handwriting"):
        recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, max_rows=80))
    setup = recipe.build(0)
    assert np.isfinite([b.value for b in setup.baselines.values()]).all()
    assert setup.baseline_rows is not None
    for name, rows in setup.baseline_rows(setup.data["valid"]).items():
        np.testing.assert_allclose(rows.mean(), setup.baselines[name].value, rtol=1e-6)
    size = min(setup.run.batch_size, len(setup.data["train"]))
    batch = jax.tree.map(jnp.asarray, next(training_batches(setup.data["train"], size, seed=0)))

    def raised(model, proposal):
        at = {"key": jax.random.key(0), "step": jnp.zeros((), int)}
        return setup.objective(model, proposal, batch, **at)[0]

    assert eqx.filter_eval_shape(raised, setup.model, setup.proposal).shape == ()
