"""A reported number survives JSON and says what it is."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tightbound.estimators.estimate import Estimate

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
            "-7.123e+148 ± 2.500e+147 nats per sequence, lower bound",
        ),
        (
            {"value": 1234567.0, "standard_error": 12.0, "monte_carlo_error": None},
            "1.235e+06 ± 12 nats per sequence, lower bound",
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
