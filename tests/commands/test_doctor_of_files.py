"""`tightbound doctor FILE`: numbers and findings of arrays that another framework has saved.

Oracle: arrays whose law and mistake are known, and the functions that the command calls.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from fixtures.saved_draws import filtered, normal_draws
from tightbound.estimators.bounds import filtering_log_marginal
from tightbound.terms import Kind, LogTerms, Site, StepTerms

ROOT = Path(__file__).parents[2]
ESTIMATE = {
    *("value", "standard_error", "monte_carlo_error", "unit", "bound", "estimator"),
    *("num_samples", "split"),
}


def faults(result):
    return {f["code"] for f in result.document["findings"] if f["verdict"] == "FAULT"}


def parts(**changes):
    draws = normal_draws(**changes)
    return {name: draws[name] for name in ("log_weights", "log_p_x", "log_p_z", "log_q")}


def log_terms(used=True):
    """Two latents that are drawn jointly, of which one holds log q, and positions outside the mask."""
    draws = {name: jnp.asarray(value)[..., None] for name, value in parts(used=used).items()}
    padded = jnp.pad(draws["log_p_x"], ((0, 0), (0, 0), (0, 1)), constant_values=jnp.nan)
    real = jnp.ones(draws["log_q"].shape, bool)
    sites = (
        Site("x", Kind.OBSERVED, padded, None, jnp.pad(real, ((0, 0), (0, 0), (0, 1)))),
        Site("z", Kind.LATENT, draws["log_p_z"] / 2, draws["log_q"], real),
        Site("y", Kind.LATENT, draws["log_p_z"] / 2, None, real),
    )
    return LogTerms(sites, jnp.full(real.shape[1], 4))


def step_terms():
    arrays = filtered()
    return StepTerms(
        log_increments=jnp.asarray(arrays["log_increments"]),
        ancestors=jnp.asarray(arrays["ancestors"]),
        resampled=jnp.asarray(arrays["resampled"]),
        mask=jnp.asarray(arrays["mask"]),
        ess=jnp.asarray(arrays["ess"]),
        num_units=jnp.full(60, 10),
    )


def test_every_number_stands_with_error_unit_and_claim(tightbound, tmp_path):
    """In the terminal and as JSON; never bare."""
    path = tmp_path / "draws.npz"
    np.savez(path, **parts(), num_units=np.full(200, 4))
    document = tightbound("doctor", path, "--json").document
    assert all(set(estimate) == ESTIMATE for estimate in document["estimates"])
    named = [(e["estimator"], e["unit"], e["bound"]) for e in document["estimates"]]
    assert named == [
        ("elbo", "nats per sequence", "lower"),
        ("iwae-50", "nats per sequence", "lower"),
        ("elbo", "nats per unit", "upper"),
        ("iwae-50", "nats per unit", "upper"),
        ("kl", "nats per sequence", "none"),
        ("reconstruction", "nats per sequence", "none"),
    ]
    lines = tightbound("doctor", path).out.splitlines()[:6]
    number = r"\w[\w-]*: -?[\d.]+ ± [\d.]+ \(draws [\d.]+\) (\w+ )+\w+, (lower|upper|no) bound"
    assert all(re.fullmatch(number, line) for line in lines)
    assert lines[0].startswith(f"elbo: {document['estimates'][0]['value']:.2f}")


def test_a_healthy_and_a_collapsed_file_are_told_apart(tightbound, tmp_path):
    """By their parts, however they were saved."""
    for used in (True, False):
        np.savez(tmp_path / "plain.npz", **parts(used=used))
        log_terms(used).save(tmp_path / "terms.npz")
        for name in ("plain", "terms"):
            result = tightbound("doctor", tmp_path / f"{name}.npz", "--json")
            assert ("TB401" in faults(result)) is not used
            assert result.code == (0 if used else 1)


def test_scored_sites_give_what_their_parts_give(tightbound, tmp_path):
    """Oracle: the sums of `LogTerms`, whose padding holds NaN."""
    terms = log_terms()
    terms.save(tmp_path / "terms.npz")
    found = {
        (e["estimator"], e["unit"]): e["value"]
        for e in tightbound("doctor", tmp_path / "terms.npz", "--json").document["estimates"]
    }
    assert_allclose(found["elbo", "nats per sequence"], terms.log_weights.mean())
    assert_allclose(found["kl", "nats per sequence"], (terms.log_proposal - terms.log_prior).mean())
    assert_allclose(found["reconstruction", "nats per sequence"], terms.log_likelihood.mean())
    assert_allclose(found["elbo", "nats per unit"], -terms.log_weights.mean() / 4)


def test_sites_that_a_filter_has_weighed_have_no_kl(tightbound, tmp_path):
    terms = log_terms()
    x, z, y = terms.sites
    rest = Site("reweighting", Kind.AUXILIARY, y.log_p, None, y.mask)
    LogTerms((x, z, rest), terms.num_units).save(tmp_path / "terms.npz")
    result = tightbound("doctor", tmp_path / "terms.npz", "--json").document
    assert "kl" not in {e["estimator"] for e in result["estimates"]}
    (finding,) = [f for f in result["findings"] if f["code"] == "TB401"]
    assert "a filter has estimated" in finding["meaning"]


def test_steps_of_a_filter_are_read_and_judged(tightbound, tmp_path):
    """Oracle: `filtering_log_marginal` of the record that was saved."""
    terms = step_terms()
    terms.save(tmp_path / "steps.npz")
    result = tightbound("doctor", tmp_path / "steps.npz", "--json")
    assert result.code == 0
    first = result.document["estimates"][0]
    assert (first["estimator"], first["bound"]) == ("fivo-40", "lower")
    assert_allclose(first["value"], jax.jit(filtering_log_marginal)(terms).mean())
    assert {f["code"] for f in result.document["findings"] if f["verdict"] == "OK"} == {
        *("TB301", "TB302", "TB307", "TB308")
    }
    np.savez(tmp_path / "wrong.npz", **filtered(mistake="uniform"))
    assert "TB308" in faults(tightbound("doctor", tmp_path / "wrong.npz", "--json"))


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda values: np.exp(values), "TB305"),
        (lambda values: values.T, "TB306"),
        (lambda values: values + 20, "TB605"),
    ],
)
def test_files_that_hold_something_else_are_named_and_bound_nothing(
    tightbound, tmp_path, made, code
):
    np.savez(tmp_path / "w.npz", log_weights=made(parts()["log_weights"]), levels=2)
    result = tightbound("doctor", tmp_path / "w.npz", "--json")
    assert code in faults(result)
    assert {e["bound"] for e in result.document["estimates"]} == {"none"}
    assert result.code == 1


def test_an_array_that_nothing_reads_is_said(tightbound, tmp_path):
    np.savez(tmp_path / "w.npz", **parts(), log_pz=np.zeros(3), epoch=np.array(3))
    said = "`log_pz` was not read: nothing asks for it. Did you mean `log_p_z`?"
    assert said in tightbound("doctor", tmp_path / "w.npz").out
    notes = tightbound("doctor", tmp_path / "w.npz", "--json").document["notes"]
    assert notes == [said, "`epoch` was not read: nothing asks for it."]


def test_draws_and_a_filter_in_one_file_are_refused(tightbound, tmp_path):
    np.savez(tmp_path / "both.npz", **filtered(), log_weights=np.zeros((3, 2)))
    result = tightbound("doctor", tmp_path / "both.npz")
    assert result.code == 2
    assert "a file of its own" in result.err
    log_terms().save(tmp_path / "terms.npz")
    arrays = dict(np.load(tmp_path / "terms.npz"))
    del arrays["site.z.mask"]
    np.savez(tmp_path / "terms.npz", **arrays)
    result = tightbound("doctor", tmp_path / "terms.npz")
    assert result.code == 2
    assert "no entry `site.z.mask`" in result.err


WITHOUT_JAX = """
import contextlib, importlib.abc, io, json, sys, time

