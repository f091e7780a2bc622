"""The mean of epochs' weights: which ones, whether it is taken, and in runs that were stopped."""

import json
import shutil
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest

from tasks.engine.command.cli import main
from tasks.engine.errors import UsageError
from tasks.engine.options import Train
from tasks.engine.run import Run
from tasks.engine.training import fit as training
from tasks.engine.training.averaging import EpochWeights, averaged_epochs, take_average
from tasks.engine.training.ballot import Ballot
from tasks.engine.training.checkpoints import Checkpoints
from tasks.engine.training.optimizers import AdamW
from tasks.engine.training.states import States
from tasks.sequence_classification import SequenceClassification

HISTORY = [{"epoch": n, "val_loss": loss} for n, loss in enumerate([0.9, 0.3, 0.5, 0.3, 0.4], 1)]


@pytest.mark.parametrize(
    ("options", "mode", "expected"),
    [
        ({"average": "last", "average_epochs": 2}, "min", [4, 5]),
        ({"average": "last", "average_epochs": 9}, "min", [1, 2, 3, 4, 5]),
        ({"average": "best", "average_epochs": 1}, "min", [2]),  # of equals the first
        ({"average": "best", "average_epochs": 3}, "min", [2, 4, 5]),
        ({"average": "best", "average_epochs": 2}, "max", [1, 3]),
        ({"average": "best", "average_epochs": 3, "freeze_epochs": 2}, "min", [3, 4, 5]),
        ({"average": "last", "average_epochs": 2, "freeze_epochs": 5}, "min", [4, 5]),
    ],
    ids=str,
)
def test_the_epochs_are_the_last_or_the_best_of_those_that_trained_alike(options, mode, expected):
    assert averaged_epochs(HISTORY, Train(**options), "val_loss", mode) == expected


def tiny(**options) -> keras.Model:
    """A model with weights, moving averages and the state of a random generator."""
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input([2]), *layers])
    model.compile(AdamW(0.1, **options), "mse", jit_compile=False)
    return model


def trained(run: Run, model: keras.Model, train: Train, callbacks=()) -> list[dict]:
    """The history of five epochs whose weights are kept as a training keeps them."""
    history: list[dict] = []

    def chosen(history):
        return averaged_epochs(history, train, "loss", "min")

    checkpoints = Checkpoints(
        run, States(run.states), history, "loss", "min", Train(), last=5, ballot=Ballot()
    )
    own = [EpochWeights(run, history, chosen), checkpoints]
    x = np.random.RandomState(0).randn(32, 2)
    model.fit(x, x[:, :1], epochs=5, verbose=0, callbacks=[*callbacks, *own])
    return history


