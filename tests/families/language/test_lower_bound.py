"""Oracle: the inner objective on the bounded model itself, and the exact log p above it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose

from tightbound.data.sequences import sequence_split
from tightbound.families.language.contexts import Window
from tightbound.families.language.emissions import Components, MixtureEmission
from tightbound.families.language.factorial import Factorial, FactorialBound
from tightbound.families.language.lower_bound import OnLowerBound
from tightbound.families.language.model import LanguageModel
from tightbound.families.language.structure import Direct
from tightbound.models.no_latents import NoLatents
from tightbound.models.ppca import ProbabilisticPCA
from tightbound.train.objective import Claim, Objective

KEYS = jax.random.split(jax.random.key(0), 4)
STEP = {"key": KEYS[0], "step": jnp.asarray(1)}
BATCH = sequence_split("train", [np.array([3, 4, 2], np.int32), np.array([4, 2], np.int32)]).take(
    np.arange(2)
)


def make_model(num_states):
    components = Components("scaled", num_states, 2, 3, key=KEYS[1])
    structure = Factorial(2, components, key=KEYS[2])
    return LanguageModel(5, 2, Window(2, 1), structure, num_positions=3, key=KEYS[3])


@eqx.filter_jit
def raised(objective, model):
    """Value, gradient and log-weights."""

    def value(model):
        return objective(model, NoLatents(), BATCH, **STEP)

    (value, terms), gradient = eqx.filter_value_and_grad(value, has_aux=True)(model)
    return value, ravel_pytree(eqx.filter(gradient, eqx.is_array))[0], terms.log_weights


def test_the_bound_is_raised_and_not_log_p():
    """Identity with the objective on the model whose structure is the bound; planted, the
    objective on the model itself has another value, above it, and another gradient."""
    model = make_model(32)
    bounded = eqx.tree_at(lambda m: m.structure, model, FactorialBound(model.structure))
    value, gradient, log_weights = raised(OnLowerBound(Objective()), model)
    wanted, wanted_gradient, _ = raised(Objective(), bounded)
    assert_allclose(value, wanted, rtol=1e-12)
    assert_allclose(gradient, wanted_gradient, rtol=1e-12)
    exact, exact_gradient, log_p = raised(Objective(), model)
    assert (log_weights < log_p - 0.1).all()
    assert value < exact - 0.1
    assert np.abs(gradient - exact_gradient).max() > 1e-2


def test_the_bound_of_a_single_expert_is_log_p():
    """Identity: with one expert there is nothing to normalise."""
    model = make_model(4)
    found, wanted = raised(OnLowerBound(Objective()), model), raised(Objective(), model)
    for part, other in zip(found, wanted, strict=True):
        assert_allclose(part, other, rtol=1e-9, atol=1e-12)


def test_it_claims_what_the_inner_objective_claims():
    """The doctor reads a claim: estimator, path, number of draws and KL weight."""
    inner = Objective("elbo", 3, path="stop_proposal", kl_weight=lambda step: 0.5 * step)
    claim = OnLowerBound(inner)
    assert isinstance(claim, Claim)
    assert (claim.estimator, claim.num_samples, claim.path) == ("elbo", 3, "stop_proposal")
    assert claim.kl_weight(jnp.asarray(3)) == 1.5


def test_a_model_without_a_bound_of_its_own_is_refused():
    model = make_model(4)
    emission = MixtureEmission(2, model.structure.components, key=KEYS[0])
    direct = eqx.tree_at(lambda m: m.structure, model, Direct(emission))
    with pytest.raises(
        ValueError, match=r"the structure Direct has none of its own. Raise the obj"
    ):
        OnLowerBound(Objective())(direct, NoLatents(), BATCH, **STEP)
    with pytest.raises(
        ValueError, match=r"but ProbabilisticPCA has none of its own. Raise the objective it"
    ):
        OnLowerBound(Objective())(ProbabilisticPCA(2, 1, key=KEYS[0]), NoLatents(), BATCH, **STEP)
