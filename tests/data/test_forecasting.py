"""The preprocessor of forecasts: what it learns from the training part, and the inputs it makes."""

import json

import numpy as np
import pytest
import tensorflow as tf

from data.calendar import WEEK, YEAR, calendar_features
from data.forecasting import MOST_WORDS, ForecastPreprocessor, fit_forecast_preprocessor
from data.frequency import DAY, HOUR, Frequency
from data.preprocessing import Preprocessor
from data.series import Columns, Section, SeriesSet, whole

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


def test_periods_that_the_training_part_shows_twice_are_told():
    series = series_of(counted(10 * 24))
    assert fitted(Section(series, 0, 20 * HOUR)).calendar == ()
    assert fitted(Section(series, 0, 3 * DAY)).calendar == (DAY,)
    many = series_of(counted(800), frequency=Frequency(DAY))
    assert fitted(many).calendar == (WEEK, YEAR)


# What a record becomes


def test_values_of_a_history_that_are_not_finite_become_its_columns_mean():
    found = fitted(series_of([[10, 20], [30, 60]]))
    history = [[[1, NAN], [NAN, INFINITY], [5, -INFINITY]], [[1, 2], [3, 4], [5, 6]]]
    made = found({"history": tf.constant(history, tf.float32)})
    assert made.keys() == {"history"}
    np.testing.assert_array_equal(made["history"][0], [[1, 40], [3, 40], [5, 40]])
    np.testing.assert_array_equal(made["history"][1], history[1])


def test_known_columns_of_history_and_future_are_brought_to_mean_0_and_deviation_1():
    columns = Columns(("x",), (), ("k", "constant"))
    found = fitted(series_of([[1, 10, 7], [2, 30, 7]], columns=columns))
    history = tf.constant([[[1, 10, 7], [2, 20, 7], [3, 30, 7.0]]])
    future = tf.constant([[[50, 7], [NAN, 8.0]]])
    made = found({"history": history, "future": future})
    np.testing.assert_array_equal(made["history"], history)
    np.testing.assert_allclose(made["past"][0], [[-1, 0], [0, 0], [1, 0]])
    np.testing.assert_allclose(made["future"][0], [[3, 0], [3, 1]])


def test_a_future_of_which_nothing_is_known_is_taken_for_the_mean():
    found = fitted(series_of([[1, 10], [2, 30]], columns=Columns(("x",), (), ("k",))))
    record = {"history": tf.ones([1, 3, 2]), "future": tf.fill([1, 2, 1], NAN)}
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
    assert (loaded.season, loaded.quantiles) == (4, (0.1, 0.9))
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
