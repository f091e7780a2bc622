"""Training: plain `model.fit`, under a strategy, from the task's answers."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data.batching import (
    Augmentation,
    Batches,
    EncodedRecords,
    streamed_evaluation,
    streamed_training,
)
from data.errors import DataError
from data.preprocessing import Preprocessor, raw_tensors
from data.tables import Records, Splits, StreamedRecords
from data.windows import Windows
from tasks.engine.averaging import EpochWeights, averaged_epochs, take_average
from tasks.engine.checkpoints import Checkpoints, History, best_epoch, finished_epochs, restore
from tasks.engine.optimizers import SGD, make_optimizer
from tasks.engine.options import Train
from tasks.engine.run import Run
from tasks.engine.task import Objective
from tasks.engine.tensorboard import TensorBoard, write_augmented

AnyRecords = Records | StreamedRecords | Windows

LARGEST_IN_MEMORY = 2**31  # bytes of encoded records; twice that while they are put together


def fit(
    model: keras.Model,
    objective: Objective,
    splits: Splits,
    preprocessor: Preprocessor,
    train: Train,
    run: Run,
    hparams: dict[str, Any],
    shuffle_buffer: int,
    augmentation: Augmentation | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> History:
    """Trains a model from where the run's last checkpoint left it; returns the whole history.

    Args:
        model: made under the strategy that is in scope.
        hparams: the config by section, for TensorBoard.
        shuffle_buffer: records that streamed training data is shuffled through.
        augmentation: changes the training batches.
        callbacks: the task's own.
    """
    done = finished_epochs(run)
    history = run.history()[:done]
    monitor = f"val_{objective.monitor}" if splits.validation else objective.monitor
    if done >= train.epochs or _out_of_patience(history, monitor, objective.mode, train):
        return _finished(model, objective, splits, preprocessor, train, run, history)

    batches = training_batches(
        splits.train, preprocessor, train, shuffle_buffer, augmentation, run.cache
    )
    if not done and augmentation:
        write_augmented(run.logs / "train", next(iter(batches.start(0)))[0])
    if not done and hasattr(model, "adapt"):
        model.adapt(_some(splits.train, preprocessor))
    validation = None
    if splits.validation:
        validation = evaluation_batches(splits.validation, preprocessor, train.batch_size)[0]
    weights = None
    if train.class_weights == "balanced":
        weights = balanced_class_weights(splits.train, preprocessor)
    for phase in _phases(train):
        if done > phase.end:
            continue
        if train.freeze_epochs:
            model.backbone.trainable = not phase.frozen
        compile_model(model, objective, phase.train, batches.steps)
        if done > phase.start:
            restore(model, run)
        first = max(done, phase.start)
        if first == phase.end:
            if train.ema is not None:  # which is how a `fit` ends
                model.optimizer.finalize_variable_values(model.trainable_variables)
            continue
        last = phase.end == train.epochs
        data = batches.start(first)
        watching: list[keras.callbacks.Callback] = [
            EpochSeeds(),
            EpochLogs(len(splits.train)),
            *callbacks,  # whose time is none of training's
            TensorBoard(
                run.logs,
                examples_per_step=len(splits.train) / batches.steps,
                hparams=hparams if last else None,
                inputs=data.element_spec[0] if first == 0 else None,
                profile=train.profile if first == done else None,
            ),
            Checkpoints(
                run, history, monitor, objective.mode, phase.train.patience, since=phase.start
            ),
        ]
        if train.ema is not None:
            watching.insert(0, keras.callbacks.SwapEMAWeights())  # validation sees the averages
        if train.average != "none":
            chosen = partial(averaged_epochs, train=train, monitor=monitor, mode=objective.mode)
            watching.insert(-1, EpochWeights(run, history, chosen))
        model.fit(
            data,
            steps_per_epoch=batches.steps,
            epochs=phase.end,
            initial_epoch=first,
            validation_data=validation,
            class_weight=weights,
            callbacks=watching,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    return _finished(model, objective, splits, preprocessor, train, run, history)


def _finished(
    model: keras.Model,
    objective: Objective,
    splits: Splits,
    preprocessor: Preprocessor,
    train: Train,
    run: Run,
    history: History,
) -> History:
    """Does what is left after the last epoch; also when a run that was stopped then goes on."""
    if train.average != "none" and not run.averaged():
        monitor, validate = objective.monitor, None
        if splits.validation:
            data = evaluation_batches(splits.validation, preprocessor, train.batch_size)[0]
            compile_model(model, objective, train, 1)  # as it isn't if it was trained before

            def validate() -> float:
                return model.evaluate(data, verbose=0, return_dict=True)[objective.monitor]

            monitor = f"val_{monitor}"
        take_average(model, run, history, train, monitor, objective.mode, validate)
    for folder in (run.cache, run.epochs):
        shutil.rmtree(folder, ignore_errors=True)
    return history


@dataclass(frozen=True)
class _Phase:
    """Some epochs that are one `fit`, with an optimizer of their own."""

    start: int
    end: int
    frozen: bool  # whether only the head is trained
    train: Train  # as if these epochs were all


def _phases(train: Train) -> list[_Phase]:
    head = min(train.freeze_epochs, train.epochs)
    phases = []
    if head:
        options = replace(
            train,
            epochs=head,
            learning_rate=train.head_learning_rate,
            schedule="constant",
            warmup=0.0,
            patience=None,
        )
        phases.append(_Phase(0, head, True, options))
    if head < train.epochs:
        options = replace(train, epochs=train.epochs - head)
        phases.append(_Phase(head, train.epochs, False, options))
    return phases


def _some(records: AnyRecords, preprocessor: Preprocessor, count: int = 2048) -> Any:
    """Model inputs of a few records, evenly picked, as they are without augmentation."""
    picked = np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)
    # In parts, as a chunk ends before its bytes are too many.
    parts = [
        preprocessor.encode(raw_tensors(chunk.columns))
        for chunk in records.take(picked).chunks(count)
    ]
    encoded = {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]}
    return preprocessor.collate(encoded)


@dataclass(frozen=True)
class TrainingBatches:
    """Endless shuffled batches of (inputs, targets), each of records of like length."""

    start: Callable[[int], tf.data.Dataset]  # from an epoch on
    steps: int  # batches an epoch


def training_batches(
    records: AnyRecords,
    preprocessor: Preprocessor,
    train: Train,
    shuffle_buffer: int = 100_000,
    augmentation: Augmentation | None = None,
    cache: Path | None = None,
) -> TrainingBatches:
    """The batches that a model is trained on.

    Args:
        augmentation: changes each batch, of records that are encoded once.
        train: of whose `batch_tokens` each batch has rows for all replicas of the strategy in
            scope alike.
        cache: a folder for encoded records of one shape that would take too much memory.

    Raises:
        DataError: `train.batch_tokens` was asked for of records that are streamed or of one length.
    """
    batches: Batches
    if isinstance(records, Windows):
        batches = records.batches(preprocessor)
    elif isinstance(records, Records) or preprocessor.encoded_bytes() is not None:
        large = _is_large(records, preprocessor)
        chunks = (chunk.columns for chunk in records.chunks())
        batches = EncodedRecords(chunks, preprocessor, cache if large else None)
    elif train.batch_tokens is not None:
        raise DataError(
            f"--train.batch_tokens {train.batch_tokens}: not for streamed data; give "
            "--train.batch_size instead, or a larger --data.memory_limit_mb"
        )
    else:
        streamed = partial(
            streamed_training,
            records.chunks,
            preprocessor,
            train.batch_size,
            train.seed,
            shuffle_buffer,
        )
        return TrainingBatches(streamed, -(-len(records) // train.batch_size))
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    start = partial(
        batches.training,
        train.batch_size,
        train.seed,
        augmentation=augmentation,
        batch_tokens=train.batch_tokens,
        multiple=replicas,
    )
    return TrainingBatches(start, batches.steps(train.batch_size, train.batch_tokens, replicas))


def _is_large(records: AnyRecords, preprocessor: Preprocessor) -> bool:
    """Whether encoded records of one shape would take too much memory."""
    each = preprocessor.encoded_bytes()
    return each is not None and each * len(records) > LARGEST_IN_MEMORY


def evaluation_batches(
    records: AnyRecords, preprocessor: Preprocessor, batch_size: int
) -> tuple[tf.data.Dataset, np.ndarray]:
    """Every record once as batches of (inputs, targets); and which record each row is."""
    if isinstance(records, Windows):
        return records.batches(preprocessor).evaluation(batch_size)
    if isinstance(records, Records) and not _is_large(records, preprocessor):
        return EncodedRecords([records.columns], preprocessor).evaluation(batch_size)
    dataset = streamed_evaluation(records.chunks, preprocessor, batch_size)
    # Keras warns about data that ran out unless it knows when it will.
    steps = -(-len(records) // batch_size)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset, np.arange(len(records))


def balanced_class_weights(records: AnyRecords, preprocessor: Preprocessor) -> dict[int, float]:
    """Weights inverse to the classes' shares, as scikit-learn's `balanced`: their mean is one."""
    counts = np.zeros(len(preprocessor.labels))
    for chunk in records.chunks():
        targets = preprocessor.targets(chunk.columns)
        counts = counts + np.bincount(targets, minlength=len(preprocessor.labels))
    return dict(enumerate((np.sum(counts) / (len(counts) * np.maximum(counts, 1))).tolist()))


class EpochSeeds(keras.callbacks.Callback):
    """Makes dropout a function of the model's seeds and the epoch.

    Keras does not save how far its seed generators have come, so a resumed run would repeat the
    random numbers of the first epoch.
    """

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                drawn = epoch * self.params["steps"]
                variable.assign([variable.numpy()[0], drawn])


class EpochLogs(keras.callbacks.Callback):
    """Adds `learning_rate`, `seconds` and `examples_per_second` to each epoch's logs.

    The seconds are those of training steps alone, without validation.
    """

    def __init__(self, examples: int) -> None:
        super().__init__()
        self._examples = examples
        self._begin = self._seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin, self._seconds = time.perf_counter(), 0.0

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._seconds = time.perf_counter() - self._begin

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = self._seconds or time.perf_counter() - self._begin
        # Keras hands the same dict to the callbacks that follow.
        assert logs is not None
        logs["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        logs["seconds"] = seconds
        logs["examples_per_second"] = self._examples / seconds


def compile_model(
    model: keras.Model, objective: Objective, train: Train, steps_per_epoch: int
) -> None:
    """Compiles the model for a training with these options."""
    for metric in objective.metrics:  # as they may have counted for another model, or phase
        metric.reset_state()
    optimizer = make_optimizer(train, train.epochs * steps_per_epoch)
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if not _decays(v, train.decay_biases)]
    )
    if isinstance(optimizer, SGD):
        optimizer.take_along([v for v in model.non_trainable_variables if _averages(v)])
    model.compile(
        optimizer=optimizer,
        loss=objective.loss,
        metrics=list(objective.metrics),
        # XLA compiles a program for each shape, and lengths vary from batch to batch.
        jit_compile=False,
    )


def _averages(variable: keras.Variable) -> bool:
    return variable.name in ("moving_mean", "moving_variance")


def _decays(variable: keras.Variable, biases: bool) -> bool:
    """Whether weight decay applies: to weight matrices, not to embeddings, nor, unless they are
    asked for, to biases and norms."""
    return variable.name == "kernel" if len(variable.shape) > 1 else biases


def _out_of_patience(history: History, monitor: str, mode: str, train: Train) -> bool:
    if train.patience is None or len(history) <= train.freeze_epochs:
        return False
    best = best_epoch(history, monitor, mode)
    return len(history) - max(best, train.freeze_epochs) >= train.patience
