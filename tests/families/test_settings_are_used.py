"""A setting is used or refused: of every recipe, each setting is read while the run is built, or cannot be
given another value.

Oracle: a record of which fields of the settings were read, by anything but `dataclasses` itself.
"""

import dataclasses
import sys
import typing
from collections.abc import Iterator
from typing import Any, Literal

import jax
import pytest

from fixtures.examinations import SUBJECTS, TRAPS
from tightbound.errors import UserError
from tightbound.families.lookup import RECIPES


def watched(settings: Any, read: set[str], path: str = "") -> Any:
    """The same settings, which note every field that is read of them."""
    kind = type(settings)

    def noting(self, name):
        caller = sys._getframe(1).f_globals.get("__name__")
        if name in fields and caller != "dataclasses" and not _checks_itself():
            read.add(path + name)
        return object.__getattribute__(self, name)

    fields = {field.name for field in dataclasses.fields(kind)}
    watching = type(kind.__name__, (kind,), {"__getattribute__": noting})
    copy = object.__new__(watching)
    for name in fields:
        value = getattr(settings, name)
        inner = dataclasses.is_dataclass(value)
        object.__setattr__(copy, name, watched(value, read, f"{path}{name}.") if inner else value)
    return copy


def _checks_itself() -> bool:
    """Whether a setting is being checked when it is made: that is no use of it."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "__post_init__":
            return True
        frame = frame.f_back
    return False


def settings_of(record: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings_of(value, f"{path}{field.name}.")
        else:
            yield path + field.name, value


def changed(record: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    new = changed(getattr(record, name), rest, value) if rest else value
    return dataclasses.replace(record, **{name: new})


def other_values(hint: Any, value: Any) -> list[Any]:
    """Values of the same kind that are not this one."""
    if typing.get_origin(hint) is Literal:
        return [other for other in typing.get_args(hint) if other != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value + 0.125]
    if isinstance(value, tuple):
        return [(*value, 1)]
    return [1.0 if float in typing.get_args(hint) else 1]


def hint_of(record: Any, path: str) -> Any:
    *groups, name = path.split(".")
    for group in groups:
        record = getattr(record, group)
    return typing.get_type_hints(type(record))[name]


# Every class of recipe, with its choices; what a run does with `run` is read while it trains.
ALL = {**RECIPES, **SUBJECTS, **TRAPS}
CHOICES = [
    *("vae/digits", "vae/digits-gaussian", "deep", "vimco"),
    *("stein/digits", "stein/single-guide", "stein/line", "stein/svgd", "stein/small-network"),
    *("stein/gaussian", "stein/correlated"),
    *("edits/doubling", "edits/doubling-drop", "edits/summed-out", "edits/prefix-doubling"),
    *("vrnn/toy-strokes", "vrnn/digits", "vrnn/no-latents", "vrnn/toy-dmm", "vrnn/digits-fivo"),
    *("dlm/toy-grammar", "dlm/toy-window", "dlm/gpt", "dlm/toy-vae", "dlm/toy-factorial"),
    *("dlm/uniform-parents", "dlm/permutations", "dlm/word-chain", "dlm/mutated"),
]


# `stein/line --mixture.method svgd` keeps its recipe's guide, which points have no use for
NOT_REFUSED = {"stein/svgd": ["guide.family", "guide.start_scale"]}


@pytest.mark.parametrize("name", CHOICES)
def test_a_setting_that_building_does_not_read_cannot_be_given(name):
    recipe, read = ALL[name], set()
    setup = watched(recipe, read).build(0)
    if setup.twin is not None:
        setup.twin(jax.random.key(0))
    unread = [
        path
        for path, _ in settings_of(recipe)
        if path not in read and not path.startswith("run.") and path not in ("name", "summary")
    ]
    # `data.source` is the name of its class of settings, which is what building looks at
    silent = [path for path in unread if path != "data.source" and not is_refused(recipe, path)]
    assert silent == NOT_REFUSED.get(name, [])


def is_refused(recipe: Any, path: str) -> bool:
    """Whether every other value is refused with the setting's name, before anything is built."""
    *_, name = path.split(".")
    group = recipe
    for part in path.split("."):
        value = getattr(group, part)
        group = value
    for other in other_values(hint_of(recipe, path), value):
        try:
            built = changed(recipe, path, other)
            built.build(0)
        except UserError as error:
            if name not in str(error) and name.replace("_", " ") not in str(error).lower():
                return False
            continue
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Ignoring:
    """A planted recipe: one of its settings is read by nothing."""

    used: int = 1
    ignored: int = 2

    def build(self, seed):
        return self.used


def test_a_planted_setting_that_nothing_reads_is_found():
    read: set[str] = set()
    watched(Ignoring(), read).build(0)
    assert read == {"used"}
    assert not is_refused(Ignoring(), "ignored")
