"""Every test runs with 64-bit floats and without silent rank promotion; `pyproject.toml` adds the
run-time shape checks (jaxtyping with beartype) and turns warnings into errors."""

import os

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")  # a test never reads what another run compiled
