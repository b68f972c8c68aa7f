"""Which data sets there are, where their files are looked for, and whether they are the published ones.

A data root holds one folder per data set. Files are looked for below `$TIGHTBOUND_DATA`, then below
the user's cache; only `fetch` ever opens a connection. Checksums are of the *content* (what
compression holds), because two gzip programs give different bytes for the same data.
"""

import difflib
import gzip
import hashlib
import http.client
import importlib.util
import io
import lzma
import os
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tightbound.data.published import CATALOGUE, DataFile, DataSet
from tightbound.errors import UserError

_CHUNK = 1 << 20
_LARGEST_DOWNLOAD = 1 << 30  # bytes; no origin here comes near it, an endless answer would
_TIMEOUT = 60  # seconds without a byte
Status = Literal["ok", "missing", "other", "damaged"]


class DataError(UserError):
    """Data that is missing, damaged or not in the format; the message says what to do."""


@dataclass(frozen=True)
class FileStatus:
    """What `verify` found: the file that was meant, its state, and the detail as half a sentence.

    "other" is a whole file with another content than the published one; "damaged" cannot be unpacked.
    """

    file: str
    status: Status
    detail: str


@dataclass(frozen=True)
class DataRow:
    """One line of `tightbound data list`."""

    name: str
    title: str
    licence: str
    origin: str
    found: bool  # every file is somewhere (`verify` says whether it is also right)
    where: str


