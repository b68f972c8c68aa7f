"""Evidence gathered by JAX, on setups small enough to compile in seconds. Oracles: closed forms for a
Gaussian model; the healthy setup beside each planted one; training without probes."""

from dataclasses import fields, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array, Float
from numpy.testing import assert_allclose
from scipy.stats import norm

from fixtures.examinations import FAULTS, SUBJECTS, TRAPS, family_of
from tightbound.data.batch import first_rows, training_batches
from tightbound.diagnose.case import Case
from tightbound.diagnose.doctor import judge
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.laws import gather as laws
from tightbound.diagnose.probes import is_probe_step, make_probe, module_names
from tightbound.inference.weigh import proposal_score
from tightbound.models.base import AbstractModel, AbstractProposal
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.models.wrappers import Noiseless, SquaredError
from tightbound.train.loop import fit
from tightbound.train.run import first_state, run_keys
from tightbound.unread import replaced

pytestmark = pytest.mark.usefixtures("compiled_once")


IMAGES = [name for name in SUBJECTS if family_of(name) == "images"]


def small(name, seed=0):
    """A recipe of the drill on images with hidden layers of 8 and two latents."""
    recipe = (SUBJECTS | TRAPS)[name]
    sizes = {"hidden_size": 8, "latent_size": 2, "top_hidden_size": 8, "top_latent_size": 2}
    return replace(recipe, model=replaced(recipe.model, **sizes)).build(seed)


@pytest.fixture(scope="module")
def setups():
    return {name: small(name) for name in IMAGES}


@pytest.fixture(scope="module")
def setup(setups):
    return setups["vae/digits"]


@pytest.fixture(scope="module")
def gathered(setup):
    return laws.gather_laws(setup)


def test_the_laws_are_quiet_on_a_healthy_setup(setup, gathered):
    """Every check that can run before training passes; the others say that they did not run."""
    findings = judge(Case([gathered], baselines=setup.baselines))
    faults = [(f.code, f.measured) for f in findings if f.verdict is Verdict.FAULT]
    assert faults == []
    not_run = {f.code for f in findings if f.verdict is Verdict.NOT_RUN}
    too_early = {"TB211", "TB219", "TB223", "TB401"}
    real_latents = {"TB120", "TB121", "TB204"}
    no_steps = {"TB111", "TB112", "TB113", "TB114"}
    no_words = {"TB605"}
    no_mixture = {"TB115", "TB116", "TB220", "TB222", "TB405"}
    others = {"TB122", "TB221", "TB304", "TB506", "TB603", "TB610"}
    assert not_run == {*(*too_early, *real_latents, *no_steps, *no_words, *no_mixture, *others)}
    assert not [f.code for f in findings if f.verdict is Verdict.UNDECIDED]


def test_evidence_of_the_laws_survives_the_disk(gathered, tmp_path):
    """What JAX gathered has the types and axes that loading insists on."""
    gathered.save(tmp_path / "laws.npz")
    back = type(gathered).load(tmp_path / "laws.npz")
    before, after = ([f.verdict for f in judge(Case([e]))] for e in (gathered, back))
    assert before == after


# --- the referee ---------------------------------------------------------------------------------


@pytest.mark.parametrize("latent_size", [1, 2])
def test_the_mass_in_a_box_is_the_normal_distributions(latent_size):
    """Oracle: z | x is normal, with independent entries where the columns of W are orthogonal, so
    p(x, z in box) = p(x) prod_d (F(high_d) - F(low_d)) with scipy's F."""
    weight = jnp.array([[1.5, 0.5], [-0.5, 1.5], [0.7, 0.0], [0.0, 0.3]])[:, :latent_size]
    weight = weight.at[2:].set(0.0)
    model = ProbabilisticPCA(4, latent_size, key=jax.random.key(0))
    model = eqx.tree_at(lambda m: m.weight, model, weight)
    x = jnp.array([1.0, -0.3, 0.2, 0.9])
    posterior = model.posterior(x)
    mean, cov = posterior.mean, posterior.covariance_matrix
    assert_allclose(cov, np.diag(np.diag(cov)), atol=1e-12)
    for low, high in (([-1.0, -0.2], [0.5, 0.9]), ([0.3, 0.2], [0.31, 2.0])):
        low, high = jnp.array(low[:latent_size]), jnp.array(high[:latent_size])
        scale = np.sqrt(np.diag(cov))
        inside = norm.cdf(high, mean, scale) - norm.cdf(low, mean, scale)
        expected = model.log_marginal(x) + np.log(inside).sum()
        log_mass = laws.log_mass_in_box(model, x, low, high)
        assert_allclose(log_mass, expected, rtol=1e-10)
        # Planted: without the box's size the nodes' weights sum to 2 per latent.
        assert abs(log_mass - jnp.log((high - low) / 2).sum() - expected) > 0.05