BLOCKED = {"jax", "jaxlib", "equinox", "optax", "numpyro", "torch"}

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
from tightbound.cli import main

outcomes = []
for path in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(["doctor", path, "--json"])
    outcomes.append([code, len(json.loads(out.getvalue())["estimates"]), time.process_time()])
print(json.dumps(outcomes))
"""


def test_no_kind_of_file_needs_jax(tmp_path):
    """In a process where it cannot be imported."""
    np.savez(tmp_path / "weights.npz", log_weights=parts()["log_weights"])
    np.savez(tmp_path / "parts.npz", **parts(), num_units=np.full(200, 4), levels=256)
    np.savez(tmp_path / "arrays.npz", **filtered())
    log_terms().save(tmp_path / "terms.npz")
    step_terms().save(tmp_path / "steps.npz")
    files = sorted(tmp_path.glob("*.npz"))
    command = [sys.executable, "-c", WITHOUT_JAX, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [outcome[:2] for outcome in json.loads(done.stdout)] == [
        [0, 2],  # arrays of a filter: bound, effective share
        [0, 8],  # parts: two bounds in three units, KL, reconstruction
        [0, 3],  # steps: in two units
        [0, 6],  # terms: two bounds in two units, KL, reconstruction
        [0, 2],  # weights
    ]


@pytest.mark.parametrize("shape", [(1000, 1000), (200, 5000), (10, 100_000)])
def test_a_million_log_weights_are_judged_in_under_two_seconds(tmp_path, shape):
    """Oracle: the processor time of a whole new process, imports and reading among it; the clock on the
    wall counts what runs beside it."""
    rng = np.random.default_rng(0)
    values = rng.normal(-90, 5, shape[1]) + 2 * rng.normal(size=shape)
    np.savez(tmp_path / "weights.npz", log_weights=values)
    command = [sys.executable, "-c", WITHOUT_JAX, str(tmp_path / "weights.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0][2] < 2.0


def test_the_worked_example_of_the_page_runs_and_prints_what_it_says(
    tightbound, tmp_path, monkeypatch
):
    """Oracle: `docs/file-formats.md`: its program, and below it the first lines of the answer."""
    page = (ROOT / "docs" / "file-formats.md").read_text()
    (program,) = re.findall(r"```python\n(import numpy.*?)```", page, re.DOTALL)
    (answer,) = re.findall(r"```\n\$ tightbound doctor draws.npz\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    out = tightbound("doctor", "draws.npz").out
    assert out.startswith(answer.rstrip("\n"))
