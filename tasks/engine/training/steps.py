"""What `model.fit` does with a batch: Keras' own steps, with numbers that do not depend on how many
replicas share the batch, and a loss that is looked at.

    model.compile(optimizer, loss, weighted_metrics=metrics)
    take_steps(model)
    model.fit(batches)

Keras takes the mean of the replicas' losses and metrics. That is the batch's own only where each
replica has as many rows, and where all of them count. Here a replica's part of a batch may hold
rows that are only there to fill it up (see `data.batching.Share`): they count for nothing.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import trainer
from tensorflow.python.framework.config import is_op_determinism_enabled

from data.batching import FILLING
from tasks.engine.distribution import wants_static_shapes, worker_name
from tasks.engine.errors import RunError
from tasks.engine.files import atomic_path
from tasks.engine.training.ballot import Ballot
from tasks.engine.training.optimizers import added_up, take_sums
from tasks.engine.training.states import is_finite
from zoo.layers.convolution import counted_rows

Logs = dict[str, tf.Tensor]

NOT_FINITE = "the loss is not a finite number"


def take_steps(model: keras.Model, ballot: Ballot | None = None) -> None:
    """Has `fit` and `evaluate` of a model use the steps of this module.

    Its metrics are to be compiled as `weighted_metrics`: records' own weights are for the loss
    alone, but rows that only fill up must not be measured.

    Args:
        ballot: what training steps sum up between workers.
    """
    model.train_step = partial(train_step, model, ballot=ballot or Ballot())
    model.test_step = partial(test_step, model)
    take_sums(model.optimizer)
    _differ_by_replica(model)


def train_step(
    model: keras.Model, data: Any, ballot: Ballot, clock: tf.Variable | None = None
) -> Logs:
    """Learns from a batch, or from a replica's part of it.

    Args:
        model: compiled, with an optimizer that takes sums.
        data: (inputs, targets), or with float weights (rows,), `FILLING` for rows that fill up.
        ballot: what to sum up between workers.
        clock: the seconds between a replica's gradients and their sum over all are added to it.
    """
    with getattr(model, "training_step", nullcontext)():
        with tf.GradientTape() as tape:
            loss, logs = _forward(model, data, ballot)
            loss = model.optimizer.scale_loss(loss)
        weights = model.trainable_weights
        gradients = _timed(added_up, tape.gradient(loss, weights), clock)
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return logs


def _timed(change: Any, values: list[Any], clock: tf.Variable | None) -> list[Any]:
    """What a change in a graph makes of values; its seconds are added to a clock."""
    if clock is None:
        return change(values)
    with tf.device("CPU:0"), tf.control_dependencies(_there(values)):
        begin = tf.timestamp()
    changed = change(values)
    with tf.device("CPU:0"), tf.control_dependencies(_there(changed)):
        clock.assign_add(tf.timestamp() - begin)
    return changed


def _there(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def test_step(model: keras.Model, data: Any) -> Logs:
    """Judges a batch, or a replica's part of it; the arguments are those of `train_step`."""
    return _forward(model, data)[1]


