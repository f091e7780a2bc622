"""Windows of time series: which there are, what batches hold, and the forecasts that need no model.

The values of most series here are the numbers of their rows, so that each tells where it is from.
"""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.forecasting import ForecastPreprocessor, fit_forecast_preprocessor
from data.frequency import DAY, HOUR, Frequency
from data.preprocessing import raw_tensors
from data.series import Columns, Section, SeriesSet, whole
from data.windows import WindowBatches, Windows

HOURS = Frequency(HOUR)
ONE = Columns(("x",))
ALL_KINDS = Columns(("x", "y"), ("weather",), ("price", "open"), ("region", "size"))


def series_of(
    lengths: list[int], columns: Columns = ONE, frequency: Frequency = HOURS
) -> SeriesSet:
    """Series that begin one after another, two steps apart; the values count the rows, and tell the
    columns apart by their thousands."""
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    rows, numbers = int(bounds[-1]), len(columns.numbers)
    steps = np.concatenate([np.arange(length) + 2 * i for i, length in enumerate(lengths)])
    names = [f"s{number}" for number in range(len(lengths))] if len(lengths) > 1 else [""]
    static = [[f"word {i % 2}", str(1.5 * i)][: len(columns.static)] for i in range(len(lengths))]
    return SeriesSet(
        values=(np.arange(rows)[:, np.newaxis] + 1000 * np.arange(numbers)).astype(np.float32),
        times=frequency.shift(np.full(rows, 365 * DAY), steps),
        bounds=bounds,
        names=names,
        columns=columns,
        static=np.array(static, object).reshape(len(lengths), len(columns.static)),
        frequency=frequency,
        source="a.csv",
        missing={},
    )


def part(series: SeriesSet, first: int, end: int) -> Section:
    """The section from one step of the first series to another."""
    return Section(series, *(int(t) for t in series.frequency.shift(series.times[0], [first, end])))


def fitted(windows: Windows, **options: bool) -> ForecastPreprocessor:
    return fit_forecast_preprocessor(
        whole(windows.series), windows.window, windows.horizon, windows.season, **options
    )


def targets_of(dataset: tf.data.Dataset, count: int) -> list[list[float]]:
    """The first target of each row of some batches."""
    return [targets[:, 0, 0].numpy().tolist() for _, targets in dataset.take(count)]


# Which windows there are


def test_forecasts_lie_within_the_section_and_histories_may_begin_before_it():
    windows = Windows.of(part(series_of([20]), 10, 15), window=4, horizon=2)
    assert windows.rows(0, 2).tolist() == [[10, 11], [11, 12], [12, 13], [13, 14]]
    assert windows.rows(-4, 0)[0].tolist() == [6, 7, 8, 9]


def test_a_history_begins_with_its_series():
    windows = Windows.of(part(series_of([20]), 0, 8), window=4, horizon=2)
    assert windows.origins.tolist() == [4, 5, 6]


def test_no_window_has_steps_of_two_series():
    windows = Windows.of(whole(series_of([6, 7])), window=3, horizon=2)
    assert windows.rows(-3, 2).tolist() == [
        [0, 1, 2, 3, 4],
        [1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10],
        [7, 8, 9, 10, 11],
        [8, 9, 10, 11, 12],
    ]
    assert windows.owners.tolist() == [0, 0, 1, 1, 1]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_windows_and_their_batches_are_plain_slices(data):
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    window, horizon = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    first = data.draw(st.integers(0, 8))
    section = part(series_of(lengths, Columns(("x", "y"))), first, data.draw(st.integers(1, 20)))
    series = section.series
    expected = []
    for begin, end in zip(series.bounds, series.bounds[1:], strict=False):
        for row in range(begin + window, end - horizon + 1):
            times = series.times[row : row + horizon]
            if times[0] >= section.first and times[-1] < section.end:
                expected.append(row)
    if not expected:
        with pytest.raises(DataError, match=r"a\.csv: the "):
            Windows.of(section, window, horizon)
        return
    windows = Windows.of(section, window, horizon)
    assert windows.origins.tolist() == expected
    batches = WindowBatches(windows, fitted(windows, calendar=False))
    inputs, targets = batches.collate(tf.range(len(windows), dtype=tf.int64))
    for index, row in enumerate(expected):
        np.testing.assert_array_equal(inputs["history"][index], series.values[row - window : row])
        np.testing.assert_array_equal(targets[index], series.values[row : row + horizon])


