"""Checksums of data sets: of what was read, however it is written, and in memory as streamed."""

import numpy as np
import pytest

from data.checksum import Checksum, checksum_of, together
from data.options import ParallelTexts, Tables, TimeSeries
from data.series.windows import WindowSource
from data.tables.fields import Field
from data.tables.source import TableSource
from data.text.parallel import ParallelSource

ROWS = [f"text {row},{'ab'[row % 2]}" for row in range(40)]


def objects(*cells):
    return np.fromiter(cells, object, len(cells))


def read(path, **options):
    fields = {"text": Field("text"), "label": Field("label", "label")}
    return TableSource(Tables(train=str(path), **options), fields).splits(seed=0)


def written(path, rows, header="text,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    "columns",
    [
        {"a": np.arange(5, dtype=np.float32)},
        {"a": objects("x", "yz", "", "é", "\udce9")},
        {"a": objects(b"x", b"yz", b"", b"\0", b"w")},
        {"a": objects(*(np.ones((row, 2), np.float32) for row in range(5)))},
    ],
    ids=["numbers", "texts", "bytes", "arrays"],
)
def test_the_size_of_chunks_has_no_part_in_it_and_each_cell_and_their_order_have(columns):
    (cells,) = columns.values()
    whole = checksum_of(columns)
    parts = Checksum()
    for part in (cells[:1], cells[1:1], cells[1:4], cells[4:]):
        parts.add({"a": part})
    assert parts.text() == whole
    for other in (cells[::-1], cells[:-1], np.roll(cells, 1)):
        assert checksum_of({"a": other}) != whole
    assert checksum_of({"b": cells}) != whole


def test_where_a_cell_ends_has_a_part_in_it():
    assert checksum_of({"a": objects("ab", "c")}) != checksum_of({"a": objects("a", "bc")})
    flat, tall = np.ones((1, 4), np.float32), np.ones((4, 1), np.float32)
    assert checksum_of({"a": objects(flat, flat)}) != checksum_of({"a": objects(tall, tall)})


def test_of_two_sets_it_is_of_both_and_of_parts_of_one_of_that():
    assert together("a", "a") == "a"
    assert len({together("a", "b"), together("b", "a"), "a", "b"}) == 4


def test_a_table_has_one_however_it_is_written_and_held(tmp_path):
    first = read(written(tmp_path / "a.csv", ROWS)).train.checksum
    swapped = [f"{row.split(',')[1]},7,{row.split(',')[0]}" for row in ROWS]
    assert read(written(tmp_path / "b.csv", swapped, "label,more,text")).train.checksum == first
    streamed = read(tmp_path / "a.csv", memory_limit_mb=0)
    assert streamed.train.checksum == streamed.validation.checksum == first
    for limit in (0, 1024):
        other = written(tmp_path / "c.csv", [*ROWS[:-1], "text 39,a"])
        assert read(other, memory_limit_mb=limit).train.checksum != first


def test_series_and_pairs_have_one(tmp_path):
    def series(value):
        days = [f"2024-01-{day:02},{day}" for day in range(1, 25)] + [f"2024-01-25,{value}"]
        path = written(tmp_path / "series.csv", days, "time,y")
        return WindowSource(TimeSeries(train=str(path)), 3, 2).splits(seed=0).train.checksum

    def pairs(text):
        for side in "en", "de":
            lines = [f"{side} {row}" for row in range(30)] + [text]
            (tmp_path / f"train.{side}").write_text("\n".join(lines) + "\n")
        paths = [str(tmp_path / f"train.{side}") for side in ("en", "de")]
        options = ParallelTexts(train=paths, back_translated=paths, deduplicate=False)
        return ParallelSource(options).splits(seed=0).train.checksum

    for of in (series, pairs):
        assert of("25") == of("25") != of("26")
