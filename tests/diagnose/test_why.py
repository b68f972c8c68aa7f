"""`why` on a VAE of six pixels. Oracles: sums that must agree, and changes whose cause is known."""

import re
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from tightbound.commands.why import print_explanation
from tightbound.data.batch import rows
from tightbound.diagnose import why as why_module
from tightbound.diagnose.why import why
from tightbound.inference.weigh import weigh
from tightbound.models.vae import VAE, GaussianProposal
from tightbound.nn.outputs import BernoulliOutput
from tightbound.train.loop import init_state
from tightbound.train.objective import Objective
from tightbound.train.settings import RunSettings
from tightbound.train.setup import Setup

pytestmark = pytest.mark.usefixtures("compiled_once")

KEY = jax.random.key(11)


def split(name, size):
    rng = np.random.default_rng(size)
    labels = rng.integers(0, 3, size)
    shares = np.array([0.2, 0.5, 0.8])[labels]
    return rows(name, (rng.uniform(size=(size, 6)) < shares[:, None]) * 1.0, labels=labels)


@pytest.fixture(scope="module")
def setup():
    model_key, proposal_key = jax.random.split(jax.random.key(0))
    sizes = {"hidden_size": 8}
    return Setup(
        name="six pixels",
        model=VAE(6, 2, BernoulliOutput(), **sizes, key=model_key),
        proposal=GaussianProposal(6, 2, **sizes, key=proposal_key),
        data={"train": split("train", 40), "valid": split("valid", 30)},
        objective=Objective(),
        optimiser=optax.adam(1e-2),
        run=RunSettings(batch_size=8),
    )


@pytest.fixture(scope="module")
def first(setup):
    return init_state(setup.model, setup.proposal, setup.optimiser)


