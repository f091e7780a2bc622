"""Training on two replicas has the losses of one process, whatever does not divide.

`python -m benchmarks.distribution equality` does the same for every task, with several workers too,
and compares more.
"""

import json
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.compare import apart, without_times
from benchmarks.distribution import ALIKE, TASKS
from tasks.engine.command.cli import main
from tasks.engine.task import Task

LAYOUTS = {
    "one": "--train.strategy default",
    "two": "--train.strategy mirrored --train.replicas 2",
}


pytestmark = pytest.mark.usefixtures("only_training")  # what comes after runs on one device


def trains(task: type[Task], options: list[str]) -> bool:
    """Whether a training ends well."""
    with pytest.raises(SystemExit) as end:
        main(task, ["train", *options])
    return end.value.code == 0


def task_named(name: str) -> type[Task]:
    module = import_module(f"tasks.{name}")
    found = (value for value in vars(module).values() if getattr(value, "name", None) == name)
    return next(found)


def history(run: Path) -> list[dict[str, float]]:
    return without_times(json.loads((run / "checkpoints" / "history.json").read_text()))


def test_batches_of_one_shape_change_no_number(tmp_path):
    contest = TASKS["translation"]
    options = [*contest.write(tmp_path), *ALIKE, *contest.options.split(), "--train.epochs", "2"]
    options += ["--train.batch_tokens", "null"]
    for way in ("false", "true"):
        more = ["--train.static_shapes", way, "--run.dir", str(tmp_path / way)]
        assert trains(task_named("translation"), [*options, *more])
    assert apart(history(tmp_path / "false"), history(tmp_path / "true"), floor=1e-3) < 1e-5


def test_batches_of_tokens_have_no_one_shape(tmp_path, capsys):
    contest = TASKS["translation"]
    options = [*contest.write(tmp_path), *ALIKE, *contest.options.split()]
    options += ["--train.static_shapes", "true", "--run.dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as end:
        main(task_named("translation"), ["train", *options])
    assert end.value.code == 2
    assert "batches of tokens differ in rows; give --train.batch_size" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["image_classification", "forecasting"])
def test_two_replicas_train_as_one_process(name, tmp_path):
    contest = TASKS[name]
    options = [*contest.write(tmp_path), *ALIKE, *contest.options.split(), "--train.epochs", "2"]
    for layout, more in LAYOUTS.items():
        run = ["--run.dir", str(tmp_path / layout)]
        assert trains(task_named(name), [*options, *more.split(), *run])
    one, two = (history(tmp_path / layout) for layout in LAYOUTS)
    assert len(one) == 2 and "val_loss" in one[0]
    assert apart(one, two, floor=1e-3) < 1e-5
