"""Classes in Hugging Face's Parquet files have the names that the schema keeps."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from data.options import Tables
from data.records import label_counts
from data.tables.fields import Field
from data.tables.formats import open_table
from data.tables.source import TableSource

CATS = {"names": ["cat", "dog"], "_type": "ClassLabel"}
TEXT = {"dtype": "string", "_type": "Value"}


def write(path, features, **columns) -> str:
    """A file as `datasets` writes it."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table(columns)
    parquet.write_table(table.replace_schema_metadata(metadata), path / "a.parquet")
    return str(path / "a.parquet")


@pytest.mark.parametrize("limit", [1024, 0])
def test_labels_are_named_as_the_schema_says(tmp_path, limit):
    columns = {"text": list("abcd"), "label": [1, 0, -1, 1]}
    path = write(tmp_path, {"text": TEXT, "label": CATS}, **columns)
    fields = {"text": Field("text"), "label": Field("label", "label")}
    options = Tables(memory_limit_mb=limit, on_bad_row="skip")
    records = TableSource(options, fields).read(path)
    assert label_counts(records) == {"cat": 1, "dog": 2}
    assert records.skipped == 1  # -1 stands for no label
    numbers = TableSource(options, {"x": Field("label", "number")}).read(path)
    assert next(numbers.chunks()).columns["x"].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("feature", "value", "expected"),
    [
        (CATS, 7, "7"),
        (CATS, 1.0, "dog"),
        ({"feature": CATS, "length": -1, "_type": "Sequence"}, [1, 0], "['dog', 'cat']"),
        ({"feature": CATS, "_type": "List"}, [1, None], "['dog', 'None']"),
        ([CATS], [1], "['dog']"),
        ({"x": CATS, "y": TEXT}, {"x": 0, "y": "t"}, "{'x': 'cat', 'y': 't'}"),
        ({"feature": {"x": CATS}, "_type": "Sequence"}, {"x": [1]}, "{'x': ['dog']}"),
        (TEXT, "t", "t"),
        ({"dtype": "int64", "_type": "Value"}, 1, "1"),
    ],
)
def test_classes_within_lists_and_structs_are_named_too(tmp_path, feature, value, expected):
    def texts(cell):
        if isinstance(cell, list):
            return [texts(part) for part in cell]
        return {k: texts(v) for k, v in cell.items()} if isinstance(cell, dict) else str(cell)

    path = write(tmp_path, {"label": feature}, label=[value])
    (chunk,) = open_table(path).chunks(["label"], 9)
    assert str(texts(chunk.cells["label"][0])) == expected


@pytest.mark.parametrize("said", ["", "{}", "[]", '{"info": null}', '{"info": {"features": [1]}}'])
def test_a_schema_that_says_something_else_is_no_matter(tmp_path, said):
    table = pyarrow.table({"label": [1]}).replace_schema_metadata({"huggingface": said})
    parquet.write_table(table, tmp_path / "a.parquet")
    (chunk,) = open_table(str(tmp_path / "a.parquet")).chunks(["label"], 9)
    assert chunk.cells["label"] == [1]
