"""CSV, TSV and their kin: what separates cells, what quotes mean, and names that look alike."""

import csv
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from data.errors import DataError
from data.options import ParallelTexts, Tables, TimeSeries
from data.records import label_counts
from data.series.stamped import find_columns, read_rows
from data.tables.fields import Field
from data.tables.opening import open_tables
from data.tables.source import TableSource
from data.text.parallel import ParallelSource

FIELDS = {
    "text": Field("text", option="--data.text_column"),
    "label": Field("label", "label", option="--data.label_column"),
}
EVERYWHERE = pytest.mark.parametrize("limit", [1024, 0], ids=["in memory", "streamed"])
QUOTATION = [
    ('" I loved every minute of it .', "pos"),
    ("It was dull in places .", "neg"),
    ('But I would see it again ."', "pos"),
    ('"Great film," she said , and left', "pos"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder."""
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def lines(rows, separator="\t", header=("text", "label"), end="\n") -> str:
    return "".join(separator.join(row) + end for row in [header, *rows])


def read(path: str, fields=FIELDS, **options) -> list[tuple]:
    records = TableSource(Tables(**options), fields).read(path)
    return [row for c in records.chunks() for row in zip(*c.columns.values(), strict=True)]


def message(path: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


# Quotes


@EVERYWHERE
def test_quotes_in_tsv_are_letters(limit):
    path = write("a.tsv", lines(QUOTATION))
    assert read(path, memory_limit_mb=limit) == QUOTATION
    (records,) = TableSource(Tables(memory_limit_mb=limit), FIELDS).requests(path)
    assert list(records.columns["text"]) == [text for text, _ in QUOTATION]


def test_quotes_in_tables_of_pairs_are_letters():
    rows = [(text, f"{text} de") for text, _ in QUOTATION]
    path = write("pairs.tsv", lines(rows, header=("source", "target")))
    pairs = ParallelSource(ParallelTexts()).read(path)
    assert list(zip(*pairs.columns.values(), strict=True)) == rows


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_tsv_that_can_only_be_quoted_is_read_so(quoting):
    rows = [(f'a "{n}" film', "pos") for n in range(3)]
    with Path("a.tsv").open("w", newline="") as file:
        csv.writer(file, "excel-tab", quoting=quoting).writerows([("text", "label"), *rows])
    assert read("a.tsv") == rows
    assert read("a.tsv", quoting="none", on_bad_row="skip", header=False, fields={
        "text": Field("0")
    })[1] == ('"a ""0"" film"',)  # fmt: skip


def test_the_option_says_what_quotes_mean():
    path = write("a.tsv", 'text\tlabel\n"two\tparts"\tx\n')
    assert "row 2: 3 fields where there are 2 columns (quotes are read as they are;" in message(
        path
    )
    assert read(path, quoting="csv") == [("two\tparts", "x")]
    path = write("a.csv", 'text,label\n"never closed,x\n5" and 6",y\n')
    assert read(path, quoting="none") == [('"never closed', "x"), ('5" and 6"', "y")]


@EVERYWHERE
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ('"Great," she said,y\n', "text after the quote that ends a cell"),
        ('"never closed,y\n', "a quote that is never closed"),
        ('"closed\nlater" on,y\n', "text after the quote that ends a cell"),
    ],
)
def test_a_quoting_error_is_one_bad_row(limit, bad, why):
    good = [(f"film {n}", "x") for n in range(700)]
    path = write("a.csv", f"text,label\nfine,x\n{bad}" + lines(good, ",")[11:])
    said = message(path, memory_limit_mb=limit)
    assert said.startswith(f"a.csv, row 3: a quoting error ({why}); write a quote inside quotes")
    assert "--data.quoting none" in said and "--data.on_bad_row skip" in said
    found = read(path, on_bad_row="skip", memory_limit_mb=limit)
    assert found[0] == ("fine", "x") and found[-700:] == good


def test_every_row_may_have_wrong_quotes():
    path = write("a.csv", 'text,label\n"a" b,x\n"c,x\n"d" e,"\n"f" "g",x\nfine,x\n"h,x')
    assert read(path, on_bad_row="skip") == [("fine", "x")]
    assert "and 4 more bad rows" in message(path)
    assert "row 1: a quoting error" in message(write("b.csv", '"te"xt,label\na,x\n'))


# Separators


@EVERYWHERE
@pytest.mark.parametrize("before", ["", "sep=;\r\n", '"sep=;"\r\n', "sep=;;\r\n"])
def test_semicolons_are_found_as_excel_writes_them(limit, before):
    rows = [('"well; so, so"', "1,5"), ("good", "2,5")]
    content = "\ufeff" + before + lines(rows, ";", end="\r\n")
    path = write("a.csv", content)
    expected = [("well; so, so", "1,5"), ("good", "2,5")]
    assert read(path, memory_limit_mb=limit) == expected
    write("b.csv", content + "too;many;cells\r\n")
    row = 4 + bool(before)
    assert f"b.csv, row {row}: 3 fields" in message("b.csv", memory_limit_mb=limit)


@pytest.mark.parametrize("separator", ["\t", "|"])
def test_other_separators_are_found_in_csv(separator):
    rows = [("well, so", "x"), ("good", "y")]
    assert read(write("a.csv", lines(rows, separator))) == rows


def test_what_might_be_separated_by_two_characters_is_separated_by_commas():
    assert read(write("a.csv", "text,label;more\na,b;c\n"), {"text": Field("text")}) == [("a",)]
    one = {"text": Field("text")}
    texts = [("a; b",), ("c",), ("d; e; f",)]
    assert read(write("b.csv", lines(texts, header=("text",))), one) == texts
    first = {"text": Field("0")}
    assert read(write("c.csv", "a; b\nc; d\n"), first, header=False) == [("a; b",), ("c; d",)]


def test_semicolons_are_found_without_a_header_in_enough_rows():
    rows = [(f"well, {'so, ' * (n % 3)}", "x") for n in range(12)]
    fields = {"text": Field("0"), "label": Field("1", "label")}
    assert read(write("a.csv", lines(rows[1:], ";", rows[0])), fields, header=False) == rows


@pytest.mark.parametrize("said", ["~", "tab", r"\t", ";"])
def test_the_separator_may_be_said(said):
    separator = "\t" if said in ("tab", r"\t") else said
    rows = [("a, b", "x"), ("c|d", "y")]
    for name in ("a.csv", "a.tsv"):
        assert read(write(name, lines(rows, separator)), separator=said) == rows
    options = TimeSeries(separator=said)
    days = [(f"2020-01-{day:02d}", f"{day}") for day in range(1, 31)]
    tables = open_tables(
        options, write("s.csv", lines(days, separator, ("time", "sold"))), "t", None
    )
    assert len(read_rows(tables, options, find_columns(tables, options))) == 30


def test_a_missing_column_is_told_with_the_separator():
    path = write("a.csv", "text,more;label\na,b;c\n")
    said = message(path)
    assert "the columns are: text, more;label." in said
    assert "(The separator is the comma; name another with --data.separator.)" in said
    assert "The separator is the tab" in message(write("a.tsv", "text,label\na,b\n"))
    assert "--data.quoting csv reads" in message(write("b.tsv", '"text"\t"lab"el\na\tb\n'))
    assert "--data.separator 'ab': must be one character" in message(path, separator="ab")


# Formats


def test_a_format_that_is_said_wins_over_the_ending():
    content = lines(QUOTATION)
    source = TableSource(Tables(format="tsv"), FIELDS)
    for name in ("a.txt", "a.tsv", "a.csv", "a"):
        (records,) = source.requests(write(name, content))
        assert list(records.columns["text"]) == [text for text, _ in QUOTATION], name
    pairs = "".join(f"Go {n}.\tGeh {n}.\tCC-BY {n}\n" for n in range(30))
    columns = {"source_column": "0", "target_column": "1"}
    options = ParallelTexts(
        train=write("deu.txt", pairs), format="tsv", header=False, validation_fraction=0, **columns
    )
    assert len(ParallelSource(options).splits(1).train) == 30
    (texts,) = ParallelSource(options).requests("deu.txt")
    assert list(texts.columns["text"]) == [f"Go {n}." for n in range(30)]


def test_standard_input_is_lines_and_no_table(monkeypatch):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b'{"text": "one"}\n')))
    (records,) = TableSource(Tables(format="jsonl"), FIELDS).requests(None)
    assert list(records.columns["text"]) == ["one"]
    with pytest.raises(DataError, match=r"--data.format tsv: standard input is read as lines"):
        list(TableSource(Tables(format="tsv"), FIELDS).requests("-"))
    with pytest.raises(DataError, match=r"--data.format csv: standard input is read as lines"):
        list(ParallelSource(ParallelTexts(format="csv")).requests(None))


# Names that look alike


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@EVERYWHERE
def test_labels_that_look_alike_are_one(limit):
    labels = ["pos", "pos ", " neg", "neg\u00a0", COMPOSED, DECOMPOSED, "\ufeffpos", "neg"]
    rows = [(f"film {n}", label) for n, label in enumerate(labels)]
    write("a.csv", lines(rows, ","))
    parquet.write_table(
        pyarrow.table(dict(zip(("text", "label"), zip(*rows, strict=True), strict=True))),
        "a.parquet",
    )
    for path in ("a.csv", "a.parquet"):
        records = TableSource(Tables(memory_limit_mb=limit), FIELDS).read(path)
        assert label_counts(records) == {COMPOSED: 2, "neg": 3, "pos": 3}


def test_class_folders_whose_names_look_alike_are_one_class():
    for name in (f"a/{COMPOSED}", f"b/{DECOMPOSED}", "b/tea"):
        Path(name).mkdir(parents=True)
        Image.new("RGB", (1, 1)).save(f"{name}/1.png")
    fields = {"image": Field("image", "image"), "label": FIELDS["label"]}
    records = TableSource(Tables(), fields).read(["a", "b"])
    assert label_counts(records) == {COMPOSED: 2, "tea": 1}


def test_a_model_of_before_knows_its_labels_without_their_blanks():
    from data.preprocessing import class_ids

    path = write("a.csv", "text, label\na, good\nb, bad\n")
    records = TableSource(Tables(), FIELDS).read(path, labels=[" bad", " good"])
    assert class_ids([" bad", " good"], records.columns["label"]).tolist() == [1, 0]


def test_names_of_columns_are_read_without_blanks_around_them():
    path = write("a.csv", f"text, label,{DECOMPOSED} ,x,x \na,b,c,d,e\n")
    assert read(path) == [("a", "b")]
    fields = {name: Field(name) for name in (COMPOSED, " label", "x", "x ")}
    assert read(path, fields) == [("c", "b", "d", "e")]
    write("a.jsonl", '{"text": "a", " label": "b"}\n')
    assert "(did you mean ' label'?); the columns are: text, ' label'." in message("a.jsonl")


def test_what_cannot_be_printed_is_shown_escaped():
    assert "label 'a\\x07\\u200bb' is not in" in message_of_label("a\x07\u200bb")


def message_of_label(label: str) -> str:
    with pytest.raises(DataError) as caught:
        TableSource(Tables(), FIELDS).read(write("a.csv", f"text,label\nx,{label}\n"), labels=["b"])
    return str(caught.value)
