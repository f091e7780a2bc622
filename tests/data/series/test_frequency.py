"""Frequencies: how they are told from time stamps, and how times move by their steps."""

import json
import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError
from data.series.frequency import DAY, HOUR, WEEK, Frequency

MONTHS, QUARTERS, YEARS = Frequency(months=1), Frequency(months=3), Frequency(months=12)
FREQUENCIES = st.one_of(
    st.builds(Frequency, st.integers(1, 10**6)),
    st.builds(lambda n, end: Frequency(months=n, end=end), st.integers(1, 30), st.booleans()),
    st.builds(lambda n: Frequency(n * DAY, business=True), st.integers(1, 30)),
)
# From 1700 to 2200, at any second.
TIMES = st.integers(-8_500_000_000, 7_200_000_000)


def seconds(*stamps: str) -> np.ndarray:
    return np.array(stamps, "datetime64[s]").astype(np.int64)


def dates(times) -> list[str]:
    return [str(date) for date in np.asarray(times).astype("datetime64[s]").astype("datetime64[D]")]


def of_range(alias: str, start: str = "2019-01-01", periods: int = 40) -> np.ndarray:
    """Time stamps as pandas makes them."""
    index = pd.date_range(start, periods=periods, freq=alias)
    return index.to_numpy().astype("datetime64[s]").astype(np.int64)


@pytest.mark.parametrize(
    ("alias", "frequency", "season"),
    [
        ("s", Frequency(1), 1),
        ("15min", Frequency(900), 96),
        ("30min", Frequency(1800), 48),
        ("h", Frequency(HOUR), 24),
        ("7h", Frequency(7 * HOUR), 1),
        ("D", Frequency(DAY), 7),
        ("B", Frequency(DAY, business=True), 5),
        ("3B", Frequency(3 * DAY, business=True), 1),
        ("10", Frequency(10, index=True), 1),
        ("2D", Frequency(2 * DAY), 1),
        ("W", Frequency(WEEK), 52),
        ("MS", MONTHS, 12),
        ("ME", Frequency(months=1, end=True), 12),
        ("2MS", Frequency(months=2), 6),
        ("5MS", Frequency(months=5), 1),
        ("QS", QUARTERS, 4),
        ("QE", Frequency(months=3, end=True), 4),
        ("YS", YEARS, 1),
        ("2YE", Frequency(months=24, end=True), 1),
    ],
)
def test_a_frequency_is_found_by_its_alias_and_by_the_stamps_pandas_makes(alias, frequency, season):
    assert Frequency.parse(alias) == frequency
    assert frequency.alias == alias
    assert frequency.season == season
    times = np.arange(100, 500, 10) if frequency.index else of_range(alias)
    if alias != "3B":  # which are 3 and 5 days apart
        assert Frequency.infer(times, index=frequency.index) == frequency
    assert frequency.shift(times[0], np.arange(len(times))).tolist() == times.tolist()


def test_anchors_of_weeks_quarters_and_years_are_left_to_the_data():
    assert Frequency.parse("W-WED") == Frequency(WEEK)
    assert Frequency.parse("QS-FEB") == QUARTERS
    assert Frequency.parse("YE-JUN") == Frequency(months=12, end=True)
    assert Frequency.parse("1h30min") == Frequency(5400)


@pytest.mark.parametrize(
    "alias", ["bh", "C", "BMS", "SMS", "ms", "1.5s", "-1h", "0h", "M", "x", ""]
)
def test_an_alias_of_uneven_steps_or_of_none_is_refused_with_those_there_are(alias):
    with pytest.raises(DataError, match=r"--data.frequency '.*' is no frequency; name .* h, D, B"):
        Frequency.parse(alias)


def test_gaps_do_not_hide_the_frequency():
    times = of_range("MS", periods=24)
    assert Frequency.infer(np.delete(times, [3, 4, 5, 9, 17])) == MONTHS
    assert Frequency.infer(np.delete(of_range("h"), [1, 7, 8, 9])) == Frequency(HOUR)


def test_a_second_step_length_in_more_than_a_tenth_is_refused():
    hours = np.cumsum([0] + [1] * 27 + [2] * 3) * HOUR
    assert Frequency.infer(hours) == Frequency(HOUR)  # 3 of 30
    with pytest.raises(DataError) as caught:
        Frequency.infer(np.append(hours, hours[-1] + 2 * HOUR))
    assert str(caught.value) == (
        "time steps are 'h' apart (27 times) and '2h' apart (4 times, first at 1970-01-02 "
        "05:00:00); give series of one frequency, or say --data.frequency h, and 4 time steps that "
        "are absent are filled."
    )
    with pytest.raises(DataError, match=r"'QS' apart .* 'MS' apart .* --data.frequency MS,"):
        Frequency.infer(np.append(of_range("QS"), of_range("MS", "2029-01-01", 20)))


def test_one_or_two_gaps_are_no_second_frequency():
    assert Frequency.infer(np.array([0, 1, 2, 4, 5, 7]) * HOUR) == Frequency(HOUR)


def test_months_may_be_on_any_day_at_any_hour():
    assert Frequency.infer(of_range("MS") + 14 * DAY + 5 * HOUR) == MONTHS
    assert Frequency.infer(seconds("2019-04-05", "2020-04-05", "2021-04-05")) == YEARS


