"""Files of one's own that make a corpus: one file, or a folder, divided into splits by name or not at all."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tightbound.data.catalogue import DataError
from tightbound.data.shuffled_splits import shuffled_splits

Row = TypeVar("Row")

_SPLIT_OF = {
    "train": "train", "training": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip


def own_rows(
    path: str | os.PathLike[str], endings: Sequence[str], read: Callable[[Path], Iterable[Row]]
) -> tuple[dict[str, list[Row]], str]:
    """The rows of train, valid and test, and a note on how they were divided.

    `path` is a file of any name, or a folder, of which every file with one of the `endings` is read (a
    `.gz` or `.xz` behind it may follow), those in folders inside it too. Where the names of all files or
    of their folders have the words train, valid (or dev, val, validation) and test, as in
    `en_ewt-ud-dev.conllu` and `valid/song.mid`, they are the splits. Where none has, all rows are
    shuffled into 80, 10 and 10 % (`shuffled_splits`). DataError where some have.
    """
    path = Path(path)
    files = [path] if not path.is_dir() else _files_in(path, endings)
    of_files = [_split_of(file.relative_to(path)) if path.is_dir() else None for file in files]
    if all(split is None for split in of_files):
        rows = shuffled_splits([[row] for file in files for row in read(file)], path)
        return rows, "Shuffled into 80 % training, 10 % validation, 10 % test."
    missing = {"train", "valid", "test"} - set(of_files)
    if None in of_files or missing:
        fault = (
            f"no file of the split {sorted(missing)[0]}"
            if missing
            else f"{files[of_files.index(None)].name} among them, whose name says no split"
        )
        raise DataError(
            f"{path} has files whose names say train, valid or test, but {fault}. Name every file, "
            "or its folder, by its split, or none at all: then all are shuffled."
        )
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for file, split in zip(files, of_files, strict=True):
        splits[str(split)].extend(read(file))
    for name, rows in splits.items():
        if not rows:
            raise DataError(f"The files of {path} have nothing for the split {name}. Give it some.")
    return splits, "Split by the names of the files."


def _files_in(folder: Path, endings: Sequence[str]) -> list[Path]:
    """In the order of their names, whatever the file system says."""
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and file.name.lower().removesuffix(".gz").removesuffix(".xz").endswith(tuple(endings))
    )
    if not found:
        raise DataError(
            f"{folder} has no file that ends in {' or '.join(endings)}, nor have folders in it. Give "
            "another folder, or one file."
        )
    return found


def _split_of(name: Path) -> str | None:
    """The split that a file's name or its folders' names say; the last word that says one."""
    words = re.split(r"[^a-z]+", str(name).lower())
    return next((_SPLIT_OF[word] for word in reversed(words) if word in _SPLIT_OF), None)
