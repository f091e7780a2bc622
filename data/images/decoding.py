"""Encoded pictures to pixels, by ops of the stock TensorFlow Serving alone.

picture = decoded(tf.constant(png), max_pixels=2**26)  # uint8 (height, width, 3), upright
"""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from threading import Lock

import numpy as np
import tensorflow as tf

from data.preprocessing import reason_of

ORIENTATION = 0x0112  # the tag of EXIF (2.32)

JPEG, PNG, GIF, BMP, WEBP, OTHER = range(6)
# By the first octet, for that is quick; whoever decodes says what is not what it seems.
_KINDS = np.full(256, OTHER, np.int32)
for _first, _kind in zip(b"\xff\x89GBR", (JPEG, PNG, GIF, BMP, WEBP), strict=True):
    _KINDS[_first] = _kind

ZERO, ONE = np.int64(0), np.int64(1)

_ONE_AT_A_TIME = Lock()  # of the threads that would all trace one function

Background = Sequence[int] | None
Levels = Sequence[float] | None


# What the first octets of most pictures are, where they are known; nothing comes before the pixels
# of these, or behind them, that would change how they are shown.
_PLAIN_JPEG = {0: b"\xff\xd8\xff\xe0\0\x10JFIF\0", 20: b"\xff\xdb"}
_PLAIN_PNG = {0: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 37: b"IDAT"}


