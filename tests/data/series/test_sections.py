"""Time series from tables: what is read, filled and cut, and what is said about bad data."""

import datetime
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.options import SAMPLES, TimeSeries
from data.series.clock import Clock
from data.series.frequency import DAY, HOUR, Frequency
from data.series.sections import Columns, folds, read_sections, read_series, split_series, whole
from data.series.stamps import Stamps, stamp_text

CO2 = str(SAMPLES / "co2.csv")
SHOPS = (
    "time,shop,sales,price,region\n"
    "2020-01-02,b,20,2,south\n"
    "2020-01-01,a,1,1,north\n"
    "2020-01-01,b,10,2,south\n"
    "2020-01-03,b,30,2,south\n"
    "2020-01-02,a,2,1,north\n"
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str) -> str:
        Path(name).write_text(content)
        return name

    return write_file


def read(path, columns=None, frequency="auto", future=False, **options):
    """Reads with a frequency that is named, or that of a trained model."""
    trained = frequency if isinstance(frequency, Frequency) else None
    asked = TimeSeries(**options, frequency="auto" if trained else frequency)
    return read_series(asked, path, columns=columns, frequency=trained, future=future)


def message(path, **options) -> str:
    """What reading a file says is wrong, in one line."""
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def stamps(times) -> list[str]:
    return [stamp_text(time) for time in times]


def days(count: int, first: str = "2020-01-01") -> list[str]:
    return [str(np.datetime64(first) + day) for day in range(count)]


def table(columns: dict[str, list]) -> str:
    """A CSV file."""
    return pd.DataFrame(columns).to_csv(index=False)


def spans(sections) -> list[tuple[str, str] | None]:
    parts = (sections.train, sections.validation, sections.test)
    return [part and (stamp_text(part.first), stamp_text(part.end)) for part in parts]


# What is read


def test_rows_in_any_order_become_one_series_in_the_order_of_time(write):
    path = write("a.csv", "time,x\n2020-01-03,3\n2020-01-01,1\n2020-01-02,2\n")
    series = read(path)
    assert series.values.tolist() == [[1], [2], [3]]
    assert series.values.dtype == np.float32
    assert stamps(series.times) == days(3)
    assert (series.bounds.tolist(), series.names) == ([0, 3], [""])
    assert series.frequency == Frequency(DAY)
    assert (series.missing, series.skipped, series.source) == ({}, 0, "a.csv")


def test_a_long_table_holds_several_series_one_after_another(write):
    options = {"series_column": "shop", "known": "price", "static": ["region"]}
    series = read(write("a.csv", SHOPS), **options)
    assert series.columns == Columns(("sales",), (), ("price",), ("region",))
    assert series.names == ["b", "a"]
    assert series.bounds.tolist() == [0, 3, 5]
    assert series.values.tolist() == [[10, 2], [20, 2], [30, 2], [1, 1], [2, 1]]
    assert series.static.tolist() == [["south"], ["north"]]


def test_several_files_are_read_as_one(write):
    write("b.csv", "time,x\n2020-01-01,1\n2020-01-02,2\n")
    write("a.csv", "time,x\n2020-01-03,3\n")
    series = read("*.csv")
    assert series.values[:, 0].tolist() == [1, 2, 3]
    assert series.source == "a.csv and 1 more file"


