"""The preprocessor of forecasts: what it learns from the training part, and the inputs it makes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.options import TimeSeries
from data.preprocessing import Preprocessor
from data.series.calendar import WEEK, YEAR, calendar_features
from data.series.frequency import DAY, HOUR, Frequency
from data.series.gaps import fill
from data.series.preprocessor import MOST_WORDS, ForecastPreprocessor, fit_forecast_preprocessor
from data.series.sections import Columns, Section, SeriesSet, read_series, whole
from data.series.windows import Windows

HOURS = Frequency(HOUR)
NAN, INFINITY = float("nan"), float("inf")


def series_of(
    *parts: list[list[float]],
    columns: Columns | None = None,
    static: list[list[str]] | None = None,
    frequency: Frequency = HOURS,
) -> SeriesSet:
    """Series that all begin in 1970, of the rows of each part."""
    lengths = [len(part) for part in parts]
    values = np.array([row for part in parts for row in part], np.float32)
    steps = np.concatenate([np.arange(length) for length in lengths])
    names = columns or Columns(("x", "y", "z")[: values.shape[1]])
    return SeriesSet(
        values=values,
        measured=~np.isnan(values),
        times=frequency.shift(np.zeros(len(values), np.int64), steps),
        bounds=np.concatenate([[0], np.cumsum(lengths)]),
        names=[str(number) for number in range(len(parts))],
        columns=names,
        static=np.array(static or [[]] * len(parts), object),
        frequency=frequency,
        source="a.csv",
        missing={},
    )


def column(*values: float) -> list[list[float]]:
    """One part of a single column."""
    return [[value] for value in values]


def fitted(section: SeriesSet | Section, season: int = 1, **options: object):
    section = section if isinstance(section, Section) else whole(section)
    sizes = {"window": 3, "horizon": 2, "season": season}
    return fit_forecast_preprocessor(section, **sizes | options)


def counted(count: int) -> list[list[float]]:
    return column(*range(count))


# What is learned


def test_the_scale_is_that_of_the_training_part():
    series = series_of([[1, 10], [3, 10], [1000, 50], [1000, 50]])
    found = fitted(Section(series, 0, 2 * HOUR))
    np.testing.assert_allclose(found.mean, [2, 10])
    np.testing.assert_allclose(found.deviation, [1, 1])  # a constant column is only moved
    np.testing.assert_allclose(found.target_deviation, [1, 1])
    assert found.mean.dtype == found.deviation.dtype == np.float32


def test_a_long_series_far_from_zero_has_its_exact_scale():
    noise = np.random.RandomState(0).randn(20_000)
    values = series_of(column(*(1e5 + noise))).values[:, 0].astype(np.float64)
    found = fitted(series_of(column(*values)))
    np.testing.assert_allclose(found.mean, values.mean(), rtol=1e-6)
    np.testing.assert_allclose(found.deviation, values.std(), rtol=1e-5)


def test_the_targets_come_first_and_their_deviations_are_the_targets():
    series = series_of([[0, 5, 1], [2, 9, 3]], columns=Columns(("x",), ("c",), ("k",)))
    np.testing.assert_allclose(fitted(series).target_deviation, [1])


def test_the_season_error_is_the_mean_difference_from_a_season_before():
    series = series_of(column(1, 5, 2, 9, 100), column(0, 0, 7))
    found = fitted(Section(series, 0, 4 * HOUR), season=2)
    np.testing.assert_allclose(found.seasonal_error, [(1 + 4 + 7) / 3])


def test_the_season_error_of_a_part_shorter_than_a_season_is_that_of_a_step():
    found = fitted(series_of(column(1, 5, 2)), season=12)
    np.testing.assert_allclose(found.seasonal_error, [(4 + 3) / 2])


def test_the_season_error_of_a_constant_is_one_so_that_nothing_is_divided_by_zero():
    found = fitted(series_of([[1, 4], [2, 4], [3, 4]]))
    np.testing.assert_allclose(found.seasonal_error, [1, 1])


def test_each_series_has_a_season_error_of_its_own_or_else_that_over_all():
    parts = [column(1, 5, 2, 9), column(0, 7), column(4, 4, 4, 4), column(3)]
    found = fitted(series_of(*parts), season=2)
    over_all = (1 + 4) / 4  # of the first and the constant third
    np.testing.assert_allclose(found.seasonal_error, [over_all])
    made = found.seasonal_errors(["0", "1", "2", "3", "new"])
    np.testing.assert_allclose(made[:, 0], [5 / 2, 7, over_all, over_all, over_all])
    assert found.series_errors["1"] == [7]


def test_scale_and_season_error_are_of_what_was_measured():
    series = series_of([[1, 5], [50, 5], [3, 5], [4, 5]])
    series.measured[1] = [False, False]
    found = fitted(series)
    np.testing.assert_allclose(found.mean, [8 / 3, 5])
    np.testing.assert_allclose(found.deviation, [np.std([1, 3, 4]), 1], rtol=1e-6)
    np.testing.assert_allclose(found.seasonal_error, [1, 1])  # from 3 to 4 alone


def test_periods_that_the_training_part_shows_twice_are_told():
    series = series_of(counted(10 * 24))
    assert fitted(Section(series, 0, 20 * HOUR)).calendar == ()
    assert fitted(Section(series, 0, 3 * DAY)).calendar == (DAY,)
    many = series_of(counted(800), frequency=Frequency(DAY))
    assert fitted(many).calendar == (WEEK, YEAR)


# What a record becomes


def test_values_of_a_history_that_are_not_finite_become_the_last_before_or_else_the_mean():
    found = fitted(series_of([[10, 20], [30, 60]]))
    history = [[[1, NAN], [NAN, INFINITY], [5, -INFINITY]], [[1, 2], [3, 4], [5, 6]]]
    made = found({"history": tf.constant(history, tf.float32)})
    assert made.keys() == {"history"}
    np.testing.assert_array_equal(made["history"][0], [[1, 40], [1, 40], [5, 40]])
    np.testing.assert_array_equal(made["history"][1], history[1])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_history_with_gaps_is_filled_as_its_file_is(data):
    steps, how = data.draw(st.integers(1, 20)), data.draw(st.sampled_from(["forward", "zero"]))
    cells = st.lists(
        st.sampled_from([NAN, INFINITY, 1.0, 2.0, 3.0]), min_size=steps, max_size=steps
    )
    columns = [np.array(data.draw(cells), np.float32) for _ in range(3)]
    expected = []
    for column in columns:
        whole = fill(np.where(np.isfinite(column), column, np.nan), np.array([0, steps]), how)
        expected.append(np.nan_to_num(whole, nan=2.0))  # the mean of what it is fitted on
    found = fitted(replace(series_of([[1] * 3, [3] * 3]), fill=how), window=steps)
    made = found({"history": tf.constant(np.stack(columns, axis=-1)[np.newaxis])})
    np.testing.assert_array_equal(made["history"][0], np.stack(expected, axis=-1))


def test_a_file_with_gaps_and_a_request_with_gaps_make_the_same_inputs(tmp_path):
    cells = {"x": [5, "", 7, "", "", 9, 4, 8], "price": ["", 1, 2, "", 3, "", "", 4]}
    frame = pd.DataFrame({"time": pd.date_range("2020-01-01", periods=8, freq="D"), **cells})
    frame.to_csv(tmp_path / "a.csv", index=False)
    read = read_series(TimeSeries(known="price"), str(tmp_path / "a.csv"))
    found = fitted(read, window=6)
    raw = frame[["x", "price"]].replace("", NAN).to_numpy(np.float32)[np.newaxis]
    time = tf.constant(["2020-01-06"])
    one, two = (
        found({"history": tf.constant(values[:, :6]), "time": time, "future": values[:, 6:, 1:]})
        for values in (raw, read.values[np.newaxis])
    )
    assert one.keys() == two.keys() == {"history", "past", "future"}
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_known_columns_of_history_and_future_are_brought_to_mean_0_and_deviation_1():
    columns = Columns(("x",), (), ("k", "constant"))
    found = fitted(series_of([[1, 10, 7], [2, 30, 7]], columns=columns))
    history = tf.constant([[[1, 10, 7], [2, 20, 7], [3, 30, 7.0]]])
    future = tf.constant([[[50, 7], [NAN, 8.0]]])
    made = found({"history": history, "future": future})
    np.testing.assert_array_equal(made["history"], history)
    np.testing.assert_allclose(made["past"][0], [[-1, 0], [0, 0], [1, 0]])
    np.testing.assert_allclose(made["future"][0], [[3, 0], [3, 1]])


def test_a_future_of_which_nothing_is_known_stays_as_it_was():
    found = fitted(series_of([[1, 10], [2, 30]], columns=Columns(("x",), (), ("k",))))
    record = {"history": tf.fill([1, 3, 2], 40.0), "future": tf.fill([1, 2, 1], NAN)}
    np.testing.assert_allclose(found(record)["future"], np.full((1, 2, 1), 2))
    record["history"] = tf.fill([1, 3, 2], NAN)
    np.testing.assert_allclose(found(record)["future"], np.zeros((1, 2, 1)))


@pytest.mark.parametrize("frequency", [HOURS, Frequency(months=1)], ids=["h", "MS"])
def test_the_calendar_is_that_of_each_step_of_the_window_and_the_horizon(frequency):
    found = fitted(series_of(counted(60), frequency=frequency))
    periods = [DAY] if frequency == HOURS else [YEAR]
    assert list(found.calendar) == periods
    text, seconds = "2020-01-01 00:00:00", 1_577_836_800
    made = found({"history": tf.ones([1, 3, 1]), "time": tf.constant([text])})
    times = frequency.shift(seconds, np.arange(-2, 3))
    expected = calendar_features(tf.constant(times), periods)
    np.testing.assert_allclose(made["past"][0], expected[:3], atol=1e-6)
    np.testing.assert_allclose(made["future"][0], expected[3:], atol=1e-6)


def test_without_the_calendar_no_time_is_asked_for():
    series = series_of(counted(60))
    assert fitted(series).raw().keys() == {"history", "time"}
    found = fitted(series, calendar=False)
    assert found.raw().keys() == {"history"}
    assert found.step_features == 0
    assert found({"history": tf.ones([1, 3, 1])}).keys() == {"history"}


# Static columns


def of_static(*cells: str) -> ForecastPreprocessor:
    columns = Columns(("x",), static=("kind",))
    parts = [column(1, 2)] * len(cells)
    return fitted(series_of(*parts, columns=columns, static=[[cell] for cell in cells]))


def encoded(preprocessor: ForecastPreprocessor, *cells: str) -> list[list[float]]:
    return preprocessor.encode_static(tf.constant([[cell] for cell in cells])).numpy().tolist()


def test_a_static_word_is_one_feature_of_its_own_and_an_unknown_one_is_none():
    found = of_static("shop", "barn", "shop", "")
    assert found.static_features == 3
    made = encoded(found, "", "barn", "shop", "castle")
    assert made == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_of_many_static_words_the_most_common_are_told_apart():
    words = [f"w{number:04}" for number in range(MOST_WORDS + 5)]
    found = of_static(*words, *words[-3:])
    assert found.static_features == MOST_WORDS
    known = np.sum(encoded(found, *words), axis=1)
    assert known[-3:].tolist() == [1, 1, 1]
    assert known.sum() == MOST_WORDS


def test_static_numbers_are_brought_to_mean_0_and_deviation_1():
    found = of_static("1", "3.0", "1e0", " 3 ")
    assert found.static_features == 1
    made = encoded(found, "2", " 4.", "-.5", "1e1", "about 5", "")
    np.testing.assert_allclose(np.ravel(made), [0, 2, -2.5, 8, 0, 0], atol=1e-6)


@pytest.mark.parametrize("missing", ["", "nan", "N/A", "inf"])
def test_a_missing_static_number_is_the_mean_of_the_others_and_counted(missing):
    found = of_static("100", "250", missing, "400")
    assert found.static_features == 1
    np.testing.assert_allclose(np.ravel(encoded(found, "250", missing, "")), 0, atol=1e-6)
    columns = Columns(("x",), static=("kind",))
    series = series_of(*[column(1, 2, 3)] * 3, columns=columns, static=[["1"], [missing], ["2"]])
    assert Windows.of(whole(series), 1, 1).facts["series without kind"] == 1


def test_a_word_of_a_run_from_before_is_known_without_its_blanks():
    columns = Columns(("x",), static=("kind",))
    found = fitted(series_of(column(1, 2), columns=columns, static=[["north "]]))
    assert encoded(found, "north", " north", "south") == [[1], [1], [0]]


def test_a_static_number_that_never_varies_is_only_moved_to_zero():
    found = of_static("0.1", "0.1", "0.1")
    np.testing.assert_allclose(np.ravel(encoded(found, "0.1", "0.2")), [0, 0.1], atol=1e-6)


def test_several_static_columns_are_put_side_by_side():
    columns = Columns(("x",), static=("kind", "size"))
    static = [["shop", "1"], ["barn", "3"]]
    found = fitted(series_of(column(1, 2), column(3, 4), columns=columns, static=static))
    made = found({"history": tf.ones([2, 3, 1]), "static": tf.constant(static)})
    np.testing.assert_allclose(made["static"], [[0, 1, -1], [1, 0, 1]])


# Saved and loaded


def test_a_preprocessor_that_was_saved_and_loaded_makes_the_same_inputs(tmp_path):
    columns = Columns(("x",), ("c",), ("k",), ("kind", "size"))
    values = np.random.RandomState(0).randn(2, 50, 3).tolist()
    series = series_of(*values, columns=columns, static=[["shop", "1"], ["barn", "3"]])
    found = fitted(series, season=4, quantiles=[0.1, 0.9])
    found.save(tmp_path)
    loaded = Preprocessor.load(tmp_path)
    assert isinstance(loaded, ForecastPreprocessor)
    assert loaded.state() == found.state()
    assert (loaded.season, loaded.quantiles, loaded.fill) == (4, (0.1, 0.9), "forward")
    assert loaded.series_errors.keys() == {"0", "1"}
    record = {
        "history": tf.constant(values)[:, :3],
        "time": tf.constant(["2020-01-01", "2021-02-03 04:05"]),
        "future": tf.constant(values)[:, :2, :1],
        "static": tf.constant([["shop", "7"], ["castle", ""]]),
    }
    one, two = found(record), loaded(record)
    assert one.keys() == two.keys() == {"history", "past", "future", "static"}
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert json.loads((tmp_path / "preprocessor.json").read_text())["arguments"]["window"] == 3
