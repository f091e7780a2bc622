"""Sequence models with recurrent layers: a classifier and a forecaster.

model = sequence_classifier(SequenceClassifierConfig(), num_classes=2, vocabulary_size=5000)
logits = model({"token_ids": ids, "padding_mask": mask})
"""

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from zoo.configs import RecurrentConfig, SequenceClassifierConfig
from zoo.layers.recurrent import GRU, LSTM
from zoo.layers.vocabulary import TokenEmbedding


def recurrent_stack(
    config: RecurrentConfig, x: Any, mask: Any = None, scope: str = "recurrent"
) -> Any:
    """Recurrent layers on top of one another, and what becomes of their steps.

    Args:
        config: which layers.
        x: a Keras tensor, float (batch, steps, features).
        mask: a Keras tensor, bool (batch, steps), true up to a sequence's length; None if all
            sequences are of one length.
        scope: what the layers' names begin with.

    Returns:
        A Keras tensor, float (batch, width): `width` is units, twice that if bidirectional.
    """
    if config.input_dropout:
        x = _step_dropout(config.input_dropout, f"{scope}_input_dropout")(x)
    for index in range(config.layers):
        name = f"{scope}{index + 1}"
        last = index == config.layers - 1
        whole = not last or config.pooling != "last"
        y = _recurrent(config, whole, name)(x, mask=mask)
        if config.residual and index and whole:
            y = layers.Add(name=f"{name}_residual")([x, y])
        if config.layer_norm:
            y = layers.LayerNormalization(name=f"{name}_norm")(y)
        if config.dropout:
            y = layers.Dropout(config.dropout, name=f"{name}_dropout")(y)
        x = y
    if config.pooling == "last":
        return x
    return Pooling(config.pooling, name=f"{scope}_pooling")(x, mask=mask)


def _step_dropout(rate: float, name: str) -> layers.Layer:
    """Dropout of the same features at each step of a sequence."""
    return layers.Dropout(rate, noise_shape=(None, 1, None), name=name)


def _recurrent(config: RecurrentConfig, sequences: bool, name: str) -> layers.Layer:
    kind = LSTM if config.cell == "lstm" else GRU
    own = kind(
        config.units,
        return_sequences=sequences,
        recurrent_dropout=config.recurrent_dropout,
        name=name,
    )
    return layers.Bidirectional(own, name=name) if config.bidirectional else own


