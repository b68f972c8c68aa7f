"""Every example runs as it stands, and the README shows the one that does.

Oracle: the examples' own output; the README's text.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import tightbound
from tightbound.drill.drill import Case, examine

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"


def run(script: str) -> str:
    """The example's output, run as a reader would: 32-bit floats, no test settings."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    plain["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    done = subprocess.run(
        [sys.executable, EXAMPLES / script], capture_output=True, text=True, env=plain
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_quickstart_ends_with_a_bound_above_independent_pixels():
    last = run("quickstart.py").splitlines()[-1]
    assert "lower bound" in last
    assert float(last.split()[0]) > -27.2  # independent pixels: -27.20 on this split


def test_the_page_on_discrete_latents_trains_its_proposal(capsys):
    """The page's own code block. Oracle: the exact posterior, whose logit has the slopes 2 and 2; a
    pathwise ELBO leaves them near 0, where they began."""
    page = (ROOT / "docs" / "discrete-latents.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(block, {"__name__": "page"})
    vimco, pathwise = re.findall(r"\[ *(\S+) +(\S+?) *\]", capsys.readouterr().out)
    assert max(abs(float(slope) - 2.0) for slope in vimco) < 0.5
    assert max(abs(float(slope)) for slope in pathwise) < 0.8


@pytest.mark.slow
def test_a_family_from_scratch_is_checked_trained_and_explained():
    out = run("own_family")
    assert "0 FAULT" in out
    bounds = [float(line.split()[2]) for line in out.splitlines() if line.startswith("step ")]
    assert bounds[-1] > bounds[0]
    assert re.search(r"from step 0 to 1000: \d", out)
    assert "q.network" in out


OWN = str(EXAMPLES / "own_family")


def test_a_family_from_outside_has_a_check_samples_and_a_panel_of_its_own(tightbound, tmp_path):
    """Given to the command line by its path: trained, drawn from, reported, judged."""
    run = tmp_path / "counts"
    steps = ("--run.steps", "20", "--run.checkpoint-every", "20", "--run.evaluate-every", "20")
    assert tightbound("train", f"{OWN}:recipe", "--run-dir", run, *steps).code == 0
    (file,) = tightbound("sample", run, "--num", "50", "--json").document["files"]
    assert len(json.loads(Path(file).read_text())["drawn"]) == 20
    assert tightbound("report", run).code == 0
    assert "Mean counts" in (run / "report.html").read_text()
    findings = tightbound("doctor", run, "--json").document["findings"]
    (own,) = [finding for finding in findings if finding["code"] == "OWN101"]
    assert own["verdict"] == "OK"
    refused = tightbound("sample", run, "--beam")
    assert refused.code == 2
    assert "is one on counts" in refused.err


def test_a_fault_of_a_family_from_outside_is_named_by_its_own_check():
    """Counts drawn at twice the rate that scores them: no general check asks for that of counts."""
    case = Case("counts_drawn_twice", "poisson-factors", 0, False, family=f"{OWN}:FAMILY")
    row = examine(case, steps=1)
    assert row.found_before_training
    assert row.said[0] == "drawn_at_another_rate"


@pytest.mark.slow
def test_a_language_model_from_its_parts_beats_kneser_ney_and_draws_a_sentence():
    out = run("language_model.py")
    assert "0 FAULT" in out
    (found,) = re.findall(r"nats per token: ([\d.]+), Kneser-Ney of order 5: ([\d.]+)", out)
    assert float(found[0]) < float(found[1])
    assert re.search(r"^drawn: \w+ \w+", out, flags=re.MULTILINE)


@pytest.mark.slow
def test_eight_components_cover_a_ring_that_one_guide_does_not():
    """Both ELBOs lie below the exact log p(x), which the script integrates; that of eight is within a
    third of a nat of it, that of one is more than a nat below."""
    out = run("stein_mixture.py")
    bounds = [float(value) for value in re.findall(r"elbo: (-[\d.]+)", out)]
    (exact,) = re.findall(r"exact: (-[\d.]+)", out)
    one, eight = (float(exact) - bound for bound in bounds)
    assert one > 1
    assert 0 < eight < 1 / 3


def readme_blocks() -> list[str]:
    """The README's Python: the quickstart, and how a run is opened."""
    readme = (ROOT / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)


def test_the_readme_opens_a_run_in_two_lines(trained):
    """Oracle: the settings that the run was trained with."""
    _, shown = readme_blocks()
    names = {"tb": tightbound}
    exec(shown.replace("runs/mnist", str(trained)), names)
    assert names["model"].latent_size == 2


def test_the_readme_shows_the_quickstart_to_the_letter():
    shown, _ = readme_blocks()
    source = (EXAMPLES / "quickstart.py").read_text()
    docstring = ast.get_docstring(ast.parse(source), clean=False)
    assert shown.strip() == source.replace(f'"""{docstring}"""', "").strip()


@pytest.mark.slow
def test_the_notebook_runs_and_shows_numbers_and_findings_as_html(tmp_path):
    notebook = nbformat.read(EXAMPLES / "bounds_and_weights.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 2
    assert "nats per sequence" in shown[0]
    assert "FAULT" in shown[1]
