"""The beginning of a training from another run's best model (`--train.start_from`)."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import keras

from data.preprocessing import Preprocessor, raw_tensors
from data.records import DataSet
from tasks.engine.errors import UsageError
from tasks.engine.run import Run
from tasks.engine.task import Task
from tasks.engine.trained import best_model

_HEAD = "classifier"  # what zoo models call their last layer, of a unit a class


def inherited(task: Task, folder: str, records: DataSet) -> Preprocessor:
    """The preprocessor of the run in a folder, for these training records."""
    run = Run.existing(folder, "--train.start_from")
    run.require_task(task.name, "--train.start_from")
    theirs = Preprocessor.load(run.assets)
    if records.batches(theirs) is None:
        _require_alike(theirs, next(iter(records.chunks(1))).columns, folder)
    return task.inherited(theirs, records)


def _require_alike(preprocessor: Preprocessor, columns: Mapping[str, Any], folder: str) -> None:
    """Raises UsageError if records have other columns than the run's had."""
    pair, width = (getattr(preprocessor, name, None) for name in ("pair", "features"))
    widths = {None, *(cell.shape[1] for cell in columns.get("values", ()))}
    if pair in (None, "text_pair" in columns) and width in widths:
        with suppress(KeyError, TypeError):
            preprocessor.encode(raw_tensors(columns))
            return
    raise UsageError(
        f"--train.start_from {folder}: its model reads other columns than the data have "
        f"({', '.join(columns)}); name the same with --data.*"
    )


def take_weights(model: keras.Model, preprocessor: Preprocessor, folder: str) -> str:
    """Gives a model the weights of the best one of the run in a folder, but for the head where its
    classes are others; returns what was taken, in words.

    Raises:
        UsageError: the models are not alike.
    """
    run = Run.existing(folder)
    best = best_model(run)
    labels = getattr(preprocessor, "labels", None)
    is_new = labels != getattr(Preprocessor.load(run.assets), "labels", None)
    taken: list[Any] = []
    others: list[Any] = []
    for mine, theirs in zip(model.weights, best.weights, strict=False):
        if is_new and f"{_HEAD}/" in mine.path:
            continue
        (taken if mine.shape == theirs.shape else others).append((mine, theirs))
    count, theirs = len(model.weights), len(best.weights)
    if others or count != theirs:
        said = [f"{theirs} weights, not {count}"] if count != theirs else []
        said += [f"{m.name} is {tuple(m.shape)}, was {tuple(t.shape)}" for m, t in others[:1]]
        raise UsageError(
            f"--train.start_from {folder}: its model is another one ({'; '.join(said)}); leave out "
            "--model.* options, which are then those of that run"
        )
    for mine, theirs in taken:
        mine.assign(theirs.numpy())
    return (
        f"with a new head, as the {len(labels or ())} classes are others" if is_new else "all of it"
    )
