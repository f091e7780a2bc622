"""What of a run is kept while it is trained: the best model, and states to go on from."""

import math
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tasks.engine.errors import Stopped, UsageError, one_line
from tasks.engine.files import atomic_path
from tasks.engine.options import Train
from tasks.engine.run import Run
from tasks.engine.training.ballot import Ballot
from tasks.engine.training.states import History, Progress, State, States


class Checkpoints(keras.callbacks.Callback):
    """Keeps the best model, the history, and states of the training; stops when patience ends, or
    when it is asked to.

    `best.keras` is a model without optimizer that computes in float32 whatever training did, so
    that it answers the same on every machine; its weights are the averages if the optimizer keeps
    any. `last.keras` is the model after the last epoch, with its optimizer. What training goes on
    from are the `states`; best and patience are read off the history that they hold, and whatever
    an epoch writes is written before the state that says that the epoch is done.

    It is to come after all callbacks whose doings must not be lost.

    Args:
        run: whose checkpoints.
        states: where states are saved.
        history: the logs of the epochs before this callback's first, appended to in place.
        monitor: the key of the logs that picks the best.
        mode: whether `max` or `min` of it is best.
        train: says when to save, and how patient to be.
        since: the epochs from which patience counts, such as those with a frozen model.
        last: the epoch, counted from one, that training ends with.
        ballot: what says that some worker wants a state saved, or training stopped.
        clocks: the seconds of the epoch so far, by what they were spent on.
        resumed: the state within an epoch that training goes on from.
        flush: writes what other callbacks hold back, before a state says that it was done.
    """

    def __init__(
        self,
        run: Run,
        states: States,
        history: History,
        monitor: str,
        mode: str,
        train: Train,
        *,
        since: int = 0,
        last: int,
        ballot: Ballot,
        clocks: Callable[[], dict[str, float]] = dict,
        resumed: State | None = None,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._run = run
        self._states = states
        self._history = history
        self._monitor = monitor
        self._mode = mode
        self._train = train
        self._since = since
        self._last = last
        self._ballot = ballot
        self._clocks = clocks
        self._resumed = resumed
        self._flush = flush
        self._copy: keras.Model | None = None
        self._epoch = 0
        self._saved = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        if self._resumed is not None:  # only now, as Keras has just set its metrics to nothing
            self._states.restore(self._resumed, self.model)
            self._resumed = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not logs or batch + 1 == self.params["steps"]:  # done before; or `on_epoch_end` is next
            return
        steps, minutes = self._train.checkpoint_steps, self._train.checkpoint_minutes
        if minutes and time.monotonic() - self._saved > 60 * minutes:
            self._ballot.ask_to_save()
        save, stop = self._ballot.count()
        done = self._epoch * self.params["steps"] + batch + 1
        if save or stop or (steps and done % steps == 0):
            self._save(batch + 1, wait=stop)
        if stop:
            raise Stopped(f"after batch {batch + 1} of epoch {self._epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._history.append({"epoch": epoch + 1} | {k: float(v) for k, v in (logs or {}).items()})
        best = best_epoch(self._history, self._monitor, self._mode)
        patience = self._train.patience
        impatient = patience is not None and epoch + 1 - max(best, self._since) >= patience
        with saving(self._run.checkpoints):
            if best == epoch + 1:
                self._save_best()
            self._run.write_history(self._history)
            if impatient or epoch + 1 == self._last:
                with atomic_path(self._run.last) as path:
                    self.model.save(path)
        self._epoch = epoch + 1
        _, stop = self._ballot.count()
        self._save(0, wait=stop)
        if stop:
            raise Stopped(f"after epoch {epoch + 1}")
        if impatient:
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        with saving(self._run.checkpoints):
            self._states.settle()

    def _save(self, batch: int, wait: bool) -> None:
        self._flush()
        clocks = self._clocks() if batch else {}
        progress = Progress(self._epoch, batch, list(self._history), clocks)
        with saving(self._run.checkpoints):
            self._states.save(progress, self.model, wait)
        self._saved = time.monotonic()

    def _save_best(self) -> None:
        if self._copy is None:
            self._copy = float32_twin(self.model)
        copy_weights(self.model, self._copy)
        save_best(self._copy, self._run)


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Says of a disk that takes no more what is still there."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{folder}: can't be written ({one_line(error, 200)}); the checkpoints before are "
            "intact: make room, and give the same command again"
        ) from None


def best_epoch(history: History, monitor: str, mode: str) -> int:
    """The first epoch, counted from one, whose monitored value no other beats; NaN beats none."""
    return int(max(history, key=lambda entry: rank(entry, monitor, mode))["epoch"])


def rank(entry: Mapping[str, float], monitor: str, mode: str) -> float:
    """What is larger the better an epoch's monitored value is; that of NaN is the smallest."""
    value = entry[monitor] if mode == "max" else -entry[monitor]
    return -math.inf if math.isnan(value) else value


def in_float32(config: Any) -> Any:
    """A Keras config with every dtype policy in it replaced by float32."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: in_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(in_float32(value) for value in config)
    return config


def float32_twin(model: keras.Model) -> keras.Model:
    """A model like this one that computes in float32, with weights of its own."""
    copy = type(model).from_config(in_float32(model.get_config()))
    copy.trainable = True  # whatever was frozen here
    return copy


def save_best(model: keras.Model, run: Run) -> None:
    """Makes a model the run's best."""
    with atomic_path(run.best) as path:
        model.save(path)


def copy_weights(model: keras.Model, copy: keras.Model) -> None:
    """Copies a model's weights to its twin, the averaged ones where the optimizer keeps any."""
    for target, value in zip(copy.weights, weights_of(model), strict=True):
        target.assign(value)


def weights_of(model: keras.Model) -> list[np.ndarray]:
    """A model's weights, in its order, the averaged ones where the optimizer keeps any."""
    averages = {}
    # In mixed_float16 Keras wraps the optimizer in one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer is not None and optimizer.use_ema:
        averaged = optimizer._model_variables_moving_average
        averages = {v.path: a for v, a in zip(model.trainable_variables, averaged, strict=True)}
    return [averages.get(weight.path, weight).numpy() for weight in model.weights]


def restore(model: keras.Model, state: State, states: States, run: Run) -> None:
    """Gives a model that is compiled as it was the values of a state."""
    try:
        model.optimizer.build(model.trainable_variables)
        states.restore(state, model)
    except ValueError as error:
        raise damaged(run, run.states, error) from None


def is_older(last: Path) -> bool:
    """Whether a last model is of a version that kept no states beside it, but all in one file."""
    return zipfile.is_zipfile(last) and "epoch.txt" in zipfile.ZipFile(last).namelist()


def damaged(run: Run, file: Path, error: Exception) -> UsageError:
    """What to say of a run's file that can't be read."""
    return UsageError(
        f"{file}: damaged ({one_line(error, 200)}); delete {run.checkpoints} to train anew"
    )
