"""Evaluation: what a model answers to records whose answers are known, and how good that is."""

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data.preprocessing import Preprocessor
from data.records import DataSet
from tasks.engine.distribution import processors
from tasks.engine.training.fit import evaluation_batches

# A streamed data set shows its mistakes and samples from this many first records.
_SHOWN = 10_000


@dataclass(frozen=True)
class Evaluation:
    """A model's outputs on a data set, in the records' order."""

    truth: np.ndarray
    outputs: np.ndarray
    records: Any  # the records themselves; of a streamed data set, the first of them


def evaluate(
    model: keras.Model,
    preprocessor: Preprocessor,
    records: DataSet,
    outputs: np.ndarray | None = None,
    batch_size: int = 64,
) -> Evaluation:
    """Runs a model over records, once each, unless the outputs are there already."""
    if outputs is None:
        dataset, order = evaluation_batches(records, preprocessor, batch_size)
        outputs = model.predict(dataset, verbose=1 if sys.stdout.isatty() else 0)
        outputs = _in_order(outputs, order)
    return Evaluation(records.truth(preprocessor), outputs, records.first(_SHOWN))


def features(
    model: keras.Model, preprocessor: Preprocessor, records: DataSet, batch_size: int = 64
) -> np.ndarray | None:
    """The vectors behind a model's outputs, a row a record, if the model has `features`."""
    if not hasattr(model, "features"):
        return None
    dataset, order = evaluation_batches(records, preprocessor, batch_size)
    # As Keras does: autograph would rewrite, and break, gradients written by hand.
    compute = tf.function(lambda inputs: model.features(inputs), autograph=False)
    rows = np.concatenate([compute(inputs).numpy() for inputs, _ in dataset])
    return _in_order(rows, order)


def environment(precision: str, strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """What the figures were measured on."""
    packages = ("tensorflow", "keras", "keras-hub", "tensorflow-text")
    devices = [device.device_type for device in tf.config.list_physical_devices()]
    return {
        "python": platform.python_version(),
        **{name.replace("-", "_"): version(name) for name in packages},
        "platform": platform.platform(),
        "devices": devices,
        "cpu_count": processors(),
        "precision": precision,
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
    }


def _in_order(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Rows of which `order` says which record each is, back in the records' order."""
    in_order = np.empty_like(rows)
    in_order[order] = rows
    return in_order
