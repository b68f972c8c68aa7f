"""Everyday choices that are no mistakes: the check that might take one for a fault is quiet on a small real
setup, and still finds its fault planted in that setup. Oracle: what each setup is made to be."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fixtures.examinations import SUBJECTS
from tightbound.diagnose.checks.data import splits_are_alike
from tightbound.diagnose.checks.optimisation import (
    clipping_leaves_sizes,
    every_gradient_counts,
    every_module_moves,
    gradients_are_forgotten,
    updates_are_large_enough,
)
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import gather as laws
from tightbound.diagnose.probes import largest_ahead, make_probe, next_update
from tightbound.drill import planting
from tightbound.train.loop import fit
from tightbound.train.run import batches_of, first_state, run_keys
from tightbound.train.settings import RunSettings

pytestmark = pytest.mark.usefixtures("compiled_once")

FAULT, OK, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.NOT_RUN


def small(name, **changes):
    """A recipe of the drill on images with hidden layers of 8 and two latents."""
    recipe = replace(SUBJECTS[name], **changes)
    return replace(recipe, model=replace(recipe.model, hidden_size=8, latent_size=2)).build(0)


# --- heavy tails ---------------------------------------------------------------------------------


def with_student_t(setup, degrees, seed, change=lambda x: x):
    """The setup on Student-t data of as many rows, eight numbers each; `change` is applied to test rows."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, split in setup.data.items():
        x = rng.standard_t(degrees, (len(split), 8))
        splits[name] = replace(split, x=change(x) if name == "test" else x)
    return replace(setup, data=splits, noise=None)


@pytest.fixture(scope="module")
def gaussian():
    return small("vae/digits-gaussian")


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 3])
def test_heavy_tails_are_no_difference_between_splits(gaussian, degrees):
    """Of infinite variance, or nearly: plain standard deviations differ by any factor."""
    plain = []
    for seed in range(3):
        setup = with_student_t(gaussian, degrees, seed)
        assert splits_are_alike(laws.splits(setup, jax.random.key(0))).verdict is OK
        scale = [split.x.std() for split in setup.data.values()]
        plain.append(max(scale) / min(scale))
    assert max(plain) > 1.5 or degrees == 3


@pytest.mark.parametrize(
    "change",
    [lambda x: x / 3, lambda x: x + 3, lambda x: x / x.std()],
    ids=["a third", "shifted", "normalised by itself"],
)
def test_heavy_tails_hide_no_other_scale(gaussian, change):
    """A test split on another scale than the training split, of data with two degrees of freedom."""
    setup = with_student_t(gaussian, 2, 0, change)
    finding = splits_are_alike(laws.splits(setup, jax.random.key(0)))
    assert (finding.verdict, finding.where) == (FAULT, "the test split")


# --- accumulation --------------------------------------------------------------------------------

OF_OPTIMISERS = {
    "TB212": every_module_moves,
    "TB213": gradients_are_forgotten,
    "TB214": every_gradient_counts,
    "TB215": clipping_leaves_sizes,
}


def asked(setup, optimiser):
    """What the checks of an optimiser say of it, by code."""
    found = laws.optimiser(replace(setup, optimiser=optimiser), (setup.model, setup.proposal))
    return {code: check(found).verdict for code, check in OF_OPTIMISERS.items()}, found


def accumulated(inner, k):
    return optax.MultiSteps(inner, k).gradient_transformation()


@pytest.fixture(scope="module")
def tiny():
    return small("vae/digits")


@pytest.mark.parametrize(
    ("optimiser", "k"),
    [
        (optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), 3),
        (optax.adam(optax.linear_schedule(0.0, 1e-3, 500)), 4),
    ],
    ids=["clipped adamw", "warm-up"],
)
def test_accumulation_of_any_number_of_gradients_is_right(tiny, optimiser, k):
    """Sixty updates are sixty times k gradients; counted in gradients Adam's motion has not died away."""
    verdicts, found = asked(tiny, accumulated(optimiser, k))
    assert found.gradients_per_update == k
    assert found.late_motion < 0.02
    assert set(verdicts.values()) == {OK}


def test_what_takes_too_long_to_ask_is_not_run(tiny):
    """100 gradients in one update: that every module moves is seen all the same."""
    verdicts, found = asked(tiny, accumulated(optax.sgd(1e-3), 100))
    assert found.gradients_per_update == 100
    assert verdicts == {"TB212": OK, "TB213": NOT_RUN, "TB214": NOT_RUN, "TB215": NOT_RUN}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda inner: accumulated(planting.accumulating(inner), 4), "TB213"),
        (lambda inner: accumulated(planting.dropping(inner), 2), "TB214"),
        (lambda inner: planting.freezing_proposal(accumulated(inner, 4)), "TB212"),
    ],
    ids=["not reset", "dropped", "frozen"],
)
def test_faults_of_an_optimiser_that_accumulates_are_found(tiny, change, code):
    verdicts, _ = asked(tiny, change(optax.adam(1e-3)))
    assert [found for found, verdict in verdicts.items() if verdict is FAULT] == [code]


# --- warm-up -------------------------------------------------------------------------------------


SCHEDULE = optax.join_schedules(
    [optax.linear_schedule(0.0, 1e-2, 64), optax.linear_schedule(1e-2, 0.0, 64)], [64]
)


@pytest.mark.parametrize(
    ("optimiser", "gradients"),
    [
        (optax.chain(optax.clip(1.0), optax.adam(SCHEDULE)), 1),
        (optax.inject_hyperparams(optax.sgd)(learning_rate=SCHEDULE), 1),
        (accumulated(optax.sgd(SCHEDULE, momentum=0.9), 4), 4),
    ],
    ids=["chained", "injected", "accumulated"],
)
def test_the_optimiser_says_what_its_schedule_has_ahead(optimiser, gradients):
    """Oracle: the schedule at 16 places of the 64 updates that are left, over its value now; moments stay."""
    weight = {"weight": jnp.linspace(-1.0, 1.0, 4)}

    @jax.jit
    def ask(done):
        step = lambda _, state: optimiser.update(weight, state, weight)[1]  # noqa: E731
        state = jax.lax.fori_loop(0, gradients * done, step, optimiser.init(weight))
        update, state = next_update(optimiser, weight, state, weight)
        return largest_ahead(optimiser, weight, update, state, weight, steps_left=jnp.array(64))

    for done in (1, 32, 64, 100):
        now, ahead = SCHEDULE(done), [SCHEDULE(done + 4 * look) for look in range(1, 17)]
        np.testing.assert_allclose(ask(done), max(ahead) / now, rtol=1e-6)


def test_a_warm_up_longer_than_the_probed_steps_is_not_too_small():
    """128 steps of a warm-up of 10,000 to the usual rate. Without what the optimiser says of its schedule
    the same probes are named."""
    rate = optax.linear_schedule(0.0, 1e-3, 10_000)
    setup = small("vae/digits", run=RunSettings(steps=20_000, batch_size=64))
    setup = replace(setup, optimiser=optax.adam(rate))
    arguments = (first_state(setup), batches_of(setup), setup.objective, setup.optimiser)
    probe, rising = make_probe(setup), []
    for record in fit(*arguments, key=run_keys(setup.seed)[1], noise=setup.noise):
        if record.step in (0, 4, 16, 64, 128):
            rising.append(probe(record.state))
        if record.step == 128:
            break
    assert updates_are_large_enough(rising).verdict is NOT_RUN
    unasked = [replace(evidence, schedule=None) for evidence in rising]
    assert updates_are_large_enough(unasked).verdict is FAULT
