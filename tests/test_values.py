"""A value that cannot be meant is refused when it is given, before anything is built.

Oracle: the table of kinds, and a walk over every setting of every recipe and every command.
"""

import dataclasses
import importlib
import math
import subprocess
import sys
import time
import typing
from functools import partial
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tightbound import values
from tightbound.cli import COMMANDS
from tightbound.errors import UserError
from tightbound.families import FAMILIES
from tightbound.families.lookup import RECIPES
from tightbound.values import Bound, Size, require_kind, require_meant

KINDS = {
    name: kind
    for name, kind in vars(values).items()
    if typing.get_origin(kind) is Annotated and isinstance(typing.get_args(kind)[1], Bound)
}


def dataclasses_in(hint: Any) -> set[type]:
    """The dataclasses of settings that an annotation names, and those inside them."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint, include_extras=True).values()
        return {hint}.union(*map(dataclasses_in, hints))
    return set().union(*map(dataclasses_in, typing.get_args(hint)))


def every_group() -> list[type]:
    """Of recipes, of what is drawn, of commands."""
    found = set().union(*(dataclasses_in(type(recipe)) for recipe in RECIPES.values()))
    for family in FAMILIES:
        found |= dataclasses_in(family.load("samples"))
    for command in COMMANDS:
        module = importlib.import_module(f"tightbound.commands.{command}")
        options = [
            one
            for one in vars(module).values()
            if isinstance(one, type)
            and dataclasses.is_dataclass(one)
            and (one.__name__.endswith("Options") or one.__module__ == module.__name__)
        ]
        found |= set().union(*map(dataclasses_in, options))
    return sorted(found, key=lambda one: (one.__module__, one.__name__))


GROUPS = every_group()


def bounds_of(hint: Any) -> list[Bound]:
    if typing.get_origin(hint) is Annotated:
        *_, entry = typing.get_args(hint)
        return [entry] if isinstance(entry, Bound) else bounds_of(typing.get_args(hint)[0])
    return [bound for one in typing.get_args(hint) for bound in bounds_of(one)]


def bare_numbers(hint: Any) -> bool:
    """Whether the annotation has a number of no kind."""
    if typing.get_origin(hint) is Annotated and bounds_of(hint):
        return False
    return hint in (int, float) or any(map(bare_numbers, typing.get_args(hint)))


def made(group: type, name: str, value: Any) -> Any:
    """The group with this value, and something where it has no default."""
    needed = {
        field.name: "x"
        for field in dataclasses.fields(group)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return group(**{**needed, name: value})


def in_place(hint: Any, value: Any) -> Any:
    """The value as the annotation holds it: alone, or in a tuple of its length."""
    inner = [hint, *typing.get_args(hint)]
    tuples = [one for one in inner if typing.get_origin(one) is tuple]
    if not tuples:
        return value
    arguments = typing.get_args(tuples[0])
    return (value,) if Ellipsis in arguments else (value,) * len(arguments)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_number_among_the_settings_has_a_kind_and_refuses_what_cannot_be_meant(group):
    """A new setting without a kind, or a group that does not check itself, fails here."""
    for name, hint in typing.get_type_hints(group, include_extras=True).items():
        assert not bare_numbers(hint), f"{group.__name__}.{name} names no kind of values.py"
        for bound in bounds_of(hint):
            numbers = [math.nan, math.inf, -math.inf, bound.low - max(1, abs(bound.low))]
            numbers += [] if bound.low_is_meant else [bound.low]
            numbers += [0.5, 2**63] if bound.whole else []
            numbers += [0, -1, 10**12] if hint is Size else []
            for value in map(partial(in_place, hint), ["1", *numbers]):
                with pytest.raises(UserError, match=rf"^`{name}` is .*, but .*it must be "):
                    require_kind(name, value, hint)
            for value in numbers:
                if type(value) is (int if bound.whole else float):  # others stop at the type check
                    with pytest.raises(UserError, match=rf"^`{name}` is .*, but .*it must be "):
                        made(group, name, in_place(hint, value))


def test_the_walk_sees_every_recipe_and_finds_a_planted_setting_without_a_kind():
    @dataclasses.dataclass(frozen=True)
    class Planted:
        good: Size = 1
        bad: tuple[int, ...] | None = None

    hints = typing.get_type_hints(Planted, include_extras=True)
    assert [name for name, hint in hints.items() if bare_numbers(hint)] == ["bad"]
    assert {type(recipe) for recipe in RECIPES.values()} <= set(GROUPS)
    assert len(GROUPS) > 45


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
@settings(max_examples=40, deadline=None)
@given(value=st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text()))
def test_a_value_is_meant_where_it_lies_within_the_bounds_of_its_kind(kind, value):
    """Oracle: the interval, by comparison, and the type; NaN compares with nothing."""
    bound = typing.get_args(kind)[1]
    is_number = type(value) in ((int,) if bound.whole else (int, float))
    is_meant = (
        is_number
        and (bound.low < value or (bound.low_is_meant and value == bound.low))
        and (value < bound.high or (bound.high_is_meant and value == bound.high))
    )
    if is_meant:
        require_kind("it", value, kind)
    else:
        with pytest.raises(UserError) as refused:
            require_kind("it", value, kind)
        assert str(refused.value).startswith(f"`it` is {value!r}, but ")


def test_what_a_size_would_take_is_said():
    """By hand: 4 bytes x (10^12)^2 = 4e24 bytes = 3.47 million EiB (2^60 bytes)."""
    sentence = r"`hidden_size` is 1000000000000, but a layer of that size to itself would take 3.47e\+06 EiB"
    with pytest.raises(UserError, match=sentence):
        require_kind("hidden_size", 10**12, Size)
    require_kind("hidden_size", np.int64(2**20), Size)


@dataclasses.dataclass(frozen=True)
class Group:
    word: typing.Literal["a", "b"] = "a"
    flag: bool = False
    text: str = ""
    pair: tuple[values.Whole, values.Whole] | None = None
    name: values.Name = "x"
    inner: "Group | None" = None

    def __post_init__(self):
        require_meant(self)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("word", "c", "must be one of 'a', 'b'"),
        ("flag", 1, "must be True or False"),
        ("text", None, "must be text"),
        ("pair", (1,), "must be 2 values"),
        ("pair", [1, 2], "must be a list"),
        ("name", " ", "a name, and not blank"),
        ("name", "a\0b", "a name, and not blank"),
        ("inner", 5, "a group of settings"),
    ],
)
def test_words_flags_and_groups_are_held_to_their_annotations_too(setting, value, words):
    """A run's folder may hold any JSON where a setting was."""
    with pytest.raises(UserError, match=words):
        Group(**{setting: value})
    assert Group(pair=(1, 2), inner=Group("b")).inner.word == "b"


