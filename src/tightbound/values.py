"""Kinds of settings, each with its bounds: a value that cannot be meant is refused when it is given.

    @dataclass(frozen=True)
    class ModelSettings:
        latent_size: Size = 100

        def __post_init__(self):
            require_meant(self)

Importing this imports no JAX. Every number must be finite as a 32-bit float, whatever its kind.
"""

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from tightbound.errors import UserError

_LARGEST_FLOAT = 3.4028235e38  # of 32 bits
_LARGEST_INT = 2**31 - 1  # steps, rows and draws are counted in 32 bits


@dataclass(frozen=True)
class Bound:
    """What a value of one kind may be, and how that is said."""

    says: str  # behind "it must be"
    low: float | int
    high: float | int
    low_is_meant: bool = True
    high_is_meant: bool = True
    whole: bool = False
    bytes_of: Callable[[int], int] | None = None  # what a value takes at the least
    of_bytes: str = ""  # what takes them

    def refusal(self, value: Any) -> str | None:
        """Why the value cannot be meant; None where it can."""
        wanted = numbers.Integral if self.whole else numbers.Real
        if not isinstance(value, wanted) or isinstance(value, bool):
            return f"it must be {self.says}"
        number: Any = value
        if self.bytes_of is not None and number > self.high:
            taken = _size_words(self.bytes_of(int(number)))
            return f"{self.of_bytes} would take {taken}: it must be {self.says}"
        low = number >= self.low if self.low_is_meant else number > self.low
        high = number <= self.high if self.high_is_meant else number < self.high
        if not (low and high):  # NaN is neither
            return f"it must be {self.says}"
        return None


def _size_words(number: int) -> str:
    """Bytes as a person reads them: "3.6 TiB"."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    place = min(int(math.log2(number) // 10), len(units) - 1)
    return f"{min(number, 10**300) / 1024**place:,.3g} {units[place]}"


def _whole(says: str, low: int, high: int, **more: Any) -> Bound:
    return Bound(f"a whole number {says}", low, high, whole=True, **more)


# The table of kinds. A setting names its kind; the bounds stand here and nowhere else.
Size = Annotated[
    int,
    _whole(
        "from 1 to 2^20",
        1,
        2**20,
        bytes_of=lambda n: 4 * n * n,
        of_bytes="a layer of that size to itself",
    ),
]
"""Of a layer, a latent, an embedding."""
Draws = Annotated[
    int,
    _whole(
        "from 1 to 2^24",
        1,
        2**24,
        bytes_of=lambda n: 4 * 128 * n,
        of_bytes="log-weights of that many draws of 128 sequences",
    ),
]
"""Of latents, or particles."""
Rows = Annotated[
    int,
    _whole(
        "from 1 to 2^24",
        1,
        2**24,
        bytes_of=lambda n: 64 * n,
        of_bytes="that many rows of 16 numbers",
    ),
]
"""That are made up, or drawn."""
Count = Annotated[int, _whole("of at least 1 and below 2^31", 1, _LARGEST_INT)]
"""Of steps, of rows that are read."""
Few = Annotated[int, _whole("from 1 to 4096", 1, 4096)]
"""Layers, heads, seeds, processes: each costs time or a compiled program."""
Doublings = Annotated[int, _whole("from 0 to 20", 0, 20)]
"""2 to this power are made."""
Whole = Annotated[int, _whole("of at least 0 and below 2^31", 0, _LARGEST_INT)]
"""A place counted from 0, or a number of steps that may be none."""
Seed = Annotated[int, _whole("from 0 to 2^32 - 1 (keys are made of 32 bits)", 0, 2**32 - 1)]
Positive = Annotated[
    float, Bound("a finite number above 0", 0.0, _LARGEST_FLOAT, low_is_meant=False)
]
"""A rate, a clip, a scale, a temperature."""
Temperature = Annotated[float, Bound("a number from 0.001 to 1000", 1e-3, 1e3)]
"""Of draws: beyond, scaled log-probabilities of what is impossible lose that."""
Amount = Annotated[float, Bound("a finite number of at least 0", 0.0, _LARGEST_FLOAT)]
"""A weight, a floor."""
Number = Annotated[float, Bound("a finite number", -_LARGEST_FLOAT, _LARGEST_FLOAT)]
Fraction = Annotated[float, Bound("a number from 0 to 1", 0.0, 1.0)]
"""Of a whole, both ends included."""
Share = Annotated[float, Bound("a number from 0 to below 1", 0.0, 1.0, high_is_meant=False)]
"""That is dropped or kept: never all of it."""
Factor = Annotated[float, Bound("a number above 0 and at most 1", 0.0, 1.0, low_is_meant=False)]
"""That something is multiplied by, to fall."""
Correlation = Annotated[
    float,
    Bound("a number between -1 and 1", -1.0, 1.0, low_is_meant=False, high_is_meant=False),
]


@dataclass(frozen=True)
class _NotBlank:
    def refusal(self, value: Any) -> str | None:
        if isinstance(value, str) and value.strip() and "\0" not in value:
            return None
        return "it must be a name, and not blank"


Name = Annotated[str, _NotBlank()]
"""Of a file, a folder, a recipe, a column: never blank."""


def require_meant(settings: Any) -> None:
    """UserError for the first setting of a dataclass whose value is not of its annotation's kind."""
    for name, hint in _hints(type(settings)).items():
        require_kind(name, getattr(settings, name), hint)


def require_kind(name: str, value: Any, kind: Any) -> None:
    """UserError where the value is not of this kind."""
    refusal = _refusal(kind, value)
    if refusal is not None:
        raise UserError(f"`{name}` is {value!r}, but {refusal}.")


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _refusal(hint: Any, value: Any) -> str | None:
    """Why a value is not of an annotation; None where it is, or where the annotation says nothing."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = [entry for entry in arguments[1:] if isinstance(entry, Bound | _NotBlank)]
        return bounds[0].refusal(value) if bounds else _refusal(arguments[0], value)
    if origin in (typing.Union, types.UnionType):
        refusals = [_refusal(one, value) for one in arguments if one is not types.NoneType]
        is_meant = None in refusals or (value is None and types.NoneType in arguments)
        return None if is_meant else refusals[0]
    if origin is Literal:
        words = ", ".join(map(repr, arguments))
        return None if value in arguments else f"it must be one of {words}"
    if origin is tuple:
        return _refusal_of_tuple(arguments, value)
    if hint in (bool, str):
        wanted = {bool: "True or False", str: "text"}[hint]
        return None if isinstance(value, hint) else f"it must be {wanted}"
    if dataclasses.is_dataclass(hint):
        is_one = dataclasses.is_dataclass(value)
        return None if is_one else "it is a group of settings, and must be given as one"
    return None


def _refusal_of_tuple(arguments: tuple[Any, ...], value: Any) -> str | None:
    if not isinstance(value, tuple):
        return "it must be a list"
    each = arguments[:1] * len(value) if Ellipsis in arguments else arguments
    if len(each) != len(value):
        return f"it must be {len(each)} values"
    return next(filter(None, map(_refusal, each, value)), None)
