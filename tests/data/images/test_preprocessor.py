"""Pictures: every format as Pillow reads it, upright, made to fit, normalised; also exported."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from data.errors import DataError
from data.images.decoding import EncodedPicture, upright
from data.images.preprocessor import ImagePreprocessor, fit_image_preprocessor
from data.preprocessing import Preprocessor
from data.records import Records

LABELS = ["cat", "two\nlines"]


def noise(height=9, width=13, channels=3, seed=0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype("uint8")


def smooth(height=40, width=56) -> np.ndarray:
    """Slow gradients, which survive JPEG."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([4 * columns, 5 * rows, 2 * (rows + columns)], -1).astype("uint8")


def file(picture: np.ndarray | Image.Image, format="PNG", mode="RGB", **options) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    out = io.BytesIO()
    picture.convert(mode).save(out, format, **options)
    return out.getvalue()


def pillow(contents: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(contents)) as picture:
        return np.asarray(picture.convert("RGB"))


def decode(contents: tf.Tensor, *options) -> tf.Tensor:
    return EncodedPicture(contents).decode(*options)


def exif_orientation(contents: tf.Tensor) -> tf.Tensor:
    return EncodedPicture(contents).orientation()


def declared_pixels(contents: tf.Tensor) -> tf.Tensor:
    return EncodedPicture(contents).declared_pixels()


def decoded(contents: bytes, *options) -> np.ndarray:
    return decode(tf.constant(contents), *options).numpy()


def rgba() -> Image.Image:
    return Image.fromarray(noise(channels=4))


def frames() -> list[Image.Image]:
    return [Image.fromarray(noise(seed=seed)) for seed in range(3)]


def animated(format: str, mode="RGB", **options) -> bytes:
    first, *rest = (frame.convert(mode) for frame in frames())
    return file(first, format, mode, save_all=True, append_images=rest, **options)


LOSSLESS = {
    "PNG": lambda: file(noise()),
    "PNG of a palette": lambda: file(noise(), mode="P"),
    "PNG of a palette with a transparent colour": lambda: file(noise(), mode="P", transparency=3),
    "PNG of 16 colours": lambda: file(Image.fromarray(noise()).quantize(16), mode="P", bits=4),
    "PNG, grey": lambda: file(noise(), mode="L"),
    "PNG, grey and alpha": lambda: file(rgba(), mode="LA"),
    "PNG, alpha": lambda: file(rgba(), mode="RGBA"),
    "PNG, black and white": lambda: file(noise(), mode="1"),
    "GIF": lambda: file(noise(), "GIF", "P"),
    "GIF, grey": lambda: file(noise(), "GIF", "L"),
    "GIF, interlaced": lambda: file(noise(), "GIF", "P", interlace=1),
    "GIF, animated": lambda: animated("GIF", "P"),
    "BMP of 24 bits": lambda: file(noise(), "BMP"),
    "BMP of 32 bits": lambda: file(rgba(), "BMP", "RGBA"),
    "BMP of 8 bits": lambda: file(noise(), "BMP", "P"),
    "BMP of few colours": lambda: file(Image.fromarray(noise()).quantize(7), "BMP", "P"),
    "BMP, grey": lambda: file(noise(), "BMP", "L"),
    "WebP": lambda: file(noise(), "WEBP", lossless=True),
    "WebP, alpha": lambda: file(rgba(), "WEBP", "RGBA", lossless=True, exact=True),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_picture_is_what_pillow_reads(kind):
    contents = LOSSLESS[kind]()
    np.testing.assert_array_equal(decoded(contents), pillow(contents))


@pytest.mark.parametrize("height", [1, 2, 7])
@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_bmps_rows_may_need_padding(mode, width, height):
    contents = file(noise(height, width), "BMP", mode)
    np.testing.assert_array_equal(decoded(contents), pillow(contents))


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"subsampling": 0}),
        ("RGB", {"progressive": True}),
        ("L", {}),
        ("CMYK", {}),
    ],
    ids=str,
)
def test_a_jpeg_is_nearly_what_pillow_reads(mode, options):
    contents = file(smooth(), "JPEG", mode, quality=95, **options)
    ours, theirs = (picture.astype(int) for picture in (decoded(contents), pillow(contents)))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 12
    assert np.abs(ours - theirs).mean() <= 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_of_16_bits_the_upper_8_stay(channels):
    values = np.random.RandomState(0).randint(0, 2**16, (9, 13, channels)).astype("uint16")
    kept = values[..., :3] if channels > 2 else np.repeat(values[..., :1], 3, -1)
    contents = tf.io.encode_png(values).numpy()
    np.testing.assert_array_equal(decoded(contents), kept >> 8)


