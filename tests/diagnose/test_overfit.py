"""TB218. Oracles: the share of the way by hand, and the entropy of eight known rows as the limit."""

import jax
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tightbound.data.batch import rows
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.overfit import Fitted, one_batch_is_fitted, overfit
from tightbound.models.vae import VAE, GaussianProposal
from tightbound.nn.outputs import BernoulliOutput
from tightbound.train.objective import Objective
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup

pytestmark = pytest.mark.usefixtures("compiled_once")


@settings(max_examples=50, deadline=None)
@given(share=st.floats(-1, 1))
def test_four_fifths_of_the_way_to_the_limit_are_enough(share):
    """From -40 nats to -2, which eight rows drawn with unequal shares might allow."""
    assume(abs(share - 0.8) > 1e-9)
    finding = one_batch_is_fitted(Fitted(-40.0, -40.0 + 38.0 * share, -2.0, 1500))
    assert finding.measured == pytest.approx(share, abs=1e-12)
    assert finding.verdict is (Verdict.FAULT if share < 0.8 else Verdict.OK)
    assert [c.name for c in finding.causes] == (["cannot_fit_one_batch"] if share < 0.8 else [])


@pytest.mark.parametrize("after", [np.nan, -np.inf])
def test_a_bound_that_is_not_finite_has_fitted_nothing(after):
    assert one_batch_is_fitted(Fitted(-40.0, after, -2.0, 1500)).verdict is Verdict.FAULT


def test_a_density_must_gain_half_of_its_size():
    """It has no limit: four fifths of 20 nats, from -40."""
    assert one_batch_is_fitted(Fitted(-40.0, -23.9, None, 1500)).verdict is Verdict.OK
    assert one_batch_is_fitted(Fitted(-40.0, -24.1, None, 1500)).verdict is Verdict.FAULT


def thirty_pixels(objective):
    """A VAE on eight rows of bits, all different but for one pair."""
    model_key, proposal_key = jax.random.split(jax.random.key(0))
    bits = np.random.default_rng(0).integers(0, 2, (8, 30)).astype(float)
    bits[7] = bits[6]
    return Setup(
        name="thirty pixels",
        model=VAE(30, 2, BernoulliOutput(), hidden_size=16, key=model_key),
        proposal=GaussianProposal(30, 2, hidden_size=16, key=proposal_key),
        data={"train": rows("train", bits), "valid": rows("valid", bits)},
        objective=objective,
        optimiser=optax.adam(1e-2),
        run=RunSettings(batch_size=8),
    )


def test_eight_rows_are_learnt_by_heart_up_to_their_entropy():
    """Six rows with probability 1/8 and one with 1/4: the bound comes near, and never above."""
    fitted = overfit(thirty_pixels(Objective()), steps=1000)
    limit = (6 * np.log(1 / 8) + 2 * np.log(1 / 4)) / 8
    assert fitted.limit == pytest.approx(limit)
    assert fitted.before < fitted.after < limit + 0.05
    assert one_batch_is_fitted(fitted).verdict is Verdict.OK


def test_what_raises_something_else_does_not_fit():
    """Planted: the objective is minus the bound."""

    def minus(*arguments, **keywords):
        value, terms = Objective()(*arguments, **keywords)
        return -value, terms

    fitted = overfit(thirty_pixels(minus), steps=30)
    assert fitted.after < fitted.before
    assert one_batch_is_fitted(fitted).verdict is Verdict.FAULT
