"""The mean of several epochs' weights, as a run's best model if it is better than each of them.

Vaswani et al. 2017, section 6.1, take the last checkpoints; Junczys-Dowmunt et al. 2016 the best
ones, too. Moving averages, such as batch norms have, are averaged like weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tasks.engine.files import atomic_path
from tasks.engine.options import Train
from tasks.engine.run import Run
from tasks.engine.training.checkpoints import (
    best_epoch,
    damaged,
    float32_twin,
    rank,
    save_best,
    weights_of,
)
from tasks.engine.training.states import DAMAGED, History


class EpochWeights(keras.callbacks.Callback):
    """Keeps the weights of the epochs whose mean may be taken: the averaged ones if the optimizer
    keeps any.

    It is to come before `Checkpoints`, so that of an epoch which is finished the weights are there.

    Args:
        run: whose epochs.
        history: the logs of each finished epoch, which `Checkpoints` appends to.
        chosen: the epochs whose mean would be taken if that were all.
    """

    def __init__(
        self, run: Run, history: History, chosen: Callable[[History], Sequence[int]]
    ) -> None:
        super().__init__()
        self._run = run
        self._history = history
        self._chosen = chosen

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # Those of the epoch before are needed if this one's state is not written, or is damaged.
        histories = (self._history, self._history[:-1])
        chosen = {epoch for history in histories for epoch in self._chosen(history)}
        kept = {self._run.epoch_weights(epoch) for epoch in chosen}
        for path in set(self._run.epochs.glob("*")) - kept:
            path.unlink()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with atomic_path(self._run.epoch_weights(epoch + 1)) as path:
            np.savez(path, *weights_of(self.model))


def averaged_epochs(history: History, train: Train, monitor: str, mode: str) -> list[int]:
    """The epochs, counted from one, whose weights `--train.average` takes the mean of: the last or
    the best of those in which what is trained at the end was trained."""
    since = train.freeze_epochs if len(history) > train.freeze_epochs else 0
    entries = history[since:]
    if train.average == "best":
        by_value = sorted(entries, key=lambda entry: rank(entry, monitor, mode), reverse=True)
        entries = by_value[: train.average_epochs]
    return sorted(int(entry["epoch"]) for entry in entries[-train.average_epochs :])


def take_average(
    model: keras.Model,
    run: Run,
    history: History,
    train: Train,
    monitor: str,
    mode: str,
    validate: Callable[[], float] | None,
) -> None:
    """Makes the mean of epochs the run's best model if it is better than the best epoch, or if
    nothing can tell; the run keeps what was found.

    Args:
        model: whose weights become the mean.
        monitor: the key of the history that says what is best.
        mode: whether `max` or `min` of it is best.
        validate: the model's value of `monitor`; None without validation data.
    """
    epochs = averaged_epochs(history, train, monitor, mode)
    for variable, value in zip(model.weights, _mean(run, epochs), strict=True):
        variable.assign(value)
    found: dict[str, Any] = {"epochs": epochs, "kept": True}
    if validate is not None:
        best = best_epoch(history, monitor, mode)
        mine, theirs = validate(), history[best - 1][monitor]
        found |= {monitor: mine, "best_epoch": best, f"best_epoch_{monitor}": theirs}
        found["kept"] = mine > theirs if mode == "max" else mine < theirs
    if found["kept"]:
        copy = float32_twin(model)
        for variable, target in zip(model.weights, copy.weights, strict=True):
            target.assign(variable.numpy())
        save_best(copy, run)
    run.write_averaged(found)


def _mean(run: Run, epochs: Sequence[int]) -> list[np.ndarray]:
    """The mean of the epochs' weights; of what is no float, such as random seeds, the last."""
    mean: list[np.ndarray] = []
    for number, epoch in enumerate(epochs, 1):
        weights = _read(run, epoch)
        mean = [
            old + (new - old) / number if new.dtype.kind == "f" else new
            for old, new in zip(mean or weights, weights, strict=True)
        ]
    return mean


def _read(run: Run, epoch: int) -> list[np.ndarray]:
    """The weights that `EpochWeights` kept."""
    path = run.epoch_weights(epoch)
    try:
        with np.load(path) as file:
            return [file[name] for name in file.files]
    except DAMAGED as error:
        raise damaged(run, path, error) from None
