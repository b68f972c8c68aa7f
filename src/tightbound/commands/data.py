"""`tightbound data list | fetch | verify`: where the data are, and whether they are whole."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated

import tyro

from tightbound.commands.options import parse, print_json, show
from tightbound.data import catalogue
from tightbound.report.tables import Table, TableFormat


@dataclass(frozen=True)
class List:
    """Every data set, its licence, and whether it is here."""

    format: TableFormat = "text"
    json: bool = False


@dataclass(frozen=True)
class Fetch:
    """Download a data set from its origin into the user's cache, checked."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    json: bool = False


@dataclass(frozen=True)
class Verify:
    """Compare the files of a data set with their checksums."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    json: bool = False


Action = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Fetch, tyro.conf.subcommand("fetch")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
)


def main(arguments: Sequence[str]) -> int:
    match parse(Action, "data", arguments):
        case List(format=table_format, json=as_json):
            return _list(table_format, as_json)
        case Fetch(name, json=as_json):
            return _statuses(f"Fetched {name}", catalogue.fetch(name), as_json)
        case Verify(name, json=as_json):
            return _statuses(f"Verified {name}", catalogue.verify(name), as_json)
    return 2


def _list(table_format: TableFormat, as_json: bool) -> int:
    rows = catalogue.list_data()
    names = tuple(field.name for field in fields(catalogue.DataRow))
    if as_json:
        print_json({"data": [{name: getattr(row, name) for name in names} for row in rows]})
        return 0
    cells = tuple(tuple(str(getattr(row, name)) for name in names) for row in rows)
    show(Table("Data sets", names, cells), table_format)
    return 0


def _statuses(title: str, statuses: Sequence[catalogue.FileStatus], as_json: bool) -> int:
    if as_json:
        print_json({"files": [asdict(status) for status in statuses]})
    else:
        names = tuple(field.name for field in fields(catalogue.FileStatus))
        cells = tuple(tuple(str(getattr(status, name)) for name in names) for status in statuses)
        show(Table(title, names, cells), "text")
    return 0 if all(status.status == "ok" for status in statuses) else 2
