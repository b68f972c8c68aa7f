"""Run folders of the version before families had folders of their own are opened, judged, shown and continued.

`fixtures/older_runs.json` is what that version (commit 2ec441b5) wrote, 40 steps of one recipe of each family:
documents whole, of arrays their names, types and shapes. `settings` are recipes whose settings have another
layout now.
"""

import json
import re
from dataclasses import fields as fields_of
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

from tightbound.families.lookup import RECIPES, family_of
from tightbound.families.settings import saved_settings, settings_of
from tightbound.report.contents import read_contents
from tightbound.report.html import write_report
from tightbound.runs.build import build
from tightbound.runs.opened import open_run
from tightbound.runs.training import TrainOptions, changed_settings, decided, default_folder
from tightbound.train.folder import RunFolder
from tightbound.train.run import first_state

OLDER = json.loads((Path(__file__).parents[1] / "fixtures" / "older_runs.json").read_text())
RUNS = OLDER["runs"]
SETTINGS = OLDER["settings"] | {
    name: run["recipe.json"]["settings"] | {"run": settings_of(RECIPES[name])["run"]}
    for name, run in RUNS.items()
}


@pytest.fixture(params=RUNS)
def older(request, tmp_path):
    """The folder of an older run, but for its checkpoints."""
    run, folder = RUNS[request.param], RunFolder(tmp_path / "run")
    for name in ("recipe.json", "baselines.json"):
        folder.write_json(name, run[name])
    folder.write_json("environment.json", {"versions": {}})
    for record in run["steps.jsonl"]:
        folder.append_step(record)
    folder.evidence.mkdir()
    for step, layout in run["evidence"].items():
        np.savez(
            folder.evidence / f"step-{int(step):08d}.npz",
            format=np.array("tightbound.Evidence/1"),
            step=np.array(int(step)),
            **{entry: array_of(*part) for entry, part in layout.items()},
        )
    return request.param, folder


def array_of(kind, shape):
    """Texts as they were, numbers of this type and shape made up."""
    if kind == "text":
        return np.array(shape)
    noise = np.random.default_rng(0).uniform(0.1, 1.0, shape)
    return noise.astype(kind) if kind.startswith("float") else np.ones(shape, kind)


def older_document(name, **changes):
    decides = {"recipe": name, "seed": 0, "init_from": None, "plant": None}
    return {**decides, "settings": SETTINGS[name], "note": "", "started": "", **changes}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_same_command_continues_an_older_run(name, tmp_path, monkeypatch):
    """Settings that nothing reads had been saved with it, and had given its folder another name. Another
    seed, or another setting, is another run."""
    recipe, options = RECIPES[name], TrainOptions()
    assert changed_settings(older_document(name), decided(name, recipe, options)) == []
    monkeypatch.chdir(tmp_path)
    own = default_folder(name, recipe, options)
    older = RunFolder(own.with_name(own.name[:-6] + "000000"))
    older.write_json("recipe.json", older_document(name))
    assert default_folder(name, recipe, options) == older.path
    assert default_folder(name, recipe, replace(options, seed=1)) != older.path
    longer = replace(recipe, run=replace(recipe.run, steps=7))
    (change,) = changed_settings(older_document(name), decided(name, longer, options))
    assert change == f"run.steps was {SETTINGS[name]['run']['steps']}, is 7"


@pytest.mark.parametrize("name", OLDER["settings"])
def test_an_older_run_beside_a_new_one_differs_in_no_setting(name):
    now = {"recipe": name, "settings": settings_of(RECIPES[name])}
    assert saved_settings(older_document(name)) == saved_settings(now)


def test_an_older_run_is_judged_from_its_evidence(older):
    """Every group that was gathered is read; those of later versions are absent and their checks NOT_RUN."""
    name, folder = older
    run = open_run(folder.path)
    for evidence, layout in zip(run.history, RUNS[name]["evidence"].values(), strict=True):
        for group in {entry.partition(".")[0] for entry in layout}:
            assert getattr(evidence, group, None) is not None or any(
                entry.startswith(f"{group}.") for entry in evidence.others
            )
    with np.errstate(all="ignore"):
        assert len(run.judge()) > 40
    assert set(run.baselines()) == set(RUNS[name]["baselines.json"])
    assert run.newest_bound().estimator == "elbo"


def test_an_older_run_is_listed_and_reported(older, tightbound):
    name, folder = older
    (row,) = tightbound("runs", folder.path.parent, "--json").document["runs"]
    assert (row["recipe"], row["step"]) == (name, RUNS[name]["steps.jsonl"][-1]["step"])
    assert name in write_report(read_contents(folder), family_of(name)).read_text()


@pytest.mark.parametrize("name", RUNS)
def test_an_older_checkpoint_has_the_parameters_of_now(name):
    """Names and shapes of every array of model and proposal, which is how a checkpoint finds its place."""

    def pair():
        setup = build(RECIPES[name], seed=0)
        return setup.model, setup.proposal

    saved = {path: shape for path, shape in RUNS[name]["state"].items() if is_parameter(path)}
    assert {".model", ".proposal"} >= {re.match(r"\.\w+", path)[0] for path in saved}
    assert (
        arrays(dict(zip((".model", ".proposal"), eqx.filter_eval_shape(pair), strict=True)))
        == saved
    )


def test_an_older_checkpoint_has_all_of_the_state_of_now():
    """Of one recipe: the optimiser's moments and the counters too."""
    state = first_state(build(RECIPES["vae/digits"], seed=0))
    fields = {f".{field.name}": getattr(state, field.name) for field in fields_of(state)}
    assert arrays(fields) == RUNS["vae/digits"]["state"]


def is_parameter(path):
    return path.startswith((".model", ".proposal"))


def arrays(parts):
    """Shapes by name, as a checkpoint names its arrays."""
    found = {}
    for part, tree in parts.items():
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if hasattr(leaf, "shape"):
                found[part + jax.tree_util.keystr(path)] = list(leaf.shape)
    return found