@keras.saving.register_keras_serializable(package="zoo")
class Pooling(layers.Layer):
    """The outputs of a sequence's real steps as one: their `mean`, `max`, or a mean weighted by
    `attention` (Yang et al. 2016, equations 5 to 7).

    Takes float (batch, steps, width) and a bool mask (batch, steps) or None; returns float
    (batch, width), zeros for a sequence of no steps.
    """

    def __init__(self, how: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.how = how
        self.supports_masking = True  # a mask that comes with the inputs is no mistake

    def build(self, inputs_shape: tuple, mask_shape: Any = None) -> None:
        if self.how == "attention":
            width = inputs_shape[-1]
            self.projection = layers.Dense(
                width, "tanh", dtype=self.dtype_policy, name="projection"
            )
            self.score = layers.Dense(1, use_bias=False, dtype=self.dtype_policy, name="score")
            self.projection.build(inputs_shape)
            self.score.build(inputs_shape)
        self.built = True

    def call(self, inputs: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        real = tf.ones(tf.shape(x)[:2], tf.bool) if mask is None else tf.cast(mask, tf.bool)
        real = real[..., tf.newaxis]
        some = tf.reduce_any(real, axis=1)
        if self.how == "max":
            pooled = tf.reduce_max(tf.where(real, x, x.dtype.min), axis=1)
        else:
            scores = tf.zeros_like(x[..., :1])
            if self.how == "attention":
                scores = tf.cast(self.score(self.projection(inputs)), tf.float32)
            weights = tf.nn.softmax(tf.where(real, scores, scores.dtype.min), axis=1)
            pooled = tf.reduce_sum(weights * x, axis=1)
        return tf.cast(tf.where(some, pooled, 0.0), self.compute_dtype)

    def compute_mask(self, *masks: Any) -> None:
        """There are no steps left to mask."""

    def compute_output_shape(self, inputs_shape: tuple, mask_shape: Any = None) -> tuple:
        return inputs_shape[0], inputs_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "how": self.how}


@keras.saving.register_keras_serializable(package="zoo")
class SequenceClassifier(keras.Model):
    """A recurrent net over tokens or numbers, pooled and classified.

    Inputs are a dict of `padding_mask`, int32 (batch, steps), 1 on real steps, and either
    `token_ids`, int32 (batch, steps), or `values`, float32 (batch, steps, features). The output is
    float32 logits (batch, num_classes), whatever the dtype policy.

    Args:
        backbone: these inputs to features (batch, width).
        num_classes: width of the output.
    """

    def __init__(self, backbone: keras.Model, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.num_classes = num_classes
        self.classifier = layers.Dense(num_classes, dtype="float32", name="classifier")
        self.classifier.build((None, backbone.output_shape[-1]))
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        return self.classifier(self.features(inputs, training))

    def features(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """What the classifier sees of each sequence: float32 (batch, width)."""
        return tf.cast(self.backbone(dict(inputs), training=training), tf.float32)

    def adapt(self, inputs: Mapping[str, tf.Tensor]) -> None:
        """Computes the scale of numbers from training sequences."""
        for layer in self.backbone.layers:
            if isinstance(layer, StepNormalization):
                layer.adapt(inputs["values"], inputs["padding_mask"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "SequenceClassifier":
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects)
        return cls(**{**config, "backbone": backbone})


def sequence_classifier(
    config: SequenceClassifierConfig,
    num_classes: int,
    *,
    vocabulary_size: int | None = None,
    features: int | None = None,
) -> SequenceClassifier:
    """Builds the classifier that `config` describes, under Keras' global dtype policy.

    Args:
        config: which net.
        num_classes: width of the output.
        vocabulary_size: tokens, for sequences of tokens: 0 is padding, 1 is an unknown one.
        features: numbers a step, for sequences of numbers. One of these two is given.
    """
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    real = keras.ops.cast(mask, "bool")
    if vocabulary_size is not None:
        inputs = keras.Input((None,), dtype="int32", name="token_ids")
        x = inputs
        if config.word_dropout:
            x = WordDropout(config.word_dropout, name="word_dropout")(x)
        x = TokenEmbedding(vocabulary_size, config.embedding, name="embedding")(x)
        if config.embedding_dropout:
            x = _step_dropout(config.embedding_dropout, "embedding_dropout")(x)
    else:
        inputs = keras.Input((None, features), name="values")
        x = StepNormalization(name="normalization")(inputs)
    x = recurrent_stack(config, x, real)
    backbone = keras.Model({inputs.name: inputs, mask.name: mask}, x, name="backbone")
    return SequenceClassifier(backbone, num_classes)


@keras.saving.register_keras_serializable(package="zoo")
class WordDropout(layers.Layer):
    """Makes a share of the tokens unknown in training (Iyyer et al. 2015, section 3.1).

    Args:
        rate: the share, 0 to 1.
        unknown: the id of the unknown token.
        seed: of the random numbers.
    """

    def __init__(
        self, rate: float, unknown: int = 1, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.unknown = unknown
        self.seeds = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training:
            return ids
        drop = keras.random.uniform(tf.shape(ids), seed=self.seeds) < self.rate
        return tf.where(drop & (ids != 0), self.unknown, ids)

    def compute_output_spec(self, ids: Any, training: bool = False) -> Any:
        return keras.KerasTensor(ids.shape, ids.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "unknown": self.unknown}


@keras.saving.register_keras_serializable(package="zoo")
class StepNormalization(layers.Layer):
    """Brings each feature of sequences of numbers to mean 0 and deviation 1, as `adapt` has found
    them; until then, it changes nothing. What is not finite becomes the mean."""

    def build(self, input_shape: tuple) -> None:
        like = {"shape": (input_shape[-1],), "dtype": "float32", "autocast": False}
        self.mean = self.add_weight(**like, initializer="zeros", trainable=False, name="mean")
        self.deviation = self.add_weight(
            **like, initializer="ones", trainable=False, name="deviation"
        )
        self.built = True

    def adapt(self, values: tf.Tensor, mask: tf.Tensor) -> None:
        """Takes the mean and deviation of float (batch, steps, features), where the mask, (batch,
        steps), is not 0."""
        rows = tf.boolean_mask(values, tf.not_equal(mask, 0)).numpy().astype(np.float64)
        rows = np.where(np.isfinite(rows), rows, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a feature with no number at all
            mean, deviation = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
        self.mean.assign(np.nan_to_num(mean))
        self.deviation.assign(np.where(deviation > 0, deviation, 1.0))

    def call(self, values: tf.Tensor) -> tf.Tensor:
        values = tf.cast(values, tf.float32)
        scaled = (values - tf.convert_to_tensor(self.mean)) / tf.convert_to_tensor(self.deviation)
        return tf.cast(tf.where(tf.math.is_finite(scaled), scaled, 0.0), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape
