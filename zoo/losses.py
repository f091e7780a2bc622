"""Losses and metrics that Keras lacks."""

import keras
import tensorflow as tf
from keras import ops

from zoo.layers.devices import accelerated


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
class TokenCrossentropy(keras.losses.Loss):
    """Cross-entropy of the tokens of padded sequences, with label smoothing (Szegedy et al. 2016,
    section 7), in float32 and in few passes over the logits.

    Args:
        label_smoothing: share of the target probability spread evenly over the vocabulary, 0 to 1.

    `call` takes token ids, int (batch, length), 0 for padding, and logits, of any float dtype,
    (batch, length, vocabulary); it returns float32 (batch, length), in nats, 0 for padding. Their
    mean is that over the tokens that are no padding. On several replicas, what is the mean over
    all replicas' tokens is the mean of the replicas' means, which is what Keras takes: a replica
    with fewer tokens counts for less. Weights of records, (batch,), or of tokens multiply the
    losses, but not the number of tokens that these are divided by.

    It is not for XLA on CPUs: compile a model that it trains with `jit_compile=False`.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "crossentropy", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:  # Keras would take weights of records for those of positions
            sample_weight = _to_rank(ops.convert_to_tensor(sample_weight), 2)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        return _token_losses(y_true, y_pred, self.label_smoothing) * self._shares(y_true)

    def average(self, nats, y_true, sample_weight=None):
        """What `__call__` gives, for a model that finds the cross-entropies by itself.

        Args:
            nats: with label smoothing, float32 (batch, length).
            y_true: the token ids, 0 for padding.
            sample_weight: of records, (batch,), or of tokens.
        """
        losses = nats * self._shares(y_true)
        if sample_weight is not None:
            losses *= _to_rank(tf.cast(sample_weight, tf.float32), 2)
        # As Keras divides, since gradients are summed over replicas.
        return tf.reduce_mean(losses) / tf.distribute.get_strategy().num_replicas_in_sync

    def count(self, y_true, rows):
        """How many tokens a mean over some records is over.

        Args:
            y_true: the token ids, 0 for padding.
            rows: float (batch,), 1 for the records that count, else 0.
        """
        is_token = tf.cast(tf.not_equal(y_true, 0), tf.float32)
        return tf.reduce_sum(is_token * _to_rank(tf.cast(rows, tf.float32), 2))

    def _shares(self, y_true):
        """What to multiply tokens' losses by, so that their mean is that over real tokens."""
        is_token = tf.cast(tf.not_equal(y_true, 0), tf.float32)
        return is_token / tf.maximum(_share_of_all(is_token), 1e-30)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def _share_of_all(counts):
    """The share of ones in a float tensor of ones and zeros: over all replicas, as Keras takes the
    mean of their means."""
    one, all_of_them = tf.reduce_sum(counts), tf.cast(tf.size(counts), counts.dtype)
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        one = replica.all_reduce(tf.distribute.ReduceOp.SUM, one)
        all_of_them *= replica.num_replicas_in_sync
    return one / all_of_them


