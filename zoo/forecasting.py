"""Forecasting: recurrent layers beside a linear forecast, all steps of the horizon at once.

model = forecaster(ForecasterConfig(horizon=24), targets=1, mean=[20.0], deviation=[5.0])
answers = model({"history": history})  # (batch, 24, 1, 1 + quantiles), in raw units
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from zoo.configs import ForecasterConfig
from zoo.lstm import recurrent_stack

KERNEL = 25  # steps of DLinear's moving average
RECURRENT_STEPS = 96  # that are read by default; the linear part sees the whole window


def forecaster(
    config: ForecasterConfig,
    targets: int,
    mean: Sequence[float],
    deviation: Sequence[float],
    *,
    step_features: int = 0,
    static_features: int = 0,
    zero: Sequence[float] = (),
) -> keras.Model:
    """Builds the model that `config` describes, under Keras' global dtype policy.

    It takes a dict of float32: `history` (batch, window, columns), in raw units, the targets first;
    where there are such features, `past` (batch, window, features) and `future` (batch, horizon,
    features), of each step; and `static` (batch, features). Its output is float32 (batch, horizon,
    targets, 1 + quantiles): the mean and the quantiles, which rise, in raw units.

    Args:
        config: which net.
        targets: columns to forecast.
        mean, deviation: of each column of the history in the training data.
        step_features: features of each step.
        static_features: features of each series.
        zero: what stands for 0 in each target, which is 0 itself by default.
    """
    shapes = {
        "history": (config.window, len(mean)),
        "past": (config.window, step_features),
        "future": (config.horizon, step_features),
        "static": (static_features,),
    }
    inputs = {name: keras.Input(s, name=name) for name, s in shapes.items() if s[-1]}
    scaled = Standardize(mean, deviation, dtype="float32", name="standardize")(inputs["history"])
    own = None
    if config.reversible_norm:
        scaled, own = WindowNorm(targets, dtype="float32", name="window_norm")(scaled)
    parts = [_linear(config, scaled[..., :targets])] if config.linear else []
    state = None
    if config.layers:
        state = _state(config, scaled, inputs, targets)
        parts.append(_steps(config, state, inputs.get("future"), targets))
    middle = layers.Add(dtype="float32", name="mean")(parts) if len(parts) > 1 else parts[0]
    outputs = Quantiles(config.quantiles, config.separate, dtype="float32", name="quantiles")(
        [middle] if state is None else [middle, state]
    )
    if own is not None:
        outputs = WindowDenorm(dtype="float32", name="window_denorm")([outputs, own])
    outputs = Destandardize(
        mean[:targets], deviation[:targets], dtype="float32", name="destandardize"
    )(outputs)
    if config.non_negative:
        least = zero or [0.0] * targets
        outputs = AtLeast(least, dtype="float32", name="non_negative")(outputs)
    return keras.Model(inputs, outputs, name="forecaster")


def _linear(config: ForecasterConfig, targets: Any) -> Any:
    """DLinear (Zeng et al. 2023, section 4): a moving average and the rest, each mapped from the
    window to the horizon by weights that all targets share."""
    trend = MovingAverage(KERNEL, dtype="float32", name="trend")(targets)
    rest = layers.Subtract(dtype="float32", name="remainder")([targets, trend])
    parts = []
    for name, part in (("trend", trend), ("remainder", rest)):
        by_target = layers.Permute((2, 1), dtype="float32", name=f"{name}_by_target")(part)
        # The paper's code starts so that each step of the window counts the same.
        start = keras.initializers.Constant(1.0 / config.window)
        dense = layers.Dense(
            config.horizon, kernel_initializer=start, dtype="float32", name=f"{name}_linear"
        )
        parts.append(dense(by_target))
    both = layers.Add(dtype="float32", name="linear_by_target")(parts)
    return layers.Permute((2, 1), dtype="float32", name="linear")(both)


def _state(config: ForecasterConfig, scaled: Any, inputs: dict[str, Any], targets: int) -> Any:
    """What the recurrent layers make of the latest steps: (rows, width), a row for each record or,
    if targets are forecast separately, for each target of each record."""
    steps = config.recurrent_steps or min(config.window, RECURRENT_STEPS)
    x = FromLast(targets, dtype="float32", name="from_last")(scaled)[:, -steps:]
    shared = [x[..., targets:]] if x.shape[-1] > targets else []
    if "past" in inputs:
        shared.append(inputs["past"][:, -steps:])
    if "static" in inputs:
        shared.append(layers.RepeatVector(steps, name="static_by_step")(inputs["static"]))
    own = x[..., :targets]
    if config.separate:
        own = SplitTargets(name="split_targets")(own)
        shared = [_for_each(targets, part) for part in shared]
    x = layers.Concatenate(name="steps")([own, *shared]) if shared else own
    return recurrent_stack(config, x)


def _steps(config: ForecasterConfig, state: Any, future: Any, targets: int) -> Any:
    """The steps of the horizon, (batch, horizon, targets), from the recurrent state and what is
    known of the future; at first 0 where a linear forecast is beside it."""
    start = "zeros" if config.linear else "glorot_uniform"
    count = 1 if config.separate else targets
    if future is None:
        flat = layers.Dense(
            config.horizon * count, kernel_initializer=start, dtype="float32", name="head"
        )(state)
        shape = (config.horizon, count)
        steps = layers.Reshape(shape, dtype="float32", name="recurrent")(flat)
    else:
        # A context for each step, then one small net for all steps (Wen et al. 2017, section 3.2).
        width = max(8, config.units // 4)
        context = layers.Dense(config.horizon * width, name="contexts")(state)
        context = layers.Reshape((config.horizon, width), name="context_by_step")(context)
        if config.separate:
            future = _for_each(targets, future)
        x = layers.Concatenate(name="context_and_future")([context, future])
        x = layers.Dense(config.units, "relu", name="step_hidden")(x)
        steps = layers.Dense(count, kernel_initializer=start, dtype="float32", name="recurrent")(x)
    if not config.separate:
        return steps
    return JoinTargets(targets, dtype="float32", name="join_targets")(steps)


def _for_each(targets: int, shared: Any) -> Any:
    """What targets share, (batch, steps, features), for each of them: (batch x targets, ...)."""
    return RepeatRows(targets, name=f"{shared.name.split('/')[0]}_by_target")(shared)


@keras.saving.register_keras_serializable(package="zoo")
class Standardize(layers.Layer):
    """Raw numbers (..., columns) to mean 0 and deviation 1, by what the training data have."""

    def __init__(self, mean: Sequence[float], deviation: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean = [float(value) for value in mean]
        self.deviation = [float(value) for value in deviation]

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return (tf.cast(x, tf.float32) - self.mean) / self.deviation

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "deviation": self.deviation}


@keras.saving.register_keras_serializable(package="zoo")
class Destandardize(Standardize):
    """Standardised forecasts (batch, horizon, targets, any) back to raw units."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        mean, deviation = (np.array(v, np.float32)[:, None] for v in (self.mean, self.deviation))
        return x * deviation + mean


