"""CATH: protein domains as strings of residues, S35 of release 4.1 (Sillitoe et al. 2015)."""

import os

from tightbound.data.catalogue import DataError, find_one
from tightbound.data.formats.fasta import FastaRecord, read_fasta
from tightbound.data.shuffled_splits import shuffled_splits


def load_cath(
    path: str | os.PathLike[str] | None = None, *, max_rows: int | None = None
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """The residues of whole domains for train (80 %), valid (10 %) and test (10 %), and notes.

    Nobody publishes a split. The entries of the Protein Data Bank are shuffled, in an order that
    never changes, and all domains of one entry go to one split: they come from one structure, and
    are often alike.

    Without `path` the published file is used; `path` is FASTA with CATH's headers
    (`cath|RELEASE|DOMAIN/RANGES`), such as another release. `max_rows` reads the first domains only.
    """
    file = find_one("cath-s35", path)
    records, repairs = read_fasta(file, max_rows=max_rows)
    by_entry: dict[str, list[str]] = {}
    for record in records:
        by_entry.setdefault(_entry(record, file), []).append(record.residues)
    rows = shuffled_splits(list(by_entry.values()), file)
    note = (
        f"{len(records):,} domains of {len(by_entry):,} structures, whole structures shuffled into "
        f"80 % training, 10 % validation and 10 % test; {repairs}."
    )
    return rows, (note,)


def read_domains(
    path: str | os.PathLike[str] | None = None, *, max_rows: int | None = None
) -> list[str]:
    """The residues of all domains, in the order of the file."""
    records, _ = read_fasta(find_one("cath-s35", path), max_rows=max_rows)
    return [record.residues for record in records]


def _entry(record: FastaRecord, file: str | os.PathLike[str]) -> str:
    """The four signs of the structure that a domain was cut from: `16pk` of `cath|4_1_0|16pkA01/5-192`."""
    parts = record.header.split("|")
    if len(parts) != 3 or parts[0] != "cath" or len(parts[2]) < 4:
        raise DataError(
            f"Line {record.line} of {file} is the header `>{record.header[:60]}`, but CATH's are "
            "`>cath|RELEASE|DOMAIN/RANGES`. Read other FASTA as a file of your own."
        )
    return parts[2][:4]