def test_csv_tsv_jsonl_and_parquet_give_the_same_series(write):
    frame = pd.DataFrame({"time": days(3), "x": [1.5, None, 3.0], "y": [4, 5, 6]})
    frame.to_csv("a.csv", index=False)
    frame.to_csv("a.tsv.gz", sep="\t", index=False)
    lines = [json.dumps(row) for row in frame.replace({np.nan: None}).to_dict("records")]
    write("a.jsonl", "\n".join(lines))
    frame.assign(time=pd.to_datetime(frame.time)).to_parquet("a.parquet")
    frame.assign(time=pd.to_datetime(frame.time).dt.date).to_parquet("dates.parquet")
    for path in sorted(map(str, Path().iterdir())):
        series = read(path, fill="interpolate")
        assert series.values.tolist() == [[1.5, 4], [2.25, 5], [3, 6]], path
        assert stamps(series.times) == days(3), path
        assert series.missing == {"x": 1}, path


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2016-07-01 00:00:00", "2016-07-01 01:00"], ["2016-07-01", "2016-07-01 01:00:00"]),
        (["2016-07-01T00:00Z", "2016-07-01T00:00+02:00"], ["2016-07-01", "2016-06-30 22:00:00"]),
        (["2016-07", " 2016-08 "], ["2016-07-01", "2016-08-01"]),
        (["2016", "2017"], ["2016-01-01", "2017-01-01"]),
        ([2016, 2017.0], ["2016-01-01", "2017-01-01"]),
        ([201607, "201608"], ["2016-07-01", "2016-08-01"]),
        ([20160701, 20160702], ["2016-07-01", "2016-07-02"]),
        ([2016070113, 2016070200], ["2016-07-01 13:00:00", "2016-07-02"]),
        ([201607011305, 201607020000], ["2016-07-01 13:05:00", "2016-07-02"]),
        ([20160701130501, 20160702000000], ["2016-07-01 13:05:01", "2016-07-02"]),
        (
            ["2016-07-01 13:00:00 UTC", "2016-07-01 14:00 GMT"],
            ["2016-07-01 13:00:00", "2016-07-01 14:00:00"],
        ),
        ([1780010100, 1780010111], ["2026-05-28 23:15:00", "2026-05-28 23:15:11"]),
        ([1467331200, "1467334800.0"], ["2016-07-01", "2016-07-01 01:00:00"]),
        ([1467331200000, 1467334800000], ["2016-07-01", "2016-07-01 01:00:00"]),
        ([1467331200 * 10**9], ["2016-07-01"]),
        ([0, 100_000_000, -3600], ["1970-01-01", "1973-03-03 09:46:40", "1969-12-31 23:00:00"]),
        (["2016-Q3", "2016q4", "2017Q1"], ["2016-07-01", "2016-10-01", "2017-01-01"]),
        (["2016-W26", "2016W27", "2016-W28-2"], ["2016-06-27", "2016-07-04", "2016-07-12"]),
        ([datetime.date(2016, 7, 1), b"2016-07-02"], ["2016-07-01", "2016-07-02"]),
    ],
)
def test_time_stamps_are_texts_dates_years_or_a_count_since_1970(cells, expected):
    found, one = Stamps.of(cells), np.zeros(len(cells), np.int64)
    seconds, odd = Clock.told(found, one).seconds(found, one)
    assert (stamps(seconds), found.problems, odd) == (expected, {}, {})


@pytest.mark.parametrize(
    ("frequency", "first"),
    [("D", "2020-01-31"), ("ME", "2020-01-31"), ("h", "2020-01-30 18:30:00")],
)
def test_zoned_time_stamps_of_parquet_are_local_dates_or_hours_of_utc(write, frequency, first):
    times = pd.date_range("2020-01-31", periods=30, freq=frequency, tz="+05:30")
    pd.DataFrame({"time": times, "x": range(30)}).to_parquet("a.parquet")
    series = read("a.parquet")
    assert (series.frequency.alias, stamps(series.times)[0]) == (frequency, first)


@pytest.mark.parametrize("zone", ["Etc/GMT-3", "Asia/Kathmandu", "Etc/UTC"])
def test_steps_may_be_of_any_zone(write, zone):
    write("a.csv", table({"time": days(40), "x": range(40)}))
    assert read("a.csv", time_zone=zone).frequency.alias == "D"


def test_without_targets_all_columns_of_numbers_are(write):
    header = "Unnamed: 0,time,x,note,open,y,holiday\n"
    lines = [f"{day},2020-01-0{day},{day},fine,true,,0\n" for day in (1, 2, 3)]
    path = write("a.csv", header + "".join(lines).replace(",,", ",7,"))
    assert read(path, known="holiday").columns == Columns(("x", "y"), (), ("holiday",))


def test_values_are_in_the_order_of_the_options(write):
    path = write("a.csv", table({"time": days(3), "a": [1] * 3, "b": [2] * 3, "c": [3] * 3}))
    series = read(path, targets="c, b", covariates=["a"])
    assert series.columns == Columns(("c", "b"), ("a",))
    assert series.values[0].tolist() == [3, 2, 1]


def test_true_and_false_are_numbers_where_they_are_asked_for(write):
    path = write("a.csv", table({"time": days(3), "x": [1, 2, 3], "open": [True, False, True]}))
    assert read(path, known="open").values[:, 1].tolist() == [1, 0, 1]


