"""Recipes of state-space models: looked up, built on small files, and their twins integrated."""

import dataclasses
import gzip
import os

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.data.sets import series
from tightbound.families.lookup import find_recipe
from tightbound.families.sequences.model import StepProposal
from tightbound.families.sequences.model_population import ThetaLogistic, ThetaLogisticOptimal
from tightbound.families.sequences.model_volatility import LinearisedProposal, StochasticVolatility
from tightbound.families.sequences.recipe_state_spaces import RECIPES
from tightbound.models.stateful import FromPrior

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """40 days of two currencies and 50 months of an index, in place of the real files."""
    random = np.random.default_rng(0)
    rates = np.exp(np.cumsum(random.normal(0, 0.01, (41, 2)), axis=0))
    days = [f"2000-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(41)]
    lines = ["Date,USD,GBP", *(f"{d},{a},{b}" for d, (a, b) in zip(days, rates, strict=True))]
    (tmp_path / "rates.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (tmp_path / "index.txt").write_text("\n".join(map(str, random.uniform(1, 4, 50))))
    files = {"exchange-rates": "rates.csv.gz", "nutria": "index.txt"}
    monkeypatch.setattr(series, "find_one", lambda name, path: tmp_path / files[name])


def changed(name, *, currencies=(), **model):
    recipe = find_recipe(name)
    cut = {"currencies": currencies, "window": 10} if name != "ssm/nutria" else {}
    return dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, **cut),
        model=dataclasses.replace(recipe.model, **model),
        run=dataclasses.replace(recipe.run, batch_size=1),
    )


@pytest.mark.parametrize(
    ("name", "choice", "model", "proposal"),
    [
        ("ssm/stochastic-volatility", "prior", StochasticVolatility, FromPrior),
        ("ssm/stochastic-volatility", "guided", StochasticVolatility, LinearisedProposal),
        ("ssm/stochastic-volatility", "network", StochasticVolatility, StepProposal),
        ("ssm/nutria", "guided", ThetaLogistic, ThetaLogisticOptimal),
    ],
)
def test_settings_choose_the_family_and_its_proposal(small_files, name, choice, model, proposal):
    setup = changed(name, currencies=("USD", "GBP"), proposal=choice).build(0)
    assert isinstance(setup.model, model)
    assert isinstance(setup.proposal, proposal)
    assert setup.filtering is not None
    assert list(setup.baselines) == ["iid-gaussian", "iid-student-t", "ar1-gaussian"]


def test_counts_of_ones_own_are_read_from_their_path(tmp_path):
    """Oracle: the numbers that were written, the last 36 of them held out."""
    counts = np.random.default_rng(0).uniform(1, 4, 50)
    (tmp_path / "own.txt").write_text("\n".join(map(str, counts)))
    recipe = find_recipe("ssm/nutria")
    data = dataclasses.replace(recipe.data, path=str(tmp_path / "own.txt"))
    setup = dataclasses.replace(recipe, data=data).build(0)
    assert_allclose(setup.data["train"].x.values.ravel(), counts[:-36], rtol=1e-6)


def test_first_volatilities_are_those_of_the_training_returns(small_files):
    """Oracle: NumPy's variances of the training split alone. Planted: all splits together differ."""
    setup = changed("ssm/stochastic-volatility", currencies=("GBP", "USD")).build(0)
    steps = {n: s.x.values[s.mask].astype(float) for n, s in setup.data.items()}
    assert_allclose(np.exp(setup.model.mean), steps["train"].var(0), rtol=1e-10)
    together = np.concatenate(list(steps.values())).var(0)
    assert (np.abs(together / steps["train"].var(0) - 1) > 1e-3).all()


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_likelihood_of_a_twin_integrates_to_1_on_its_grid(small_files, name):
    """Oracle: the sum over the twin's grid, for four draws of z. Planted: a quarter of the
    grid has less."""
    setup = changed(name, currencies=("USD",)).build(0)
    assert setup.twin is not None
    twin = setup.twin(jax.random.key(0))

    @jax.jit
    def log_p(key):
        z = twin.model.sample_prior(key)
        return jax.vmap(lambda x: twin.model.score(x, z)["x"].sum())(twin.observations)

    for key in jax.random.split(jax.random.key(1), 4):
        mass = np.exp(np.asarray(log_p(key)) + twin.log_cell_volume)
        assert_allclose(mass.sum(), 1, atol=1e-3)
        assert mass[: len(mass) // 4].sum() < 0.99


@needs_data
def test_a_population_begins_where_its_training_months_are():
    """Oracle: NumPy on the logs of the real file's first 84 months."""
    setup = find_recipe("ssm/nutria").build(0)
    logs = np.log(setup.data["train"].x.values[0, :, 0].astype(float))
    assert_allclose(
        [setup.model.initial_mean, setup.model.initial_scale], [logs.mean(), logs.std()]
    )
    assert len(logs) == 84
