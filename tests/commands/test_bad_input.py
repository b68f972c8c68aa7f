"""Bad input gives one clear sentence with what to do, exit code 2, and loses nothing.

Oracle: the sentence itself, the exit code, and the files before and after.
"""

import fcntl
import json
import shutil

import numpy as np
import pytest


def assert_refused(result, *words):
    assert result.code == 2, result.out + result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err, result.err


def test_an_unknown_command_is_answered_with_the_closest_one(tightbound):
    assert_refused(tightbound("trian"), "There is no command 'trian'", "Did you mean 'train'")


def test_an_unknown_recipe_is_answered_with_the_closest_one(tightbound):
    assert_refused(tightbound("train", "vae/digit"), "'vae/digit'", "Did you mean 'vae/digits'")


def test_an_unknown_setting_is_answered_with_the_closest_one(tightbound):
    result = tightbound("train", "vae/digits", "--model.latent-sise", "3")
    assert_refused(result, "Did you mean --model.latent-size?")


def test_a_setting_of_the_wrong_type_is_named(tightbound):
    assert_refused(tightbound("train", "vae/digits", "--run.steps", "many"), "--run.steps", "many")


def test_a_command_without_its_recipe_says_what_comes_first(tightbound):
    assert_refused(tightbound("check"), "A recipe comes first", "tightbound recipes")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--objective.path", "doubly"], "doubly reparameterised"),
        (["--objective.estimator", "vimco"], "at least 2 samples"),
        (["--optimiser.weight-decay", "0.1"], "where `name` is 'adam'"),
        (["--data.law", "static"], "mnist-static"),
        (["--objective.estimator", "iwae", "--objective.num-samples", "0"], "at least"),
        (["--run.batch-size", "100000"], "Lower the batch size"),
        (["--run.batch-size", "0"], "at least 1"),
        (["--run.steps", "0"], "at least 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_is_written(
    tightbound, tmp_path, settings, words, small
):
    folder = tmp_path / "run"
    result = tightbound("train", "vae/digits", "--run-dir", folder, *small, *settings)
    assert_refused(result, words)
    assert not (folder / "recipe.json").exists()


def test_missing_data_say_where_they_were_looked_for(tightbound, monkeypatch, tmp_path):
    monkeypatch.setenv("TIGHTBOUND_DATA", str(tmp_path))
    monkeypatch.setenv("TIGHTBOUND_CACHE", str(tmp_path / "cache"))
    result = tightbound("train", "vae/mnist", "--run-dir", tmp_path / "run")
    assert_refused(result, "tightbound data fetch mnist", "TIGHTBOUND_DATA")


def test_other_settings_for_a_run_that_exists_are_named(tightbound, trained, small):
    before = (trained / "recipe.json").read_bytes()
    result = tightbound(
        "train", "vae/digits", "--run-dir", trained, *small, "--model.hidden-size", "9"
    )
    assert_refused(result, "model.hidden_size was 8, is 9", "--run-dir")
    assert (trained / "recipe.json").read_bytes() == before


def test_a_run_folder_in_use_is_refused(tightbound, trained, small):
    with open(trained / "lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = tightbound("train", "vae/digits", "--run-dir", trained, *small)
    assert_refused(result, "in use", "--run-dir")


def test_a_truncated_checkpoint_is_left_out_and_the_newest_valid_one_continues(
    tightbound, trained, tmp_path, small
):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    result = tightbound("train", "vae/digits", "--run-dir", folder, *small)
    assert result.code == 1, result.err  # as before: 40 steps stay under the baseline
    assert "damaged" in result.err
    assert "Continuing from step 20" in result.err


def test_a_folder_that_is_no_run_is_named(tightbound, tmp_path):
    assert_refused(tightbound("why", tmp_path), "not a run folder")
    assert_refused(tightbound("why", tmp_path / "absent"), "There is no run folder")


def test_a_damaged_recipe_is_named(tightbound, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "recipe.json").write_text("{")
    assert_refused(tightbound("evaluate", folder), "recipe.json is damaged")
    (folder / "recipe.json").write_text(json.dumps({"recipe": "vae/digits"}))
    assert_refused(tightbound("evaluate", folder), "recipe.json")


def test_a_step_without_checkpoint_lists_those_there_are(tightbound, trained):
    assert_refused(tightbound("evaluate", f"{trained}@7"), "It has: 0, 20, 40")
    assert_refused(tightbound("evaluate", f"{trained}@x"), "@STEP")


def test_zero_samples_are_refused(tightbound, trained):
    result = tightbound("evaluate", trained, "--num-samples", "0")
    assert_refused(result, "at least one draw")


def test_the_same_step_twice_moves_nothing(tightbound, trained):
    assert_refused(tightbound("why", trained, "--from", "20", "--to", "20"), "nothing moved")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half"])
def test_a_file_that_is_no_npz_is_refused(tightbound, tmp_path, content):
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    result = tightbound("doctor", path)
    assert_refused(result, "cannot be read")
    assert "allow_pickle" not in result.err


@pytest.mark.parametrize("ending", ["npy", "pt", "PTH", "pkl", "safetensors", "csv", "json", "h5"])
def test_a_file_of_another_format_is_told_what_to_save_and_never_to_unpickle(
    tightbound, tmp_path, ending
):
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(b"\x80\x04K\x01.")
    result = tightbound("doctor", path)
    assert_refused(result, "by its name", "np.savez(")
    assert "allow_pickle" not in result.err


def test_a_pickle_inside_an_npz_is_never_opened(tightbound, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, log_weights=np.array([object()], dtype=object))
    result = tightbound("doctor", path)
    assert_refused(result, "without pickles", "no archive of plain arrays")
    assert "allow_pickle" not in result.err


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(3), "(samples, sequences)"),
        (np.zeros((3, 2), int), "int64"),
        (np.zeros((0, 2)), "empty"),
    ],
)
def test_log_weights_of_the_wrong_kind_are_described(tightbound, tmp_path, array, words):
    path = tmp_path / "weights.npz"
    np.savez(path, log_weights=array)
    assert_refused(tightbound("doctor", path), words)


def test_an_unknown_code_or_fault_is_named(tightbound, tmp_path):
    assert_refused(tightbound("explain", "TB999"), "TB999")
    result = tightbound("drill", "--kinds", "nothing", "--out", tmp_path / "rows.jsonl")
    assert_refused(result, "There is no fault 'nothing'")
    result = tightbound("train", "vae/digits", "--plant", "nothing", "--run-dir", tmp_path / "r")
    assert_refused(result, "There is no fault 'nothing'")


def test_an_unknown_data_set_lists_those_there_are(tightbound):
    assert_refused(tightbound("data", "fetch", "nothing"), "no data set", "mnist-static")
    assert_refused(tightbound("data", "verify", "nothing"), "no data set", "mnist-static")


def test_a_number_that_is_none_in_a_users_own_data_is_named_by_line(tightbound, tmp_path, small):
    path = tmp_path / "own.csv"
    row = ",".join(["1"] * 64 + ["3"])
    path.write_text("\n".join([row, row.replace("1", "nan", 1)] + [row] * 600))
    result = tightbound(
        "train", "vae/digits", "--data.path", path, "--run-dir", tmp_path / "r", *small
    )
    assert_refused(result, "Line 2")
    assert not (tmp_path / "r" / "recipe.json").exists()
