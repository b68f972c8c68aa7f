"""The waist: sites sum to the log-weights, masks hide whatever they cover, files need NumPy alone."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.terms import Kind, LogTerms, Site, StepTerms

NAMES = {"z": Kind.LATENT, "pen": Kind.AUXILIARY, "joint": Kind.LATENT, "x": Kind.OBSERVED}
WITH_LOG_Q = ("z", "pen")


@pytest.fixture
def arrays():
    """log_p and log_q of four sites [samples batch time], and a ragged mask."""
    rng = np.random.default_rng(0)
    log_p = {name: rng.normal(size=(3, 2, 5)) * 10 for name in NAMES}
    log_q = {name: rng.normal(size=(3, 2, 5)) * 10 for name in WITH_LOG_Q}
    mask = np.broadcast_to(np.arange(5) < np.array([[5], [3]]), (3, 2, 5))
    return log_p, log_q, mask


def log_terms(log_p, log_q, mask):
    sites = tuple(
        Site(
            name=name,
            kind=kind,
            log_p=jnp.array(log_p[name]),
            log_q=jnp.array(log_q[name]) if name in log_q else None,
            mask=jnp.array(mask),
        )
        for name, kind in NAMES.items()
    )
    return LogTerms(sites, num_units=jnp.array([5, 3]))


def test_the_sites_sum_to_the_log_weights(arrays):
    """Oracle: the sum over sites and real positions in NumPy; and the halves sum to the whole."""
    log_p, log_q, mask = arrays
    terms = log_terms(*arrays)
    by_hand = sum((mask * v).sum(-1) for v in log_p.values())
    by_hand = by_hand - sum((mask * v).sum(-1) for v in log_q.values())
    assert_allclose(terms.log_weights, by_hand, rtol=1e-13)
    of_sites = sum(site.total_log_p - site.total_log_q for site in terms.sites)
    assert_allclose(terms.log_weights, of_sites, rtol=1e-13)
    assert_allclose(terms.log_joint - terms.log_proposal, terms.log_weights, rtol=1e-13)
    # Planted: a mask forgotten at one site shows.
    unmasked = eqx.tree_at(lambda t: t.sites[0].mask, terms, jnp.ones((3, 2, 5), bool))
    assert np.abs(unmasked.log_weights - by_hand)[:, 1].min() > 0.1


def test_each_kind_of_site_goes_to_its_own_term(arrays):
    """Observed sites are the likelihood; latent and auxiliary ones the prior; log q the proposal."""
    log_p, log_q, mask = arrays
    terms = log_terms(*arrays)

    def total(values):
        return sum((mask * value).sum(-1) for value in values)

    assert_allclose(terms.log_likelihood, total([log_p["x"]]), rtol=1e-13)
    assert_allclose(terms.log_prior, total([log_p["z"], log_p["pen"], log_p["joint"]]), rtol=1e-12)
    assert_allclose(terms.log_proposal, total(log_q.values()), rtol=1e-12)


@pytest.mark.parametrize("padding", [np.nan, -np.inf, np.inf, 1e300])
def test_what_lies_in_the_padding_changes_neither_value_nor_gradient(arrays, padding):
    """Selected away, not multiplied: 0 * inf is NaN, which is the bug that this would show."""
    log_p, log_q, mask = arrays
    dirty = {name: np.where(mask, value, padding) for name, value in log_p.items()}

    def value(log_p):
        return log_terms(log_p, log_q, mask).log_weights.sum()

    assert value(dirty) == value(log_p)
    gradient = jax.grad(value)(dirty)
    assert_array_equal(gradient["x"], mask.astype(float))
    with np.errstate(invalid="ignore"):
        multiplied = sum((mask * v).sum() for v in dirty.values())
    assert abs(padding) == 1e300 or np.isnan(multiplied)


def test_a_sequence_of_padding_alone_is_worth_nothing(arrays):
    """Empty mask: a sum over nothing is 0, whatever the arrays hold."""
    log_p, log_q, mask = arrays
    terms = log_terms(log_p, log_q, np.zeros_like(mask))
    assert_array_equal(terms.log_weights, np.zeros((3, 2)))


def test_a_transposed_field_fails_where_the_record_is_made(arrays):
    """The shape annotations are checked when tests run."""
    log_p, log_q, mask = arrays
    with pytest.raises(Exception, match="mask"):
        log_terms(log_p, log_q, mask.transpose(0, 2, 1))


def step_terms(sites=()):
    rng = np.random.default_rng(1)
    return StepTerms(
        log_increments=jnp.array(rng.normal(size=(5, 3, 2))),
        ancestors=jnp.array(rng.integers(0, 3, size=(5, 3, 2))),
        resampled=jnp.array(rng.random((5, 2)) < 0.5),
        mask=jnp.arange(5)[:, None] < jnp.array([[5, 3]]),
        ess=jnp.array(rng.uniform(1, 3, size=(5, 2))),
        num_units=jnp.array([5, 3]),
        sites=sites,
    )


def test_terms_are_the_same_to_the_bit_after_a_file(arrays, tmp_path):
    """Round trip: arrays, dtypes, names, kinds and order; a missing log q stays missing."""
    terms = log_terms(*arrays)
    records = {"log": terms, "steps": step_terms(), "sites": step_terms(terms.sites)}
    for name, record in records.items():
        path = tmp_path / f"{name}.npz"
        record.save(path)
        again = type(record).load(path)
        assert eqx.tree_equal(again, record)
        assert [leaf.dtype for leaf in jax.tree.leaves(again)] == [
            leaf.dtype for leaf in jax.tree.leaves(record)
        ]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "log.npz",
        "sites.npz",
        "steps.npz",
    ]


def test_a_file_is_read_by_numpy_alone(arrays, tmp_path):
    """Another process with jax blocked adds the sites up to the saved log-weights, without pickle."""
    log_terms(*arrays).save(tmp_path / "terms.npz")
    program = """
import sys
sys.modules["jax"] = None
import numpy as np
with np.load(sys.argv[1], allow_pickle=False) as file:
    total = 0.0
    for name in file["site_names"]:
        mask = file[f"site.{name}.mask"]
        total = total + np.where(mask, file[f"site.{name}.log_p"], 0).sum(-1)
        if f"site.{name}.log_q" in file:
            total = total - np.where(mask, file[f"site.{name}.log_q"], 0).sum(-1)
    assert np.allclose(total, file["log_weights"], rtol=1e-12)
    print(file["format"], *file["site_kinds"], file["num_units"].sum())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "terms.npz")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [
        "tightbound.LogTerms/1",
        "latent",
        "auxiliary",
        "latent",
        "observed",
        "8",
    ]


def test_a_file_of_another_kind_is_named(tmp_path):
    step_terms().save(tmp_path / "steps.npz")
    with pytest.raises(
        ValueError,
        match=r"steps.npz holds tightbound.StepTerms/1, but tightbound.LogTerms/1 was meant",
    ):
        LogTerms.load(tmp_path / "steps.npz")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(ValueError, match=r"other.npz holds no format entry, but tightbound.Step"):
        StepTerms.load(tmp_path / "other.npz")