@keras.saving.register_keras_serializable(package="zoo")
class Perplexity(keras.metrics.Mean):
    """The exponential of the mean cross-entropy of all tokens but padding, without smoothing.

    It takes what `TokenCrossentropy` takes. Beside that, it costs next to nothing: TensorFlow
    merges the two's softmax, as they are the same op on the same logits.
    """

    def __init__(self, name: str = "perplexity", dtype=None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        return self.add(_token_losses(y_true, y_pred), y_true, sample_weight)

    def add(self, nats, y_true, sample_weight=None):
        """`update_state` of cross-entropies that are known, float32 (batch, length)."""
        is_token = tf.cast(tf.not_equal(y_true, 0), tf.float32)
        if sample_weight is not None:
            is_token *= _to_rank(tf.cast(sample_weight, tf.float32), 2)
        # One after the other, as Keras would take the mean of each row, by its padded length.
        return super().update_state(tf.reshape(nats, [-1]), tf.reshape(is_token, [-1]))

    def result(self):
        return ops.exp(super().result())


def _token_losses(y_true, y_pred, smoothing: float = 0.0):
    """Cross-entropy of each token, padding included: float32 (batch, length)."""
    vocabulary = y_pred.shape[-1]
    logits = tf.reshape(tf.cast(y_pred, tf.float32), [-1, vocabulary])
    targets = tf.reshape(tf.cast(y_true, tf.int32), [-1])
    where = tf.stack([tf.range(tf.size(targets)), targets], axis=-1)

    @tf.custom_gradient
    def crossentropy(logits):
        # By far the fastest of the ops on CPUs, where oneDNN does it: 7 times as fast as that of
        # `tf.nn.sparse_softmax_cross_entropy_with_logits`.
        probabilities = tf.nn.softmax(logits)
        of_targets = tf.gather_nd(probabilities, where)
        losses = tf.cond(
            tf.reduce_min(of_targets) > 1e-30,  # the logarithm of what underflows is not known
            lambda: -tf.math.log(of_targets),
            lambda: -tf.gather_nd(tf.nn.log_softmax(logits), where),
        )
        if smoothing:
            # The log-probability of the mean class is the mean logit less the normalizer.
            normalizer = tf.gather_nd(logits, where) + losses
            uniform = normalizer - tf.reduce_mean(logits, axis=-1)
            losses = (1.0 - smoothing) * losses + smoothing * uniform

        def gradient(upstream):
            shifted = probabilities - smoothing / vocabulary if smoothing else probabilities
            scaled = shifted * upstream[:, tf.newaxis]
            return _added(scaled, where, (smoothing - 1.0) * upstream)

        return losses, gradient

    return tf.reshape(crossentropy(logits), tf.shape(y_true))


def _added(values, where, addends):
    """Values with some added to them at some places, all different."""
    if accelerated():
        return tf.tensor_scatter_nd_add(values, where, addends)
    # In place, while the other would copy all; but XLA has no kernel of it.
    return tf.raw_ops.ScatterNdNonAliasingAdd(input=values, indices=where, updates=addends)


def _to_rank(weight, rank: int):
    """Weights of records, with axes added up to so many."""
    while len(weight.shape) < rank:
        weight = ops.expand_dims(weight, -1)
    return weight


@keras.saving.register_keras_serializable(package="zoo")
class ForecastLoss(keras.losses.Loss):
    """Squared error of a mean, and the pinball loss of the quantiles beside it (Koenker & Bassett
    1978), both in units of each target's deviation, so that all targets count the same.

    Args:
        deviation: of each target in the training data.
        quantiles: which ones the forecast has, each from 0 to 1.

    `call` takes raw targets (batch, horizon, targets), NaN where there are none, and forecasts
    (batch, horizon, targets, 1 + quantiles); it returns float (batch, horizon), whose mean is that
    over the targets that there are, or 0 where there are none. On several replicas, it is that over
    all replicas' targets which is the mean of the replicas' means.
    """

    def __init__(self, deviation, quantiles=(), name: str = "forecast_loss", **kwargs) -> None:
        super().__init__(name=name, **kwargs)
        self.deviation = [float(value) for value in deviation]
        self.quantiles = [float(value) for value in quantiles]

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:  # Keras would take weights of records for those of steps
            sample_weight = _to_rank(ops.convert_to_tensor(sample_weight), 2)
        return super().__call__(y_true, y_pred, sample_weight)

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
        share = _share_of_all(known)
        return ops.mean(losses, axis=-1) / ops.where(share > 0, share, 1.0)

    def count(self, y_true, rows):
        """How many targets a mean over some records is over; `rows` as in `TokenCrossentropy`."""
        known = _known(y_true, "float32")
        return ops.sum(known * _to_rank(ops.cast(rows, "float32"), len(known.shape)))

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
            known *= _to_rank(ops.cast(sample_weight, known.dtype), len(known.shape))
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
