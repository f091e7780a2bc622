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
