"""What keeps Keras 3's `model.fit` from working with several replicas, mended: under
`tf.distribute.MultiWorkerMirroredStrategy` always (keras-team/keras#20585), under others where the
parts of a batch differ in shape.

    mend()      # before `fit`; without replicas, all is as before

Two places in `keras/src/backend/tensorflow/trainer.py` are wrong (Keras 3.15):

1. `_maybe_symbolic_build` draws a batch and takes its mean over replicas, only to learn its shapes.
   That fails where the parts are unlike long, and always between workers. The shapes and dtypes
   are in the dataset's `element_spec`, so there is no need to draw anything.
2. `reduce_per_replica` takes workers' mean of the logs over their first axis; but they are scalars.

`tests/tasks/engine/test_keras_replicas.py` fails when Keras changes these lines.
"""

from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import trainer
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

_maybe_symbolic_build = TensorFlowTrainer._maybe_symbolic_build
_reduce_per_replica = trainer.reduce_per_replica


def mend() -> None:
    """Replaces the two functions; to do so again changes nothing."""
    TensorFlowTrainer._maybe_symbolic_build = _build_by_spec
    trainer.reduce_per_replica = _reduce


def _build_by_spec(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
    """`_maybe_symbolic_build`, which learns the shapes of a batch from what says them."""
    if iterator is None or self.distribute_strategy.num_replicas_in_sync == 1:
        _maybe_symbolic_build(self, iterator, data_batch)
        return
    spec = replica_spec(iterator._distributed_dataset)
    batch = tf.nest.map_structure(lambda s: keras.KerasTensor(s.shape, s.dtype.name), spec)
    with self.distribute_strategy.scope():
        self._symbolic_build(data_batch=batch)


def replica_spec(dataset: Any) -> Any:
    """What each replica gets of a dataset's elements, distributed or not."""
    return tf.nest.map_structure(_of_a_replica, dataset.element_spec)


def _of_a_replica(spec: Any) -> Any:
    values = getattr(spec, "_value_specs", None)  # of a `PerReplicaSpec`
    return values[0] if values else spec


def _reduce(values: Any, strategy: tf.distribute.Strategy, reduction: str) -> Any:
    """`reduce_per_replica`, which takes the workers' mean of scalars as what they are."""
    if reduction not in ("auto", "mean") or not _has_workers(strategy):
        return _reduce_per_replica(values, strategy, reduction)
    return tf.nest.map_structure(lambda value: strategy.reduce("MEAN", value, axis=None), values)


def _has_workers(strategy: tf.distribute.Strategy) -> bool:
    is_kind = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return is_kind and strategy.extended._in_multi_worker_mode()
