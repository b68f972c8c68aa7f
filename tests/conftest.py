"""Every test runs with 64-bit floats, no silent rank promotion, and shapes checked at run time."""

import os

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jaxtyping

jaxtyping.install_import_hook("tightbound", "beartype.beartype")
