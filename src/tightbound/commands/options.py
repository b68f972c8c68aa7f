"""What several commands share: parsing a recipe with its settings, opening a run, printing."""

import dataclasses
import difflib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from rich.console import Console

from tightbound.commands.usage_errors import parse_arguments
from tightbound.errors import UserError
from tightbound.families.lookup import Recipe, find_recipe
from tightbound.families.sources import of_arguments, settings_of_others, with_source
from tightbound.report.tables import Table, TableFormat, print_table, render

Options = TypeVar("Options")

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
    Both = dataclasses.make_dataclass(
        "Both",
        [
            (
                "recipe",
                Annotated[type(recipe), tyro.conf.arg(name="")],
                dataclasses.field(default=recipe),
            ),
            (
                "options",
                Annotated[options, tyro.conf.arg(name="")],
                dataclasses.field(default_factory=options),
            ),
        ],
    )
    Both.__doc__ = recipe.summary
    both: Any = parse_arguments(Both, f"tightbound {command} {name}", rest)
    return both.recipe, name, both.options


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """All settings as plain JSON, without the recipe's own name and summary."""
    document = dataclasses.asdict(recipe)  # pyright: ignore[reportArgumentType]
    return {key: value for key, value in document.items() if key not in ("name", "summary")}


def with_settings(recipe: Any, settings: Mapping[str, Any], where: str = "") -> Any:
    """The recipe with saved settings put back; a setting it does not know is an error. What an older
    version saved of sources that are not read is left out."""
    known = {field.name for field in dataclasses.fields(recipe)}
    changes = {}
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"The saved setting {where}{name} is unknown to this version's recipe.")
        current = getattr(recipe, name)
        if dataclasses.is_dataclass(current) and isinstance(value, Mapping):
            if "source" in value:
                recipe = with_source(recipe, name, value["source"])
                unread = settings_of_others(recipe, name)
                value = {key: entry for key, entry in value.items() if key not in unread}
            value = with_settings(getattr(recipe, name), value, f"{where}{name}.")
        elif isinstance(current, tuple):  # JSON has lists only
            value = tuple(value)
        changes[name] = value
    return dataclasses.replace(recipe, **changes)


def with_changes(recipe: Any, changes: Sequence[str]) -> Any:
    """The recipe with settings changed as `KEY=VALUE` says, dotted as in `flat_settings`; a value is
    JSON, or a word. UserError for a key it has not, or a value of another kind."""
    for change in changes:
        settings = settings_of(recipe)
        key, equals, text = change.partition("=")
        key = key.replace("-", "_")  # as on the command line of `train`
        if not equals or key not in flat_settings(settings):
            close = difflib.get_close_matches(key, flat_settings(settings), n=1)
            hint = f" Did you mean {close[0]}=...?" if close else ""
            raise UserError(f"{change!r} is no KEY=VALUE of a setting of this run.{hint}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        *path, last = key.split(".")
        inner = settings
        for name in path:
            inner = inner[name]
        if inner[last] is not None and not _same_kind(inner[last], value):
            raise UserError(
                f"The setting {key} was set to {value!r}, but it is {inner[last]!r} in this run: give "
                f"a value of the same kind."
            )
        inner[last] = value
        recipe = with_settings(recipe, settings)
    return recipe


def _same_kind(old: Any, new: Any) -> bool:
    """Whether a JSON value can stand where another did: a whole number for a real one, but not back."""
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    return isinstance(new, (int, float) if isinstance(old, float) else type(old))


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model.latent_size": 8, ...}`."""
    flat = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def print_json(document: Mapping[str, Any]) -> None:
    """The one JSON document of a command, on stdout, versioned."""
    print(json.dumps({"schema": 1, **document}, indent=1))


def say(text: str = "") -> None:
    """A line for a person, on stderr: stdout belongs to the result."""
    print(text, file=sys.stderr, flush=True)


def use_compilation_cache() -> None:
    """Keep compiled programs per user, unless the environment already says where."""
    import jax
    import platformdirs

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(platformdirs.user_cache_dir("tightbound")) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def show(table: Table, table_format: TableFormat) -> None:
    """A table on stdout: with rules and colour on a terminal, else as text in the format asked for."""
    if table_format == "text":
        print_table(table, Console())
    else:
        print(render(table, table_format), end="")
