"""The settings of a recipe, one by one: name, type, default and what it does."""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from tightbound.families.lookup import Recipe


@dataclass(frozen=True)
class Setting:
    """One setting, as the command line has it."""

    option: str  # "--model.latent-size"
    type: str  # "int", or the words it may be
    default: Any  # plain JSON
    help: str  # "" where its name says it


def settings_list(recipe: Recipe) -> list[Setting]:
    """Every setting of a recipe, in the order of its fields; its own name and summary are none."""
    return [s for s in _settings(recipe, "--") if s.option not in ("--name", "--summary")]


def _settings(group: Any, prefix: str) -> list[Setting]:
    hints, helps = typing.get_type_hints(type(group)), field_docstrings(type(group))
    found = []
    for field in dataclasses.fields(group):
        value, option = getattr(group, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            found += _settings(value, f"{option}.")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            help_text = helps.get(field.name, "")
            found.append(Setting(option, type_words(hints[field.name]), plain, help_text))
    return found


def type_words(hint: Any) -> str:
    """A type as a person writes it: "int", "adam, sgd", "float or None", "int, any number"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join("None" if a is types.NoneType else type_words(a) for a in arguments)
    if origin is tuple:
        each = [type_words(a) for a in arguments if a is not Ellipsis]
        return f"{each[0]}, any number" if Ellipsis in arguments else " ".join(each)
    return getattr(hint, "__name__", str(hint))


def field_docstrings(group: type) -> dict[str, str]:
    """The string below each field of a dataclass, in a line; those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(group.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[field.target.id] = " ".join(str(below.value.value).split())
    return found
