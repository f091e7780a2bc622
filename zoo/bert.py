"""BERT for classification, on KerasHub's backbone.

model = bert_classifier(BertClassifierConfig(preset="minilm"), num_classes=77)
logits = model({"token_ids": ids, "segment_ids": segments, "padding_mask": mask})
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import keras_hub
import tensorflow as tf

from zoo.backbone import BertEncoder
from zoo.configs import BertClassifierConfig
from zoo.errors import PresetError
from zoo.layers.encoder import encode
from zoo.layers.encoder_weights import EncoderWeights, frozen, live
from zoo.presets import load_backbone

# Layers and width of Google's BERT sizes (Turc et al. 2019, table 1); heads are 64 wide.
SIZES = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
    "large": (24, 1024),
}
POOLINGS = ("cls", "mean", "max")
# For `BertClassifier.for_serving`; docs/performance.md has the measurements.
FEW_TOKENS = 64  # of a request, padding included
LARGEST_CONSTANTS = 2**26  # bytes


@keras.saving.register_keras_serializable(package="zoo")
class BertClassifier(keras.Model):
    """A BERT encoder, pooled and classified (Devlin et al. 2018, section 4.1).

    Inputs are a dict of int32 (batch, length): `token_ids`, `segment_ids` and `padding_mask`, 1 on
    real tokens. The output is float32 logits (batch, num_classes), whatever the dtype policy.

    Args:
        backbone: the encoder with its weights; its own dropout applies in training.
        num_classes: width of the output.
        pooling: `cls` is the backbone's `pooled_output`, the first token through a tanh layer;
            `mean` and `max` are over real tokens.
        dropout: share of the pooled features dropped in training, 0 to 1.
        dtype: dtype policy; by default the backbone's.
    """

    def __init__(
        self,
        backbone: keras_hub.models.BertBackbone,
        num_classes: int,
        pooling: str = "mean",
        dropout: float = 0.1,
        dtype: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; it must be one of {', '.join(POOLINGS)}")
        # The encoder casts each weight itself, to keep the embedding table out of the cast.
        kwargs["autocast"] = False
        super().__init__(dtype=dtype or backbone.dtype_policy, name=name, **kwargs)
        self.backbone = backbone
        self.num_classes = num_classes
        self.pooling = pooling
        # Otherwise it would be trained by nobody and Keras would warn about its missing gradient.
        backbone.pooled_dense.trainable = pooling == "cls"
        self.dropout = keras.layers.Dropout(dropout, dtype="float32", name="dropout")
        self.classifier = keras.layers.Dense(num_classes, dtype="float32", name="classifier")
        self.classifier.build((None, backbone.hidden_dim))
        self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        features = self.features(inputs, training)
        return self.classifier(self.dropout(features, training=training))

    def features(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """What the classifier sees of each text: float32 (batch, width)."""
        rate = self.backbone.dropout
        seed = self.seed_generator.next() if training and rate else None
        weights = live(self.backbone, tf.as_dtype(self.compute_dtype))
        return self._features(weights, inputs, training=bool(training), dropout=rate, seed=seed)

    def for_serving(self, often: bool = True) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
        """`call` for inference alone, faster; to be made anew when the model was trained further.

        A request of few tokens spends its time bringing the weights to the processor, which is
        half as long for matrices that oneDNN may lay out as it likes, once: those that are
        constants of the graph. The layout that suits few tokens is bad for many, so there are two
        copies, one for each, which makes the SavedModel larger by the encoder's matrices. Where
        these take more than `LARGEST_CONSTANTS` bytes there is only the one for many.

        Many texts are answered in two halves side by side, the shorter and the longer ones: while
        one is between two products, the other has the processor, and the shorter ones are padded
        less.

        Args:
            often: whether it is to answer more than a few requests: constants take longer to set
                up than those would be faster by.

        Returns:
            A function of the model's inputs that holds copies of the encoder's layers, and the
            model's own embedding tables and classifier.
        """
        dtype = tf.as_dtype(self.compute_dtype)
        many = frozen(self.backbone, dtype, constant=False)
        matrices = [leaf for leaf in tf.nest.flatten(many.layers) if isinstance(leaf, tf.Variable)]
        size = sum(matrix.shape.num_elements() * dtype.size for matrix in matrices)
        if not often or size > LARGEST_CONSTANTS or dtype != tf.float32:
            return lambda inputs: self.classifier(self._in_halves(many, inputs))
        few = frozen(self.backbone, dtype, constant=True)
        # A product of fewer rows has a layout of its own.
        shortest = min(8, self.backbone.max_sequence_length)

        def answer(inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
            batch, length = tf.unstack(tf.shape(inputs["token_ids"]))
            padded = tf.maximum(length, shortest)
            pooled = tf.cond(
                batch * padded <= FEW_TOKENS,
                lambda: self._features(few, _padded(inputs, padded - length), short=True),
                lambda: self._in_halves(many, inputs),
            )
            return self.classifier(pooled)

        return answer

    def _in_halves(self, weights: EncoderWeights, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """`_features` for inference, of the shorter and the longer texts apart."""
        mask = tf.cast(inputs["padding_mask"], tf.int32)
        lengths = tf.reduce_max(mask * tf.range(1, tf.shape(mask)[1] + 1), axis=1)
        order = tf.argsort(lengths)
        middle = (tf.size(order) + 1) // 2
        pooled = []
        for rows in (order[:middle], order[middle:]):
            longest = tf.maximum(tf.reduce_max(tf.gather(lengths, rows)), 1)  # of no rows, too
            part = {name: tf.gather(ids, rows)[:, :longest] for name, ids in inputs.items()}
            pooled.append(self._features(weights, part))
        return tf.gather(tf.concat(pooled, axis=0), tf.math.invert_permutation(order))

    def _features(
        self, weights: EncoderWeights, inputs: Mapping[str, tf.Tensor], **how: Any
    ) -> tf.Tensor:
        # Keras 3 averages ids over replicas, as floats, when it builds a model under a strategy.
        inputs = {name: tf.cast(ids, tf.int32) for name, ids in inputs.items()}
        tokens = encode(weights, inputs, tf.as_dtype(self.compute_dtype), **how)
        return tf.cast(self._pool(tokens, inputs["padding_mask"]), tf.float32)

    def _pool(self, tokens: tf.Tensor, padding_mask: tf.Tensor) -> tf.Tensor:
        """Token vectors (batch, length, width) to one vector each, (batch, width)."""
        if self.pooling == "cls":
            return self.backbone.pooled_dense(tokens[:, 0])
        mask = tf.cast(padding_mask, tokens.dtype)
        if self.pooling == "max":
            return tf.reduce_max(tokens + (mask[:, :, tf.newaxis] - 1.0) * 1e4, axis=1)
        weights = mask / tf.maximum(tf.reduce_sum(mask, axis=1, keepdims=True), 1.0)
        return tf.reduce_sum(weights[:, :, tf.newaxis] * tokens, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "pooling": self.pooling,
            "dropout": self.dropout.rate,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "BertClassifier":
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects)
        return cls(**{**config, "backbone": backbone})


def bert_classifier(
    config: BertClassifierConfig, num_classes: int, vocabulary_size: int | None = None
) -> BertClassifier:
    """Builds the model that `config` describes, under Keras' global dtype policy.

    Args:
        config: a preset's weights, or a size to start from random weights.
        num_classes: width of the output.
        vocabulary_size: number of token ids; needed without a preset.
    """
    if config.start:
        backbone = load_backbone(config.start)
        if config.max_length > backbone.max_sequence_length:
            raise PresetError(
                f"{config.start}: reads at most {backbone.max_sequence_length} tokens; "
                f"lower max_length, which is {config.max_length}"
            )
    elif config.size and vocabulary_size:
        layers, width = SIZES[config.size]
        backbone = BertEncoder(
            vocabulary_size=vocabulary_size,
            num_layers=layers,
            num_heads=width // 64,
            hidden_dim=width,
            intermediate_dim=4 * width,
            max_sequence_length=max(512, config.max_length),
        )
    else:
        raise ValueError("a model without a preset needs a vocabulary_size")
    if config.encoder_dropout is not None:
        backbone.dropout = config.encoder_dropout
    return BertClassifier(backbone, num_classes, config.pooling, config.dropout)


def _padded(inputs: Mapping[str, tf.Tensor], more: tf.Tensor) -> dict[str, tf.Tensor]:
    """The inputs, (batch, length), with `more` tokens of padding."""
    return {name: tf.pad(ids, [[0, 0], [0, more]]) for name, ids in inputs.items()}
