"""Identities: the objective of a filter is the surrogate of its record, with one particle the ELBO;
and a step is traced once per length that batches are cut to."""

from dataclasses import replace
from functools import partial
from itertools import islice

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from tightbound.data.batch import training_batches
from tightbound.data.sequences import sequence_split
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.estimators.surrogates import filtering_with_resampling
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.inference.filtering import Filtering
from tightbound.inference.stepwise import filter_pair
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.models.stateful import FromPrior
from tightbound.nn.outputs import BernoulliOutput
from tightbound.train.filtering import FilteringObjective
from tightbound.train.loop import compile_step, fit, init_state
from tightbound.train.objective import Objective

KEY, STEP = jax.random.key(0), jnp.zeros((), jnp.int32)
LENGTHS = [2, 3, 5, 4, 1, 6, 2, 5, 3, 4, 6, 1]


@pytest.fixture(scope="module")
def pair():
    keys = jax.random.split(jax.random.key(1), 2)
    sizes = {"network_size": 3, "min_scale": 0.1}
    model = VRNN(2, 1, BernoulliOutput(), num_features=2, hidden_size=3, **sizes, key=keys[0])
    return model, StepProposal(3, 3, 1, **sizes, key=keys[1])


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(0)
    rows = [1.0 * (random.normal(size=(length, 2)) > 0) for length in LENGTHS]
    return sequence_split("train", rows)


def value_and_derivative(pair, function):
    """Of a function of the pair: its value, and its derivative in one direction of all parameters."""
    parameters, static = eqx.partition(pair, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(parameters)
    direction = jax.random.normal(jax.random.key(3), flat.shape)

    @jax.jit
    def run():
        return jax.jvp(
            lambda flat: function(*eqx.combine(unravel(flat), static)), (flat,), (direction,)
        )

    return run()


@pytest.fixture(scope="module")
def batch(split):
    return split.take(np.arange(4))


RULE = Filtering(3, threshold=1.0, resampling="multinomial")


@pytest.fixture(scope="module")
def values(pair, batch):
    """Of the same draws: the mean bound, the surrogate that keeps resampling, and the objective that
    keeps it; then the objective with one particle more than one."""

    @eqx.filter_jit
    def run(model, proposal):
        terms = filter_pair(model, proposal, batch, RULE, key=KEY)
        kept, _ = FilteringObjective(RULE, "kept")(model, proposal, batch, key=KEY, step=STEP)
        two, _ = FilteringObjective(Filtering(2))(model, proposal, batch, key=KEY, step=STEP)
        return filtering_log_marginal(terms).mean(), filtering_with_resampling(terms), kept, two

    model, proposal = pair
    return run(model, proposal)


def test_dropped_it_is_the_bound_and_its_gradient_and_kept_another_surrogate(pair, batch, values):
    """Identity: the value is the mean of `filtering_log_marginal` on the same draws; the terms are of
    one draw, whose log-weight is the bound of each sequence and has the same derivative."""

    def dropped(model, proposal):
        value, terms = FilteringObjective(RULE)(model, proposal, batch, key=KEY, step=STEP)
        assert terms.log_weights.shape == (1, 4)
        return jnp.stack([value, terms.log_weights.mean()])

    bound, surrogate, kept, _ = values
    found, derivative = value_and_derivative(pair, dropped)
    assert_allclose(found, jnp.stack([bound, bound]), rtol=1e-12)
    assert_allclose(derivative[0], derivative[1], rtol=1e-10)
    assert_allclose(kept, surrogate, rtol=1e-12)
    assert abs(kept - bound) > 0.1


def test_with_one_particle_it_is_the_elbo(pair, batch, values):
    """Identity: value and derivative on the same key, whatever the rule. Planted: two particles."""

    def both(model, proposal):
        one = FilteringObjective(Filtering(1, threshold=1.0))
        named = {"key": KEY, "step": STEP}
        return jnp.stack([o(model, proposal, batch, **named)[0] for o in (Objective(), one)])

    found, derivative = value_and_derivative(pair, both)
    assert_allclose(found[0], found[1], rtol=1e-12)
    assert_allclose(derivative[0], derivative[1], rtol=1e-10)
    assert abs(values[-1] - found[0]) > 1e-2


def test_objectives_that_cannot_be_meant_are_refused(batch):
    for rule in (Filtering(4), Filtering(4, threshold=0.5, resampling="multinomial")):
        with pytest.raises(
            ValueError, match=r"whose ancestors have no probability of their own\. Use"
        ):
            FilteringObjective(rule, "kept")
    assert FilteringObjective(Filtering(4, 0, resampling="multinomial"), "kept").path == "score"
    with pytest.raises(
        ValueError, match="ProbabilisticPCA with FromPrior has no steps at which particles could be"
    ):
        FilteringObjective()(
            ProbabilisticPCA(2, 1, key=KEY),
            FromPrior(),
            batch,
            key=KEY,
            step=STEP,
        )


def test_a_step_is_traced_once_per_length_that_batches_are_cut_to(pair, split):
    """Over three epochs of mixed lengths there are as many traces as lengths. Planted: batches cut
    to their own longest row ask for more, and the counter refuses."""
    model, proposal = pair
    optimiser = optax.sgd(1e-3)

    def batches(lengths):
        return islice(training_batches(replace(split, lengths=lengths), 2, seed=0), 18)

    def counted():
        return eqx.debug.assert_max_traces(partial(Objective().__call__), max_traces=2)

    def state():
        return init_state(model, proposal, optimiser)

    records = fit(state(), batches((3, 6)), counted(), optimiser, key=KEY)
    assert {record.batch.mask.shape[1] for record in records} == {3, 6}

    leaves, _, step = compile_step(state(), counted(), optimiser)
    every = {batch.mask.shape[1]: batch for batch in batches((1, 2, 3, 4, 5, 6))}
    for _ in range(2):
        step.trace(leaves, every.popitem()[1], KEY)
    with pytest.raises(RuntimeError, match="can only be traced 2 times"):
        step.trace(leaves, every.popitem()[1], KEY)
