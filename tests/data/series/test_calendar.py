"""Time in the graph, against pandas and NumPy: texts, steps, and places in a day, week or year."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.series.calendar import (
    WEEK,
    YEAR,
    calendar_features,
    calendar_periods,
    format_times,
    parse_times,
    shift,
)
from data.series.frequency import DAY, HOUR, MINUTE, Frequency

FIRST, LAST = -62_135_596_800, 253_402_300_799  # 0001-01-01 00:00:00 to 9999-12-31 23:59:59
MONTH = Frequency(months=1)

moments = st.integers(FIRST, LAST)


def seconds_of(text: str) -> int:
    return int(np.datetime64(text, "s").astype(np.int64))


def text_of(seconds: int) -> str:
    return str(np.datetime64(seconds, "s")).replace("T", " ")


def parsed(*texts: str) -> list[int]:
    return parse_times(tf.constant(texts)).numpy().tolist()


def place(text: str, period: float) -> np.ndarray:
    """Sine and cosine of where a time is in a period."""
    return calendar_features(tf.constant([seconds_of(text)]), [period]).numpy()[0]


# From text and back


@settings(max_examples=60, deadline=None)
@given(times=st.lists(moments, min_size=1, max_size=20))
def test_texts_are_those_of_numpy_and_are_read_back(times):
    texts = format_times(tf.constant(times, tf.int64))
    assert [text.decode() for text in texts.numpy()] == [text_of(time) for time in times]
    assert parse_times(texts).numpy().tolist() == times


def test_the_ends_of_days_months_and_leap_years_are_read_and_written():
    texts = ["0001-01-01 00:00:00", "1900-02-28 23:59:59", "1969-12-31 23:59:59"]
    texts += ["2000-02-29 00:00:00", "2100-03-01 00:00:00", "9999-12-31 23:59:59"]
    times = parsed(*texts)
    assert times == [seconds_of(text) for text in texts]
    written = format_times(tf.constant(times)).numpy()
    assert [text.decode() for text in written] == texts


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2016", "2016-01-01 00:00:00"),
        ("2016-07", "2016-07-01 00:00:00"),
        ("2016-07-09", "2016-07-09 00:00:00"),
        ("2016-07-09 13:05", "2016-07-09 13:05:00"),
        ("2016-07-09T13:05:08", "2016-07-09 13:05:08"),
        ("2016-07-09 13:05:08.75", "2016-07-09 13:05:08"),
        (" 2016-07-09T13:05:08Z ", "2016-07-09 13:05:08"),
        ("2016-07-09 13:05+00:00", "2016-07-09 13:05:00"),
        ("2016-07-09 13:05+0000", "2016-07-09 13:05:00"),
    ],
)
def test_a_part_that_is_left_out_is_its_first(text, means):
    assert parsed(text) == [seconds_of(means)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "05/01/2020",
        "2016-7-1",
        "16-07-01",
        "2016-07-01 13",
        "2016-07-01 13:00:00 +02:00",
        "2016-07-01 13:00+02:00",
        "2016-13-01",
        "2016-00-01",
        "2016-02-30",
        "2015-02-29",
        "2016-01-00",
        "2016-01-01 24:00",
        "2016-01-01 12:60",
    ],
)
def test_a_text_that_is_no_time_is_refused_with_how_one_looks(text):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        parsed("2016-07-01", text)
    assert "time must be like 2016-07-01 13:00:00 (UTC), 2016-07-01, 2016-07 or 2016" in str(
        caught.value
    )


def test_a_text_that_is_no_time_is_refused_in_a_graph_too():
    in_graph = tf.function(parse_times)
    assert in_graph(tf.constant(["2016"])).numpy() == [seconds_of("2016-01-01")]
    for text in ("now", "2016-02-30"):
        with pytest.raises(tf.errors.InvalidArgumentError, match="time must be like"):
            in_graph(tf.constant([text]))


# Steps


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.integers(-(10**10), 10**10), min_size=1, max_size=10),
    steps=st.integers(-1000, 1000),
    length=st.sampled_from([1, 15 * MINUTE, HOUR, DAY, WEEK]),
)
def test_steps_of_seconds_are_added(times, steps, length):
    moved = shift(tf.constant(times, tf.int64), tf.constant(steps, tf.int64), Frequency(length))
    assert moved.numpy().tolist() == [time + steps * length for time in times]


@settings(max_examples=60, deadline=None)
@given(
    time=st.integers(seconds_of("1000-01-01"), seconds_of("3000-01-01")),
    steps=st.lists(st.integers(-500, 500), min_size=1, max_size=5),
    months=st.sampled_from([1, 3, 12]),
)
def test_steps_of_months_are_those_of_pandas(time, steps, months):
    start = pd.Timestamp(time, unit="s")
    for end in (False, True):
        expected = [start + pd.DateOffset(months=step * months) for step in steps]
        if end:
            expected = [moved + pd.offsets.MonthEnd(0) for moved in expected]
        frequency = Frequency(months=months, end=end)
        moved = shift(tf.constant(time, tf.int64), tf.constant(steps, tf.int64), frequency)
        assert list(map(text_of, moved.numpy().tolist())) == list(map(str, expected))


def test_steps_broadcast_over_times_and_agree_with_those_of_the_data():
    times = np.array([seconds_of("2019-12-31 06:00"), seconds_of("2020-01-30")])
    steps = np.arange(-3, 15)
    for frequency in (Frequency(HOUR), MONTH, Frequency(months=1, end=True)):
        moved = shift(tf.constant(times)[:, tf.newaxis], tf.constant(steps), frequency)
        np.testing.assert_array_equal(moved, frequency.shift(times[:, np.newaxis], steps))


# What a model is told of the time


@pytest.mark.parametrize(
    ("frequency", "periods"),
    [
        (Frequency(15 * MINUTE), [DAY, WEEK, YEAR]),
        (Frequency(12 * HOUR), [DAY, WEEK, YEAR]),
        (Frequency(13 * HOUR), [WEEK, YEAR]),
        (Frequency(DAY), [WEEK, YEAR]),
        (Frequency(4 * DAY), [YEAR]),
        (Frequency(WEEK), [YEAR]),
        (MONTH, [YEAR]),
        (Frequency(months=3), [YEAR]),
        (Frequency(months=6), [YEAR]),
        (Frequency(months=12), []),
        (Frequency(400 * DAY), []),
    ],
    ids=lambda value: value.alias if isinstance(value, Frequency) else "",
)
def test_a_period_is_told_if_two_steps_or_more_are_in_it(frequency, periods):
    assert list(calendar_periods(frequency)) == periods


@pytest.mark.parametrize(
    ("days", "periods"),
    [
        (0, []),
        (1, [DAY]),
        (12, [DAY]),
        (13, [DAY, WEEK]),
        (700, [DAY, WEEK]),
        (2 * 365, [DAY, WEEK, YEAR]),
    ],
)
def test_a_period_is_told_if_the_data_have_two_of_it(days, periods):
    assert list(calendar_periods(Frequency(HOUR), days * DAY)) == periods
    assert list(calendar_periods(MONTH, days * DAY)) == [p for p in periods if p == YEAR]


def test_each_period_has_a_sine_and_a_cosine_in_float32():
    times = tf.constant([[0, HOUR, 2 * HOUR], [DAY, WEEK, 5]], tf.int64)
    found = calendar_features(times, [DAY, WEEK])
    assert (found.shape, found.dtype) == ((2, 3, 4), tf.float32)
    np.testing.assert_array_equal(found[..., 2:], calendar_features(times, [WEEK]))
    assert calendar_features(times, []).shape == (2, 3, 0)


def test_a_day_begins_at_midnight_and_its_quarter_is_six_o_clock():
    for hour, expected in {0: (0, 1), 6: (1, 0), 12: (0, -1), 18: (-1, 0)}.items():
        for date in ("1931-05-06", "2024-02-29", "9998-01-05"):
            np.testing.assert_allclose(place(f"{date} {hour:02}:00", DAY), expected, atol=1e-6)


def test_a_week_begins_on_monday():
    np.testing.assert_allclose(place("2024-07-01", WEEK), [0, 1], atol=1e-6)
    np.testing.assert_allclose(place("1969-12-25 12:00", WEEK), [0, -1], atol=1e-6)
    angle = 2 * np.pi / 7
    tuesday = place("2024-07-02", WEEK)
    np.testing.assert_allclose(tuesday, [np.sin(angle), np.cos(angle)], atol=1e-6)


def test_every_year_begins_where_the_circle_does():
    day = 2 * np.pi / 365
    for year in range(1850, 2150, 7):
        assert abs(np.arctan2(*place(f"{year}-01-01", YEAR))) < 1.5 * day
        assert abs(np.arctan2(*place(f"{year}-04-02", YEAR)) - np.pi / 2) < 2 * day
