"""Windows of time series: which there are, what batches hold, and the forecasts that need no model.

The values of most series here are the numbers of their rows, so that each tells where it is from.
"""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.options import TimeSeries
from data.preprocessing import raw_tensors
from data.series.frequency import DAY, HOUR, Frequency
from data.series.preprocessor import ForecastPreprocessor, fit_forecast_preprocessor
from data.series.sections import Columns, Section, SeriesSet, read_series, whole
from data.series.windows import WindowBatches, Windows, WindowSource

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
        measured=np.ones((rows, numbers), bool),
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


def test_a_hole_in_what_is_known_of_the_future_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"2020-01-{day:02},{day if day < 10 else ''},5" for day in range(1, 16)]
    rows[12] = "2020-01-13,,"
    (tmp_path / "a.csv").write_text("\n".join(["time,x,holiday", *rows]))
    asked = TimeSeries(known="holiday", fill="zero")
    series = read_series(asked, "a.csv", future=True)
    assert Windows.latest(series, window=4, horizon=3).origins.tolist() == [9]
    with pytest.raises(DataError) as caught:
        Windows.latest(series, window=4, horizon=4)
    assert (
        "a.csv: 3 rows of the future (a.csv, row 14: column 'holiday' has no finite number), and "
        "the model needs holiday for 4 time steps"
    ) in str(caught.value)


def test_a_series_shorter_than_the_history_is_refused_by_name():
    with pytest.raises(DataError) as caught:
        Windows.latest(series_of([9, 4]), window=5, horizon=3)
    assert "a.csv, series 's1': 4 time steps, and the model looks at the latest 5" in str(
        caught.value
    )
    with pytest.raises(DataError, match=r"a\.csv: 4 time steps"):
        Windows.latest(series_of([4]), window=5, horizon=3)


def test_series_shorter_than_the_history_may_be_left_out_but_not_all():
    windows = Windows.latest(series_of([4, 9, 3]), window=5, horizon=3, left_out={})
    assert windows.owners.tolist() == [1]
    with pytest.raises(DataError, match="series 's0': 4 time steps"):
        Windows.latest(series_of([4, 3]), window=5, horizon=3, left_out={})


# What was not measured


def with_gaps(series: SeriesSet, rows: list[int], column: int = 0, fill: str = "forward"):
    """The series as if a column had been filled in some rows."""
    measured = series.measured.copy()
    measured[rows, column] = False
    return replace(series, measured=measured, fill=fill)


def test_filled_values_are_no_truth_but_are_looked_back_on():
    series = with_gaps(series_of([12], Columns(("x", "y"))), [5, 7])
    windows = Windows.of(whole(series), window=3, horizon=2)
    expected = series.values[windows.rows(0, 2)]
    expected[np.isin(windows.rows(0, 2), [5, 7]), 0] = np.nan
    _, targets = windows.batches(fitted(windows)).collate(tf.range(len(windows), dtype=tf.int64))
    for found in (windows.truth(), targets, windows.records()["target"]):
        np.testing.assert_array_equal(found, expected)
    for found in (windows.targets(-3, 0), windows.naive(), windows.seasonal_naive()):
        assert not np.isnan(found).any()
    np.testing.assert_array_equal(windows.records()["history"], series.values[windows.rows(-3, 0)])


def test_windows_with_nothing_measured_to_forecast_are_left_out():
    windows = Windows.of(whole(with_gaps(series_of([12]), [6, 7, 8])), window=3, horizon=2)
    assert windows.origins.tolist() == [3, 4, 5, 8, 9, 10]
    two = with_gaps(series_of([12], Columns(("x", "y"))), [6, 7, 8])
    assert len(Windows.of(whole(two), window=3, horizon=2)) == 8


@pytest.mark.parametrize("column", [0, 1], ids=["target", "covariate"])
def test_a_history_that_ends_in_a_line_towards_what_comes_is_left_out(column):
    series = series_of([12], Columns(("x",), ("weather",), ("price",)))
    drawn = with_gaps(series, [6, 7], column, "interpolate")
    windows = Windows.of(whole(drawn), window=3, horizon=3)
    assert windows.origins.tolist() == [3, 4, 5, 6, 9]
    assert len(Windows.of(whole(with_gaps(series, [6, 7], 2, "interpolate")), 3, 3)) == 7
    assert len(Windows.of(whole(with_gaps(series, [6, 7], column)), 3, 3)) == 7


