"""Decoding in a graph: what Pillow shows of any file, upright, on a background, of any depth."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from data.images.decoding import decoded

WHITE = (255, 255, 255)


@pytest.fixture(scope="module")
def show():
    """A picture, decoded in a graph that is traced once."""
    spec = [tf.TensorSpec([], tf.string)]
    graph = tf.function(lambda file: decoded(file, 2**26, WHITE), spec, autograph=False)
    return lambda contents: graph(tf.constant(contents)).numpy()


def noise(height=9, width=13, channels=3, seed=0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype("uint8")


def file(picture: Image.Image, format="PNG", **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def pillow(contents: bytes) -> np.ndarray:
    """As Pillow has it, upright and laid on white."""
    with Image.open(io.BytesIO(contents)) as picture:
        picture = ImageOps.exif_transpose(picture).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture))[
        ..., :3
    ]


# BMP, of which TensorFlow's kernel takes few


def bmp(bits: int, rows: bytes, width: int, height: int, table=b"", compression=0, masks=b""):
    start = 54 + len(masks) + len(table)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, start) + header + masks + table + rows


def old_bmp() -> bytes:
    """With the header of OS/2, of 12 bytes."""
    table = noise(1, 256)[0].tobytes()
    header = struct.pack("<IHHHH", 12, 8, 3, 1, 8)
    start = 26 + len(table)
    return struct.pack("<2sIHHI", b"BM", 0, 0, 0, start) + header + table + bytes(range(24))


def table(colours: int) -> bytes:
    return noise(1, colours, 4)[0].tobytes()


DEEP = noise(3, 4, 2).tobytes()
BMPS = {
    "with octets after its pixels": lambda: file(Image.fromarray(noise()), "BMP") + b"\0\0",
    "of 8 bits, with octets after": lambda: file(few_colours(), "BMP") + b"!",
    "of 1 bit": lambda: bmp(1, noise(3, 8, 1).tobytes(), 35, 3, table(2)),
    "of 4 bits": lambda: bmp(4, noise(3, 8, 1).tobytes(), 13, 3, table(16)),
    "of 16 bits": lambda: bmp(16, DEEP, 4, 3),
    "of 16 bits, with masks": lambda: bmp(
        16, DEEP, 4, 3, compression=3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    ),
    "of 32 bits, with masks": lambda: bmp(
        32, bytes(range(48)), 4, 3, compression=3, masks=bytes.fromhex("000000ff0000ff0000ff0000")
    ),
    "of 32 bits, without": lambda: bmp(32, noise(3, 4, 4).tobytes(), 4, 3),
    "with the top row first": lambda: bmp(24, noise(3, 8).tobytes(), 8, -3),
    "of OS/2": old_bmp,
    "with a gap before its pixels": lambda: (
        lambda whole: whole[:10] + struct.pack("<I", 60) + whole[14:54] + bytes(6) + whole[54:]
    )(file(Image.fromarray(noise()), "BMP")),
}  # fmt: skip


@pytest.mark.parametrize("kind", BMPS)
def test_a_bmp_is_what_pillow_reads(show, kind):
    contents = BMPS[kind]()
    np.testing.assert_array_equal(show(contents), pillow(contents))


def test_a_bmp_that_is_cut_off_or_packed_is_an_error(show):
    with pytest.raises(tf.errors.InvalidArgumentError, match="truncated BMP"):
        show(file(Image.fromarray(noise()), "BMP")[:-1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="compressed BMP"):
        show(bmp(8, bytes(8), 2, 2, table(256), compression=1))


# Upright


def exif(orientation: int, order: str, kind: int = 3) -> bytes:
    """EXIF data with an orientation of type SHORT (3) or LONG (4)."""
    mark = {">": b"MM\0*", "<": b"II*\0"}[order]
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *[orientation, 0][: 5 - kind])
    entries = struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
    return mark + struct.pack(f"{order}IH", 8, 1) + entries + bytes(4)


def segment(mark: int, body: bytes) -> bytes:
    return struct.pack(">HH", mark, len(body) + 2) + body


def chunk(name: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check


def lying(format: str, **options) -> bytes:
    """Slow gradients, which survive JPEG."""
    rows, columns = np.mgrid[0:24, 0:40]
    pixels = np.stack([4 * columns, 8 * rows, 3 * (rows + columns)], -1).astype("uint8")
    return file(Image.fromarray(pixels), format, **options)


def assert_shown_as_by_pillow(show, contents: bytes, most: int) -> None:
    ours, theirs = show(contents), pillow(contents)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= most


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_every_format_is_turned_as_pillow_turns_it(show, format, kind, order):
    lossless = {"lossless": True} if format == "WEBP" else {}
    for orientation in range(1, 9):
        data = b"Exif\0\0" * (format != "PNG") + exif(orientation, order, kind)
        contents = lying(format, exif=data, **lossless)
        assert_shown_as_by_pillow(show, contents, 12 if format == "JPEG" else 0)


def test_exif_data_are_found_wherever_they_are(show):
    jpeg, png = lying("JPEG", quality=95), lying("PNG")
    data = segment(0xFFE1, b"Exif\0\0" + exif(6, ">"))
    profile = b"".join(segment(0xFFE2, b"ICC_PROFILE\0\1\2" + bytes(60_000)) for _ in range(2))
    end = png.index(b"IEND") - 4
    for contents in (
        jpeg[:2] + profile + data + jpeg[2:],
        jpeg[:20] + b"\xff\xff" + data + jpeg[20:],
        png[:33] + chunk(b"tEXt", b"a\0" + bytes(99_999)) + chunk(b"eXIf", exif(6, ">")) + png[33:],
        png[:end] + chunk(b"eXIf", exif(6, "<")) + png[end:],
    ):
        assert show(contents).shape == (40, 24, 3)
        assert_shown_as_by_pillow(show, contents, 12)


@pytest.mark.parametrize(
    "form", ['<x tiff:Orientation="6"/>', "<tiff:Orientation>6</tiff:Orientation>"]
)
def test_xmp_turns_a_picture_that_exif_does_not(show, form):
    jpeg, png = lying("JPEG", quality=95), lying("PNG")
    xmp = segment(0xFFE1, b"http://ns.adobe.com/xap/1.0/\0" + form.encode())
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + form.encode())
    for contents in (
        jpeg[:20] + xmp + jpeg[20:],
        png[:33] + text + png[33:],
        lying("WEBP", lossless=True, xmp=form.encode()),
    ):
        assert show(contents).shape == (40, 24, 3)
        assert_shown_as_by_pillow(show, contents, 12)
    both = jpeg[:20] + xmp + segment(0xFFE1, b"Exif\0\0" + exif(3, "<")) + jpeg[20:]
    assert_shown_as_by_pillow(show, both, 12)


# Transparent pictures


def transparent(mode="RGBA") -> Image.Image:
    return Image.fromarray(noise(channels=4)).convert(mode)


def few_colours() -> Image.Image:
    picture = Image.fromarray(noise(8, 8, 1)[..., 0] % 4, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 9, 200])
    return picture


def icon() -> bytes:
    """A GIF whose first frame does not fill it, with notes before and two more blocks."""
    whole = file(few_colours(), "GIF", transparency=2, comment=b"notes" * 80)
    at = whole.index(b",\0\0\0\0")
    wider = whole[:6] + struct.pack("<HH", 12, 10) + whole[10:at]
    return wider + struct.pack("<BHH", 0x2C, 3, 1) + whole[at + 5 :]


TRANSPARENT = {
    "PNG": lambda: file(transparent()),
    "PNG, grey": lambda: file(transparent("LA")),
    "PNG of a palette": lambda: file(few_colours(), transparency=bytes([0, 90, 255, 255])),
    "PNG with a transparent colour": lambda: file(
        Image.fromarray(noise() // 128), transparency=(0, 0, 0)
    ),
    "PNG of 16 bits": lambda: tf.io.encode_png(noise(channels=4).astype("uint16") * 257).numpy(),
    "GIF": lambda: file(few_colours(), "GIF", transparency=0),
    "GIF with a smaller frame": icon,
    "WebP": lambda: file(transparent(), "WEBP", lossless=True, exact=True),
    "BMP": lambda: file(transparent(), "BMP"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_a_transparent_picture_is_laid_on_the_background(show, kind):
    contents = TRANSPARENT[kind]()
    assert_shown_as_by_pillow(show, contents, 1)


def test_without_a_background_the_colours_are_those_beneath():
    for kind in ("PNG", "GIF", "WebP", "BMP"):
        contents = TRANSPARENT[kind]()
        with Image.open(io.BytesIO(contents)) as picture:
            expected = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(decoded(tf.constant(contents), 2**26), expected)


# 16 bits


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_scaled_from_their_levels(channels):
    values = np.linspace(900, 1300, 8 * 10 * channels).reshape(8, 10, channels).astype("uint16")
    if channels in (2, 4):
        values[..., -1] = 65535
    colours = values[..., :3] if channels > 2 else np.repeat(values[..., :1], 3, -1)
    expected = np.clip((colours - 1000.0) / 200 * 255, 0, 255)
    contents = tf.io.encode_png(values)
    ours = decoded(contents, 2**26, WHITE, (1000.0, 1200.0)).numpy()
    assert np.abs(ours - expected).max() <= 0.51
    shallow = tf.io.encode_png(noise())
    np.testing.assert_array_equal(decoded(shallow, 2**26, WHITE, (1000.0, 1200.0)), noise())
