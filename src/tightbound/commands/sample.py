"""`tightbound sample RUN`: draws from the model, and what it makes of held-out data."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tightbound.command_line.options import RunReference, TrustedRecipes, parse_joined, print_json
from tightbound.command_line.working import working
from tightbound.errors import UserError
from tightbound.families import FAMILIES
from tightbound.families.family import Family
from tightbound.report.terminal import tell
from tightbound.runs.compilation import use_compilation_cache
from tightbound.runs.opened import open_run, split_reference
from tightbound.values import require_meant


@dataclass(frozen=True)
class SampleOptions:
    """Draw from the model into the run's `samples/` folder."""

    run: RunReference
    """RUN or RUN@STEP; by default the newest checkpoint."""
    trust_recipe: TrustedRecipes = ()
    """A recipe file (or package) of your own that the run may execute: it is run unasked only where you
    have trained with it here, as it is."""
    json: bool = False
    """One JSON document on stdout."""

    def __post_init__(self):
        require_meant(self)


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0].startswith("-"):
        if not {"-h", "--help"} & set(arguments):
            raise UserError("A run comes first: tightbound sample RUN [options].")
        print(usage())
        return 0
    path, step = split_reference(arguments[0])
    trust = trusted_among(arguments)
    opened = open_run(path, trust_recipe=trust)
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
            tell(drawn.text)
        print(*drawn.files, sep="\n")
    return 0


def trusted_among(arguments: Sequence[str]) -> list[str]:
    """The files of `--trust-recipe`, which decide what other options there are."""
    found = []
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == "--trust-recipe":
            found += [value] if equals else arguments[place + 1 : place + 2]
    return found


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
    own = {*_options(family), "json", "help", "trust_recipe"}
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
