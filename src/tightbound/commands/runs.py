"""`tightbound runs`: the runs on disk and the settings in which they differ."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from tightbound.command_line.options import parse, print_json, show
from tightbound.diagnose.finding import Verdict
from tightbound.diagnose.findings import FindingsDocument
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.families.settings import saved_settings
from tightbound.report.tables import Table, TableFormat, short_form
from tightbound.report.terminal import say
from tightbound.train.documents import RecipeDocument
from tightbound.train.folder import RunFolder
from tightbound.values import Name, require_meant

RECIPE = "recipe.json"


@dataclass(frozen=True)
class RunsOptions:
    """List the runs below a folder."""

    folder: Annotated[Name, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = "runs"
    """Where runs are looked for, at any depth."""
    format: TableFormat = "text"
    json: bool = False
    """One JSON document on stdout."""

    def __post_init__(self):
        require_meant(self)


def main(arguments: Sequence[str]) -> int:
    options = parse(RunsOptions, "runs", arguments)
    root = Path(options.folder)
    if not root.is_dir():
        raise UserError(
            f"There is no folder {root}. `tightbound train RECIPE` makes a run in runs/."
        )
    rows = []
    for folder in folders_below(root):
        try:
            rows.append(describe(folder))
        except UserError as error:
            say(f"Left out: {error}")
    if options.json:
        print_json({"runs": rows})
        return 0
    differing = differing_settings(rows)
    columns = ("run", "recipe", "seed", "step", "held-out bound [nats per sequence]", "faults")
    table = Table(
        f"Runs in {root}",
        (*columns, *differing, "note"),
        tuple(
            (
                row["run"],
                row["recipe"],
                str(row["seed"]),
                str(row["step"]),
                "" if row["bound"] is None else short_form(Estimate.from_json(row["bound"])),
                ", ".join(row["faults"]),
                *(str(row["settings"].get(name, "")) for name in differing),
                row["note"],
            )
            for row in rows
        ),
    )
    show(table, options.format)
    return 0


def folders_below(root: Path) -> list[RunFolder]:
    """The run folders at any depth, in the order of their paths; links are not followed."""

    def left_out(error: OSError) -> None:
        say(f"Left out: {error.filename} cannot be read ({error.strerror}).")

    found = [Path(place) for place, _, names in os.walk(root, onerror=left_out) if RECIPE in names]
    return [RunFolder(path) for path in sorted(found)]


def describe(folder: RunFolder) -> dict[str, Any]:
    """What one row of the list says of a run. UserError where it cannot be read."""
    folder.refuse_links()
    document = folder.read_json(RECIPE, RecipeDocument)
    newest, evaluated = folder.newest_record(), folder.newest_record(having="held_out")
    judged = folder.find_json("findings.json", FindingsDocument)
    findings = [] if judged is None else judged["findings"]
    return {
        "run": str(folder.path),
        "recipe": document["recipe"],
        "seed": document["seed"],
        "step": 0 if newest is None else newest["step"],
        "bound": None if evaluated is None else evaluated["held_out"]["bound"],
        "faults": [finding["code"] for finding in findings if finding["verdict"] is Verdict.FAULT],
        "settings": saved_settings(document),
        "note": document.get("note", ""),
        "started": document.get("started", ""),
    }


def differing_settings(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The settings that are not the same in all runs of one recipe."""
    by_recipe: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_recipe.setdefault(row["recipe"], []).append(row["settings"])
    return sorted(
        {
            name
            for settings in by_recipe.values()
            for name in {key for one in settings for key in one}
            if len({repr(one.get(name)) for one in settings}) > 1
        }
    )
