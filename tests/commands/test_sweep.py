"""`tightbound sweep`, with runs that are really trained.

Oracle: a sweep without interruption, the run folders of `train`, and the numbers of `evaluate`.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tightbound.commands.sweep import SweepOptions, default_folder, given_settings, plan_of
from tightbound.families.lookup import find_recipe
from tightbound.sweep.scores import load_scores
from tightbound.sweep.settings import changed

TINY = Path(__file__).parents[1] / "sweep" / "tiny.py"
ARMS = ["--vary", "start.lags=[[],[3]]"]
COMMAND = [
    *("sweep", f"{TINY}:recipe", *ARMS, "--seeds", "1", "--num-samples", "5"),
    *("--no-doctor", "--run.steps", "60"),
]


@pytest.fixture(scope="module")
def swept(tightbound, tmp_path_factory):
    """A sweep of two arms without interruption: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("sweeps") / "whole"
    result = tightbound(*COMMAND, "--sweep-dir", folder, "--json")
    assert result.code == 0, result.err
    return folder, result.document


def run_folders(folder):
    return sorted((folder / "runs").iterdir())


def without_times(folder):
    """The records of a run without wall times."""
    lines = map(json.loads, (folder / "steps.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]


def comparable(document):
    """A sweep's document without where it is."""
    return {key: value for key, value in document.items() if key != "sweep"}


def test_every_run_is_a_run_folder_and_the_tables_are_in_the_sweeps(swept, tightbound):
    folder, document = swept
    names = {path.name for path in folder.iterdir()}
    assert {"sweep.json", "runs", "chart.svg", "chart.png"} <= names
    assert {f"table.{ending}" for ending in ("txt", "md", "csv", "tex", "json")} <= names
    assert json.loads((folder / "table.json").read_text()) == document
    listed = tightbound("runs", folder, "--json").document["runs"]
    assert [run["step"] for run in listed] == [60, 60]
    assert {run["note"] for run in listed} == {"start.lags=[]", "start.lags=[3]"}


def test_a_figure_is_that_of_evaluate_with_the_same_draws(swept, tightbound):
    """Oracle: `tightbound evaluate`, in another unit with another sign."""
    folder, document = swept
    for arm in document["arms"]:
        run = folder / "runs" / f"{arm['name']}-seed-0"
        options = ("--bound", "iwae", "--num-samples", "5", "--unit", "nats per unit", "--json")
        (estimate,) = tightbound("evaluate", run, *options).document["estimates"]
        assert arm["estimate"]["value"] == pytest.approx(estimate["value"], rel=1e-9)
        assert arm["estimate"]["standard_error"] == pytest.approx(estimate["standard_error"])
        scores = load_scores(run / "scores.npz")
        assert -np.mean(scores.log_p) == pytest.approx(estimate["value"], rel=1e-9)


def test_a_killed_sweep_continues_and_its_table_is_that_of_one_without_interruption(
    swept, tightbound, tmp_path
):
    """Killed while the second run is half done: the first is not run again, the second resumes."""
    whole, document = swept
    command = [*COMMAND, "--sweep-dir", str(tmp_path), "--jobs", "1"]
    process = subprocess.Popen([sys.executable, "-m", "tightbound.cli", *command])
    planned = json.loads((whole / "sweep.json").read_text())["arms"]
    first, second = (f"{arm['name']}-seed-0" for arm in planned)
    half_done = tmp_path / "runs" / second / "checkpoints" / "step-00000010"
    while not half_done.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "runs" / second / "scores.npz").exists()
    before = (tmp_path / "runs" / first / "log.txt").read_bytes()
    result = tightbound(*command, "--json")
    assert result.code == 0, result.err
    assert "2 runs in" in result.err
    assert "1 of them finished" in result.err
    assert (tmp_path / "runs" / first / "log.txt").read_bytes() == before
    assert "Continuing from step" in (tmp_path / "runs" / second / "log.txt").read_text()
    assert comparable(result.document) == comparable(document)
    for one, other in zip(run_folders(whole), run_folders(tmp_path), strict=True):
        assert without_times(one) == without_times(other)
    assert (tmp_path / "table.csv").read_bytes() == (whole / "table.csv").read_bytes()


def test_a_finished_sweep_is_shown_again_in_another_format(swept, tightbound):
    folder, _ = swept
    result = tightbound(*COMMAND, "--sweep-dir", folder, "--format", "latex")
    assert "2 of them finished" in result.err
    assert result.out == (folder / "table.tex").read_text()


def test_an_arm_that_fails_is_reported_with_its_last_line_and_the_others_stay(swept, tightbound):
    """The folder of a finished sweep takes a third arm, which cannot be built."""
    folder, document = swept
    more = [*COMMAND, "--sweep-dir", folder]
    more[more.index(ARMS[1])] = 'start.kind=["normal"]'
    result = tightbound(*more, "--json")
    assert result.code == 1
    assert [arm["arm"] for arm in result.document["arms"]] == [
        arm["arm"] for arm in document["arms"]
    ]
    (unfinished,) = result.document["unfinished"]
    assert unfinished["arm"] == "start.kind=normal"
    assert unfinished["says"] == "Only zeros can be started from."
    assert "Failed: start-kind-normal" in result.err
    assert result.document["status"] == "failed"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vary", "start.lag=[[]]"], "no setting 'start.lag'. Did you mean 'start.lags'"),
        ([], "There is nothing to vary"),
        (["--vary", "learning_rate=[0.1]", "--seeds", "0"], "`seeds` is 0, but it must be"),
        (["--vary", "learning_rate=[0.1]", "--jobs", "0"], "`jobs` is 0, but it must be"),
        (["--vary", "run.steps=[0]"], "`steps` is 0"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused_before_anything_is_written(
    tightbound, tmp_path, options, words
):
    folder = tmp_path / "sweep"
    result = tightbound("sweep", f"{TINY}:recipe", "--sweep-dir", folder, *options)
    assert (result.code, words in result.err, folder.exists()) == (2, True, False), result.err


def test_settings_that_the_command_line_names_are_found_however_they_are_written():
    """Recipes that are varied by name take these, and no others, from the first."""
    recipe = find_recipe("vae/digits")
    words = ["--run.steps", "2000", "--model.latent-size=3", "--objective.no-latent-noise"]
    assert set(given_settings([*words, "--seeds", "2"], recipe)) == {
        "run.steps",  # though it is the recipe's own value
        "model.latent_size",
        "objective.latent_noise",
    }


def test_a_sweep_has_a_folder_by_its_settings_to_which_values_and_seeds_can_be_added():
    """Oracle: equal paths for equal questions."""

    def folder(*vary, seeds=1, steps=9, **options):
        recipe = changed(find_recipe("vae/digits"), "run.steps", steps)
        asked = SweepOptions(vary=vary, seeds=seeds, **options)
        return default_folder(plan_of("vae/digits", recipe, {}, asked), vary)

    first = folder("model.depth=[1]")
    assert str(first).startswith("runs/sweep-vae-digits-")
    assert folder("model.depth=[1,2]", seeds=3, jobs=2) == first
    others = [
        folder("model.depth=[1]", steps=10),
        folder("model.latent_size=[1]"),
        folder("model.depth=[1]", split="valid"),
        folder("model.depth=[1]", doctor=False),
    ]
    assert len({first, *others}) == 5


def test_other_settings_in_the_folder_of_a_sweep_are_refused(swept, tightbound):
    folder, _ = swept
    before = (folder / "sweep.json").read_bytes()
    result = tightbound(*COMMAND, "--run.steps", "61", "--sweep-dir", folder)
    assert result.code == 2
    assert "begun otherwise: run.steps was 60, is 61. Ask for the same to continue it" in result.err
    assert (folder / "sweep.json").read_bytes() == before


def test_the_sweep_itself_loads_no_jax():
    """Its processes do, one core each; what only waits and makes tables takes nothing from them."""
    modules = ("commands.sweep", "sweep.local", "sweep.results", "report.sweep_progress")
    code = (
        f"import sys, {', '.join(f'tightbound.{m}' for m in modules)}; print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
