"""`tightbound runs`: the runs on disk and the settings in which they differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from tightbound.commands.options import parse, print_json, show
from tightbound.errors import UserError
from tightbound.estimators.estimate import Estimate
from tightbound.families.settings import flat_settings
from tightbound.report.tables import Table, TableFormat, short_form
from tightbound.train.folder import RunFolder


@dataclass(frozen=True)
class RunsOptions:
    """List the runs below a folder."""

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[FOLDER]")] = "runs"
    """Where runs are looked for, at any depth."""
    format: TableFormat = "text"
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(RunsOptions, "runs", arguments)
    root = Path(options.folder)
    if not root.is_dir():
        raise UserError(
            f"There is no folder {root}. `tightbound train RECIPE` makes a run in runs/."
        )
    rows = [describe(RunFolder(path.parent)) for path in sorted(root.rglob("recipe.json"))]
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


def describe(folder: RunFolder) -> dict[str, Any]:
    """What one row of the list says of a run."""
    document = folder.read_json("recipe.json")
    steps = folder.read_steps()
    bounds = [record["held_out"]["bound"] for record in steps if "held_out" in record]
    findings = []
    if (folder.path / "findings.json").exists():
        findings = folder.read_json("findings.json")["findings"]
    return {
        "run": str(folder.path),
        "recipe": document["recipe"],
        "seed": document["seed"],
        "step": steps[-1]["step"] if steps else 0,
        "bound": bounds[-1] if bounds else None,
        "faults": [finding["code"] for finding in findings if finding["verdict"] == "FAULT"],
        "settings": flat_settings(document["settings"]),
        "note": document["note"],
        "started": document["started"],
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
