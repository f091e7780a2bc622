"""Blocks of small convolutional nets, in few passes over memory.

Beside its convolutions a small CNN spends its time in batch norm, activation and pooling, which
are bound by memory traffic on a CPU. These layers are stock TensorFlow ops with one kernel each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.layers.devices import accelerated

Shape = tuple[Any, ...]  # sizes of axes; None for that of the batch

# Of this thread, as replicas of one machine have one each.
_counted: ContextVar[tf.Tensor | None] = ContextVar("counted", default=None)


@contextmanager
def counted_rows(counts: tf.Tensor | None) -> Iterator[None]:
    """Says which rows of a replica's part of a batch synchronised norms take statistics of: those
    with 1 in `counts`, float32 (rows,), not those with 0, which only fill it up; None for all."""
    token = _counted.set(counts)
    try:
        yield
    finally:
        _counted.reset(token)


@keras.saving.register_keras_serializable(package="zoo")
class BatchNorm(keras.layers.Layer):
    """Batch normalisation (Ioffe & Szegedy 2015) over all axes but the last, by TensorFlow's fused
    kernel: statistics in float32, whatever is normalised.

    The scale is not trained, as a convolution that follows can learn it; the shift is. Under
    several replicas each normalises by its own part of the batch, unless they are synchronised.

    Args:
        momentum: share of the running averages kept at a step.
        epsilon: added to the variance.
        scale: the deviation that each channel is given; the shift is multiplied by it, too.
        synchronized: take statistics over all replicas' parts, as one replica with the whole batch
            does (see `counted_rows`), which adds up two vectors between replicas in each pass.
    """

    def __init__(
        self,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        scale: float = 1.0,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.scale = scale
        self.synchronized = synchronized

    def build(self, input_shape: Shape) -> None:
        # No autocast: a model in half precision would read, and average, rounded statistics.
        like = {"shape": (input_shape[-1],), "dtype": "float32", "autocast": False}
        self.beta = self.add_weight(**like, initializer="zeros", name="beta")
        # The replicas' mean is what all go on with, and what is saved.
        like |= {"trainable": False, "aggregation": "mean"}
        self.moving_mean = self.add_weight(**like, initializer="zeros", name="moving_mean")
        self.moving_variance = self.add_weight(**like, initializer="ones", name="moving_variance")
        self.built = True

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.cast(x, self.compute_dtype)
        beta = tf.convert_to_tensor(self.beta) * self.scale
        scale = tf.fill(tf.shape(beta), self.scale)
        if not (training and self.trainable):  # when frozen as well, as Keras' own
            mean, variance = map(tf.convert_to_tensor, (self.moving_mean, self.moving_variance))
            # The running averages are folded into one factor and one shift a channel.
            factor = tf.math.rsqrt(variance + self.epsilon) * self.scale
            shift = beta - mean * factor
            return x * tf.cast(factor, x.dtype) + tf.cast(shift, x.dtype)
        replica = tf.distribute.get_replica_context()
        if self.synchronized and replica is not None and replica.num_replicas_in_sync > 1:
            y, mean, variance, count = self._of_all_replicas(x, beta, scale, replica)
        else:
            count = tf.cast(tf.shape(x)[0], tf.float32)
            y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=scale,
                offset=beta,
                mean=tf.zeros([0]),
                variance=tf.zeros([0]),
                epsilon=self.epsilon,
                is_training=True,
            )
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            # A replica may get no picture of a last batch, and then has no statistics either.
            new = tf.where(count > 0, new, moving)
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return y

    def _of_all_replicas(
        self, x: tf.Tensor, beta: tf.Tensor, scale: tf.Tensor, replica: Any
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """What the fused kernel gives for the whole batch: this replica's part of it normalised,
        and the batch's mean and unbiased variance; and of how many values these are."""
        full = tf.cast(x, tf.float32)
        axes = list(range(x.shape.rank - 1))
        counts = _counted.get()
        if counts is None:
            counts = tf.ones(tf.shape(x)[:1])
        weights = tf.reshape(counts, [-1] + [1] * (x.shape.rank - 1))
        places = tf.cast(tf.reduce_prod(tf.shape(x)[1:-1]), tf.float32)
        own = tf.concat(
            [tf.reduce_sum(full * weights, axes), [places * tf.reduce_sum(counts)]], axis=0
        )
        summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, own)
        count = tf.stop_gradient(summed[-1])
        mean = tf.math.divide_no_nan(summed[:-1], count)
        # In a pass of its own: a mean of squares less a squared mean loses digits.
        own = tf.reduce_sum(tf.math.squared_difference(full, mean) * weights, axes)
        summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, own)
        variance = tf.math.divide_no_nan(summed, count)
        y = tf.nn.batch_normalization(full, mean, variance, beta, scale, self.epsilon)
        return tf.cast(y, x.dtype), mean, summed / tf.maximum(count - 1.0, 1.0), count

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "scale": self.scale,
            "synchronized": self.synchronized,
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="zoo")
class Silu(keras.layers.Layer):
    """x sigmoid(x) (Hendrycks & Gimpel 2016, section 2), with a gradient of few passes.

    GELU is nearly x sigmoid(1.702 x) (the same section), which is this of inputs 1.702 times as
    large, divided by 1.702. Between two batch norms the factors cost nothing: the one before takes
    the first (`scale=GELU_SCALE`), and the one after undoes any.
    """

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return _silu(x) if training else x * tf.sigmoid(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


GELU_SCALE = 1.702


@tf.custom_gradient
def _silu(x: tf.Tensor):
    gate = tf.sigmoid(x)
    y = x * gate

    def gradient(dy):
        # d/dx x s(x) = s + x s (1 - s) = y + s (1 - y)
        return dy * (y + gate * (1.0 - y))

    return y, gradient


@keras.saving.register_keras_serializable(package="zoo")
class Conv3x3(keras.layers.Layer):
    """A 3x3 convolution of the same height and width, without bias.

    On a CPU the kernel's gradient is matrix products over shifted copies of the input where that
    is faster: for small pictures of many channels, where TensorFlow's op reaches half the speed.

    Args:
        filters: channels of the output.
        kernel_initializer: as in Keras' layers.
    """

    def __init__(self, filters: int, kernel_initializer: Any = "he_normal", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: Shape) -> None:
        shape = (3, 3, input_shape[-1], self.filters)
        self.kernel = self.add_weight(
            shape=shape, initializer=self.kernel_initializer, name="kernel"
        )
        self.built = True

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), x.dtype)
        height, width, channels = x.shape[1:]
        products = training and height * width <= 64 and channels >= 128 and not accelerated()
        return _convolve(x, kernel) if products else tf.nn.conv2d(x, kernel, 1, "SAME")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return *input_shape[:-1], self.filters

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_initializer": initializer,
        }