def test_an_animated_webp_is_refused_before_it_reaches_the_kernel():
    with pytest.raises(tf.errors.InvalidArgumentError, match="animated WebP"):
        decoded(animated("WEBP", lossless=True))


@pytest.mark.parametrize("contents", [b"", b"B", b"BM", b"RIFF1234WEBP", b"no picture at all"])
def test_what_is_no_picture_is_an_error(contents):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(contents))


def exif_file(orientation: int, order: str) -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010E] = "a description that lies behind the directory"
    exif[0x0112] = orientation
    exif[0x0131] = "software"
    return file(smooth(24, 40), "JPEG", exif=exif.tobytes(), quality=95)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_pillow_turns_it(orientation, order):
    contents = exif_file(orientation, order)
    assert (b"II*\0" if order == "<" else b"MM\0*") in contents
    assert exif_orientation(tf.constant(contents)) == orientation
    ours = upright(decode(tf.constant(contents)), exif_orientation(tf.constant(contents))).numpy()
    with Image.open(io.BytesIO(contents)) as picture:
        theirs = np.asarray(ImageOps.exif_transpose(picture))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_moves_pixels_and_keeps_them(orientation):
    picture = noise(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    png = file(picture, exif=exif.tobytes())
    with Image.open(io.BytesIO(png)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    np.testing.assert_array_equal(upright(tf.constant(picture), tf.constant(orientation)), expected)


def test_a_picture_is_turned_before_it_is_made_to_fit():
    contents = exif_file(6, "<")
    with Image.open(io.BytesIO(contents)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    ours = encoded(contents, ImagePreprocessor(LABELS, 40, 24)).astype(int)
    assert np.abs(ours - expected).max() <= 12


def exif_segment(*entries: tuple[int, int], order=">", start=8, header=b"Exif\0\0") -> bytes:
    """The start of a JPEG: a JFIF segment, then EXIF with these (tag, value) as short integers."""
    mark = {">": b"MM\0*", "<": b"II*\0"}[order]
    tiff = mark + struct.pack(f"{order}I", start) + bytes(start - 8)
    tiff += struct.pack(f"{order}H", len(entries))
    for tag, value in entries:
        tiff += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    body = header + tiff + bytes(4)
    jfif = b"\xff\xe0\x00\x10JFIF\0" + bytes(9)
    return b"\xff\xd8" + jfif + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("order", "<>")
def test_the_orientation_is_found_wherever_its_directory_and_entry_are(order):
    contents = exif_segment((0x0100, 40), (0x0112, 6), (0x0128, 2), order=order, start=300)
    assert exif_orientation(tf.constant(contents)) == 6


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"\xff",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe1",
        b"\xff\xd8\xff\xe1\x00\x08Exif\0\0",
        file(smooth(), "JPEG"),
        file(smooth(), "PNG"),
        exif_segment(),
        exif_segment((0x0100, 6)),
        exif_segment((0x0112, 0)),
        exif_segment((0x0112, 9)),
        exif_segment((0x0112, 6), header=b"Exit\0\0"),
        exif_segment((0x0112, 6))[2:],
    ],
)
def test_without_an_orientation_a_picture_is_upright(contents):
    assert exif_orientation(tf.constant(contents)) == 1


@pytest.mark.parametrize("order", "<>")
def test_an_exif_segment_cut_short_anywhere_leaves_a_picture_upright_or_turned(order):
    whole = exif_segment((0x0100, 7), (0x0112, 6), order=order)
    end = whole.index(struct.pack(f"{order}HHIH", 0x0112, 3, 1, 6)) + 10
    found = [int(exif_orientation(tf.constant(whole[:length]))) for length in range(len(whole))]
    assert set(found[:end]) <= {1, 6}
    assert set(found[: end - 2]) == {1}
    assert set(found[end:]) == {6}


traced_orientation = tf.function(exif_orientation, input_signature=[tf.TensorSpec([], tf.string)])


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=60).map(lambda rest: b"\xff\xd8" + rest),
        st.binary(max_size=60).map(lambda rest: b"\xff\xd8\xff\xe1\x00\x40Exif\0\0" + rest),
        st.tuples(st.sampled_from([b"MM\0*", b"II*\0"]), st.binary(max_size=60)).map(
            lambda parts: b"\xff\xd8\xff\xe1\x00\x40Exif\0\0" + b"".join(parts)
        ),
    )
)
def test_whatever_follows_the_mark_of_a_jpeg_has_an_orientation(contents):
    assert 1 <= int(traced_orientation(tf.constant(contents))) <= 8


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60).filter(lambda contents: b"\xff\xe1" not in contents))
def test_octets_without_an_exif_segment_are_upright(contents):
    assert int(traced_orientation(tf.constant(b"\xff\xd8" + contents))) == 1


