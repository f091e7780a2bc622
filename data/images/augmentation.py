"""Pictures changed at random, a batch at a time.

    augment = PictureAugmentation(preprocessor, flip="alternating", translate=2)
    inputs, targets = augment(inputs, targets, rows, epoch, seed)

What happens to a picture depends on (seed, epoch, batch) alone, so that a resumed run sees what it
would have seen. Everything is TensorFlow ops on whole batches with static shapes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import tensorflow as tf

from data.errors import DataError
from data.images.preprocessor import ImagePreprocessor

Inputs = Mapping[str, tf.Tensor]

STRONGEST = 10.0  # of RandAugment's magnitudes, as its paper counts them
GROUPS = 8  # parts of a batch to which RandAugment does different things


class PictureAugmentation:
    """Random changes of `inputs["image"]`, float (batch, height, width, channels), normalised.

    They come in the order of the arguments. All but the last two keep the label of a picture.

    Args:
        preprocessor: how the pictures were normalised, and how many classes there are.
        flip: mirror pictures left to right. `random`: half of them, by chance. `alternating`:
            half of them, told by a hash of their row, in the first epoch, and from then on every
            picture every other time, so that any two epochs show both sides (Jordan 2024, section
            3.6).
        crop: show a part of this share of the area at least, 1 being all of it, of a shape from
            3:4 to 4:3 of the picture's, resized (Szegedy et al. 2015, section 6).
        translate: move by up to this many pixels each way; what comes in is reflected.
        randaugment: do this many things out of eleven (such as rotate, shear, posterise) to each
            picture (Cubuk et al. 2020), by Keras' layers; each of eight parts of a batch has its
            own.
        magnitude: how strongly, 0 to 10.
        brightness: add up to this share of the range from black to white, or take it away.
        contrast, saturation: bring pixels nearer to, or farther from, the picture's mean, or their
            own grey, by up to this share, 0 to below 1.
        cutout: blank a square of this many pixels at a random place (DeVries & Taylor 2017).
        mixup: blend each picture and its target with another's of the batch, by a share from
            Beta(a, a) of this a; 0 for never (Zhang et al. 2018).
        cutmix: the same by a rectangle of the other's instead (Yun et al. 2019). With both, each
            batch has the one or the other by chance.

    Raises:
        DataError: pictures are too small for what is asked.
    """

    def __init__(
        self,
        preprocessor: ImagePreprocessor,
        flip: Literal["none", "random", "alternating"] = "none",
        crop: float = 1.0,
        translate: int = 0,
        randaugment: int = 0,
        magnitude: float = 9.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        cutout: int = 0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        side = min(preprocessor.height, preprocessor.width)
        for name, size, most in (("cutout", cutout, side), ("translate", translate, side - 1)):
            if size > most:
                raise DataError(
                    f"--data.{name} {size}: pictures are {preprocessor.height}x"
                    f"{preprocessor.width} pixels; give at most {most}"
                )
        self.preprocessor = preprocessor
        self.flip = flip
        self.crop = crop
        self.translate = translate
        self.randaugment = randaugment
        # Made here, as Keras' layers have variables, even if none is used.
        self.changes = _changes(magnitude / STRONGEST, preprocessor.channels) if randaugment else []
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.cutout = cutout
        self.mixup = mixup
        self.cutmix = cutmix

    def __call__(
        self, inputs: Inputs, targets: tf.Tensor, rows: tf.Tensor, epoch: tf.Tensor, seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """The batch, changed.

        Args:
            inputs, targets: the model's inputs and what it should answer, int (batch,).
            rows: int64 (batch,), which records these are.
            epoch: int64 scalar.
            seed: int64 (2,), of its own for every batch of every epoch.

        Returns:
            The same; with mixup or cutmix, targets are float32 shares, (batch, classes).
        """
        seeds = tf.unstack(tf.random.split(tf.cast(seed, tf.int32), 9))
        flips, crops, moves, randoms, lights, contrasts, colours, holes, mixes = seeds
        x = inputs["image"]
        if self.flip != "none":
            x = _mirrored(x, self._which(tf.shape(x)[0], rows, epoch, flips))
        if self.crop < 1:
            x = _cropped(x, self.crop, crops)
        if self.translate:
            x = _translated(x, self.translate, moves)
        if self.randaugment:
            # Keras' layers work on values from 0 to 1.
            plain = self.preprocessor.denormalise(x)
            plain = _rand_augmented(plain, self.changes, self.randaugment, randoms)
            x = self.preprocessor.normalise(plain)
        if self.brightness:
            x += _spread(tf.shape(x)[0], self.brightness, lights) / self.preprocessor.deviation
        if self.contrast:
            mean = tf.reduce_mean(x, axis=[1, 2, 3], keepdims=True)
            x = mean + (x - mean) * (1.0 + _spread(tf.shape(x)[0], self.contrast, contrasts))
        if self.saturation:
            grey = tf.reduce_mean(x, axis=-1, keepdims=True)
            x = grey + (x - grey) * (1.0 + _spread(tf.shape(x)[0], self.saturation, colours))
        if self.cutout:
            x = _cut_out(x, self.cutout, holes)
        if self.mixup or self.cutmix:
            targets = tf.one_hot(targets, len(self.preprocessor.labels))
            x, targets = self._mixed(x, targets, mixes)
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

    def _mixed(
        self, x: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        coin, own = tf.unstack(tf.random.split(seed, 2))
        if not self.mixup:
            return _cut_and_mixed(x, targets, self.cutmix, own)
        if not self.cutmix:
            return _mixed_up(x, targets, self.mixup, own)
        return tf.cond(
            tf.random.stateless_uniform([], coin) < 0.5,
            lambda: _mixed_up(x, targets, self.mixup, own),
            lambda: _cut_and_mixed(x, targets, self.cutmix, own),
        )


def _mirrored(x: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
    return tf.where(which[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.reverse(x, [2]), x)


def _cropped(x: tf.Tensor, least: float, seed: tf.Tensor) -> tf.Tensor:
    batch = tf.shape(x)[0]
    share, shape, top, left = tf.unstack(tf.random.stateless_uniform([4, batch], seed))
    share = least + (1.0 - least) * share
    root = tf.exp((shape - 0.5) * tf.math.log(4.0 / 3.0))  # of a ratio from 3/4 to 4/3
    # Where one side would be longer than the picture, the other is longer instead.
    height = tf.minimum(tf.sqrt(share) * root, 1.0)
    width = tf.minimum(share / height, 1.0)
    height = share / width
    top, left = top * (1.0 - height), left * (1.0 - width)
    boxes = tf.stack([top, left, top + height, left + width], axis=1)
    out = tf.image.crop_and_resize(x, boxes, tf.range(batch), x.shape[1:3])
    return tf.ensure_shape(out, x.shape)


def _translated(x: tf.Tensor, most: int, seed: tf.Tensor) -> tf.Tensor:
    batch, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
    x_padded = tf.pad(x, [[0, 0], [most, most], [most, most], [0, 0]], "REFLECT")
    shift = tf.random.stateless_uniform([2, batch, 1], seed, 0, 2 * most + 1, tf.int32)
    down = tf.gather(x_padded, shift[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(down, shift[1] + tf.range(width), axis=2, batch_dims=1)


def _rand_augmented(x: tf.Tensor, changes: list[Any], count: int, seed: tf.Tensor) -> tf.Tensor:
    def change(layer: Any, part: tf.Tensor, seed: tf.Tensor) -> Callable[[], tf.Tensor]:
        def changed() -> tf.Tensor:
            how = layer.get_random_transformation(part, training=True, seed=_Seeds(seed))
            out = layer.transform_images(part, how, training=True)
            return tf.ensure_shape(tf.cast(out, part.dtype), part.shape)

        return changed

    batch, parts = tf.shape(x)[0], []
    for group in range(GROUPS):
        part = x[batch * group // GROUPS : batch * (group + 1) // GROUPS]
        for turn in range(count):
            own = tf.random.fold_in(seed, group * count + turn)
            index = tf.random.stateless_uniform([], own, 0, len(changes), tf.int32)
            # None of the layers takes a batch of no pictures, which a small batch's part may be.
            index = tf.where(tf.shape(part)[0] > 0, index, -1)
            branches = dict(enumerate(change(layer, part, own) for layer in changes))
            part = tf.switch_case(index, branches, default=lambda part=part: part)
        parts.append(part)
    return tf.concat(parts, axis=0)


def _changes(strength: float, channels: int) -> list[Any]:
    """The layers that RandAugment has to choose from."""
    layers: Any = keras.layers
    exact = {"dtype": "float32", "data_format": "channels_last"}  # whatever the model computes in
    values = {"value_range": (0.0, 1.0), **exact}
    within = {"fill_mode": "reflect", **exact}
    changes = [
        layers.RandomRotation(strength / 12, **within),  # up to 30 degrees, of 360
        layers.RandomShear(0.3 * strength, 0.0, **within),
        layers.RandomShear(0.0, 0.3 * strength, **within),
        layers.RandomTranslation(0.3 * strength, 0.0, **within),
        layers.RandomTranslation(0.0, 0.3 * strength, **within),
        layers.RandomBrightness(0.4 * strength, **values),
        layers.RandomContrast(0.9 * strength, **values),
        layers.RandomPosterization((8 - round(4 * strength), 8), **values),  # bits
        layers.Solarization(threshold_factor=(1 - strength, 1.0), **values),
        layers.AutoContrast(**values),
    ]
    if channels == 3:
        changes.append(layers.RandomColorDegeneration(0.9 * strength, **values))
    return changes


class _Seeds(keras.random.SeedGenerator):
    """Seeds for Keras' layers that are a function of one seed, where Keras' own keep a state."""

    def __init__(self, seed: tf.Tensor) -> None:
        self._seed, self._drawn = seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self._drawn += 1
        return tf.random.fold_in(self._seed, self._drawn)


def _cut_out(x: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    batch, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
    corner = tf.random.stateless_uniform([2, batch], seed)
    limits = tf.constant([height - size + 1, width - size + 1], tf.float32)
    top, left = tf.unstack(tf.cast(corner * limits[:, tf.newaxis], tf.int32))
    hole = _rectangles(x, top, left, top + size, left + size)
    return tf.where(hole, tf.zeros_like(x), x)


def _mixed_up(
    x: tf.Tensor, targets: tf.Tensor, concentration: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    kept = _beta(tf.shape(x)[0], concentration, seed)
    # The batch is in random order already, so any other order will do.
    image_kept = kept[:, tf.newaxis, tf.newaxis, tf.newaxis]
    x = image_kept * x + (1.0 - image_kept) * tf.reverse(x, [0])
    return x, _shared(targets, kept)


def _cut_and_mixed(
    x: tf.Tensor, targets: tf.Tensor, concentration: float, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    batch, height, width = tf.shape(x)[0], x.shape[1], x.shape[2]
    shares, places = tf.unstack(tf.random.split(seed, 2))
    side = tf.sqrt(1.0 - _beta(batch, concentration, shares))
    size = tf.constant([[height], [width]], tf.float32)
    centre = tf.random.stateless_uniform([2, batch], places) * size
    first = tf.cast(tf.clip_by_value(centre - side * size / 2, 0.0, size), tf.int32)
    end = tf.cast(tf.clip_by_value(centre + side * size / 2, 0.0, size), tf.int32)
    window = _rectangles(x, *tf.unstack(first), *tf.unstack(end))
    x = tf.where(window, tf.reverse(x, [0]), x)
    cut = tf.reduce_prod(tf.cast(end - first, tf.float32), axis=0) / (height * width)
    return x, _shared(targets, 1.0 - cut)


def _shared(targets: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    kept = kept[:, tf.newaxis]
    return kept * targets + (1.0 - kept) * tf.reverse(targets, [0])


def _beta(batch: tf.Tensor, concentration: float, seed: tf.Tensor) -> tf.Tensor:
    """Draws from Beta(a, a), (batch,)."""
    one, other = tf.unstack(tf.random.stateless_gamma([2, batch], seed, concentration))
    # With a small `a` both may be too small for a float.
    return tf.where(one + other > 0, tf.math.divide_no_nan(one, one + other), 1.0)


def _rectangles(
    x: tf.Tensor, top: tf.Tensor, left: tf.Tensor, bottom: tf.Tensor, right: tf.Tensor
) -> tf.Tensor:
    """Which pixels are within a rectangle for each picture: bool (batch, height, width, 1)."""
    rows, columns = tf.range(x.shape[1]), tf.range(x.shape[2])
    within_rows = (rows >= top[:, tf.newaxis]) & (rows < bottom[:, tf.newaxis])
    within_columns = (columns >= left[:, tf.newaxis]) & (columns < right[:, tf.newaxis])
    return (within_rows[:, :, tf.newaxis] & within_columns[:, tf.newaxis, :])[..., tf.newaxis]


def _spread(batch: tf.Tensor, most: float, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([batch, 1, 1, 1], seed, -most, most)