@pytest.mark.parametrize(
    ("lengths", "section", "split", "message"),
    [
        (
            [9, 4],
            (0, 100),
            "training",
            "a.csv: the longest series has 9 time steps, too few for a window of 8 and a horizon "
            "of 3; give longer series, or a smaller --model.window or --model.horizon.",
        ),
        (
            [20],
            (0, 9),
            "training",
            "a.csv: the training part has 9 time steps, from 1971-01-01 on, too few for a horizon "
            "of 3 after a window of 8; give more data",
        ),
        (
            [20],
            (18, 20),
            "validation",
            "a.csv: the validation part has 2 time steps, from 1971-01-01 18:00:00 on, too few for "
            "a horizon of 3; give more data, a smaller --model.horizon",
        ),
    ],
    ids=["series", "training", "validation"],
)
def test_series_that_are_too_short_are_refused_with_what_they_are_too_short_for(
    lengths, section, split, message
):
    with pytest.raises(DataError) as caught:
        Windows.of(part(series_of(lengths), *section), window=8, horizon=3, split=split)
    assert str(caught.value).startswith(message)


# What a model is trained on


def test_an_epoch_has_every_window_once_in_an_order_of_its_own():
    windows = Windows.of(whole(series_of([30, 30])), window=4, horizon=2)
    batches = WindowBatches(windows, fitted(windows))
    whole_epoch = -(-len(windows) // 8)
    dataset = batches.training(8, seed=3)
    both = targets_of(dataset, 2 * whole_epoch)
    one, two = both[:whole_epoch], both[whole_epoch:]
    in_order = windows.origins.tolist()
    for epoch in (one, two):
        seen = [row for batch in epoch for row in batch]
        assert sorted(seen) == in_order != seen
    assert one != two
    assert targets_of(batches.training(8, seed=3, first_epoch=1), whole_epoch) == two
    assert targets_of(batches.training(8, seed=4), whole_epoch) != one


def test_evaluation_has_every_window_once_and_says_which():
    windows = Windows.of(whole(series_of([20, 9])), window=4, horizon=2)
    dataset, order = WindowBatches(windows, fitted(windows)).evaluation(8)
    found = [row for batch in targets_of(dataset, 100) for row in batch]
    assert found == windows.origins[order].tolist()
    assert sorted(order) == list(range(len(windows)))


@pytest.mark.parametrize("frequency", [Frequency(6 * HOUR), Frequency(months=1)], ids=["6h", "MS"])
def test_training_and_serving_make_the_same_inputs(frequency):
    windows = Windows.of(whole(series_of([12, 25], ALL_KINDS, frequency)), window=5, horizon=3)
    preprocessor = fitted(windows)
    trained, targets = next(iter(WindowBatches(windows, preprocessor).evaluation(100)[0]))
    records = windows.records()
    assert records.keys() == {*preprocessor.raw(), "target"}
    np.testing.assert_array_equal(targets, records.pop("target"))
    served = preprocessor(raw_tensors(records))
    assert trained.keys() == served.keys() == {"history", "past", "future", "static"}
    for name, values in served.items():
        np.testing.assert_array_equal(trained[name], values, err_msg=name)


def test_records_hold_the_history_its_last_time_and_what_is_known_of_the_future():
    records = Windows.of(whole(series_of([12], ALL_KINDS)), window=5, horizon=3).records()
    assert records["history"].shape == (5, 5, 5)
    np.testing.assert_array_equal(records["history"][0, :, 0], range(5))
    assert records["time"].tolist() == [f"1971-01-01 {hour:02}:00:00" for hour in range(4, 9)]
    np.testing.assert_array_equal(records["future"][0], [[3005, 4005], [3006, 4006], [3007, 4007]])
    np.testing.assert_array_equal(records["target"][0], [[5, 1005], [6, 1006], [7, 1007]])
    assert records["static"].tolist() == [["word 0", "0.0"]] * 5


def test_chunks_are_the_records_in_their_order():
    windows = Windows.of(whole(series_of([20])), window=4, horizon=2)
    chunks = [chunk.columns["target"] for chunk in windows.chunks(6)]
    assert [len(chunk) for chunk in chunks] == [6, 6, 3]
    np.testing.assert_array_equal(np.concatenate(chunks), windows.targets(0, 2))
    picked = windows.take(np.array([7, 2]))
    np.testing.assert_array_equal(picked.targets(0, 2)[:, 0, 0], [11, 6])


def test_windows_that_overlap_take_no_more_memory_than_the_series():
    series = series_of([3000], Columns(("x", "y", "z")))
    windows = Windows.of(whole(series), window=200, horizon=100)
    batches = WindowBatches(windows, fitted(windows))
    collate = tf.function(batches.collate).get_concrete_function(tf.TensorSpec([None], tf.int64))
    held = [tensor.numpy() for tensor in collate.captured_inputs]
    nodes = collate.graph.as_graph_def().node
    held += [tf.make_ndarray(node.attr["value"].tensor) for node in nodes if node.op == "Const"]
    assert max(array.nbytes for array in held) == series.values.nbytes


# Forecasts that need no model


@pytest.mark.parametrize("season", [1, 3, 5, 12])
def test_naive_forecasts_are_those_of_a_plain_loop(season):
    series = series_of([20, 14], Columns(("x", "y"), ("weather",)))
    windows = Windows.of(whole(series), window=2, horizon=7, season=season)
    naive, seasonal = windows.naive(), windows.seasonal_naive()
    assert naive.shape == seasonal.shape == windows.targets(0, 7).shape
    for index, origin in enumerate(windows.origins):
        begin = series.bounds[windows.owners[index]]
        for step in range(7):
            np.testing.assert_array_equal(naive[index, step], series.values[origin - 1, :2])
            row = origin + step
            while row >= origin:
                row -= season
            row = row if row >= begin else origin - 1
            np.testing.assert_array_equal(seasonal[index, step], series.values[row, :2])


# What comes after the data


def unmeasured(series: SeriesSet, rows: list[int]) -> SeriesSet:
    """The series without targets and covariates in some rows, as those of the future are."""
    values = series.values.copy()
    values[rows, : -len(series.columns.known) or None] = np.nan
    return replace(series, values=values)


def test_the_latest_window_of_each_series_ends_with_it():
    windows = Windows.latest(series_of([9, 7]), window=5, horizon=3)
    assert windows.origins.tolist() == [9, 16]
    assert windows.owners.tolist() == [0, 1]
    np.testing.assert_array_equal(windows.values(-5, 0)[..., 0], [range(4, 9), range(11, 16)])
    assert [times[0] for times in windows.forecast_times()] == [
        "1971-01-01 09:00:00",
        "1971-01-01 09:00:00",
    ]
    assert windows.forecast_times()[0] == [f"1971-01-01 {hour:02}:00:00" for hour in (9, 10, 11)]
    assert "target" not in windows.records()


def test_the_latest_window_is_followed_by_what_is_known_of_the_future():
    columns = Columns(("x",), ("weather",), ("price",))
    series = unmeasured(series_of([9, 8], columns), [6, 7, 8, 14, 15, 16])
    windows = Windows.latest(series, window=4, horizon=2)
    assert windows.origins.tolist() == [6, 14]
    records = windows.records()
    np.testing.assert_array_equal(records["future"][..., 0], [[2006, 2007], [2014, 2015]])
    np.testing.assert_array_equal(records["history"][1, :, 0], [10, 11, 12, 13])


def test_the_latest_window_without_a_future_that_is_known_is_refused():
    series = unmeasured(series_of([9, 9], Columns(("x",), (), ("price",))), [6, 7, 8, 17])
    with pytest.raises(DataError) as caught:
        Windows.latest(series, window=4, horizon=3)
    assert "a.csv, series 's1': 1 rows of the future, and the model needs price for 3" in str(
        caught.value
    )


def test_a_series_shorter_than_the_history_is_refused_by_name():
    with pytest.raises(DataError) as caught:
        Windows.latest(series_of([9, 4]), window=5, horizon=3)
    assert "a.csv, series 's1': 4 time steps, and the model looks at the latest 5" in str(
        caught.value
    )
    with pytest.raises(DataError, match=r"a\.csv: 4 time steps"):
        Windows.latest(series_of([4]), window=5, horizon=3)