def encoded(contents: bytes, preprocessor: ImagePreprocessor) -> np.ndarray:
    """One encoded picture, by the preprocessor in a graph, as when serving."""
    graph = preprocessor.__dict__.setdefault("traced", tf.function(preprocessor.encode))
    return graph({"image_bytes": tf.constant([contents])})["image"][0].numpy()


HEIGHT, WIDTH = 12, 20
FITTING = {
    resize: ImagePreprocessor(LABELS, HEIGHT, WIDTH, resize=resize)
    for resize in ("crop", "pad", "stretch")
}


def whole(*size: np.float32) -> tuple[int, ...]:
    return tuple(int(max(np.round(x), 1)) for x in size)


def fitted(picture: np.ndarray, resize: str) -> np.ndarray:
    """The same by Pillow, whose bilinear filter is of the same shape and rounds between passes."""
    height, width = np.float32(picture.shape[:2])
    image = Image.fromarray(picture)
    if resize == "crop":
        scale = min(height / np.float32(HEIGHT), width / np.float32(WIDTH))
        rows, columns = whole(HEIGHT * scale, WIDTH * scale)
        rows, columns = min(rows, image.height), min(columns, image.width)
        top, left = (image.height - rows) // 2, (image.width - columns) // 2
        image = image.crop((left, top, left + columns, top + rows))
    if resize != "pad":
        return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    scale = min(np.float32(HEIGHT) / height, np.float32(WIDTH) / width)
    rows, columns = (
        min(size, most)
        for size, most in zip(whole(height * scale, width * scale), (HEIGHT, WIDTH), strict=True)
    )
    top, left = (HEIGHT - rows) // 2, (WIDTH - columns) // 2
    out = np.zeros((HEIGHT, WIDTH, 3), "uint8")
    small = image.resize((columns, rows), Image.Resampling.BILINEAR)
    out[top : top + rows, left : left + columns] = np.asarray(small)
    return out


@pytest.mark.parametrize("resize", FITTING)
@settings(deadline=None, max_examples=80)
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_a_picture_of_any_size_is_made_to_fit(resize, height, width):
    picture = noise(height, width)
    ours = encoded(file(picture), FITTING[resize])
    assert ours.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(ours.astype(int) - fitted(picture, resize)).max() <= 2


@pytest.mark.parametrize("resize", FITTING)
def test_a_picture_of_the_right_size_stays_as_it_is(resize):
    picture = noise(HEIGHT, WIDTH)
    np.testing.assert_array_equal(encoded(file(picture), FITTING[resize]), picture)


@pytest.mark.parametrize(
    ("height", "width", "kept"),
    [
        (HEIGHT, 30, np.s_[:, 5:25]),
        (HEIGHT, 23, np.s_[:, 1:21]),
        (40, WIDTH, np.s_[14:26, :]),
    ],
)
def test_cropping_keeps_the_middle(height, width, kept):
    picture = noise(height, width)
    np.testing.assert_array_equal(encoded(file(picture), FITTING["crop"]), picture[kept])


