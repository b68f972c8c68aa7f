"""One update is what the formulas say, to rounding; everything else about `fit` is exact."""

from dataclasses import replace
from itertools import islice

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.batch import rows, training_batches
from tightbound.data.noising import Binarise
from tightbound.models.vae import VAE, GaussianProposal
from tightbound.nn.outputs import BernoulliOutput
from tightbound.train.loop import fit, host, init_state
from tightbound.train.objective import Objective

KEY = jax.random.key(5)
LEVELS = 16


def arrays(tree):
    """Copies of all arrays of a pytree: they outlive donation."""
    return [np.array(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]


@pytest.fixture(scope="module")
def vae():
    """A VAE of six grey pixels, and one batch of four rows out of order."""
    model_key, proposal_key = jax.random.split(jax.random.key(1))
    model = VAE(6, 2, BernoulliOutput(), hidden_size=3, key=model_key)
    proposal = GaussianProposal(6, 2, hidden_size=3, key=proposal_key)
    grey = np.random.default_rng(0).integers(0, LEVELS + 1, (9, 6))
    return model, proposal, rows("train", grey).take(np.array([7, 2, 5, 0]))


def elbo_by_hand(parameters, static, batch, key):
    """The mean ELBO of one draw per sequence, written out: keys, noise, networks and densities."""
    model, proposal = eqx.combine(parameters, static)
    noise_key, draw_key = jax.random.split(key)

    def one(grey, row):
        ink = jnp.asarray(grey / LEVELS, jnp.float32)
        x = 1.0 * jax.random.bernoulli(jax.random.fold_in(noise_key, row), ink)
        mean, log_scale = jnp.split(proposal.encoder(x), 2)
        eps = jax.random.normal(jax.random.split(jax.random.fold_in(draw_key, row), 1)[0], (2,))
        logits = model.decoder(mean + jnp.exp(log_scale) * eps)
        log_p = -0.5 * jnp.square(mean + jnp.exp(log_scale) * eps).sum()
        log_q = -0.5 * jnp.square(eps).sum() - log_scale.sum()  # log 2 pi cancels
        return (x * logits - jnp.log1p(jnp.exp(logits))).sum() + log_p - log_q

    return jax.vmap(one)(jnp.asarray(batch.x), jnp.asarray(batch.rows)).mean()


@pytest.mark.parametrize("step", [0, 3])
def test_an_update_is_the_optimiser_applied_to_the_gradient_of_the_elbo_written_out(vae, step):
    """Oracle: optax on `jax.grad` of the ELBO written out with the documented keys,
    `split(fold_in(key, step))` for noise and draws. Planted: the keys of another step."""
    model, proposal, batch = vae
    optimiser = optax.adam(1e-2)
    parameters, static = eqx.partition((model, proposal), eqx.is_inexact_array)

    @jax.jit
    def by_hand(key):
        gradient = jax.grad(lambda p: -elbo_by_hand(p, static, batch, key))(parameters)
        updates, _ = optimiser.update(gradient, optimiser.init(parameters), parameters)
        return optax.apply_updates(parameters, updates)

    state = replace(init_state(model, proposal, optimiser), step=jnp.asarray(step, jnp.int32))
    noise = Binarise(LEVELS)
    [record] = fit(state, [batch], Objective(), optimiser, key=KEY, noise=noise)
    fitted = arrays((record.state.model, record.state.proposal))
    for found, expected in zip(fitted, arrays(by_hand(jax.random.fold_in(KEY, step))), strict=True):
        assert_allclose(found, expected, rtol=0, atol=1e-12)
    wrong = arrays(by_hand(jax.random.fold_in(KEY, step + 1)))
    assert max(np.abs(f - w).max() for f, w in zip(fitted, wrong, strict=True)) > 1e-3


def test_the_learning_rate_scale_multiplies_the_update(make_setup):
    """Identity: halving the scale halves how far the parameters move, to rounding."""
    setup = make_setup()
    batch = setup.data["train"].take(np.arange(4))

    def moved(scale):
        state = init_state(setup.model, setup.proposal, setup.optimiser)
        before = state.model.offset.item()
        state = replace(state, learning_rate_scale=jnp.asarray(scale))
        [record] = fit(state, [batch], setup.objective, setup.optimiser, key=KEY)
        return record.state.model.offset.item() - before

    assert_allclose(moved(0.5), 0.5 * moved(1.0), rtol=1e-12)


def test_the_callers_model_survives_and_the_state_of_an_old_record_does_not(make_setup):
    """`init_state` copies, `fit` donates: only the newest state can be read."""
    setup = make_setup()
    batches = training_batches(setup.data["train"], 4, seed=0)
    before = arrays((setup.model, setup.proposal))
    state = init_state(setup.model, setup.proposal, setup.optimiser)
    records = fit(state, batches, setup.objective, setup.optimiser, key=KEY)
    first = next(records)
    kept = first.state.model.offset
    next(records)
    for old, now in zip(before, arrays((setup.model, setup.proposal)), strict=True):
        assert_array_equal(old, now)
    for donated in (kept, first.state.model.offset, state.model.offset):
        with pytest.raises(RuntimeError, match="deleted"):
            donated.item()


def test_the_step_is_traced_once_however_many_are_taken(make_setup):
    """A counter in the objective, which Python enters only while tracing. Planted: a batch of
    another size, which the counter must see."""
    setup = make_setup()
    traces = []

    def counting(*args, **kwargs):
        traces.append(1)
        return setup.objective(*args, **kwargs)

    def batches():
        source = training_batches(setup.data["train"], 4, seed=0)
        yield from (next(source) for _ in range(6))
        yield setup.data["train"].take(np.arange(3))

    state = init_state(setup.model, setup.proposal, setup.optimiser)
    counts = [len(traces) for _ in fit(state, batches(), counting, setup.optimiser, key=KEY)]
    assert counts == [1] * 6 + [2]


def test_records_count_updates_and_carry_the_batch_and_its_terms(make_setup):
    """Identity: the loss of the ELBO is minus the mean log-weight, which is the sum over sites."""
    setup = make_setup()
    source = training_batches(setup.data["train"], 4, seed=0)
    batches = [next(source) for _ in range(3)]
    state = init_state(setup.model, setup.proposal, setup.optimiser)
    records = fit(state, batches, setup.objective, setup.optimiser, key=KEY)
    for number, (record, batch) in enumerate(zip(records, batches, strict=True), start=1):
        evidence = host(record.evidence)
        assert (record.step, record.state.step.item()) == (number, number)
        assert_array_equal(record.batch.x, batch.x)
        assert_array_equal(evidence.rows, batch.rows)
        assert_allclose(evidence.loss, -evidence.log_weights.mean(), rtol=1e-14)
        sites = evidence.log_p["z"] + evidence.log_p["x"] - evidence.log_q["z"]
        assert_allclose(evidence.log_weights, sites, rtol=1e-14)


def test_padding_changes_neither_the_update_nor_the_terms(make_setup):
    """Law: frames outside the mask count for nothing, whatever they hold. Planted: the mask forgotten."""
    setup = make_setup()
    batch = setup.data["train"].take(np.arange(4))
    x = np.concatenate([batch.x, np.full((4, 3), 50.0)], axis=1)
    mask = np.concatenate([batch.mask, np.zeros((4, 3), bool)], axis=1)
    padded = replace(batch, x=x, mask=mask)
    forgotten = replace(batch, x=x, mask=np.ones_like(mask))

    def offset_and_loss(batch):
        state = init_state(setup.model, setup.proposal, optax.sgd(0.1))
        [record] = fit(state, [batch], setup.objective, optax.sgd(0.1), key=KEY)
        return np.array([record.state.model.offset, record.evidence.loss])

    expected = offset_and_loss(batch)
    assert_allclose(offset_and_loss(padded), expected, rtol=1e-13)
    assert np.abs(offset_and_loss(forgotten) - expected).min() > 1e-2


def test_a_sequence_keeps_its_draws_whoever_its_neighbours_are(make_setup):
    """Law: draws are keyed by the row, so a row's log-weight is the same in any batch."""
    setup = make_setup()

    def log_weight(rows, of_row):
        state = init_state(setup.model, setup.proposal, setup.optimiser)
        batch = setup.data["train"].take(np.array(rows))
        [record] = fit(state, [batch], setup.objective, setup.optimiser, key=KEY)
        return np.array(record.evidence.log_weights[0, rows.index(of_row)])

    assert_allclose(log_weight([3, 5], 5), log_weight([5, 9], 5), rtol=1e-14)
    assert log_weight([3, 5], 5) != log_weight([3, 5], 3)


def test_fit_goes_on_from_a_state_as_if_it_had_never_stopped(make_setup):
    """Oracle: six updates in one go, to the bit. Planted: a step count that starts over."""
    setup = make_setup()
    split = setup.data["train"]

    def go(state, steps, start):
        batches = islice(training_batches(split, 4, seed=0, start=start), steps)
        *_, last = fit(state, batches, setup.objective, setup.optimiser, key=KEY)
        return last.state

    def begin():
        return init_state(setup.model, setup.proposal, setup.optimiser)

    whole = arrays(go(begin(), 6, 0))
    continued = arrays(go(go(begin(), 3, 0), 3, 3))
    for expected, found in zip(whole, continued, strict=True):
        assert_array_equal(expected, found)
    forgetful = go(replace(go(begin(), 3, 0), step=jnp.zeros((), jnp.int32)), 3, 3)
    assert forgetful.model.offset.item() != whole[0].item()
