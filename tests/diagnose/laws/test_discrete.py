"""Laws of discrete latents. Oracles: sums over every z by hand; SciPy's binomial law; the score-function
gradient, whose mean is the gradient of the bound. Each fault is planted beside the healthy setup."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jaxtyping import Array, Float
from scipy.special import log_softmax

from tightbound.data.batch import Split
from tightbound.diagnose.checks.discrete import (
    draws_follow_probabilities,
    gradient_reaches_the_proposal,
    proposal_mass_is_one,
)
from tightbound.diagnose.evidence import Discrete
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import discrete as discrete_laws
from tightbound.diagnose.laws import gather as laws
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import Kind
from tightbound.train.objective import Objective
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN
pytestmark = pytest.mark.usefixtures("compiled_once")


class Bits(AbstractModel):
    """z: three fair bits;  x | z ~ N(W z, 1)."""

    kinds = {"z": Kind.LATENT, "x": Kind.OBSERVED}
    weight: Float[Array, "obs bits"]

    def sample_prior(self, key):
        return jax.random.bernoulli(key, 0.5, (3,)).astype(jnp.int32)

    def score(self, x, z):
        log_p = dist.Normal(self.weight @ z, 1.0).log_prob(x).sum(keepdims=True)
        return {"z": jnp.full(1, 3 * jnp.log(0.5)), "x": log_p}

    def sample_likelihood(self, z, key):
        return self.weight @ z + jax.random.normal(key, (len(self.weight),))


class Encoder(AbstractProposal):
    """q(z | x): independent bits with logits A x + b; `drawn_at` and `scored_times` are wrong if not 1."""

    matrix: Float[Array, "bits obs"]
    bias: Float[Array, " bits"]
    drawn_at: float = eqx.field(static=True, default=1.0)  # a temperature
    scored_times: float = eqx.field(static=True, default=1.0)

    def proposal(self, x):
        return _Bits(self.matrix @ x + self.bias, self.drawn_at, self.scored_times)


class _Bits(eqx.Module):
    logits: Float[Array, " bits"]
    drawn_at: float
    scored_times: float

    def sample(self, key):
        return dist.Bernoulli(logits=self.logits / self.drawn_at).sample(key)

    def log_prob(self, z):
        return self.scored_times * dist.Bernoulli(logits=self.logits).log_prob(z).sum()


@pytest.fixture(scope="module")
def setup():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)) + rng.integers(0, 2, (40, 1))
    splits = {n: Split(n, x, np.ones((40, 1), bool), np.ones(40, int)) for n in ("train", "valid")}
    model = Bits(jnp.asarray(rng.normal(size=(4, 3))))
    proposal = Encoder(jnp.asarray(0.3 * rng.normal(size=(3, 4))), jnp.full(3, 0.5))
    return Setup(
        "bits", model, proposal, splits, Objective("vimco", num_samples=2), optax.adam(1e-3),
        run=RunSettings(batch_size=8),
    )  # fmt: skip


def asked(setup) -> Any:
    pair = (setup.model, setup.proposal)
    return discrete_laws.discrete(setup, pair, jnp.zeros((), int), jax.random.key(1), laws.jit_once)


@pytest.fixture(scope="module")
def right(setup):
    return asked(setup)


def verdicts(evidence):
    checks = (proposal_mass_is_one, draws_follow_probabilities, gradient_reaches_the_proposal)
    return [check(evidence).verdict for check in checks]


def test_every_value_is_listed_and_the_laws_hold(setup, right):
    """Oracle: log q of independent bits, with SciPy's log-softmax of (0, logit) per bit; eight values."""
    assert right.log_q.shape == (4, 8)
    np.testing.assert_allclose(np.exp(right.log_prior).sum(1), 1.0)
    logits = np.sort(np.asarray(right.log_q).max(1))  # the likeliest z of every row
    x = np.asarray(setup.data["train"].x)
    of_all = x @ np.asarray(setup.proposal.matrix).T + np.asarray(setup.proposal.bias)
    best = log_softmax(np.stack([np.zeros_like(of_all), of_all], -1), -1).max(-1).sum(-1)
    assert np.abs(logits[:, None] - best).min(1).max() < 1e-6
    assert (right.counts.sum(1) == right.num_draws).all()
    assert verdicts(right) == [OK, OK, OK]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda s: replace(s, proposal=replace(s.proposal, scored_times=0.5)), [FAULT, FAULT]),
        (lambda s: replace(s, proposal=replace(s.proposal, drawn_at=2.0)), [OK, FAULT]),
    ],
    ids=["averaged_log_q", "drawn_at_a_temperature"],
)
def test_a_proposal_that_scores_other_probabilities_is_found(setup, wrong, expected):
    """Half of log q sums to more than 1; draws at a temperature of 2 come more evenly than they score."""
    assert verdicts(asked(wrong(setup)))[:2] == expected


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Objective("elbo", path="stop_draw"), FAULT),
        (Objective("elbo"), FAULT),
        (Objective("iwae", num_samples=4), FAULT),
        (Objective("vimco", num_samples=4), OK),
        (Objective("wake-sleep", num_samples=4), OK),
    ],
    ids=lambda value: getattr(value, "estimator", ""),
)
def test_only_objectives_that_need_no_derivative_of_z_train_the_proposal(
    setup, objective, expected
):
    """A pathwise gradient of a discrete draw is -grad log q, whose mean is nothing."""
    finding = gradient_reaches_the_proposal(
        asked(replace(setup, objective=objective, claim=objective))
    )
    assert finding.verdict is expected
    if expected is FAULT:
        assert finding.causes[0].name == "no_gradient_through_discrete_draws"
        assert all(name in finding.advice for name in ("vimco", "wake-sleep", "relaxation"))