def test_the_month_ends_of_a_series_stay_ends(write):
    times = ["2019-01-31", "2019-02-28", "2019-04-30"]
    series = read(write("a.csv", table({"time": times, "x": [1, 2, 4]})))
    assert stamps(series.times) == ["2019-01-31", "2019-02-28", "2019-03-31", "2019-04-30"]
    assert series.frequency.alias == "ME"


def test_the_sample_has_five_months_that_were_not_measured():
    series = read_series(TimeSeries(), "sample", CO2)
    assert len(series.times) == 746
    assert stamps(series.times[[0, -1]]) == ["1958-03-01", "2020-04-01"]
    assert (series.columns.targets, series.missing) == (("co2",), {"time": 5, "co2": 5})
    assert series.frequency.season == 12


# What is missing


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("forward", [2, 2, 2, 2, 5, 5]),
        ("interpolate", [2, 2, 3, 4, 5, 5]),
        ("zero", [0, 2, 0, 0, 5, 0]),
    ],
)
def test_gaps_are_filled_as_asked_and_counted(write, fill, expected):
    cells = ["", "2", "NaN", "5", "inf"]
    times = [day for day in days(6) if day != "2020-01-04"]
    path = write("a.csv", table({"time": times, "x": cells, "y": range(5)}))
    series = read(path, fill=fill, frequency="D")
    assert series.values[:, 0].tolist() == expected
    assert series.missing == {"time": 1, "x": 4, "y": 1}
    assert series.fill == fill
    if fill == "zero":  # who says that nothing means 0 has measured it
        assert series.measured.all()
        return
    assert series.measured[:, 0].tolist() == [False, True, False, False, True, False]
    assert series.measured[:, 1].tolist() == [True, True, True, False, True, True]
    np.testing.assert_equal(series.truth[:, 0], [np.nan, 2, np.nan, np.nan, 5, np.nan])


@pytest.mark.parametrize(
    ("fill", "settled"),
    [
        ("forward", [False, True, True, False, False, True]),
        ("interpolate", [False, True, True, False, False, True]),
        ("zero", [True] * 6),
    ],
)
def test_what_is_filled_from_later_values_is_not_settled(write, fill, settled):
    rows = {"time": days(3) * 2, "id": list("aaabbb"), "x": ["", 1, 2, "", "", 5]}
    series = read(write("a.csv", table(rows)), series_column="id", fill=fill)
    assert series.settled.tolist() == settled


def test_a_gap_is_settled_unless_a_line_is_drawn_over_it(write):
    path = write("a.csv", table({"time": days(4), "x": [1, 2, "", 4], "price": [1, "", 3, 4]}))
    for fill, settled in (("forward", [True] * 4), ("interpolate", [True, True, False, True])):
        assert read(path, fill=fill, known="price").settled.tolist() == settled


def test_a_series_is_never_filled_from_another(write):
    lines = ["time,id,x", "2020-01-01,a,1", "2020-01-02,a,", "2020-01-01,b,", "2020-01-02,b,2"]
    lines += ["2020-01-03,a,3", "2020-01-03,b,3"]
    path = write("a.csv", "\n".join(lines))
    for fill, second in (("forward", 1), ("interpolate", 2)):
        series = read(path, series_column="id", fill=fill)
        assert series.values[:, 0].tolist() == [1, second, 3, 2, 2, 3]


def test_a_gap_is_refused_where_none_may_be(write):
    path = write("a.csv", table({"time": [days(9)[i] for i in (0, 1, 2, 5, 8)], "x": range(5)}))
    assert "a.csv: no row for 2020-01-04 (4 time steps are absent)" in message(path, fill="error")
    path = write("b.csv", table({"time": days(5), "x": [1, "", 3, "nan", 5]}))
    assert "b.csv, row 3: column 'x' has no finite number (2 values are missing)" in message(
        path, fill="error"
    )
    assert read(write("c.csv", table({"time": days(3), "x": range(3)})), fill="error").missing == {}


