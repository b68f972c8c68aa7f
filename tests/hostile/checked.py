"""What every hostile case is held to: it ends soon, in one sentence or a right answer; nothing is obeyed,
executed, or written elsewhere."""

import re
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fixtures.command_line import Result, call

SECONDS = 10
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def checked(*arguments: Any) -> Result:
    """Run a command in this process. An exception that it lets through is the test's."""
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of numbers that are not finite
        result = call([str(argument) for argument in arguments])
    assert time.process_time() - begun < SECONDS
    assert result.code in (0, 1, 2), result.err
    assert "Traceback" not in result.err
    assert not OBEYED.search(result.out + result.err), result.out + result.err
    return result


def assert_refused(result: Result, command: str, *words: str) -> None:
    """Exit 2 and one sentence, which stands in one line, with these words."""
    assert result.code == 2, result.out + result.err
    last = result.err.strip().splitlines()[-1]
    assert last.startswith(f"tightbound {command}: "), result.err
    assert len(last) < 1000, last
    for word in words:
        assert word in last, last


def everything_in(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their content; links by where they point."""
    return {
        str(path.relative_to(folder)): b"link" if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def replaced_at(document: Any, path: Sequence[Any], value: Any) -> Any:
    """A copy with the entry at `path` replaced."""
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = replaced_at(document[path[0]], path[1:], value)
    return copy


def entries(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every entry, those within entries too; of a list, to its first."""
    found = [path] if path else []
    if isinstance(document, dict):
        for key, value in document.items():
            found += entries(value, (*path, key))
    elif isinstance(document, list) and document:
        found += entries(document[0], (*path, 0))
    return found