def test_a_history_filled_from_what_comes_after_it_is_left_out():
    windows = Windows.of(whole(with_gaps(series_of([12]), [0, 1, 2, 3])), window=3, horizon=2)
    assert windows.origins.tolist() == [5, 6, 7, 8, 9, 10]


def test_a_part_in_which_nothing_was_measured_is_refused():
    series = with_gaps(series_of([12]), [9, 10, 11])
    with pytest.raises(DataError, match=r"nothing was measured .* the test part by, from "):
        Windows.of(part(series, 9, 12), window=3, horizon=2, split="test")


def test_facts_say_how_many_series_are_too_short():
    windows = Windows.of(whole(series_of([20, 6, 3])), window=4, horizon=3)
    assert windows.facts == {"frequency": "h", "season": 1, "series": 3, "series too short": 2}
    assert "series too short" not in Windows.of(whole(series_of([20, 7])), 4, 3).facts


def test_batches_of_the_same_series_share_its_values():
    series = series_of([30])
    parts = [Windows.of(part(series, *span), window=4, horizon=2) for span in ((0, 20), (20, 30))]
    batches = [windows.batches(fitted(windows)) for windows in parts]
    values = series.tensors[0]
    for own in batches:
        collate = tf.function(own.collate).get_concrete_function(tf.TensorSpec([None], tf.int64))
        assert any(tensor is values for tensor in collate.captured_inputs)


# Requests


def source_of(tmp_path, text: str, **options) -> tuple[WindowSource, ForecastPreprocessor]:
    path = tmp_path / "a.csv"
    path.write_text(text)
    asked = TimeSeries(train=str(path), **options)
    source = WindowSource(asked, window=3, horizon=2)
    windows = Windows.of(whole(read_series(asked, str(path))), 3, 2)
    return source, fitted(windows)