TRAIN = ("train", "vae/digits")
WRONG = [
    (*TRAIN, "--model.hidden-size", "0"),
    (*TRAIN, "--model.hidden-size", "-1"),
    (*TRAIN, "--model.latent-size", "1000000000000"),
    (*TRAIN, "--model.latent-size", "1e3"),
    (*TRAIN, "--model.depth", "1000000"),
    (*TRAIN, "--model.fixed-proposal-scale", "0"),
    (*TRAIN, "--optimiser.learning-rate", "nan"),
    (*TRAIN, "--optimiser.learning-rate", "inf"),
    (*TRAIN, "--optimiser.learning-rate", "0"),
    (*TRAIN, "--optimiser.learning-rate", "-1e-3"),
    (*TRAIN, "--optimiser.learning-rate", "1e300"),
    (*TRAIN, "--optimiser.clip-norm", "0"),
    (*TRAIN, "--optimiser.clip-value", "-1"),
    (*TRAIN, "--optimiser.warmup-steps", "-1"),
    (*TRAIN, "--optimiser.restart-every", "0"),
    (*TRAIN, "--objective.kl-warmup-steps", "-5"),
    (*TRAIN, "--objective.kl-weight", "nan"),
    (*TRAIN, "--objective.free-bits", "-0.1"),
    (*TRAIN, "--objective.num-samples", "1000000000000"),
    (*TRAIN, "--run.steps", "-3"),
    (*TRAIN, "--run.steps", "4294967296"),
    (*TRAIN, "--run.batch-size", "0"),
    (*TRAIN, "--run.log-every", "0"),
    (*TRAIN, "--seed", "-1"),
    (*TRAIN, "--seed", "18446744073709551616"),
    (*TRAIN, "--max-minutes", "nan"),
    (*TRAIN, "--run-dir", ""),
    (*TRAIN, "--data.path", ""),
    (*TRAIN, "--plant", " "),
    ("train", ""),
    ("check", "edits/doubling", "--noising.drop", "nan"),
    ("check", "edits/doubling", "--data.doublings", "60"),
    ("check", "vrnn/jsb", "--objective.threshold", "1.5"),
    ("check", "dlm/toy-grammar", "--model.dropout.input", "1"),
    ("check", "stein/line", "--mixture.repulsion", "-1"),
    ("check", "stein/line", "--model.hidden-sizes", "50", "0"),
    ("sweep", "vae/digits", "--seeds", "1000000000"),
    ("sweep", "vae/digits", "--vary", "model.latent-size=[0]"),
    ("evaluate", "runs/a", "--num-samples", "0"),
    ("evaluate", "runs/a", "--order", "nan"),
    ("evaluate", ""),
    ("compare", "runs/a", "runs/b", "--max-rows", "-1"),
    ("why", "runs/a", "--from", "-1"),
    ("drill", "--steps", "0"),
]


@pytest.mark.parametrize("line", WRONG, ids=" ".join)
def test_a_wrong_command_line_is_refused_in_a_sentence_at_once(
    line, tightbound, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    begun = time.monotonic()
    result = tightbound(*line)
    assert time.monotonic() - begun < 2
    assert result.code == 2, result.err
    assert result.err.startswith(f"tightbound {line[0]}: ")
    assert len(result.err.splitlines()) == 1
    assert result.err.rstrip().endswith(".")
    assert "Error parsing" not in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", [WRONG[0], WRONG[30]], ids=" ".join)
def test_the_refusal_needs_no_jax(line, tmp_path):
    """Of a fresh process, from its start to its end."""
    program = (
        "import sys; from tightbound.cli import main; code = main(sys.argv[1:]); "
        "assert 'jax' not in sys.modules; sys.exit(code)"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, *line], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert time.monotonic() - begun < 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7.28 TiB for an array with shape (1000000, 1000000)"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4000000000000 bytes."),
    ],
)
def test_what_takes_more_memory_than_there_is_ends_in_a_sentence(error, tightbound, monkeypatch):
    """As NumPy and XLA raise it; the sizes are each within bounds, their product is not."""

    def main(arguments):
        raise error

    monkeypatch.setattr("tightbound.commands.explain.main", main)
    result = tightbound("explain")
    assert result.code == 2
    assert "this takes more memory than there is (" in result.err
    assert "RESOURCE" not in result.err
    assert len(result.err.splitlines()) == 1


def test_another_error_of_the_runtime_is_not_taken_for_one_of_memory(tightbound, monkeypatch):
    def main(arguments):
        raise RuntimeError("INTERNAL: a bug")

    monkeypatch.setattr("tightbound.commands.explain.main", main)
    with pytest.raises(RuntimeError, match="a bug"):
        tightbound("explain")
