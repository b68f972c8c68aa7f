"""Output that may lose its reader (`| head`, a terminal that is closed) while the work behind it goes on."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class LastingStream:
    """A stream whose writes are dropped from the first that fails on."""

    def __init__(self, stream: Any, name: str):
        self._stream, self._name, self._lost = stream, name, False

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, write: Callable[[], Any]) -> None:
        if self._lost:
            return
        try:
            write()
        except OSError as error:  # EPIPE of a pipe, EIO of a terminal, ENOSPC of a file
            self._lost = True
            _point_nowhere(self._stream)
            if sys.stderr is not self:
                told = f"{self._name} can no longer be written to ({error.strerror}); the work goes on without it."
                print(told, file=sys.stderr, flush=True)


@contextmanager
def lasting_output() -> Iterator[None]:
    """stdout and stderr that may be lost: what is written to a lost one is dropped, which stderr, where it is
    not lost itself, is told once."""
    before = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = LastingStream(sys.stdout, "Standard output")
    if sys.stderr is not None:
        sys.stderr = LastingStream(sys.stderr, "Standard error")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _point_nowhere(stream: Any) -> None:
    """Let what is still in the stream's buffer, and what others write to its file, go to nowhere."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # of a stream in memory
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
