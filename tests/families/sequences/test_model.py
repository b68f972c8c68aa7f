"""Oracle: Chung et al. 2015, eq. 5 to 9, written as plain NumPy loops; where there are no latents, the
sum over every sequence."""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, log_expit
from scipy.stats import norm

from tightbound.data.batch import Batch
from tightbound.data.sequences import Sequence
from tightbound.data.strokes import Strokes
from tightbound.families.sequences.model import VRNN, StepProposal
from tightbound.inference.filtering import Filtering
from tightbound.inference.stepwise import filter_pair
from tightbound.inference.weigh import weigh
from tightbound.models.stateful import FromPrior, proposed
from tightbound.nn.gaussian_outputs import DiagonalGaussianOutput
from tightbound.nn.outputs import BernoulliOutput
from tightbound.nn.pen_output import PenOutput
from tightbound.terms import Kind

SIZES = {"hidden_size": 3, "network_size": 4, "min_scale": 0.05}
NUM_STEPS = 5
MASK = np.arange(NUM_STEPS) < 4


def numpy_mlp(mlp, x):
    *hidden, last = mlp.layers
    for layer in hidden:
        x = np.maximum(np.asarray(layer.weight) @ x + np.asarray(layer.bias), 0.0)
    return np.asarray(last.weight) @ x + np.asarray(last.bias)


def numpy_features(mlp, x):
    """A network of features ends in its activation, one of parameters does not."""
    return np.maximum(numpy_mlp(mlp, x), 0.0)


def numpy_cell(cell, x, state):
    """Cho et al. 2014 with the reset after the product; Hochreiter & Schmidhuber 1997."""
    weight, recurrent, bias = map(np.asarray, (cell.weight_ih, cell.weight_hh, cell.bias))
    if isinstance(cell, eqx.nn.GRUCell):
        reset_x, update_x, new_x = np.split(weight @ x + bias, 3)
        reset_h, update_h, new_h = np.split(recurrent @ state, 3)
        update = expit(update_x + update_h)
        new = np.tanh(new_x + expit(reset_x + reset_h) * (new_h + np.asarray(cell.bias_n)))
        return new + update * (state - new)
    h, c = state
    let_in, forget, new, out = np.split(weight @ x + recurrent @ h + bias, 4)
    c = expit(forget) * c + expit(let_in) * np.tanh(new)
    return expit(out) * np.tanh(c), c


def numpy_diagonal(features, min_scale):
    mean, raw = np.split(features, 2)
    return mean, min_scale + np.log1p(np.exp(raw))


def numpy_score(model, values, z):
    """Sites of every step, in nats, and h before it."""
    h = np.zeros(3)
    state = h if isinstance(model.cell, eqx.nn.GRUCell) else (h, np.zeros(3))
    scores, memories = [], []
    for x_t, z_t in zip(values, z, strict=True):
        h = state if isinstance(model.cell, eqx.nn.GRUCell) else state[0]
        memories.append(h)
        step = {}
        if len(z_t):
            mean, scale = np.zeros(len(z_t)), np.ones(len(z_t))
            if model.prior_network is not None:
                mean, scale = numpy_diagonal(numpy_mlp(model.prior_network, h), model.min_scale)
            step["z"] = norm.logpdf(z_t, mean, scale).sum()  # eq. 5
        of_z = numpy_features(model.latent_features, z_t) if len(z_t) else np.zeros(0)
        features = numpy_mlp(model.decoder, np.concatenate([of_z, h]))
        if isinstance(model.output, PenOutput):  # eq. 6
            mean, scale = numpy_diagonal(features[:-1], model.output.offset.min_scale)
            step["x"] = norm.logpdf(x_t[:2], mean, scale).sum()
            step["pen"] = log_expit(features[-1] if x_t[2] else -features[-1])
        else:
            step["x"] = log_expit(np.where(x_t, features, -features)).sum()
        scores.append(step)
        read = numpy_features(model.observation_features, x_t)
        state = numpy_cell(model.cell, np.concatenate([of_z, read]), state)  # eq. 7
    return {name: np.array([step[name] for step in scores]) for name in scores[0]}, memories


def make(case):
    """A model and one sequence of it, as the model takes it and as rows of numbers."""
    key = jax.random.key(0)
    rows = np.random.default_rng(1).normal(size=(NUM_STEPS, 3))
    if case == "pen":
        output = PenOutput(DiagonalGaussianOutput(0.1))
        rows[:, 2] = rows[:, 2] > 0
        x = Strokes(jnp.asarray(rows[:, :2]), jnp.asarray(rows[:, 2]))
        model = VRNN(3, 2, output, num_features=output.num_features(2), **SIZES, key=key)
        return model, x, rows
    rows = 1.0 * (rows > 0)
    changes = {
        "gru": {},
        "lstm": {"cell": "lstm", "depth": 2},
        "vrnn-i": {"learned_prior": False},
        "rnn": {},
    }[case]
    latent_size = 0 if case == "rnn" else 2
    output = BernoulliOutput()
    model = VRNN(3, latent_size, output, num_features=3, **SIZES, **changes, key=key)
    return model, jnp.asarray(rows), rows


CASES = ["gru", "lstm", "vrnn-i", "pen", "rnn"]


