"""Steps of sequences are in the order that pandas has them in, or refused."""

from datetime import date, time, timedelta

import numpy as np
import pandas as pd
import pytest

from data.options import Tables
from data.series.sequence_tables import SequenceSource
from data.series.step_times import sortable


def ordered(cells: list, groups: list[int] | None = None) -> list:
    order, problems = sortable(cells, np.array(groups or [0] * len(cells)))
    assert not problems
    return [cells[index] for index in np.argsort(order, kind="stable")]


@pytest.mark.parametrize(
    "cells",
    [
        ["8", "9.5", "10"],
        [-1, 2, 10**30],
        ["1600000000000000000", "1600000000000000001"],
        ["8:00", "9:15", "13:30"],
        ["8:00:59", "9:15:00.5", "26:30:00"],
        [time(7, 5, 1), time(8), time(13, 30)],
        ["2020-10-25 02:00:00+02:00", "2020-10-25 02:00:00+01:00", "2020-10-25T01:30:00Z"],
        ["2020-01", "2020-02-01 8:00", "2020-02-01 10:00"],
        [date(2020, 9, 1), date(2020, 10, 1)],
        [pd.Timestamp("2020-01-01 03:00", tz="Asia/Tokyo"), pd.Timestamp("2020-01-01", tz="UTC")],
        [timedelta(seconds=9), timedelta(seconds=10), timedelta(days=1)],
        ["-1 days +23:00:00", "9 days 00:00:00", "10 days 00:00:00"],
        ["PT9M", "PT10M"],
        ["9min", "10min", "1h"],
        [b"8:00", b"13:00"],
    ],
    ids=str,
)
def test_times_are_sorted_as_what_they_are(cells):
    assert ordered(cells[::-1]) == cells
    assert ordered(cells[1:] + cells[:1]) == cells


@pytest.mark.parametrize(
    ("cells", "problems"),
    [
        (["1", "x"], {1: "is 'x', not a number as others are"}),
        (["t2"], {0: "is 't2', not a number, time stamp, clock time or duration"}),
        (["8:00", None, " "], {1: "is empty", 2: "is empty"}),
        (["1:30", "1:20:00"], {0: "is '1:30', without the seconds that others have"}),
        (["01/02/2020"], {0: "is '01/02/2020', not a number, time stamp, clock time or duration"}),
        (["8:00 PM"], {0: "is '8:00 PM', not a number, time stamp, clock time or duration"}),
        (
            ["8:00", "9:00+02:00"],
            {1: "is '9:00+02:00', not a clock time or duration as others are"},
        ),
        (["1,5"], {0: "is '1,5', not a number, time stamp, clock time or duration"}),
        (["now"], {0: "is 'now', not a number, time stamp, clock time or duration"}),
        ([["1"]], {0: "is ['1'], not a number, time stamp, clock time or duration"}),
    ],
    ids=str,
)
def test_what_is_no_time_to_sort_by_is_told(cells, problems):
    assert sortable(cells, np.zeros(len(cells), int))[1] == problems


def test_sequences_may_have_times_of_unlike_kinds_but_steps_of_one_may_not():
    assert ordered(["1", "2020-03", "2020-02"], [0, 1, 1]) == ["1", "2020-02", "2020-03"]
    assert sortable(["2", "1", "b", "3"], np.array([0, 0, 1, 1]))[1].keys() == {2}


@pytest.mark.parametrize("limit", [1024, 0])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_rows_of_a_table_are_put_in_the_order_of_their_clock_times(tmp_path, name, limit):
    minutes = np.random.default_rng(1).permutation(np.arange(480, 820, 10))
    clock = [f"{minute // 60}:{minute % 60:02d}" for minute in minutes]
    times = clock if name == "a.csv" else [timedelta(minutes=int(minute)) for minute in minutes]
    table = pd.DataFrame({"id": "w", "t": times, "x": minutes, "label": "a"})
    path = tmp_path / name
    table.to_csv(path, index=False) if name == "a.csv" else table.to_parquet(path)
    source = SequenceSource(Tables(memory_limit_mb=limit), ["x"], "label", "id", "t")
    (records,) = source.read(str(path)).chunks()
    assert records.columns["values"][0][:, 0].tolist() == sorted(minutes)
