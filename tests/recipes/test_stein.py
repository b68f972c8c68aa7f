"""Recipes of Stein mixtures: built as their settings say, and what cannot be meant is refused."""

import contextlib
import io
import os
from dataclasses import replace
from itertools import islice

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.cli import main
from tightbound.data.batch import training_batches
from tightbound.diagnose.laws.mixtures import interaction_of
from tightbound.families.lookup import find_recipe
from tightbound.families.stein.recipe_encoders import RECIPES as AUTO_ENCODERS
from tightbound.families.stein.recipe_points import RECIPES as POINTS
from tightbound.families.stein.recipe_targets import RECIPES as TARGETS
from tightbound.inference.kernels import (
    RBF,
    InverseMultiquadric,
    KernelMixture,
    Linear,
    PerSite,
)
from tightbound.models.mean_field import FullRank, MeanField, PointMass
from tightbound.models.mixture import Mixture
from tightbound.train.loop import fit
from tightbound.train.run import first_state
from tightbound.train.settings import OptimiserSettings
from tightbound.unread import replaced

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)
MADE_UP = (*TARGETS, "stein/line", "stein/two-classes", "stein/wave", "stein/digits")
GAUSSIAN = find_recipe("stein/gaussian")


def small(name):
    """The recipe with two components and the smallest network that it can have."""
    recipe = find_recipe(name)
    if name in AUTO_ENCODERS:
        model = replace(recipe.model, latent_size=2, hidden_size=3)
        recipe = replace(recipe, model=model)
    elif name in POINTS:
        recipe = replace(recipe, model=replaced(recipe.model, hidden_sizes=(3,)))
    return replace(recipe, mixture=replace(recipe.mixture, num_components=2))


def mixed(**settings):
    return replace(GAUSSIAN, mixture=replaced(GAUSSIAN.mixture, **settings)).build(0)


@pytest.mark.parametrize("name", MADE_UP)
def test_every_recipe_without_files_takes_steps_that_move_every_component(name):
    """After two updates every array of every component is a number, and another one than before."""
    setup = small(name).build(0)
    batches = islice(training_batches(setup.data["train"], setup.run.batch_size, seed=0), 2)
    before = eqx.filter(setup.proposal, eqx.is_array)
    *_, last = fit(
        first_state(setup),
        batches,
        setup.objective,
        setup.optimiser,
        key=jax.random.key(0),
        noise=setup.noise,
    )
    after = eqx.filter(last.state.proposal, eqx.is_array)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert len(new) == 2
        assert np.isfinite(new).all()
        assert (np.abs(new - old).reshape(2, -1).max(1) > 0).all()


@pytest.mark.parametrize(
    ("method", "component", "is_bound", "temperature"),
    [
        ("stein", MeanField, True, [1.0, 1.0]),
        ("svgd", PointMass, False, [0.2, 0.2]),
        ("annealed-svgd", PointMass, False, [0.2 * (1 / 500) ** 10, 0.2]),
    ],
)
def test_the_method_says_what_components_are_and_how_warm(method, component, is_bound, temperature):
    """By hand, of five components: the temperature before the first and after the last of 5,000 steps."""
    setup = mixed(method=method, draws=2)
    assert isinstance(setup.proposal, Mixture)
    assert isinstance(setup.proposal.components, component)
    assert setup.is_bound is is_bound
    assert setup.objective.num_samples == (10 if is_bound else 5)  # a point has one draw
    found = [float(setup.objective.temperature(jnp.asarray(step))) for step in (0, 4999)]
    assert_allclose(found, temperature, rtol=1e-6)


def test_a_single_guide_has_the_draws_of_all_components():
    """Equal steps are equal work; and nothing acts between components that are not there."""
    setup = mixed(method="single-guide", draws=2)
    assert isinstance(setup.proposal, MeanField)
    assert setup.objective.num_samples == 10
    assert interaction_of(setup) is None
    guide = replace(GAUSSIAN.guide, family="full-rank")
    setup = replace(GAUSSIAN, guide=guide).build(0)
    assert isinstance(setup.proposal.components, FullRank)


@pytest.mark.parametrize(
    ("kernel", "per_site", "expected"),
    [
        ("rbf", False, RBF()),
        ("imq", False, InverseMultiquadric()),
        ("linear", True, PerSite(Linear())),
        ("rbf-and-imq", False, KernelMixture((RBF(), InverseMultiquadric()), (0.5, 0.5))),
    ],
)
def test_the_settings_choose_the_kernel(kernel, per_site, expected):
    setup = mixed(kernel=kernel, per_site=per_site, repulsion=0.3)
    assert interaction_of(setup) is not None
    assert interaction_of(setup).kernel == expected
    assert (interaction_of(setup).repulsion, interaction_of(setup).num_rows) == (0.3, 1)


