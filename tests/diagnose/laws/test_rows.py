"""Which numbers of a row laws are asked about. Oracle: the arrays that went in."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tightbound.diagnose.laws.rows import flat_rows

COUNTS = np.random.default_rng(0).poisson(5.0, (20, 3))


def test_the_number_of_a_row_is_no_part_of_it():
    """A proposal with parameters of every row is given the row's number: it is larger in later splits,
    and no sign of another transform."""
    assert_array_equal(flat_rows({"counts": COUNTS, "row": np.arange(600, 620)}), COUNTS)


@pytest.mark.parametrize(
    "beside",
    [
        np.arange(20) // 2,  # groups
        np.arange(20.0),  # a measurement
        np.arange(20)[:, None],  # a column of the data
    ],
)
def test_what_is_no_number_of_a_row_stays(beside):
    assert flat_rows({"counts": COUNTS, "beside": beside}).shape == (20, 4)


def test_rows_of_one_whole_number_are_data():
    """As are few rows, of which nobody can tell."""
    assert flat_rows(np.arange(20)).shape == (20, 1)
    assert flat_rows({"counts": COUNTS[:5], "row": np.arange(5)}).shape == (5, 4)
