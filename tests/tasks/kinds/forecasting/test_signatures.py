"""What a served forecaster is sent and answers, of models whose weights are those of the start."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from data.errors import DataError
from data.options import TimeSeries
from data.preprocessing import Preprocessor
from data.series.calendar import format_times, parse_times, shift
from data.series.windows import Windows, WindowSource
from tasks.forecasting import Forecasting
from tasks.kinds.forecasting.signatures import ForecasterSignatures
from zoo.configs import ForecasterConfig

SMALL = ForecasterConfig(window=4, horizon=3, layers=0)


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """Makes the training windows and the preprocessor of a table."""
    monkeypatch.chdir(tmp_path)

    def fit(columns: dict, config: ForecasterConfig = SMALL, **options):
        pd.DataFrame(columns).to_csv("a.csv", index=False)
        data = TimeSeries(train="a.csv", **options)
        train = WindowSource(data, config.window, config.horizon).splits(0).train
        Forecasting().preprocessor(config, train, data).save(Path("saved"))
        return train, Preprocessor.load(Path("saved"))  # as all but training have it

    return fit


def begun(preprocessor, config: ForecasterConfig = SMALL):
    """A model, and its served function."""
    model = Forecasting().model(config, preprocessor)
    return model, ForecasterSignatures(model, preprocessor).functions()["serving_default"]


def request(windows: Windows, names) -> dict[str, tf.Tensor]:
    records = windows.records()
    return {name: tf.constant(records[name]) for name in names}


def days(count: int, first: str = "2020-01-01") -> list[str]:
    return pd.date_range(first, periods=count).strftime("%Y-%m-%d").tolist()


@pytest.mark.parametrize(("start", "step"), [(10**12, 1000), (1.7e9, 10), (20_000_001, 1)])
def test_a_level_that_float32_rounds_is_taken_off_first_and_given_back(fitted, start, step):
    steps = np.arange(200)
    cells = {"time": days(200), "x": start + step * steps, "c": start + steps % 7}
    windows, preprocessor = fitted(cells, targets="x", covariates="c")
    series = windows.series
    assert (np.diff(series.values[:, 0]) == step).all()
    naive = (windows.truth() - windows.naive()) / preprocessor.target_deviation
    inside = steps[: round(200 * 0.7)]
    assert np.square(naive).mean() == pytest.approx((1 + 4 + 9) / 3 / inside.var(), rel=1e-4)
    inputs, _ = windows.batches(preprocessor).collate(tf.range(2, dtype=tf.int64))
    np.testing.assert_array_equal(np.diff(inputs["history"][..., 0]), np.full((2, 3), step))
    assert f"x by up to {np.spacing(np.float32(start)) / 2:,g}" in str(windows.facts)
    if step != 10:
        return
    _, serve = begun(preprocessor)
    record = request(windows, serve.structured_input_signature[1])
    assert record["history"].dtype == tf.float32
    answer = serve(**record)["forecast"].numpy()
    np.testing.assert_allclose(answer[:, 0, 0], start + step * (3 + windows.rows(0, 1)[:, 0]), 1e-5)


def test_numbers_that_float32_holds_are_left_as_they_are(fitted):
    cells = {"time": days(50), "x": 1000.0 + np.arange(50), "c": [0.1] * 50}
    windows, preprocessor = fitted(cells, targets="x", covariates="c")
    assert windows.series.level == [0, 0] and not preprocessor.level.any()
    assert windows.facts == {"frequency": "D", "season": 7}


def test_series_that_float32_rounds_for_they_are_far_from_others_are_said(fitted):
    far, near = [10**9 + n % 7 for n in range(40)], [n % 7 for n in range(40)]
    rows = {"time": days(40) * 2, "id": ["a"] * 40 + ["b"] * 40, "x": far + near}
    windows, _ = fitted(rows, series_column="id", targets="x")
    assert windows.facts["float32 rounds"] == "x of 1 series by up to 32"


def test_static_numbers_are_scaled_before_they_are_rounded(fitted):
    rows = {"time": days(40) * 2, "id": ["a"] * 40 + ["b"] * 40, "x": [*range(40)] * 2}
    rows["size"] = [10**12] * 40 + [10**12 + 2] * 40
    _, preprocessor = fitted(rows, series_column="id", static="size", targets="x")
    cells = tf.constant([["1000000000000"], ["1000000000002"]])
    assert preprocessor.encode_static(cells).numpy().tolist() == [[-1], [1]]


@pytest.mark.parametrize("level", [0, 10**9])
def test_forecasts_that_cant_be_negative_are_not(fitted, level):
    sold = np.arange(60)[::-1] + level
    config = ForecasterConfig(window=4, horizon=3, layers=0, non_negative=True)
    _, preprocessor = fitted({"time": days(60), "x": sold}, config)
    model, serve = begun(preprocessor, config)
    assert preprocessor.level.any() == (level > 0)
    history = tf.constant([[[-5.0]] * 4, [[7.0 + level]] * 4])
    answer = serve(history=history, time=tf.constant(["2020-03-01"] * 2))
    assert answer["forecast"].numpy()[0].tolist() == [[0]] * 3
    assert answer["quantiles"].numpy().min() == 0
    assert answer["forecast"].numpy()[1].min() >= level
    past = preprocessor({"history": history, "time": tf.constant(["2020-03-01"] * 2)})
    assert model(past, training=True).numpy()[0, :, 0, 0].max() < -level  # so that it can be mended


# Time


def local_times(
    frequency: str, count: int, zone: str = "Europe/Berlin", start: str = "2020-02-01"
) -> list[str]:
    """Time stamps as pandas writes them, in Berlin over the change of clocks on 29 March."""
    return [str(time) for time in pd.date_range(start, periods=count, freq=frequency, tz=zone)]


BERLIN = "Europe/Berlin"
CLOCKED = ForecasterConfig(window=4, horizon=3, layers=1, units=2)


def next_times(preprocessor, text: str) -> list[str]:
    """The times that a served model answers for a history that ends at one."""
    last = parse_times(tf.constant([[text]]), preprocessor.clock)
    times = shift(last, tf.range(1, 4, dtype=tf.int64), preprocessor.frequency)
    return [text.decode() for text in format_times(times, preprocessor.clock).numpy()[0]]


@pytest.mark.parametrize("zone", [None, BERLIN, "Asia/Shanghai"])
@pytest.mark.parametrize(
    ("frequency", "count", "alias"),
    [("D", 200, "D"), ("W-MON", 80, "W"), ("MS", 60, "MS"), ("ME", 60, "ME"), ("B", 120, "B")],
)
def test_steps_of_days_and_more_stay_at_local_midnight(fitted, frequency, count, alias, zone):
    # Shanghai's clocks are never changed, and are not told of.
    place, told = (zone, None) if zone == "Asia/Shanghai" else (BERLIN, zone)
    times = local_times(frequency, count, place)
    windows, preprocessor = fitted({"time": times, "x": np.arange(count)}, time_zone=told)
    assert (windows.series.frequency.alias, windows.series.missing) == (alias, {})
    local = [time[:19] for time in times]
    assert windows.forecast_times()[0] == local[4:7]
    last = count // 2
    for text in (times[last], local[last], times[last].replace(" ", "T")):
        assert next_times(preprocessor, text) == local[last + 1 : last + 4]
    pd.DataFrame({"time": times[-9:], "x": range(9)}).to_csv("b.csv", index=False)
    assert WindowSource(TimeSeries(), 4, 3).read("b.csv", preprocessor).series.missing == {}


def test_days_of_a_winter_go_on_in_summer(fitted):
    times = local_times("D", 100, start="2020-01-01")
    _, preprocessor = fitted({"time": times[:80], "x": range(80)})
    pd.DataFrame({"time": times, "x": range(100)}).to_csv("b.csv", index=False)
    series = WindowSource(TimeSeries(), 4, 3).read("b.csv", preprocessor).series
    assert (series.frequency.alias, series.missing, len(series.times)) == ("D", {}, 100)


@pytest.mark.parametrize("zone", [None, "America/Sao_Paulo"])
def test_a_day_that_begins_at_one_oclock_is_a_day(fitted, zone):
    midnights = pd.date_range("2018-10-01", periods=60)
    days = midnights.tz_localize("America/Sao_Paulo", nonexistent="shift_forward")
    assert str(days[34]) == "2018-11-04 01:00:00-02:00"
    windows, _ = fitted({"time": days.astype(str), "x": range(60)}, time_zone=zone)
    assert (windows.series.frequency.alias, windows.series.missing) == ("D", {})
    dates = days.strftime("%Y-%m-%d")
    windows, _ = fitted({"time": dates, "x": range(60)}, time_zone="America/Sao_Paulo")
    assert windows.series.missing == {}


def test_parquet_names_its_zone(fitted):
    days = pd.date_range("2020-03-01", periods=60, freq="D", tz=BERLIN)
    pd.DataFrame({"time": days, "x": range(60)}).to_parquet("a.parquet")
    windows = WindowSource(TimeSeries(train="a.parquet"), 4, 3).splits(0).train
    assert windows.series.frequency.alias == "D"
    assert windows.facts["time zone"] == BERLIN


def test_a_model_keeps_the_zone_and_the_unit_it_was_trained_on(fitted):
    _, preprocessor = fitted({"time": local_times("D", 60), "x": range(60)}, time_zone=BERLIN)
    for asked in (TimeSeries(time_zone="Asia/Tokyo"), TimeSeries(time_zone="UTC")):
        with pytest.raises(DataError, match=r"--data.time_zone .*: the model was trained on Eur"):
            WindowSource(asked, 4, 3).read("a.csv", preprocessor)
    _, preprocessor = fitted({"time": range(60), "x": range(60)})
    with pytest.raises(DataError, match=r"--data.time_unit s: the model was trained on index;"):
        WindowSource(TimeSeries(time_unit="s"), 4, 3).read("a.csv", preprocessor)


def test_a_time_that_clocks_skip_is_located(fitted):
    times = pd.date_range("2020-03-28", periods=60, freq="h").astype(str)
    with pytest.raises(DataError) as caught:
        fitted({"time": times, "x": range(60)}, time_zone=BERLIN)
    assert (
        "a.csv, row 28: column 'time' is 2020-03-29 02:00:00, which clocks in Europe/Berlin skip"
    ) in str(caught.value)
    with pytest.raises(DataError, match=r"'Berln' is no time zone; did you mean Europe/Berlin\?"):
        TimeSeries(time_zone="Berln")


def test_hours_of_a_zone_go_on_over_changes_of_its_clocks_and_know_its_time_of_day(fitted):
    times = local_times("h", 24 * 12, start="2020-10-20")
    naive = [time[:19] for time in times]
    assert len(set(naive)) == len(naive) - 1  # 02:00 is there twice
    wave = [int(time[11:13]) for time in times]
    windows, preprocessor = fitted({"time": naive, "x": wave}, CLOCKED, time_zone=BERLIN)
    _, serve = begun(preprocessor, CLOCKED)
    assert windows.series.missing == {}
    assert windows.series.frequency.alias == "h"
    assert windows.facts["time zone"] == BERLIN
    change = times.index("2020-10-25 02:00:00+01:00")
    window = windows.take(windows.origins == change)
    record = request(window, serve.structured_input_signature[1])
    answer = [text.decode() for text in serve(**record)["time"].numpy()[0]]
    assert answer == times[change : change + 3]
    assert window.forecast_times()[0] == times[change : change + 3]
    for row in range(change - 4, change + 8):
        window = windows.take(windows.origins == row + 1)
        inputs, _ = window.batches(preprocessor).collate(tf.zeros([1], tf.int64))
        angle = 2 * np.pi * wave[row] / 24
        np.testing.assert_allclose(
            inputs["past"][0, -1, :2], [np.sin(angle), np.cos(angle)], atol=1e-5
        )
        asked = preprocessor(request(window, preprocessor.raw()))
        np.testing.assert_allclose(asked["past"], inputs["past"], atol=1e-6)
    found = preprocessor(
        {"time": tf.constant(["2020-10-24T22:00Z"]), "history": tf.zeros([1, 4, 1])}
    )
    np.testing.assert_allclose(found["past"][0, -1, :2], [0, 1], atol=1e-6)


def test_an_index_goes_on_as_one(fitted):
    cells = {"time": np.arange(1200), "x": np.arange(1200) % 7}
    windows, preprocessor = fitted(cells, CLOCKED)
    assert preprocessor.clock.unit == "index" and not preprocessor.calendar
    assert windows.facts["frequency"] == "1"
    assert windows.forecast_times()[0] == [4, 5, 6]
    assert preprocessor.raw().keys() == {"history"}
    pd.DataFrame(cells).tail(200).to_csv("tail.csv", index=False)
    source = WindowSource(TimeSeries(train="a.csv"), 4, 3)
    [records] = source.requests("tail.csv", preprocessor)
    assert records.columns["time"].tolist() == [[1200, 1201, 1202]]
    assert source.read("tail.csv", preprocessor).last_times()[0] == 1003
    pd.DataFrame({"time": days(20), "x": range(20)}).to_csv("dates.csv", index=False)
    with pytest.raises(
        DataError, match="row 2: column 'time' is a date, and the model was trained"
    ):
        source.read("dates.csv", preprocessor)


def test_years_stay_years_whatever_a_later_table_looks_like(fitted):
    cells = {"time": np.arange(1800, 2000), "x": np.arange(200) % 7}
    windows, preprocessor = fitted(cells)
    assert windows.series.frequency.alias == "YS"
    pd.DataFrame({"time": [1700, 1701, 1702, 1703], "x": 1}).to_csv("b.csv", index=False)
    [records] = WindowSource(TimeSeries(train="a.csv"), 4, 3).requests("b.csv", preprocessor)
    assert records.columns["time"][0][0] == "1704-01-01 00:00:00"
    pd.DataFrame({"time": [1, 2, 3, 4], "x": 1}).to_csv("c.csv", index=False)
    with pytest.raises(DataError, match="row 2: column 'time' is 1, and no year, month or day"):
        next(WindowSource(TimeSeries(train="a.csv"), 4, 3).requests("c.csv", preprocessor))


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (
            45_292,
            "are numbers from .*; if these are days as Excel counts them, from 2024-01-01 on, say",
        ),
        (1959 + 1 / 12, "are years with a fraction, from 1959.0833 to .*; write dates such as"),
    ],
)
def test_numbers_that_may_be_several_things_are_refused(fitted, first, said):
    steps = np.arange(40) * (1 if first > 2000 else 1 / 12)
    with pytest.raises(DataError, match=f"a.csv: time stamps in column 'time' {said}"):
        fitted({"time": first + steps, "x": range(40)})


@pytest.mark.parametrize(
    ("unit", "first", "frequency", "last"),
    [
        ("excel", 45_292, "D", "2024-01-04"),
        ("index", 45_292, "1", "45295"),
        ("index", 1000, "1", "1003"),
        ("auto", 1000, "1", "1003"),
        ("s", 1000, "s", "1970-01-01 00:16:43"),
        ("date", 1000, None, None),
    ],
)
def test_numbers_are_what_the_option_says(fitted, unit, first, frequency, last):
    cells = {"time": first + np.arange(200), "x": np.arange(200) % 7}
    if frequency is None:
        with pytest.raises(DataError, match="row 2: column 'time' is 1000, and no year"):
            fitted(cells, time_unit=unit)
        return
    windows, _ = fitted(cells, time_unit=unit)
    assert windows.series.frequency.alias == frequency
    assert windows.records()["time"][0] == last
