"""How long epochs of `fit` take."""

import time
from statistics import median
from typing import Any

import keras
import tensorflow as tf


class Clock(keras.callbacks.Callback):
    """Notes the seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds[-1] = time.perf_counter() - self.seconds[-1]


def epoch_seconds(model: keras.Model, batches: tf.data.Dataset, steps: int, epochs: int) -> float:
    """The median of some epochs' seconds, without the first, which traces."""
    clock = Clock()
    model.fit(batches, steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=[clock])
    return median(clock.seconds[1:])