def lines_in(monkeypatch, *lines: str | dict) -> None:
    """Puts lines into standard input."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    stdin = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(text.encode())))
    monkeypatch.setattr("sys.stdin", stdin)


DAYS = "time,id,x,price,kind\n" + "".join(
    f"2020-01-{day:02},a,{day % 3},{day},shop\n" for day in range(1, 29)
)
GOOD = {
    "history": [[1, 2], [None, 2.5], [3, -1e3]],
    "time": "2020-01-31",
    "future": [[1], [2]],
    "static": ["shop"],
}
ROLES = {"known": "price", "static": "kind", "series_column": "id"}


def test_without_paths_the_training_data_are_forecast(tmp_path):
    source, preprocessor = source_of(tmp_path, "time,x\n2020,1\n2021,2\n2022,4\n2023,5\n2024,1\n")
    [records] = source.requests(None, preprocessor)
    assert records.columns["history"].tolist() == [[[4], [5], [1]]]


def test_standard_input_has_raw_records_as_the_served_model_takes_them(tmp_path, monkeypatch):
    source, preprocessor = source_of(tmp_path, DAYS, **ROLES)
    lines_in(monkeypatch, GOOD, "", *[GOOD] * 299)
    parts = list(source.requests("-", preprocessor))
    assert [len(records) for records in parts] == [255, 45]  # a blank line is none
    columns = parts[0].columns
    assert columns.keys() == preprocessor.raw().keys() == GOOD.keys()
    np.testing.assert_array_equal(columns["history"][0], [[1, 2], [np.nan, 2.5], [3, -1e3]])
    assert columns["history"].dtype == columns["future"].dtype == np.float32
    served = preprocessor(raw_tensors(columns))
    np.testing.assert_array_equal(served["history"][0], [[1, 2], [1, 2.5], [3, -1e3]])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2", "not JSON"),
        ("[1]", "a JSON array where an object is expected"),
        ({"history": 1}, "keys history, where they are history, time, future, static"),
        (GOOD | {"series": "a"}, "keys history, time, future, static, series, where they are"),
        (GOOD | {"history": [[1, 2]] * 4}, "'history' is not 3 x 2 numbers, in lists"),
        (GOOD | {"history": [[1, 2], [1, 2], [1]]}, "'history' is not 3 x 2 numbers"),
        (GOOD | {"history": [[1, 2], [1, 2], [1, [2]]]}, "'history' is not 3 x 2 numbers"),
        (GOOD | {"future": [["1"], [2]]}, "'future' has '1', which is no number"),
        (GOOD | {"future": [[True], [2]]}, "'future' has True, which is no number"),
        (GOOD | {"future": [[10**400], [2]]}, "'future' has a number that is too large"),
        (GOOD | {"time": ["2020"]}, "'time' is not a text"),
        (GOOD | {"time": 2020}, "'time' has 2020, which is no text"),
        (GOOD | {"time": "noon"}, "'time' is 'noon', not a time stamp such as 2016-07"),
        (GOOD | {"time": "2021-02-29"}, "'time' is '2021-02-29', not a time stamp"),
        (GOOD | {"static": ["\ud800"]}, "'static' has half of a surrogate pair"),
    ],
)
def test_a_line_that_is_no_raw_record_is_located_or_skipped(tmp_path, monkeypatch, line, said):
    source, preprocessor = source_of(tmp_path, DAYS, **ROLES)
    lines_in(monkeypatch, GOOD, line)
    with pytest.raises(DataError) as caught:
        list(source.requests(["-"], preprocessor))
    assert str(caught.value).startswith("standard input, row 2: ") and said in str(caught.value)
    assert "\n" not in str(caught.value)
    source, preprocessor = source_of(tmp_path, DAYS, **ROLES, on_bad_row="skip")
    lines_in(monkeypatch, line, GOOD)
    [records] = source.requests(["-"], preprocessor)
    assert (len(records), records.skipped) == (1, 1)


def test_standard_input_is_named_alone(tmp_path):
    source, preprocessor = source_of(tmp_path, DAYS, **ROLES)
    with pytest.raises(DataError, match="'-' is standard input; name it alone"):
        list(source.requests(["-", "a.csv"], preprocessor))


def test_short_series_are_left_out_of_requests_where_bad_rows_are(tmp_path):
    text = DAYS + "2020-01-01,b,1,1,shop\n2020-01-02,b,2,1,shop\n"
    roles = {"series_column": "id", "targets": "x"}
    source, preprocessor = source_of(tmp_path, text, **roles)
    with pytest.raises(DataError, match="series 'b': 2 time steps, and the model looks at"):
        list(source.requests(None, preprocessor))
    source, preprocessor = source_of(tmp_path, text, **roles, on_bad_row="skip")
    [records] = source.requests(None, preprocessor)
    assert records.columns["series"].tolist() == ["a"]


def test_series_that_cant_be_forecast_are_named_among_the_others(tmp_path):
    days = [f"2020-01-{day:02}" for day in range(1, 11)]
    text = "time,id,x,price\n" + "".join(f"{day},good,1,2\n" for day in days[:8])
    text += "".join(f"{day},good,,2\n" for day in days[8:])
    trained_on = text + "".join(f"{day},other,{day[-1]},2\n" for day in days)
    source, preprocessor = source_of(tmp_path, trained_on, known="price", series_column="id")
    text += "".join(f"{day},short,1,2\n" for day in days[:2])
    text += "".join(f"{day},past,1,2\n" for day in days[:8])
    text += "".join(f"{day},empty,,2\n" for day in days)
    text += "".join(f"{day},twice,1,2\n" for day in days[:6] + days[:1])
    (tmp_path / "b.csv").write_text(text)
    options = replace(source._options, on_bad_row="answer")
    source = WindowSource(options, window=3, horizon=2)
    [requests] = source.requests(str(tmp_path / "b.csv"), preprocessor)
    assert requests.columns["series"].tolist() == ["good"]
    found = {one.echoed["series"]: one.problem for one in requests.asked}
    assert list(found) == ["good", "short", "past", "empty", "twice"]
    assert found["good"] is None
    assert found["short"].startswith("2 time steps, and the model looks at the latest 3")
    assert found["past"].startswith("0 rows of the future, and the model needs price for 2")
    assert "column 'x' has no number in any row" in found["empty"]
    assert "is in" in found["twice"] and "already" in found["twice"]
    with pytest.raises(DataError, match="--echo id: a forecast is not of a row, but of a series"):
        next(source.requests(None, preprocessor, ["id"]))


def test_each_line_of_standard_input_is_answered_also_blank_ones(tmp_path, monkeypatch):
    source, preprocessor = source_of(tmp_path, DAYS, **ROLES, on_bad_row="answer")
    lines_in(monkeypatch, GOOD, "", "{}", GOOD)
    [requests] = source.requests("-", preprocessor)
    assert [one.problem and one.problem[:13] for one in requests.asked] == [
        None, "an empty line", "a JSON object", None
    ]  # fmt: skip
    assert len(requests) == 2
