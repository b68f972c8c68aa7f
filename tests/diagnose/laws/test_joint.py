"""The record's weights against `score` and `log_prob`, and log p of discrete data. Oracles: both written down by
hand for a model of every shape; a probability is at most 1. Each fault is planted beside the healthy setup."""

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
from scipy import stats

from fixtures.examinations import FAULTS, SUBJECTS
from tightbound.data.batch import Split
from tightbound.diagnose.case import Case
from tightbound.diagnose.checks.probability import (
    discrete_probability_is_at_most_one,
    weight_is_the_joint,
)
from tightbound.diagnose.doctor import judge
from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import gather as laws
from tightbound.diagnose.laws.joint import joint
from tightbound.diagnose.probes import make_probe
from tightbound.drill import planting
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.terms import Kind
from tightbound.train.objective import Objective
from tightbound.train.run import first_state
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup

FAULT, OK, UNDECIDED, NOT_RUN = Verdict.FAULT, Verdict.OK, Verdict.UNDECIDED, Verdict.NOT_RUN
pytestmark = pytest.mark.usefixtures("compiled_once")


class Chain(AbstractModel):
    """z_t ~ N(0, 1);  x_t | z_t is a bit with logit z_t, or N(z_t, 1 / 100); scored by position or at once."""

    kinds = {"z": Kind.LATENT, "x": Kind.OBSERVED}
    shift: Float[Array, ""]
    bits: bool = eqx.field(static=True)
    at_once: bool = eqx.field(static=True)

    def likelihood(self, z):
        return dist.Bernoulli(logits=z) if self.bits else dist.Normal(z, 0.01)

    def sample_prior(self, key):
        return jax.random.normal(key, (5,))

    def score(self, x, z):
        scores = {"z": dist.Normal(0.0, 1.0).log_prob(z), "x": self.likelihood(z).log_prob(x)}
        scores["x"] += self.shift
        return {n: s.sum(keepdims=True) if self.at_once else s for n, s in scores.items()}

    def sample_likelihood(self, z, key):
        return self.likelihood(z).sample(key).astype(z.dtype)


class Shifted(AbstractProposal):
    """q(z_t | x) = N(a x_t, 1), scored jointly or by position."""

    slope: Float[Array, ""]
    jointly: bool = eqx.field(static=True)

    def proposal(self, x):
        return _Normals(self.slope * x, self.jointly)


class _Normals(eqx.Module):
    mean: Float[Array, " time"]
    jointly: bool

    def sample(self, key):
        return self.mean + jax.random.normal(key, self.mean.shape)

    def log_prob(self, z):
        log_q = dist.Normal(self.mean, 1.0).log_prob(z)
        return log_q.sum() if self.jointly else {"z": log_q}