# --- Stein's identity ----------------------------------------------------------------------------


class ScaledDraws(AbstractProposal):
    """Draws with `ratio` times the scale it scores with."""

    inner: AbstractProposal
    ratio: Float[Array, ""]

    def proposal(self, x):
        return _Scaled(self.inner.proposal(x), self.ratio)


class _Scaled(eqx.Module):
    inner: object
    ratio: Float[Array, ""]

    def sample(self, key):
        mean = self.inner.mean
        return mean + self.ratio * (self.inner.sample(key) - mean)

    def log_prob(self, value):
        return self.inner.log_prob(value)


class WidePrior(AbstractModel):
    """Draws its prior 1.5 times as wide as it scores it."""

    inner: AbstractModel

    @property
    def kinds(self):
        return self.inner.kinds

    def sample_prior(self, key):
        return 1.5 * self.inner.sample_prior(key)

    def score(self, x, z):
        return self.inner.score(x, z)

    def sample_likelihood(self, z, key):
        return self.inner.sample_likelihood(z, key)


@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.5])
def test_steins_identity_measures_one_minus_the_square_of_the_scales_ratio(setup, ratio):
    """For Gaussians, within 4 of its own standard errors; a ratio other than 1 is >= 8 of them off."""
    proposal = ScaledDraws(setup.proposal, jnp.asarray(ratio))
    scores = laws.scores(setup, (WidePrior(setup.model), proposal), jax.random.key(3))
    for values, true_ratio in ((scores.proposal, ratio), (scores.prior, 1.5)):
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - (1 - true_ratio**2)) < 4 * error
        assert true_ratio == 1.0 or abs(1 - true_ratio**2) > 8 * error


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vae/digits", ["decoder", "q.encoder"]),
        ("vae/digits-gaussian", ["decoder", "output", "q.encoder"]),
        ("cvae/digits", ["decoder", "q.encoder"]),
        ("deep", ["prior", "decoder", "q.low", "q.top"]),
    ],
)
def test_modules_have_the_names_of_a_familys_own_fields(name, expected):
    """A wrapper, of the model or of the proposal, is not what a person would name."""
    setup = small(name)
    assert module_names((setup.model, setup.proposal)) == expected
    assert module_names((SquaredError(setup.model), Noiseless(setup.proposal))) == expected


# --- every fault changes something ---------------------------------------------------------------


def touched(healthy, planted):
    """Fields of the setup that a fault replaced."""
    return {
        field.name
        for field in fields(healthy)
        if getattr(healthy, field.name) is not getattr(planted, field.name)
    }


def rows_of(setup, split="train", size=8):
    batch = first_rows(setup.data[split], size).take(np.arange(size))
    return jax.tree.map(jnp.asarray, batch)


def seen(setup, split="train", size=8):
    batch = rows_of(setup, split, size)
    return batch if setup.noise is None else setup.noise(batch, jax.random.key(1))


def objective_and_gradient(setup, healthy):
    """The value and gradient on the healthy setup's rows."""
    pair, step = (healthy.model, healthy.proposal), jnp.zeros((), int)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def value(pair, batch):
        return setup.objective(*pair, batch, key=jax.random.key(2), step=step)[0]

    return value(pair, seen(healthy))


def draws_and_scores(setup, healthy):
    """Draws of prior and proposal, log p of the healthy setup's draws, and log q of its own."""
    batch, key = seen(healthy), jax.random.key(3)
    x = jax.tree.map(lambda leaf: leaf[0], batch.x)
    z = 0.5 + healthy.model.sample_prior(key)
    q = setup.proposal.proposal(x)
    return {
        "prior": setup.model.sample_prior(key),
        "proposal": q.sample(key),
        "log_p": setup.model.score(x, z),
        "log_q": proposal_score(setup.model, q, z),
    }


def answers(setup, healthy):
    """Three updates to gradients of all sizes."""
    parameters = eqx.filter((healthy.model, healthy.proposal), eqx.is_inexact_array)
    update, state = jax.jit(setup.optimiser.update), setup.optimiser.init(parameters)
    found = []
    for size in (1.0, -1e-3, 1e-6):
        gradient = jax.tree.map(lambda leaf, size=size: jnp.full_like(leaf, size), parameters)
        updates, state = update(gradient, state, parameters)
        found.append(updates)
    return found


def data(setup, healthy):
    return {name: split.x for name, split in setup.data.items()}


def noised(setup, healthy):
    return seen(setup).x


