"""Which two checkpoints `why` compares when it is not told. Oracles: by hand."""

import pytest

from tightbound.commands.why import steps_to_explain
from tightbound.families.lookup import find_recipe
from tightbound.runs.opened import OpenRun
from tightbound.train.folder import RunFolder


@pytest.fixture
def a_run(tmp_path, monkeypatch):
    """A run with these checkpoints and these evaluations, by step."""

    def make(checkpoints, bounds):
        folder = RunFolder(tmp_path)
        for step, bound in bounds.items():
            folder.append_step({"step": step, "held_out": {"bound": {"value": bound}}})
        folder.append_step({"step": 1000, "train": {}})
        monkeypatch.setattr(OpenRun, "steps", lambda self: checkpoints)
        return OpenRun(folder, find_recipe("vae/digits"), 0, {})

    return make


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (
            {0: -27.0, 10: -233.0, 100: -250.0, 200: -230.0},
            (0, 200),
        ),  # it falls from the first step
        ({0: -20.9, 100: -1.3, 200: -1.9}, (100, 200)),
        ({0: -20.9, 100: -1.3, 200: -1.1}, (0, 200)),  # the last is the best: how it came about
        ({0: -20.9, 100: -1.3}, (0, 100)),  # killed before an evaluation of its newest checkpoint
        ({0: "nan", 100: -3.0, 200: "-inf"}, (0, 100)),  # nothing can be said of what is not finite
        ({0: -3.0, 100: -3.0, 200: -3.0}, (0, 200)),
        ({}, (0, 200)),
    ],
)
def test_the_best_and_the_last_evaluation_are_compared(a_run, bounds, expected):
    assert steps_to_explain(a_run([0, 100, 200], bounds), None, None) == expected


def test_steps_that_are_named_are_kept(a_run):
    """With one of them named, the other is the best up to there, or the last evaluation."""
    run = a_run([0, 100, 200], {0: -20.0, 100: -1.0, 200: -5.0})
    assert steps_to_explain(run, 200, 0) == (200, 0)
    assert steps_to_explain(run, 0, None) == (0, 200)
    assert steps_to_explain(run, None, 100) == (0, 100)


def test_a_best_evaluation_without_a_checkpoint_is_said(a_run, capsys):
    """What cannot be compared is not passed over in silence; the best that was saved stands in."""
    run = a_run([0, 100, 200], {0: -20.0, 70: -1.0, 100: -4.0, 200: -5.0})
    assert steps_to_explain(run, None, None) == (100, 200)
    assert "The best evaluation, -1 at step 70, has no checkpoint" in capsys.readouterr().err


def test_a_best_evaluation_with_a_checkpoint_is_nothing_to_speak_of(a_run, capsys):
    steps_to_explain(a_run([0, 100], {0: -20.0, 70: -4.0, 100: -4.0}), None, None)
    assert capsys.readouterr().err == ""
