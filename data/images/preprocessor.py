"""Pictures: encoded files in, normalised pixels out, by TensorFlow ops alone.

preprocessor = fit_image_preprocessor(records, labels, height=32, width=32)
inputs = preprocessor({"image_bytes": tf.constant([jpeg, png])})  # image: float32 (2, 32, 32, 3)
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from data.preprocessing import Encoded, Preprocessor, class_ids, encoded_or_refused
from data.records import Records, StreamedRecords

Resize = Literal["crop", "pad", "stretch"]

# Pictures of one size up to this are taken as they are; others are resized to LARGE.
SMALL, LARGE = 96, 224
EXIF_ORIENTATION = 0x0112
# Pictures that mean and deviation are told from, at most: so many, or of so many pixels in all.
SAMPLED, SAMPLED_PIXELS = 10_000, 2**27
MOST_PIXELS = 2**26  # of a picture that is decoded, unless there were larger ones in training


class ImagePreprocessor(Preprocessor):
    """JPEG, PNG, GIF (its first frame), BMP and still WebP files to pictures of one size.

    A JPEG is turned as its EXIF orientation says; 16 bits become 8; an alpha channel is ignored.

    Args:
        labels: the classes, in the order of the model's outputs.
        height, width: of the pictures, in pixels.
        channels: 1 for grey, 3 for colour.
        resize: how a picture of another shape is made to fit: `crop` what is too long, `pad` what
            is too short with black, or `stretch`.
        mean, deviation: of each channel, between 0 and 1, for normalising.
        max_pixels: width times height that a picture may have; one with more is an error, and is
            not decoded, as a small file can unfold to more than the memory holds.
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
        }
        return arguments, {"labels": self.labels}

    def _picture(self, contents: tf.Tensor) -> tf.Tensor:
        """One encoded picture as uint8 (height, width, channels)."""
        message = f"a picture of more than {self.max_pixels} pixels"
        small = declared_pixels(contents) <= self.max_pixels
        with tf.control_dependencies([tf.Assert(small, [message])]):
            contents = tf.identity(contents)
        picture = upright(decode(contents), exif_orientation(contents))
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
) -> ImagePreprocessor:
    """The preprocessor that suits some training pictures.

    What is None is told from them: the size is theirs if all are of one size of at most 96 pixels,
    else `large` each way; they are grey if all are; and `scaling`, mean and deviation of the
    channels, is that of up to 10,000, evenly picked.

    Raises:
        DataError: TensorFlow can't decode a picture.
    """
    sizes, grey, most = set(), True, MOST_PIXELS
    for chunk in records.chunks(1000):
        for contents in chunk.columns["image_bytes"]:
            size, is_grey = _declared(contents)
            sizes.add(size)
            grey &= is_grey
            most = max(most, size[0] * size[1])
    own = sizes.pop() if len(sizes) == 1 else (large, large)
    own_width, own_height = own if max(own) <= SMALL else (large, large)
    shape = (height or own_height, width or own_width, channels or (1 if grey else 3))
    if scaling is None:
        plain = ImagePreprocessor(
            labels, *shape, resize, (0.0,) * shape[2], (1.0,) * shape[2], most
        )
        scaling = _scaling(records, plain)
    return ImagePreprocessor(labels, *shape, resize, *scaling, max_pixels=most)


def _declared(contents: bytes) -> tuple[tuple[int, int], bool]:
    """Width and height that a picture is shown in, and whether it is grey, by its header."""
    from PIL import Image

    with Image.open(BytesIO(contents)) as picture:
        try:
            lying = picture.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
        except Exception:  # whatever Pillow stumbles over: the data need not be what they should be
            lying = False
        size = picture.size[::-1] if lying and picture.format == "JPEG" else picture.size
        return size, picture.mode in ("1", "L", "LA", "I", "I;16", "I;16B")


