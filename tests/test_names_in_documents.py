"""What pages, scripts, benchmarks and examples name is there: commands, recipes, settings, faults, modules."""

import ast
import dataclasses
import importlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import tightbound
from tightbound.cli import COMMANDS
from tightbound.drill.drill import all_faults
from tightbound.families import FAMILIES
from tightbound.families.lookup import RECIPES
from tightbound.families.sources import classes_of

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src").rglob("pages/*.md")),
]
PROGRAMS = [
    path
    for folder in ("scripts", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
]
PACKAGE = ROOT / "src" / "tightbound"
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
COMMAND_LINE = re.compile(r"^\s*(?:\$ )?(?:[A-Z_]+=\S+ )*tightbound +(\S.*)")


def code_of(page: str) -> tuple[list[str], list[str]]:
    """The lines of code that are no Python, continued lines joined, and the blocks of Python."""
    python = [text for _, language, text in FENCED.findall(page) if language == "python"]
    shell = [text for _, language, text in FENCED.findall(page) if language != "python"]
    prose = FENCED.sub("", page)
    indented = re.findall(r"^    \S.*$", prose, flags=re.M)
    inline = [re.sub(r"\s*\n\s*", " ", code) for code in re.findall(r"`([^`]+)`", prose)]
    return [
        line.partition(" #")[0]
        for text in [*shell, *indented, *inline]
        for line in text.replace("\\\n", " ").splitlines()
        if "bin/pip " not in line
    ], python


def unknown_names(page: str) -> list[str]:
    """What the code of a page names and is not there."""
    shell, python = code_of(page)
    found = []
    for line in shell:
        command = COMMAND_LINE.match(line)
        if command is not None:
            found += unknown_in_command(command[1].split())
        found += [
            f"--{name}"
            for name in re.findall(r"(?<!\S)--([a-z][\w.-]*)", line)
            if not is_option(name)
        ]
        found += [name for name in re.findall(r"\btb(?:\.\w+)+", line) if not is_public(name)]
    for text in python:
        found += unknown_imports(text)
        found += [name for name in re.findall(r"\btb(?:\.\w+)+", text) if not is_public(name)]
    return found


def unknown_in_command(words: list[str]) -> list[str]:
    """The command, its recipe, and the family or the faults that its options name."""
    command, *rest = words
    found = [] if command in COMMANDS or not command.isalpha() else [f"tightbound {command}"]
    if command in ("train", "check", "sweep") and rest and re.fullmatch(r"[a-z]+/[\w-]+", rest[0]):
        found += [] if rest[0] in RECIPES else [rest[0]]
    for option, value in pairwise(rest):
        wrong = (option == "--family" and ":" not in value and value not in families()) or (
            option in ("--plant", "--kinds") and value.islower() and value not in faults()
        )
        found += [f"{option} {value}"] * wrong
    return found


@cache
def families() -> set[str]:
    return {"all", *(family.name for family in FAMILIES)}


@cache
def faults() -> set[str]:
    return set(all_faults([family.name for family in FAMILIES]))


@cache
def settings() -> set[str]:
    """Every setting of every recipe, of all that a union may be: "data.max_length"."""
    return {name for recipe in RECIPES.values() for name in names_of(recipe)}


def names_of(record: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from names_of(value, f"{prefix}{field.name}.")
            for other in () if prefix else classes_of(record, field.name):
                yield from (f"{field.name}.{part.name}" for part in dataclasses.fields(other))
        else:
            yield prefix + field.name


@cache
def sources() -> str:
    files = [*PACKAGE.rglob("*.py"), ROOT / "examples" / "own_family" / "samples.py"]
    return "\n".join(path.read_text() for path in files)


def is_option(name: str) -> bool:
    """A setting of a recipe, or a field of some command's options; `--no-x` switches x off."""
    plain = name.replace("-", "_")
    names = {plain, re.sub(r"(^|\.)no_", r"\1", plain)}
    if "." in name:
        return bool(names & settings())
    fields = "|".join(map(re.escape, names))
    return re.search(rf"^    (?:{fields}): ", sources(), flags=re.M) is not None or name == "help"


def is_public(name: str) -> bool:
    """`tb.train.fit`, as far as its parts are modules."""
    value: Any = tightbound
    for part in name.split(".")[1:]:
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
        if not hasattr(value, "__path__") and not hasattr(value, "__file__"):
            return True
    return True


def unknown_imports(program: str) -> list[str]:
    """What a program imports from the package, wherever the import stands, and is not there."""
    wanted = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tightbound"
        for alias in node.names
    ]
    return [f"{module}.{name}" for module, name in wanted if not is_there(str(module), name)]


def is_there(module: str, name: str) -> bool:
    try:
        if hasattr(importlib.import_module(module), name):
            return True
        return importlib.util.find_spec(f"{module}.{name}") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_in_code_is_there(path):
    assert unknown_names(path.read_text()) == []


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_program_imports_from_the_package_is_there(path):
    """Imports inside functions too, which a slow script would otherwise meet after an hour."""
    assert unknown_imports(path.read_text()) == []


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("`tightbound drll`", ["tightbound drll"]),
        ("```\n$ tightbound train vea/digits  # a comment\n```", ["vea/digits"]),
        ("    tightbound drill --family vrnn", ["--family vrnn"]),
        ("`tightbound train vae/digits\n--plant kl_flipped`", ["--plant kl_flipped"]),
        ("```\ntightbound train vae/digits \\\n  --model.width 3\n```", ["--model.width"]),
        ("`--model.latent-size 3` and `--modle 3`", ["--modle"]),
        ("`--data.no-held-out-letters`, `--no-doctor`, `--data.leave-out a,b`", []),
        ("`tb.filter`", ["tb.filter"]),
        (
            "```python\nfrom tightbound.recipes import vae\ntb.nothing\n```",
            ["tightbound.recipes.vae", "tb.nothing"],
        ),
        ("`tb.why(a).modules`, `tb.stein.svgd`, `tightbound doctor RUN`", []),
    ],
)
def test_a_planted_name_that_is_gone_is_found(page, found):
    assert unknown_names(page) == found