def decoded(
    contents: tf.Tensor, max_pixels: int, background: Background = None, levels: Levels = None
) -> tf.Tensor:
    """The pixels of a picture file, a string scalar, as it is to be shown: uint8 (height, width,
    3). One that declares more than `max_pixels` is an error.

    Most pictures are decoded at once; all others, in a function that is part of no graph until it
    is called, which for small pictures makes a third of the time.

    Args:
        background: the colour, of 3 numbers up to 255, that transparent pictures are laid on; None
            ignores that they are.
        levels: of pictures of 16 bits, the values that become 0 and 255; None keeps the upper 8
            bits.
    """
    head = octets(contents, 0, 41)
    one_part = 57 + number(head, 33, 4, True) == _size(contents)
    opaque = (head[25] // 4 % 2 == 0) if background is not None else True
    shallow = (head[24] != 16) if levels is not None else True
    jpeg = _begins(head, _PLAIN_JPEG)
    png = _begins(head, _PLAIN_PNG) & one_part & opaque & shallow

    def plain(pixels: Callable[[], tf.Tensor]) -> tf.Tensor:
        with tf.control_dependencies([_require_few(pixels(), max_pixels)]):
            return tf.io.decode_image(contents, channels=3, expand_animations=False)

    branches = [
        partial(_shown(background, levels), contents, max_pixels),
        partial(plain, lambda: _jpeg_pixels(contents)),
        partial(plain, lambda: _png_pixels(head)),
    ]
    kind = tf.cast(jpeg, tf.int32) + 2 * tf.cast(png, tf.int32)
    return tf.ensure_shape(tf.switch_case(kind, branches), [None, None, 3])


class EncodedPicture:
    """A picture file, a string scalar, in a graph."""

    def __init__(self, contents: tf.Tensor) -> None:
        self._contents = contents
        self._head = octets(contents, 0, 32)
        self._kind = tf.gather(tf.constant(_KINDS), self._head[0])

    def declared_pixels(self) -> tf.Tensor:
        """Width times height that the file says it has: int64 scalar, 0 for what is no picture in
        a known format."""
        head = self._head

        def bmp() -> tf.Tensor:
            width, height, _ = _bmp_size(head)
            return width * tf.abs(height)

        def webp() -> tf.Tensor:
            lossless = number(head, 21, 4)
            sizes = {
                b"VP8X": (number(head, 24, 3) + 1) * (number(head, 27, 3) + 1),
                b"VP8L": (lossless % 2**14 + 1) * (lossless // 2**14 % 2**14 + 1),
                b"VP8 ": number(head, 26, 2) % 2**14 * (number(head, 28, 2) % 2**14),
            }
            declared = tf.constant(0, tf.int64)
            for name, size in sizes.items():
                declared = tf.where(_has(head, 8, b"WEBP" + name), size, declared)
            return declared

        return self._by_kind(
            {
                JPEG: partial(_jpeg_pixels, self._contents),
                PNG: partial(_png_pixels, head),
                GIF: lambda: number(head, 6, 2) * number(head, 8, 2),
                BMP: bmp,
                WEBP: webp,
            },
            default=lambda: tf.constant(0, tf.int64),
        )

    def decode(self, background: Background = None, levels: Levels = None) -> tf.Tensor:
        """The pixels, uint8 (height, width, 3); arguments as in `decoded`."""
        contents, parts = self._contents, self._parts

        def plain() -> tf.Tensor:
            return tf.io.decode_image(contents, channels=3, expand_animations=False)

        def png() -> tf.Tensor:
            alpha = deep = tf.constant(False)
            if background is not None:
                transparent = (self._head[25] // 4 % 2 == 1) | (parts[2] > 0)
                alpha = transparent & _has(self._head, 1, b"PNG")
            if levels is not None:
                deep = self._head[24] == 16

            def special() -> tf.Tensor:
                def of_16_bits() -> tf.Tensor:
                    values = tf.io.decode_png(contents, 4, tf.uint16)
                    colours, alphas = tf.split(tf.cast(values, tf.float32), [3, 1], -1)
                    low, high = levels or (0.0, 65535.0)
                    colours = tf.clip_by_value((colours - low) * (255 / (high - low)), 0.0, 255.0)
                    return laid_on(tf.round(colours), alphas / 65535.0, background)

                def of_8_bits() -> tf.Tensor:
                    return _flattened(tf.io.decode_png(contents, 4), background)

                if levels is None:
                    return of_8_bits()
                return tf.cond(deep, of_16_bits, of_8_bits)

            if background is None and levels is None:
                return plain()
            return tf.cond(alpha | deep, special, plain)

        def webp() -> tf.Tensor:
            # The kernel of TensorFlow 2.21 writes beyond its buffer for an animation, flag 2.
            moves = _has(self._head, 12, b"VP8X") & (self._head[20] // 2 % 2 == 1)
            with tf.control_dependencies([tf.Assert(~moves, ["an animated WebP picture"])]):
                still = tf.identity(contents)
            frames = tf.raw_ops.DecodeWebP(contents=still, channels=0, dtype=tf.uint8)
            picture = tf.reshape(frames, [-1, *tf.unstack(tf.shape(frames)[-3:])])[0]
            if background is None:
                return picture[:, :, :3]
            return tf.cond(
                tf.shape(picture)[2] == 4,
                lambda: _flattened(picture, background),
                lambda: picture[:, :, :3],
            )

        picture = self._by_kind(
            {
                PNG: png,
                GIF: plain if background is None else partial(_gif, contents, background),
                BMP: partial(_bmp, contents, background),
                WEBP: webp,
            },
            default=plain,
        )
        return tf.ensure_shape(picture, [None, None, 3])

    def orientation(self) -> tf.Tensor:
        """How the picture lies, by its EXIF data or else XMP: int32 scalar from 1 to 8; 1, which
        means upright, where nothing says so."""
        exif, xmp, _ = tf.unstack(self._parts)

        def read() -> tf.Tensor:
            said = tf.cond(exif > 0, lambda: _exif_orientation(self._contents, exif), lambda: 0)
            more = (said == 0) & (xmp > 0)
            said = tf.cond(more, lambda: _xmp_orientation(self._contents, xmp), lambda: said)
            return tf.where((said >= 1) & (said <= 8), said, 1)

        return tf.cond((exif > 0) | (xmp > 0), read, lambda: 1)

    def _by_kind(
        self, branches: dict[int, Callable[[], tf.Tensor]], default: Callable[[], tf.Tensor]
    ) -> tf.Tensor:
        every = [branches.get(kind, default) for kind in (JPEG, PNG, GIF, BMP, WEBP, OTHER)]
        return tf.switch_case(self._kind, every)

    @cached_property
    def _parts(self) -> tf.Tensor:
        """Where in the file EXIF data, XMP and a PNG's transparency are, int64 (3,); 0 for what is
        not there."""

        def none() -> tf.Tensor:
            return tf.zeros([3], tf.int64)

        def jpeg() -> tf.Tensor:
            # Segments: a mark of 2 octets, then the length, then what APP1 says that it is.
            def segment(eight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                mark, length = eight // 2**48 % 2**16, eight // 2**32 % 2**16
                key = tf.where(mark == 0xFFE1, eight % 2**32, mark * 2**32)
                return key, tf.where(mark == 0xFFFF, ONE, length + 2)

            found = _walk(self._contents, 2, segment, [b"Exif", b"http"], 0xFFDA * 2**32)
            return tf.concat([tf.where(found > 0, found + 4, ZERO), [ZERO]], 0)

        def png() -> tf.Tensor:
            # Chunks: the length, then the name; after what is in them a checksum.
            def chunk(eight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return eight % 2**32, eight // 2**32 % 2**32 + 12

            wanted = [b"eXIf", b"iTXt", b"tRNS"]
            found = _walk(self._contents, 33, chunk, wanted, _key(b"IEND"))
            return tf.where(found > 0, found + 8, ZERO)

        def webp() -> tf.Tensor:
            # Chunks: the name, then the length, the last octet first; they start at even places.
            def chunk(eight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                length = sum(eight // 256**i % 256 * 256 ** (3 - i) for i in range(4))
                return eight // 2**32 % 2**32, length + length % 2 + 8

            found = _walk(self._contents, 12, chunk, [b"EXIF", b"XMP "], 0)
            return tf.concat([tf.where(found > 0, found + 8, ZERO), [ZERO]], 0)

        return self._by_kind({JPEG: jpeg, PNG: png, WEBP: webp}, default=none)


def refusals(pictures: Sequence[bytes], max_pixels: int) -> dict[int, str]:
    """Which picture files can't be decoded, by their places, and why."""
    if not pictures:
        return {}
    with _ONE_AT_A_TIME:
        decoded_sizes = _decoded_sizes(max_pixels)
    try:
        decoded_sizes(tf.constant(pictures))
    except tf.errors.InvalidArgumentError as error:
        if len(pictures) == 1:
            return {0: reason_of(error)}
        half = len(pictures) // 2
        behind = refusals(pictures[half:], max_pixels)
        return refusals(pictures[:half], max_pixels) | {
            half + at: why for at, why in behind.items()
        }
    return {}


@lru_cache(maxsize=4)
def _decoded_sizes(max_pixels: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function that decodes a batch of pictures for nothing but that it can be done."""

    def size(contents: tf.Tensor) -> tf.Tensor:
        def jpeg() -> tf.Tensor:
            # An eighth of the size takes the same octets and a part of the time.
            with tf.control_dependencies([_require_few(_jpeg_pixels(contents), max_pixels)]):
                return tf.size(tf.io.decode_jpeg(contents, channels=3, ratio=8))

        is_jpeg = octets(contents, 0, 1)[0] == 0xFF
        return tf.cond(is_jpeg, jpeg, lambda: tf.size(decoded(contents, max_pixels)))

    sizes = tf.function(
        lambda pictures: tf.map_fn(size, pictures, fn_output_signature=tf.int32),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    return sizes.get_concrete_function()


@lru_cache(maxsize=16)
def _shown(background: Background, levels: Levels) -> Callable[..., tf.Tensor]:
    """A function of any picture and of the most pixels that it may have."""

    @tf.function(
        input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )
    def shown(contents: tf.Tensor, max_pixels: tf.Tensor) -> tf.Tensor:
        file = EncodedPicture(contents)
        with tf.control_dependencies([_require_few(file.declared_pixels(), max_pixels)]):
            picture = file.decode(background, levels)
        return upright(picture, file.orientation())

    return shown


def _require_few(pixels: tf.Tensor, most: tf.Tensor | int) -> tf.Operation:
    said = str(most) if isinstance(most, int) else tf.strings.as_string(most)
    return tf.Assert(
        pixels <= most, [tf.strings.join(["a picture of more than ", said, " pixels"])]
    )


def _jpeg_pixels(contents: tf.Tensor) -> tf.Tensor:
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(contents, tf.int64))
    return height * width


def _png_pixels(head: tf.Tensor) -> tf.Tensor:
    return number(head, 16, 4, True) * number(head, 20, 4, True)


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


def laid_on(colours: tf.Tensor, alphas: tf.Tensor, background: Background) -> tf.Tensor:
    """Float colours, (height, width, 3), on a background as far as their alphas, (height, width,
    1) from 0 to 1, let it be seen; as uint8."""
    if background is not None:
        ground = tf.constant(background, tf.float32)
        colours = ground + (colours - ground) * alphas
    return tf.cast(tf.round(colours), tf.uint8)


def octets(text: tf.Tensor, at: tf.Tensor | int, length: int) -> tf.Tensor:
    """Some octets of a string scalar, int64 (length,); 0 beyond its end."""
    return tf.cast(tf.io.decode_raw(_part(text, at, length), tf.uint8), tf.int64)


def number(octets: tf.Tensor, at: int, length: int, big: bool = False) -> tf.Tensor:
    """The number that some octets are, int64 scalar; the last one first unless `big`."""
    weights = [256**index for index in range(length)]
    return tf.reduce_sum(
        octets[at : at + length] * tf.constant(weights[:: -1 if big else 1], tf.int64)
    )


def _part(text: tf.Tensor, at: tf.Tensor | int, length: int) -> tf.Tensor:
    """Some octets of a string scalar, with zeros for those beyond its end."""
    at = tf.minimum(tf.cast(at, tf.int64), _size(text))
    part = tf.strings.substr(text, at, tf.constant(length, tf.int64))
    return tf.strings.substr(tf.strings.join([part, "\0" * length]), 0, length)


def _size(text: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(text), tf.int64)


def _has(octets: tf.Tensor, at: int, expected: bytes) -> tf.Tensor:
    return tf.reduce_all(octets[at : at + len(expected)] == tf.constant(list(expected), tf.int64))


def _begins(head: tf.Tensor, expected: dict[int, bytes]) -> tf.Tensor:
    """Whether octets are as expected, by where."""
    places = [at + index for at, part in expected.items() for index in range(len(part))]
    values = tf.constant(list(b"".join(expected.values())), tf.int64)
    return tf.reduce_all(tf.gather(head, places) == values)


def _key(name: bytes) -> int:
    return int.from_bytes(name, "big")


def _walk(
    contents: tf.Tensor,
    start: int,
    part: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    wanted: Sequence[bytes],
    last: int,
) -> tf.Tensor:
    """Where in a file the first parts of some kinds are, int64 (wanted,); 0 for those that it
    does not have.

    Args:
        start: where the first part is.
        part: from the first 8 octets of a part, as one number, to the kind and the length.
        last: the kind of part after which there are no more.
    """
    end = _size(contents) - 8
    names = tf.constant([_key(name) for name in wanted], tf.int64)

    def step(at: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        eight = tf.strings.substr(contents, at, tf.constant(8, tf.int64))
        key, length = part(tf.io.decode_raw(eight, tf.int64, little_endian=False)[0])
        found = tf.where((names == key) & (found == 0), at, found)
        return tf.where(key == last, end + 1, at + length), found

    first = (tf.constant(start, tf.int64), tf.zeros([len(wanted)], tf.int64))
    return tf.while_loop(lambda at, _: at <= end, step, first)[1]


def _exif_orientation(contents: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The orientation that EXIF data say, int32 scalar; 0 if they say none."""
    named = tf.equal(_part(contents, at, 6), b"Exif\0\0")
    base = tf.where(named, at + 6, at)
    mark = _part(contents, base, 4)

    def read(little: bool) -> tf.Tensor:
        def halves(at: tf.Tensor, count: int) -> tf.Tensor:
            part = _part(contents, at, 2 * count)
            return tf.cast(tf.io.decode_raw(part, tf.uint16, little_endian=little), tf.int64)

        def whole(pairs: tf.Tensor) -> tf.Tensor:
            low, high = (0, 1) if little else (1, 0)
            return pairs[..., low] + pairs[..., high] * 2**16

        directory = base + whole(halves(base + 4, 2))
        count = halves(directory, 1)[0]
        # Tag, type, number of values, and the value: the latter two of two halves each.
        entries = tf.reshape(halves(directory + 2, 6 * 512), [512, 6])[:count]
        short = (entries[:, 1] == 3) | (entries[:, 1] == 8)
        long = (entries[:, 1] == 4) | (entries[:, 1] == 9)
        fits = (entries[:, 0] == ORIENTATION) & (short | long) & (whole(entries[:, 2:4]) == 1)
        values = tf.where(short, entries[:, 4], whole(entries[:, 4:6]))
        return tf.cast(tf.reduce_max(tf.pad(tf.where(fits, values, ZERO), [[0, 1]])), tf.int32)

    return tf.case(
        [
            (tf.equal(mark, b"II*\0"), lambda: read(little=True)),
            (tf.equal(mark, b"MM\0*"), lambda: read(little=False)),
        ],
        default=lambda: tf.constant(0),
    )


def _xmp_orientation(contents: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
    """The orientation that XMP data say, as an attribute or as an element: int32 scalar; 0 if they
    say none."""
    text = tf.strings.substr(contents, at, tf.constant(2**16, tf.int64))
    parts = tf.strings.split(text, "tiff:Orientation", maxsplit=1)
    said = octets(tf.strings.reduce_join(parts[1:]), 0, 3)
    digit = tf.where(_has(said, 0, b'="'), said[2], tf.where(_has(said, 0, b">"), said[1], ZERO))
    return tf.cast(digit, tf.int32) - ord("0")


def _flattened(picture: tf.Tensor, background: Background) -> tf.Tensor:
    """A picture with alphas, uint8 (height, width, 4), on a background."""
    colours, alphas = tf.split(tf.cast(picture, tf.float32), [3, 1], -1)
    return laid_on(colours, alphas / 255.0, background)


def _gif(contents: tf.Tensor, background: Sequence[int]) -> tf.Tensor:
    """The first frame of a GIF on its whole screen; what is transparent or free is background.

    TensorFlow's kernel makes what is transparent black, and takes the frame for the screen: it gets
    the file as if the frame were in the corner and its transparent colour the background.
    """
    head = octets(contents, 0, 13)
    end = _size(contents) - 8
    own_table = tf.where(head[10] >= 128, 3 * 2 ** (head[10] % 8 + 1), ZERO)

    def step(
        at: tf.Tensor, inside: tf.Tensor, control: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Over a block's start, or one of the parts that are inside of it, with its length."""
        block = octets(contents, at, 3)
        is_control = ~inside & _has(block, 0, b"\x21\xf9\x04")
        control = tf.where(is_control, at, control)
        at += tf.where(inside, block[0] + 1, 2 * ONE)
        return at, ~inside | (block[0] > 0), control

    def going(at: tf.Tensor, inside: tf.Tensor, control: tf.Tensor) -> tf.Tensor:
        return (at <= end) & (inside | tf.equal(_part(contents, at, 1), b"\x21"))

    start = (13 + own_table, tf.constant(False), tf.constant(0, tf.int64))
    at, _, control = tf.while_loop(going, step, start)
    block, frame = octets(contents, control, 8), octets(contents, at, 10)
    local = frame[9] >= 128
    table = tf.where(local, at + 10, 13 * ONE) + 3 * block[6]
    size = tf.where(local, 3 * 2 ** (frame[9] % 8 + 1), own_table)
    is_frame = (frame[0] == ord(",")) & (at <= end)
    transparent = is_frame & (control > 0) & (block[3] % 2 == 1) & (3 * block[6] < size)

    def opaque() -> tf.Tensor:
        flags = tf.gather(tf.constant([bytes([number]) for number in range(256)]), block[3] - 1)
        return _replaced(
            _replaced(contents, control + 3, flags), table, tf.constant(bytes(background))
        )

    changed = tf.cond(transparent, opaque, lambda: contents)
    changed = tf.cond(
        is_frame, lambda: _replaced(changed, at + 1, tf.constant(b"\0\0\0\0")), lambda: changed
    )
    picture = tf.io.decode_image(changed, channels=3, expand_animations=False)
    places = [tf.cast(number(frame, place, 2), tf.int32) for place in (1, 3, 5, 7)]
    left, top, width, height = places
    picture = picture[:height, :width]
    below = tf.maximum(tf.cast(number(head, 8, 2), tf.int32) - top - height, 0)
    behind = tf.maximum(tf.cast(number(head, 6, 2), tf.int32) - left - width, 0)
    free = tf.stack([[top, below], [left, behind], [0, 0]])
    shown = tf.pad(tf.ones_like(picture), free) == 1
    return tf.where(shown, tf.pad(picture, free), tf.constant(background, tf.uint8))


def _replaced(text: tf.Tensor, at: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """A string scalar with another part from some place on."""
    behind = at + _size(part)
    before = tf.strings.substr(text, ZERO, at)
    return tf.strings.join([before, part, tf.strings.substr(text, behind, _size(text))])


def _bmp_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of a BMP's first octets the width, the height, negative if the top row comes first, and the
    bits of a pixel."""
    height = number(head, 22, 4)
    height = tf.where(height >= 2**31, height - 2**32, height)
    old = number(head, 14, 4) == 12  # the header of OS/2
    return (
        tf.where(old, number(head, 18, 2), number(head, 18, 4)),
        tf.where(old, number(head, 20, 2), height),
        tf.where(old, number(head, 24, 2), number(head, 28, 2)),
    )


def _bmp(contents: tf.Tensor, background: Background) -> tf.Tensor:
    """A BMP that is not compressed, of any number of bits; whatever follows its pixels.

    TensorFlow's own kernel takes no file that is longer or shorter than its header says, no table
    of fewer bits than 8, and pixels of 32 bits in one order only.
    """
    head = octets(contents, 0, 72)
    width, height, bits = _bmp_size(head)
    header = number(head, 14, 4)
    old = header == 12
    masked = ~old & (number(head, 30, 4) == 3)
    row = (width * bits + 31) // 32 * 4
    start, length = number(head, 10, 4), row * tf.abs(height)
    checks = [
        tf.Assert(old | masked | (number(head, 30, 4) == 0), ["a compressed BMP picture"]),
        tf.Assert((width > 0) & (height != 0), ["a BMP picture without pixels"]),
        tf.Assert(start + length <= _size(contents), ["a truncated BMP picture"]),
        tf.Assert(
            tf.reduce_any(bits == tf.constant([1, 4, 8, 16, 24, 32], tf.int64)),
            ["a BMP picture of", bits, "bits"],
        ),
    ]
    with tf.control_dependencies(checks):
        body = tf.io.decode_raw(tf.strings.substr(contents, start, length), tf.uint8)
    rows = tf.reshape(body, tf.stack([tf.abs(height), row]))

    def indexed() -> tf.Tensor:
        each = tf.cast(bits, tf.uint8)
        shifts = tf.cast(8 - bits * (1 + tf.range(8 // bits)), tf.uint8)
        places = tf.bitwise.right_shift(rows[:, :, tf.newaxis], shifts)
        ones = tf.bitwise.right_shift(tf.constant(255, tf.uint8), 8 - each)
        places = tf.reshape(tf.bitwise.bitwise_and(places, ones), [tf.abs(height), -1])
        # The table: 4 octets each, or 3 in OS/2, blue first; it follows the header.
        wide = tf.reshape(octets(contents, 14 + header, 1024), [256, 4])[:, :3]
        narrow = tf.reshape(octets(contents, 14 + header, 768), [256, 3])
        table = tf.cast(tf.reverse(tf.where(old, narrow, wide), [1]), tf.uint8)
        return tf.gather(table, tf.cast(places[:, :width], tf.int32))

    def plain() -> tf.Tensor:
        pixels = tf.reshape(rows[:, : width * 3], tf.stack([tf.abs(height), width, 3]))
        return tf.reverse(pixels, [2])

    def by_masks() -> tf.Tensor:
        each = bits // 8
        pixels = tf.reshape(
            tf.cast(rows[:, : width * each], tf.int64), tf.stack([tf.abs(height), width, each])
        )
        pixels = tf.reduce_sum(pixels * 256 ** tf.range(each, dtype=tf.int64), -1)
        usual = tf.where(
            bits == 16,
            tf.constant([0x7C00, 0x3E0, 0x1F, 0], tf.int64),
            tf.constant([0xFF0000, 0xFF00, 0xFF, 0], tf.int64),
        )
        given = tf.stack([number(head, 54 + 4 * i, 4) for i in range(4)])
        given *= tf.stack([ONE, ONE, ONE, tf.cast(header >= 56, tf.int64)])
        nothing = tf.reduce_all(given == 0)
        given = tf.where(nothing, usual + tf.constant([0, 0, 0, 0xFF000000], tf.int64), given)
        masks = tf.where(masked, given, usual)
        # The lowest bit of a mask is what its number is in units of.
        unit = tf.maximum(tf.bitwise.bitwise_and(masks, -masks), 1)
        parts = tf.bitwise.bitwise_and(pixels[:, :, tf.newaxis], masks) // unit
        parts = tf.cast(parts * 255 // tf.maximum(masks // unit, 1), tf.uint8)
        if background is None:
            return parts[:, :, :3]
        return tf.cond(masks[3] > 0, lambda: _flattened(parts, background), lambda: parts[:, :, :3])

    picture = tf.case([(bits <= 8, indexed), (bits == 24, plain)], default=by_masks)
    return tf.cond(height > 0, lambda: tf.reverse(picture, [0]), lambda: picture)
