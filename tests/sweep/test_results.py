"""From finished runs to one document. Oracle: the functions and formulas it stands for, on scores that
were made up; nothing is trained."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tightbound.errors import UserError
from tightbound.estimators.comparison import SequenceScores
from tightbound.estimators.ranking import rank_arms
from tightbound.sweep.folder import SCORES, SweepFolder
from tightbound.sweep.plan import Evaluation, Plan, PlannedArm, PlannedRun
from tightbound.sweep.results import results
from tightbound.sweep.scores import load_scores, save_scores

ROWS = 40
UNITS = np.random.default_rng(0).integers(1, 20, ROWS)
MEANS = {"worst": 5.0, "best": 1.0, "second": 1.05}
PLAN = Plan(
    "vae/digits",
    {},
    Evaluation("test", "iwae", None, 128, None),
    True,
    2,
    tuple(PlannedArm(f"{name}-1", name, "vae/digits", {}) for name in MEANS),
)


def scores(seed, mean, **changes):
    draw = np.random.default_rng(seed)
    first = SequenceScores(
        log_p=-(mean + 0.1 * draw.normal(size=ROWS)) * UNITS,
        rows=np.arange(ROWS),
        num_units=UNITS,
        unit_name="position",
        split="test",
        bound="lower",
        estimator="iwae",
        num_samples=5,
        groups=np.arange(ROWS) // 4,
    )
    return replace(first, **changes)


@pytest.fixture
def folder(tmp_path):
    """A sweep whose last arm lacks its second run."""
    folder = SweepFolder(tmp_path)
    for place, arm in enumerate(PLAN.arms):
        for seed in range(2 if arm.label != "second" else 1):
            run = folder.run(PlannedRun(arm, seed).name)
            run.path.mkdir(parents=True)
            save_scores(run.path / SCORES, scores(10 * place + seed, MEANS[arm.label]))
    return folder


def write(folder, arm, seed, changed):
    save_scores(folder.run(PlannedRun(PLAN.arms[arm], seed).name).path / SCORES, changed)


def test_scores_are_read_back_as_they_were_saved(tmp_path):
    """Oracle: the record itself; what is None stays None, numbers stay numbers."""
    saved = scores(0, 1.0)
    save_scores(tmp_path / "a.npz", saved)
    read = load_scores(tmp_path / "a.npz")
    for field in fields(saved):
        np.testing.assert_equal(getattr(read, field.name), getattr(saved, field.name))
    assert read.num_characters is None
    np.savez(tmp_path / "b.npz", log_weights=np.zeros(3))
    with pytest.raises(UserError, match=r"b.npz does not hold scores of a sweep's run; delete it"):
        load_scores(tmp_path / "b.npz")


def test_the_document_says_what_the_ranking_says_from_the_best_arm_on(folder):
    """Oracle: `rank_arms` on the same nats."""
    document = results(folder, PLAN, {})
    assert json.loads(json.dumps(document)) == document
    assert [arm["arm"] for arm in document["arms"]] == ["best", "second", "worst"]
    nats = np.full((3, 2, ROWS), np.nan)
    for place, arm in enumerate(PLAN.arms):
        for seed in range(2 if arm.label != "second" else 1):
            nats[place, seed] = -scores(10 * place + seed, MEANS[arm.label]).log_p
    found = rank_arms(nats, UNITS)
    for shown, place in zip(document["arms"], (1, 2, 0), strict=True):
        arm = found.arms[place]
        assert_allclose(shown["estimate"]["value"], arm.mean, rtol=1e-12)
        assert shown["ranks"] == [arm.lowest_rank, arm.highest_rank]
        assert (shown["num_seeds"], shown["seed_error"]) == (arm.num_seeds, arm.seed_error)
        assert_allclose(np.mean(list(shown["by_seed"].values())), arm.mean, rtol=1e-12)
        assert shown["estimate"]["bound"] == "upper"  # of a negative log-likelihood
    assert document["arms"][0]["over_best"] is None
    assert document["arms"][2]["over_best"] == found.difference(0, 1).to_json()
    assert document["arms"][2]["tied_with"] == []


def test_runs_that_are_not_finished_are_listed_with_why(folder):
    document = results(folder, PLAN, {"second-1-seed-1": "ValueError: too deep"})
    assert document["unfinished"] == [
        {"run": "second-1-seed-1", "arm": "second", "seed": 1, "says": "ValueError: too deep"}
    ]
    assert results(folder, PLAN, {})["unfinished"][0]["says"] is None


def test_a_run_with_an_impossible_row_is_left_out_and_named(folder):
    """It would make its arm's mean infinite and every error NaN."""
    bad = scores(1, 5.0)
    bad.log_p[3] = -np.inf
    write(folder, 0, 1, bad)
    document = results(folder, PLAN, {})
    assert document["arms"][2]["num_seeds"] == 1
    assert document["unfinished"][0]["says"] == "log p is not finite on 1 of 40 rows"


@pytest.mark.parametrize(
    "changes", [{"num_units": UNITS + 1}, {"rows": np.arange(1, ROWS + 1)}, {"split": "valid"}]
)
def test_arms_on_different_data_keep_their_figures_and_are_not_ranked(folder, changes):
    """Planted: one arm cut its sentences elsewhere. A difference would mix the model with the data."""
    for seed in range(2):
        write(folder, 0, seed, scores(seed, 5.0, **changes))
    document = results(folder, PLAN, {})
    assert (
        "The arms are not ranked: they were evaluated on different data" in document["not_ranked"]
    )
    assert [arm["ranks"] for arm in document["arms"]] == [None, None, None]
    assert [arm["over_best"] for arm in document["arms"]] == [None, None, None]
    assert document["arms"][0]["arm"] == "best"


def test_errors_are_clustered_by_group_where_that_is_asked_for(folder):
    rows, groups = (results(folder, PLAN, {}, by_group=flag) for flag in (False, True))
    assert (rows["num_groups"], groups["num_groups"]) == (None, 10)
    freedom = [d["arms"][1]["over_best"]["degrees_of_freedom"] for d in (rows, groups)]
    assert_allclose(freedom, [39, 9])
    write(folder, 0, 0, scores(0, 5.0, groups=None))
    with pytest.raises(UserError, match=r"have no groups\. Leave --by-group out; no run is lost"):
        results(folder, PLAN, {}, by_group=True)


def test_faults_of_any_run_are_named_beside_its_arm(folder):
    finding = {"code": "TB104", "verdict": "FAULT"}
    fine = {"code": "TB105", "verdict": "OK"}
    folder.run("best-1-seed-1").write_json("findings.json", {"findings": [finding, fine]})
    document = results(folder, PLAN, {})
    assert [arm["faults"] for arm in document["arms"]] == [["TB104"], [], []]


def test_a_sweep_without_a_finished_run_has_no_arms(tmp_path):
    document = results(SweepFolder(tmp_path), PLAN, {})
    assert (document["arms"], len(document["unfinished"])) == ([], 6)
