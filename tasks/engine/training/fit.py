"""Training: plain `model.fit`, under a strategy, from the task's answers."""

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from data.batching import (
    ALL,
    FILLING,
    Augmentation,
    EncodedRecords,
    Share,
    streamed_evaluation,
    streamed_training,
    without_autotuning,
)
from data.errors import DataError
from data.preprocessing import Preprocessor, raw_tensors
from data.records import DataSet, Records
from data.splits import Splits
from tasks.engine.distribution import (
    any_of,
    distributed,
    is_chief,
    require_agreement,
    wait_for_all,
    wants_static_shapes,
)
from tasks.engine.errors import RunError, Stopped, UsageError
from tasks.engine.keras_replicas import replica_spec
from tasks.engine.options import Train
from tasks.engine.run import Run
from tasks.engine.showing.tensorboard import TensorBoard, forget_after, write_augmented
from tasks.engine.task import Objective
from tasks.engine.training.averaging import EpochWeights, averaged_epochs, take_average
from tasks.engine.training.ballot import Ballot
from tasks.engine.training.checkpoints import Checkpoints, best_epoch, is_older, restore
from tasks.engine.training.optimizers import SGD, make_optimizer
from tasks.engine.training.states import History, Progress, States
from tasks.engine.training.steps import NOT_FINITE, Steps, take_steps

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
    ballot: Ballot | None = None,
) -> History:
    """Trains a model from where the run's last checkpoint left it; returns the whole history.

    Args:
        model: made under the strategy that is in scope.
        hparams: the config by section, for TensorBoard.
        shuffle_buffer: records that streamed training data is shuffled through.
        augmentation: changes the training batches.
        callbacks: the task's own.
        ballot: by which workers agree on when to save and stop.
    """
    ballot = ballot or Ballot()
    strategy = tf.distribute.get_strategy()
    chief = is_chief(strategy)
    if wants_static_shapes(strategy):
        train = replace(train, static_shapes=True)
    rolls_back = train.on_nan == "rollback"
    states = States(run.states, objective.metrics, writes=chief, holds=rolls_back)
    state = states.newest()
    if state is None and is_older(run.last):
        raise UsageError(
            f"{run.folder}: trained by an older version, whose states this one can't go on from; "
            "name another --run.dir"
        )
    progress = state.progress if state else Progress()
    done = progress.epoch
    require_agreement(strategy, (done, progress.batch))
    history = list(progress.history)
    monitor = f"val_{objective.monitor}" if splits.validation else objective.monitor
    if done >= train.epochs or _out_of_patience(history, monitor, objective.mode, train):
        return _finished(model, objective, splits, preprocessor, train, run, history)

    batches = training_batches(
        splits.train, preprocessor, train, shuffle_buffer, augmentation, run.cache
    )
    if state is None:
        shutil.rmtree(run.logs, ignore_errors=True)  # of a run that was killed before it had one
    else:
        forget_after(run.logs, done, done * batches.steps + progress.batch)
    if state is None and augmentation:
        write_augmented(run.logs / "train", next(iter(batches.start(0)))[0])
    if state is None and not train.start_from and hasattr(model, "adapt"):
        model.adapt(_some(splits.train, preprocessor))
    validation, validation_steps = None, None
    if splits.validation:
        validation, validation_steps = _validation(splits.validation, preprocessor, train)
    for phase in _phases(train):
        if (done, progress.batch) > (phase.end, 0):
            continue
        if train.freeze_epochs:
            model.backbone.trainable = not phase.frozen
        compile_model(model, objective, phase.train, batches.steps, ballot)
        first = max(done, phase.start)
        batch = progress.batch if first == done < phase.end else 0
        if state and (done > phase.start or batch):
            restore(model, state, states, run)
            _reset_metrics(model, objective)
        elif rolls_back and phase.start:  # the states so far are of another optimizer
            model.optimizer.build(model.trainable_variables)
            states.hold(Progress(first, 0, history), model)
        if first == phase.end:
            if train.ema is not None:  # which is how a `fit` ends
                model.optimizer.finalize_variable_values(model.trainable_variables)
            continue
        last = phase.end == train.epochs
        data = distributed(
            lambda share: batches.start(first, share, batch),  # noqa: B023
            _shape(train, preprocessor)[0],
        )
        rollback = partial(_roll_back, model, objective, states) if rolls_back else None
        steps = Steps(model, batch, run.bad_batches, rollback)  # a callback, too
        logs = EpochLogs(len(splits.train), steps, progress.clocks if batch else {})
        tensorboard = TensorBoard(
            run.logs,
            examples_per_step=len(splits.train) / batches.steps,
            hparams=hparams if last else None,
            inputs=replica_spec(data)[0] if first == 0 else None,
            profile=train.profile if first == done else None,
        )
        watching: list[keras.callbacks.Callback] = [
            EpochSeeds(phase.start),
            steps,
            logs,
            *callbacks,  # whose time is none of training's
            tensorboard,
            Checkpoints(
                run,
                states,
                history,
                monitor,
                objective.mode,
                phase.train,
                since=phase.start,
                last=train.epochs,
                ballot=ballot,
                clocks=logs.clocks,
                resumed=state if batch else None,
                flush=tensorboard.flush,
            ),
        ]
        if train.ema is not None:
            watching.insert(0, keras.callbacks.SwapEMAWeights())  # validation sees the averages
        if train.average != "none":
            chosen = partial(averaged_epochs, train=train, monitor=monitor, mode=objective.mode)
            watching.insert(-1, EpochWeights(run, history, chosen))
        try:
            with stopping_at_signals(ballot):
                model.fit(
                    data,
                    steps_per_epoch=batches.steps,
                    epochs=phase.end,
                    initial_epoch=first,
                    validation_data=validation,
                    validation_steps=validation_steps,
                    callbacks=watching,
                    verbose=_verbosity(),
                )
        finally:
            states.close()
        if any_of(strategy, ballot.asked_to_stop):  # too late for a step to find it
            raise Stopped(f"after epoch {len(history)}")
    return _finished(model, objective, splits, preprocessor, train, run, history)