@keras.saving.register_keras_serializable(package="zoo")
class AtLeast(layers.Layer):
    """Forecasts (batch, horizon, targets, any) of at least so much for each target; in training as
    they are, for what is cut off has no gradient to be mended by."""

    def __init__(self, least: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.least = [float(value) for value in least]

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return x if training else tf.maximum(x, np.array(self.least, np.float32)[:, None])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "least": self.least}


@keras.saving.register_keras_serializable(package="zoo")
class WindowNorm(layers.Layer):
    """Brings the first `targets` columns of each window to mean 0 and deviation 1 (Kim et al. 2022,
    equations 1 and 2, without the affine map): (batch, steps, columns) -> the same, and what
    `WindowDenorm` takes, (batch, 2, targets)."""

    def __init__(self, targets: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.targets = targets

    def call(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        own = x[..., : self.targets]
        mean = tf.reduce_mean(own, axis=1, keepdims=True)
        variance = tf.reduce_mean(tf.square(own - mean), axis=1, keepdims=True)
        deviation = tf.sqrt(variance + 1e-5)
        normal = tf.concat([(own - mean) / deviation, x[..., self.targets :]], axis=-1)
        return normal, tf.concat([mean, deviation], axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape, (input_shape[0], 2, self.targets)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "targets": self.targets}


@keras.saving.register_keras_serializable(package="zoo")
class WindowDenorm(layers.Layer):
    """Gives forecasts (batch, horizon, targets, any) the mean and deviation of their window back
    (Kim et al. 2022, equation 3)."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        x, own = inputs
        mean, deviation = (own[:, i, tf.newaxis, :, tf.newaxis] for i in (0, 1))
        return x * deviation + mean

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return input_shape[0]


@keras.saving.register_keras_serializable(package="zoo")
class FromLast(layers.Layer):
    """The first `targets` columns less their last step, so that a level never seen before looks
    like any (as in NLinear, Zeng et al. 2023, section 4); the other columns as they are."""

    def __init__(self, targets: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.targets = targets

    def call(self, x: tf.Tensor) -> tf.Tensor:
        own = x[..., : self.targets]
        return tf.concat([own - own[:, -1:], x[..., self.targets :]], axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "targets": self.targets}


@keras.saving.register_keras_serializable(package="zoo")
class SplitTargets(layers.Layer):
    """(batch, steps, targets) -> (batch x targets, steps, 1): each target as a series of its own,
    so that all are learned from by the same weights (Nie et al. 2023, section 3.1)."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.transpose(x, [0, 2, 1]), [-1, x.shape[1], 1])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return None, input_shape[1], 1


@keras.saving.register_keras_serializable(package="zoo")
class JoinTargets(layers.Layer):
    """(batch x targets, steps, 1) -> (batch, steps, targets)."""

    def __init__(self, targets: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.targets = targets

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(x, [-1, self.targets, x.shape[1]]), [0, 2, 1])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return None, input_shape[1], self.targets

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "targets": self.targets}


@keras.saving.register_keras_serializable(package="zoo")
class RepeatRows(layers.Layer):
    """Each row of (batch, ...) so many times, one after another."""

    def __init__(self, times: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.times = times

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.repeat(x, self.times, axis=0)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return None, *input_shape[1:]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "times": self.times}


@keras.saving.register_keras_serializable(package="zoo")
class MovingAverage(layers.Layer):
    """The mean over so many steps around each, of (batch, steps, columns); beyond the ends the
    first and the last step go on."""

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, x: tf.Tensor) -> tf.Tensor:
        before = (self.size - 1) // 2
        first, last = x[:, :1], x[:, -1:]
        padded = tf.concat(
            [tf.repeat(first, before, axis=1), x, tf.repeat(last, self.size - 1 - before, axis=1)],
            axis=1,
        )
        return tf.nn.avg_pool1d(padded, self.size, 1, "VALID")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable(package="zoo")
