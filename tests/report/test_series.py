"""Records become columns. Oracle: the records, one by one."""

import logging

import numpy as np
from numpy.testing import assert_array_equal

from tightbound.estimators.estimate import Estimate
from tightbound.report.series import History, bound_series, share_series, site_series


def test_columns_say_what_the_records_say(made_records):
    """Also of sites that come late or go, and of errors that are none."""
    del made_records[3]["train"]["sites"]["z"]
    made_records[5]["train"]["sites"]["late"] = {"log_p": 2.5}
    made_records[6]["train"]["bound"] |= {"standard_error": None, "value": "-inf"}
    history = History(iter(made_records))
    for split in ("train", "held_out"):
        having = [record for record in made_records if split in record]
        estimates = [Estimate.from_json(record[split]["bound"]) for record in having]
        series = bound_series(history, split)
        assert_array_equal(series.steps, [record["step"] for record in having])
        assert_array_equal(series.values, [estimate.value for estimate in estimates])
        assert list(series.estimates) == estimates
        assert series.newest == estimates[-1]
    assert np.isnan(bound_series(history, "train").standard_errors[6])
    steps, added = site_series(history, "train")
    assert_array_equal(steps, [record["step"] for record in made_records])
    assert np.flatnonzero(np.isnan(added["z"])).tolist() == [3]
    assert np.flatnonzero(~np.isnan(added["late"])).tolist() == [5]
    z = made_records[0]["train"]["sites"]["z"]
    assert added["z"][0] == z["log_p"] - z["log_q"]
    steps, share = share_series(history, "held_out")
    assert_array_equal(
        share, [r["held_out"]["ess_fraction"] for r in made_records if "held_out" in r]
    )


def test_nothing_has_no_newest():
    series = bound_series(History(), "train")
    assert (len(series), series.newest) == (0, None)


def test_a_record_that_says_something_else_is_left_out_and_said_once(made_records, caplog):
    made_records[2]["train"] = 7
    made_records[3]["train"]["bound"] = {"value": "much"}
    made_records[4]["train"]["sites"] = [1]
    with caplog.at_level(logging.WARNING):
        history = History(made_records)
    steps = [record["step"] for record in made_records]
    assert_array_equal(bound_series(history, "train").steps, [*steps[:2], *steps[5:]])
    [said] = caplog.records
    assert said.getMessage().startswith(f"The record of step {steps[2]} is none of this version (")


def test_a_long_run_takes_little_memory(made_records):
    """By hand: a step and three numbers of the bound, a step and one number for each of two sites: 56 bytes
    of a record of training. So 200,000 records take 11 MB, where as JSON they take 600."""
    history = History(record | {"step": i} for i, record in enumerate(made_records * 5))
    columns = [history.bounds["train"], history.sites["train"]]
    arrays = [column for one in columns for column in (one.steps, *one.numbers.values())]
    assert sum(len(one) * one.itemsize for one in arrays) == 56 * 1000
