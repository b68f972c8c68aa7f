"""Compiled programs that outlive the process that compiled them."""

import os
from pathlib import Path


def use_compilation_cache() -> None:
    """Keep compiled programs per user, unless the environment already says where."""
    import jax
    import platformdirs

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(platformdirs.user_cache_dir("tightbound")) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
