"""What a served forecaster can be asked."""

from collections.abc import Collection, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from data.series.calendar import format_times, parse_times, shift
from data.series.preprocessor import ForecastPreprocessor
from tasks.engine.exporting.signatures import lines_asset, traced


def _with_level(outputs: tf.Tensor, level: np.ndarray) -> tf.Tensor:
    """Forecasts (batch, horizon, targets, any) with what was taken off the targets."""
    if not level.any():
        return outputs
    return tf.cast(tf.cast(outputs, tf.float64) + level[:, np.newaxis], tf.float32)


class ForecasterSignatures(tf.Module):
    """The signature of a forecaster, with B series in a batch.

    `serving_default`: `history` (float32, [B, window, columns], raw, columns in the order of
    `assets/columns.txt`), and, if the model looks at them, `time` (string, [B]: the time stamp of
    each history's last step, such as 2016-07-01 13:00:00, UTC or of the training data's zone),
    `future` (float32, [B, horizon, known columns]) and `static` (string, [B, static columns]) ->
    `forecast` (float32, [B, horizon, targets], in raw units), `quantiles` (float32, [B, horizon,
    targets, quantiles], rising) if the model has any, and `time` (string, [B, horizon]) if it was
    given.

    Args:
        model: from the preprocessor's inputs to (batch, horizon, targets, 1 + quantiles).
        preprocessor: from raw records to the model's inputs.
        assets: files to put into the SavedModel's assets.
    """

    def __init__(
        self, model: keras.Model, preprocessor: ForecastPreprocessor, assets: Sequence[Path] = ()
    ) -> None:
        super().__init__(name="forecaster")
        names = lines_asset(self, "columns.txt", preprocessor.columns.numbers)
        self.assets = [tf.saved_model.Asset(str(path)) for path in (*assets, names)]
        self.preprocessor = preprocessor
        # A closure, not an attribute: of an attribute, tf.Module would save the whole Keras model.
        self._forecast = lambda record: _with_level(
            tf.cast(model(preprocessor(record), training=False), tf.float32),
            preprocessor.target_level,
        )

    def functions(self, names: Collection[str] | None = None) -> dict[str, ConcreteFunction]:
        """The signatures by name, traced: for `tf.saved_model.save`, or to be called here."""

        def serve(**record: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = self._forecast(record)
            answer = {"forecast": outputs[..., 0]}
            if outputs.shape[-1] > 1:
                answer["quantiles"] = outputs[..., 1:]
            if "time" in record:
                steps = tf.range(1, self.preprocessor.horizon + 1, dtype=tf.int64)
                clock = self.preprocessor.clock
                last = parse_times(record["time"], clock)[:, tf.newaxis]
                times = shift(last, steps, self.preprocessor.frequency)
                answer["time"] = format_times(times, clock)
            return answer

        functions = traced({"serving_default": (serve, self.preprocessor.raw())}, names)
        self._variables = functions["serving_default"].variables
        return functions
