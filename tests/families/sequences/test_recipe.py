"""Recipes of sequences: their settings make the families they name, and what contradicts is refused."""

import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tightbound.data.batch import training_batches
from tightbound.errors import UserError
from tightbound.families.sequences.midi import write_midi
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.families.sequences.model_markov import DeepMarkovModel
from tightbound.families.sequences.objective import StepObjective
from tightbound.families.sequences.recipe import RECIPES
from tightbound.families.sources import with_source
from tightbound.models.stateful import FromPrior
from tightbound.terms import Kind
from tightbound.train.filtering import FilteringObjective
from tightbound.train.truncated import Truncated
from tightbound.unread import replaced

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)
DIGITS = RECIPES["vrnn/digits"]
MADE_UP = ("vrnn/toy-strokes", "vrnn/digits")
BY_FILE = ("vrnn/nottingham", "vrnn/piano-midi")  # built from a small file below


def changed(**model):
    return replaced(DIGITS, model=replaced(DIGITS.model, **model))


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
    setup = replaced(DIGITS, objective=objective).build(0)
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
    model = replaced(DIGITS.model, output=output)
    with pytest.raises(UserError, match="Strokes are offsets"):
        replaced(with_source(DIGITS, "data", source), model=model).build(0)


def own_file(source, folder):
    """A small file (MIDI: a folder) of what the source reads; its path."""
    random = np.random.default_rng(0)
    if source == "midi":
        for name in ("train/a", "train/b", "valid/c", "test/d"):
            roll = (random.random((6, 88)) < 0.2).astype(float)
            (folder / name).parent.mkdir(exist_ok=True)
            write_midi(roll, folder / f"{name}.mid", lowest_pitch=21)
        return folder
    path = folder / "own.npz"
    if source == "strokes":
        drawings = [random.normal(size=(7, 3)) for _ in range(12)]
        for one in drawings:
            one[:, 2] = [0, 0, 1, 0, 0, 0, 1]
        np.savez(path, *drawings)
    elif source == "pianorolls":
        np.savez(path, *[random.random((5 + n, 88)) < 0.2 for n in range(12)])
    else:  # what docs/data.md makes of a .mat
        arrays = {}
        for name, lengths in {"train": [7, 9, 4], "valid": [5, 6], "test": [9, 2]}.items():
            rolls = [(random.random((n, 88)) < 0.2).astype(np.uint8) for n in lengths]
            arrays[f"{name}_rolls"] = np.packbits(np.concatenate(rolls), axis=1)
            arrays[f"{name}_lengths"] = np.array(lengths, np.int32)
        np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("recipe", "source"),
    [
        ("vrnn/nottingham", "nottingham"),
        ("vrnn/piano-midi", "piano-midi"),
        ("vrnn/jsb", "jsb"),
        ("vrnn/jsb", "midi"),
        ("vrnn/muse", "pianorolls"),
        ("vrnn/omniglot", "strokes"),
        ("vrnn/handwriting", "strokes"),
    ],
)
def test_sequences_of_ones_own_are_built_and_scored(tmp_path, recipe, source):
    """Oracle: baselines are finite and those of the file's rows; no file named, no run."""
    changed = with_source(RECIPES[recipe], "data", source)
    if source != "jsb":
        with pytest.raises(UserError, match="path"):
            changed.build(0)
    data = replaced(changed.data, path=str(own_file(source, tmp_path)))
    model = replaced(changed.model, latent_size=2, hidden_size=3, network_size=3)
    run = replaced(changed.run, batch_size=2)
    setup = replaced(changed, data=data, model=model, run=run).build(0)
    assert setup.baseline_rows is not None
    assert len(setup.data["train"]) > 0
    for name, rows in setup.baseline_rows(setup.data["valid"]).items():
        assert len(rows) == len(setup.data["valid"])
        assert np.isfinite(setup.baselines[name].value)


@needs_data
@pytest.mark.parametrize("name", sorted({*RECIPES} - {*MADE_UP, *BY_FILE}))
def test_every_recipe_on_real_data_can_be_built_and_traced(name):
    """With a few rows where that can be said; baselines are finite, and known row by row."""
    recipe = RECIPES[name]
    if recipe.data.source in ("omniglot", "handwriting"):
        recipe = replaced(recipe, data=replaced(recipe.data, max_rows=80))
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
