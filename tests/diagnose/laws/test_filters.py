"""Filters against log p(x). Oracle: `log_marginal` of a hidden Markov model and of a linear-Gaussian one,
which `test_hmm` and `test_lgssm` hold against enumeration and SciPy. A filter of a user's own, written out
below, is right, or wrong in one of three ways."""

from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tightbound.data.sequences import Sequence, sequence_split
from tightbound.diagnose.checks.filters import (
    NORMALISER_DROPPED,
    NOT_GATHERED,
    WEIGHTS_KEPT,
    filter_evidence_is_unbiased,
)
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import filters as filter_laws
from tightbound.diagnose.laws.gather import jit_once
from tightbound.evaluation import Evaluation
from tightbound.inference.filtering import Filtering
from tightbound.models.hmm import CategoricalEmission, HiddenMarkovModel
from tightbound.models.lgssm import LGSSMOptimal, LinearGaussianSSM
from tightbound.models.stateful import FromPrior, Guided
from tightbound.terms import Kind
from tightbound.train.filtering import FilteringObjective
from tightbound.train.objective import Objective
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup, Twin

FAULT, OK = Verdict.FAULT, Verdict.OK
pytestmark = pytest.mark.usefixtures("compiled_once")

ADAPTIVE = Filtering(16, threshold=0.5)
ALWAYS = Filtering(8, threshold=1, resampling="multinomial")
LINEAR = LinearGaussianSSM(
    initial_mean=jnp.array([0.5, -0.5]),
    initial_scale=0.6 * jnp.eye(2),
    transition_weight=jnp.array([[0.95, 0.1], [-0.1, 0.9]]),
    transition_scale=0.3 * jnp.eye(2),
    emission_weight=jnp.array([[1.0, 0.5]]),
    emission_scale=jnp.array([[0.7]]),
    num_steps=12,
)
CHAIN = HiddenMarkovModel(
    jnp.zeros(3),
    jnp.log(0.05 + jnp.eye(3)),
    CategoricalEmission(jnp.log(0.2 + jnp.eye(3))),
    num_steps=5,
)


def setup_of(model, proposal, rule, **changes):
    """Draws of the model as its data, trained and evaluated by a filter."""

    def draw(name, key):
        def one(key):
            z_key, x_key = jax.random.split(key)
            return model.sample_likelihood(model.sample_prior(z_key), x_key).values

        rows = jax.vmap(one)(jax.random.split(key, 8))
        return sequence_split(name, list(np.asarray(rows)))

    settings = {
        "name": "own",
        "model": model,
        "proposal": proposal,
        "data": {name: draw(name, jax.random.key(i)) for i, name in enumerate(("train", "valid"))},
        "objective": FilteringObjective(rule),
        "optimiser": optax.adam(1e-3),
        "run": RunSettings(steps=4, batch_size=4),
        "filtering": rule,
    }
    return Setup(**(settings | changes))


@dataclass(frozen=True)
class OwnFilter:
    """A user's filter, which resamples (multinomially) where half of the particles are gone."""

    fault: str = ""
    num_particles: int = 16

    def log_evidence(self, model, proposal, x, key):
        particle = Guided(model, proposal)
        init_key, key = jax.random.split(key)
        state = jax.vmap(particle.init)(jax.random.split(init_key, self.num_particles))
        start = (state, jnp.zeros(self.num_particles), jnp.zeros(()))

        def step(carry, inputs):
            state, log_weights, so_far = carry
            x_t, clock, key = inputs
            resample_key, move_key = jax.random.split(key)
            weights = jax.nn.softmax(log_weights)
            needy = 1.0 / (weights**2).sum() < 0.5 * self.num_particles
            drawn = jax.random.categorical(resample_key, log_weights, shape=weights.shape)
            ancestors = jnp.where(needy, drawn, jnp.arange(self.num_particles))
            mean = jax.nn.logsumexp(log_weights) - jnp.log(self.num_particles)
            taken = jnp.arange(self.num_particles) if self.fault == "not gathered" else ancestors
            state = jax.tree.map(lambda leaf: leaf[taken], state)
            if self.fault != "normaliser dropped":
                so_far = so_far + jnp.where(needy, mean, 0.0)
            kept = log_weights[ancestors] if self.fault == "weights kept" else jnp.zeros(())
            log_weights = jnp.where(needy, kept, log_weights)
            keys = jax.random.split(move_key, self.num_particles)
            move = jax.vmap(particle.step, in_axes=(0, None, None, 0))
            state, scores = move(state, x_t, clock, keys)
            log_weights += sum(p if q is None else p - q for p, q in scores.values())
            return (state, log_weights, so_far), None

        steps = (particle.inputs(x), jnp.arange(len(x.mask)), jax.random.split(key, len(x.mask)))
        (_, log_weights, so_far), _ = jax.lax.scan(step, start, steps)
        return so_far + jax.nn.logsumexp(log_weights) - jnp.log(self.num_particles)

    def of_batch(self, model, proposal, batch, key):
        keys = jax.random.split(key, len(batch.rows))
        return jax.vmap(lambda x, key: self.log_evidence(model, proposal, x, key))(batch.x, keys)

    def __call__(self, model, proposal, batch, *, key, step):
        """As an objective."""
        _, terms = FilteringObjective(ADAPTIVE)(model, proposal, batch, key=key, step=step)
        return self.of_batch(model, proposal, batch, key).mean(), terms

    def evaluator(self, model, proposal, split, *, num_samples, key, noise=None, filtering=None):
        """As an evaluator."""
        batch = jax.tree.map(jnp.asarray, split.take(np.arange(len(split))))
        draw = jax.jit(lambda key: self.of_batch(model, proposal, batch, key))
        log_p = np.asarray(jax.lax.map(draw, jax.random.split(key, num_samples)))
        rows, kinds = np.arange(len(split)), {"x": Kind.OBSERVED}
        return Evaluation(kinds, {"x": log_p}, {}, split.num_units, rows, "valid")