def test_real_latents_are_not_asked(setup):
    """A prior that draws reals has no values to list."""

    class Real(Bits):
        def sample_prior(self, key):
            return jax.random.normal(key, (3,))

    assert asked(replace(setup, model=Real(setup.model.weight))) is None
    assert verdicts(None) == [NOT_RUN] * 3


# --- the checks on evidence made by hand ---------------------------------------------------------


def made(reached=1.0, noise=0.5, estimator="elbo", **changes):
    rng = np.random.default_rng(0)
    log_q = log_softmax(rng.normal(size=(3, 4)), axis=1)
    right = Discrete(
        log_q=log_q,
        log_prior=np.full((3, 4), np.log(0.25)),
        counts=np.stack([rng.multinomial(4000, np.exp(row)) for row in log_q]),
        num_draws=4000,
        estimator=estimator,
        reached=reached + noise * np.tile([-1.0, 1.0], 256),
    )
    return replace(right, **changes)


def test_thresholds_are_of_the_counts_and_of_the_draws():
    """Quiet, undecided and found, by how far the evidence is moved."""
    assert verdicts(made()) == [OK, OK, OK]
    assert verdicts(made(log_q=made().log_q + 0.01))[:2] == [FAULT, OK]
    assert verdicts(made(log_prior=made().log_prior - 0.1))[0] is NOT_RUN
    for extra, verdict in ((0, OK), (125, UNDECIDED), (400, FAULT)):
        expected = np.round(4000 * np.exp(made().log_q)).astype(int)
        expected[0, 0] += extra
        assert draws_follow_probabilities(made(counts=expected)).verdict is verdict
    never = made().log_q.copy()
    never[0, 0] = -np.inf  # drawn, and said to be impossible
    assert draws_follow_probabilities(made(log_q=never)).verdict is FAULT
    assert gradient_reaches_the_proposal(made(0.0)).verdict is FAULT
    assert gradient_reaches_the_proposal(made(0.0, noise=20.0)).verdict is UNDECIDED
    assert gradient_reaches_the_proposal(made(0.05, 0.1, "vimco")).verdict is OK
    assert gradient_reaches_the_proposal(made(-0.05, 0.1, "vimco")).verdict is FAULT
    assert gradient_reaches_the_proposal(made(reached=np.nan)).verdict is UNDECIDED
    bare = replace(made(), reached=np.zeros(0))
    assert gradient_reaches_the_proposal(bare).verdict is NOT_RUN
