"""Pictures: encoded files in, normalised pixels out, by TensorFlow ops alone.

preprocessor = fit_image_preprocessor(records, labels, height=32, width=32)
inputs = preprocessor({"image_bytes": tf.constant([jpeg, png])})  # image: float32 (2, 32, 32, 3)
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from data.images.decoding import ORIENTATION, decoded
from data.images.pictures import ORIENTATION as XMP_ORIENTATION
from data.images.pictures import opened
from data.preprocessing import Encoded, Preprocessor, class_ids, encoded_or_refused
from data.records import Records, StreamedRecords

Resize = Literal["crop", "pad", "stretch"]

# Pictures of one size up to this are taken as they are; others are resized to LARGE.
SMALL, LARGE = 96, 224
# Pictures that mean and deviation are told from, at most: so many, or of so many pixels in all.
SAMPLED, SAMPLED_PIXELS = 10_000, 2**27
SAMPLED_DEEP = 500  # pictures that the range of 16 bits is told from
LOOKED_AT = 200  # pictures that are looked at where mean and deviation are given
MOST_PIXELS = 2**26  # of a picture that is decoded, unless there were larger ones in training


class ImagePreprocessor(Preprocessor):
    """JPEG, PNG, GIF (its first frame), BMP and still WebP files to pictures of one size.

    A picture is turned as its EXIF orientation says.

    Args:
        labels: the classes, in the order of the model's outputs.
        height, width: of the pictures, in pixels.
        channels: 1 for grey, 3 for colour.
        resize: how a picture of another shape is made to fit: `crop` what is too long, `pad` what
            is too short with black, or `stretch`.
        mean, deviation: of each channel, between 0 and 1, for normalising.
        max_pixels: width times height that a picture may have; one with more is an error, and is
            not decoded, as a small file can unfold to more than the memory holds.
        background: the colour, red, green and blue up to 255, that transparent pictures are laid
            on; None ignores that they are.
        levels: of pictures of 16 bits, the values that become black and white; None keeps the
            upper 8 bits.
    """

    def __init__(
        self,
        labels: Sequence[str],
        height: int,
        width: int,
        channels: int = 3,
        resize: Resize = "crop",
        mean: Sequence[float] = (0.0,),
        deviation: Sequence[float] = (1.0,),
        max_pixels: int = MOST_PIXELS,
        background: Sequence[int] | None = None,
        levels: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.height = height
        self.width = width
        self.channels = channels
        self.resize = resize
        self.mean = tuple(mean)
        self.deviation = tuple(deviation)
        self.max_pixels = max_pixels
        self.background = tuple(background) if background is not None else None
        self.levels = tuple(levels) if levels is not None else None
        # Traced once, which takes a second: it is part of the graph of each dataset and signature.
        one = [tf.TensorSpec([], tf.string)]
        self._traced_picture = tf.function(self._picture, input_signature=one, autograph=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture."""
        return self.height, self.width, self.channels

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        """`image_bytes`, string (batch,), to `image`, uint8 (batch, height, width, channels)."""
        pictures = tf.map_fn(
            self._traced_picture,
            record["image_bytes"],
            fn_output_signature=tf.TensorSpec(self.shape, tf.uint8),
        )
        return {"image": pictures}

    def encoded_bytes(self) -> int:
        return self.height * self.width * self.channels

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        """`image` as float32, (batch, height, width, channels), normalised."""
        return {"image": self.normalise(tf.cast(encoded["image"], tf.float32) / 255.0)}

    def normalise(self, pictures: tf.Tensor) -> tf.Tensor:
        """Float pictures between 0 and 1, less the mean, over the deviation of each channel."""
        scale = [1.0 / deviation for deviation in self.deviation]
        shift = [-m / d for m, d in zip(self.mean, self.deviation, strict=True)]
        return pictures * tf.constant(scale) + tf.constant(shift)

    def denormalise(self, pictures: tf.Tensor) -> tf.Tensor:
        """The opposite of `normalise`; values below 0 or above 1 become these."""
        pictures = pictures * tf.constant(self.deviation) + tf.constant(self.mean)
        return tf.clip_by_value(pictures, 0.0, 1.0)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The labels' positions in `labels`, int32."""
        return class_ids(self.labels, columns["label"])

    def state(self) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
        arguments = {
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "resize": self.resize,
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "max_pixels": self.max_pixels,
            "background": self.background and list(self.background),
            "levels": self.levels and list(self.levels),
        }
        return arguments, {"labels": self.labels}

    def _picture(self, contents: tf.Tensor) -> tf.Tensor:
        """One encoded picture as uint8 (height, width, channels)."""
        picture = decoded(contents, self.max_pixels, self.background, self.levels)
        size = tf.shape(picture)
        fits = (size[0] == self.height) & (size[1] == self.width)
        picture = tf.cond(fits, lambda: picture, lambda: self._resized(picture))
        if self.channels == 1:
            picture = tf.image.rgb_to_grayscale(picture)
        return tf.ensure_shape(picture, self.shape)

    def _resized(self, picture: tf.Tensor) -> tf.Tensor:
        size = tf.cast(tf.shape(picture)[:2], tf.float32)
        target = tf.constant([self.height, self.width], tf.float32)
        if self.resize == "crop":
            # What a window of the target's shape, as large as possible and centred, shows.
            window = _whole(target * tf.reduce_min(size / target))
            window = tf.minimum(window, tf.shape(picture)[:2])
            top, left = tf.unstack((tf.shape(picture)[:2] - window) // 2)
            picture = picture[top : top + window[0], left : left + window[1]]
        whole = inner = tf.constant([self.height, self.width])
        if self.resize == "pad":
            inner = tf.minimum(_whole(size * tf.reduce_min(target / size)), whole)
        picture = tf.image.resize(picture, inner, antialias=True)
        if self.resize == "pad":
            top, left = tf.unstack((whole - inner) // 2)
            picture = tf.image.pad_to_bounding_box(picture, top, left, self.height, self.width)
        return tf.cast(tf.clip_by_value(tf.round(picture), 0.0, 255.0), tf.uint8)


def fit_image_preprocessor(
    records: Records | StreamedRecords,
    labels: Sequence[str],
    height: int | None = None,
    width: int | None = None,
    channels: int | None = None,
    resize: Resize = "crop",
    scaling: tuple[Sequence[float], Sequence[float]] | None = None,
    large: int = LARGE,
    background: Sequence[int] | None = None,
    levels: Sequence[float] | Literal["auto"] | None = None,
    warn: Callable[[str], None] = lambda what: None,
) -> ImagePreprocessor:
    """The preprocessor that suits some training pictures.

    What is None is told from them: the size is theirs if all are of one size of at most 96 pixels,
    else `large` each way; they are grey if all are; and `scaling`, mean and deviation of the
    channels, is that of up to 10,000, evenly picked. `levels` "auto" are the range of the values of
    pictures of 16 bits, if there are any. What should be looked at is told to `warn`.

    Raises:
        DataError: TensorFlow can't decode a picture.
    """
    sizes, grey, most, deep, number = set(), True, MOST_PIXELS, [], 0
    for chunk in records.chunks(1000):
        for contents in chunk.columns["image_bytes"]:
            size, is_grey = _declared(contents)
            sizes.add(size)
            grey &= is_grey
            most = max(most, size[0] * size[1])
            if contents.startswith(b"\x89PNG") and contents[24] == 16:
                deep.append(number)
            number += 1
    own = sizes.pop() if len(sizes) == 1 else (large, large)
    own_width, own_height = own if max(own) <= SMALL else (large, large)
    shape = (height or own_height, width or own_width, channels or (1 if grey else 3))
    if levels == "auto":
        levels = _levels(records, deep)
    plain = ((0.0,) * shape[2], (1.0,) * shape[2])
    given = scaling or plain
    preprocessor = ImagePreprocessor(labels, *shape, resize, *given, most, background, levels)
    found = _survey(records, preprocessor, SAMPLED if scaling is None else LOOKED_AT)
    if found.blank:
        warn(
            f"{found.blank:,} of {found.pictures:,} training pictures that were looked at are of "
            "one colour once decoded; see --data.background if they are transparent, "
            "--data.range_16bit if they have 16 bits"
        )
    if scaling is None:
        preprocessor.mean, preprocessor.deviation = found.mean, found.deviation
    return preprocessor


def _declared(contents: bytes) -> tuple[tuple[int, int], bool]:
    """Width and height that a picture is shown in, and whether it is grey, by its header."""
    with opened(contents) as picture:
        size, lying = picture.size, False
        if any(mark in contents for mark in (b"Exif", b"eXIf", b"EXIF", XMP_ORIENTATION)):
            try:
                lying = picture.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            except Exception:  # whatever Pillow stumbles over: the data need not be as they should
                lying = False
        grey = picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B")
        return size[::-1] if lying and picture.format not in ("GIF", "BMP") else size, grey


def _levels(records: Records | StreamedRecords, deep: Sequence[int]) -> tuple[float, float] | None:
    """The range of the values of some pictures of 16 bits, without the outermost 0.1 % at each
    end, which may be single broken pixels; None if they have one value."""
    count = min(len(deep), SAMPLED_DEEP)
    if not count:
        return None
    picked = np.asarray(deep)[np.linspace(0, len(deep) - 1, count).astype(int)]
    counts = np.zeros(2**16, np.int64)
    for chunk in records.take(picked).chunks(64):
        for contents in chunk.columns["image_bytes"]:
            values = tf.io.decode_png(contents, 3, tf.uint16).numpy()
            counts += np.bincount(values.ravel(), minlength=2**16)
    shares = np.cumsum(counts) / counts.sum()
    low, high = (int(np.searchsorted(shares, share, "right")) for share in (0.001, 0.999))
    if low == high:
        low, high = (int(counts.nonzero()[0][end]) for end in (0, -1))
    return (float(low), float(high)) if low < high else None


class _Survey(NamedTuple):
    """What some pictures are like once they are decoded."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]  # of the channels, between 0 and 1
    pictures: int
    blank: int  # of one colour


def _survey(records: Records | StreamedRecords, plain: ImagePreprocessor, most: int) -> _Survey:
    """Looks at up to `most` of the pictures, as a preprocessor encodes them."""
    count = min(len(records), most, max(1, SAMPLED_PIXELS // (plain.height * plain.width)))
    # Evenly picked, as data is often written class after class.
    sample = records.take(np.linspace(0, len(records) - 1, count).astype(int))
    encode = tf.function(plain.encode, reduce_retracing=True)
    pixels, total, squares, blank = 0, np.zeros(plain.channels), np.zeros(plain.channels), 0
    for chunk in sample.chunks(64):
        values = encoded_or_refused(encode, chunk.columns)["image"].numpy()
        blank += int((values == values[:, :1, :1]).all((1, 2, 3)).sum())
        values = values.reshape(-1, plain.channels).astype(np.int64)
        pixels += len(values)
        total += values.sum(axis=0) / 255.0
        squares += np.square(values).sum(axis=0) / 255.0**2
    mean = total / pixels
    # A picture of one colour has no deviation, and nothing to be divided by it.
    deviation = np.sqrt(np.maximum(squares / pixels - np.square(mean), 1e-4))
    return _Survey(tuple(mean.round(4).tolist()), tuple(deviation.round(4).tolist()), count, blank)


def _whole(size: tf.Tensor) -> tf.Tensor:
    """A size in pixels, at least one each way."""
    return tf.cast(tf.maximum(tf.round(size), 1.0), tf.int32)
