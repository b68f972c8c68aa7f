"""Every command does what its help says, and its JSON is the documented schema.

Oracle: the library functions the commands stand for, and identities between their numbers.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from tightbound.diagnose.evidence import Evidence
from tightbound.diagnose.laws import gather as laws
from tightbound.report.tensorboard import tensorboard

ESTIMATE = {
    "value",
    "standard_error",
    "monte_carlo_error",
    "unit",
    "bound",
    "estimator",
    "num_samples",
    "split",
}
FINDING = {
    "code",
    "check",
    "verdict",
    "measured",
    "threshold",
    "unit",
    "where",
    "meaning",
    "causes",
    "advice",
    "not_checked",
}


def test_the_run_folder_holds_what_the_documentation_lists(trained):
    names = {path.name for path in trained.iterdir()}
    assert {
        "recipe.json",
        "environment.json",
        "baselines.json",
        "steps.jsonl",
        "findings.json",
        "evidence",
        "checkpoints",
    } <= names
    steps = [
        json.loads(line)["step"] for line in (trained / "steps.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40


def test_a_finished_run_has_asked_the_laws_of_its_trained_state(trained):
    """Before the first step, in no probe between, and of the last state."""
    history = [Evidence.load(path) for path in sorted((trained / "evidence").iterdir())]
    assert [e.step for e in history if e.scores is not None] == [0, 40]
    assert [e.step for e in history if e.twin is not None] == [
        0
    ]  # no parameter of the run is in it
    report = history[-1].reported
    steps = [json.loads(line) for line in (trained / "steps.jsonl").read_text().splitlines()]
    assert report is not None
    assert report.stated == steps[-1]["held_out"]["bound"]["value"]
    np.testing.assert_allclose(report.by_evaluator[:64], report.by_plain[:64])  # the same draws


def test_laws_are_asked_again_of_the_newest_checkpoint(tightbound, trained, monkeypatch):
    """Oracle: a state whose draws are made wrong by hand after the evidence of the run was right; the
    folder is left as it was."""
    before = tightbound("doctor", trained, "--json").document["findings"]
    newest = Evidence.load(sorted((trained / "evidence").iterdir())[-1])
    files = sorted(trained.rglob("*"))

    def asked(setup, state):
        assert int(state.step) == 40
        wide = replace(newest.scores, proposal=newest.scores.proposal + 0.5)
        return replace(newest, scores=wide)

    monkeypatch.setattr(laws, "gather_laws", asked)
    after = tightbound("doctor", trained, "--laws", "--json").document["findings"]
    faults = [{f["code"] for f in found if f["verdict"] == "FAULT"} for found in (before, after)]
    assert faults[1] - faults[0] == {"TB102"}
    assert sorted(trained.rglob("*")) == files


def test_laws_of_a_file_are_refused(tightbound, tmp_path):
    np.savez(tmp_path / "weights.npz", log_weights=np.zeros((2, 3)))
    result = tightbound("doctor", tmp_path / "weights.npz", "--laws")
    assert result.code == 2
    assert "no run folder" in result.err


def test_training_a_finished_run_again_changes_nothing(tightbound, trained, small):
    before = (trained / "steps.jsonl").read_bytes()
    result = tightbound("train", "vae/digits", "--run-dir", trained, *small, "--json")
    faults = [f["code"] for f in result.document["findings"] if f["verdict"] == "FAULT"]
    assert (result.code, faults) == (1, ["TB603"])
    assert set(result.document["findings"][0]) == FINDING
    assert (trained / "steps.jsonl").read_bytes() == before


def test_evaluate_gives_estimates_whose_sites_sum_to_the_elbo(tightbound, trained):
    result = tightbound("evaluate", trained, "--num-samples", "3", "--json")
    (estimate,) = result.document["estimates"]
    assert set(estimate) == ESTIMATE
    assert estimate["bound"] == "lower"
    assert estimate["split"] == "test (dynamic binarisation)"
    total = sum(site["value"] for site in result.document["sites"].values())
    assert total == pytest.approx(estimate["value"], abs=1e-9)


def test_a_tighter_bound_is_larger_on_the_same_draws(tightbound, trained):
    bounds = [
        tightbound("evaluate", trained, "--bound", name, "--num-samples", "5", "--json").document[
            "estimates"
        ][0]["value"]
        for name in ("elbo", "renyi", "iwae")
    ]
    assert bounds == sorted(bounds)


def test_saved_weights_are_read_by_the_doctor(tightbound, trained, tmp_path):
    path = tmp_path / "weights.npz"
    tightbound("evaluate", trained, "--num-samples", "30", "--max-rows", "40", "--save", path)
    assert np.load(path)["log_weights"].shape == (30, 40)
    result = tightbound("doctor", path, "--json")
    assert result.code == 0
    assert {finding["code"] for finding in result.document["findings"]} == {
        "TB301",
        "TB302",
        "TB303",
        "TB304",
    }


def test_the_doctor_names_normalised_weights_in_a_file(tightbound, trained, tmp_path):
    path = tmp_path / "weights.npz"
    tightbound("evaluate", trained, "--num-samples", "30", "--max-rows", "40", "--save", path)
    log_weights = np.load(path)["log_weights"]
    np.savez(path, log_weights=log_weights - np.logaddexp.reduce(log_weights, axis=0))
    result = tightbound("doctor", path, "--json")
    assert result.code == 1
    assert result.document["findings"][0]["causes"][0]["name"] == "weights_were_normalised"


def test_a_run_compared_with_itself_is_a_tie_without_error(tightbound, trained):
    result = tightbound("compare", trained, trained, "--num-samples", "2", "--json")
    comparison = result.document["comparison"]
    assert comparison["difference"] == 0
    assert comparison["standard_error"] == 0


def test_compare_says_which_step_is_better(tightbound, trained):
    result = tightbound("compare", f"{trained}@0", trained, "--num-samples", "2")
    assert "The second is better." in result.out


def test_why_takes_the_change_apart(tightbound, trained):
    document = tightbound("why", trained, "--rows", "50", "--json").document
    assert (document["from"], document["to"]) == (0, 40)
    sites = sum(site["value"] for site in document["sites"].values())
    assert sites == pytest.approx(document["change"]["value"], abs=1e-9)
    modules = sum(sum(parts.values()) for parts in document["modules"].values())
    assert (
        abs(modules - sites)
        < document["quadrature_error"] + 6 * document["change"]["monte_carlo_error"] + 1e-6
    )
    assert (trained / "why.json").exists()


def test_the_doctor_judges_a_run_as_training_did(tightbound, trained):
    result = tightbound("doctor", trained, "--json")
    saved = json.loads((trained / "findings.json").read_text())["findings"]
    assert result.document["findings"] == saved


def test_report_and_sample_write_their_files(tightbound, trained):
    result = tightbound("report", trained)
    assert result.out.strip() == str(trained / "report.html")
    pictures = sorted(path.name for path in (trained / "samples").iterdir())
    assert pictures == ["prior-step-00000040.png", "reconstructions-step-00000040.png"]


def test_runs_shows_the_settings_in_which_runs_differ(tightbound, trained, small):
    other = trained.parent / "other"
    settings = [*small, "--run.steps", "5", "--model.activation", "tanh", "--no-doctor"]
    assert tightbound("train", "vae/digits", "--run-dir", other, *settings).code == 0
    result = tightbound("runs", trained.parent)
    header = result.out.splitlines()[1]
    assert "model.activation" in header
    assert "model.latent_size" not in header
    assert "<small>" in result.out
    assert not (other / "evidence").exists()


def test_a_run_can_start_from_anothers_parameters_with_other_settings(
    tightbound, trained, tmp_path, small
):
    from safetensors.numpy import load_file

    folder = tmp_path / "run"
    settings = [*small, "--run.steps", "1", "--optimiser.name", "sgd", "--no-doctor"]
    start = ["--init-from", f"{trained}@20"]
    assert tightbound("train", "vae/digits", "--run-dir", folder, *settings, *start).code == 0
    first = load_file(folder / "checkpoints" / "step-00000000" / "state.safetensors")
    other = load_file(trained / "checkpoints" / "step-00000020" / "state.safetensors")
    names = [name for name in first if name.startswith((".model", ".proposal"))]
    assert names
    assert all(np.array_equal(first[name], other[name]) for name in names)


def test_max_minutes_saves_and_the_same_command_continues(tightbound, trained, tmp_path, small):
    folder = tmp_path / "run"
    command = ["train", "vae/digits", "--run-dir", folder, *small, "--no-doctor"]
    assert "continues" in tightbound(*command, "--max-minutes", "0").err
    result = tightbound(*command)
    assert "Continuing from step" in result.err
    newest = [f / "checkpoints" / "step-00000040" / "state.safetensors" for f in (folder, trained)]
    assert newest[0].read_bytes() == newest[1].read_bytes()  # nor did the doctor change a bit


def test_tensorboard_files_hold_scalars_and_histograms(trained, tmp_path):
    record = json.loads((trained / "steps.jsonl").read_text().splitlines()[-1])
    evidence = Evidence.load(sorted((trained / "evidence").iterdir())[-1])
    with tensorboard(tmp_path) as write:
        write(record, evidence)
    (events,) = tmp_path.iterdir()
    content = events.read_bytes()
    for tag in (b"train/bound", b"held_out/bound", b"latents/mean", b"outputs/residual"):
        assert tag in content
    assert b"gradients/decoder" in content


@pytest.mark.parametrize("style", ["text", "markdown", "csv", "json"])
def test_tables_come_in_every_format(tightbound, style):
    assert "vae/digits" in tightbound("recipes", "--format", style).out


def test_every_command_explains_itself(tightbound):
    from tightbound.cli import COMMANDS

    for command in COMMANDS:
        result = tightbound(command, "--help")
        assert result.code == 0, command
        assert "usage: tightbound" in result.out


def test_explain_lists_and_prints_pages(tightbound):
    assert "TB201" in tightbound("explain").out
    assert "kl_sign_flipped" in tightbound("explain", "tb201").out


def test_data_list_names_licences(tightbound):
    rows = tightbound("data", "list", "--json").document["data"]
    assert {"digits", "mnist", "mnist-static"} <= {row["name"] for row in rows}
    assert all(row["licence"] for row in rows)
