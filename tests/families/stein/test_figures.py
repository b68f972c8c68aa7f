"""Figures of images and of mixtures. Oracles: NumPy on a decoder that ignores z, counts by hand, and
mixtures whose components are equal or far apart."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.data.batch import first_batch, first_rows
from tightbound.evaluation import evaluate
from tightbound.families.images.figures import figures as image_figures
from tightbound.families.lookup import find_recipe
from tightbound.families.stein.figures import (
    component_figures,
    component_usage,
    figures,
)
from tightbound.families.stein.settings import MixtureSettings
from tightbound.inference.reconstruction import reconstructions_by_component
from tightbound.models.auto_encoders import VAEModel
from tightbound.models.mean_field import MeanField
from tightbound.models.mixture import mixture
from tightbound.runs.evaluated import default_num_samples
from tightbound.train.run import first_state

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def digits():
    """A small mixture of two encoders, 12 test images and their evaluation."""
    recipe = replace(
        find_recipe("stein/digits"),
        model=VAEModel(latent_size=2, hidden_size=8),
        mixture=MixtureSettings(num_components=2),
    )
    setup = recipe.build(0)
    state, test = first_state(setup), first_rows(setup.data["test"], 12)
    evaluation = evaluate(
        state.model, state.proposal, test, num_samples=4, key=KEY, noise=setup.noise
    )
    return setup, state, test, evaluation


def test_reconstructions_are_held_against_grey_images(digits):
    """Oracle: a decoder that says 0.3 of every pixel misses a grey image g by (g - 0.3)^2. Planted:
    the binarised images, which the model saw."""
    setup, state, test, evaluation = digits
    last = state.model.decoder.layers[-1]
    flat = eqx.tree_at(
        lambda m: (m.decoder.layers[-1].weight, m.decoder.layers[-1].bias),
        state.model,
        (jnp.zeros_like(last.weight), jnp.full_like(last.bias, np.log(0.3 / 0.7))),
    )
    found = image_figures(setup, replace(state, model=flat), test, evaluation, 3)
    grey = np.asarray(test.x, float) / 16
    expected = np.square(grey - 0.3).mean(1)
    error = found["reconstruction"]
    assert_allclose(error.value, expected.mean(), rtol=1e-6)
    assert_allclose(error.standard_error, expected.std(ddof=1) / np.sqrt(12), rtol=1e-6)
    bits = np.random.default_rng(0).uniform(size=grey.shape) < grey
    assert abs(np.square(bits - 0.3).mean() - expected.mean()) > 0.02


def test_the_kl_is_what_the_latents_cost_the_elbo(digits):
    """Identity: ELBO = log p(x | z) - KL, on the evaluation's own draws."""
    setup, state, test, evaluation = digits
    found = image_figures(setup, state, test, evaluation, 3)["KL"]
    reconstruction = evaluation.log_p["x"].mean()
    assert_allclose(reconstruction - found.value, evaluation.log_weights.mean(), rtol=1e-10)


def test_images_without_grey_levels_and_other_data_have_no_reconstruction(digits):
    setup, state, test, evaluation = digits
    assert image_figures(replace(setup, noise=None), state, test, evaluation, 3) == {}


def test_usage_is_the_share_of_normalised_weights_by_hand():
    """Draw s is of component s mod 2: weights 1, 2, 3, 4 give 4/10 and 6/10, and the fifth draw, left
    over, does not count. Planted: components in blocks, 3/10 and 7/10."""
    weights = np.log([[1.0], [2.0], [3.0], [4.0], [100.0]])
    assert_allclose(component_usage(weights, 2), [[0.4], [0.6]])
    assert component_usage(weights[:1], 2) is None


@pytest.mark.parametrize(("apart", "entropy", "usage"), [(0.0, np.log(2), 0.5), (100.0, 0.0, 1.0)])
def test_equal_components_share_all_and_those_apart_nothing(apart, entropy, usage):
    """Identity: equal components have responsibilities of a half each; one far from the target has no
    weight. Oracle of the second: N(100, 1) against N(0, 1)."""
    setup = find_recipe("stein/gaussian").build(0)
    many = mixture(lambda key: MeanField(lambda key: jnp.zeros(10), key=key), 2, key=KEY)
    shift = jnp.stack([jnp.zeros(10), jnp.full(10, apart)])
    many = eqx.tree_at(lambda q: q.components.mean, many, shift)
    state, split = replace(first_state(setup), proposal=many), setup.data["valid"]
    evaluation = evaluate(setup.model, many, split, num_samples=2000, key=KEY)
    found = component_figures(setup, state, split, evaluation, KEY)
    assert_allclose(found["entropy of responsibilities (at most 0.693)"].value, entropy, atol=1e-6)
    assert_allclose(found["usage of component 0"].value, usage, atol=1e-6)
    assert found["usage of component 1"].unit == "share"


def test_points_without_a_density_have_no_responsibilities(digits):
    setup, state, test, evaluation = digits
    found = figures(replace(setup, is_bound=False), state, test, evaluation, seed=0)
    assert list(found) == ["reconstruction", "KL"]


def test_a_mixture_is_evaluated_with_a_draw_of_each_component(digits):
    _, state, test, _ = digits
    assert default_num_samples("elbo", test, state.proposal) == 2
    assert default_num_samples("iwae", test, state.proposal) == 100
    assert default_num_samples("fivo", test, state.proposal) == 1
    alone = eqx.filter(state.proposal, lambda leaf: False).shared
    assert default_num_samples("elbo", test, alone) == 1
    pooled = find_recipe("stein/line").build(0).data["test"]
    assert default_num_samples("elbo", pooled, state.proposal) == 100


def test_every_component_has_a_line_below_the_images(digits):
    """Identity: where the second component is made the first, their lines differ by draws alone, and
    with a decoder that ignores z not at all; the images stand above."""
    setup, state, _, _ = digits
    lines = reconstructions_by_component(
        state.model, state.proposal, first_batch(setup.data["valid"], 5), setup.noise, KEY
    )
    assert lines.shape == (3, 5, 8, 8)
    assert set(np.unique(lines[0])) <= {0.0, 1.0}
    assert np.abs(lines[1] - lines[2]).max() > 1e-3
    flat = eqx.tree_at(
        lambda m: m.decoder.layers[-1].weight,
        state.model,
        jnp.zeros_like(state.model.decoder.layers[-1].weight),
    )
    lines = reconstructions_by_component(
        flat, state.proposal, first_batch(setup.data["valid"], 5), setup.noise, KEY
    )
    assert_allclose(lines[1], lines[2], atol=1e-12)