@pytest.mark.parametrize(
    ("height", "width", "inner"),
    [
        (HEIGHT, 10, np.s_[:, 5:15]),
        (HEIGHT, 9, np.s_[:, 5:14]),
        (5, WIDTH, np.s_[3:8, :]),
        (1, WIDTH, np.s_[5:6, :]),
    ],
)
def test_padding_puts_the_picture_between_black_bars(height, width, inner):
    picture = np.maximum(noise(height, width), 1)
    ours = encoded(file(picture), FITTING["pad"])
    np.testing.assert_array_equal(ours[inner], picture)
    ours[inner] = 0
    assert not ours.any()


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (1, 1)])
@pytest.mark.parametrize("resize", FITTING)
def test_a_picture_of_one_shade_keeps_it_in_any_shape(resize, size):
    ours = encoded(file(np.full((*size, 3), 90, "uint8")), FITTING[resize])
    assert set(np.unique(ours)) <= ({0, 90} if resize == "pad" else {90})
    assert (ours == 90).any()


def test_grey_is_by_luminance():
    picture = noise(8, 8)
    ours = encoded(file(picture), ImagePreprocessor(LABELS, 8, 8, channels=1))
    expected = picture @ np.array([0.2989, 0.587, 0.114])
    assert ours.shape == (8, 8, 1)
    assert np.abs(ours[..., 0] - expected).max() <= 1


def test_a_grey_file_makes_a_colour_picture_of_equal_channels():
    picture = noise(8, 8)[..., 0]
    ours = encoded(file(picture, mode="L"), ImagePreprocessor(LABELS, 8, 8))
    np.testing.assert_array_equal(ours, np.repeat(picture[..., None], 3, -1))


def test_collated_pictures_are_normalised_by_channel():
    mean, deviation = [0.5, 0.4, 0.1], [0.2, 0.3, 1.0]
    preprocessor = ImagePreprocessor(LABELS, 9, 13, mean=mean, deviation=deviation)
    pictures = [noise(seed=1), noise(seed=2)]
    image = preprocessor({"image_bytes": tf.constant([file(p) for p in pictures])})["image"]
    assert image.dtype == tf.float32
    expected = (np.array(pictures) / 255.0 - mean) / deviation
    np.testing.assert_allclose(image, expected, rtol=1e-4, atol=1e-5)


def test_no_pictures_at_all_are_an_empty_batch():
    image = ImagePreprocessor(LABELS, 9, 13)({"image_bytes": tf.constant([], tf.string)})["image"]
    assert image.shape == (0, 9, 13, 3)


def test_pictures_of_many_formats_and_sizes_go_into_one_batch():
    files = [make() for make in LOSSLESS.values()] + [exif_file(8, ">"), file(smooth(), "JPEG")]
    batch = FITTING["crop"].encode({"image_bytes": tf.constant(files)})["image"]
    for contents, picture in zip(files, batch, strict=True):
        np.testing.assert_array_equal(encoded(contents, FITTING["crop"]), picture)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoded_picture_takes_as_many_bytes_as_is_said(channels):
    preprocessor = ImagePreprocessor(LABELS, 7, 5, channels)
    assert encoded(file(noise()), preprocessor).nbytes == preprocessor.encoded_bytes()


@pytest.mark.parametrize("channels", [1, 3])
def test_only_the_batchs_size_is_left_open_in_a_graph(channels):
    preprocessor = ImagePreprocessor(LABELS, 9, 13, channels, mean=[0.5], deviation=[0.2])
    spec = {"image_bytes": tf.TensorSpec([None], tf.string)}
    for function in (preprocessor.encode, preprocessor):
        outputs = tf.function(function).get_concrete_function(spec).structured_outputs
        assert outputs["image"].shape.as_list() == [None, 9, 13, channels]


def records(*contents: bytes) -> Records:
    labels = [LABELS[index % 2] for index in range(len(contents))]
    columns = {"image_bytes": contents, "label": labels}
    return Records({name: np.array(cells, object) for name, cells in columns.items()})


def test_targets_are_the_labels_positions():
    some = records(*[file(noise())] * 3)
    assert ImagePreprocessor(LABELS, 8, 8).targets(some.columns).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("files", "shape"),
    [
        ([file(noise(9, 13)), file(noise(9, 13))], (9, 13, 3)),
        ([file(noise(96, 96))], (96, 96, 3)),
        ([file(noise(9, 97))], (224, 224, 3)),
        ([file(noise(9, 13)), file(noise(13, 9))], (224, 224, 3)),
        ([file(noise(9, 13), mode=mode) for mode in ("L", "LA", "1")], (9, 13, 1)),
        ([tf.io.encode_png(noise(9, 13, 1).astype("uint16")).numpy()], (9, 13, 1)),
        ([file(noise(9, 13), "JPEG", "L")], (9, 13, 1)),
        ([file(noise(9, 13), mode="L"), file(noise(9, 13))], (9, 13, 3)),
        ([exif_file(6, "<")], (40, 24, 3)),
        ([exif_file(6, "<"), exif_file(1, "<")], (224, 224, 3)),
    ],
    ids=[
        "of one size",
        "just small",
        "large",
        "of two sizes",
        "grey",
        "grey of 16 bits",
        "grey JPEG",
        "grey and coloured",
        "all lying on their side",
        "one lying on its side",
    ],
)
def test_size_and_channels_are_those_of_the_pictures(files, shape):
    assert fit_image_preprocessor(records(*files), LABELS).shape == shape