def _forward(model: keras.Model, data: Any, ballot: Ballot | None = None) -> tuple[tf.Tensor, Logs]:
    """The loss to differentiate, whose sum over replicas is the batch's, and the metrics so far.

    Args:
        ballot: given in training.
    """
    training = ballot is not None
    inputs, targets, weights, real = _unpacked(data)
    with counted_rows(real):
        outputs = model(inputs, training=training)
    loss = model._compute_loss(
        x=inputs, y=targets, y_pred=outputs, sample_weight=weights, training=training
    )
    replica = tf.distribute.get_replica_context()
    replicas = 1 if replica is None else replica.num_replicas_in_sync
    if replicas == 1 and real is None:
        rows = tf.cast(_rows(targets), tf.float32)
        model._loss_tracker.update_state(loss, sample_weight=rows)
        return loss, model.compute_metrics(inputs, targets, outputs, sample_weight=real)

    if real is None:
        real = tf.ones([_rows(targets)])
    # The loss is a mean over all rows, those that fill up with a loss of zero; what is wanted is
    # that over the others.
    counts = [_count(model.loss, targets, rows) for rows in (tf.ones_like(real), real)]
    wishes = ballot.wishes() if ballot is not None else tf.zeros([2])
    summed = tf.concat([[*counts, tf.reduce_sum(real)], wishes], axis=0)
    if replicas > 1:
        summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, summed)
    filled, counted, rows = tf.unstack(summed[:3])
    if ballot is not None:
        ballot.sum_up(summed[3:])
    loss *= tf.cast(filled / tf.maximum(counted, 1.0), loss.dtype)
    whole = replica.all_reduce(tf.distribute.ReduceOp.SUM, loss) if replicas > 1 else loss
    # The same on every replica, so that each one's mean is that of all.
    model._loss_tracker.update_state(whole, sample_weight=rows / replicas)
    return loss, model.compute_metrics(inputs, targets, outputs, sample_weight=real)


class Steps(keras.callbacks.Callback):
    """What `fit` calls for each training batch, like Keras' own, but with a clock, which leaves out
    what was done before, and says of which batch the loss is not a number. It is a callback too, to
    know which one that is.

    Args:
        model: compiled, with `take_steps`.
        done: batches of the first epoch that were trained on before.
        bad_batches: a folder for batches whose loss is not a finite number.
        roll_back: given the epoch, and whether its metrics are to stay as they are, undoes such a
            batch and all since some moment, to go on; returns whether that was within this epoch.
            None to end the training, whose model is then spoilt.
    """

    def __init__(
        self,
        model: keras.Model,
        done: int = 0,
        bad_batches: Path | None = None,
        roll_back: Callable[[int, bool], bool] | None = None,
    ) -> None:
        super().__init__()
        self.set_model(model)
        self._function: Callable[[Any], Logs] | None = None
        self._left_out = done
        self._bad_batches = bad_batches
        self._roll_back = roll_back
        self._bad_ones = 0  # in a row
        self._logs: Logs = {}
        self._epoch = self._batch = 0
        self._waited = 0.0  # seconds, for the input, in all
        self._clock: tf.Variable | None = None
        strategy = model.distribute_strategy
        # XLA knows no clock, and with determinism there must be none.
        untimed = wants_static_shapes(strategy) or is_op_determinism_enabled()
        if strategy.num_replicas_in_sync > 1 and not untimed:
            with tf.init_scope(), tf.device("CPU:0"):
                self._clock = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        model.train_function = self

    def clocks(self) -> dict[str, float]:
        """The seconds so far that steps waited for their input, and, where there are several
        replicas, until their gradients were added up, the slowest replica's included; not on a TPU,
        nor with `--train.deterministic`, which forbid to look at a clock."""
        clocks = {"input_seconds": self._waited}
        if self._clock is not None:
            own = self.model.distribute_strategy.experimental_local_results(self._clock)
            clocks["all_reduce_seconds"] = float(np.mean([part.numpy() for part in own]))
        return clocks

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # The loss is of the weights before a step; no other step shows what the last one did. Now,
        # as they are validated next.
        if batch + 1 == self.params["steps"] and not is_finite(self.model):
            self._not_finite("the weights are not finite", None)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self._batch = batch

    def __call__(self, iterator: Iterator[Any]) -> Logs:
        """Trains on the next batch; returns the metrics, none for a batch that was done before."""
        if self._left_out:
            self._left_out -= 1
            return {}
        begin = time.perf_counter()
        batch = next(iterator)
        self._waited += time.perf_counter() - begin
        if self._function is None:
            self._function = self._made_for(iterator)
        logs = self._function(batch)
        # The mean since the epoch began, over all replicas: all workers see the same number.
        if not np.isfinite(float(logs["loss"])):
            self._not_finite(NOT_FINITE, batch)
            return self._logs or self.model.get_metrics_result()
        self._bad_ones, self._logs = 0, logs
        return logs

    def _made_for(self, iterator: Any) -> Callable[[Any], Logs]:
        """Keras' function for one step, given a batch instead of the iterator. It is traced once,
        for whatever shapes the iterator may give."""
        model = self.model
        strategy = model.distribute_strategy

        def step(batch: Any) -> Logs:
            train = partial(model.train_step, clock=self._clock)
            outputs = strategy.run(train, args=(batch,))
            return trainer.reduce_per_replica(outputs, strategy, reduction="auto")

        return tf.function(
            step,
            input_signature=[iterator.element_spec],
            jit_compile=model.jit_compile,
            autograph=False,
        )

    def _not_finite(self, what: str, batch: Any) -> None:
        """Ends the training, or has it go back to where it was well.

        Args:
            batch: to keep; None for that after which an epoch has ended.
        """
        self._bad_ones += 1
        name, kept = f"batch {self._batch + 1} of epoch {self._epoch + 1}", ""
        if self._bad_batches is not None and batch is not None:
            whose = worker_name(self.model.distribute_strategy)
            path = self._bad_batches / f"{name} {whose}".strip().replace(" ", "-")
            path = path.with_name(f"{path.name}.npz")
            _keep(path, batch)
            kept = f", which is in {path}"
        message = f"{what} {'at' if batch is not None else 'after'} {name}{kept}"
        if self._roll_back is None or self._bad_ones > 3:
            raise RunError(
                f"{message}; a lower --train.learning_rate, --train.clip_norm, or longer "
                "--train.warmup may help, or, if it is the data's fault, --train.on_nan rollback"
            )
        print(f"warning: {message}; back to the last saved weights", file=sys.stderr, flush=True)
        is_within = self._roll_back(self._epoch, batch is None)
        if not is_within and batch is not None and self._batch + 1 == self.params["steps"]:
            raise RunError(
                f"{message}; nothing is left of this epoch, as it was not saved within; save more "
                "often: --train.checkpoint_steps 100"
            )