def data_set(name: str) -> DataSet:
    """The entry of this name; an unknown one raises `DataError` with the nearest names."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    near = difflib.get_close_matches(name, CATALOGUE, n=1)
    meant = f"Did you mean `{near[0]}`? " if near else ""
    raise DataError(
        f"There is no data set `{name}`. {meant}The catalogue has {', '.join(sorted(CATALOGUE))}."
    )


def cache_root() -> Path:
    """Where `fetch` writes: `$TIGHTBOUND_CACHE`, or the platform's folder for a user's caches."""
    if chosen := os.environ.get("TIGHTBOUND_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs  # an extra; a base installation that sets TIGHTBOUND_CACHE does without

    return Path(platformdirs.user_cache_dir("tightbound"))


def data_roots() -> tuple[Path, ...]:
    """The folders that are searched, first match wins."""
    chosen = os.environ.get("TIGHTBOUND_DATA")
    return ((Path(chosen).expanduser(),) if chosen else ()) + (cache_root(),)


def find(name: str, path: str | os.PathLike[str] | None = None) -> tuple[Path, ...]:
    """The files of a data set, in the catalogue's order.

    Without `path`: below the data roots, and their content must have the published checksum.
    With `path`, a folder of the user's own files under the same names (a `.gz` or `.xz` may be unpacked):
    no checksum, since they are not the published ones; the reader checks the format.
    """
    entry = data_set(name)
    if path is not None:
        return tuple(_own(file, Path(path)) for file in entry.files)
    return tuple(_published(entry, file) for file in entry.files)


def find_one(name: str, path: str | os.PathLike[str] | None = None) -> Path:
    """The only file of a data set, as `find` finds it; `path` may also be that file itself."""
    if path is not None and Path(path).is_file():
        return Path(path)
    (file,) = find(name, path)
    return file


def is_published(name: str, path: str | os.PathLike[str]) -> bool:
    """Whether a file holds, byte for byte, the content of a published file of this data set."""
    return any(_fault(file, Path(path)) is None for file in data_set(name).files)


def verify(name: str) -> list[FileStatus]:
    """Compare every file of a data set with its published checksum. Nothing is raised or changed."""
    return [_status(file) for file in data_set(name).files]


def fetch(name: str) -> list[FileStatus]:
    """Download what is missing or damaged in the user's cache, and say what each file is now.

    A file arrives under a temporary name, is verified, then renamed: an interrupted download
    leaves nothing that could be mistaken for data. A whole file with another content, and whatever
    `$TIGHTBOUND_DATA` holds, is never touched: the caller is told to move it away, because it would
    be used in the place of the published one.
    """
    entry = data_set(name)
    for file in entry.files:
        where = _locate(file)
        fault = None if where is None else _fault(file, where)
        if where is not None and fault is not None:
            in_cache = where.is_relative_to(cache_root())
            if not (in_cache and fault.status == "damaged"):
                raise _not_published(entry, where, fault)
        if where is None or fault is not None:
            _download(entry, file, cache_root() / file.path)
    return verify(name)


def list_data() -> list[DataRow]:
    """Every entry with where it was found; fast, so nothing is read (`verify` does that)."""
    return [_row(entry) for entry in CATALOGUE.values()]


def pack_rows(text: Iterable[bytes], source: str) -> list[bytes]:
    """Lines of 0 and 1 separated by spaces -> eight pixels a byte, the first in the highest bit.

    The inverse of `numpy.unpackbits` along each row. Every line must be as long as the first, and
    that a multiple of eight: padding could not be told from pixels.
    """
    rows: list[bytes] = []
    for number, line in enumerate(text, start=1):
        bits = line.translate(None, b" \t\r\n")
        width, odd = divmod(len(bits), 8)
        if width == 0 or odd or bits.translate(None, b"01") or (rows and width != len(rows[0])):
            raise DataError(
                f"Line {number} of {source} is not a row of 0 and 1, as long as the first and a "
                "multiple of 8. Is this the .amat file of a binarised set?"
            )
        rows.append(int(bits, 2).to_bytes(width, "big"))
    if not rows:
        raise DataError(f"{source} is empty. Is this the .amat file of a binarised set?")
    return rows


def _own(file: DataFile, folder: Path) -> Path:
    if not folder.exists():
        raise DataError(
            f"There is no {folder}. Give a path that holds {file.name}, or leave the path out to "
            "use the published files."
        )
    names = (file.name, file.name.removesuffix(".gz").removesuffix(".xz"))
    for candidate in (folder / name for name in names):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{folder} has no {file.name}. Files of your own need the names of the published ones; "
        "a .gz or .xz may also be unpacked."
    )


def _published(entry: DataSet, file: DataFile) -> Path:
    where = _locate(file)
    if where is None:
        looked = " or ".join(str((root / file.path).parent) for root in data_roots())
        get = (
            f"Run `tightbound data fetch {entry.name}`"
            if file.urls
            else f"Make it from its origin ({entry.origin})"
        )
        raise DataError(
            f"{entry.name} needs {file.name}, and there is none in {looked}. "
            f"{get}, or set TIGHTBOUND_DATA to a folder that holds {file.path}."
        )
    fault = _fault(file, where)
    if fault is not None:
        raise _not_published(entry, where, fault)
    return where


def _not_published(entry: DataSet, where: Path, fault: "_Fault") -> DataError:
    """The sentence for a file that lies where a published one was expected."""
    name = where.name
    get = (
        f"run `tightbound data fetch {entry.name}`"
        if entry.files[0].urls
        else f"make it from its origin ({entry.origin})"
    )
    if fault.status == "damaged":
        return DataError(
            f"{where} is damaged: {fault.detail}. Move it away and {get} to have the published "
            f"{name} again."
        )
    own = where if len(entry.files) == 1 else where.parent
    return DataError(
        f"{where} is another file than the published {name} of {entry.name}: {fault.detail}. To "
        f"train on a file of your own, give its path: `--data.path {own}`. To have the published "
        f"one, move this one elsewhere and {get}."
    )


def _locate(file: DataFile) -> Path | None:
    candidates = (root / file.path for root in data_roots())
    return next((path for path in candidates if path.is_file()), None)


def _status(file: DataFile) -> FileStatus:
    where = _locate(file)
    if where is None:
        return FileStatus(file.path, "missing", "not in any data folder")
    fault = _fault(file, where)
    if fault is not None:
        return FileStatus(file.path, fault.status, f"{where}: {fault.detail}")
    return FileStatus(file.path, "ok", str(where))


def _row(entry: DataSet) -> DataRow:
    if entry.ships_with is not None:
        found = importlib.util.find_spec(entry.ships_with) is not None
        where = f"in the package {entry.ships_with}"
    else:
        places = [_locate(file) for file in entry.files]
        found = None not in places
        where = ", ".join(sorted({str(place.parent) for place in places if place is not None}))
    return DataRow(entry.name, entry.title, entry.licence, entry.origin, found, where)


@dataclass(frozen=True)
class _Fault:
    """Why a file is not the published one, and the detail as half a sentence."""

    status: Literal["other", "damaged"]
    detail: str


def _fault(file: DataFile, path: Path) -> _Fault | None:
    """What tells the content from the published one; None where it is the same."""
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in _content(path):
            digest.update(chunk)
            size += len(chunk)
            if size > file.size:  # do not unpack a bomb to the end
                return _Fault("other", f"it holds more than the expected {file.size:,} bytes")
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        return _Fault("damaged", f"it cannot be unpacked ({error})")
    if size == 0:
        return _Fault("damaged", "it cannot be unpacked (it is empty)")
    if digest.hexdigest() != file.sha256:
        found = f"found {digest.hexdigest()} in {size:,} bytes"
        return _Fault("other", f"expected sha256 {file.sha256}, {found}")
    return None


def _content(path: Path) -> Iterator[bytes]:
    """What compression holds, a piece at a time."""
    if path.suffix == ".npz":
        yield from _array_bytes(path)
        return
    with _opened(path, path.suffix, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _opened(path: Path, suffix: str, mode: Literal["rb", "wb"]) -> io.BufferedIOBase:
    """The file, unpacked or packed on the way as this suffix says."""
    if suffix == ".gz":
        return gzip.GzipFile(path, mode)
    if suffix == ".xz":
        return lzma.LZMAFile(path, mode)
    return open(path, "rb") if mode == "rb" else open(path, "wb")


def _array_bytes(path: Path) -> Iterator[bytes]:
    """The values of the arrays of a `.npz`, row by row whatever their order in memory."""
    from tightbound.files.arrays import read_arrays  # NumPy, so only where a file needs it

    for array in read_arrays(path, limit=_LARGEST_DOWNLOAD).values():
        yield array.tobytes()


def _download(entry: DataSet, file: DataFile, target: Path) -> None:
    if not file.urls:
        raise DataError(
            f"{file.name} of {entry.name} cannot be fetched: it comes from {entry.origin}. "
            f"Put it at {target}."
        )
    partial = target.with_name(f".{os.getpid()}.partial-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _receive(file, partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:  # URLError, a full disk are OSErrors
        raise DataError(
            f"{file.name} could not be fetched from {' and '.join(file.urls)} to {target}: "
            f"{error}. Nothing was kept; try again, or put the file there yourself."
        ) from error


def _receive(file: DataFile, partial: Path) -> None:
    """Bring one file to `partial` and make sure that it is the published one."""
    if len(file.urls) == 1:
        _save(file.urls[0], partial)
    else:
        _save_packed(file.urls, partial)
    fault = _fault(file, partial)
    if fault is not None:
        raise DataError(
            f"What {' and '.join(file.urls)} sent is not {file.name}: {fault.detail}. Nothing was kept. "
            "Try again later, or get the file from elsewhere."
        )


def _save(url: str, path: Path) -> None:
    size = 0
    # what the origin packs is kept as it packs it
    suffix = "" if url.endswith(path.suffix) else path.suffix
    with (
        urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
        _opened(path, suffix, "wb") as file,
    ):
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > _LARGEST_DOWNLOAD:
                raise DataError(f"{url} sent more than {_LARGEST_DOWNLOAD:,} bytes; stopped.")
            file.write(chunk)


def _save_packed(urls: tuple[str, ...], path: Path) -> None:
    """Text files of the splits -> one `.npz` with the bits of `train`, `valid` and `test`."""
    import numpy as np  # only here: looking for files must not cost the import

    arrays = {}
    text = path.with_name(f"{path.name}.amat")
    for name, url in zip(("train", "valid", "test"), urls, strict=True):
        try:
            _save(url, text)
            with open(text, "rb") as lines:
                rows = pack_rows(lines, url)
        finally:
            text.unlink(missing_ok=True)
        arrays[name] = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
