"""Convolutional image classifiers.

model = image_classifier(CnnConfig(preset="airbench"), num_classes=10, shape=(32, 32, 3))
model.adapt(images)  # float pictures, for the whitening layer
logits = model({"image": images})
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from zoo.configs import CnnConfig
from zoo.errors import PresetError
from zoo.layers.convolution import (
    GELU_SCALE,
    BatchNorm,
    Conv3x3,
    PartialIdentity,
    Silu,
    Whitening,
)
from zoo.resnet import load_resnet, resnet

SMALLEST = {"simple": 8, "airbench": 16}  # pixels each way; 32 for all others
WIDTHS = {"simple": (32, 64, 128), "airbench": (64, 256, 256)}


@keras.saving.register_keras_serializable(package="zoo")
class ImageClassifier(keras.Model):
    """A convolutional backbone, pooled and classified.

    The input is a dict with `image`, float (batch, height, width, channels), normalised; the output
    is float32 logits (batch, num_classes), whatever the dtype policy.

    Args:
        backbone: pictures to features (batch, width).
        num_classes: width of the output.
        dropout: share of the features dropped in training, 0 to 1.
        scale: what logits are multiplied by, which sets how fast the classifier learns.
        views: what is averaged for an answer, but not in training: `one`, the picture as it is;
            `mirror`, it and its mirror image; `translate`, these at a weight of a half, and both
            moved by a pixel up left and down right (Jordan 2024, section 3.5).
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        dropout: float = 0.0,
        scale: float = 1.0,
        views: str = "one",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.num_classes = num_classes
        self.scale = scale
        self.views = views
        self.dropout = layers.Dropout(dropout, dtype="float32", name="dropout")
        self.classifier = layers.Dense(
            num_classes,
            use_bias=scale == 1.0,
            # PyTorch's, where logits are scaled as in a recipe from there.
            kernel_initializer="glorot_uniform"
            if scale == 1.0
            else keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            dtype="float32",
            name="classifier",
        )
        self.classifier.build((None, backbone.output_shape[-1]))
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        image = inputs["image"]
        if training or self.views == "one":
            return self._logits(image, training)
        plain = self._both_sides(image)
        if self.views == "mirror":
            return plain
        height, width = image.shape[1:3]
        padded = tf.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")
        moved = [padded[:, at : at + height, at : at + width] for at in (0, 2)]
        return 0.5 * plain + 0.25 * tf.add_n([self._both_sides(image) for image in moved])

    def _both_sides(self, image: tf.Tensor) -> tf.Tensor:
        return 0.5 * (self._logits(image) + self._logits(tf.reverse(image, [2])))

    def _logits(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        features = tf.cast(self.backbone(image, training=training), tf.float32)
        return self.classifier(self.dropout(features, training=training)) * self.scale

    def features(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What the classifier sees of each picture: float32 (batch, width)."""
        return tf.cast(self.backbone(inputs["image"], training=False), tf.float32)

    def explain(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Where each picture speaks for the class that is answered, by Grad-CAM.

        It is that of Selvaraju et al. 2017, equations 1 and 2, of the picture as it is, on the
        backbone's last map of 4x4 places or more, as fewer would not say where.

        Returns:
            float32 (batch, height, width), from 0 to 1; all 0 where nothing speaks for it.
        """
        image, net = inputs["image"], self.backbone
        outputs = [layer.output for layer in net.layers if len(layer.output.shape) == 4]
        large = [output for output in outputs if min(output.shape[1:3]) >= 4]
        parts = (_split(net, output) for output in reversed(large or outputs[:1]))
        before, after = next(pair for pair in parts if pair)
        maps = before(image, training=False)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            features = after(maps, training=False)
            logits = self.classifier(tf.cast(features, tf.float32))
            answered = tf.gather(logits, tf.argmax(self(inputs), axis=-1), batch_dims=1)
        weights = tf.reduce_mean(tape.gradient(answered, maps), axis=[1, 2], keepdims=True)
        for_it = tf.reduce_sum(tf.cast(maps * weights, tf.float32), axis=-1, keepdims=True)
        for_it = tf.nn.relu(for_it)
        most = tf.reduce_max(for_it, axis=[1, 2, 3], keepdims=True)
        heat = tf.image.resize(tf.math.divide_no_nan(for_it, most), image.shape[1:3])
        return tf.clip_by_value(heat[..., 0], 0.0, 1.0)

    def filters(self) -> np.ndarray:
        """The first layer's kernels: float32 (filters, height, width, channels)."""
        first = next(layer for layer in self.backbone.layers if layer.weights)
        kernel = keras.ops.convert_to_numpy(first.weights[0]).astype(np.float32)
        kernels = np.moveaxis(kernel, -1, 0)
        # What isn't a picture's channels can only be shown in grey.
        return kernels if kernels.shape[-1] in (1, 3) else kernels.mean(-1, keepdims=True)

    def adapt(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Computes what is computed from the training pictures instead of being trained."""
        for layer in self.backbone.layers:
            if isinstance(layer, Whitening):
                layer.adapt(inputs["image"])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "dropout": self.dropout.rate,
            "scale": self.scale,
            "views": self.views,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ImageClassifier":
        backbone = keras.saving.deserialize_keras_object(config["backbone"], custom_objects)
        return cls(**{**config, "backbone": backbone})


def _split(net: keras.Model, at: Any) -> tuple[keras.Model, keras.Model] | None:
    """The net before and after one of its layers' outputs; None if not all goes through it."""
    try:
        return keras.Model(net.input, at), keras.Model(at, net.output)
    except ValueError:  # as in a block that its shortcut goes around
        return None


def image_classifier(
    config: CnnConfig, num_classes: int, shape: tuple[int, int, int]
) -> ImageClassifier:
    """Builds the model that `config` describes, under Keras' global dtype policy.

    Args:
        config: which net.
        num_classes: width of the output.
        shape: height, width and channels of the pictures.

    Raises:
        PresetError: the pictures are too small, or pretrained weights can't be had.
    """
    least = SMALLEST.get(config.preset, 32)
    if min(shape[:2]) < least:
        raise PresetError(
            f"{config.preset} needs pictures of {least}x{least} pixels at least, not "
            f"{shape[0]}x{shape[1]}; give --model.height and --model.width"
        )
    scale, views = 1.0, "one"
    if config.start:
        net = load_resnet(config.start, shape)
    elif config.preset in WIDTHS:
        widths = tuple(config.widths or WIDTHS[config.preset])
        if config.preset == "airbench":
            net = airbench(shape, widths, config.synchronize_norms)
            scale, views = 1 / 9 / GELU_SCALE, "translate"
        else:
            net = simple(shape, widths, config.synchronize_norms)
    else:
        net = resnet(config.preset, shape)
    return ImageClassifier(net, num_classes, config.dropout, scale, config.views or views)


def simple(
    shape: tuple[int, int, int],
    widths: tuple[int, ...] = WIDTHS["simple"],
    synchronized: bool = False,
) -> keras.Model:
    """A small net after LeNet (LeCun et al. 1998): three blocks of two 3x3 convolutions, each
    block at half the resolution of the one before, then the mean over places.

    Args:
        shape: height, width and channels of the pictures.
        widths: channels of the blocks.
        synchronized: whether norms take statistics over all replicas.
    """
    image = x = keras.Input(shape, name="image")
    for index, width in enumerate(widths):
        for part in ("a", "b"):
            x = Conv3x3(width, name=f"conv{index + 1}{part}")(x)
            x = BatchNorm(synchronized=synchronized, name=f"norm{index + 1}{part}")(x)
            x = layers.ReLU(name=f"relu{index + 1}{part}")(x)
        x = layers.MaxPooling2D(name=f"pool{index + 1}")(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(image, x, name="simple")


def airbench(
    shape: tuple[int, int, int],
    widths: tuple[int, ...] = WIDTHS["airbench"],
    synchronized: bool = False,
) -> keras.Model:
    """The net of Jordan 2024 (arXiv 2404.00498, appendix A): a whitening layer, three blocks of
    convolution, pooling, norm, GELU, convolution, norm, GELU, then the maximum over places.

    GELU is in its sigmoid form (see `Silu`), and the whitening layer has no bias.

    Args:
        shape: height, width and channels of the pictures; 32x32x3 in the paper.
        widths: channels of the blocks.
        synchronized: whether norms take statistics over all replicas.
    """
    image = keras.Input(shape, name="image")
    x = Silu(name="silu0")(Whitening(scale=GELU_SCALE, name="whitening")(image))
    for index, width in enumerate(widths):
        for part in ("a", "b"):
            name = f"{index + 1}{part}"
            x = Conv3x3(width, PartialIdentity(), name=f"conv{name}")(x)
            if part == "a":
                x = layers.MaxPooling2D(name=f"pool{index + 1}")(x)
            norm = BatchNorm(0.6, 1e-12, GELU_SCALE, synchronized, name=f"norm{name}")
            x = norm(x)
            x = Silu(name=f"silu{name}")(x)
    x = layers.GlobalMaxPooling2D(name="features")(x)
    return keras.Model(image, x, name="airbench")
