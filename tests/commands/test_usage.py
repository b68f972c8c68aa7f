"""What the command line says of itself: settings of recipes, names of arguments, wrong calls.

Oracle: the recipes' own fields, and what a call with `--help` prints.
"""

import importlib
import inspect
import os
import re
import sys
from itertools import pairwise

import pytest
from rich.console import Console

from tightbound.cli import COMMANDS
from tightbound.families.described import settings_list, type_words
from tightbound.families.lookup import RECIPES
from tightbound.families.settings import flat_settings, settings_of

TYPE = re.compile(r"\b(STR|INT|FLOAT|PATH|None)\b")
FRAME = set("─│╭╮╰╯|+")
BY_RECIPE = {"check", "train", "sweep"}


def prefix(command):
    return (command, "vae/digits") if command in BY_RECIPE else (command,)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_every_setting_of_every_recipe_is_listed_with_its_type_and_default(recipe):
    """Oracle: the settings as a run keeps them, which come from another walk over the fields."""
    listed = {s.option.removeprefix("--").replace("-", "_"): s for s in settings_list(recipe)}
    kept = flat_settings(settings_of(recipe))
    assert set(listed) == set(kept)
    for name, value in kept.items():
        assert listed[name].default == (list(value) if isinstance(value, tuple) else value)
        assert listed[name].type
        assert "typing" not in listed[name].type


def test_recipes_shows_one_recipe_with_the_help_text_of_train(tightbound):
    """Oracle: `train RECIPE --help`, whose texts tyro reads from the same docstrings."""
    shown = tightbound("recipes", "vae/digits", "--json")
    helped = " ".join(tightbound("train", "vae/digits", "--help").out.replace("│", " ").split())
    texts = [entry["help"] for entry in shown.document["settings"] if entry["help"]]
    assert len(texts) > 10
    for text in texts:
        assert " ".join(text.split()[:4]) in helped
    table = tightbound("recipes", "vae/digits").out
    assert "--model.latent-size" in table
    assert "adam, adamw" in table
    result = tightbound("recipes", "vae/digit")
    assert result.code == 2
    assert "Did you mean 'vae/digits'?" in result.err


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "int"),
        (float | None, "float or None"),
        (tuple[int, ...], "int, any number"),
        (tuple[int, int] | None, "int int or None"),
    ],
)
def test_a_type_is_written_as_a_person_would(hint, words):
    """Oracle: written by hand."""
    assert type_words(hint) == words


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_of_any_command_is_answered_in_one_sentence(tightbound, command):
    """One line without a frame, with the option that was given and where to look. What `sample` takes
    depends on the run's family, so it says first that there is no run."""
    given = [*prefix(command), "--no-such-option"]
    if command in ("evaluate", "why", "report", "sample", "doctor"):
        given.insert(1, "runs/none")
    if command == "data":
        given.insert(1, "list")
    result = tightbound(*given)
    assert result.code == 2
    assert result.out == ""
    assert not FRAME & set(result.err)
    assert result.err.count("\n") == 1
    if command == "sample":
        assert "There is no run folder runs/none" in result.err
        return
    assert "--help" in result.err or "missing" in result.err
    assert "--no-such-option" in result.err or command == "compare"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["evaluate"], "RUN[@STEP] is missing."),
        (["data", "fetch"], "NAME is missing."),
        (["check", "vae/digits", "--seed", "x"], "--seed"),
        (["evaluate", "r", "--bound", "elbow"], "'elbo'"),
        (["data"], "list, fetch, verify"),
        (["explain", "A", "B"], "called B."),
        (["train", "vae/digits", "--run.steps"], "Missing value for argument '--run.steps'"),
    ],
)
def test_every_kind_of_wrong_call_gets_one_line_that_says_what_is_wrong(tightbound, given, words):
    """Oracle: written by hand, one for every frame that the parser has."""
    result = tightbound(*given)
    assert result.code == 2
    assert words in result.err
    assert not FRAME & set(result.err)
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_are_called_by_words_and_not_by_types(tightbound, command):
    """A type in the first line of the help is one that no word was given for."""
    wanted = [(*prefix(command), "--help")]
    if command == "data":
        wanted = [("data", action, "--help") for action in ("list", "fetch", "verify")]
    for given in wanted:
        usage = tightbound(*given).out.partition("\n\n")[0].split()
        assert usage[:2] == ["usage:", "tightbound"]
        for before, word in pairwise(usage):
            is_value = before.lstrip("[").startswith("-") and not before.endswith("]")
            assert is_value or not TYPE.search(word), word


@pytest.mark.parametrize("command", ["check", "why", "evaluate", "sample", "report"])
def test_every_slow_command_works_under_the_one_bar(command):
    """Oracle: the command's own text; what the bar does is tests/report/test_work_display.py's."""
    source = inspect.getsource(importlib.import_module(f"tightbound.commands.{command}"))
    assert f'with working("{command}' in source


def test_on_a_terminal_the_bar_is_on_stderr_and_the_document_alone_on_stdout(
    tightbound, trained, monkeypatch
):
    """Oracle: a JSON reader for stdout, and escape sequences of a terminal for stderr."""

    def terminal(**_):
        return Console(file=sys.stderr, force_terminal=True, width=100)

    quiet = tightbound("evaluate", trained, "--max-rows", "4", "--json")
    monkeypatch.setattr("tightbound.commands.working.Console", terminal)
    loud = tightbound("evaluate", trained, "--max-rows", "4", "--json")
    assert loud.document == quiet.document
    assert quiet.err == ""
    assert "\x1b[" in loud.err
    assert "scoring rows of" in loud.err


@pytest.mark.parametrize(("chosen", "level"), [(None, "3"), ("0", "0")])
def test_xla_keeps_its_lines_on_slow_compiling_unless_it_is_asked_for_them(
    tightbound, monkeypatch, chosen, level
):
    """3 is above the severity of `slow_operation_alarm.cc`, and below that of a crash; a compilation
    that is slow enough would take a minute, so the setting is read and not what XLA makes of it."""
    if chosen is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    else:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", chosen)
    tightbound("explain", "TB101")
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == level
