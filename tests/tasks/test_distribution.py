"""Trainings of several workers, and trainings that are killed: processes of their own."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

from benchmarks.resuming import Kill, Outcome, command, train_killed, write_texts
from tasks.engine.command.cli import main
from tasks.text_classification import TextClassification

TINY = (
    "--model.size tiny --model.dropout 0 --model.encoder_dropout 0 --train.epochs 3 "
    "--train.batch_size 17 --train.precision float32 --train.checkpoint_steps 2"
).split()


def texts(folder: Path, count: int = 61) -> Path:
    write_texts(folder / "texts.csv", count)
    return folder


def launched(folder: Path, *more: str) -> subprocess.Popen:
    options = [*TINY, "--train.strategy", "multi_worker", *more]
    return subprocess.Popen(
        command(folder, "run", 2, options, exports=False),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_state(process: subprocess.Popen, run: Path) -> None:
    while not list(run.glob("checkpoints/states/*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_two_workers_of_two_replicas_train_as_one_process_even_when_stopped(tmp_path):
    folder = texts(tmp_path)
    process = launched(folder, "--train.replicas", "2")
    wait_for_a_state(process, folder / "run")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert said.count("stopped after") == 2, said
    process = launched(folder, "--train.replicas", "2")
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "[worker 0] test" in printed or "[worker 0] validation" in printed
    assert "[worker 1]" not in printed

    with pytest.raises(SystemExit) as ended:
        main(TextClassification, command(folder, "alone", 1, TINY, exports=False)[3:])
    assert ended.value.code == 0
    one, two = (Outcome.of(folder / name) for name in ("alone", "run"))
    for name in ("loss", "accuracy", "macro_f1"):
        mine, theirs = (outcome.metrics["validation"][name] for outcome in (one, two))
        assert mine == pytest.approx(theirs, rel=1e-4)
    one, two = one.history, two.history
    for mine, theirs in zip(one, two, strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-5)


@pytest.mark.parametrize("dead", [0, 1])
def test_when_a_worker_dies_the_other_ends_and_says_so(tmp_path, dead):
    folder = texts(tmp_path)
    process = launched(folder, "--train.epochs", "1000")
    wait_for_a_state(process, folder / "run")
    children = [
        child
        for child in psutil.Process(process.pid).children()
        if "tasks.text_classification" in child.cmdline()
    ]
    own = f'"index": {dead}'
    next(child for child in children if own in child.environ()["TF_CONFIG"]).kill()
    start = time.monotonic()
    _, said = process.communicate(timeout=300)
    assert time.monotonic() - start < 60
    assert process.returncode == 128 + signal.SIGKILL
    assert f"worker {1 - dead} can't go on: worker {dead} is gone; start all workers again" in said
    assert "Traceback" not in said


def test_a_training_that_is_killed_three_times_ends_as_one_that_is_left_alone(tmp_path):
    folder = texts(tmp_path, 301)
    draw = random.Random(1)
    kills = [Kill("training", draw.uniform(0, 1), saving=True), Kill("ending", draw.uniform(0, 2))]
    kills.insert(1, Kill("training", draw.uniform(0, 1)))
    with (tmp_path / "log").open("w") as log:
        killed = train_killed(folder, "killed", kills, workers=1, log=log, exports=False)
    assert len(killed) == 3, killed
    with pytest.raises(SystemExit) as ended:
        main(TextClassification, command(folder, "whole", exports=False)[3:])
    assert ended.value.code == 0
    assert Outcome.of(folder / "killed").difference(Outcome.of(folder / "whole")) == 0


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ("{", "Expecting property name"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "range"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "chief and worker"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "chief"),
        ("[1]", "TF_CONFIG"),
        (None, "python -m tasks.launch --workers 2"),
    ],
)
def test_a_wrong_tf_config_is_a_line(tmp_path, monkeypatch, capsys, config, what):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    options = ["train", *TINY, "--train.strategy", "multi_worker"]
    with pytest.raises(SystemExit) as ended:
        main(TextClassification, [*options, "--data.train", str(texts(tmp_path) / "texts.csv")])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert what in said
    assert said.count("\n") == 1


def test_without_a_tpu_the_strategy_is_refused(tmp_path, capsys):
    options = ["train", *TINY, "--train.strategy", "tpu"]
    with pytest.raises(SystemExit) as ended:
        main(TextClassification, [*options, "--data.train", str(texts(tmp_path) / "texts.csv")])
    assert ended.value.code == 2
    assert "no TPU was found" in capsys.readouterr().err


class Poison(keras.callbacks.Callback):
    """Spoils the weights once, as a step too large would."""

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 5 and not hasattr(self, "done"):
            self.done = True
            kernel = self.model.trainable_variables[-2]
            kernel.assign(np.full(kernel.shape, np.nan))


@pytest.mark.parametrize("replicas", ["1", "2"])
def test_a_loss_that_is_no_number_is_gone_back_from(tmp_path, monkeypatch, capsys, replicas):
    monkeypatch.setattr(TextClassification, "callbacks", lambda *_: [Poison()])
    options = command(texts(tmp_path), "run", 1, TINY, exports=False)[3:]
    with pytest.raises(SystemExit) as ended:
        main(
            TextClassification,
            [*options, "--train.on_nan", "rollback", "--train.replicas", replicas],
        )
    assert ended.value.code == 0
    said = capsys.readouterr().err
    assert said.count("back to the last saved weights") == 1
    assert "the loss is not a finite number at batch 2 of epoch 2" in said
    run = tmp_path / "run"
    history = json.loads((run / "checkpoints/history.json").read_text())
    assert len(history) == 3
    assert all(np.isfinite(epoch["loss"]) for epoch in history)
    assert list((run / "bad_batches").iterdir())
    with np.load(max(run.glob("checkpoints/states/*"))) as state:
        assert all(np.isfinite(state[name]).all() for name in state.files if name != "about")
