"""Every test runs with 64-bit floats and without silent rank promotion; `pyproject.toml` adds the
run-time shape checks (jaxtyping with beartype) and turns warnings into errors."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Small programs that run once or twice: compiling them costs more than running them.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    " --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_enable_concurrency_optimized_scheduler=false",
)
# Programs compiled once serve all processes of a test session, and no other session.
_COMPILED = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _COMPILED = os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


# Made-up run folders, evidence and a command line: several rooms of tests build on them.
pytest_plugins = ("fixtures.run_folders", "fixtures.evidence", "fixtures.command_line")


def pytest_unconfigure():
    if _COMPILED is not None:
        shutil.rmtree(_COMPILED, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: the last file to be given out holds up the other process."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


_MOST_MAPPINGS = 30_000  # of the 65,530 that Linux allows a process


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """A process may hold only so many pieces of memory, and every compiled program takes some.
    Until there are many, programs are kept: the next file of tests may need them too."""
    yield
    if "jax" in sys.modules and _num_mappings() > _MOST_MAPPINGS:
        sys.modules["jax"].clear_caches()


def _num_mappings() -> int:
    maps = Path("/proc/self/maps")
    return maps.read_text().count("\n") if maps.exists() else _MOST_MAPPINGS + 1
