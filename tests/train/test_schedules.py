"""Schedules and optimisers are their closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.errors import UserError
from tightbound.train.objective import always_one
from tightbound.train.schedules import kl_weight_schedule, learning_rate_schedule, optimiser
from tightbound.train.settings import (
    ObjectiveSettings,
    OptimiserSettings,
    PlateauSettings,
    RunSettings,
)

STEPS = np.arange(100)


def values(schedule):
    return np.array([schedule(jnp.asarray(step)) for step in STEPS], float)


def rates(**settings):
    return values(learning_rate_schedule(OptimiserSettings(learning_rate=0.2, **settings), 100))


def test_a_constant_rate_is_constant():
    """Closed form."""
    assert_allclose(rates(), np.full(100, 0.2))


def test_the_warm_up_rises_linearly_from_zero():
    """Closed form: rate * step / warm-up, then the rate."""
    assert_allclose(rates(warmup_steps=10), 0.2 * np.minimum(STEPS / 10, 1.0))


@pytest.mark.parametrize("warmup", [0, 20])
def test_cosine_and_linear_decay_fall_to_the_final_fraction_after_the_warm_up(warmup):
    """Closed forms in the share t of the steps after the warm-up."""
    t = np.clip((STEPS - warmup) / (100 - warmup), 0.0, 1.0)
    rise = np.minimum(STEPS / warmup, 1.0) if warmup else 1.0
    cosine = 0.1 + 0.9 * (1 + np.cos(np.pi * t)) / 2
    for decay, shape in {"cosine": cosine, "linear": 1 - 0.9 * t}.items():
        found = rates(decay=decay, final_fraction=0.1, warmup_steps=warmup)
        assert_allclose(found, 0.2 * rise * shape, rtol=1e-6)


def test_a_restart_begins_warm_up_and_decay_again():
    """Identity: periodic, and each period is the schedule of a run of that length."""
    settings = {"decay": "linear", "warmup_steps": 5}
    found = rates(restart_every=25, **settings)
    one = learning_rate_schedule(OptimiserSettings(learning_rate=0.2, **settings), 25)
    assert_allclose(found, np.tile(values(one)[:25], 4))


def kl_weights(**settings):
    return values(kl_weight_schedule(ObjectiveSettings(**settings)))


def test_the_kl_weight_warms_up_linearly_to_its_final_value():
    """Closed form: w min((step + 1) / warm-up, 1); the first step already counts for something."""
    assert_allclose(
        kl_weights(kl_weight=0.5, kl_warmup_steps=8), 0.5 * np.minimum((STEPS + 1) / 8, 1)
    )
    assert_allclose(kl_weights(kl_weight=0.3), np.full(100, 0.3))
    assert_allclose(kl_weights(kl_weight=0.0), np.zeros(100))


def test_the_kl_weight_starts_over_in_every_cycle():
    """Closed form of Fu et al. 2019: the warm-up in the step's place within its cycle."""
    found = kl_weights(kl_warmup_steps=10, kl_cycle_steps=25)
    assert_allclose(found, np.minimum((STEPS % 25 + 1) / 10, 1.0))


def test_a_weight_that_is_always_one_is_the_bound_itself():
    """So that the objective can tell the ELBO from an annealed one."""
    assert kl_weight_schedule(ObjectiveSettings()) is always_one
    assert kl_weight_schedule(ObjectiveSettings(kl_warmup_steps=1)) is not always_one


def test_a_cycle_without_room_for_its_warm_up_is_refused():
    """The sentence gives both numbers; without a warm-up nothing reads the cycle."""
    settings = ObjectiveSettings(kl_warmup_steps=30, kl_cycle_steps=25)
    with pytest.raises(ValueError, match="is 25 and `kl_warmup_steps` 30, but"):
        kl_weight_schedule(settings)
    with pytest.raises(ValueError, match="`kl_cycle_steps` was set to 25, but nothing reads it"):
        ObjectiveSettings(kl_cycle_steps=25)


def first_update(gradient, parameters=None, **settings):
    rule = optimiser(OptimiserSettings(learning_rate=0.1, **settings), 100)
    parameters = jnp.zeros_like(gradient) if parameters is None else parameters
    return rule.update(gradient, rule.init(parameters), parameters)[0]


def test_entries_are_clipped_before_the_norm():
    """By hand: (10, 0.3) -> (1, 0.3) -> scaled to norm 0.5. Planted: the other order."""
    gradient = jnp.array([10.0, 0.3])
    found = first_update(gradient, name="sgd", clip_value=1.0, clip_norm=0.5)
    assert_allclose(found, -0.1 * 0.5 * np.array([1.0, 0.3]) / np.hypot(1.0, 0.3))
    norm_first = np.clip(0.5 * gradient / jnp.linalg.norm(gradient), -1.0, 1.0)
    assert np.abs(found + 0.1 * norm_first).max() > 1e-3


