"""The lines of Keras that are mended for several replicas are still as they were."""

import inspect

import pytest
from keras.src.backend.tensorflow import trainer

from tasks.engine import keras_replicas

LINES = [
    (keras_replicas._maybe_symbolic_build, "maybe_distributed_data_batch = next(it)"),
    (keras_replicas._maybe_symbolic_build, "data_batch = self.distribute_strategy.reduce(\n"),
    (keras_replicas._reduce_per_replica, 'return strategy.reduce("MEAN", v, axis=0)'),
]


@pytest.mark.parametrize(("function", "line"), LINES)
def test_keras_still_has_the_lines_that_are_mended(function, line):
    assert line in inspect.getsource(function), (
        f"Keras has changed `{function.__name__}`, which tasks/engine/keras_replicas.py replaces: "
        "see whether `fit` works without `mend()` now (keras-team/keras#20585), and else whether "
        "what replaces it still fits"
    )


def test_keras_still_calls_what_is_replaced_by_these_names():
    source = inspect.getsource(trainer.TensorFlowTrainer)
    assert "self._maybe_symbolic_build(iterator=epoch_iterator)" in source
    assert "outputs = reduce_per_replica(" in source
