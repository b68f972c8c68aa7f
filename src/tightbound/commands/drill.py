"""`tightbound drill`: plant every fault, count what is found and what is falsely alarmed."""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbound.commands.options import parse, print_json, show
from tightbound.errors import UserError
from tightbound.families import FAMILIES
from tightbound.report.tables import Table, TableFormat
from tightbound.report.terminal import say
from tightbound.runs.compilation import use_compilation_cache

if TYPE_CHECKING:
    from tightbound.drill.drill import Row


@dataclass(frozen=True)
class DrillOptions:
    """Plant faults and count. Rows already in `out` are not run again."""

    family: str = "all"
    """Whose runs: images, edits, sequences, language, stein, or one of your own as path/to/package:FAMILY."""
    kinds: tuple[str, ...] = ()
    """Only these faults, and the healthy runs; by default all."""
    seeds: tuple[int, ...] = (0,)
    """Every case is run with each."""
    jobs: int = max(1, (os.cpu_count() or 2))
    """Processes at once."""
    steps: int = 300
    out: str = "runs/drill.jsonl"
    """Where rows are kept; a drill that was stopped goes on from them."""
    format: TableFormat = "text"
    json: bool = False
    """One JSON document on stdout."""


def main(arguments: Sequence[str]) -> int:
    options = parse(DrillOptions, "drill", arguments)
    use_compilation_cache()
    from tightbound.drill.drill import all_faults, cases, run_cases, summary

    families = [f.name for f in FAMILIES] if options.family == "all" else [options.family]
    known = all_faults(families)
    unknown = [kind for kind in options.kinds if kind not in known]
    if unknown:
        raise UserError(f"There is no fault {unknown[0]!r}. There are: {', '.join(known)}.")
    if min(options.jobs, options.steps, *options.seeds) < 0 or min(options.jobs, options.steps) < 1:
        raise UserError("`jobs` and `steps` must be at least 1, and seeds not negative.")
    todo = cases(families, options.seeds, options.kinds or None)
    out = Path(options.out)
    rows = [row for row in saved_rows(out, options.steps) if row.case in todo]
    left = [case for case in todo if case not in {row.case for row in rows}]
    say(f"{len(todo)} cases, {len(rows)} of them in {out} already.")
    out.parent.mkdir(parents=True, exist_ok=True)
    finish_last_line(out)
    with open(out, "a") as file:
        for row in run_cases(left, jobs=options.jobs, steps=options.steps):
            rows.append(row)
            file.write(json.dumps(dataclasses.asdict(row) | {"steps": options.steps}) + "\n")
            file.flush()
            say(f"{len(rows)}/{len(todo)}  {describe(row)}")
    document = summary(rows)
    if options.json:
        print_json(document)
    else:
        print_summary(document, options.format)
    return 0


def finish_last_line(path: Path) -> None:
    """A kill may have left half a line: end it, so that the next row has one of its own."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with open(path, "a") as file:
            file.write("\n")


def saved_rows(path: Path, steps: int) -> "list[Row]":
    """Rows of an earlier drill of as many steps; a line cut off by a kill is left out."""
    from tightbound.drill.drill import Case, Row

    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            document = json.loads(line)
        except json.JSONDecodeError:
            continue
        if document.pop("steps") == steps:
            document["case"] = Case(**document["case"])
            document |= {name: tuple(document[name]) for name in ("alarms", "said")}
            rows.append(Row(**document))
    return rows


def describe(row: "Row") -> str:
    """One line of what the doctor said."""
    where = f"{row.case.kind} on {row.case.recipe}, seed {row.case.seed}"
    if row.case.healthy:
        return f"{where}: {'ALARM ' + ', '.join(row.alarms) if row.alarms else 'quiet'}"
    found = f"found at step {row.found_at}" if row.found else "MISSED"
    return f"{where}: {found}, first cause {row.said[0] if row.said else 'none'}"


def print_summary(document: dict[str, Any], table_format: TableFormat) -> None:
    """The fault-by-finding table, the counts with their intervals, and the alarms."""
    table = Table(
        "Planted faults",
        ("kind", "planted", "found", "before training", "first cause", "top three", "other faults"),
        tuple(
            (
                kind,
                str(counts["planted"]),
                str(counts["found"]),
                str(counts["found_before_training"]),
                str(counts["first_cause"]),
                str(counts["top3_cause"]),
                " ".join(counts["other_faults"]),
            )
            for kind, counts in document["kinds"].items()
        ),
    )
    show(table, table_format)
    planted = document["planted"]
    for name, says in (
        ("found", "found"),
        ("found_before_training", "found before training"),
        ("first_cause", "right cause first"),
        ("top3_cause", "right cause among the first three"),
    ):
        if planted:
            low, high = document["intervals"][name]
            share = document[name] / planted
            print(
                f"{says}: {document[name]} of {planted} ({share:.1%}, 95 % {low:.1%} to {high:.1%})"
            )
    print(
        f"alarms: {document['alarms']} in {document['healthy']} healthy runs, "
        f"{document['traps']} of them traps"
    )
