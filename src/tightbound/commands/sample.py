"""`tightbound sample RUN`: draws from the model, and what it makes of held-out data."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tightbound.commands.options import RunReference, parse_joined, print_json
from tightbound.commands.working import working
from tightbound.errors import UserError
from tightbound.families import FAMILIES
from tightbound.families.family import Family
from tightbound.runs.compilation import use_compilation_cache
from tightbound.runs.opened import open_run, split_reference


@dataclass(frozen=True)
class SampleOptions:
    """Draw from the model into the run's `samples/` folder."""

    run: RunReference
    """RUN or RUN@STEP; by default the newest checkpoint."""
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        if not {"-h", "--help"} & set(arguments):
            raise UserError("A run comes first: tightbound sample RUN [options].")
        print(usage())
        return 0
    path, step = split_reference(arguments[0])
    opened = open_run(path)
    family = opened.family
    if family is None or family.samples is None:
        opened.samples()  # says so
        return 2
    refuse_options_of_others(arguments, family, path)
    kind = family.load("samples")
    options, samples = parse_joined(SampleOptions, kind, "sample", arguments, doc=kind.__doc__)
    use_compilation_cache()
    with working("sample: reading the run"):
        drawn = opened.samples(samples, step)
    if options.json:
        print_json({"files": [str(file) for file in drawn.files], **drawn.document})
    else:
        if drawn.text:
            print(drawn.text)
        print(*drawn.files, sep="\n")
    return 0


def usage() -> str:
    """Which options there are, by what a run is on."""
    lines = [
        "usage: tightbound sample RUN[@STEP] [options]   (RUN --help explains its options)",
        "",
    ]
    for family in FAMILIES:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in _options(family))
        lines.append(f"runs on {family.rows}: {names}")
    return "\n".join([*lines, "all: --json"])


def refuse_options_of_others(arguments: Sequence[str], family: Family, run: str) -> None:
    """UserError for an option that runs of another family have."""
    own = {*_options(family), "json", "help"}
    for argument in arguments:
        name = argument.split("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")
        if not argument.startswith("--") or name in own:
            continue
        others = [other.rows for other in FAMILIES if name in _options(other)]
        if others:
            raise UserError(
                f"--{name.replace('_', '-')} is for runs on {' or '.join(others)}, and {run} is one on "
                f"{family.rows}. Leave it out."
            )


def _options(family: Family) -> list[str]:
    """The names of a family's own options."""
    kind: Any = None
    with suppress(ImportError):  # of an extra that is not installed: its runs cannot be drawn here
        kind = family.load("samples")
    return [] if kind is None else [field.name for field in dataclasses.fields(kind)]
