"""What several commands share: parsing a recipe with its settings, opening a run, printing."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from rich.console import Console

from tightbound.commands.usage_errors import parse_arguments
from tightbound.errors import UserError
from tightbound.families.lookup import Recipe, find_recipe
from tightbound.families.sources import of_arguments
from tightbound.report.tables import Table, TableFormat, print_table, render

Options = TypeVar("Options")
Others = TypeVar("Others")

# A run, named on the command line; with @STEP where a checkpoint may be chosen.
RunFolderName = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
RunReference = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN[@STEP]")]


def parse(options: Any, command: str, arguments: Sequence[str]) -> Any:
    """Options of a command, from a dataclass or a union of them; UserError where they are wrong."""
    return parse_arguments(options, f"tightbound {command}", arguments)


def parse_with_recipe(
    options: type[Options], command: str, arguments: Sequence[str]
) -> tuple[Recipe, str, Options]:
    """`RECIPE [settings and options]`: the recipe with its settings changed, its name, the options.

    Every setting of the recipe is an option: `--model.latent-size 16`. Which settings its data have
    depends on `--data.source`.
    """
    if not arguments or arguments[0].startswith("-"):
        if not {"-h", "--help"} & set(arguments):
            raise UserError(
                f"A recipe comes first: tightbound {command} RECIPE [options]. "
                "`tightbound recipes` lists them."
            )
        print(f"usage: tightbound {command} RECIPE [options]   (RECIPE --help adds its settings)\n")
        parse(options, f"{command} RECIPE", ["--help"])
    name, *rest = arguments
    recipe = of_arguments(find_recipe(name), rest)
    recipe, chosen = _joined(
        (Annotated[type(recipe), tyro.conf.arg(name="")], recipe),
        (Annotated[options, tyro.conf.arg(name="")], options()),
        prog=f"tightbound {command} {name}",
        arguments=rest,
        doc=recipe.summary,
    )
    return recipe, name, chosen


def parse_joined(
    options: type[Options],
    others: type[Others],
    command: str,
    arguments: Sequence[str],
    *,
    doc: str,
) -> tuple[Options, Others]:
    """Two sets of options as one: a command's own, and those of what it was given."""
    return _joined(
        (Annotated[options, tyro.conf.arg(name="")], dataclasses.MISSING),
        (Annotated[others, tyro.conf.arg(name="")], others()),
        prog=f"tightbound {command}",
        arguments=arguments,
        doc=doc,
    )


def _joined(
    first: tuple[Any, Any],
    second: tuple[Any, Any],
    *,
    prog: str,
    arguments: Sequence[str],
    doc: str,
) -> tuple[Any, Any]:
    """Both dataclasses from one command line; each is an annotated type and its default."""

    def of(name: str, part: tuple[Any, Any]) -> tuple[Any, ...]:
        kind, default = part
        if default is dataclasses.MISSING:
            return name, kind
        return name, kind, dataclasses.field(default_factory=lambda: default)

    Both = dataclasses.make_dataclass("Both", [of("first", first), of("second", second)])
    Both.__doc__ = doc
    both: Any = parse_arguments(Both, prog, arguments)
    return both.first, both.second


def print_json(document: Mapping[str, Any]) -> None:
    """The one JSON document of a command, on stdout, versioned."""
    print(json.dumps({"schema": 1, **document}, indent=1))


def show(table: Table, table_format: TableFormat) -> None:
    """A table on stdout: with rules and colour on a terminal, else as text in the format asked for."""
    if table_format == "text":
        print_table(table, Console())
    else:
        print(render(table, table_format), end="")
