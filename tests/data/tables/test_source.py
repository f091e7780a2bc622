"""Tables of records: what is read, how it is split, and what is said about bad data."""

import csv
import gzip
import io
import json
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data.cells import tidy
from data.errors import DataError
from data.options import Tables
from data.records import Records, StreamedRecords, label_counts
from data.tables.fields import Field
from data.tables.source import TableSource

FIELDS = {
    "text": Field("text", option="--data.text_column"),
    "label": Field("label", "label", option="--data.label_column"),
}
PAIR = {"text": Field("first"), "text_pair": Field("second"), "label": Field("label", "label")}
STREAM = {"memory_limit_mb": 0}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the working folder, as text or bytes."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str | bytes) -> str:
        content = content.encode() if isinstance(content, str) else content
        Path(name).write_bytes(content)
        return name

    return write_file


def source(fields=FIELDS, sample=None, **options) -> TableSource:
    return TableSource(Tables(**options), fields, sample)


def values(records, key="text") -> list:
    return [value for chunk in records.chunks() for value in chunk.columns[key]]


def message(path: str, fields=FIELDS, **options) -> str:
    """What reading a file says is wrong, in one line."""
    with pytest.raises(DataError) as caught:
        source(fields, **options).read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(count: int, labels: str = "ab") -> str:
    lines = [f"message {i},{labels[i % len(labels)]}" for i in range(count)]
    return "\n".join(["text,label", *lines]) + "\n"


# What is read


def test_csv_keeps_words_that_other_tools_take_for_nulls(write):
    path = write("a.csv", "text,label\nNA,null\nNone,nan\nNaN,N/A\n 7 ,#N/A\n")
    records = source().read(path)
    assert values(records) == ["NA", "None", "NaN", " 7 "]
    assert values(records, "label") == ["null", "nan", "N/A", "#N/A"]


def test_csv_fields_may_hold_delimiters_quotes_and_line_breaks(write):
    path = write("a.csv", 'text,label\r\n"one, ""two""\nthree",x\r\n5" screen,y\r\n')
    assert values(source().read(path)) == ['one, "two"\nthree', '5" screen']


def test_a_byte_order_mark_is_not_part_of_the_first_column(write):
    for name, content in (("a.csv", "text,label\nx,y\n"), ("a.jsonl", '{"text":"x","label":1}')):
        path = write(name, b"\xef\xbb\xbf" + content.encode())
        assert values(source().read(path)) == ["x"]


def test_columns_are_numbered_where_a_file_has_no_header(write):
    path = write("a.tsv", "good film\t1\nbad film\t0\n")
    fields = {"text": Field("0"), "label": Field("1", "label")}
    assert values(source(fields, header=False).read(path)) == ["good film", "bad film"]


def test_csv_jsonl_parquet_and_gzip_give_the_same_records(write):
    texts, labels = ["héllo", "two\tparts"], ["x", "y"]
    table = [{"text": t, "label": n} for t, n in zip(texts, labels, strict=True)]
    jsonl = "\n".join(map(json.dumps, table))
    write("a.csv", "text,label\nhéllo,x\ntwo\tparts,y\n")
    write("a.csv.gz", gzip.compress(Path("a.csv").read_bytes()))
    write("a.jsonl.gz", gzip.compress(jsonl.encode()))
    write("a.jsonl", jsonl)
    write("a.json.gz", gzip.compress(jsonl.encode()))
    parquet.write_table(pyarrow.Table.from_pylist(table), "a.parquet")
    for path in map(str, sorted(Path().iterdir())):
        for options in ({}, STREAM):
            records = source(**options).read(path)
            assert (values(records), values(records, "label")) == (texts, labels), path


def test_the_format_option_decides_where_it_is_given(write):
    path = write("a.csv", "text\tlabel\nx, y\tz\n")
    assert values(source(format="tsv").read(path)) == ["x, y"]


