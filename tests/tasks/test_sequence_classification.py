"""Sequence classification through its public door: the command line, the run, the SavedModel."""

import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Records
from tasks.engine.command.cli import main
from tasks.engine.exporting.export_check import check
from tasks.sequence_classification import SequenceClassification
from tests.serving.served import check_answers, check_signatures, serving
from zoo.configs import SequenceClassifierConfig

SMALL = "--model.units 8 --model.embedding 8 --model.dropout 0.1 --train.learning_rate 1e-2".split()
TEXTS = "--data.header false --data.text_column 0 --data.label_column 1".split()
NUMBERS = ["--data.feature_columns", "x,y"]


def run(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        main(SequenceClassification, [str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    raise AssertionError("main returned")


def write_texts(path: Path, count: int, seed: int = 0) -> Path:
    """A TSV file without a header of texts whose label is told by their first word alone."""
    random = np.random.default_rng(seed)
    lines = []
    for index in range(count):
        first = ["Never", "always"][index % 2]
        filler = random.choice("the item was 's so n't , very always Never".split(), 2 + index % 9)
        lines.append(f"{' '.join([first, *filler])}\t{['no', 'yes'][index % 2]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def walks(count: int, seed: int = 0) -> list[dict]:
    """Sequences of two features, of unequal lengths, that go up or down."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        steps = int(random.integers(3, 12))
        x = np.cumsum(random.normal([-0.6, 0.6][index % 2], 0.5, steps)).round(3)
        y = random.normal(100, 50, steps).round(3)
        rows.append({"x": x.tolist(), "y": y.tolist(), "label": ["down", "up"][index % 2]})
    return rows


def write_walks(path: Path, count: int, seed: int = 0) -> Path:
    path.write_text("\n".join(map(json.dumps, walks(count, seed))))
    return path


def trained_on(folder: Path, kind: str) -> SimpleNamespace:
    """One training run with everything: data, a bad sequence of it, run folder, export."""
    if kind == "text":
        train, test = (
            write_texts(folder / f"{name}.tsv", count, seed)
            for name, count, seed in [("train", 200, 0), ("test", 40, 1)]
        )
        columns = TEXTS
    else:
        train, test = (
            write_walks(folder / f"{name}.jsonl", count, seed)
            for name, count, seed in [("train", 200, 0), ("test", 40, 1)]
        )
        train.write_text(train.read_text() + '\n{"x": [1], "y": [], "label": "up"}\n')
        columns = [*NUMBERS, "--data.on_bad_row", "skip"]
    options = ["--data.train", train, "--data.test", test, *columns, *SMALL]
    options += ["--train.epochs", 8, "--run.dir", folder / "run"]
    options += ["--export.dir", folder / "served" / "model"]
    assert run("train", *options) == 0
    version = folder / "served" / "model" / "1"
    return SimpleNamespace(
        kind=kind,
        folder=folder / "run",
        options=options,
        columns=columns,
        test=test,
        version=version,
        served=tf.saved_model.load(str(version)).signatures,
        metrics=json.loads((folder / "run" / "metrics.json").read_text()),
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> SimpleNamespace:
    return trained_on(tmp_path_factory.mktemp("texts"), "text")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory) -> SimpleNamespace:
    return trained_on(tmp_path_factory.mktemp("numbers"), "numbers")


@pytest.fixture(params=["texts", "numbers"])
def trained(request) -> SimpleNamespace:
    """Each of the two."""
    return request.getfixturevalue(request.param)


def raw_test(trained) -> dict[str, tf.Tensor]:
    """The test records as a server is sent them."""
    if trained.kind == "text":
        return {"text": tf.constant([line.split("\t")[0] for line in lines(trained.test)])}
    rows = [json.loads(line) for line in lines(trained.test)]
    values = np.full((len(rows), max(len(row["x"]) for row in rows), 2), np.nan, np.float32)
    for index, row in enumerate(rows):
        values[index, : len(row["x"])] = np.transpose([row["x"], row["y"]])
    return {"values": tf.constant(values)}


def lines(path: Path) -> list[str]:
    return path.read_text().strip().split("\n")


def predictions(capsys, *arguments) -> list[dict]:
    capsys.readouterr()
    assert run("predict", *arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_training_learns_what_a_net_without_order_could_not(trained):
    assert trained.metrics["test"]["accuracy"] > 0.8
    assert trained.metrics["task"] == "sequence_classification"


def test_bad_sequences_are_skipped_and_counted_when_asked(numbers):
    assert numbers.metrics["train"]["skipped"] == 1


def test_the_run_folder_has_its_parts(trained):
    parts = "config.yaml metrics.json report.md logs checkpoints/best.keras assets/labels.txt"
    for part in [*parts.split(), *(["assets/vocabulary.txt"] * (trained.kind == "text"))]:
        assert (trained.folder / part).exists(), part
    assert not list(trained.folder.rglob(".*")), "temporary files are left"


def test_predict_and_the_served_model_give_the_same_answer(trained, capsys):
    answers = trained.served["serving_default"](**raw_test(trained))
    options = ["--run.dir", trained.folder, "--input", trained.test]
    options += ["--data.header", "false"] if trained.kind == "text" else []
    rows = predictions(capsys, *options)
    assert [row["label"].encode() for row in rows] == answers["label"].numpy().tolist()
    probabilities = np.array([row["probabilities"] for row in rows])
    np.testing.assert_allclose(probabilities, answers["probabilities"], atol=1e-5)
    assert rows[0].keys() == {"label", "score", "probabilities"}


def test_the_server_answers_as_predict_does(trained, capsys):
    options = ["--run.dir", trained.folder, "--input", trained.test]
    options += ["--data.header", "false"] if trained.kind == "text" else []
    rows = predictions(capsys, *options)
    request = {name: tensor.numpy() for name, tensor in raw_test(trained).items()}
    with serving(trained.version) as server:
        check_answers(server, trained.version, request, rows)
        check_signatures(server, trained.version)


def test_an_answer_depends_on_neither_batch_nor_padding(trained):
    serve = trained.served["serving_default"]
    record = raw_test(trained)
    together = serve(**record)["probabilities"].numpy()
    for index in range(0, 40, 7):
        own = {name: tensor[index : index + 1] for name, tensor in record.items()}
        if trained.kind == "numbers":
            steps = int(tf.reduce_sum(tf.cast(~tf.math.is_nan(own["values"][0, :, 0]), tf.int32)))
            own = {"values": own["values"][:, :steps]}
        np.testing.assert_allclose(serve(**own)["probabilities"][0], together[index], atol=1e-5)


def test_the_classify_signature_takes_examples(trained):
    record = raw_test(trained)
    examples = []
    for row in zip(*(tensor.numpy() for tensor in record.values()), strict=True):
        example = tf.train.Example()
        for name, value in zip(record, row, strict=True):
            feature = example.features.feature[name]
            if trained.kind == "text":
                feature.bytes_list.value.append(value)
            else:
                feature.float_list.value.extend(value[~np.isnan(value[:, 0])].ravel().tolist())
        examples.append(example.SerializeToString())
    ranked = trained.served["classify"](inputs=tf.constant(examples))
    answers = trained.served["serving_default"](**record)
    np.testing.assert_array_equal(ranked["classes"][:, 0], answers["label"])
    np.testing.assert_allclose(ranked["scores"][:, 0], answers["score"], atol=1e-5)


def test_the_export_is_one_that_the_stock_server_loads(trained):
    assert check(trained.version) == []
    assert (trained.version / "assets.extra" / "tf_serving_warmup_requests").exists()
    assert (trained.version / "assets" / "labels.txt").exists()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_any_text_is_answered(texts, batch):
    raw = tf.constant([text.encode("utf-8", "replace") for text in [*batch, ""]])
    answer = texts.served["serving_default"](text=raw)
    np.testing.assert_allclose(answer["probabilities"].numpy().sum(axis=1), 1, rtol=1e-5)


def test_no_text_at_all_is_answered(texts):
    serve = texts.served["serving_default"]
    assert np.isfinite(serve(text=tf.constant([""]))["score"]).all()
    assert np.isfinite(serve(text=tf.constant([b"\xff\xfe"]))["score"]).all()


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_no_numbers_at_all_are_answered(numbers, steps):
    nothing = np.full((2, steps, 2), np.nan, np.float32)
    answer = numbers.served["serving_default"](values=tf.constant(nothing))
    assert np.isfinite(answer["score"]).all()


def test_predict_reads_raw_lines_from_standard_input(texts, capsys, monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(b"Never so good\n"), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    rows = predictions(capsys, "--run.dir", texts.folder)
    assert [row["label"] for row in rows] == ["no"]


def test_predict_reads_numbers_in_each_form(numbers, tmp_path, capsys):
    row = walks(1, seed=9)[0]
    x, y = (" ".join(map(str, row[name])) for name in "xy")
    values = np.transpose([row["x"], row["y"]]).tolist()
    (tmp_path / "lines.txt").write_text(f"{json.dumps({'values': values})}\n{x}\t{y}\n")
    pd.DataFrame([{"x": x, "y": y}]).to_csv(tmp_path / "wide.csv", index=False)
    pd.DataFrame([{"x": row["x"], "y": row["y"]}]).to_parquet(tmp_path / "wide.parquet")
    files = [tmp_path / name for name in ("lines.txt", "wide.csv", "wide.parquet")]
    answers = predictions(capsys, "--run.dir", numbers.folder, "--input", *files)
    assert len(answers) == 4 and all(answer == answers[0] for answer in answers)


def test_evaluate_judges_other_data(trained, tmp_path):
    other = (write_texts if trained.kind == "text" else write_walks)(
        tmp_path / f"other{trained.test.suffix}", 21, seed=5
    )
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    assert run("evaluate", "--run.dir", folder, "--data.test", other) == 0
    assert json.loads((folder / "metrics.json").read_text())["test"]["examples"] == 21


def weights(folder: Path) -> list[np.ndarray]:
    return keras.models.load_model(folder / "checkpoints" / "last.keras").get_weights()


@pytest.mark.usefixtures("only_training")
def test_streamed_numbers_go_on_after_a_stop_as_if_nothing_had_happened(tmp_path, stopping):
    data = ["--data.train", write_walks(tmp_path / "data.jsonl", 60), *NUMBERS]
    options = [*data, "--data.memory_limit_mb", 0, *SMALL, "--train.epochs", 2]
    options += ["--train.deterministic", "true"]
    options += ["--model.word_dropout", 0.1]
    assert run("train", *options, "--run.dir", tmp_path / "whole") == 0
    with stopping():
        assert run("train", *options, "--run.dir", tmp_path / "stopped") == 130
    assert run("train", *options, "--run.dir", tmp_path / "stopped") == 0
    for one, other in zip(weights(tmp_path / "whole"), weights(tmp_path / "stopped"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_tokens_and_cells_are_exported(tmp_path, capsys):
    data = write_texts(tmp_path / "data.tsv", 40)
    options = ["--model.tokens", "byte", "--model.cell", "gru", "--train.epochs", 1]
    options += ["--data.validation_fraction", 0]
    options += ["--run.dir", tmp_path / "run", "--export.dir", tmp_path / "served"]
    assert run("train", "--data.train", data, *TEXTS, *SMALL, *options) == 0
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    record = tf.constant(["Never so\tgood", ""])
    (tmp_path / "lines.txt").write_text('{"text": "Never so\\tgood"}\n')
    answer = predictions(capsys, "--run.dir", tmp_path / "run", "--input", tmp_path / "lines.txt")
    probabilities = served(text=record)["probabilities"].numpy()
    np.testing.assert_allclose(probabilities[0], answer[0]["probabilities"], atol=1e-5)


@pytest.mark.parametrize("tokens", ["character", "wordpiece"])
def test_a_net_of_other_tokens_answers_when_served_as_it_does_here(tokens):
    rows = [line.split("\t") for line in ("never so good\tno", "always the item\tyes") * 9]
    texts, labels = (np.array(column, object) for column in zip(*rows, strict=True))
    task, config = SequenceClassification(), SequenceClassifierConfig(tokens=tokens, units=8)
    records = Records({"text": texts, "label": labels})
    preprocessor = task.preprocessor(config, records, None)
    model = task.model(config, preprocessor)
    serve = task.signatures(model, preprocessor, [], None).functions()["serving_default"]
    raw = tf.constant(["Never so\tgood", ""])
    logits = model(preprocessor({"text": raw}))
    served = serve(text=raw)["probabilities"]
    np.testing.assert_allclose(served, tf.nn.softmax(logits), atol=1e-5)


@pytest.mark.usefixtures("only_training")
def test_long_tables_are_trained_on(tmp_path, capsys):
    steps = [
        {"walk": f"w{index}", "t": t, "x": x, "y": y, "label": row["label"]}
        for index, row in enumerate(walks(40))
        for t, (x, y) in enumerate(zip(row["x"], row["y"], strict=True))
    ]
    shuffled = pd.DataFrame(steps).sample(frac=1, random_state=0)
    shuffled.to_csv(tmp_path / "long.csv", index=False)
    columns = [*NUMBERS, "--data.id_column", "walk", "--data.time_column", "t"]
    options = ["--data.train", tmp_path / "long.csv", *columns, *SMALL, "--train.epochs", 1]
    assert run("train", *options, "--run.dir", tmp_path / "run") == 0
    assert "36 train, 4 validation" in capsys.readouterr().out
    shuffled.drop(columns="label").to_csv(tmp_path / "new.csv", index=False)
    rows = predictions(capsys, "--run.dir", tmp_path / "run", "--input", tmp_path / "new.csv")
    assert sorted(row["id"] for row in rows) == sorted(f"w{index}" for index in range(40))
    assert rows[0].keys() == {"id", "label", "score", "probabilities"}


@pytest.mark.parametrize(
    ("contents", "options", "message"),
    [
        ("body,label\na,b\n", "", "no column 'text'; the columns are: body, label"),
        ("", "", "is an empty file"),
        ("text,label\na,x\nb,x\n", "", "every record has the label 'x'"),
        ("text,label\na,x\n,y\n", "", "row 3: column 'text' is empty"),
        ("text,label\na,x\nb,y\n", "--model.units 0", "units 0: must be at least 1"),
        ("text,label\na,x\nb,y\n", "--model.tokens letters", "letters"),
        ("text,label\na,x\nb,y\n", "--data.id_column text", "--data.feature_columns"),
        (
            "v,label\n1 2,x\n1 z,y\n",
            "--data.feature_columns v",
            "row 3: column 'v' has 'z' at step 2",
        ),
        ("v,label\n1 2,x\n1 inf,y\n", "--data.feature_columns v", "row 3: column 'v' has inf"),
        (
            "v,w,label\n1 2,1 2,x\n1 2,1,y\n",
            "--data.feature_columns v,w",
            "row 3: column 'w' has 1",
        ),
        ("v,label\n1 2,x\n,y\n", "--data.feature_columns v", "row 3: column 'v' is empty"),
        ("v,label\n1 2,x\n1,y\n", "--data.feature_columns v,w", "no column 'w'"),
        ("v,label\n1 2,x\n1,y\n", "--data.feature_columns v,v", "named for two things"),
        (
            "v,i,label\n1,a,x\n2,a,y\n",
            "--data.feature_columns v --data.id_column i",
            "row 3: column",
        ),
        ("v,label\n1 2,x\n1,y\n", "--data.feature_columns v --data.time_column label", "id_column"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(tmp_path, capsys, contents, options, message):
    data = tmp_path / "data.csv"
    data.write_text(contents)
    folder = tmp_path / "run"
    assert run("train", "--data.train", data, *options.split(), "--run.dir", folder) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not folder.exists(), "something was half-written"


def test_records_unlike_those_of_training_are_named_by_their_row(numbers, tmp_path, capsys):
    (tmp_path / "other.jsonl").write_text('{"x": [1, 2], "y": [3, 4]}\n{"x": [1], "y": [[1, 2]]}\n')
    assert run("predict", "--run.dir", numbers.folder, "--input", tmp_path / "other.jsonl") == 0
    error = capsys.readouterr().err
    assert "other.jsonl, row 2: column 'y' has 2 numbers a step" in error
    columns = ["--data.feature_columns", "x"]
    arguments = ["--run.dir", numbers.folder, "--input", tmp_path / "other.jsonl", *columns]
    run("predict", *arguments)
    assert "row 1: column 'x' has 1 numbers a step where others have 2" in capsys.readouterr().err
