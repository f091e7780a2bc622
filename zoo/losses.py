"""Losses and metrics that Keras lacks."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="zoo")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of class ids, with label smoothing (Szegedy et al. 2016, section 7).

    Args:
        label_smoothing: share of the target probability spread evenly over all classes, 0 to 1.

    `call` takes int class ids (batch, ...), or each class' share, float (batch, ..., classes), as
    mixed pictures have them, and logits (batch, ..., classes); it returns the losses, float
    (batch, ...), in nats.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "crossentropy", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        if len(y_true.shape) == len(y_pred.shape):
            losses = ops.categorical_crossentropy(y_true, y_pred, from_logits=True)
        else:
            losses = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        if not self.label_smoothing:
            return losses
        # Against the uniform distribution: minus the mean log-probability.
        uniform = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
        return (1.0 - self.label_smoothing) * losses + self.label_smoothing * uniform

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="zoo")
class ClassAccuracy(keras.metrics.MeanMetricWrapper):
    """The share of examples whose largest logit is that of the true class.

    It takes what `SmoothedCrossentropy` takes; of shares, the largest one's class is the true one.
    """

    def __init__(self, name: str = "accuracy", dtype=None) -> None:
        super().__init__(_hits, name=name, dtype=dtype)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


def _hits(y_true, y_pred):
    if len(y_true.shape) == len(y_pred.shape):
        y_true = ops.argmax(y_true, axis=-1)
    same = ops.equal(ops.cast(y_true, "int32"), ops.cast(ops.argmax(y_pred, axis=-1), "int32"))
    return ops.cast(same, "float32")


@keras.saving.register_keras_serializable(package="zoo")
class ForecastLoss(keras.losses.Loss):
    """Squared error of a mean, and the pinball loss of the quantiles beside it (Koenker & Bassett
    1978), both in units of each target's deviation, so that all targets count the same.

    Args:
        deviation: of each target in the training data.
        quantiles: which ones the forecast has, each from 0 to 1.

    `call` takes raw targets (batch, horizon, targets), NaN where there are none, and forecasts
    (batch, horizon, targets, 1 + quantiles); it returns float (batch, horizon), whose mean is that
    over the targets that there are, or 0 where there are none.
    """

    def __init__(self, deviation, quantiles=(), name: str = "forecast_loss", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.deviation = [float(value) for value in deviation]
        self.quantiles = [float(value) for value in quantiles]

    def call(self, y_true, y_pred):
        scaled = _scaled_errors(y_true, y_pred, self.deviation)
        losses = ops.square(scaled[..., 0])
        if self.quantiles:
            over = scaled[..., 1:]
            share = ops.convert_to_tensor(self.quantiles, over.dtype)
            pinball = ops.maximum(share * over, (share - 1.0) * over)
            losses = losses + ops.mean(pinball, axis=-1)
        known = _known(y_true, losses.dtype)
        # Unknown targets have a loss of 0, by which the mean over all would be too small.
        share = ops.sum(known) / ops.cast(ops.size(known), losses.dtype)
        return ops.mean(losses, axis=-1) / ops.where(share > 0, share, 1.0)

    def get_config(self):
        own = {"deviation": self.deviation, "quantiles": self.quantiles}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="zoo")
class ScaledError(keras.metrics.MeanMetricWrapper):
    """The mean `squared` or `absolute` error of a forecast's mean, in units of each target's
    deviation, as the papers on forecasting report it; it takes what `ForecastLoss` takes."""

    def __init__(self, deviation, kind: str = "squared", name: str | None = None, dtype=None):
        short = {"squared": "scaled_mse", "absolute": "scaled_mae"}[kind]
        super().__init__(
            _scaled_error, name=name or short, dtype=dtype, deviation=deviation, kind=kind
        )
        self.deviation = [float(value) for value in deviation]
        self.kind = kind

    def update_state(self, y_true, y_pred, sample_weight=None):
        known = _known(y_true, y_pred.dtype)
        if sample_weight is not None:
            weight = ops.cast(sample_weight, known.dtype)
            while len(weight.shape) < len(known.shape):
                weight = ops.expand_dims(weight, -1)
            known *= weight
        return super().update_state(y_true, y_pred, known)

    def get_config(self):
        own = {"deviation": self.deviation, "kind": self.kind}
        return {"name": self.name, "dtype": self.dtype, **own}


def _scaled_error(y_true, y_pred, deviation, kind):
    errors = _scaled_errors(y_true, y_pred, deviation)[..., 0]
    return ops.square(errors) if kind == "squared" else ops.abs(errors)


def _scaled_errors(y_true, y_pred, deviation):
    """How far targets are above forecasts: (batch, horizon, targets, forecasts); 0 where a target
    is NaN, without a gradient."""
    y_true = ops.cast(y_true, y_pred.dtype)
    unknown = ops.isnan(y_true)
    # Twice, since a NaN that is only left out of the result would still be in its gradient.
    errors = ops.expand_dims(ops.where(unknown, 0.0, y_true), -1) - y_pred
    errors = ops.where(ops.expand_dims(unknown, -1), 0.0, errors)
    return errors / ops.expand_dims(ops.convert_to_tensor(deviation, y_pred.dtype), -1)


def _known(y_true, dtype):
    """1 where there is a target, 0 where it is NaN."""
    return ops.cast(ops.logical_not(ops.isnan(y_true)), dtype)