@pytest.mark.parametrize("case", CASES)
def test_the_score_is_the_papers_formulas(case):
    """Oracle: the loop above, at every real step. Planted: h of one step later, which has seen x_t."""
    model, x, rows = make(case)
    z = np.random.default_rng(2).normal(size=(NUM_STEPS, model.latent_size))
    found = eqx.filter_jit(model.score)(Sequence(x, jnp.asarray(MASK)), jnp.asarray(z))
    expected, _ = numpy_score(model, rows, z)
    assert set(found) == set(expected) == set(model.kinds)
    for name, log_p in expected.items():
        assert_allclose(found[name], np.where(MASK, log_p, 0.0), rtol=1e-10, atol=1e-12)
    late, _ = numpy_score(model, np.roll(rows, -1, axis=0), z)
    assert np.abs(late["x"] - expected["x"])[1:3].max() > 1e-2


def test_kinds_name_what_is_drawn_and_what_is_seen():
    assert dict(make("pen")[0].kinds) == {
        "z": Kind.LATENT,
        "x": Kind.OBSERVED,
        "pen": Kind.OBSERVED,
    }
    assert dict(make("rnn")[0].kinds) == {"x": Kind.OBSERVED}


@pytest.mark.parametrize(("case", "smoothing"), [("gru", False), ("lstm", True)])
def test_the_proposal_is_the_papers_formula(case, smoothing):
    """Oracle: eq. 9 on [f_x(x_t), h_{t-1}], or on the state of a GRU that has read x_T, ..., x_t
    (real steps only) in place of f_x(x_t)."""
    model, x, rows = make(case)
    proposal = StepProposal(
        4, 3, 2, network_size=5, smoothing=smoothing, min_scale=0.02, key=jax.random.key(3)
    )
    z = np.random.default_rng(4).normal(size=(NUM_STEPS, 2))
    sequence = Sequence(x, jnp.asarray(MASK))
    found = eqx.filter_jit(lambda x, z: proposed(model, proposal, x).log_prob(z))(
        sequence, jnp.asarray(z)
    )
    _, memories = numpy_score(model, rows, z)
    contexts = [numpy_features(model.observation_features, x_t) for x_t in rows]
    if smoothing:
        state, backward = np.zeros(5), []
        for read, real in zip(contexts[::-1], MASK[::-1], strict=True):
            state = numpy_cell(proposal.backward, read, state) if real else state
            backward.append(state)
        contexts = backward[::-1]
    for t in np.flatnonzero(MASK):
        features = numpy_mlp(proposal.network, np.concatenate([contexts[t], memories[t]]))
        expected = norm.logpdf(z[t], *numpy_diagonal(features, 0.02)).sum()
        assert_allclose(found["z"][t], expected, rtol=1e-10)
    assert_array_equal(found["z"][~MASK], 0.0)


def test_the_first_features_are_what_the_data_ask_for():
    """With the decoder's last weights at zero, every step has the probabilities of the bias."""
    first = jnp.array([0.3, -1.0, 2.0])
    model = VRNN(
        3,
        2,
        BernoulliOutput(),
        num_features=3,
        first_features=first,
        **SIZES,
        key=jax.random.key(0),
    )
    last = model.decoder.layers[-1]
    model = eqx.tree_at(lambda m: m.decoder.layers[-1].weight, model, jnp.zeros_like(last.weight))
    law = model.likelihood(jnp.ones(3), jnp.ones(2))
    assert_allclose(law.mean, expit(first), rtol=1e-12)


@pytest.fixture(scope="module")
def recurrent():
    """A network without latents, and every sequence of two steps of two bits."""
    model = VRNN(
        2,
        0,
        BernoulliOutput(),
        num_features=2,
        num_steps=2,
        **SIZES,
        key=jax.random.key(5),
    )
    values = jnp.array(list(product([0.0, 1.0], repeat=4))).reshape(16, 2, 2)
    mask = jnp.ones((16, 2), bool)
    return model, Batch(Sequence(values, mask), mask, mask.sum(1), jnp.arange(16))


def test_without_latents_the_bound_is_the_likelihood_whatever_the_key(recurrent):
    """Identity: ELBO and filtering bound are log p(x) = `score`, for any key, number of draws and
    rule; over all sequences p sums to one. Planted: with latents neither holds."""
    model, batch = recurrent

    @jax.jit
    def bounds(key):
        score = jax.vmap(model.score, in_axes=(0, None))(batch.x, jnp.zeros((2, 0)))["x"].sum(-1)
        draws = weigh(model, FromPrior(), batch, num_samples=2, key=key).log_weights
        rule = Filtering(3, threshold=1.0)
        filtered = filter_pair(model, FromPrior(), batch, rule, key=key)
        return score, draws, filtered.log_increments.sum(0)

    for seed in range(2):
        score, draws, filtered = bounds(jax.random.key(seed))
        assert_allclose(draws, jnp.broadcast_to(score, (2, 16)), rtol=1e-12)
        assert_allclose(filtered, jnp.broadcast_to(score, (3, 16)), rtol=1e-12)
    assert_allclose(jnp.exp(score).sum(), 1.0, rtol=1e-12)
    with_latents = make("gru")[0]
    some = Batch(
        Sequence(jnp.ones((1, 2, 3)), jnp.ones((1, 2), bool)),
        jnp.ones((1, 2), bool),
        jnp.array([2]),
        jnp.array([0]),
    )
    weights = eqx.filter_jit(weigh)(
        with_latents, FromPrior(), some, num_samples=2, key=jax.random.key(0)
    ).log_weights
    assert jnp.ptp(weights) > 1e-3