def _scaling(
    records: Records | StreamedRecords, plain: ImagePreprocessor
) -> tuple[list[float], list[float]]:
    """Mean and deviation of the channels of some of the pictures, between 0 and 1."""
    count = min(len(records), SAMPLED, max(1, SAMPLED_PIXELS // (plain.height * plain.width)))
    # Evenly picked, as data is often written class after class.
    sample = records.take(np.linspace(0, len(records) - 1, count).astype(int))
    encode = tf.function(plain.encode, reduce_retracing=True)
    pixels, total, squares = 0, np.zeros(plain.channels), np.zeros(plain.channels)
    for chunk in sample.chunks(64):
        values = encoded_or_refused(encode, chunk.columns)["image"].numpy()
        values = values.reshape(-1, plain.channels).astype(np.int64)
        pixels += len(values)
        total += values.sum(axis=0) / 255.0
        squares += np.square(values).sum(axis=0) / 255.0**2
    mean = total / pixels
    # A picture of one colour has no deviation, and nothing to be divided by it.
    deviation = np.sqrt(np.maximum(squares / pixels - np.square(mean), 1e-4))
    return mean.round(4).tolist(), deviation.round(4).tolist()


def declared_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Width times height that an encoded picture, a string scalar, says it has: int64 scalar.

    0 for what is no picture in a known format.
    """
    # Padded, as a part that lies beyond the end of a string is an error.
    start = tf.strings.substr(tf.strings.join([contents, "\0" * 30]), 0, 30)
    octets = tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int64)

    def number(at: int, length: int, big: bool = False) -> tf.Tensor:
        weights = [256**index for index in range(length)]
        return tf.reduce_sum(
            octets[at : at + length] * tf.constant(weights[:: -1 if big else 1], tf.int64)
        )

    def jpeg() -> tf.Tensor:
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(contents, tf.int64))
        return height * width

    def bmp() -> tf.Tensor:
        height = number(22, 4)
        return number(18, 4) * tf.minimum(height, 2**32 - height)  # negative is upside down

    def lossless() -> tf.Tensor:
        bits = number(21, 4)
        return (bits % 2**14 + 1) * (bits // 2**14 % 2**14 + 1)

    def starts(signature: str, at: int = 0) -> tf.Tensor:
        return tf.equal(tf.strings.substr(start, at, len(signature)), signature)

    zero = tf.constant(0, tf.int64)
    return tf.case(
        [
            (tf.equal(number(0, 2), 0xD8FF), jpeg),
            (starts("PNG", 1), lambda: number(16, 4, True) * number(20, 4, True)),
            (starts("GIF8"), lambda: number(6, 2) * number(8, 2)),
            (starts("BM"), bmp),
            (starts("WEBPVP8X", 8), lambda: (number(24, 3) + 1) * (number(27, 3) + 1)),
            (starts("WEBPVP8L", 8), lossless),
            (starts("WEBPVP8 ", 8), lambda: number(26, 2) % 2**14 * (number(28, 2) % 2**14)),
        ],
        default=lambda: zero,
    )


def decode(contents: tf.Tensor) -> tf.Tensor:
    """An encoded picture, a string scalar, as uint8 (height, width, 3)."""

    def webp() -> tf.Tensor:
        # TensorFlow 2.21's kernel writes beyond its buffer for an animation, flag 2 of the header.
        flags = tf.io.decode_raw(tf.strings.substr(start, 20, 1), tf.uint8)[0]
        moves = tf.equal(tf.strings.substr(start, 12, 4), "VP8X") & (flags // 2 % 2 == 1)
        with tf.control_dependencies([tf.Assert(~moves, ["an animated WebP picture"])]):
            still = tf.identity(contents)
        frames = tf.raw_ops.DecodeWebP(contents=still, channels=0, dtype=tf.uint8)
        return tf.reshape(frames, [-1, *tf.unstack(tf.shape(frames)[-3:])])[0, :, :, :3]

    def bmp() -> tf.Tensor:
        # This kernel converts nothing: transparent pictures have 4 channels, and those of 1 are
        # places in a table of colours, 4 octets each, blue first, that follows the header.
        picture = tf.io.decode_bmp(contents, channels=0)

        def coloured() -> tf.Tensor:
            header = tf.io.decode_raw(tf.strings.substr(contents, 14, 4), tf.int32)[0]
            table = tf.io.decode_raw(tf.strings.substr(contents, 14 + header, 1024), tf.uint8)
            table = tf.pad(table, [[0, 1024 - tf.size(table)]])
            table = tf.reverse(tf.reshape(table, [256, 4])[:, :3], [1])
            return tf.gather(table, tf.cast(picture[:, :, 0], tf.int32))

        return tf.cond(tf.shape(picture)[2] == 1, coloured, lambda: picture[:, :, :3])

    def other() -> tf.Tensor:
        return tf.io.decode_image(contents, channels=3, expand_animations=False)

    # Padded, as a part that lies beyond the end of a string is an error.
    start = tf.strings.join([tf.strings.substr(contents, 0, 21), " " * 21])
    is_webp = tf.equal(tf.strings.substr(start, 8, 4), "WEBP")
    is_bmp = tf.equal(tf.strings.substr(start, 0, 2), "BM")
    picture = tf.case([(is_webp, webp), (is_bmp, bmp)], default=other)
    return tf.ensure_shape(picture, [None, None, 3])


def upright(picture: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """A picture, (height, width, channels), turned as an EXIF orientation of 1 to 8 says (EXIF
    2.32, tag 274)."""

    def is_one_of(*values: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(values))

    def turned() -> tf.Tensor:
        x = tf.cond(
            is_one_of(5, 6, 7, 8), lambda: tf.transpose(picture, [1, 0, 2]), lambda: picture
        )
        x = tf.cond(is_one_of(2, 3, 6, 7), lambda: tf.reverse(x, [1]), lambda: x)
        return tf.cond(is_one_of(3, 4, 7, 8), lambda: tf.reverse(x, [0]), lambda: x)

    return tf.cond(orientation == 1, lambda: picture, turned)


def exif_orientation(contents: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG file, 1 to 8; 1, which means upright, where there is none.

    Args:
        contents: the file, a string scalar.

    Returns:
        int32 scalar.
    """

    def read() -> tf.Tensor:
        # The segment with it is among the first, and no segment is longer than this.
        start = tf.strings.substr(contents, 0, 2**16)
        octets = tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int32)
        size = tf.size(octets)

        def at(positions: tf.Tensor) -> tf.Tensor:
            inside = (positions >= 0) & (positions < size)
            values = tf.gather(octets, tf.where(inside, positions, 0))
            return tf.where(inside, values, 0)

        padded = tf.pad(octets, [[0, 10]])
        found = tf.fill([size], True)
        for offset, octet in zip((0, 1, *range(4, 10)), b"\xff\xe1Exif\0\0", strict=True):
            found &= padded[offset : offset + size] == octet
        base = tf.cast(tf.argmax(found), tf.int32) + 10  # where the TIFF header starts
        little = at(base) == ord("I")

        def number(positions: tf.Tensor, length: int) -> tf.Tensor:
            parts = at(positions[..., tf.newaxis] + tf.range(length))
            parts = tf.where(little, tf.reverse(parts, [-1]), parts)
            return tf.reduce_sum(parts * tf.constant([256**i for i in range(length)][::-1]), -1)

        # Of the offset's 4 octets, the upper two are zero unless it points beyond what was read.
        directory = base + number(base + 4, 4)
        entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, 2), 512))
        is_orientation = number(entries, 2) == EXIF_ORIENTATION
        value = tf.reduce_max(tf.where(is_orientation, number(entries + 8, 2), 1))
        known = tf.reduce_any(found) & (value >= 1) & (value <= 8)
        return tf.where(known, value, 1)

    is_jpeg = tf.equal(tf.strings.substr(contents, 0, 2), b"\xff\xd8")
    return tf.cond(is_jpeg, read, lambda: tf.constant(1))


def _whole(size: tf.Tensor) -> tf.Tensor:
    """A size in pixels, at least one each way."""
    return tf.cast(tf.maximum(tf.round(size), 1.0), tf.int32)
