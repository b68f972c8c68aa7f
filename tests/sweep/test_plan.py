"""What a sweep's folder is to hold, and who holds it. Oracle: the documents written out."""

from dataclasses import replace
from pathlib import Path

import pytest

from tightbound.errors import UserError
from tightbound.sweep.folder import SweepFolder
from tightbound.sweep.plan import Evaluation, Plan, PlannedArm, joined

ARMS = tuple(PlannedArm(name, f"depth={name}", "vae/digits", {"depth": name}) for name in "abc")
PLAN = Plan(
    "vae/digits", {"run.steps": 9}, Evaluation("test", "iwae", None, 128, None), True, 2, ARMS[:2]
)


def test_runs_come_seed_by_seed_so_that_a_stopped_sweep_has_compared_all_arms():
    assert [run.name for run in PLAN.runs] == ["a-seed-0", "b-seed-0", "a-seed-1", "b-seed-1"]


def test_a_plan_is_read_back_as_it_was_written(tmp_path):
    folder = SweepFolder(tmp_path / "sweep")
    assert folder.extend(PLAN) == folder.read_plan() == PLAN


def test_asking_again_adds_arms_and_seeds_and_loses_none(tmp_path):
    folder = SweepFolder(tmp_path)
    folder.extend(PLAN)
    both = folder.extend(replace(PLAN, arms=ARMS[1:], num_seeds=1))
    assert (both.arms, both.num_seeds) == (ARMS, 2)
    assert folder.extend(replace(PLAN, num_seeds=5)).num_seeds == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": "vae/mnist"}, "recipe was vae/digits, is vae/mnist"),
        ({"shared": {"run.steps": 10}}, "run.steps was 9, is 10"),
        ({"doctor": False}, "doctor was True, is False"),
        (
            {"evaluation": Evaluation("valid", "iwae", None, 128, None)},
            "evaluation.split was test, is valid",
        ),
    ],
)
def test_a_request_whose_runs_could_not_stand_in_one_table_is_refused(change, words):
    with pytest.raises(UserError, match=f"runs/x was begun otherwise: {words}. Ask for the same"):
        joined(PLAN, replace(PLAN, **change), Path("runs/x"))


def test_a_sweep_is_run_by_one_process_at_a_time(tmp_path):
    folder = SweepFolder(tmp_path)
    refused = pytest.raises(UserError, match=r"is being run by process .* --sweep-dir")
    with folder.locked(), refused, folder.locked():
        pass
    with folder.locked():
        pass


def test_a_folder_of_another_kind_and_a_path_that_is_a_file_are_named(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="is no sweep of this version: 'recipe'"):
        SweepFolder(tmp_path).read_plan()
    no_folder = SweepFolder(tmp_path / "sweep.json")
    with pytest.raises(UserError, match=r"cannot be made .* --sweep-dir"), no_folder.locked():
        pass