@tf.custom_gradient
def _convolve(x: tf.Tensor, kernel: tf.Tensor):
    def gradient(dy):
        dx = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x),
            filter=kernel,
            out_backprop=dy,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )
        height, width, inputs = x.shape[1:]
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        # Each place beside its left and right neighbours; then a product a row of the kernel.
        columns = tf.concat([padded[:, :, j : j + width] for j in range(3)], axis=-1)
        rows = tf.reshape(dy, [-1, dy.shape[-1]])
        parts = [
            tf.matmul(
                tf.reshape(columns[:, i : i + height], [-1, 3 * inputs]), rows, transpose_a=True
            )
            for i in range(3)
        ]
        return dx, tf.reshape(tf.stack(parts), kernel.shape)

    return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient


@keras.saving.register_keras_serializable(package="zoo")
class Whitening(keras.layers.Layer):
    """A fixed convolution that makes the pixels of a patch uncorrelated, all of one deviation
    (Jordan 2024, section 3.1; after Page 2019).

    Until `adapt` computes it from pictures, as Keras' preprocessing layers do, it shows the pixels
    themselves. Each eigenvector is there twice, once negated. Nothing in it is trained, so that no
    gradient need be brought to the full picture.

    Args:
        size: height and width of a patch, in pixels.
        epsilon: added to the eigenvalues, which keeps noise from being blown up.
        scale: the deviation of the outputs.
    """

    def __init__(
        self, size: int = 2, epsilon: float = 5e-4, scale: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.epsilon = epsilon
        self.scale = scale

    def build(self, input_shape: Shape) -> None:
        inputs = input_shape[-1]
        count = self.size**2 * inputs
        self.kernel = self.add_weight(
            shape=(self.size, self.size, inputs, 2 * count),
            initializer=_signed_patches,
            trainable=False,
            name="kernel",
        )
        self.built = True

    def adapt(self, images: np.ndarray) -> None:
        """Computes the kernel from float pictures, (count, height, width, channels): from as many
        as have 2**22 pixels."""
        images = images[: max(1, 2**22 // (images.shape[1] * images.shape[2]))]
        patches = tf.image.extract_patches(
            tf.cast(images, tf.float32),
            [1, self.size, self.size, 1],
            strides=[1, 1, 1, 1],
            rates=[1, 1, 1, 1],
            padding="VALID",
        )
        rows = tf.reshape(patches, [-1, patches.shape[-1]]).numpy().astype(np.float64)
        values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
        scaled = self.scale * (vectors / np.sqrt(np.maximum(values, 0) + self.epsilon))[:, ::-1]
        both = np.concatenate([scaled, -scaled], axis=1)
        self.kernel.assign(both.reshape(self.kernel.shape).astype(np.float32))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(x, tf.cast(tf.convert_to_tensor(self.kernel), x.dtype), 1, "VALID")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, inputs = input_shape
        return batch, height - self.size + 1, width - self.size + 1, 2 * self.size**2 * inputs

    def get_config(self) -> dict[str, Any]:
        own = {"size": self.size, "epsilon": self.epsilon, "scale": self.scale}
        return {**super().get_config(), **own}


def _signed_patches(shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
    count = shape[-1] // 2
    eye = np.eye(count, dtype=np.float32)
    return np.concatenate([eye, -eye], axis=1).reshape(shape)


@keras.saving.register_keras_serializable(package="zoo")
class PartialIdentity(keras.initializers.Initializer):
    """He-uniform as PyTorch has it, with an identity in the centre of the first kernels: at first,
    outputs of a 3x3 convolution repeat its inputs (Jordan 2024, section 3.2)."""

    def __call__(self, shape: tuple[int, ...], dtype: Any = None, **kwargs: Any) -> Any:
        height, width, inputs, outputs = shape
        limit = (1.0 / (height * width * inputs)) ** 0.5
        kernel = keras.random.uniform(shape, -limit, limit, dtype="float32")
        same = min(inputs, outputs)
        mask = np.zeros((inputs, outputs), np.float32)
        mask[:same, :same] = np.eye(same)
        centre = np.zeros(shape, np.float32)
        centre[height // 2, width // 2] = mask
        random = np.ones(shape, np.float32)
        random[..., :same] = 0.0
        return keras.ops.cast(kernel * random + centre, dtype or "float32")
