"""What an earlier version left goes on: its runs resume and answer, its exports load and answer."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tasks.engine.command.cli import main
from tasks.engine.exporting.export_check import inspect
from tasks.engine.exporting.stock_ops import STOCK_SERVER
from tasks.forecasting import Forecasting
from tasks.image_classification import ImageClassification
from tasks.sequence_classification import SequenceClassification
from tasks.text_classification import TextClassification
from tasks.translation import Translation

RUNS = Path(__file__).parent / "runs_149698d.zip"
TASKS = {
    task.name: task
    for task in (
        TextClassification, ImageClassification, Forecasting, SequenceClassification, Translation
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Path:
    """The unpacked archive."""
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(RUNS) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def here(golden, monkeypatch) -> Path:
    """The archive's folder, as the working folder: paths in its configs are relative to it."""
    monkeypatch.chdir(golden)
    return golden


def run(task: str, *arguments: object) -> int:
    """The exit code of a task's command."""
    with pytest.raises(SystemExit) as end:
        main(TASKS[task], [str(argument) for argument in arguments])
    return end.value.code


def assert_alike(found: object, expected: object) -> None:
    """Same keys and texts, and numbers that differ no more than those of two processors."""
    if isinstance(expected, dict):
        assert isinstance(found, dict) and expected.keys() <= found.keys()
        for key, value in expected.items():
            assert_alike(found[key], value)
    elif isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    else:
        assert found == expected


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_run_goes_on_and_answers_as_it_would_have(here, task, monkeypatch):
    monkeypatch.setattr("tasks.engine.command.train.judge", lambda *_: None)  # not looked at
    expected = json.loads((here / "expected.json").read_text())[task]
    folder = f"{task}/stopped"
    assert run(task, "train", *expected["command"], "--run.dir", folder) == 0
    history = json.loads((here / folder / "checkpoints" / "history.json").read_text())
    assert len(history) == len(expected["history"]) == 3
    for epoch, before in zip(history, expected["history"], strict=True):
        assert_alike(epoch["loss"], before["loss"])
    asked = ["--input", expected["input"], "--output", "answers.jsonl"]
    assert run(task, "predict", "--run.dir", folder, *asked) == 0
    answers = [json.loads(line) for line in (here / "answers.jsonl").read_text().splitlines()]
    assert_alike(answers[: len(expected["answers"])], expected["answers"])
    Path("answers.jsonl").unlink()


@pytest.mark.parametrize("task", TASKS)
def test_an_export_still_passes_the_check_of_exports(golden, task):
    report = inspect(golden / task / "export", STOCK_SERVER, ["serve"])
    assert report.answers, report.problems


@pytest.mark.parametrize("task", ["text_classification", "sequence_classification", "translation"])
def test_an_export_answers_as_it_did(here, task):
    expected = json.loads((here / "expected.json").read_text())[task]
    lines = (here / expected["input"]).read_text("utf-8").splitlines()
    texts = lines if task == "translation" else [line.split(",")[0] for line in lines[1:]]
    model = tf.saved_model.load(f"{task}/export/1")
    outputs = model.signatures["serving_default"](tf.constant(texts[: len(expected["answers"])]))
    for row, answer in enumerate(expected["answers"]):
        found = {name: outputs[name][row].numpy() for name in answer}
        texts = {name: value.decode() for name, value in found.items() if type(value) is bytes}
        numbers = {name: found[name].tolist() for name in found.keys() - texts.keys()}
        assert_alike(texts | numbers, answer)
