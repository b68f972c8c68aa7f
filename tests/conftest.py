"""Every test runs with 64-bit floats and without silent rank promotion; `pyproject.toml` adds the
run-time shape checks (jaxtyping with beartype) and turns warnings into errors."""

import os
import shutil
import sys
import tempfile

import pytest

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Small programs that run once or twice: compiling them costs more than running them.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
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


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """A process may hold only so many pieces of memory, and every compiled program takes some."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