def test_four_weeks_are_no_month():
    times = np.arange(10) * 28 * DAY
    assert Frequency.infer(times) == Frequency(4 * WEEK)


def test_differences_between_series_do_not_count():
    one = seconds("2020-01-01", "2020-01-02", "2020-01-03")
    times = np.concatenate([one, one])
    assert Frequency.infer(times, np.array([0, 3, 6])) == Frequency(DAY)


def test_two_time_stamps_are_too_few_to_tell():
    with pytest.raises(DataError, match=r"2 time stamps are too few .*--data.frequency"):
        Frequency.infer(seconds("2020-01-01", "2020-01-02"))


def test_a_day_that_a_month_lacks_becomes_its_last():
    start = seconds("2020-01-31")
    assert dates(MONTHS.shift(start, np.array([0, 1, 2, 3, 13, -2]))) == [
        "2020-01-31",
        "2020-02-29",
        "2020-03-31",
        "2020-04-30",
        "2021-02-28",
        "2019-11-30",
    ]


def test_the_ends_of_months_stay_ends():
    start = seconds("2019-02-28")
    assert dates(Frequency(months=1, end=True).shift(start, np.arange(3))) == [
        "2019-02-28",
        "2019-03-31",
        "2019-04-30",
    ]


def test_times_between_two_steps_are_told():
    steps, on_grid = Frequency(HOUR).steps(0, np.array([0, HOUR, HOUR + 1, -HOUR]))
    assert steps.tolist() == [0, 1, 1, -1]
    assert on_grid.tolist() == [True, True, False, True]
    steps, on_grid = QUARTERS.steps(
        seconds("2020-01-15")[0], seconds("2020-04-15", "2020-04-16", "2020-05-15")
    )
    assert steps.tolist() == [1, 1, 1]
    assert on_grid.tolist() == [True, False, False]


@given(FREQUENCIES, TIMES, st.lists(st.integers(-300, 300), min_size=1, max_size=20))
def test_steps_are_those_that_a_time_was_shifted_by(frequency, start, shifts):
    start = frequency.shift(start, 0)
    times = frequency.shift(start, np.array(shifts))
    steps, on_grid = frequency.steps(start, times)
    assert on_grid.all()
    assert steps.tolist() == shifts


@given(FREQUENCIES, TIMES)
def test_shifted_times_ascend(frequency, start):
    assert (np.diff(frequency.shift(start, np.arange(-20, 20))) > 0).all()


@given(FREQUENCIES)
def test_a_frequency_survives_json_and_its_alias(frequency):
    assert Frequency(**json.loads(json.dumps(asdict(frequency)))) == frequency
    assert Frequency.parse(frequency.alias) == frequency


def test_days_without_weekends_are_business_days():
    holidays = np.delete(of_range("B", periods=60), [11, 29, 30])
    assert Frequency.infer(holidays) == Frequency(DAY, business=True)
    assert Frequency.infer(of_range("B", periods=12)) == Frequency(DAY)  # two gaps are none
    assert Frequency.infer(of_range("D", periods=40)) == Frequency(DAY)


def test_months_on_the_30th_are_on_the_last_day_of_february():
    times = seconds(*(f"2019-{month:02}-{28 if month == 2 else 30}" for month in range(1, 13)))
    frequency = Frequency.infer(times)
    assert frequency == Frequency(months=1, day=30)
    assert Frequency(months=1).anchored(times) == frequency
    assert dates(frequency.shift(times[1], np.arange(3))) == [
        "2019-02-28",
        "2019-03-30",
        "2019-04-30",
    ]
    assert frequency.steps(times[1], times[1:])[1].all()


def panel(*parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            [np.append(of_range("MS"), of_range("MS") + 14 * DAY)],
            r"at 2019-02-01\); give series of one frequency\.$",
        ),
        ([of_range("min", periods=200) + np.arange(200) * 7 % 5], "or round .* of 'min' before"),
        ([of_range("h", periods=100), of_range("D")], "there are series of 'h', 'D', which"),
        ([of_range("D")[[*range(0, 40, 2), *range(1, 40, 4)]]], "say --data.frequency D, and"),
        ([np.delete(of_range("B", periods=60), slice(4, None, 5))], "say --data.frequency B, and"),
        ([np.delete(of_range("ME", periods=60), slice(2, None, 3))], "--data.frequency ME, "),
    ],
)  # fmt: skip
def test_what_is_advised_about_uneven_steps_was_tried_on_them(parts, said):
    times, bounds = panel(*(np.sort(part) for part in parts))
    with pytest.raises(DataError, match=said) as caught:
        Frequency.infer(times, bounds)
    if "--data.frequency" in said:
        named = Frequency.parse(re.search(r"--data.frequency (\w+)", str(caught.value))[1])
        assert named.steps(times[0], times)[1].all()


@pytest.mark.parametrize("parts", [(0, 0), (1, 1), (-1, 0), (0, -1)])
def test_a_frequency_of_both_or_neither_is_refused(parts):
    with pytest.raises(DataError, match="seconds or months above 0"):
        Frequency(*parts)


def test_frequencies_agree_whatever_the_day_of_the_month():
    assert MONTHS.agrees(Frequency(months=1, end=True))
    assert not MONTHS.agrees(QUARTERS)
