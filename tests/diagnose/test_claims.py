"""An objective that shares no draws with its claim: TB201 compares both in expectation. Oracle: the KL of a
normal from a standard normal, and wrong forms of it, written down here and in `planting`."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from fixtures.examinations import FAULTS, SUBJECTS, TRAPS
from tightbound.diagnose.checks.objective import gradient_is_the_slope, objective_is_its_claim
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import gather as laws
from tightbound.drill import planting
from tightbound.drill.altered import Altered
from tightbound.train.run import first_state

pytestmark = pytest.mark.usefixtures("compiled_once")

FAULT, OK, UNDECIDED = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED


def kl(mean, scale):
    return 0.5 * (mean**2 + scale**2 - 1 - 2 * np.log(scale)).sum(-1)


WRONG_FORMS = {
    "kl_half_missing": lambda mean, scale: 2 * kl(mean, scale),
    "kl_averaged_over_latents": lambda mean, scale: kl(mean, scale) / mean.shape[-1],
    "log_variance_as_log_scale": lambda mean, scale: kl(mean, scale**2),
    "log_scale_as_log_variance": lambda mean, scale: kl(mean, np.sqrt(scale)),
    "kl_sign_flipped": lambda mean, scale: -kl(mean, scale),
    "kl_missing": lambda mean, scale: 0 * kl(mean, scale),
}


def judged(made, redrawn, kl_weight=1.0):
    """What is said of an objective whose first draw of every row is the one that was compared exactly."""
    first = replace(
        made.objective(np.random.default_rng(0), kl_weight=kl_weight),
        surrogate=redrawn.surrogate[0],
        claimed=redrawn.claimed[0],
        log_likelihood=redrawn.log_likelihood[:1],
        log_prior=redrawn.log_prior[:1],
        log_proposal=redrawn.log_proposal[:1],
        batch_surrogate=float(redrawn.surrogate[0].mean()),
        batch_claimed=float(redrawn.claimed[0].mean()),
        heads_averaged=np.full(len(redrawn.surrogate[0]), np.nan),
        weights_dropped=np.full(len(redrawn.surrogate[0]), np.nan),
    )
    return objective_is_its_claim(first, redrawn), objective_is_its_claim(first)


@pytest.mark.parametrize("shared", [True, False], ids=["same draws", "other draws"])
@pytest.mark.parametrize("seed", range(20))
def test_a_kl_in_closed_form_is_the_claim_in_expectation(made, seed, shared):
    """Draw by draw it is not: compared by one key alone, it would be a fault."""
    redrawn = made.redrawn(np.random.default_rng(seed), shared=shared)
    finding, by_one_key = judged(made, redrawn)
    assert (finding.verdict, finding.causes) == (OK, ())
    assert by_one_key.verdict is FAULT


@pytest.mark.parametrize("kl_weight", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shared", [True, False], ids=["same draws", "other draws"])
@pytest.mark.parametrize("cause", WRONG_FORMS)
def test_a_wrong_closed_form_is_named_first(made, cause, shared, kl_weight):
    for seed in range(5):
        redrawn = made.redrawn(
            np.random.default_rng(seed),
            keys=256,
            kl_form=WRONG_FORMS[cause],
            shared=shared,
            kl_weight=kl_weight,
        )
        finding, _ = judged(made, redrawn, kl_weight)
        assert (finding.verdict, finding.causes[0].name) == (FAULT, cause)
        assert finding.causes[-1].name == "objective_differs"


def test_an_error_too_wide_decides_nothing(made):
    """Log-likelihoods of draws that are not shared, a hundred nats apart: six errors hide half a KL."""
    redrawn = made.redrawn(np.random.default_rng(0), shared=False)
    noise = np.random.default_rng(1).normal(0.0, 100.0, redrawn.surrogate.shape)
    noisy = replace(redrawn, surrogate=redrawn.surrogate + noise)
    assert judged(made, noisy)[0].verdict is UNDECIDED


def test_a_claim_that_is_not_linear_in_the_kl_is_not_judged_by_its_mean(made):
    """Free bits: the mean of max(KL, floor) over draws lies above that of the closed form."""
    right = made.redrawn(np.random.default_rng(0))
    floored = replace(right, claimed=right.claimed - 3.0, is_linear=False)
    assert judged(made, floored)[0].verdict is UNDECIDED
    assert judged(made, replace(floored, is_linear=True))[0].verdict is FAULT


def test_a_closed_form_that_is_summed_over_the_batch_is_right_for_a_row_alone(made):
    right = made.redrawn(np.random.default_rng(0))
    finding, _ = judged(made, replace(right, batch_difference=right.batch_difference - 50.0))
    assert (finding.verdict, finding.causes[0].name) == (FAULT, "reduced_over_batch")


# --- on a small VAE ------------------------------------------------------------------------------


def small(recipe):
    if isinstance(recipe, Altered):
        return recipe.alter(small(recipe.recipe))
    return replace(recipe, model=replace(recipe.model, hidden_size=8, latent_size=4)).build(0)


@pytest.fixture(scope="module")
def tiny():
    return small(SUBJECTS["vae/digits"])


def asked(setup):
    """TB201 and TB202 of the setup before training, by the laws."""
    state, key = first_state(setup), jax.random.key(5)
    held = laws.objective(setup, state, key)
    redrawn = laws.redrawn(setup, state, held, key)
    return objective_is_its_claim(held, redrawn), gradient_is_the_slope(held), held


def test_the_closed_form_of_a_vae_is_quiet():
    """Oracle: the trap's recipe, whose KL is right; without the draws it is a fault."""
    value, slope, held = asked(small(TRAPS["closed-form-kl"]))
    assert (value.verdict, slope.verdict) == (OK, OK)
    assert "mean of 256 draws" in value.where
    assert objective_is_its_claim(held).verdict is FAULT


@pytest.mark.parametrize(
    "name",
    [
        "closed_kl_half_missing",
        "closed_kl_averaged",
        "log_variance_as_log_scale",
        "log_scale_as_log_variance",
    ],
)
def test_a_wrong_closed_form_of_a_vae_is_named_first(tiny, name):
    fault = FAULTS[name]
    value, slope, _ = asked(fault.plant(tiny))
    assert (value.verdict, value.causes[0]) == (FAULT, fault.expected)
    assert slope.verdict is OK


def test_a_claim_that_holds_parameters_constant_is_compared_on_shared_draws_only(tiny):
    """A KL in closed form has the full gradient, which is no wrong one of sticking the landing."""
    claim = replace(tiny.claim, path="stop_proposal")
    setup = planting.with_closed_kl(planting.standard_kl)(replace(tiny, claim=claim))
    value, slope, _ = asked(setup)
    assert (value.verdict, slope.verdict) == (OK, Verdict.NOT_RUN)
