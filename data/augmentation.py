"""Pictures changed at random in ways that keep their label, a batch at a time.

    augment = PictureAugmentation(flip="alternating", translate=2)
    inputs, targets = augment(inputs, targets, rows, epoch, seed)

What happens to a picture depends on (seed, epoch, batch) alone, so that a resumed run sees what it
would have seen. Everything is dense TensorFlow ops on whole batches with static shapes.
"""

from collections.abc import Mapping
from typing import Literal

import tensorflow as tf

Inputs = Mapping[str, tf.Tensor]


class PictureAugmentation:
    """Random changes of `inputs["image"]`, float (batch, height, width, channels), normalised.

    Args:
        flip: mirror pictures left to right. `random`: half of them, by chance. `alternating`: a
            picture by chance in the first epoch, and from then on every other time, so that each
            two epochs show both sides (Jordan 2024, section 3.6).
        translate: move by up to this many pixels each way; what comes in is reflected.
        cutout: blank a square of this many pixels at a random place (DeVries & Taylor 2017).
        brightness, contrast: change by up to this share, 0 to below 1.
    """

    def __init__(
        self,
        flip: Literal["none", "random", "alternating"] = "none",
        translate: int = 0,
        cutout: int = 0,
        brightness: float = 0.0,
        contrast: float = 0.0,
    ) -> None:
        self.flip = flip
        self.translate = translate
        self.cutout = cutout
        self.brightness = brightness
        self.contrast = contrast

    def __call__(
        self, inputs: Inputs, targets: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor, seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """The batch, changed.

        Args:
            inputs, targets: the model's inputs and what it should answer.
            rows: int64 (batch,), which records these are.
            epoch: int64 scalar.
            seed: int64 (2,), of its own for every batch of every epoch.
        """
        seeds = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 6))
        x = inputs["image"]
        if self.flip != "none":
            x = _mirrored(x, self._which(tf.shape(x)[0], rows, epoch, seeds[0]))
        if self.translate:
            x = _translated(x, self.translate, seeds[1])
        if self.cutout:
            x = _cut_out(x, self.cutout, seeds[2])
        if self.contrast:
            mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
            x = mean + (x - mean) * (1.0 + _spread(tf.shape(x)[0], self.contrast, seeds[3]))
        if self.brightness:
            x += _spread(tf.shape(x)[0], self.brightness, seeds[4]) * 2.0
        return {**inputs, "image": x}, targets

    def _which(
        self, batch: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Whether each picture is mirrored, (batch,)."""
        if self.flip == "random":
            return tf.random.stateless_uniform([batch], seed) < 0.5
        # A number of the record's own, the same in every epoch: a multiplicative hash of its row.
        coin = tf.bitwise.right_shift(tf.cast(rows, tf.int64) * 0x9E3779B1, 16)
        return tf.equal(tf.math.floormod(coin + tf.cast(epoch, tf.int64), 2), 0)


def _mirrored(x: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    return tf.where(which[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.reverse(x, [2]), x)


def _translated(x: tf.Tensor, most: int, seed: tf.Tensor) -> tf.Tensor:
    batch, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
    x_padded = tf.pad(x, [[0, 0], [most, most], [most, most], [0, 0]], "REFLECT")
    shift = tf.random.stateless_uniform([2, batch, 1], seed, 0, 2 * most + 1, tf.int32)
    down = tf.gather(x_padded, shift[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(down, shift[1] + tf.range(width), axis=2, batch_dims=1)


def _cut_out(x: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    batch, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
    corner = tf.random.stateless_uniform([2, batch, 1], seed, 0.0, 1.0)
    limits = tf.constant([height - size + 1, width - size + 1], tf.float32)
    top, left = tf.unstack(tf.cast(corner * limits[:, tf.newaxis, tf.newaxis], tf.int32))
    within_rows = (tf.range(height) >= top) & (tf.range(height) < top + size)
    within_columns = (tf.range(width) >= left) & (tf.range(width) < left + size)
    hole = within_rows[:, :, tf.newaxis] & within_columns[:, tf.newaxis, :]
    return tf.where(hole[..., tf.newaxis], tf.zeros_like(x), x)


def _spread(batch: tf.Tensor, most: float, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([batch, 1, 1, 1], seed, -most, most)
