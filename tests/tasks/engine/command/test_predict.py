"""What predict does with records that can't be answered; the model is one that counts letters."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from data.errors import DataError
from data.options import Pictures, Tables
from data.preprocessing import reason_of
from data.tables.fields import Field
from data.tables.source import TableSource
from tasks.engine.command import predict
from tasks.engine.errors import UsageError
from tasks.image_classification import ImageClassification
from tasks.text_classification import TextClassification


class Preprocessor:
    surveyed = None

    def tally(self, columns):
        return {"texts cut": sum(len(text) > 30 for text in columns.get("text", ()))}

    def warning(self, facts, records):
        return None


def letters(*, text):
    """Refuses texts with "!" in them."""
    fine = tf.reduce_all(~tf.strings.regex_full_match(text, ".*!.*"))
    with tf.control_dependencies([tf.Assert(fine, ["a loud text"])]):
        return {"length": tf.strings.length(text), "bytes": tf.zeros([tf.size(text), 2])}


def sizes(*, image_bytes):
    """Refuses what TensorFlow can't decode."""
    decode = lambda one: tf.size(tf.io.decode_image(one, 3, expand_animations=False))  # noqa: E731
    return {"size": tf.map_fn(decode, image_bytes, fn_output_signature=tf.int32)}


@pytest.fixture
def asked(tmp_path, monkeypatch, capsys):
    """Runs predict; returns the answers' lines and what is said on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict.Run, "existing", lambda folder: SimpleNamespace(assets=None))
    monkeypatch.setattr(predict.Preprocessor, "load", lambda folder: Preprocessor())

    def ask(*paths, output=None, echo=None, row=False, on_bad_row="answer", kind="text", **more):
        pictures = kind == "image"
        data = (Pictures if pictures else Tables)(on_bad_row=on_bad_row, **more)
        name = "image_bytes" if pictures else "text"
        source = TableSource(data, {name: Field("image" if pictures else "text", kind)})
        task = (ImageClassification if pictures else TextClassification)()
        task.source = lambda data, model: source
        spec = tf.TensorSpec([None], tf.string, name)
        serve = tf.function(sizes if pictures else letters, autograph=False)
        serve = serve.get_concrete_function(**{name: spec})
        signatures = SimpleNamespace(functions=lambda names: {"serving_default": serve})
        monkeypatch.setattr(predict, "signatures_of", lambda *arguments, **options: signatures)
        config = SimpleNamespace(data=data, model=None, run=SimpleNamespace(dir="."))
        options = SimpleNamespace(input=list(paths) or None, output=output, echo=echo, row=row)
        capsys.readouterr()
        predict.do(task, config, options)
        out, said = capsys.readouterr()
        return [json.loads(line) for line in out.splitlines()], said

    return ask


def write(path, content):
    path.write_text(content, "utf-8")
    return path.name


LINES = 'one\n\n{title} is text\n{"text": oops\n{"id": 7}\n{"text": "three", "id": 8}\nloud!\n'


def test_each_line_has_its_answer_and_what_cant_be_answered_has_nulls_and_why(asked, tmp_path):
    answers, said = asked(write(tmp_path / "a.txt", LINES))
    assert [answer["length"] for answer in answers] == [3, None, 15, None, None, 5, None]
    nothing = {"length": None, "bytes": None}
    assert answers[1] == nothing | {"error": "column 'text' is empty"}
    assert answers[3]["error"].startswith("not JSON")
    assert answers[4] == nothing | {"error": "a JSON object without 'text'; its keys are: id"}
    assert "a loud text" in answers[6]["error"] and "\n" not in answers[6]["error"]
    assert "error" not in answers[0]
    assert said == (
        "4 of 7 records could not be answered; the first: a.txt, row 2: column 'text' is empty\n"
    )


def test_answers_repeat_columns_and_name_their_rows(asked, tmp_path):
    answers, _ = asked(write(tmp_path / "a.txt", LINES), echo=["id"], row=True)
    assert [answer["id"] for answer in answers] == [None, None, None, None, 7, 8, None]
    assert [(answer["input"], answer["row"]) for answer in answers] == [
        ("a.txt", row) for row in range(1, 8)
    ]
    table = write(tmp_path / "b.csv", "id,text,length\n5,,9\n6,six,9\n7\n")
    answers, said = asked(table, echo=["id", "length"], row=True)
    assert [answer["id"] for answer in answers] == ["5", "6", None]
    assert answers[1] == {"input": "b.csv", "row": 3, "id": "6", "input_length": "9"} | {
        "length": 3, "bytes": [0.0, 0.0]
    }  # fmt: skip
    assert "2 of 3 records could not be answered; the first: b.csv, row 2: " in said
    with pytest.raises(DataError, match=r"b.csv: no column 'it'.*the columns are: id, text"):
        asked(table, echo=["it"])


def test_a_table_of_answers_has_a_column_of_errors_only_where_there_are_any(asked, tmp_path):
    table = write(tmp_path / "b.csv", "id,text\n5,\n6,six\n")
    asked(table, output="o.csv", echo=["id"])
    found = list(csv.reader(io.StringIO((tmp_path / "o.csv").read_text())))
    assert found == [["id", "length", "error"], ["5", "", "column 'text' is empty"], ["6", "3", ""]]
    asked(write(tmp_path / "c.csv", "id,text\n6,six\n"), output="o.csv")
    assert (tmp_path / "o.csv").read_text() == "length\n3\n"


def test_a_table_of_no_answers_has_its_columns(asked, tmp_path):
    asked(write(tmp_path / "a.csv", "text\n"), output="o.csv")
    assert (tmp_path / "o.csv").read_text() == "length\n"


def test_what_cant_be_read_or_written_is_said_before_anything_is_answered(asked, tmp_path, capsys):
    one = write(tmp_path / "a.txt", "one\n")
    with pytest.raises(DataError, match=r"b\.txt does not exist"):
        asked(one, "b.txt")
    assert capsys.readouterr().out == ""
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="--output out: is a folder; name a file in it"):
        asked(one, output="out")


def test_bad_rows_are_errors_or_left_out_if_asked_for(asked, tmp_path):
    path = write(tmp_path / "a.txt", LINES)
    with pytest.raises(DataError, match=r"^a.txt, row 2: column 'text' is empty, and 2 more"):
        asked(path, on_bad_row="error")
    with pytest.raises(DataError, match=r"^b.txt, row 2: .*a loud text.*on_bad_row skip\.$"):
        asked(write(tmp_path / "b.txt", "one\nloud!\n"), on_bad_row="error")
    answers, said = asked(path, on_bad_row="skip")
    assert [answer["length"] for answer in answers] == [3, 15, 5]
    assert said.startswith("4 of 7 records were left out; the first: a.txt, row 2: ")


def test_lines_that_are_not_utf8_are_answered_in_their_place(asked, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ncaf\xe9\ntwo\n")
    answers, _ = asked("a.txt")
    assert [answer["length"] for answer in answers] == [3, None, 3]
    assert answers[1]["error"].startswith("byte 0xe9 is not UTF-8")


def test_texts_that_are_cut_are_said(asked, tmp_path):
    _, said = asked(write(tmp_path / "a.txt", f"one\n{'long ' * 20}\n\n"))
    assert "1 of 2 texts were cut to the greatest length" in said


def test_a_picture_that_is_refused_does_not_stop_the_others(asked, tmp_path):
    from PIL import Image

    for name in ("a.png", "b.bmp", "d.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
    with (tmp_path / "b.bmp").open("ab") as file:
        file.write(b"\0\0" * 40)  # which Pillow passes over, and TensorFlow may not
    (tmp_path / "c.png").write_bytes(b"no picture")
    names = ["a.png", "b.bmp", "c.png", "d.png", "gone.png"]
    answers, said = asked(*names, kind="image", row=True)
    assert [answer["file"] for answer in answers] == names
    assert [answer["input"] for answer in answers] == names
    assert [answer["size"] for answer in answers if "error" not in answer] == [48, 48]
    assert "c.png is not a picture" in answers[2]["error"]
    assert "gone.png does not exist" in answers[4]["error"]
    assert said.startswith("3 of 5 records could not be answered; the first: b.bmp: ")
    listed = write(tmp_path / "list.txt", "a.png\ngone.png\n")
    answers, _ = asked(listed, kind="image", row=True)
    assert [(a["input"], a["row"], a["file"]) for a in answers] == [
        ("list.txt", 1, "a.png"), ("list.txt", 2, "gone.png")
    ]  # fmt: skip


def test_all_answers_may_be_that_there_is_none(asked, tmp_path):
    _, said = asked(write(tmp_path / "a.txt", "\n\n"), output="o.csv")
    assert (tmp_path / "o.csv").read_text().splitlines()[0] == "length,error"
    assert said.startswith("2 of 2 records")


@pytest.mark.parametrize(
    "message",
    [
        "bad bytes",
        "{{function_node __wrapped__Decode_device_/job:localhost/x:0}} bad bytes [Op:Decode]",
        "Graph execution error:\n\nDetected at node a (most recent call last):\n  File x\n\n"
        "bad bytes\n\t [[{{node a/b}}]] [Op:__inference_f_10]",
        "Graph execution error:\n\nDetected at node a\n\n2 root error(s) found.\n"
        "  (0) INVALID_ARGUMENT:  bad bytes\n\t [[{{node a}}]]\n  (1) CANCELLED: no\n",
        "Graph execution error:\n\nAt 'a'\nNode: 'a/b'\nbad bytes\n\t [[{{node a/b}}]]",
    ],
)
def test_what_tensorflow_says_is_told_without_where_in_the_graph_it_was(message):
    assert reason_of(tf.errors.InvalidArgumentError(None, None, message)) == "bad bytes"