def test_a_series_with_no_value_to_fill_from_is_refused(write):
    lines = ["time,id,x", *(f"{day},{name},{x}" for day in days(2) for name, x in ("a1", "b "))]
    path = write("a.csv", "\n".join(lines))
    assert "column 'x' has no number in any row of series 'b'" in message(path, series_column="id")
    assert read(path, series_column="id", fill="zero").values[:, 0].tolist() == [1, 1, 0, 0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_shuffled_rows_with_gaps_become_what_pandas_makes_of_them(tmp_path_factory, data):
    alias = data.draw(st.sampled_from(["15min", "h", "D", "W-WED", "MS", "ME", "QS", "YE"]))
    parts = {}
    for name in ("a", "b")[: data.draw(st.integers(1, 2))]:
        index = pd.date_range("1999-11-03", periods=data.draw(st.integers(1, 30)), freq=alias)
        cells = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
        column = data.draw(st.lists(cells, min_size=len(index), max_size=len(index)))
        part = pd.DataFrame({"x": pd.Series(column, index, dtype="float32"), "y": 1.0})
        part.iloc[0, 0] = 0.0
        absent = data.draw(st.sets(st.integers(1, max(1, len(index) - 2))))
        kept = [i for i in range(len(index)) if i not in absent or i == len(index) - 1]
        parts[name] = part.iloc[kept].rename_axis("time")
    rows = pd.concat(parts, names=["id"]).reset_index()
    rows = rows.iloc[data.draw(st.permutations(range(len(rows))))]
    path = tmp_path_factory.mktemp("rows") / "a.csv"
    rows.to_csv(path, index=False)

    series = read(str(path), series_column="id", frequency=alias)

    expected = {name: part.asfreq(alias) for name, part in parts.items()}
    for number, name in enumerate(series.names):
        own = slice(*series.bounds[number : number + 2])
        regular = expected[name]
        times = regular.index.to_numpy().astype("datetime64[s]").astype(np.int64)
        assert series.times[own].tolist() == times.tolist()
        np.testing.assert_array_equal(series.values[own], regular.ffill().to_numpy(np.float32))
    whole = pd.concat(expected)
    counts = {"time": int(whole.y.isna().sum()), **whole.isna().sum().to_dict()}
    assert series.missing == {column: count for column, count in counts.items() if count}


# Steps to forecast

FUTURE = "time,x,c,price\n2020-01-01,1,1,5\n2020-01-02,2,2,5\n2020-01-03,,9,6\n2020-01-04,,,7\n"
ROLES = {"targets": "x", "covariates": "c", "known": "price"}


def test_last_rows_without_targets_are_the_future_where_it_is_asked_for(write):
    path = write("a.csv", FUTURE)
    series = read(path, future=True, **ROLES)
    np.testing.assert_equal(series.values[:, :2], [[1, 1], [2, 2], [np.nan] * 2, [np.nan] * 2])
    assert series.values[:, 2].tolist() == [5, 5, 6, 7]
    assert series.missing == {}
    assert series.measured.tolist() == [[True] * 3] * 2 + [[False, False, True]] * 2


@pytest.mark.parametrize("fill", ["error", "forward", "interpolate", "zero"])
def test_the_future_is_neither_trained_on_nor_a_part_of_the_test_part(write, fill):
    path = write("a.csv", FUTURE)
    series = read(path, fill=fill, **ROLES)
    assert series.values[:, 0].tolist() == [1, 2]
    assert series.missing == {}
    assert stamp_text(whole(series).end) == "2020-01-03"
    known = table({"time": days(30), "x": [*range(20), *[""] * 10], "price": range(30)})
    sections = read_sections(TimeSeries(train=write("b.csv", known), known="price", fill=fill))
    assert spans(sections)[2] == ("2020-01-17", "2020-01-21")


def test_a_step_that_is_absent_in_the_future_is_filled_with_what_is_known(write):
    path = write("a.csv", FUTURE.replace("2020-01-03,,9,6\n", ""))
    series = read(path, future=True, frequency=Frequency(DAY), **ROLES)
    assert series.values[:, 2].tolist() == [5, 5, 5, 7]
    assert np.isnan(series.values[2:, :2]).all()
    assert series.missing == {"time": 1, "price": 1}


def test_the_future_ends_with_the_first_row_that_lacks_a_known_column(write):
    rows = FUTURE + "2020-01-05,,,\n2020-01-06,,,8\n"
    series = read(write("a.csv", rows), future=True, **ROLES)
    assert series.values[:, 2].tolist() == [5, 5, 6, 7]
    assert series.missing == {}
    assert series.holes == {"": "a.csv, row 6: column 'price' has no finite number"}
    gone = read(write("b.csv", rows.replace("2020-01-04,,,7\n", "")), future=True, **ROLES)
    assert gone.values[:, 2].tolist() == [5, 5, 6]  # nothing is made up before the hole
    assert read(write("a.csv", rows), fill="zero", **ROLES).values[:, 0].tolist() == [1, 2]


def test_each_series_has_its_own_future(write):
    lines = ["time,id,x", *(f"{day},a,{x}" for day, x in zip(days(3), "1  ", strict=True))]
    lines += [f"{day},b,{x}" for day, x in zip(days(3), "123", strict=True)]
    series = read(write("a.csv", "\n".join(lines)), series_column="id", future=True)
    np.testing.assert_equal(series.values[:, 0], [1, np.nan, np.nan, 1, 2, 3])


# What is wrong


def test_a_time_stamp_that_cant_be_read_is_located_or_skipped(write):
    times = [*days(3), "05/01/2020", "now", ""]
    path = write("a.csv", table({"time": times, "x": range(6)}))
    said = message(path)
    assert "a.csv, row 5: column 'time' is '05/01/2020', not a time stamp such as 2016-07" in said
    assert "and 2 more bad rows" in said
    series = read(path, on_bad_row="skip")
    assert (series.values[:, 0].tolist(), series.skipped) == ([0, 1, 2], 3)


def test_a_fraction_of_a_second_is_refused(write):
    for cells in (["2020-01-01 00:00:00.5"], [1467331200123], [0.5]):
        path = write("a.csv", table({"time": cells, "x": [1]}))
        assert "a.csv, row 2: column 'time' has a fraction of a second" in message(path)


def test_a_time_stamp_that_is_there_twice_is_located_twice(write):
    path = write("a.csv", table({"time": [*days(3), days(3)[1]], "x": range(4)}))
    said = message(path)
    assert "a.csv, row 5: 2020-01-02 is in a.csv, row 3 already; leave" in said
    assert "--data.series_column" in said
    path = write("b.csv", SHOPS + "2020-01-02,a,2,1,north\n")
    assert "b.csv, row 7: 2020-01-02 of series 'a' is in b.csv, row 6" in message(
        path, series_column="shop", static="region"
    )


def test_a_column_that_is_not_there_is_told_with_those_that_are(write):
    path = write("a.csv", "date,OT,HUFL\n2020-01-01,1,2\n")
    said = message(path, time_column="date", targets="ot,HUFL")
    assert "a.csv: no column 'ot'" in said
    said = message(path, time_column="date", targets=["HUFT"])
    assert "no column 'HUFT' (did you mean 'HUFL'?); the columns are: date, OT, HUFL." in said
    assert "--data.targets" in said
    assert "Name yours with --data.time_column" in message(path)
    assert "no column 'shop'" in message(path, time_column="date", series_column="shop")


def test_columns_of_a_trained_model_must_be_there(write):
    path = write("a.csv", table({"time": days(3), "x": range(3), "y": range(3)}))
    assert read(path, columns=Columns(("y",))).values.shape == (3, 1)
    assert "no column 'price'" in message(path, columns=Columns(("y",), known=("price",)))


def test_a_table_without_numbers_is_refused(write):
    path = write("a.csv", "time,note\n2020-01-01,fine\n")
    assert "a.csv: no column of numbers to forecast; the columns are: time, note." in message(path)
    assert "no column of numbers" in message(write("b.csv", "time\n2020-01-01\n"))


def test_a_cell_that_is_no_number_is_located_or_leaves_a_gap(write):
    path = write("a.csv", 'time,x\n2020-01-01,1\n2020-01-02,"12,5"\n2020-01-03,3\n2020-01-04,4\n')
    assert "a.csv, row 3: column 'x' is '12,5', not a number (decimals have a point)" in message(
        path
    )
    series = read(path, on_bad_row="skip", frequency="D")
    assert series.values[:, 0].tolist() == [1, 1, 3, 4]
    assert (series.skipped, series.missing) == (1, {"time": 1, "x": 1})


def test_numbers_beyond_what_float32_holds_are_missing(write):
    cells = [1, 10**400, 1e39, 2]
    path = write(
        "a.jsonl",
        "\n".join(json.dumps({"time": day, "x": x}) for day, x in zip(days(4), cells, strict=True)),
    )
    assert read(path).values[:, 0].tolist() == [1, 1, 1, 2]


def test_a_column_without_any_number_is_refused(write):
    path = write("a.csv", table({"time": days(3), "x": range(3), "y": [""] * 3}))
    for options in ({}, {"targets": "x", "known": "y"}):
        assert "a.csv: column 'y' has no number in any row; leave it out" in message(
            path, **options
        )
    assert read(path, targets="x").missing == {}


def test_a_time_stamp_between_two_steps_is_located(write):
    times = ["2020-01-01 00:00", "2020-01-01 01:00", "2020-01-01 01:30", "2020-01-01 02:00"]
    times += [f"2020-01-01 {hour:02}:00" for hour in range(3, 9)] + ["2020-01-01 08:45"]
    said = message(write("a.csv", table({"time": times, "x": range(11)})))
    assert "a.csv, row 4: 2020-01-01 01:30:00 is not a whole number of steps of 'h' after" in said
    assert said.endswith("2020-01-01 (2 such rows); correct them.")
    times = [f"2020-01-01 {hour:02}:00" for hour in range(9)] + ["2020-01-01 08:30"]
    said = message(write("b.csv", table({"time": times, "x": range(10)})))
    assert "; correct them, or say --data.frequency 30min, and 8 time steps that are" in said


def test_a_time_stamp_of_another_century_is_told_by_the_gap(write):
    times = [*(f"2020-01-01 {hour:02}:00" for hour in range(4)), "2120-01-01 04:00"]
    said = message(write("a.csv", table({"time": times, "x": range(5)})))
    assert "a.csv, row 6: 2120-01-01 04:00:00 leaves a gap after a.csv, row 5" in said


def test_a_frequency_that_the_model_was_not_trained_on_is_refused(write):
    path = write("a.csv", table({"time": days(4), "x": range(4)}))
    said = message(path, frequency=Frequency(HOUR))
    assert "a.csv: time steps are 'D' apart, and the model was trained on 'h'" in said
    short = write("b.csv", table({"time": days(2), "x": range(2)}))
    assert read(short, frequency=Frequency(DAY)).values.shape == (2, 1)
    ends = write(
        "c.csv", table({"time": ["2020-01-31", "2020-02-29", "2020-03-31"], "x": [1, 2, 3]})
    )
    assert read(ends, frequency=Frequency(months=1)).frequency == Frequency(months=1, end=True)


def test_a_frequency_that_is_named_holds_for_a_trained_model_too(write):
    weekdays = [day for day in days(40) if np.is_busday(day)]
    path = write("a.csv", table({"time": weekdays, "x": range(len(weekdays))}))
    asked = TimeSeries(frequency="D")
    assert len(read_series(asked, path, frequency=Frequency(DAY)).times) == 38
    gaps = write("b.csv", table({"time": days(9)[::2], "x": range(5)}))
    assert len(read_series(asked, gaps, frequency=Frequency(DAY)).times) == 9
    assert "'2D' apart, and the model was trained on 'D'" in message(gaps, frequency=Frequency(DAY))
    with pytest.raises(DataError, match=r"^--data.frequency D: the model was trained on 'h'; name"):
        read_series(asked, gaps, frequency=Frequency(HOUR))


def test_two_frequencies_in_one_file_are_refused_with_where_the_second_begins(write):
    times = [*days(30), *(f"2020-01-30 {hour:02}:00" for hour in range(1, 11))]
    said = message(write("a.csv", table({"time": times, "x": range(40)})))
    assert said == (
        "a.csv: time steps are 'D' apart (29 times) and 'h' apart (10 times, first at 2020-01-30 "
        "01:00:00); give series of one frequency."
    )


def test_too_few_time_stamps_to_tell_the_frequency_are_refused(write):
    path = write("a.csv", table({"time": days(2), "x": range(2)}))
    assert "a.csv: 2 time stamps are too few" in message(path)
    assert "--data.frequency 'SMS' is no frequency" in message(path, frequency="SMS")
    assert len(read(path, frequency="D").times) == 2


def test_a_static_column_that_varies_is_located_with_its_series(write):
    path = write("a.csv", SHOPS.replace("30,2,south", "30,2,west"))
    said = message(path, series_column="shop", static="region")
    assert "a.csv, row 5: column 'region' is 'west', and 'south' in a.csv, row 4" in said
    assert "of series 'b'" in said


def test_a_static_cell_may_be_empty_where_another_row_has_it(write):
    path = write("a.csv", SHOPS.replace("20,2,south", "20,2,").replace("north", ""))
    assert read(path, series_column="shop", static="region").static.tolist() == [["south"], [""]]


def test_a_row_of_no_series_is_located(write):
    path = write("a.csv", SHOPS + "2020-01-04,,2,1,north\n")
    assert "a.csv, row 7: column 'shop' is empty" in message(path, series_column="shop")


def test_a_file_without_rows_is_refused(write):
    assert "a.csv is an empty file" in message(write("a.csv", ""))
    assert "b.csv has no time steps" in message(write("b.csv", "time,x\n"))
    path = write("c.csv", "time,x\n?,1\n")
    assert "c.csv has no time steps but 1 bad rows" in message(path, on_bad_row="skip")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"test_fraction": 0.6}, "--data.test_fraction 0.6: must be from 0 to 0.5"),
        ({"validation_fraction": -0.1}, "--data.validation_fraction -0.1: must be from 0 to 0.5"),
        ({"season": 0}, "--data.season 0: must be at least 1"),
        ({"backtest_folds": 51}, "--data.backtest_folds 51: must be from 0 to 50"),
        (
            {"targets": "x,y", "known": ["y"]},
            "--data.known names the column 'y', as --data.targets",
        ),
        ({"targets": "x,x"}, "names the column 'x', as --data.targets does"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        TimeSeries(**options)


# Training, validation and test


def hourly(rows: int) -> str:
    times = pd.date_range("2016-07-01", periods=rows, freq="h").astype(str)
    return table({"time": times, "x": np.arange(rows) % 24})


def test_the_latest_steps_are_for_test_and_those_before_for_validation(write):
    path = write("a.csv", table({"time": days(20), "x": range(20)}))
    assert spans(read_sections(TimeSeries(train=path))) == [
        ("2020-01-01", "2020-01-15"),
        ("2020-01-15", "2020-01-17"),
        ("2020-01-17", "2020-01-21"),
    ]
    assert spans(read_sections(TimeSeries(train=path, validation_fraction=0, test_fraction=0))) == [
        ("2020-01-01", "2020-01-21"),
        None,
        None,
    ]


def test_all_series_are_cut_at_the_same_time(write):
    rows = {"time": days(10) + days(4, "2020-01-03"), "id": ["a"] * 10 + ["b"] * 4, "x": range(14)}
    sections = read_sections(TimeSeries(train=write("a.csv", table(rows)), series_column="id"))
    assert spans(sections)[1:] == [("2020-01-08", "2020-01-09"), ("2020-01-09", "2020-01-11")]


def test_named_files_are_whole_sections_and_nothing_is_held_out_for_them(write):
    train = write("a.csv", table({"time": days(20), "x": range(20), "y": range(20)}))
    test = write("b.csv", table({"time": days(3, "2020-01-21"), "y": range(3), "x": range(3)}))
    sections = read_sections(TimeSeries(train=train, test=test))
    assert spans(sections)[1:] == [("2020-01-19", "2020-01-21"), ("2020-01-21", "2020-01-24")]
    assert sections.test.series.columns == sections.train.series.columns
    assert sections.validation.series is sections.train.series
    sections = read_sections(TimeSeries(train=train, validation=test, test_fraction=0))
    assert spans(sections) == [("2020-01-01", "2020-01-21"), ("2020-01-21", "2020-01-24"), None]


def test_a_whole_section_ends_a_step_after_the_last_time(write):
    times = ["2019-01-31", "2019-02-28", "2019-03-31"]
    section = whole(read(write("a.csv", table({"time": times, "x": [1, 2, 3]}))))
    assert (stamp_text(section.first), stamp_text(section.end)) == ("2019-01-31", "2019-04-30")


def test_the_ett_split_has_twelve_four_and_four_months_of_thirty_days(write):
    sections = read_sections(TimeSeries(train=write("a.csv", hourly(14_500)), split="ett_hour"))
    assert spans(sections) == [
        ("2016-07-01", "2017-06-26"),
        ("2017-06-26", "2017-10-24"),
        ("2017-10-24", "2018-02-21"),
    ]
    times = sections.train.series.times
    assert [int(np.searchsorted(times, part.end)) for part in vars(sections).values()] == [
        8640,
        11520,
        14400,
    ]


def test_the_ett_split_needs_its_rows_and_its_frequency(write):
    path = write("a.csv", hourly(14_399))
    with pytest.raises(DataError, match=r"needs 14,400 time steps, and there are 14,399"):
        read_sections(TimeSeries(train=path, split="ett_hour"))
    with pytest.raises(DataError, match=r"a single series with steps of '15min', not for 1 of 'h'"):
        read_sections(TimeSeries(train=path, split="ett_minute"))


def test_series_too_short_to_train_on_are_refused(write):
    path = write("a.csv", table({"time": days(3), "x": range(3)}))
    with pytest.raises(DataError, match=r"a.csv: 3 time steps leave 1 to train on"):
        read_sections(TimeSeries(train=path))
    with pytest.raises(DataError, match=r"--data.train"):
        read_sections(TimeSeries())


def test_a_target_that_never_changes_in_training_is_refused_by_name(write):
    columns = {"time": days(20), "x": [1] * 14 + [2] * 6, "y": range(20)}
    path = write("a.csv", table(columns))
    with pytest.raises(DataError, match=r"a.csv: no target \(x\) ever changes before 2020-01-15"):
        read_sections(TimeSeries(train=path, targets="x"))
    with pytest.raises(DataError, match=r"a.csv: target 'x' never changes before 2020-01-15, so"):
        read_sections(TimeSeries(train=path))
    assert read_sections(TimeSeries(train=path, targets="y", covariates="x")).test


def test_a_target_that_changes_by_what_is_filled_never_changes(write):
    cells = ["", 3, *[""] * 11, 3, *range(6)]
    rows = {"time": days(20) * 2, "id": ["a"] * 20 + ["b"] * 20}
    rows |= {"x": cells + [3] * 14 + list(range(6)), "y": [*range(20)] * 2}
    path = write("a.csv", table(rows))
    with pytest.raises(DataError, match="target 'x' never changes"):
        read_sections(TimeSeries(train=path, series_column="id"))


def test_a_target_that_differs_between_series_only_never_changes(write):
    rows = {"time": days(10) * 2, "id": ["a"] * 10 + ["b"] * 10, "x": [1] * 10 + [2] * 10}
    with pytest.raises(DataError, match=r"no target \(x\) ever changes"):
        read_sections(TimeSeries(train=write("a.csv", table(rows)), series_column="id"))


def test_folds_cut_the_test_part_and_train_on_all_before(write):
    series = read(write("a.csv", table({"time": days(50), "x": range(50)})))
    options = TimeSeries(test_fraction=0.2)
    parts = folds(series, options, 3, 3)
    assert [spans(part)[2] for part in parts] == [
        ("2020-02-10", "2020-02-13"),
        ("2020-02-13", "2020-02-16"),
        ("2020-02-16", "2020-02-20"),
    ]
    for part in parts:
        assert part.train.end == part.validation.first
        assert part.validation.end == part.test.first
        steps = (part.validation.end - part.validation.first) // DAY
        assert steps == round(0.1 * (part.test.first - part.train.first) / DAY)
    assert parts[-1].test.end == split_series(series, options).test.end


def test_folds_hold_out_their_own_validation_beside_a_named_file(write):
    series = read(write("a.csv", table({"time": days(50), "x": range(50)})))
    alone = folds(series, TimeSeries(), 2, 3)
    named = folds(series, TimeSeries(validation="later.csv"), 2, 3)
    assert [spans(part) for part in named] == [spans(part) for part in alone]
    without = folds(series, TimeSeries(validation_fraction=0), 2, 3)
    assert [part.validation for part in without] == [None, None]


def test_folds_of_the_ett_split_keep_its_length_of_validation(write):
    series = read(write("a.csv", hourly(14_400)))
    for part in folds(series, TimeSeries(split="ett_hour"), 2, 24):
        assert part.validation.end - part.validation.first == 120 * DAY


def test_folds_shorter_than_a_forecast_or_without_a_test_part_are_refused(write):
    series = read(write("a.csv", table({"time": days(50), "x": range(50)})))
    with pytest.raises(DataError, match="the test part has 10 time steps, too few for 3 forecasts"):
        folds(series, TimeSeries(), 3, 4)
    with pytest.raises(DataError, match=r"--data.backtest_folds needs a part"):
        folds(series, TimeSeries(test_fraction=0), 3, 4)