def planted(name, fault):
    """A setup that claims the library's filter and trains with one of its own."""
    claim = FilteringObjective(ADAPTIVE)
    own = OwnFilter(fault)
    return setup_of(*PAIRS[name], ADAPTIVE, objective=own, claim=claim, filtering=None)


def gathered(setup):
    pair = (setup.model, setup.proposal)
    return filter_laws.filters(setup, pair, jax.random.key(3), jit_once)


PAIRS: dict[str, tuple[Any, Any]] = {
    "chain": (CHAIN, FromPrior()),
    "guided": (LINEAR, LGSSMOptimal()),
}


def test_an_adaptive_bootstrap_filter_is_unbiased():
    """In training and in evaluation."""
    found = gathered(setup_of(*PAIRS["chain"], ADAPTIVE))
    finding = filter_evidence_is_unbiased(found)
    assert (finding.verdict, finding.causes) == (OK, ())
    assert found.resampled_share > 0.5
    assert list(found.sources) == ["the library's filter", "the objective", "the evaluator"]


def test_a_guided_filter_that_always_resamples_is_unbiased():
    found = gathered(setup_of(*PAIRS["guided"], ALWAYS, filtering=None))
    assert filter_evidence_is_unbiased(found).verdict is OK
    assert found.resampled_share == 1.0


def test_a_right_filter_of_ones_own_is_unbiased():
    assert filter_evidence_is_unbiased(gathered(planted("chain", ""))).verdict is OK


@pytest.mark.parametrize(
    ("name", "fault", "cause"),
    [
        ("chain", "weights kept", WEIGHTS_KEPT),
        ("guided", "not gathered", NOT_GATHERED),
    ],
)
def test_a_wrong_filter_is_found(name, fault, cause):
    """The first cause is named where the side of the error tells it. Fewer steps are looked at where the
    wrong estimates spread too widely."""
    finding = filter_evidence_is_unbiased(gathered(planted(name, fault)))
    assert finding.verdict is FAULT
    assert finding.where.startswith("the objective")
    assert cause in finding.causes[: 1 if fault != "not gathered" else 3]


def test_an_evaluator_with_a_wrong_filter_is_found():
    """The objective trains the ELBO; only what is reported is a filter's."""
    elbo, wrong = Objective("elbo"), OwnFilter("normaliser dropped").evaluator
    setup = setup_of(*PAIRS["chain"], ADAPTIVE, objective=elbo, claim=elbo, evaluator=wrong)
    finding = filter_evidence_is_unbiased(gathered(setup))
    assert (finding.verdict, finding.where[:13]) == (FAULT, "the evaluator")
    assert finding.causes[0] == NORMALISER_DROPPED


def test_a_run_without_a_filter_or_without_a_marginal_is_not_asked():
    elbo = Objective("elbo")
    setup = setup_of(*PAIRS["chain"], ADAPTIVE, objective=elbo, claim=elbo, filtering=None)
    assert gathered(setup) is None

    class Unknown(LinearGaussianSSM):
        log_marginal = property()  # as if the class had none

    unknown = Unknown(**{f.name: getattr(LINEAR, f.name) for f in fields(LINEAR)})
    assert gathered(setup_of(unknown, FromPrior(), ADAPTIVE)) is None


def test_a_twin_that_knows_its_marginal_is_asked_instead():
    """Two steps of a chain, all nine sequences listed; the run's own model has no `log_marginal`."""

    class Unknown(LinearGaussianSSM):
        log_marginal = property()

    unknown = Unknown(**{f.name: getattr(LINEAR, f.name) for f in fields(LINEAR)})
    every = np.stack(np.meshgrid(*[np.arange(3)] * 2, indexing="ij"), -1).reshape(-1, 2)
    twin = Twin(CHAIN, FromPrior(), Sequence(jnp.asarray(every), np.ones((9, 2), bool)))
    found = gathered(setup_of(unknown, FromPrior(), ALWAYS, twin=lambda key: twin))
    assert filter_evidence_is_unbiased(found).verdict is OK
    assert (found.num_steps, found.num_particles) == (2, 8)