def reported(setup, healthy):
    """What the setup's evaluator says of the healthy model."""
    return setup.evaluator(
        healthy.model,
        healthy.proposal,
        first_rows(healthy.data["valid"], 8),
        num_samples=2,
        key=jax.random.key(4),
        noise=healthy.noise,
    ).site_means


OBSERVATIONS = {
    "objective": objective_and_gradient,
    "model": draws_and_scores,
    "proposal": draws_and_scores,
    "optimiser": answers,
    "data": data,
    "noise": noised,
    "evaluator": reported,
}


def differ(one, other):
    """Beyond rounding, anywhere."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return any(
        np.shape(a) != np.shape(b) or not np.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in pairs
    )


@pytest.fixture(scope="module")
def observed(setups):
    """What the healthy setups do, each observed once."""
    cache = {}

    def observe(name, field):
        if (name, field) not in cache:
            cache[name, field] = OBSERVATIONS[field](setups[name], setups[name])
        return cache[name, field]

    return observe


@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if f.recipes[0] in IMAGES])
def test_a_fault_changes_the_law_the_gradient_or_the_reported_number(setups, observed, name):
    """Whatever field of the setup it replaces does something else than before, on the same rows, draws
    and gradients; what the doctor is told is left alone."""
    fault = FAULTS[name]
    recipe = fault.recipes[0]
    healthy = setups[recipe]
    planted = fault.plant(healthy)
    fields_touched = touched(healthy, planted) - {"twin"}
    assert fields_touched
    assert fields_touched <= set(OBSERVATIONS)
    for field in fields_touched:
        assert differ(OBSERVATIONS[field](planted, healthy), observed(recipe, field)), field


@pytest.mark.parametrize("name", ["constant_in_density", "density_averaged", "wide_prior"])
def test_a_fault_of_the_model_is_in_its_twin_too(setup, name):
    """The laws are asked of the twin: it must be as ill as the model."""
    key = jax.random.key(0)
    healthy, planted = (s.twin(key) for s in (setup, FAULTS[name].plant(setup)))
    x, z = jnp.ones(6), healthy.model.sample_prior(key)
    assert differ(planted.model.score(x, z), healthy.model.score(x, z)) or differ(
        planted.model.sample_prior(key), z
    )


def test_every_fault_names_a_code_and_recipes_that_exist():
    for fault in FAULTS.values():
        assert set(fault.recipes) <= set(SUBJECTS)
        assert fault.codes
        assert fault.says.endswith(".")


# --- probes are neutral --------------------------------------------------------------------------


def test_probes_come_at_powers_of_two_and_then_every_hundred_steps():
    steps = [step for step in range(401) if is_probe_step(step)]
    assert steps == [0, 1, 2, 4, 8, 16, 32, 64, 100, 200, 300, 400]


def test_training_is_the_same_to_the_bit_with_probes_on(setup):
    """Twenty steps with a probe at every probe step, and without; and a probe leaves its state as it
    was, to the bit."""
    probe = make_probe(setup)
    _, key, _ = run_keys(0)

    def train(probed):
        batches = training_batches(setup.data["train"], 16, seed=0)
        pair = zip(range(20), batches, strict=False)
        records = fit(
            first_state(setup),
            (batch for _, batch in pair),
            setup.objective,
            setup.optimiser,
            key=key,
            noise=setup.noise,
        )
        for record in records:
            if probed and is_probe_step(record.step):
                before = [np.array(leaf) for leaf in arrays_of(record.state)]
                evidence = probe(record.state)
                assert evidence.step == record.step
                after = [np.array(leaf) for leaf in arrays_of(record.state)]
                assert all(map(np.array_equal, before, after))
        return [np.array(leaf) for leaf in arrays_of(record.state)]

    assert all(map(np.array_equal, train(probed=True), train(probed=False)))


def arrays_of(state):
    return jax.tree.leaves(eqx.filter(state, eqx.is_array))


def test_a_probe_measures_the_update_that_training_takes(setup):
    """Oracle: norms of the parameters by hand, and the size of Adam's first update."""
    state = first_state(setup)
    evidence = make_probe(setup)(state)
    names = evidence.gradients.modules.tolist()
    assert names == module_names((state.model, state.proposal))
    parameters = eqx.filter((state.model, state.proposal), eqx.is_inexact_array)
    by_module = [optax.tree.norm(part) for part in (parameters[0], parameters[1])]
    assert_allclose(evidence.gradients.parameter_norm, by_module, rtol=1e-12)
    # Adam's first update is the learning rate times the gradient's sign, entry by entry
    size = sum(leaf.size for leaf in jax.tree.leaves(parameters[0]))
    assert_allclose(evidence.gradients.update_norm[0], 2e-3 * np.sqrt(size), rtol=1e-3)
