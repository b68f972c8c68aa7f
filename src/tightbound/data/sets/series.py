"""Two real series for state-space models: exchange rates of the euro, and the nutria of East Anglia.

Both are split by time. A held-out piece starts afresh from the model's first state: what came
before it is not given, so its first steps cost more than a forecast of them would.
"""

import math
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tightbound.data.batch import Split
from tightbound.data.catalogue import DataError, find_one
from tightbound.data.formats.text_lines import numbered_lines
from tightbound.data.sequences import sequence_split
from tightbound.errors import UserError

CURRENCIES = ("USD", "JPY", "GBP", "CHF", "SEK", "NOK", "DKK", "AUD", "CAD", "CZK", "PLN", "HUF")


def load_exchange_rates(
    path: str | os.PathLike[str] | None = None,
    *,
    currencies: Sequence[str] = CURRENCIES,
    window: int = 250,
    valid_share: float = 0.1,
    test_share: float = 0.1,
) -> dict[str, Split]:
    """The splits train, valid and test of daily log-returns in percent, values (time, currencies).

        y_t = 100 (log r_t - log r_{t-1}),   r_t units of the currency per euro

    Sequences are windows of `window` trading days, in the order of time; the last one may be
    shorter. The last windows are the test split, those before them validate: shares of the
    number of windows, rounded, at least one each.

    Without `path` the European Central Bank's rates of 12 currencies since 1999 are used; `path`
    is a file of the same format, plain or `.gz`: a line of names, then dates, ascending, and rates.
    """
    if window < 1:
        raise UserError(f"Windows of {window} days were asked for; give at least 1.")
    rates = _read_rates(find_one("exchange-rates", path), tuple(currencies))
    returns = 100 * np.diff(np.log(rates), axis=0)
    windows = [returns[i : i + window] for i in range(0, len(returns), window)]
    num_valid, num_test = (
        max(1, round(share * len(windows))) for share in (valid_share, test_share)
    )
    return _by_time(windows, num_valid, num_test, f"percent log-returns, windows of {window} days")


def load_nutria(
    path: str | os.PathLike[str] | None = None, *, num_valid: int = 18, num_test: int = 18
) -> dict[str, Split]:
    """The splits train, valid and test of the monthly index of nutria: one sequence each, values
    (time, 1), as stored.

    Of 120 months the last `num_test` are the test split and the `num_valid` before them validate.
    One sequence has no error over sequences. The theta-logistic models of Peters et al. 2010
    (arXiv:1005.2238) were made for this series. `path` is a text file with one number a line.
    """
    file = find_one("nutria", path)
    lines = [(number, text) for number, text in numbered_lines(file) if text.strip()]
    values = np.array([[_number(text, f"Line {n} of {file}")] for n, text in lines])
    first, last = len(values) - num_valid - num_test, len(values) - num_test
    if min(first, num_valid, num_test) < 1:
        raise DataError(
            f"{len(values)} months cannot be split into {num_valid} to validate, {num_test} to test "
            "and some to train. Hold out fewer (at least 1 each)."
        )
    return _by_time([values[:first], values[first:last], values[last:]], 1, 1, "monthly index")


def _by_time(pieces: list[np.ndarray], num_valid: int, num_test: int, law: str) -> dict[str, Split]:
    """The last pieces are for testing, those before them for validation."""
    num_train = len(pieces) - num_valid - num_test
    if min(num_train, num_valid, num_test) < 1:
        raise DataError(
            f"{len(pieces)} windows cannot be split into {num_valid} to validate, {num_test} to test "
            "and some to train. Make the windows shorter, or hold out fewer."
        )
    values = [piece.astype(np.float32) for piece in pieces]
    return {
        "train": sequence_split("train", values[:num_train], law=law),
        "valid": sequence_split("valid", values[num_train:-num_test], law=law),
        "test": sequence_split("test", values[-num_test:], law=law),
    }


def _read_rates(path: Path, currencies: tuple[str, ...]) -> Float[np.ndarray, "days currencies"]:
    lines = numbered_lines(path)
    header = next(lines, (0, ""))[1].split(",")
    missing = [currency for currency in currencies if currency not in header[1:]]
    if missing or not currencies:
        raise DataError(
            f"{path} has no column {', '.join(missing) or '(none was asked for)'}; its first line "
            f"names {', '.join(header[1:]) or 'none'}. Ask for some of these."
        )
    columns = [header.index(currency) for currency in currencies]
    before, rates = date.min, []
    for number, text in lines:
        cells, where = text.split(","), f"Line {number} of {path}"
        if len(cells) != len(header):
            raise DataError(f"{where} has {len(cells)} cells, but the first has {len(header)}.")
        before = _next_day(cells[0], before, where)
        rates.append([_rate(cells[c], f"{where}, dated {cells[0]},", header[c]) for c in columns])
    if len(rates) < 2:
        raise DataError(f"{path} has {len(rates)} days of rates; a return needs two.")
    return np.array(rates)


def _next_day(text: str, before: date, where: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise DataError(
            f"{where} begins with {text!r}, but a date like 1999-01-04 was meant."
        ) from error
    if day <= before:
        raise DataError(f"{where} is of {day}, but the line before is of {before}. Sort by date.")
    return day


def _rate(text: str, where: str, currency: str) -> float:
    value = _number(text, f"{where} in the column {currency},")
    if value <= 0:
        raise DataError(f"{where} has the rate {text} for {currency}, but a rate is above 0.")
    return value


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} has {text!r} where a finite number was meant. Correct it.")
    return value