class Quantiles(layers.Layer):
    """The mean (batch, horizon, targets) and quantiles beside it: (batch, horizon, targets, 1 +
    quantiles).

    A quantile is the mean and an offset, which follows from the recurrent state, if there is one:
    (batch, width), or (batch x targets, width) with `separate`. Neither the mean nor the state gets
    a gradient through the quantiles, so asking for them does not change what these are fitted to.
    Quantiles that cross are put in order, which never makes them worse (Chernozhukov et al. 2010).
    """

    def __init__(self, quantiles: Sequence[float], separate: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantiles = [float(quantile) for quantile in quantiles]
        self.separate = separate

    def build(self, input_shape: list[tuple]) -> None:
        horizon, targets = input_shape[0][1:]
        count = len(self.quantiles)
        # Half a training deviation is what a forecast is off by, give or take.
        start = np.array([0.5 * NormalDist().inv_cdf(quantile) for quantile in self.quantiles])
        self.by_state = None
        self.built = True
        if not self.quantiles:
            return
        self.offsets = self.add_weight(
            shape=(horizon, targets, count),
            initializer=lambda shape, dtype=None: np.broadcast_to(start, shape),
            name="offsets",
        )
        if len(input_shape) > 1:
            outputs = horizon * count * (1 if self.separate else targets)
            self.by_state = self.add_weight(
                shape=(input_shape[1][-1], outputs), initializer="zeros", name="kernel"
            )

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        mean = tf.cast(inputs[0], tf.float32)[..., tf.newaxis]
        if not self.quantiles:
            return mean
        offsets = tf.convert_to_tensor(self.offsets)[tf.newaxis]
        if self.by_state is not None:
            state = tf.stop_gradient(tf.cast(inputs[1], tf.float32))
            own = tf.matmul(state, tf.convert_to_tensor(self.by_state))
            horizon, targets, count = self.offsets.shape
            if self.separate:
                own = tf.reshape(own, [-1, targets, horizon, count])
                offsets = offsets + tf.transpose(own, [0, 2, 1, 3])
            else:
                offsets = offsets + tf.reshape(own, [-1, horizon, targets, count])
        quantiles = tf.sort(tf.stop_gradient(mean) + offsets, axis=-1)
        return tf.concat([mean, quantiles], axis=-1)

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple:
        return *input_shape[0], 1 + len(self.quantiles)

    def get_config(self) -> dict[str, Any]:
        own = {"quantiles": self.quantiles, "separate": self.separate}
        return {**super().get_config(), **own}
