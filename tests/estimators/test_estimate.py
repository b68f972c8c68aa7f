"""A reported number survives JSON and says what it is."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from tightbound.estimators.estimate import Estimate, number_text

ESTIMATE = Estimate(
    value=-102.3149,
    standard_error=0.5231,
    monte_carlo_error=0.0123,
    unit="nats per sequence",
    bound="lower",
    estimator="iwae-100",
    num_samples=100,
    split="test (dynamic binarisation)",
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"standard_error": None, "monte_carlo_error": None},
        {"value": -np.inf, "standard_error": np.nan},
        {"value": np.inf, "monte_carlo_error": np.inf},
        {"value": np.nan},
    ],
)
def test_an_estimate_is_the_same_after_json(changes):
    """Round trip through strict JSON, which has neither infinities nor NaN."""
    estimate = replace(ESTIMATE, **changes)
    text = json.dumps(estimate.to_json(), allow_nan=False)
    again = Estimate.from_json(json.loads(text))
    assert repr(again) == repr(estimate)  # unlike ==, this holds for NaN
    assert all(type(getattr(again, n)) is type(getattr(estimate, n)) for n in json.loads(text))


def test_the_document_has_the_fields_that_every_command_prints():
    fields = "value standard_error monte_carlo_error unit bound estimator num_samples split"
    assert list(ESTIMATE.to_json()) == fields.split()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "-102.31 ± 0.52 (draws 0.012) nats per sequence, lower bound"),
        ({"standard_error": None}, "-102.31 (draws 0.012) nats per sequence, lower bound"),
        ({"monte_carlo_error": None}, "-102.31 ± 0.52 nats per sequence, lower bound"),
        (
            {"standard_error": 12.3, "monte_carlo_error": None, "bound": "exact"},
            "-102 ± 12 nats per sequence, exact",
        ),
        (
            {"standard_error": 0.0, "monte_carlo_error": None, "bound": "none"},
            "-102.31 ± 0.00 nats per sequence, no bound",
        ),
        (
            {"value": 8.123, "unit": "perplexity", "bound": "upper", "monte_carlo_error": None},
            "8.12 ± 0.52 perplexity, upper bound",
        ),
        (
            {"value": -13.03404157, "standard_error": 1e-13, "monte_carlo_error": 1e-14},
            "-13.03 ± 0.00 (draws 0.00) nats per sequence, lower bound",
        ),
        (
            {"value": -7.123e148, "standard_error": 2.5e147, "monte_carlo_error": None},
            "-7.12e+148 ± 2.5e+147 nats per sequence, lower bound",
        ),
        (
            {"value": 1234567.0, "standard_error": 12.0, "monte_carlo_error": None},
            "1.23457e+06 ± 12 nats per sequence, lower bound",
        ),
        (
            {"value": -999999.0, "standard_error": 12.0, "monte_carlo_error": None},
            "-999999 ± 12 nats per sequence, lower bound",
        ),
        (
            {"value": -np.inf, "standard_error": np.nan, "monte_carlo_error": np.nan},
            "-inf ± nan (draws nan) nats per sequence, lower bound",
        ),
    ],
)
def test_an_estimate_prints_two_digits_of_its_error_and_what_it_claims(changes, text):
    assert str(replace(ESTIMATE, **changes)) == text


@pytest.mark.parametrize("error", [0.0, 5e-17, 3e-9, 1e-6])
@pytest.mark.parametrize("value", [-13.034041573, 8.0, -70359.26])
def test_an_error_of_nothing_but_rounding_is_shown_as_zero(value, error):
    """An exact sum over rows that are all alike: its error is 0, or what 32 bits make of it. Oracle: two
    decimals of the value, and of nothing."""
    estimate = replace(ESTIMATE, value=value, standard_error=error, monte_carlo_error=error)
    assert str(estimate).startswith(f"{value:.2f} ± 0.00 (draws 0.00) nats")


def test_an_error_that_is_small_beside_a_large_value_is_an_error():
    """Half a nat of a data set of a million: beyond rounding though a ten-millionth of the value."""
    estimate = replace(ESTIMATE, value=-912345.678, standard_error=0.05, monte_carlo_error=None)
    assert str(estimate).startswith("-912345.678 ± 0.050 nats")


def test_a_small_value_without_an_error_is_not_shown_as_zero():
    estimate = replace(ESTIMATE, value=0.00123, standard_error=None, monte_carlo_error=None)
    assert str(estimate).startswith("0.0012 nats")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-70935814912.13, 123123.0, "-7.09358e+10 ± 123123"),
        (7.123456e148, 2.04e147, "7.12e+148 ± 2.0e+147"),
        (-1234567.0, None, "-1.23457e+06"),
        (999999.7, None, "1.00000e+06"),
        (-999999.2, 12.0, "-999999 ± 12"),
        (3.2e-7, 1e-8, "3.20e-07 ± 1.0e-08"),
        (0.0, 2e-9, "0.000000 ± 2.0e-09"),
    ],
)
def test_numbers_beyond_six_digits_are_scientific(value, error, text):
    """Oracle: written by hand, with two digits of the error where there is one."""
    estimate = replace(ESTIMATE, value=value, standard_error=error, monte_carlo_error=None)
    assert str(estimate) == f"{text} nats per sequence, lower bound"


@pytest.mark.parametrize("decimals", [-2, 0, 2, 3, 9])
def test_no_number_has_more_than_six_digits_before_its_point(decimals):
    """Law, over 300 powers of ten on both sides of 1; what is written is the number, to its last digit."""
    for power in range(-300, 301):
        for value in (9.9999996 * 10.0**power, -3.14159265 * 10.0**power):
            text = number_text(value, decimals)
            assert not re.search(r"\d{7}", text.split(".")[0]), text
            lost = max(10.0 ** -max(decimals, 0), 0.1 * abs(value)) if abs(value) >= 1e-6 else 1.0
            assert float(text) == pytest.approx(value, abs=lost)
    assert number_text(np.inf) == "inf"
    assert number_text(np.nan, sign="+") == "+nan"