def _reset_metrics(model: keras.Model, objective: Objective) -> None:
    """Begins to count anew; Keras leaves out metrics that it has not yet seen a batch of."""
    model.reset_metrics()
    for metric in objective.metrics:
        metric.reset_state()


def _roll_back(
    model: keras.Model, objective: Objective, states: States, epoch: int, counted: bool = False
) -> bool:
    """Gives a model the weights, and its optimizer the state, that were last saved; returns whether
    that was within this epoch, counted from 0.

    Args:
        counted: whether the metrics stay as they are: those of a whole epoch.
    """
    state = states.latest
    if state is None:
        raise RunError(
            f"{NOT_FINITE} before any state was saved to go back to; give a lower "
            "--train.learning_rate, or save earlier: --train.checkpoint_steps 100"
        )
    states.restore(state, model, metrics=not counted)
    is_within = state.progress.epoch == epoch and state.progress.batch > 0
    if not (is_within or counted):  # the metrics are those of another epoch
        _reset_metrics(model, objective)
    return is_within


@contextmanager
def stopping_at_signals(ballot: Ballot) -> Iterator[None]:
    """Has SIGTERM and SIGINT (^C) end a training after the step that runs, with its state saved;
    the second time at once."""

    def stop(number: int, frame: Any) -> None:
        if ballot.asked_to_stop:
            raise KeyboardInterrupt
        ballot.ask_to_stop()
        # ^C reaches those who read what is said, too, and it comes in the middle of anything.
        with suppress(OSError, RuntimeError):
            print("stopping: saving the training's state", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
            data, steps = _validation(splits.validation, preprocessor, train)
            compile_model(model, objective, train, 1)  # as it isn't if it was trained before

            def validate() -> float:
                judged = model.evaluate(data, steps=steps, verbose=0, return_dict=True)
                return judged[objective.monitor]

            monitor = f"val_{monitor}"
        take_average(model, run, history, train, monitor, objective.mode, validate)
        wait_for_all(tf.distribute.get_strategy())  # others may read what is removed now
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


def _some(records: DataSet, preprocessor: Preprocessor, count: int = 2048) -> Any:
    """Model inputs of a few records, evenly picked, as they are without augmentation."""
    picked = np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)
    # In parts, as a chunk ends before its bytes are too many.
    parts = [
        preprocessor.encode(raw_tensors(chunk.columns))
        for chunk in records.take(picked).chunks(count)
    ]
    encoded = {name: tf.concat([part[name] for part in parts], axis=0) for name in parts[0]}
    return preprocessor.collate(encoded)