def test_a_decoder_can_have_a_rate_of_its_own():
    """By hand: under plain descent a slope of 1 in everything moves the decoder by its own rate; one
    encoder moves by its own. Planted: one rate for both."""
    recipe = small("stein/digits")
    mixture = replace(recipe.mixture, num_components=1, model_rate=0.01)
    rule = OptimiserSettings("sgd", learning_rate=0.5)
    setup = replace(recipe, mixture=mixture, optimiser=rule).build(0)
    assert interaction_of(setup).num_rows == len(setup.data["train"])
    parameters = eqx.filter((setup.model, setup.proposal), eqx.is_inexact_array)
    slope = jax.tree.map(jnp.ones_like, parameters)

    @jax.jit
    def moved(slope, parameters):
        return setup.optimiser.update(slope, setup.optimiser.init(parameters), parameters)[0]

    of_model, of_proposal = moved(slope, parameters)
    for leaf in jax.tree.leaves(of_model):
        assert_allclose(leaf, -0.01, rtol=1e-6)
    for leaf in jax.tree.leaves(of_proposal):
        assert_allclose(leaf, -0.5, rtol=1e-6)


@needs_data
@pytest.mark.parametrize("name", sorted({*POINTS, *AUTO_ENCODERS} - set(MADE_UP)))
def test_every_recipe_on_real_data_can_be_built_and_traced(name):
    """The objective is a number; baselines are finite."""
    setup = find_recipe(name).build(0)
    assert np.isfinite([b.value for b in setup.baselines.values()]).all()
    batch = next(training_batches(setup.data["train"], setup.run.batch_size, seed=0))
    batch = jax.tree.map(jnp.asarray, batch)

    def raised(model, proposal):
        seen = batch if setup.noise is None else setup.noise(batch, jax.random.key(1))
        at = {"key": jax.random.key(0), "step": jnp.zeros((), int)}
        return setup.objective(model, proposal, seen, **at)[0]

    assert eqx.filter_eval_shape(raised, setup.model, setup.proposal).shape == ()


@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        ("stein/gaussian", ["--mixture.num-components", "0"], "One component is a single guide"),
        ("stein/gaussian", ["--mixture.draws", "0"], "both must be at least 1"),
        ("stein/gaussian", ["--mixture.temperature", "0"], "must be above 0"),
        ("stein/gaussian", ["--mixture.repulsion", "-1"], "must not be negative"),
        ("stein/gaussian", ["--mixture.repulsion", "nan"], "must not be negative"),
        ("stein/gaussian", ["--guide.start-scale", "0"], "a scale must be above 0"),
        ("stein/gaussian", ["--target.latent-size", "0"], "give at least 1"),
        (
            "stein/gaussian",
            ["--mixture.method", "svgd", "--mixture.temperature", "2"],
            "nothing reads it where `method` is 'svgd'",
        ),
        (
            "stein/gaussian",
            ["--mixture.method", "annealed-svgd", "--mixture.cycles", "1"],
            "least 2 cycles",
        ),
        ("stein/digits", ["--mixture.method", "svgd"], "these belong to single images"),
        ("stein/line", ["--model.family", "logistic"], "was combined with the data 'line'"),
        ("stein/line", ["--data.path", "own.csv"], "but data.source is 'line'"),
        ("stein/yacht", ["--data.num-points", "9"], "is a setting of 'line'"),
        ("stein/yacht", ["--data.source", "csv"], "give --data.path FILE"),
        ("stein/yacht", ["--data.source", "csv", "--data.path", "no.csv"], "no such file"),
        ("stein/line", ["--run.batch-size", "101"], "Lower the batch size to at most 100"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_is_written(
    tmp_path, recipe, settings, words
):
    """The sentence, on standard error; exit code 2; no folder."""
    folder, err = tmp_path / "run", io.StringIO()
    with contextlib.redirect_stderr(err):
        try:
            code = main(["train", recipe, "--run-dir", str(folder), *settings])
        except SystemExit as stop:  # tyro ends the process where options are wrong
            code = stop.code
    said = " ".join(err.getvalue().replace("│", " ").split())
    assert code == 2, said
    assert words in said
    assert "Traceback" not in said
    assert not (folder / "recipe.json").exists()