def _keep(path: Path, batch: Any) -> None:
    """Writes a batch, of several replicas all parts that are here: `inputs/NAME/0` and the like."""
    values: dict[str, Any] = {}
    for keys, value in keras.tree.flatten_with_path(batch):
        name = "/".join(map(str, (("inputs", "targets", "weights")[keys[0]], *keys[1:])))
        parts = tf.distribute.get_strategy().experimental_local_results(value)
        values |= {f"{name}/{number}": part.numpy() for number, part in enumerate(parts)}
    with atomic_path(path) as temporary:
        np.savez(temporary, **values)


def _unpacked(data: Any) -> tuple[Any, Any, tf.Tensor | None, tf.Tensor | None]:
    """Inputs, targets, the weights of the loss, and 1 for each row that counts, else 0."""
    inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is None:
        return inputs, targets, None, None
    real = tf.cast(tf.not_equal(weights, FILLING), tf.float32)
    return inputs, targets, weights * tf.cast(real, weights.dtype), real


def _count(loss: Any, targets: Any, real: tf.Tensor) -> tf.Tensor:
    """How much there is in some rows of what a loss is a mean over, as its `count` says: rows,
    unless it has one."""
    return loss.count(targets, real) if hasattr(loss, "count") else tf.reduce_sum(real)


def _rows(targets: Any) -> tf.Tensor:
    return tf.shape(tf.nest.flatten(targets)[0])[0]


def _differ_by_replica(model: keras.Model) -> None:
    """Has each replica draw random numbers of its own: Keras' seeds are the same on all of them,
    and would drop the same values of each part of a batch."""
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            generator.next = partial(_own_seed, type(generator).next, generator)


def _own_seed(draw: Any, generator: keras.random.SeedGenerator, ordered: bool = True) -> tf.Tensor:
    seed = draw(generator, ordered)
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return seed
    # Far from the numbers that layers add to a seed to have several of one; replica 0 keeps it.
    number = tf.cast(replica.replica_id_in_sync_group, seed.dtype)
    return seed + tf.stack([number * 1_000_003, tf.zeros_like(number)])