def made(bits=True, at_once=False, jointly=True, shift=0.0):
    """Sixteen sequences of two to five positions."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (16, 5)).astype(float)
    mask = np.arange(5) < np.arange(16)[:, None] % 4 + 2
    splits = {n: Split(n, x, mask, mask.sum(1)) for n in ("train", "valid")}
    return Setup(
        "chain", Chain(jnp.asarray(shift), bits, at_once), Shifted(jnp.asarray(0.5), jointly), splits,
        Objective("elbo"), optax.adam(1e-3), run=RunSettings(batch_size=8), claim=Objective("elbo"),
    )  # fmt: skip


def asked(setup) -> Any:
    batch = jax.tree.map(jnp.asarray, setup.data["train"].take(np.arange(4)))
    return joint(setup, first_state(setup), batch, jax.random.key(1), laws.jit_once)


@pytest.mark.parametrize("jointly", [True, False], ids=["joint q", "q by position"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "by position"])
def test_weights_of_every_shape_are_the_joint_less_log_q(at_once, jointly):
    """SciPy's normal, summed by hand over the shapes that are made; then the record of an objective that
    counts log q once per position."""
    setup = made(at_once=at_once, jointly=jointly)
    right = asked(setup)
    assert weight_is_the_joint(right).verdict is OK
    mask = setup.data["train"].mask[:4]
    x = np.asarray(setup.data["train"].x)[:4]
    keys = [jax.random.split(jax.random.fold_in(jax.random.key(1), row), 1)[0] for row in range(4)]
    noise = np.stack([jax.random.normal(key, (5,)) for key in keys])
    z = 0.5 * x + noise
    log_p = stats.norm.logpdf(z) - np.logaddexp(0.0, np.where(x == 1, -z, z))
    log_q = stats.norm.logpdf(noise)
    real_p = np.full_like(mask, fill_value=True) if at_once else mask
    real_q = np.full_like(mask, fill_value=True) if jointly else mask
    by_hand = (log_p * real_p).sum(1) - (log_q * real_q).sum(1)
    np.testing.assert_allclose(right.asked[0], by_hand, rtol=1e-5, atol=1e-5)
    if jointly:
        finding = weight_is_the_joint(asked(planting.log_q_per_position(setup)))
        assert finding.verdict is FAULT
        assert finding.causes[0].name == "record_is_not_the_joint"


def test_bits_are_told_from_densities():
    """Bits kept as floats are discrete where draws of the model are bits too; a normal on them is a density,
    whose log p may be above 0; a constant of 9 nats makes a probability of bits above 1."""
    right, density, above = (asked(s) for s in (made(), made(bits=False), made(shift=9.0)))
    assert (right.discrete.all(), density.discrete.any()) == (True, False)
    verdicts = [discrete_probability_is_at_most_one(e).verdict for e in (right, density, above)]
    assert verdicts == [OK, NOT_RUN, FAULT]


def test_thresholds_of_the_record_and_of_probabilities(made):
    """Right up to rounding, between, and wrong, by the size that was added; and what is no number."""
    right = made.joint()

    def verdicts(size):
        record = right.asked + size * np.abs(right.asked)
        evidence = replace(right, record=record, largest_log_p=np.array([3.0, size]))
        checks = (weight_is_the_joint, discrete_probability_is_at_most_one)
        return [check(evidence).verdict for check in checks]

    found = [verdicts(size) for size in (1e-5, 5e-3, 2e-2, np.nan, np.inf)]
    assert found == [[v, v] for v in (OK, UNDECIDED, FAULT, UNDECIDED, UNDECIDED)]
    for nothing in (None, replace(right, asked=right.asked[:0], record=right.record[:0])):
        assert weight_is_the_joint(nothing).verdict is NOT_RUN
    for nothing in (None, replace(right, discrete=np.zeros(2, bool))):
        assert discrete_probability_is_at_most_one(nothing).verdict is NOT_RUN


@pytest.mark.parametrize(
    ("name", "code", "recipe"),
    [
        ("constant_added_to_bits", "TB118", "vae/digits"),
        ("constant_in_prior", "TB117", "vae/digits"),
        ("log_q_per_position", "TB119", "dlm/toy-vae"),
    ],
)
def test_a_planted_fault_of_a_probability_is_named_first(name, code, recipe):
    """The doctor on what the laws and the probe say of a small setup; without the fault it names none."""
    small = {"hidden_size": 8, "latent_size": 2} if recipe == "vae/digits" else {}
    recipe = SUBJECTS[recipe]
    healthy = replace(recipe, model=replace(recipe.model, **small)).build(0)
    fault = FAULTS[name]
    for setup, expected in ((fault.plant(healthy), fault.expected.name), (healthy, None)):
        state = first_state(setup)
        batch = laws._rows_of_record(setup, jax.random.key(0))
        evidence = Evidence(
            step=0,
            joint=joint(setup, state, batch, jax.random.key(1), laws.jit_once),
            twin=laws.twin(setup, jax.random.key(2)) if name == "constant_added_to_bits" else None,
            sites=make_probe(setup)(state).sites if name == "constant_in_prior" else None,
        )
        found = [f for f in judge(Case([evidence])) if f.verdict is FAULT]
        assert [f.causes[0].name for f in found[:1]] == ([expected] if expected else [])
        codes = {f.code for f in found}
        assert codes <= set(fault.codes)
        assert (code in codes) is (setup is not healthy)