def test_labels_of_any_type_become_text_without_a_needless_fraction(write):
    labels = {"ints": [1, None, 3], "floats": [1.0, 2.5, 3.0], "bools": [True, False, True]}
    parquet.write_table(pyarrow.table({"text": ["a", "b", "c"], **labels}), "labels.parquet")
    expected = {"ints": ["1", "3"], "floats": ["1", "2.5", "3"], "bools": ["True", "False", "True"]}
    for column, texts in expected.items():
        fields = {"text": Field("text"), "label": Field(column, "label")}
        records = source(fields, on_bad_row="skip").read("labels.parquet")
        assert values(records, "label") == texts


def test_numbers_are_float32_and_bytes_stay_bytes(write):
    table = {"price": [1, 2, 3], "image": [b"\xff\x00", b"\x01", b"\x02"]}
    parquet.write_table(pyarrow.table(table), "a.parquet")
    fields = {"price": Field("price", "number"), "image": Field("image", "bytes")}
    records = source(fields).read("a.parquet")
    assert records.columns["price"].dtype == np.float32
    assert values(records, "image") == [b"\xff\x00", b"\x01", b"\x02"]


def test_globs_and_lists_are_read_in_order(write):
    for name in "cab":
        write(f"part-{name}.csv", f"text,label\n{name},x\n")
    assert values(source().read("part-*.csv")) == ["a", "b", "c"]
    assert values(source().read(["part-c.csv", "part-a.csv"])) == ["c", "a"]


