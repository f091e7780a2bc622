"""What of a run is kept after each epoch, and what is read back to resume it."""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tasks.engine.errors import UsageError
from tasks.engine.files import atomic_path
from tasks.engine.run import Run

History = list[dict[str, float]]

_EPOCH = "epoch.txt"  # a member of last.keras


class Checkpoints(keras.callbacks.Callback):
    """Keeps the best and the last model and the history, and stops when patience ends.

    `best.keras` is a model without optimizer that computes in float32 whatever training did, so
    that it answers the same on every machine; its weights are the averages if the optimizer keeps
    any.
    `last.keras` is everything that training goes on from. The history is written before `last`, so
    that an epoch which `last` holds is never missing from it; best and patience are read off the
    history, so there is no further state to save.

    Args:
        run: whose checkpoints.
        history: the logs of the epochs before this callback's first, appended to in place.
        monitor: the key of the logs that picks the best.
        mode: whether `max` or `min` of it is best.
        patience: stop after this many epochs without a better one; None to go on.
        since: the epochs from which patience counts, such as those with a frozen model.
    """

    def __init__(
        self,
        run: Run,
        history: History,
        monitor: str,
        mode: str,
        patience: int | None,
        since: int = 0,
    ) -> None:
        super().__init__()
        self._run = run
        self._history = history
        self._monitor = monitor
        self._mode = mode
        self._patience = patience
        self._since = since
        self._copy: keras.Model | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._history.append({"epoch": epoch + 1} | {k: float(v) for k, v in (logs or {}).items()})
        best = best_epoch(self._history, self._monitor, self._mode)
        if best == epoch + 1:
            self._save_best()
        self._run.write_history(self._history)
        with atomic_path(self._run.last) as path:
            self.model.save(path)
            # In the same file, so that weights and epoch can't disagree.
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(_EPOCH, str(epoch + 1))
        if self._patience is not None and epoch + 1 - max(best, self._since) >= self._patience:
            self.model.stop_training = True

    def _save_best(self) -> None:
        if self._copy is None:
            self._copy = float32_twin(self.model)
        copy_weights(self.model, self._copy)
        save_best(self._copy, self._run)


def best_epoch(history: History, monitor: str, mode: str) -> int:
    """The first epoch, counted from one, whose monitored value no other beats."""
    key = (lambda entry: entry[monitor]) if mode == "max" else (lambda entry: -entry[monitor])
    return int(max(history, key=key)["epoch"])


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


def finished_epochs(run: Run) -> int:
    """The number of epochs that the last checkpoint has seen; 0 if there is none."""
    for remains in run.checkpoints.glob(".*.keras"):
        remains.unlink()  # of a save that was killed
    if not run.last.exists():
        return 0
    try:
        with zipfile.ZipFile(run.last) as archive:
            return int(archive.read(_EPOCH))
    except (zipfile.BadZipFile, ValueError, KeyError, OSError) as error:
        raise damaged(run, run.last, error) from None


def restore(model: keras.Model, run: Run) -> None:
    """Loads the last checkpoint into a model that is compiled as it was."""
    try:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(run.last)
    except (zipfile.BadZipFile, ValueError, KeyError, OSError) as error:
        raise damaged(run, run.last, error) from None


def damaged(run: Run, file: Path, error: Exception) -> UsageError:
    """What to say of a run's file that can't be read."""
    return UsageError(
        f"{file}: damaged ({' '.join(str(error).split())[:200]}); "
        f"delete {run.checkpoints} to train anew"
    )