class Weights(keras.callbacks.Callback):
    """Remembers what the weights, or their moving averages, were after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[np.ndarray]] = []

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        averages = optimizer._model_variables_moving_average if optimizer.use_ema else []
        by_path = dict(
            zip([v.path for v in self.model.trainable_variables], averages, strict=False)
        )
        self.seen.append([by_path.get(v.path, v).numpy() for v in self.model.weights])


@pytest.mark.parametrize("options", [{}, {"use_ema": True, "ema_momentum": 0.5}], ids=str)
def test_the_average_is_the_mean_of_the_epochs_weights(tmp_path, options):
    run, model, weights = Run(tmp_path), tiny(**options), Weights()
    train = Train(average="last", average_epochs=2)
    history = trained(run, model, train, [weights])
    assert len(list(run.epochs.iterdir())) <= 4  # the others can't matter any more
    take_average(model, run, history, train, "loss", "min", None)
    assert run.averaged() == {"epochs": [4, 5], "kept": True}
    best = keras.models.load_model(run.best)
    for variable, *kept in zip(best.weights, *weights.seen[3:], strict=True):
        is_state = variable.name == "seed_generator_state"
        expected = kept[-1] if is_state else np.mean(kept, axis=0)
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("value", [-1.0, 1e9, np.nan])
def test_the_average_is_taken_where_it_is_better_than_the_best_epoch(tmp_path, value):
    run, model, train = Run(tmp_path), tiny(), Train(average="best", average_epochs=2)
    history = trained(run, model, train)
    before = run.best.read_bytes()
    take_average(model, run, history, train, "loss", "min", lambda: value)
    found = run.averaged()
    lowest = min(history, key=lambda entry: entry["loss"])
    assert found["kept"] == (value == -1.0) == (run.best.read_bytes() != before)
    assert found["loss"] == pytest.approx(value, nan_ok=True)
    assert (found["best_epoch"], found["best_epoch_loss"]) == (lowest["epoch"], lowest["loss"])


def test_damaged_weights_of_an_epoch_are_named(tmp_path):
    run, model, train = Run(tmp_path), tiny(), Train(average="last")
    history = trained(run, model, train)
    run.epoch_weights(3).write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"epochs/0003.npz: damaged .* to train anew"):
        take_average(model, run, history, train, "loss", "min", None)


# Through the command line


def command(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        main(SequenceClassification, [str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    raise AssertionError("main returned")


def options(folder: Path, *more: object) -> list[object]:
    lines = [f"{'never' if n % 2 else 'always'} so {n % 7}\t{n % 2}" for n in range(60)]
    data = folder / "data.tsv"
    data.write_text("\n".join(lines) + "\n")
    columns = "--data.header false --data.text_column 0 --data.label_column 1".split()
    small = "--model.units 4 --model.embedding 4 --train.epochs 4 --train.average_epochs 2".split()
    return ["--data.train", data, *columns, *small, "--train.deterministic", "true", *more]


def best_weights(run: Run) -> list[np.ndarray]:
    return keras.models.load_model(run.best).get_weights()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, without_the_rest) -> dict[str, list[object]]:
    """The options of a run that was not stopped, by what it averages."""
    given = {}
    for average in ("last", "best"):
        folder = tmp_path_factory.mktemp(average)
        given[average] = options(folder, "--train.average", average, "--run.dir", folder / "run")
        with without_the_rest():
            assert command("train", *given[average]) == 0
    return given


@pytest.mark.usefixtures("only_training")
@pytest.mark.parametrize(
    ("average", "when"),
    [
        ("last", "in the second epoch"),
        ("best", "in the second epoch"),
        ("best", "before the average"),
        ("last", "after it"),
    ],
)
def test_a_stopped_run_has_the_average_of_one_that_was_not(
    whole, tmp_path, stopping, average, when
):
    stopped = Run(tmp_path)
    given = [*whole[average][:-1], stopped.folder]

    def stop_average(*arguments):
        if when == "after it":
            take_average(*arguments)
        raise KeyboardInterrupt

    averaging = mock.patch.object(training, "take_average", stop_average)
    with stopping() if when == "in the second epoch" else averaging:
        assert command("train", *given) == 130
    assert command("train", *given) == 0
    right = Run(whole[average][-1])
    assert stopped.averaged() == right.averaged() and len(right.averaged()["epochs"]) == 2
    for one, other in zip(best_weights(stopped), best_weights(right), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not stopped.epochs.exists()


def test_metrics_and_report_say_what_came_of_it_and_the_command_can_be_given_again(whole):
    run = Run(whole["last"][-1])
    written = run.best.stat().st_mtime_ns
    assert command("train", *whole["last"]) == 0
    assert run.best.stat().st_mtime_ns == written
    found = json.loads(run.metrics_file.read_text())["train"]["averaged"]
    assert found == run.averaged() and {"val_accuracy", "kept"} <= set(found)
    report = (run.folder / "report.md").read_text("utf-8")
    assert "- averaged epochs: 3, 4\n" in report and "- averaged kept: " in report


def test_without_validation_data_the_average_is_taken_as_it_is(tmp_path, monkeypatch):
    beside = tmp_path / "beside"

    def spy(model, run, *arguments):
        shutil.copytree(run.epochs, beside)
        take_average(model, run, *arguments)

    monkeypatch.setattr(training, "take_average", spy)
    given = options(tmp_path, "--train.average", "last", "--data.validation_fraction", 0)
    run = Run(tmp_path / "run")
    assert command("train", *given, "--run.dir", run.folder) == 0
    files = [np.load(path) for path in sorted(beside.iterdir())]
    assert run.averaged() == {"epochs": [3, 4], "kept": True}
    for index, value in enumerate(best_weights(run)):
        if value.dtype.kind == "f":
            kept = [file[f"arr_{index}"] for file in files[-2:]]
            np.testing.assert_allclose(value, np.mean(kept, axis=0), rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("only_training")
def test_the_averages_value_is_of_its_own_examples_alone(tmp_path):
    given = options(tmp_path, "--train.average", "last", "--train.average_epochs", 1)
    run = Run(tmp_path / "run")
    assert command("train", *given, "--run.dir", run.folder) == 0
    assert run.averaged()["val_accuracy"] == run.history()[-1]["val_accuracy"]
