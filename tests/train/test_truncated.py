"""Windows whose state is carried: gradients against loops written out, values against whole sequences
(keys fixed beforehand, level 1e-3 over the file)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from jaxtyping import Array, Float
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.sequences import sequence_split
from tightbound.data.windows import epochs_of_windows, window_of, windowed_batches
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.inference.filter import Population, filter_particles
from tightbound.inference.filtering import Filtering
from tightbound.models.lgssm import LGSSMSmoothing, LinearGaussianSSM
from tightbound.models.stateful import AbstractStateful, AbstractStepwise, Guided
from tightbound.nn.outputs import BernoulliOutput
from tightbound.terms import Kind
from tightbound.train.filtering import FilteringObjective
from tightbound.train.folder import RunFolder
from tightbound.train.loop import compile_step, fit, init_state
from tightbound.train.objective import Objective
from tightbound.train.run import batches_of, first_state, run, run_keys
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup
from tightbound.train.truncated import Truncated

LENGTHS = (7, 4, 1, 6)
KEY = jax.random.key(11)
STEP = jnp.zeros((), jnp.int32)
SIZES = {"network_size": 3, "min_scale": 0.1}
INNER = {
    "elbo": Objective("elbo", num_samples=2),
    "fivo": FilteringObjective(Filtering(3, threshold=0.9)),
}


class Level(AbstractStateful):
    """h_t = tanh(a h_{t-1} + b z_t + c x_t),  z_t ~ N(h_{t-1}, 1),  x_t ~ N(z_t + h_{t-1}, 1): the
    least that has a state and latents, so that a step compiles in no time."""

    kinds: ClassVar[Mapping[str, Kind]] = {"z": Kind.LATENT, "x": Kind.OBSERVED}

    weights: Float[Array, "three"]  # a, b, c
    num_steps: int = eqx.field(static=True, default=5)

    def init(self):
        return jnp.zeros(())

    def read(self, x_t):
        return self.weights[2] * x_t

    def memory(self, state):
        return state[None]

    def prior(self, state, clock):
        return dist.Normal(state, 1.0)

    def likelihood(self, state, z):
        return dist.Normal(z + state, 1.0)

    def advance(self, state, z, reading):
        return jnp.tanh(self.weights[0] * state + self.weights[1] * z + reading)


class Nearby(AbstractStepwise):
    """q(z_t | h_{t-1}, x_t) = N(d h_{t-1} + e c x_t, 1)."""

    weights: Float[Array, "two"]  # d, e

    def context(self, model, x, readings):
        return readings

    def propose(self, model, state, context, clock):
        return dist.Normal(self.weights[0] * state + self.weights[1] * context, 1.0)


def level(shift=0.0):
    return Level(jnp.array([0.9, 0.7, -0.5]) + shift), Nearby(jnp.array([0.6, 0.8]) + shift)


def level_split(lengths=LENGTHS, name="train"):
    random = np.random.default_rng(2)
    return sequence_split(name, [random.normal(size=n) for n in lengths])


def vrnn():
    keys = jax.random.split(jax.random.key(0), 2)
    model = VRNN(2, 1, BernoulliOutput(), num_features=2, hidden_size=3, **SIZES, key=keys[0])
    return model, StepProposal(3, 3, 1, **SIZES, key=keys[1])


def bits_split():
    random = np.random.default_rng(2)
    return sequence_split("train", [1.0 * random.integers(0, 2, (n, 2)) for n in LENGTHS])


def all_windows(split, rows, objective):
    """Every window of these rows, in order."""
    longest, first = int(split.mask[rows].sum(1).max()), 0
    yield window_of(split, rows, 0, objective.span)
    while first + objective.span < longest:
        first += objective.stride
        yield window_of(split, rows, first, objective.span)


@eqx.filter_jit
def on_window(objective, pair, window, carry, key):
    return objective.on_window(*pair, window, carry, key=key, step=STEP)


@eqx.filter_jit
@eqx.filter_value_and_grad
def value_of(pair, objective, batch, carry, key):
    if carry is None:
        return objective(*pair, batch, key=key, step=STEP)[0]
    return objective.on_window(*pair, batch, carry, key=key, step=STEP)[0]


def along(objective, pair, windows, *, forget=lambda carry: carry):
    """The value, terms and carry of every window at the same parameters, all with one key."""
    carry, found = objective.first_carry(*pair, len(windows[0].rows)), []
    for window in windows:
        found.append(on_window(objective, pair, window, forget(carry), KEY))
        carry = found[-1][2]
    return found


def arrays(tree):
    """Copies of all arrays of a pytree: they outlive donation."""
    return [np.array(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]


@pytest.mark.parametrize("name", INNER)
def test_a_window_as_long_as_the_sequences_is_ordinary_training(name):
    """Identity: the value has the same bits and the gradient is the same to 1e-12. Planted: a
    piece that is not told of the steps before it."""
    split, inner, pair = level_split(), INNER[name], level()
    objective = Truncated(inner, 7, 7)
    rows, carry = np.arange(4), objective.first_carry(*pair, 4)
    value, gradient = value_of(pair, objective, window_of(split, rows, 0, 7), carry, KEY)
    expected, of_whole = value_of(pair, inner, split.take(rows), None, KEY)
    assert value == expected
    for found, right in zip(arrays(gradient), arrays(of_whole), strict=True):
        assert_allclose(found, right, rtol=0, atol=1e-12)
    piece = replace(window_of(split, rows, 2, 7), first_clock=None)
    _, of_piece = value_of(pair, inner, piece, None, KEY)
    assert np.abs(arrays(of_piece)[0] - arrays(of_whole)[0]).max() > 1e-3


def drawn_noise(key, row):
    """The standard normal draws of steps 0 to 5 of a row, from the keys that `particle_filter` documents."""
    steps_key = jax.random.split(jax.random.fold_in(key, row))[1]

    def at(clock):
        move_key = jax.random.split(jax.random.fold_in(steps_key, clock))[1]
        return jax.random.normal(jax.random.split(move_key, 1)[0])

    return jax.vmap(at)(jnp.arange(6))


@jax.jit
@jax.grad
def gradient_by_hand(weights, before, x, noise, held):
    """Of the mean ELBO of steps 4 and 5, written out. Steps 0 and 1 are of the window before, with
    its weights and its noise; where `held` says so, the state before a step is a constant."""
    earlier = weights + jax.lax.stop_gradient(
        before - weights
    )  # its values, were they ours to move
    h, total = jnp.zeros(2), jnp.zeros(2)
    for t in range(6):
        a, b, c, d, e = earlier if t < 2 else weights
        eps = noise[0 if t < 2 else 1][:, t]
        h = jnp.where(held[t], jax.lax.stop_gradient(h), h)
        z = d * h + e * c * x[:, t] + eps
        if t >= 4:
            total += -0.5 * ((z - h) ** 2 + (x[:, t] - z - h) ** 2 - eps**2)
        h = jnp.tanh(a * h + b * z + c * x[:, t])
    return total.mean()


def test_the_gradient_of_a_window_goes_back_through_its_steps_and_no_further():
    """Oracle: `jax.grad` of six steps written out, k1 = 2 and k2 = 4, the state before step 2 held
    constant and reached with the parameters of the window before. Planted: held before step 4 (the
    gradient through the next steps alone), nowhere (through everything), everywhere; and a carry
    made with the parameters of now."""
    split, before, pair = level_split((6, 6)), level(), level(0.2)
    objective = Truncated(Objective(), 2, 4)
    first, second = all_windows(split, np.arange(2), objective)
    keys = list(jax.random.split(KEY))
    _, _, carry = on_window(objective, before, first, objective.first_carry(*before, 2), keys[0])
    _, gradient = value_of(pair, objective, second, carry, keys[1])
    found = np.concatenate(arrays(gradient))

    old, new = (jnp.concatenate([model.weights, q.weights]) for model, q in (before, pair))
    noise = [jax.vmap(drawn_noise, (None, 0))(key, jnp.arange(2)) for key in keys]
    x = jnp.asarray(split.x.values)

    def by_hand(*held, before=old):
        held = jnp.isin(jnp.arange(6), jnp.array(held, int))
        return gradient_by_hand(new, before, x, noise, held)

    assert_allclose(found, by_hand(2), rtol=0, atol=1e-12)
    for held in [(4,), (), range(6)]:
        assert np.abs(found - by_hand(*held)).max() > 1e-3
    assert np.abs(found - by_hand(2, before=new)).max() > 1e-3


@pytest.mark.parametrize(("family", "name"), [("vrnn", "elbo"), ("level", "fivo")])
def test_the_values_of_all_windows_sum_to_the_bound_and_the_carry_is_the_state_there(family, name):
    """Identity, with the same draws: `inner` on whole sequences, and the particles that a filter of
    the first steps alone ends with. Planted: a carry that is forgotten; with a filter, its weights
    alone."""
    pair, split = (vrnn(), bits_split()) if family == "vrnn" else (level(), level_split())
    rows = np.arange(4)
    objective = Truncated(INNER[name], 2, 3)
    windows = list(all_windows(split, rows, objective))
    assert len(windows) == 3
    found = along(objective, pair, windows)
    batch = split.take(rows)
    value, terms = eqx.filter_jit(INNER[name])(*pair, batch, key=KEY, step=STEP)
    assert_allclose(sum(v for v, _, _ in found), value, rtol=1e-12)
    parts = sum(np.asarray(t.log_weights) for _, t, _ in found)
    assert_allclose(parts, terms.log_weights, rtol=1e-12)
    assert_array_equal(sum(np.asarray(t.num_units) for _, t, _ in found), LENGTHS)

    rule = objective._filtering
    cut = replace(batch, mask=batch.mask & (np.arange(7) < 4))
    reached = eqx.filter_jit(filter_particles)(
        Guided(*pair), cut, num_particles=rule.num_particles, threshold=rule.threshold, key=KEY
    )[1]
    carry = found[1][2]  # after two strides
    state, begun = carry.state
    assert_allclose(state, reached.state, rtol=1e-11)
    assert not begun.any()

    def forgetful(carry):
        fresh = objective.first_carry(*pair, 4)
        return fresh if name == "elbo" else Population(carry.state, fresh.log_weights)

    wrong = along(objective, pair, windows, forget=forgetful)
    assert abs(sum(v for v, _, _ in wrong) - value) > 1e-4
    if name == "fivo":
        going_on = np.array(LENGTHS) > 4
        expected = jax.nn.log_softmax(reached.log_weights, axis=1)
        assert_allclose(carry.log_weights[going_on], expected[going_on], atol=1e-11)


@pytest.fixture(scope="module")
def chain():
    """A linear-Gaussian chain that begins far from 0, its exact proposal, and rows."""
    model = LinearGaussianSSM(
        initial_mean=jnp.array([3.0]),
        initial_scale=jnp.array([[0.5]]),
        transition_weight=jnp.array([[0.9]]),
        transition_scale=jnp.array([[0.3]]),
        emission_weight=jnp.array([[1.0]]),
        emission_scale=jnp.array([[0.4]]),
        num_steps=6,
    )
    rows = np.random.default_rng(3).normal(3.0, 0.5, (400, 6, 1))
    return (model, LGSSMSmoothing()), sequence_split("train", list(rows))


def test_windows_that_always_begin_anew_are_independent_sequences(chain):
    """Oracle: the Kalman filter's log p of every piece as a sequence of its own, which the exact
    proposal reaches whatever is drawn. Planted: a zero state that is not at clock 0."""
    pair, split = chain
    objective, rows = Truncated(Objective(), 2, 2, reset=1.0), np.arange(3)
    windows = list(all_windows(split, rows, objective))
    found = [np.asarray(terms.log_weights[0]) for _, terms, _ in along(objective, pair, windows)]

    @eqx.filter_jit
    def exact(model, x):
        return jax.vmap(model.log_marginal)(x)

    expected = [exact(pair[0], window.x) for window in windows]
    assert_allclose(found, expected, rtol=1e-10)
    model = eqx.tree_at(
        lambda m: (m.initial_mean, m.initial_scale),
        pair[0],
        (jnp.zeros(1), pair[0].transition_scale),
    )
    assert np.abs(exact(model, windows[1].x) - expected[1]).min() > 1.0


def test_the_share_of_rows_that_begin_anew_is_the_given_one(chain):
    """Sampled: a binomial count of 400 rows within 4 of its standard errors, other rows in the next
    window. Half of it would be 8 of them off."""
    pair, split = chain
    objective = Truncated(Objective(), 2, 2, reset=0.5)
    windows = list(all_windows(split, np.arange(400), objective))
    carries = [carry for _, _, carry in along(objective, pair, windows)]
    second, third = (
        np.asarray(c.state[1][:, 0]) == at for c, at in zip(carries[1:], (2, 4), strict=True)
    )
    error = np.sqrt(0.25 / 400)
    for anew in (second, third):
        assert abs(anew.mean() - 0.5) < 4 * error
        assert abs(anew.mean() - 0.25) > 6 * error
    assert abs((second & third).mean() - 0.25) < 4 * np.sqrt(0.1875 / 400)


@dataclass
class Counting:
    """A `Truncated` that notes when Python enters it, which is while tracing."""

    inner: Truncated
    traces: int = 0

    def __call__(self, *args, **kwargs):
        return self.inner(*args, **kwargs)

    def first_carry(self, *args):
        return self.inner.first_carry(*args)

    def on_window(self, *args, **kwargs):
        self.traces += 1
        return self.inner.on_window(*args, **kwargs)


def test_one_compiled_step_serves_all_windows_and_nothing_piles_up():
    """Counts: one trace, and as many live arrays after 50 windows as after the second. Planted: the
    carries kept, which the count of live arrays must see."""
    pair, split = level(), level_split((7, 4, 1, 6, 12, 3))
    counting, optimiser = Counting(Truncated(Objective(), 2, 3, reset=0.2)), optax.adam(1e-2)
    state = init_state(*pair, optimiser, carry=counting.first_carry(*pair, 2))
    batches = windowed_batches(split, 2, 2, 3, seed=0)
    live, kept = [], []
    for record in fit(state, islice(batches, 55), counting, optimiser, key=KEY):
        if record.step > 50:
            kept.append(jax.tree.map(jnp.copy, record.state.carry))
        live.append(len(jax.live_arrays()))
    assert counting.traces == 1
    assert len(set(live[1:50])) == 1
    assert live[54] > live[49]


def test_a_run_of_windows_goes_on_as_if_it_had_never_stopped(tmp_path):
    """Oracle: all updates in one go, to the bit, against a run that is stopped in the middle of its
    rows and reads its carry from the checkpoint. Planted: the carry lost on the way. What is
    trained on is named, and claims no bound."""
    model, proposal = level()
    often = RunSettings(
        steps=7, batch_size=2, log_every=3, evaluate_every=9, evaluate_samples=1, checkpoint_every=9
    )
    setup = Setup(
        name="windows",
        model=model,
        proposal=proposal,
        data={"train": level_split((7, 4, 9, 6)), "valid": level_split((4, 3), "valid")},
        objective=Truncated(Objective(), 2, 3, reset=0.2),
        optimiser=optax.adam(0.05),
        run=often,
    )
    leaves, unflatten, update = compile_step(first_state(setup), setup.objective, setup.optimiser)
    _, key, _ = run_keys(setup.seed)

    def go(leaves, start, stop):
        for window in islice(batches_of(setup, start=start), stop - start):
            leaves, _ = update(leaves, window, key)
        return leaves

    at_five = go(leaves, 0, 5)
    state = unflatten([jnp.copy(leaf) for leaf in at_five])
    lost = replace(state, carry=first_state(setup).carry)
    lost = unflatten(go(compile_step(lost, setup.objective, setup.optimiser)[0], 5, 7))
    expected = unflatten(go(at_five, 5, 7))

    folder, stops = RunFolder(tmp_path / "run"), iter([False] * 4 + [True])
    *_, stopped = run(setup, folder, should_stop=lambda: next(stops))
    assert (stopped.status, stopped.step) == ("interrupted", 5)
    assert next(batches_of(setup, start=5)).first_clock > 0
    *_, last = run(setup, folder)
    for found, right in zip(arrays(last.state), arrays(expected), strict=True):
        assert_array_equal(found, right, strict=True)
    assert (lost.model.weights != expected.model.weights).all()
    _, first, *_, final = folder.read_steps()  # the first state's comes before
    assert first["epoch"] == epochs_of_windows(setup.data["train"], 2, 2, 3, seed=0, step=3)
    bound = first["train"]["bound"]
    assert (bound["bound"], bound["split"]) == ("none", "train, 2 steps at a time")
    assert final["held_out"]["bound"]["bound"] == "lower"


def test_windows_and_objectives_that_do_not_go_together_are_refused():
    """The sentences."""
    with pytest.raises(ValueError, match="through the last 2 steps was asked for at every 3 steps"):
        Truncated(Objective(), 3, 2)
    with pytest.raises(ValueError, match=r"`reset` is 1\.5, but it is the probability"):
        Truncated(Objective(), 2, 2, reset=1.5)
    with pytest.raises(ValueError, match="or with the estimator 'iwae', which are of whole"):
        Truncated(Objective("iwae", 2), 2, 2)
    kept = FilteringObjective(Filtering(2, 1, 1, "multinomial"), "kept")
    with pytest.raises(ValueError, match="it needs all that comes after, but a window ends before"):
        Truncated(kept, 2, 2)
    state = init_state(*level(), optax.sgd(0.1))
    [window] = islice(windowed_batches(level_split(), 2, 2, 3, seed=0), 1)
    for objective in (Objective(), Truncated(Objective(), 2, 3)):
        with pytest.raises(
            ValueError, match="Give whole sequences, or a `Truncated` objective and"
        ):
            next(fit(state, [window], objective, optax.sgd(0.1), key=KEY))
