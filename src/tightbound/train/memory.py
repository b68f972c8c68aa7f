"""Memory that a step frees stays with the process, for the next step."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt(3), glibc's malloc.h


def keep_freed_memory() -> None:
    """Ask glibc not to give large arrays back to the system when they are freed.

    It does by default, and the next step faults every page in again: 10 ms of a 25 ms step where
    arrays have some megabytes. Memory in use does not grow beyond its highest mark. Where the C
    library is another, nothing is done.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20)):
        mallopt(option, value)
