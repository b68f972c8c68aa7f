"""How programs of laws are compiled: most run once."""

from collections.abc import Callable
from typing import Any

import equinox as eqx


def jit_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a program that runs once or twice: quickly, since compiling costs more than running."""
    options: dict[str, Any] = {"compiler_options": {"xla_backend_optimization_level": 0}}
    return eqx.filter_jit(function, **options)
