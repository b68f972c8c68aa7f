"""Series: returns by their definition, windows in the order of time, rates that cannot be."""

import gzip
import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tightbound.data.catalogue import DataError
from tightbound.data.sets.series import CURRENCIES, load_exchange_rates, load_nutria
from tightbound.errors import UserError

needs_data = pytest.mark.skipif(
    "TIGHTBOUND_DATA" not in os.environ, reason="TIGHTBOUND_DATA names no folder of real data"
)
TABLE = """Date,USD,GBP
2000-01-03,1.00,0.60
2000-01-04,1.10,0.60
2000-01-05,0.55,0.30
2000-01-06,0.55,0.33
2000-01-07,0.50,0.33
2000-01-10,0.60,0.33
2000-01-11,0.66,0.30
2000-01-12,0.70,0.31
"""
RATES = np.array([line.split(",")[1:] for line in TABLE.splitlines()[1:]], float)


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / "rates.csv.gz"
        path.write_bytes(gzip.compress(text.encode()))
        return path

    return write


def test_returns_are_percent_differences_of_logs_in_the_order_of_time(table):
    """Oracle: 100 log(r_t / r_{t-1}) by quotients. Joined, the splits are the series. Planted:
    simple returns are not the same."""
    splits = load_exchange_rates(
        table(TABLE), currencies=("GBP", "USD"), window=2, valid_share=0.25, test_share=0.25
    )
    expected = 100 * np.log(RATES[1:, ::-1] / RATES[:-1, ::-1])
    joined = np.concatenate([s.x.values[s.mask] for s in splits.values()])
    assert_allclose(joined, expected, rtol=1e-5, atol=1e-6)
    assert [s.num_units.tolist() for s in splits.values()] == [[2, 2], [2], [1]]
    assert np.abs(joined - 100 * np.diff(RATES[:, ::-1], axis=0) / RATES[:-1, ::-1]).max() > 1
    assert splits["test"].law == "percent log-returns, windows of 2 days"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("0.55,0.33", "0.55,0", r"Line 5 .* 2000-01-06, has the rate 0 for GBP, but"),
        ("0.55,0.33", "-0.55,0.33", "has the rate -0.55 for USD"),
        ("0.55,0.33", "N/A,0.33", r"Line 5 .* column USD, has 'N/A' where a finite number"),
        ("0.55,0.33", "nan,0.33", "has 'nan' where a finite number"),
        ("0.55,0.33", "0.55", r"Line 5 .* has 2 cells, but the first has 3"),
        ("2000-01-06", "2000-01-05", "Line 5 .* is of 2000-01-05, but the line before is of"),
        ("2000-01-06", "6.1.2000", "begins with '6.1.2000', but a date"),
        ("Date,USD", "Date,EUR", "no column USD; its first line names EUR, GBP"),
    ],
)
def test_a_rate_that_cannot_be_is_named_by_its_line(table, old, new, sentence):
    with pytest.raises(DataError, match=sentence):
        load_exchange_rates(table(TABLE.replace(old, new)), currencies=("USD", "GBP"), window=2)


def test_windows_that_cannot_be_split_are_refused(table):
    path = table(TABLE)
    with pytest.raises(DataError, match="2 windows cannot be split into 1 to validate, 1 to test"):
        load_exchange_rates(path, currencies=("USD",), window=4)
    with pytest.raises(UserError, match="Windows of 0 days"):
        load_exchange_rates(path, currencies=("USD",), window=0)
    with pytest.raises(DataError, match=r"no column \(none was asked for\)"):
        load_exchange_rates(path, currencies=())
    with pytest.raises(DataError, match="has 1 days of rates; a return needs two"):
        load_exchange_rates(table("\n".join(TABLE.splitlines()[:2])), currencies=("USD",))


def test_nutria_are_split_by_time(tmp_path):
    """Oracle: the numbers themselves, blank lines left out."""
    path = tmp_path / "nutria.txt"
    path.write_text("1.5\n2.5e-01\n\n3\n4\n5\n")
    for given_path in (path, tmp_path):
        splits = load_nutria(given_path, num_valid=1, num_test=2)
        found = [s.x.values[0, :, 0].tolist() for s in splits.values()]
        assert found == [[1.5, 0.25], [3], [4, 5]]
    with pytest.raises(DataError, match="5 months cannot be split into 18 to validate"):
        load_nutria(path)
    path.write_text("1.5\nmany\n")
    with pytest.raises(DataError, match=r"Line 2 of .* has 'many' where a finite number"):
        load_nutria(path)


@needs_data
def test_the_published_series_have_the_known_sizes_and_values():
    """Oracle: 7,126 days and the first euro fixings; 120 months from 0.5 to 5.55."""
    splits = load_exchange_rates()
    assert sum(int(s.num_units.sum()) for s in splits.values()) == 7_125
    assert [s.x.values.shape for s in splits.values()] == [
        (23, 250, 12),
        (3, 250, 12),
        (3, 250, 12),
    ]
    first = splits["train"].x.values[0, 0]
    assert first[0] == pytest.approx(100 * np.log(1.1790 / 1.1789), rel=1e-5)
    assert first[CURRENCIES.index("GBP")] == pytest.approx(100 * np.log(0.7122 / 0.7111), rel=1e-5)
    nutria = load_nutria()
    assert [s.num_units.tolist() for s in nutria.values()] == [[84], [18], [18]]
    joined = np.concatenate([s.x.values[0] for s in nutria.values()])
    assert_array_equal([joined.min(), joined.max()], np.float32([0.5, 5.55]))