def test_all_pictures_are_looked_at_where_the_first_are_grey():
    grey = [file(noise(channels=3, seed=seed), mode="L") for seed in range(1500)]
    assert fit_image_preprocessor(records(*grey, file(noise())), LABELS).shape == (9, 13, 3)


def test_an_orientation_that_is_no_number_is_none():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0top\0\0\0\0\0"  # of type ASCII
    assert fit_image_preprocessor(records(file(noise(), "JPEG", exif=exif)), LABELS).height == 9


FORMATS = {
    "JPEG": [{}, {"quality": 30, "progressive": True}],
    "PNG": [{}],
    "GIF": [{}],
    "BMP": [{}],
    "WEBP": [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}],
}


@given(st.sampled_from(sorted(FORMATS)), st.integers(1, 700), st.integers(1, 700), st.data())
@settings(max_examples=60, deadline=None)
def test_every_format_declares_its_size(format, height, width, data):
    options = data.draw(st.sampled_from(FORMATS[format]))
    contents = file(np.zeros((height, width, 3), "uint8"), format, **options)
    assert declared_pixels(tf.constant(contents)).numpy() == height * width


@pytest.mark.parametrize("contents", [b"", b"BM", b"RIFF", b"GIF89a", b"text", b"\x89PNG"])
def test_what_is_no_picture_declares_nothing(contents):
    assert declared_pixels(tf.constant(contents)).numpy() == 0


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_bomb_is_refused_before_it_is_decoded(format):
    contents = file(np.zeros((300, 400, 3), "uint8"), format)
    for most, refused in ((300 * 400 - 1, True), (300 * 400, False)):
        preprocessor = ImagePreprocessor(LABELS, 8, 8, max_pixels=most)
        encode = tf.function(preprocessor.encode)
        if refused:
            with pytest.raises(tf.errors.InvalidArgumentError, match="more than 119999 pixels"):
                encode({"image_bytes": tf.constant([contents])})
        else:
            encode({"image_bytes": tf.constant([contents])})


def test_larger_training_pictures_raise_the_limit(monkeypatch):
    monkeypatch.setattr("data.images.preprocessor.MOST_PIXELS", 100)
    preprocessor = fit_image_preprocessor(records(file(noise(20, 30)), file(noise())), LABELS)
    assert preprocessor.max_pixels == 600


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_lying_pictures_of_every_format_are_seen_as_they_are_shown(format):
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = file(noise(9, 13), format, exif=exif.tobytes())
    assert fit_image_preprocessor(records(contents), LABELS).shape == (13, 9, 3)


def test_a_png_with_long_notes_is_looked_at():
    notes = PngInfo()
    notes.add_text("note", "x" * 3 * 2**20, zip=True)
    contents = file(noise(), pnginfo=notes)
    assert fit_image_preprocessor(records(contents), LABELS).shape == (9, 13, 3)


def deep(low: int, high: int) -> bytes:
    """A grey PNG of 16 bits, of stripes of two values."""
    values = np.full((9, 13, 1), low, "uint16")
    values[::2] = high
    return tf.io.encode_png(values).numpy()


def test_the_levels_of_16_bits_are_those_of_the_training_pictures():
    some = records(*[deep(1030, 1150)] * 3, file(noise(), mode="L"))
    preprocessor = fit_image_preprocessor(some, LABELS, levels="auto")
    assert preprocessor.levels == (1030, 1150)
    assert set(np.unique(encoded(deep(1030, 1150), preprocessor))) == {0, 255}
    assert fit_image_preprocessor(records(file(noise())), LABELS, levels="auto").levels is None
    even = fit_image_preprocessor(records(deep(7, 7)), LABELS, levels="auto")
    assert even.levels is None


