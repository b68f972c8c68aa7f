"""A reported number: what it is worth, how sure we are of it, and what it claims to be."""

import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal

Bound = Literal["lower", "exact", "upper", "none"]
_LARGEST_PLAIN = 1e6
_SMALLEST_PLAIN = 1e-4
_MOST_DECIMALS = 6
_ROUNDING = 2e-7  # of a value in 32 bits, relative


@dataclass(frozen=True)
class Estimate:
    """One number with its unit, both its errors and the claim it makes. Nothing prints a bare float.

    `standard_error` is the sampling error over sequences: how far another test set of this size
    would move the value. `monte_carlo_error` is the error over draws: how far other keys would.
    Either is None where it cannot be known (one sequence; one draw).
    `bound` says on which side of the quantity the value lies *in expectation*: "lower", "exact",
    "upper", or "none" where it bounds nothing.
    """

    value: float
    standard_error: float | None
    monte_carlo_error: float | None
    unit: str  # "nats per sequence", "nats per unit", "bits per unit", "perplexity", ...
    bound: Bound
    estimator: str  # "elbo", "iwae-100", "filtering-16", "log_marginal", ...
    num_samples: int
    split: str  # with the law of the data: "test (dynamic binarisation)"

    def to_json(self) -> dict[str, Any]:
        """The document every `--json` uses. Non-finite numbers become strings: JSON has none."""
        return {name: finite_or_text(value) for name, value in asdict(self).items()}

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Estimate":
        """Inverse of `to_json`."""
        fields: dict[str, Any] = dict(document)
        for name in ("value", "standard_error", "monte_carlo_error"):
            if fields[name] is not None:
                fields[name] = float(fields[name])
        return Estimate(**fields)

    def _repr_html_(self) -> str:
        """How a notebook shows it: the number first, what it is below."""
        number, _, claim = str(self).partition(f" {self.unit}, ")
        return (
            f"<b>{number}</b> {self.unit}<br>"
            f"<small>{escape(self.estimator)} on {escape(self.split)}, {claim}</small>"
        )

    def __str__(self) -> str:
        """As printed in tables: `-102.31 ± 0.52 (draws 0.01) nats per sequence, lower bound`."""
        text = number_text(self.value, _decimals(self.value, self.standard_error))
        if self.standard_error is not None:
            text += f" ± {self._error_text(self.standard_error)}"
        if self.monte_carlo_error is not None:
            text += f" (draws {self._error_text(self.monte_carlo_error)})"
        claim = {
            "lower": "lower bound",
            "exact": "exact",
            "upper": "upper bound",
            "none": "no bound",
        }
        return f"{text} {self.unit}, {claim[self.bound]}"

    def _error_text(self, error: float) -> str:
        shown = 0.0 if _is_rounding(self.value, error) else error
        return number_text(shown, _decimals(self.value, error))


def number_text(value: float, decimals: int = 2, *, sign: Literal["", "+"] = "") -> str:
    """A number as everything here prints one: plain, with `decimals` (at most six), up to a million;
    beyond, and where six decimals show next to nothing of it, scientific with at most six digits.

    `sign="+"` writes the plus too. Negative `decimals` say that not even the ones are known.
    """
    size, plain = abs(value), min(max(decimals, 0), _MOST_DECIMALS)
    is_large = size >= _LARGEST_PLAIN - 0.5
    is_small = decimals > _MOST_DECIMALS and size < _SMALLEST_PLAIN
    if value == 0 or not math.isfinite(value) or not (is_large or is_small):
        return f"{value:{sign}.{plain}f}"
    return f"{value:{sign}.{min(max(math.floor(math.log10(size)) + decimals, 1), 5)}e}"


def _decimals(value: float, error: float | None) -> int:
    """Decimals that show an error with two significant digits. Where there is none to show: 2, or two
    significant digits of a value that those would hide."""
    shown = error
    if error is None or not math.isfinite(error) or error < 0 or _is_rounding(value, error):
        hidden = math.isfinite(value) and 0 < abs(value) < 0.1
        shown = abs(value) if hidden else None
    return 2 if shown is None else 1 - math.floor(math.log10(shown))


def _is_rounding(value: float, error: float) -> bool:
    """Whether an error is zero, or what rounding to 32 bits leaves of zero."""
    return error == 0 or 0 < error < min(_ROUNDING * abs(value), _SMALLEST_PLAIN)


def finite_or_text(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