def moved(state, distance, *, of_model=1.0, of_proposal=1.0, steps=5):
    """A later state: every parameter moved in a random direction, by about `distance`."""
    parameters, static = eqx.partition((state.model, state.proposal), eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(parameters)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    noise = [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    direction = jax.tree.unflatten(structure, noise)
    scales = (of_model * distance, of_proposal * distance)
    there = tuple(
        jax.tree.map(lambda p, d, s=s: p + s * d, p, d)
        for p, d, s in zip(parameters, direction, scales, strict=True)
    )
    model, proposal = eqx.combine(there, static)
    return replace(state, model=model, proposal=proposal, step=state.step + steps)


@pytest.fixture(scope="module")
def last(first):
    return moved(first, 0.3)


@pytest.fixture(scope="module")
def explained(setup, first, last):
    return why(setup, first, last, key=KEY)


def total(explanation):
    """What came through the modules of all sites."""
    return sum(sum(parts.values()) for parts in explanation.modules.values())


def test_sites_sum_to_the_change(explained):
    """An identity: the bound is the sum of its sites, on the same rows and draws."""
    sites = sum(site.value for site in explained.sites.values())
    assert_allclose(sites, explained.change.value, rtol=1e-12)
    assert set(explained.sites) == {"z", "x"}
    assert explained.change.unit == "nats per sequence"
    assert explained.change.bound == "none"  # a difference of bounds bounds nothing


def test_the_change_is_the_difference_of_two_bounds(setup, first, last, explained):
    """Oracle: both ELBOs by `weigh` with a key of their own, within 5 standard errors of both."""
    batch = setup.data["valid"].take(np.arange(30))
    bounds = []
    for state in (first, last):
        terms = eqx.filter_jit(weigh)(
            state.model, state.proposal, batch, num_samples=2000, key=jax.random.key(1)
        )
        bounds.append(terms.log_weights.mean(1))
    difference = bounds[1] - bounds[0]
    error = np.hypot(difference.std(ddof=1) / np.sqrt(2000), explained.change.monte_carlo_error)
    assert abs(difference.mean() - explained.change.value) < 5 * error
    assert abs(explained.change.value) > 8 * error


def test_groups_average_to_the_change(setup, explained):
    """Weighted by their sizes, an identity; every group has its own standard error."""
    labels = setup.data["valid"].groups
    sizes = {name: (labels == int(name)).sum() for name in explained.groups}
    assert sum(sizes.values()) == 30
    mean = sum(sizes[n] * group.value for n, group in explained.groups.items()) / 30
    assert_allclose(mean, explained.change.value, rtol=1e-12)
    assert all(group.standard_error > 0 for group in explained.groups.values())


def test_modules_sum_to_the_change_up_to_the_quadrature(setup, first, explained):
    """The reported error is a small part of the change, and falls like the seventh power of the
    distance: a tenth of the way it has all but gone."""
    assert set(explained.modules["x"]) == {"decoder", "q.encoder"}
    assert explained.quadrature_error < 0.01 * abs(explained.change.value)
    near = why(setup, first, moved(first, 0.03), key=KEY)
    assert near.quadrature_error < 1e-4 * explained.quadrature_error
    draws = 4 * (near.change.monte_carlo_error or 0.0)
    assert abs(total(near) - near.change.value) < near.quadrature_error + 2 * draws


def test_one_node_would_mislead(setup, first, last, explained, monkeypatch):
    """Planted: the derivative at the start, times the distance, is not the change."""
    monkeypatch.setattr(why_module, "_NODES", (0.0,))
    monkeypatch.setattr(why_module, "_WEIGHTS", (1.0,))
    misled = why(setup, first, last, key=KEY)
    assert misled.change == explained.change
    assert misled.quadrature_error > 100 * explained.quadrature_error
    assert misled.quadrature_error > 0.2 * abs(explained.change.value)


def test_the_way_back_is_the_way_there_with_the_other_sign(setup, first, last, explained):
    back = why(setup, last, first, key=KEY)
    assert_allclose(back.change.value, -explained.change.value, rtol=1e-12)
    for site, value in explained.sites.items():
        assert_allclose(back.sites[site].value, -value.value, rtol=1e-12)
        for module, part in explained.modules[site].items():
            assert_allclose(back.modules[site][module], -part, rtol=1e-9, atol=1e-12)
    assert (back.first_step, back.last_step) == (5, 0)


def test_the_share_of_noise_falls_with_the_repeats(setup, first, explained):
    """A change of which draws decide: sixteen times the draws leave about a sixteenth of the noise;
    between a fourth and a sixty-fourth allows for its own spread."""
    last = moved(first, 0.02)
    few = why(setup, first, last, num_repeats=4, key=KEY)
    many = why(setup, first, last, num_repeats=64, key=KEY)
    assert 0 < many.noise_share < few.noise_share / 4
    assert many.noise_share > few.noise_share / 64
    assert many.change.num_samples == 64


@pytest.mark.parametrize(
    ("value", "over_rows", "over_draws", "said"),
    [
        (
            -0.425,
            6.355,
            0.038,
            "no change of the ELBO that the error bars can tell: -0.425 ± 6.355",
        ),
        (0.425, 0.1, 0.5, "no change of the ELBO that the error bars can tell: +0.425 ± 0.100"),
        (0.19, 0.06, 0.08, "no change"),  # 2 (0.06^2 + 0.08^2)^1/2 = 0.2
        (0.21, 0.06, 0.08, "the ELBO rose by 0.210 ± 0.060"),
        (-206.0, 3.0, 0.1, "the ELBO fell by 206.000 ± 3.000"),
        (0.3, None, 0.1, "the ELBO rose by 0.300"),  # one row: draws alone have an error
        (0.3, None, None, "no change"),
        (np.nan, np.nan, np.nan, "one of the two is not finite"),
        (-np.inf, np.nan, 0.1, "one of the two is not finite"),
    ],
)
def test_a_change_is_told_from_none_by_its_error_bars(
    explained, value, over_rows, over_draws, said
):
    """By hand, two standard errors of rows and draws together; never by the draws' share alone, which is
    small wherever rows differ much."""
    change = replace(
        explained.change, value=value, standard_error=over_rows, monte_carlo_error=over_draws
    )
    found = replace(explained, change=change, noise_share=0.008)
    assert said in found.headline
    assert found.headline.startswith("From step 0 to 5 ")
    told = "rose" in said or "fell" in said
    assert found.is_beyond_error is found.to_json()["beyond_error"] is told
    assert ("may be estimator noise" in found.headline) is told
    assert said in found._repr_html_()


def test_a_change_of_the_decoder_alone_owes_nothing_to_the_proposal(setup, first):
    """The proposal did not move, so its parameters carry nothing, exactly; nor does the site z."""
    found = why(setup, first, moved(first, 0.3, of_proposal=0.0), key=KEY)
    assert found.sites["z"].value == 0.0
    assert found.modules["z"] == {"decoder": 0.0, "q.encoder": 0.0}
    assert found.modules["x"]["q.encoder"] == 0.0
    assert_allclose(found.modules["x"]["decoder"], found.change.value, rtol=0.05)


def test_a_change_of_the_proposal_alone_moves_both_sites(setup, first):
    """The decoder carries nothing, exactly."""
    found = why(setup, first, moved(first, 0.3, of_model=0.0), key=KEY)
    assert found.modules["x"]["decoder"] == found.modules["z"]["decoder"] == 0.0
    assert found.modules["x"]["q.encoder"] != 0.0
    assert found.modules["z"]["q.encoder"] != 0.0


def test_the_objective_that_is_the_bound_climbs_it(setup, explained):
    """The training gradient is the bound's on the same rows up to draws; minus the bound descends."""
    assert explained.gradient_cosine > 0.8
    assert -1.0 <= explained.cosine_ceiling <= 1.0


def test_an_objective_with_the_wrong_sign_descends_the_bound(setup, first, last, explained):
    """Planted: the cosine changes its sign, nothing else does."""

    def minus(*arguments, **keywords):
        value, terms = Objective()(*arguments, **keywords)
        return -value, terms

    found = why(replace(setup, objective=minus), first, last, key=KEY)
    assert_allclose(found.gradient_cosine, -explained.gradient_cosine, rtol=1e-9)
    assert found.change == explained.change


def test_the_trained_law_is_told_from_that_of_evaluation(setup, first, last, explained):
    """Held-out numbers from the first proposal whatever is trained: the change under the trained one
    is what it was without that, on the same draws, and no parameter of q carries the other."""
    held = replace(setup, evaluation_proposal=first.proposal)
    found = why(held, first, last, key=KEY)
    trained = found.change_under_trained_law
    assert_allclose(trained.value, explained.change.value, rtol=1e-12)
    assert_allclose(trained.standard_error, explained.change.standard_error, rtol=1e-9)
    assert_allclose(trained.monte_carlo_error, explained.change.monte_carlo_error, rtol=1e-9)
    assert abs(found.change.value - trained.value) > 5 * trained.monte_carlo_error
    assert {parts["q.encoder"] for parts in found.modules.values()} == {0.0}
    assert found.sites["z"].value == 0.0
    assert found.to_json()["change_under_trained_law"] == trained.to_json()
    assert explained.change_under_trained_law is None
    assert explained.to_json()["change_under_trained_law"] is None


def test_two_checkpoints_of_one_step_are_refused(setup, first):
    with pytest.raises(
        ValueError, match=r"Both checkpoints are of step 0, so nothing moved\. Name two steps\."
    ):
        why(setup, first, first, key=KEY)


def test_the_document_has_every_part(explained):
    """What `why --json` prints: plain numbers and estimates."""
    document = explained.to_json()
    assert document["from"] == 0
    assert document["to"] == 5
    assert document["change"]["value"] == explained.change.value
    assert document["modules"] == explained.modules
    assert set(document["sites"]) == {"z", "x"}
    assert jnp.isfinite(document["quadrature_error"])


def test_an_explanation_prints_a_table_with_every_site_and_module(explained):
    """Oracle: the fields themselves, each number in the row of its site."""
    text = str(explained)
    assert text.startswith(explained.headline)
    assert "Estimate(" not in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[2:]}
    modules = next(iter(explained.modules.values()))
    assert rows["site"] == ["change", "±", "rows", *modules]
    for site, change in explained.sites.items():
        parts = [f"{explained.modules[site][module]:+.3f}" for module in modules]
        error = f"{change.standard_error:.3f}"
        assert rows[site] == [f"{change.value:+.3f}", error, *parts]


def test_a_change_of_many_digits_is_written_with_six(explained, capsys):
    """A run that fell by 1e12 nats: in the headline, printed, in a notebook and by the command. Oracle: a
    search for seven digits in a row."""
    far = replace(explained.change, value=-1.234567e12, standard_error=3.2e10)
    parts = {site: dict.fromkeys(found, 1e12) for site, found in explained.modules.items()}
    fell = replace(
        explained,
        change=far,
        change_under_trained_law=far,
        sites=dict.fromkeys(explained.sites, far),
        groups={"0": far},
        modules=parts,
        quadrature_error=1e9,
    )
    print_explanation(fell, "text")
    for text in (fell.headline, str(fell), fell._repr_html_(), capsys.readouterr().out):
        assert "e+12" in text
        assert not re.search(r"\d{7}", text)