def _validation(records: DataSet, preprocessor: Preprocessor, train: Train) -> tuple[Any, int]:
    """Every record once, again and again, for the replicas in scope; and how many batches that is
    each time."""
    size = train.batch_size
    rows, length = _shape(train, preprocessor)
    data = distributed(
        lambda share: evaluation_batches(records, preprocessor, size, share, length)[0].repeat(),
        rows,
    )
    return data, -(-len(records) // size)


def _shape(train: Train, preprocessor: Preprocessor) -> tuple[int | None, int | None]:
    """The rows and the length that all batches are brought to; None where they may differ."""
    return (train.batch_size, preprocessor.longest()) if train.static_shapes else (None, None)


def _verbosity() -> int:
    """A progress bar for people, a line an epoch for logs, and one worker alone that speaks."""
    if not is_chief(tf.distribute.get_strategy()):
        return 0
    return 1 if sys.stdout.isatty() else 2


class Start(Protocol):
    """Begins a dataset of endless batches."""

    def __call__(self, epoch: int, share: Share = ALL, batch: int = 0) -> tf.data.Dataset:
        """The share of batches from that batch of that epoch on."""


@dataclass(frozen=True)
class TrainingBatches:
    """Endless shuffled batches of (inputs, targets), each of records of like length."""

    start: Start
    steps: int  # batches an epoch


def training_batches(
    records: DataSet,
    preprocessor: Preprocessor,
    train: Train,
    shuffle_buffer: int = 100_000,
    augmentation: Augmentation | None = None,
    cache: Path | None = None,
) -> TrainingBatches:
    """The batches that a model is trained on.

    Args:
        augmentation: changes each batch, of records that are encoded once.
        cache: a folder for encoded records of one shape that would take too much memory.

    Raises:
        DataError: `train.batch_tokens` was asked for of records that are streamed or of one length,
            or for batches of one shape.
    """
    if train.static_shapes and train.batch_tokens is not None:
        raise DataError(
            "--train.static_shapes: batches of tokens differ in rows; give --train.batch_size"
        )
    length = _shape(train, preprocessor)[1]
    weighed: Callable[[tf.data.Dataset], tf.data.Dataset] = lambda made: made  # noqa: E731
    if train.class_weights == "balanced":
        weighed = partial(_weighed, balanced_class_weights(records, preprocessor))
    batches = records.batches(preprocessor)
    if batches is not None:
        pass
    elif isinstance(records, Records) or preprocessor.encoded_bytes() is not None:
        large = _is_large(records, preprocessor)
        chunks = (chunk.columns for chunk in records.chunks())
        batches = EncodedRecords(chunks, preprocessor, cache if large else None, length)
    elif train.batch_tokens is not None:
        raise DataError(
            f"--train.batch_tokens {train.batch_tokens}: not for streamed data; give "
            "--train.batch_size instead, or a larger --data.memory_limit_mb"
        )
    else:

        def streamed(epoch: int, share: Share = ALL, batch: int = 0) -> tf.data.Dataset:
            return weighed(
                streamed_training(
                    records.chunks,
                    preprocessor,
                    train.batch_size,
                    train.seed,
                    shuffle_buffer,
                    epoch,
                    share,
                    batch,
                    length,
                )
            )

        return TrainingBatches(streamed, -(-len(records) // train.batch_size))

    def start(epoch: int, share: Share = ALL, batch: int = 0) -> tf.data.Dataset:
        return weighed(
            batches.training(
                train.batch_size,
                train.seed,
                epoch,
                augmentation,
                train.batch_tokens,
                share,
                batch,
            )
        )

    return TrainingBatches(start, batches.steps(train.batch_size, train.batch_tokens))


def _is_large(records: DataSet, preprocessor: Preprocessor) -> bool:
    """Whether encoded records of one shape would take too much memory."""
    each = preprocessor.encoded_bytes()
    return each is not None and each * len(records) > LARGEST_IN_MEMORY


def evaluation_batches(
    records: DataSet,
    preprocessor: Preprocessor,
    batch_size: int,
    share: Share = ALL,
    length: int | None = None,
) -> tuple[tf.data.Dataset, np.ndarray]:
    """Every record once as batches of (inputs, targets), or a share of them, padded to `length`, or
    each batch to its longest; and which record each row of whole batches is."""
    if (own := records.batches(preprocessor)) is not None:
        return own.evaluation(batch_size, share)
    if isinstance(records, Records) and not _is_large(records, preprocessor):
        encoded = EncodedRecords([records.columns], preprocessor, length=length)
        return encoded.evaluation(batch_size, share)
    dataset = streamed_evaluation(records.chunks, preprocessor, batch_size, share, length)
    # Keras warns about data that ran out unless it knows when it will.
    steps = -(-len(records) // batch_size) * share.count
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset, np.arange(len(records))


def _weighed(classes: np.ndarray, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Batches with the weights of their targets' classes; of shares of classes, of the largest."""
    table = tf.constant(classes, tf.float32)

    def weigh(inputs: Any, targets: tf.Tensor, *weights: tf.Tensor) -> Any:
        largest = targets if targets.shape.rank == 1 else tf.argmax(targets, axis=-1)
        own = tf.gather(table, largest)
        if weights:
            own = tf.where(weights[0] == FILLING, FILLING, own * weights[0])
        return inputs, targets, own

    return without_autotuning(batches.map(weigh))


def balanced_class_weights(records: DataSet, preprocessor: Preprocessor) -> np.ndarray:
    """Weights inverse to the classes' shares, as scikit-learn's `balanced`: their mean is one."""
    counts = np.zeros(len(preprocessor.labels))
    for chunk in records.chunks():
        targets = preprocessor.targets(chunk.columns)
        counts = counts + np.bincount(targets, minlength=len(preprocessor.labels))
    return np.sum(counts) / (len(counts) * np.maximum(counts, 1))


class EpochSeeds(keras.callbacks.Callback):
    """Makes dropout of each epoch a function of the model's seeds and the epoch, whatever happened
    before: the generators, which draw once a step, are set to where they would be; and so are
    optimizers that gather gradients.

    Args:
        start: the epoch that the optimizer began with.
    """

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        self._start = start

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # In mixed_float16 Keras wraps the optimizer in one that scales the loss.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if hasattr(optimizer, "begin_epoch"):
            optimizer.begin_epoch(epoch - self._start)
        for variable in self.model.variables:
            if variable.name == "seed_generator_state":
                drawn = epoch * self.params["steps"]
                variable.assign([variable.numpy()[0], drawn])


class EpochLogs(keras.callbacks.Callback):
    """Adds `learning_rate`, `seconds` and `examples_per_second` to each epoch's logs, and what the
    seconds were spent on: `input_seconds`, and with several replicas `all_reduce_seconds`.

    The seconds are those of training steps alone, without validation.

    Args:
        examples: of an epoch.
        steps: what knows what else than computing took time.
        clocks: the seconds of the epoch that training goes on within.
    """

    def __init__(self, examples: int, steps: Steps, clocks: Mapping[str, float]) -> None:
        super().__init__()
        self._examples = examples
        self._steps = steps
        self._before = dict(clocks)
        self._begin = self._seconds = 0.0
        self._marks: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin, self._seconds = time.perf_counter(), 0.0
        self._marks = self._steps.clocks()

    def on_test_begin(self, logs: dict | None = None) -> None:
        self._seconds = time.perf_counter() - self._begin

    def clocks(self) -> dict[str, float]:
        """The seconds of this epoch so far, in all sessions."""
        own = {"seconds": self._seconds or time.perf_counter() - self._begin}
        for name, seconds in self._steps.clocks().items():
            own[name] = seconds - self._marks[name]
        return {name: seconds + self._before.get(name, 0.0) for name, seconds in own.items()}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # Keras hands the same dict to the callbacks that follow.
        assert logs is not None
        logs["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        logs |= self.clocks()
        logs["examples_per_second"] = self._examples / logs["seconds"]
        self._before = {}


def compile_model(
    model: keras.Model,
    objective: Objective,
    train: Train,
    steps_per_epoch: int,
    ballot: Ballot | None = None,
) -> None:
    """Compiles the model for a training with these options."""
    for metric in objective.metrics:  # as they may have counted for another model, or phase
        metric.reset_state()
    optimizer = make_optimizer(train, train.epochs * steps_per_epoch, steps_per_epoch)
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if not _decays(v, train.decay_biases)]
    )
    if isinstance(optimizer, SGD):
        optimizer.take_along([v for v in model.non_trainable_variables if _averages(v)])
    model.compile(
        optimizer=optimizer,
        loss=objective.loss,
        weighted_metrics=list(objective.metrics),
        # XLA compiles a program for each shape, and lengths vary from batch to batch.
        jit_compile=False,
    )
    take_steps(model, ballot)


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
