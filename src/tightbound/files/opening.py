"""Files that nobody vouches for: regular ones alone are opened, and none that is mostly a hole."""

import os
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path

from tightbound.errors import UserError

# What is small on the disk may not be large in memory: beyond `FREE_BYTES`, a file or an array may be at
# most `MOST_TIMES` as large as what stores it. Numbers of real runs are packed to a fifth at best.
FREE_BYTES = 64 << 20
MOST_TIMES = 20

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}


def open_regular(path: str | os.PathLike[str], *, follow_links: bool = True) -> BufferedReader:
    """The file, open for reading. OSError, with half a sentence, for a pipe, a device or a socket, which
    may never end, for a file with far fewer bytes on the disk than it says it has, and, unless links are
    followed, for a link. Opening never waits."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    if not follow_links and os.path.islink(path):
        raise OSError("it is a link, and a file of its own was meant")
    descriptor = os.open(path, flags if follow_links else flags | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError("it is a folder, and a file was meant")
        if kind != stat.S_IFREG:
            raise OSError(f"it is {_KINDS.get(kind, 'no file')}, and a regular file was meant")
        if is_blown_up(status.st_size, 512 * status.st_blocks):
            raise OSError(
                f"it says that it has {status.st_size:,} bytes and stores {512 * status.st_blocks:,}"
            )
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def is_blown_up(size: int, stored: int) -> bool:
    """Whether `size` bytes are more than `stored` ones can be meant to unpack to."""
    return size > FREE_BYTES and size > MOST_TIMES * stored


def most_unpacked(file: BufferedReader) -> int:
    """How many bytes an open file that is packed may be meant to unpack to."""
    return max(FREE_BYTES, MOST_TIMES * os.fstat(file.fileno()).st_size)


def refuse_links(folder: Path, inside: Iterable[str] = ()) -> None:
    """UserError for the first entry of the folder, or of the folders `inside` it, that is neither a file
    nor a folder: what is written there would go somewhere else, and what is read come from there."""
    for place in (folder, *(folder / name for name in inside)):
        try:
            with os.scandir(place) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UserError(f"{place} cannot be read ({error.strerror}).") from error
        for entry in found:
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
                raise UserError(
                    f"{entry.path} is {_KINDS.get(kind, 'no file')}, and a run folder holds files and "
                    "folders of its own alone: nothing is read or written through it. Delete it, or put "
                    "what it stands for in its place."
                )
