"""A reported number: what it is worth, how sure we are of it, and what it claims to be."""

import math
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal

Bound = Literal["lower", "exact", "upper", "none"]


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
        digits = _digits(self.standard_error, self.value)
        text = _number(self.value, digits)
        if self.standard_error is not None:
            text += f" ± {_number(self.standard_error, digits)}"
        if self.monte_carlo_error is not None:
            error = self.monte_carlo_error
            text += f" (draws {_number(error, _digits(error, self.value))})"
        claim = {
            "lower": "lower bound",
            "exact": "exact",
            "upper": "upper bound",
            "none": "no bound",
        }
        return f"{text} {self.unit}, {claim[self.bound]}"


def _number(value: float, digits: int) -> str:
    """Fixed decimals, and scientific notation for what needs more than six digits before the point."""
    return f"{value:.{digits}f}" if not abs(value) >= 1e6 or math.isinf(value) else f"{value:.3e}"


def _digits(error: float | None, value: float) -> int:
    """Decimals that show an error with two significant digits; 2 where there is no error to show, which
    is also that of rounding: below 1e-9 of the value."""
    if error is None or not math.isfinite(error) or error <= 1e-9 * abs(value):
        return 2
    return min(max(1 - math.floor(math.log10(error)), 0), 8)


def finite_or_text(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