def test_each_clip_works_alone():
    """By hand."""
    gradient = jnp.array([3.0, -4.0])
    assert_allclose(first_update(gradient, name="sgd", clip_norm=1.0), [-0.06, 0.08])
    assert_allclose(first_update(gradient, name="sgd", clip_value=3.5), [-0.3, 0.35])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", lambda g: -0.1 * g),
        ("adam", lambda g: -0.1 * np.sign(g)),
        ("adagrad", lambda g: -0.1 * g / np.sqrt(0.1 + g**2)),
        ("rmsprop", lambda g: -0.1 * g / np.sqrt(0.1 * g**2)),
    ],
)
def test_the_first_update_of_a_rule_is_its_closed_form(name, expected):
    """Kingma & Ba 2015 (bias-corrected: a step of the rate), Duchi et al. 2011 (initial sum 0.1),
    Hinton 2012 (decay 0.9)."""
    gradient = np.array([2.0, -0.5])
    assert_allclose(first_update(jnp.asarray(gradient), name=name), expected(gradient), rtol=1e-6)


def test_weight_decay_is_decoupled_and_belongs_to_adamw_alone():
    """Loshchilov & Hutter 2019, algorithm 2: the rate times (Adam's direction + decay * parameter)."""
    parameters = jnp.array([4.0, -6.0])
    found = first_update(jnp.array([2.0, 2.0]), parameters, name="adamw", weight_decay=0.5)
    assert_allclose(found, -0.1 * (1.0 + 0.5 * parameters), rtol=1e-6)
    with pytest.raises(ValueError, match=r"`weight_decay` was set to 0\.5, but nothing reads it"):
        optimiser(OptimiserSettings(weight_decay=0.5), 100)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (RunSettings, "steps"),
        (RunSettings, "batch_size"),
        (RunSettings, "log_every"),
        (RunSettings, "evaluate_every"),
        (RunSettings, "evaluate_samples"),
        (RunSettings, "checkpoint_every"),
        (PlateauSettings, "patience"),
        (ObjectiveSettings, "num_samples"),
    ],
)
def test_a_count_of_zero_is_refused_by_name(settings, name):
    """What would otherwise be a division by zero in the middle of a run."""
    with pytest.raises(UserError, match=f"`{name}` is 0, but it must be at least 1"):
        settings(**{name: 0})


def test_rmsprop_with_an_epsilon_divides_by_the_root_plus_epsilon():
    """Closed form over three steps: v = 0.99 v + 0.01 g^2, update -0.2 g / (sqrt(v) + 0.01). Planted:
    the epsilon inside of the root."""
    gradients = np.array([0.03, -0.02, 0.05])
    v, expected, planted = 0.0, [], []
    for gradient in gradients:
        v = 0.99 * v + 0.01 * gradient**2
        expected.append(-0.2 * gradient / (np.sqrt(v) + 0.01))
        planted.append(-0.2 * gradient / np.sqrt(v + 0.01))
    made = updates_of(
        OptimiserSettings("rmsprop", learning_rate=0.2, epsilon=0.01, memory=0.99), gradients
    )
    assert_allclose(made, expected, rtol=1e-6)
    assert np.abs(made - np.array(planted)).max() > 0.1 * np.abs(made).max()


def test_gradients_that_are_forgotten_every_third_step_are_summed_until_then():
    """Identity: SGD on running sums 1, 1 + 2, 1 + 2 + 3 | 4, 4 + 5; forgotten at every step it is SGD."""
    gradients = np.arange(1.0, 6.0)
    summed = updates_of(OptimiserSettings("sgd", learning_rate=1.0, forget_every=3), gradients)
    assert_allclose(-summed, [1, 3, 6, 4, 9])
    assert_allclose(-updates_of(OptimiserSettings("sgd", learning_rate=1.0), gradients), gradients)


def updates_of(settings, gradients):
    rule = optimiser(settings, len(gradients))
    state, made = rule.init(jnp.zeros(())), []
    for gradient in gradients:
        update, state = rule.update(jnp.asarray(gradient), state, jnp.zeros(()))
        made.append(float(update))
    return np.array(made)


def test_what_an_optimiser_has_not_is_refused():
    with pytest.raises(ValueError, match=r"`epsilon` was set to 0\.1, but nothing reads it"):
        optimiser(OptimiserSettings("adam", epsilon=0.1), 10)
    with pytest.raises(ValueError, match=r"`forget_every` is 0, but it counts steps\. Give 1"):
        optimiser(OptimiserSettings("sgd", forget_every=0), 10)