def test_labels_may_be_absent_or_empty_where_they_are_not_required(write):
    assert "label" not in source().read(write("a.csv", "text\nx\n"), require_labels=False).columns
    path = write("b.csv", "text,label\nx,\ny,z\n")
    assert values(source().read(path, require_labels=False), "label") == ["", "z"]


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), min_size=1)] * 2).filter(
            lambda row: not row[0].isspace() and tidy(row[1]) != ""
        ),
        min_size=1,
    )
)
def test_any_text_survives_csv_and_jsonl_in_memory_and_streamed(tmp_path, table):
    with (tmp_path / "any.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *table])
    with (tmp_path / "any.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": t, "label": n}) + "\n" for t, n in table)
    for name in ("any.csv", "any.jsonl"):
        for options in ({}, STREAM):
            records = source(**options).read(str(tmp_path / name))
            found = zip(values(records), values(records, "label"), strict=True)
            assert list(found) == [(text, tidy(label)) for text, label in table]


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)
@given(content=st.binary(max_size=60), name=st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.txt"]))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, content, name):
    (tmp_path / name).write_bytes(b'text,label\n{"text":"a"}\n' + content)
    for options in ({}, STREAM):
        try:
            list(source(**options).requests(str(tmp_path / name)))
            source(**options).read(str(tmp_path / name))
        except DataError as error:
            assert "\n" not in str(error)


# How it is split


def test_the_held_out_part_keeps_the_classes_shares_and_the_seed_decides_it(write):
    path = write("a.csv", rows(400, "aaab"))
    first, again, other = (source(train=path).splits(seed) for seed in (1, 1, 2))
    assert label_counts(first.train) == {"a": 270, "b": 90}
    assert label_counts(first.validation) == {"a": 30, "b": 10}
    assert values(first.validation) == values(again.validation) != values(other.validation)
    assert not set(values(first.train)) & set(values(first.validation))


def test_streamed_files_are_split_exactly_as_in_memory(write):
    write("a.csv", rows(150, "abcab"))
    write("b.csv", rows(90, "ba"))
    memory, streamed = (source(train=["a.csv", "b.csv"], **o).splits(7) for o in ({}, STREAM))
    assert isinstance(memory.train, Records)
    assert isinstance(streamed.train, StreamedRecords)
    for part in ("train", "validation"):
        one, other = getattr(memory, part), getattr(streamed, part)
        assert len(one) == len(other)
        assert values(one) == values(other)
        assert label_counts(one) == label_counts(other)
        assert one.labels()[1] == other.labels()[1]
        assert one.labels()[0].tolist() == other.labels()[0].tolist()


def test_streamed_records_come_in_bounded_chunks_as_often_as_wanted(write):
    records = source(**STREAM).read(write("a.csv", rows(25)))
    for _ in range(2):
        assert [len(chunk) for chunk in records.chunks(10)] == [10, 10, 5]
    part = records.take(np.arange(0, 25, 5))
    assert values(part.take(np.array([1, 3]))) == ["message 5", "message 15"]


def test_named_validation_and_test_data_are_used_as_they_are(write):
    write("a.csv", rows(20))
    write("v.csv", rows(4))
    splits = source(train="a.csv", validation="v.csv", test="v.csv").splits(1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (20, 4, 4)


def test_nothing_is_held_out_for_a_fraction_of_zero(write):
    splits = source(train=write("a.csv", rows(20)), validation_fraction=0).splits(1)
    assert (len(splits.train), splits.validation, splits.test) == (20, None, None)


def test_the_sample_has_a_test_part_whatever_the_format_of_other_files(write):
    path = write("messages.csv", rows(200))
    splits = source(sample=path, train="sample", format="tsv", header=False).splits(1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (153, 17, 30)
    assert splits.train.source == "sample"


def test_records_without_classes_are_split_at_random(write):
    path = write("a.csv", "text\n" + "".join(f"m{i}\n" for i in range(50)))
    splits = source({"text": Field("text")}, train=path).splits(1, stratify=None)
    assert (len(splits.train), len(splits.validation)) == (45, 5)


def test_labels_are_counted_in_the_order_of_numbers_or_of_text(write):
    assert list(label_counts(source().read(write("a.csv", "text,label\nx,10\ny,9\nz,-1\n")))) == [
        "-1",
        "9",
        "10",
    ]
    path = write("b.csv", "text,label\nx,10\ny,9\nz,b\nw,9\n")
    assert label_counts(source(**STREAM).read(path)) == {"10": 1, "9": 2, "b": 1}


# What is said about bad data


def test_missing_files_folders_and_empty_globs_are_named(write, tmp_path):
    assert "nowhere.csv does not exist" in message("nowhere.csv")
    assert "no-*.csv matches no file" in message("no-*.csv")
    assert "is a folder" in message(str(tmp_path))
    assert "the ending does not tell the format" in message(write("a.dat", "x"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_empty_files_are_named(write, name):
    assert message(write(name, "")).startswith(f"{name} is an empty file")


def test_a_file_with_no_records_is_named(write):
    assert message(write("a.csv", "text,label\n")).startswith("a.csv has no records;")
    assert "only blank lines" in message(write("b.csv", "\n\n"))
    assert "only blank lines" in message(write("b.jsonl", "\n\n"))
    path = write("c.csv", "text,label\n,x\n")
    assert "but 1 bad rows that were skipped" in message(path, on_bad_row="skip")


def test_a_missing_column_is_told_with_those_there_are(write):
    path = write("reviews.csv", "body,stars\ngood,5\n")
    assert message(path) == (
        "reviews.csv: no column 'text'; the columns are: body, stars. "
        "Name yours with --data.text_column. (If the first row is a record: --data.header false.)"
    )
    assert "the columns are: body." in message(write("a.jsonl", '{"body": "x"}'))


def test_two_columns_of_the_wanted_name_are_refused(write):
    assert "2 columns are named 'text'" in message(write("a.csv", "text,text,label\na,b,c\n"))


@pytest.mark.parametrize("options", [{}, STREAM])
def test_empty_texts_are_counted_or_skipped(write, options):
    path = write("a.csv", 'text,label\n"two\nlines",x\n   ,y\nok,\nfine,y\n,\n')
    said = message(path, **options)
    assert said.startswith("a.csv, row 4: column 'text' is empty, and 2 more bad rows; ")
    assert "--data.on_bad_row skip" in said
    records = source(on_bad_row="skip", **options).read(path)
    assert (values(records), records.skipped) == (["two\nlines", "fine"], 3)


@pytest.mark.parametrize("options", [{}, STREAM])
def test_bad_rows_are_counted_over_all_files(write, options):
    for name in ("a.csv", "b.csv"):
        write(name, f"text,label\n{name},x\n,y\n,z\n")
    assert "a.csv, row 3: column 'text' is empty, and 3 more bad rows;" in message(
        "?.csv", **options
    )
    records = source(on_bad_row="skip", **options).read("?.csv")
    assert (values(records), records.skipped) == (["a.csv", "b.csv"], 4)
    assert records.source == "a.csv and 1 more file"


def test_nulls_in_parquet_and_jsonl_are_bad_rows(write):
    parquet.write_table(
        pyarrow.table({"text": ["a", None, "c"], "label": [1.0, 2.0, float("nan")]}), "a.parquet"
    )
    write("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": null}\n{"label": 2}\n')
    assert message("a.parquet").startswith("a.parquet, row 2: column 'text' is empty, and 1 more")
    assert message("a.jsonl").startswith(
        "a.jsonl, row 3: column 'text' is empty, and 1 more bad row;"
    )


def test_a_row_with_too_many_or_too_few_fields_is_a_bad_row(write):
    path = write("a.csv", "text,label\na,x\nb, or c,y\nd\ne,x\n")
    assert "row 3: 3 fields where there are 2 columns, and 1 more bad row;" in message(path)
    assert source(on_bad_row="skip").read(path).skipped == 2


@pytest.mark.parametrize("options", [{}, STREAM, {"on_bad_row": "skip"}])
def test_bytes_that_are_not_utf8_are_located(write, options):
    lines = [f"line {i},x".encode() for i in range(3000)]
    lines[2000] = "café,x".encode("latin-1")
    path = write("a.csv", b"\n".join([b"text,label", b'"two\nlines",x', *lines]))
    assert message(path, **options).startswith("a.csv, row 2004: byte 0xe9 is not UTF-8; save")
    path = write("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "\xe9", "label": 1}\n')
    assert message(path, **options).startswith("a.jsonl, row 2: byte 0xe9 is not UTF-8;")
    assert "row 1: byte 0xff" in message(write("b.csv", "text,label\na,x\n".encode("utf-16")))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
def test_lines_that_cant_be_told_apart_are_refused(write, name):
    lines = '{"text": "a"}\n{"text": "b"}\n'
    for content, why in (
        (lines.encode("utf-16"), "is UTF-16; save it as UTF-8."),
        (lines.replace("\n", "\r").encode(), r"has lines that end in \r alone; save it with"),
    ):
        write(name, gzip.compress(content) if name.endswith(".gz") else content)
        with pytest.raises(DataError, match=f"^{name} {re.escape(why)}"):
            list(source(on_bad_row="answer").requests(name))


def test_rows_that_are_not_utf8_do_not_keep_others_from_being_answered(write):
    write("a.csv", b'text,label\nfine,x\ncaf\xe9,x\n"caf\xe9"s,x\n"two\nlines",x\n')
    write("a.jsonl", b'{"text": "fine"}\n{"text": "caf\xe9"}\n{"text": "more"}\n')
    found = list(source(on_bad_row="answer").requests(["a.csv", "a.jsonl"]))
    answered = [
        (asked.row, asked.problem and asked.problem[:9]) for r in found for asked in r.asked
    ]
    wrong = "byte 0xe9"
    assert answered == [
        (2, None),
        (3, wrong),
        (4, wrong),
        (5, None),
        (1, None),
        (2, wrong),
        (3, None),
    ]


def test_text_in_parquet_that_is_not_utf8_is_a_bad_row(write):
    texts = pyarrow.array([b"fine", b"caf\xe9"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": texts, "label": ["a", "b"]}), "a.parquet")
    assert message("a.parquet").startswith("a.parquet, row 2: column 'text' is not UTF-8;")


def test_quoting_errors_are_located_at_the_first_line_of_their_record(write):
    path = write("a.csv", 'text,label\nfine,x\n"never closed,y\n' + "more,x\n" * 20)
    assert message(path).startswith("a.csv, row 3: a quoting error (")
    assert "row 3: a quoting error" in message(write("b.csv", 'text,label\na,x\n"b" c,y\n'))


def test_long_texts_are_no_quoting_error(write):
    text = "long " * 40_000
    assert values(source().read(write("a.csv", f"text,label\n{text},x\n"))) == [text]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "a"', "not JSON"),
        ('["a"]', "a JSON array where an object is expected; write one object a line"),
        ("7", "JSON, but not an object"),
        ('{"text": "\\ud83d", "label": 1}', "half of a surrogate pair"),
        ('{"text": ["a"], "label": 1}', "column 'text' is a list, not a text"),
    ],
)
def test_bad_json_lines_are_bad_rows(write, line, problem):
    path = write("a.jsonl", f'{{"text": "a", "label": 1}}\n{line}\n{{"text": "b", "label": 2}}\n')
    assert f"a.jsonl, row 2: {problem}" in message(path)
    assert values(source(on_bad_row="skip").read(path)) == ["a", "b"]


def test_a_number_that_is_none_is_a_bad_row(write):
    path = write("a.csv", "price\n1.5\nten\ninf\n")
    said = message(path, {"price": Field("price", "number")})
    assert said.startswith("a.csv, row 3: column 'price' is 'ten', not a finite number, and 1 more")


def test_broken_parquet_and_gzip_files_are_named(write):
    assert message(write("a.parquet", "not that")).startswith("a.parquet can't be read as Parquet")
    whole = gzip.compress(rows(1000).encode())
    for name, content in (("a.csv.gz", whole[:-400]), ("b.csv.gz", b"plain"), ("c.json.gz", b"x")):
        assert message(write(name, content)).startswith(f"{name} is not a whole gzip file")


def test_a_label_that_training_lacks_is_located(write):
    write("train.csv", rows(20))
    write("test.csv", "text,label\nx,a\ny,c\nz,d\nw,c\n")
    for options in ({}, STREAM):
        with pytest.raises(DataError, match=r"test.csv, row 3: label 'c' is not in the training"):
            source(train="train.csv", test="test.csv", **options).splits(1)
        with pytest.raises(DataError, match=r"3 records have 2 such labels; training has a, b"):
            source(**options).read("test.csv", labels=["a", "b"])


def test_one_class_or_a_class_too_small_to_split_is_refused(write):
    with pytest.raises(DataError, match=r"a.csv: every record has the label 'a' in column 'label'"):
        source(train=write("a.csv", rows(20, "a"))).splits(1)
    with pytest.raises(DataError, match=r"label 'c' has a single record"):
        source(train=write("b.csv", rows(20) + "x,c\n")).splits(1)
    with pytest.raises(DataError, match=r"0.1 of 20 records is 2, too few to hold out for 4"):
        source(train=write("c.csv", rows(20, "abcd"))).splits(1)
    with pytest.raises(DataError, match=r"2 records are too few"):
        source(train=write("d.csv", rows(2))).splits(1)


def test_a_file_that_changes_while_it_is_used_is_noticed(write):
    path = write("a.csv", rows(20))
    records = source(**STREAM).read(path)
    write("a.csv", rows(19))
    with pytest.raises(DataError, match="changed while it was being used: 20 rows became 19"):
        values(records)


def test_options_out_of_range_or_without_data_are_refused():
    with pytest.raises(DataError, match=r"validation_fraction must be from 0 to 0.5, not 0.7"):
        source(validation_fraction=0.7)
    with pytest.raises(DataError, match=r"--data.train"):
        source().splits(1)
    with pytest.raises(DataError, match="no sample"):
        source(train="sample").splits(1)


# Requests to predict from


def texts_of(chunks, key="text") -> list[str]:
    return [value for chunk in chunks for value in chunk.columns[key]]


def test_requests_are_lines_of_text_or_json_objects(write):
    lines = 'plain\twith a tab\r\n{"text": "by key"}\n{"body": "by column", "more": 1}\nlast'
    fields = {"text": Field("body"), "label": Field("label", "label")}
    for name in ("a.txt", "a"):
        found = texts_of(source(fields).requests(write(name, lines)))
        assert found == ["plain\twith a tab", "by key", "by column", "last"]


def test_requests_of_pairs_have_a_tab_between_their_texts(write):
    path = write("a.txt", 'one\ttwo\n{"text": "three", "second": "four"}\n')
    chunks = list(source(PAIR).requests(path))
    assert texts_of(chunks) == ["one", "three"]
    assert texts_of(chunks, "text_pair") == ["two", "four"]
    with pytest.raises(DataError, match=r"b.txt, row 1: 1 text where 2 are expected, with a tab"):
        list(source(PAIR).requests(write("b.txt", "alone\n")))


def test_requests_from_tables_need_no_labels(write):
    parquet.write_table(pyarrow.table({"text": [str(i) for i in range(600)]}), "a.parquet")
    assert [len(chunk) for chunk in source().requests("a.parquet")] == [256, 256, 88]
    assert texts_of(source().requests(write("a.csv", "text,label\nx,\n"))) == ["x"]


def test_bad_requests_are_located_or_skipped(write):
    path = write("a.txt", 'one\n\n{"txt": "two"}\n{"oops\nthree\n')
    with pytest.raises(DataError, match=r"a.txt, row 2: column 'text' is empty, and 2 more"):
        list(source().requests(path))
    assert texts_of(source(on_bad_row="skip").requests(path)) == ["one", "three"]
    with pytest.raises(DataError, match="a JSON object without 'text'; its keys are: txt;"):
        list(source().requests(write("b.txt", '{"txt": "two"}')))
    with pytest.raises(DataError, match=r"c.txt, row 2: byte 0xe9 is not UTF-8"):
        list(source().requests(write("c.txt", b"ok\ncaf\xe9\n")))
    with pytest.raises(DataError, match="does not exist"):
        list(source().requests("nowhere"))


class Slow(io.RawIOBase):
    """Standard input that gives one line a read, and notes how many it was asked for."""

    def __init__(self, lines: list[bytes]):
        self.left = lines

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        line = self.left.pop(0) if self.left else b""
        buffer[: len(line)] = line
        return len(line)


def test_standard_input_is_answered_line_by_line_as_it_comes(monkeypatch):
    slow = Slow([b"one\n", b"two\nthr", b"ee\n"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(slow)))
    requests = source().requests("-")
    assert next(requests).columns["text"].tolist() == ["one"]
    assert len(slow.left) == 2
    assert texts_of(requests) == ["two", "three"]


def test_without_paths_requests_come_from_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\n")))
    assert texts_of(source().requests(None)) == ["one"]


# tfds:NAME


def test_tfds_says_when_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert "pip install tensorflow-datasets" in message("tfds:imdb_reviews")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """One small data set as TensorFlow Datasets keeps them."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("importlib_resources")
    tensorflow = pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("tfds")
    tables = {
        "train": {"text": [f"message {i}" for i in range(20)], "label": [0, 1] * 10},
        "test": {"text": ["fine", "NA"], "label": [1, 0]},
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_messages",
        version="1.0.0",
        data_dir=folder,
        split_datasets={
            split: tensorflow.data.Dataset.from_tensor_slices(table)
            for split, table in tables.items()
        },
        features=tfds.features.FeaturesDict(
            {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["no", "yes"])}
        ),
        disable_shuffling=True,
    )
    tfds.core.add_data_dir(folder)
    yield
    import_module("tensorflow_datasets.core.utils.file_utils").clear_registered_data_dirs()


@pytest.mark.parametrize("options", [{}, STREAM])
def test_tfds_gives_the_split_that_fits_and_labels_by_name(catalogue, options):
    name = "tfds:tiny_messages"
    splits = source(train=name, test=name, **options).splits(1)
    assert (label_counts(splits.train), len(splits.validation)) == ({"no": 9, "yes": 9}, 2)
    assert (values(splits.test), values(splits.test, "label")) == (["fine", "NA"], ["yes", "no"])
    assert len(source(**options).read(f"{name}/train[:50%]")) == 10


def test_tfds_names_that_lead_nowhere_are_told(catalogue):
    assert "no split 'dev'; its splits are: train, test." in message("tfds:tiny_messages/dev")
    assert "has no such data set (Dataset nonesuch not found.)" in message("tfds:nonesuch/train")
    assert "has no such data set" in message("tfds:tiny_messages:9.9.9")