def test_pictures_that_become_one_colour_are_told():
    bars = np.zeros((9, 13, 4), "uint8")
    bars[2:5, :, 3] = 255  # black on what is transparent
    some = records(*[file(bars, mode="RGBA")] * 2, file(noise()), deep(1030, 1150))
    told: list[str] = []
    fit_image_preprocessor(some, LABELS, warn=told.append)
    fit_image_preprocessor(some, LABELS, scaling=([0.0] * 3, [1.0] * 3), warn=told.append)
    assert [text.split(" training")[0] for text in told] == ["3 of 4"] * 2
    assert "--data.background" in told[0] and "--data.range_16bit" in told[0]
    fit_image_preprocessor(
        some, LABELS, background=(255, 255, 255), levels="auto", warn=lambda what: pytest.fail(what)
    )


def test_a_picture_that_can_not_be_decoded_after_all_is_told_by_its_bytes():
    contents = file(noise())[:-30]
    with pytest.raises(DataError, match=f"image_bytes of {len(contents):,} bytes, MD5 [0-9a-f]+"):
        fit_image_preprocessor(records(file(noise()), contents), LABELS)


def test_what_is_given_is_not_told_from_the_pictures():
    some = records(file(noise(9, 13)))
    preprocessor = fit_image_preprocessor(some, LABELS, height=4, channels=1, resize="pad")
    assert preprocessor.shape == (4, 13, 1)
    assert preprocessor.resize == "pad"
    assert len(preprocessor.mean) == len(preprocessor.deviation) == 1


def test_mean_and_deviation_are_those_of_the_pixels():
    pictures = [noise(9, 13, seed=seed) // [1, 2, 3] for seed in range(5)]
    files = [file(picture.astype("uint8")) for picture in pictures]
    preprocessor = fit_image_preprocessor(records(*files), LABELS)
    values = np.array(pictures).reshape(-1, 3) / 255.0
    np.testing.assert_allclose(preprocessor.mean, values.mean(0), atol=1e-4)
    np.testing.assert_allclose(preprocessor.deviation, values.std(0), atol=1e-4)


def test_normalised_training_pictures_have_mean_0_and_deviation_1():
    files = tf.constant([file(noise(seed=seed)) for seed in range(5)])
    preprocessor = fit_image_preprocessor(records(*files.numpy()), LABELS)
    image = preprocessor({"image_bytes": files})["image"].numpy()
    np.testing.assert_allclose(image.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(image.std((0, 1, 2)), 1, atol=1e-3)


def test_pictures_of_one_colour_stay_finite():
    contents = file(np.full((9, 13, 3), 90, "uint8"))
    preprocessor = fit_image_preprocessor(records(contents), LABELS)
    image = preprocessor({"image_bytes": tf.constant([contents])})["image"]
    assert np.abs(image).max() < 0.1


def test_a_saved_preprocessor_comes_back(tmp_path):
    options = {"background": (9, 8, 7), "levels": (1.0, 2.0)}
    preprocessor = ImagePreprocessor(LABELS, 7, 5, 1, "pad", [0.4], [0.3], **options)
    preprocessor.save(tmp_path)
    loaded = Preprocessor.load(tmp_path)
    assert type(loaded) is ImagePreprocessor
    assert loaded.state() == preprocessor.state()
    record = {"image_bytes": tf.constant([file(noise())])}
    np.testing.assert_array_equal(loaded(record)["image"], preprocessor(record)["image"])


def test_the_exported_function_answers_as_in_process(tmp_path):
    module = tf.Module()
    module.preprocessor = ImagePreprocessor(LABELS, 9, 13, mean=[0.5] * 3, deviation=[0.2] * 3)
    spec = {"image_bytes": tf.TensorSpec([None], tf.string, name="image_bytes")}
    module.pictures = tf.function(module.preprocessor, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    files = [make() for make in LOSSLESS.values()] + [exif_file(5, "<"), file(smooth(), "JPEG")]
    for some in (files, files[:1], []):
        record = {"image_bytes": tf.constant(some, tf.string)}
        expected = module.preprocessor(record)["image"]
        np.testing.assert_allclose(loaded.pictures(record)["image"], expected, atol=1e-6)
