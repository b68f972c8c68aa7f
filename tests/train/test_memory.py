"""Freed memory stays with the process. Oracle: the system's own count of page faults."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from tightbound.train.memory import keep_freed_memory

{call}
for count in (5, 20):  # the first few grow the heap
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        np.ones(1 << 20)  # 8 MB, freed at once
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


def faults(call: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)],
        capture_output=True,
        text=True,
        check=True,
        env={"MALLOC_MMAP_THRESHOLD_": "131072", "PATH": ""},  # or glibc learns by itself
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked")
def test_pages_of_freed_arrays_are_not_faulted_in_again():
    """Planted: glibc as it is, which gives every array back."""
    assert faults("keep_freed_memory()") < 0.1 * faults("pass")
