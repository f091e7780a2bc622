"""Pictures: where they are read from, and what is said about those that can't be used."""

import base64
import gzip
import io
import json
import os
import shutil
import struct
import sys
import zlib
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

import data.records
from data.errors import DataError
from data.options import Pictures
from data.records import Records, StreamedRecords, label_counts
from data.tables.fields import Field
from data.tables.source import TableSource

STREAM = {"memory_limit_mb": 0}
MODES = [{}, STREAM]


def encoded(format: str = "PNG", mode: str = "RGB", size=(4, 3), shade: int = 90) -> bytes:
    """A picture of one shade."""
    file = io.BytesIO()
    colour = shade if len(Image.new(mode, (1, 1)).getbands()) == 1 else (shade,) * len(mode)
    Image.new(mode, size, colour).save(file, format)
    return file.getvalue()


def noise(format: str, size=(64, 64)) -> bytes:
    """A picture that takes some bytes."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the working folder, with the folders on its path."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str | bytes) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return write_file


@pytest.fixture
def photos(write):
    """A folder of two class folders: 12 cats and 8 dogs, each of its own shade."""
    for shade in range(20):
        label = "cat" if shade < 12 else "dog"
        write(f"photos/{label}/{shade:02}.png", encoded(shade=shade))
    return "photos"


def source(**options) -> TableSource:
    pictures = Pictures(**options)
    fields = {
        "image_bytes": Field(pictures.image_column, "image", max_pixels=pictures.max_pixels),
        "label": Field(pictures.label_column, "label", option="--data.label_column"),
    }
    return TableSource(pictures, fields)


def values(chunks, key="image_bytes") -> list:
    return [value for chunk in chunks for value in chunk.columns[key]]


def message(path, **options) -> str:
    """What reading some data says is wrong, in one line."""
    with pytest.raises(DataError) as caught:
        source(**options).read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_examples(path: str, examples: list[dict], compression: str = "") -> str:
    """A TFRecord file of tf.train.Example."""
    import tensorflow as tf

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    with tf.io.TFRecordWriter(path, compression) as file:
        for example in examples:
            features = {name: feature(value) for name, value in example.items()}
            message = tf.train.Example(features=tf.train.Features(feature=features))
            file.write(message.SerializeToString())
    return path


# What is read


@pytest.mark.parametrize("options", MODES)
def test_a_folder_of_class_folders_is_read_in_order(photos, options):
    records = source(**options).read(photos)
    assert isinstance(records, StreamedRecords if options else Records)
    assert values(records.chunks()) == [encoded(shade=shade) for shade in range(20)]
    assert label_counts(records) == {"cat": 12, "dog": 8}


def test_a_folder_is_split_alike_in_memory_and_streamed_with_the_shares_of_its_classes(photos):
    memory, streamed = (
        source(train=photos, validation_fraction=0.25, **options).splits(3) for options in MODES
    )
    assert label_counts(memory.validation) == {"cat": 3, "dog": 2}
    for part in ("train", "validation"):
        one, other = getattr(memory, part), getattr(streamed, part)
        assert values(one.chunks()) == values(other.chunks())
        assert values(one.chunks(), "label") == values(other.chunks(), "label")


def test_hidden_and_other_files_are_left_out_and_deeper_ones_read(photos, write):
    write("photos/cat/.hidden.png", b"")
    write("photos/.cache/1.png", b"")
    write("photos/cat/.cache/1.png", b"")
    write("photos/cat/notes.txt", "notes")
    write("photos/README.md", "notes")
    write("photos/cat/deep/er/1.JPEG", encoded("JPEG"))
    assert len(source().read(photos)) == 21


@pytest.mark.parametrize("options", MODES)
def test_manifests_name_pictures_relative_to_their_own_folder(write, tmp_path, options):
    write("set/a/1.png", encoded(shade=1))
    write("set/2.png", encoded(shade=2))
    rows = [("a/1.png", "x"), (f"{tmp_path}/set/2.png", "y")]
    write("set/a.csv", "image,label\n" + "".join(f"{p},{label}\n" for p, label in rows))
    table = [{"image": path, "label": label} for path, label in rows]
    write("set/a.jsonl", "\n".join(map(json.dumps, table)))
    parquet.write_table(pyarrow.Table.from_pylist(table), "set/a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        records = source(**options).read(f"set/{name}")
        assert values(records.chunks()) == [encoded(shade=1), encoded(shade=2)], name


@pytest.mark.parametrize("options", MODES)
def test_parquet_as_hugging_face_has_it(write, options):
    write("2.png", encoded(shade=2))
    cells = [{"bytes": encoded(shade=1), "path": "1.png"}, {"bytes": None, "path": "2.png"}]
    parquet.write_table(pyarrow.table({"image": cells, "label": [3, 4]}), "a.parquet")
    records = source(**options).read("a.parquet")
    assert values(records.chunks()) == [encoded(shade=1), encoded(shade=2)]
    assert values(records.chunks(), "label") == ["3", "4"]


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize(
    "name", ["a.tfrecord", "a.tfrecords", "a.tfrec", "a.tfrecord-00000-of-00004", "a.tfrecord.gz"]
)
def test_tfrecord_files_hold_examples(write, name, options):
    examples = [{"jpg": encoded(shade=i), "class": b"k%d" % (i % 2)} for i in range(4)]
    write_examples(name, examples, "GZIP" if name.endswith("gz") else "")
    records = source(image_column="jpg", label_column="class", **options).read(name)
    assert values(records.chunks()) == [encoded(shade=i) for i in range(4)]
    assert values(records.chunks(), "label") == ["k0", "k1", "k0", "k1"]


def test_a_tfrecord_file_without_an_ending_is_told_by_the_format(write):
    write_examples("train-00000-of-00001", [{"image": encoded(), "label": 7}])
    records = source(format="tfrecord").read("train-00000-of-00001")
    assert values(records.chunks(), "label") == ["7"]


def test_several_sources_are_read_in_order(photos, write):
    write_examples("a.tfrecord", [{"image": encoded(shade=50), "label": 1}])
    records = source().read(["a.tfrecord", photos])
    assert values(records.chunks(), "label") == ["1"] + ["cat"] * 12 + ["dog"] * 8


@pytest.mark.parametrize(
    ("format", "mode"),
    [
        *[("JPEG", mode) for mode in ("L", "RGB", "CMYK")],
        *[("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("WEBP", "RGB"),
        ("WEBP", "RGBA"),
    ],
)
def test_every_mode_of_the_formats_is_taken(write, format, mode):
    picture = encoded(format, mode, shade=1)
    write("photos/a/1.jpg", picture)
    assert values(source().read("photos").chunks()) == [picture]


@pytest.mark.parametrize("options", MODES)
def test_chunks_are_bounded_by_the_bytes_of_their_pictures(photos, write, monkeypatch, options):
    limit = 5 * len(encoded())
    for module in ("data.records", "data.tables.table"):
        monkeypatch.setattr(import_module(module), "CHUNK_BYTES", limit)
    assert limit == data.records.CHUNK_BYTES
    table = [{"image": encoded(shade=i), "label": i % 2} for i in range(20)]
    write_examples("a.tfrecord", table)
    for name in (photos, "a.tfrecord"):
        records = source(**options).read(name)
        chunks = list(records.chunks())
        assert sum(map(len, chunks)) == 20
        assert max(sum(map(len, chunk.columns["image_bytes"])) for chunk in chunks) <= limit


def test_the_memory_limit_counts_the_pictures_that_a_manifest_names(write):
    picture = noise("BMP", (512, 512))
    for number in range(2):
        write(f"{number}.bmp", picture)
    write("a.csv", "image,label\n0.bmp,x\n1.bmp,y\n")
    assert isinstance(source(memory_limit_mb=2).read("a.csv"), Records)
    assert isinstance(source(memory_limit_mb=1).read("a.csv"), StreamedRecords)


def test_less_common_endings_of_the_formats_are_read(photos, write):
    for ending in ("jfif", "jpe", "pjpeg", "JFIF"):
        write(f"photos/cat/new.{ending}", encoded("JPEG"))
    write("photos/dog/new.dib", encoded("BMP"))
    records = source().read(photos)
    assert (len(records), records.facts) == (25, {})


@pytest.mark.parametrize("options", MODES)
def test_files_in_class_folders_that_are_left_out_are_counted(photos, write, options):
    for name in ("cat/1.tif", "dog/2.TIF", "cat/3.heic", "dog/list", "other.tiff"):
        write(f"photos/{name}", b"any")
    for name in ("cat/.DS_Store", "cat/Thumbs.db", "cat/._1.tif"):
        write(f"photos/{name}", b"any")
    Path("photos/cat/far").symlink_to("nowhere")
    splits = source(train=photos, validation_fraction=0.2, **options).splits(1)
    assert splits.train.facts == {
        ".heic files left out": 1,
        ".tif files left out": 2,
        ".tiff files left out": 1,
        "broken links left out": 1,
        "files without an ending left out": 1,
        "classes": "2 (cat, dog)",
    }
    assert splits.validation.facts == {}


def test_folders_that_are_links_are_followed_but_not_in_circles(photos, write):
    for shade in range(3):
        write(f"elsewhere/more/deep/{shade}.png", encoded(shade=shade))
    Path("photos/cat/more").symlink_to("../../elsewhere/more")
    Path("elsewhere/more/deep/again").symlink_to("..")  # a circle
    Path("photos/cat/all").symlink_to("..")  # the folder with the class folders
    Path("photos/bird").symlink_to("../elsewhere")
    assert label_counts(source().read(photos)) == {"bird": 3, "cat": 15, "dog": 8}
    assert len(values(source().requests("photos/cat"))) == 15


def test_a_folder_that_can_not_be_read_is_named(photos, monkeypatch):
    Path("photos/cat/closed").mkdir()
    scandir = os.scandir

    def closed(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr("os.scandir", closed)
    assert message(photos).startswith("photos/cat/closed can't be read (Permission denied)")


@pytest.mark.parametrize(
    "named",
    [
        {"train": "train", "test": "test"},
        {"train": "Training", "validation": "valid", "test": "TEST"},
        {"train": "train"},
    ],
)
def test_folders_of_splits_are_not_taken_for_classes(photos, named):
    Path("set").mkdir()
    for name in named.values():
        shutil.copytree(photos, f"set/{name}")
    typed = " ".join(f"--data.{split} set/{name}" for split, name in named.items())
    assert message("set") == (
        f"set has the folders of splits in it ({', '.join(named.values())}), not of classes; "
        f"give {typed}."
    )


def test_classes_may_be_called_like_splits(photos):
    Path("photos/cat").rename("photos/train")
    Path("photos/dog").rename("photos/test")
    assert label_counts(source().read(photos)) == {"test": 8, "train": 12}


def test_names_that_are_not_utf8_are_told_in_text(photos, write):
    path = os.fsdecode(b"photos/cat/caf\xe9.png")
    write(path, encoded())
    chunk = next(source().requests("photos/cat"))
    assert chunk.columns["file"][-1] == r"photos/cat/caf\xe9.png"
    assert len(source().read(photos)) == 21
    write(path, b"")
    assert message(photos).startswith(r"photos/cat/caf\xe9.png is empty")
    Path("photos/cat").rename(os.fsdecode(b"photos/th\xe9"))
    assert message(photos) == (
        r"photos/th\xe9: the folder's name is not UTF-8, and so no label; rename the folder."
    )


# What is said about bad pictures


def bad_pictures() -> dict[str, tuple[bytes, str]]:
    """Pictures that can't be used, and what is said about each."""
    broken = bytearray(noise("PNG"))
    broken[5000] ^= 1
    runs = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 62)  # of 2x2 pixels, run-length encoded
    runs += struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 8, 1, 0, 0, 0, 2, 0)
    runs += bytes(8) + b"\2\0\0\0\2\1\0\1"
    return {
        "empty": (b"", "is empty"),
        "text": (b"no picture at all", "is not a picture"),
        "tiff": (encoded("TIFF"), "is a TIFF picture; convert it to JPEG or PNG"),
        "heic": (b"\0\0\0\x18ftypheic", "is a HEIC picture; convert it to JPEG or PNG"),
        "jpeg": (noise("JPEG")[:-400], "is truncated or corrupt (image file is truncated"),
        "header": (noise("JPEG")[:60], "is truncated or corrupt ("),
        "png": (noise("PNG")[:-400], "is truncated or corrupt ("),
        "checksum": (bytes(broken), "is truncated or corrupt ("),
        "gif": (noise("GIF")[:-400], "is truncated or corrupt ("),
        "bmp": (noise("BMP")[:-400], "is truncated or corrupt ("),
        "compressed bmp": (runs, "is a compressed BMP picture; convert it to PNG"),
        "webp": (noise("WEBP")[:-400], "is truncated or corrupt ("),
        "bomb": (encoded(size=(100, 101)), "has 100x101 pixels, more than --data.max_pixels 10000"),
    }


@pytest.mark.parametrize("options", MODES)
@pytest.mark.parametrize("name", bad_pictures())
def test_bad_pictures_are_named_or_skipped(photos, write, name, options):
    picture, problem = bad_pictures()[name]
    path = write("photos/cat/005.jpg", picture)
    options = {"max_pixels": 10_000, **options}
    said = message(photos, **options)
    assert said.startswith(f"{path} {problem}")
    assert said.endswith("mend the data, or leave such rows out with --data.on_bad_row skip.")
    records = source(on_bad_row="skip", **options).read(photos)
    assert (len(values(records.chunks())), len(records), records.skipped) == (20, 20, 1)

    parquet.write_table(
        pyarrow.table({"image": [encoded(), picture], "label": ["a", "b"]}), "a.parquet"
    )
    assert f"a.parquet, row 2: column 'image' {problem}" in message("a.parquet", **options)


def with_notes(png: bytes, name: bytes, note: bytes) -> bytes:
    """A PNG with a packed note, or colour profile, before its pixels."""
    body = name + b"\0\0" + zlib.compress(note)
    kind = b"iCCP" if name == b"profile" else b"zTXt"
    chunk = struct.pack(">I", len(body)) + kind + body
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + png[33:]


@pytest.mark.parametrize("name", [b"note", b"profile"])
def test_a_png_may_have_long_notes_but_is_bad_all_the_same_where_it_is(photos, write, name):
    long = with_notes(encoded(), name, bytes(3 * 2**20))
    write("photos/cat/long.png", long)
    assert long in values(source().read(photos).chunks())
    write("photos/cat/long.png", with_notes(noise("PNG")[:-400], name, bytes(3 * 2**20)))
    assert "long.png is truncated or corrupt (" in message(photos)


def test_a_bmp_may_be_longer_than_its_pixels(photos, write):
    write("photos/cat/long.bmp", encoded("BMP") + b"\0\0")
    assert len(source().read(photos)) == 21


def test_what_tensorflow_refuses_is_a_bad_row_with_its_reason(photos, write, monkeypatch):
    odd = encoded(shade=7)

    def refusals(pictures, most):
        return {place: "no such kind" for place, held in enumerate(pictures) if held == odd}

    monkeypatch.setattr("data.images.decoding.refusals", refusals)
    assert message(photos).startswith(
        "photos/cat/07.png can't be decoded (no such kind); save it anew, as PNG;"
    )
    records = source(on_bad_row="skip").read(photos)
    assert (len(records), records.skipped) == (19, 1)


def test_pictures_that_a_manifest_names_in_vain_are_told_with_their_row(write):
    write("set/1.png", encoded())
    write("set/a.csv", "image,label\n1.png,x\n2.png,y\n,z\n..,z\n")
    assert message("set/a.csv").startswith(
        "set/a.csv, row 3: set/2.png does not exist, and 2 more bad rows;"
    )
    records = source(on_bad_row="skip").read("set/a.csv")
    assert (len(records), records.skipped) == (1, 3)


def test_cells_that_hold_no_picture_are_bad_rows(write):
    write("a.jsonl", '{"image": 7, "label": 1}\n{"image": {"b64": "?"}, "label": 1}\n')
    assert "a.jsonl, row 1: column 'image' is of type int, not a picture, and 1 more" in message(
        "a.jsonl"
    )
    write("b.jsonl", '{"image": null, "label": 1}')
    assert "b.jsonl, row 1: column 'image' is empty" in message("b.jsonl")


def test_folders_that_are_not_laid_out_by_class_are_refused(photos, write):
    Path("photos/bird").mkdir()
    assert message(photos).startswith("photos/bird has no pictures (.jpg, ")
    Path("photos/bird").rmdir()
    write("photos/1.png", encoded())
    assert message(photos) == (
        "photos/1.png lies beside the class folders; move it into the folder of its class."
    )
    write("flat/1.png", encoded())
    assert message("flat") == "flat has no class folders; put pictures into flat/CLASS/."
    assert "is a single picture" in message("flat/1.png")


def test_a_class_that_training_lacks_is_told_with_a_picture_of_it(photos, write):
    path = write("test/bird/1.png", encoded())
    with pytest.raises(DataError, match=f"^{path}: label 'bird' is not in the training data"):
        source(train=photos, test="test").splits(1)


def test_corrupt_tfrecord_files_are_told_with_the_record(write):
    path = write_examples("a.tfrecord", [{"image": encoded(), "label": i} for i in range(3)])
    content = bytearray(Path(path).read_bytes())
    content[-20] ^= 1
    write(path, bytes(content))
    assert message(path).startswith("a.tfrecord, record 3 is corrupt (corrupted record at ")
    assert message(write("b.tfrecord", b"not that at all")).startswith("b.tfrecord, record 1 is")
    packed = gzip.compress(bytes(content))
    assert message(write("c.tfrecord.gz", packed)).startswith("c.tfrecord.gz, record 3 is corrupt")


def test_records_that_are_no_examples_are_bad_rows(write):
    import tensorflow as tf

    path = write_examples("a.tfrecord", [{"image": encoded(), "label": 1}])
    with tf.io.TFRecordWriter("b.tfrecord") as file:
        file.write(b"\xff\xff")
    content = Path(path).read_bytes() + Path("b.tfrecord").read_bytes()
    assert "a.tfrecord, row 2: not a tf.train.Example" in message(write(path, content))
    assert message("b.tfrecord").startswith("b.tfrecord holds no tf.train.Example")
    assert "no column 'image'; the columns are: x." in message(
        write_examples("c.tfrecord", [{"x": 1}])
    )


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)
@given(
    content=st.binary(max_size=80),
    start=st.sampled_from([b"", *(encoded(f)[:40] for f in ("PNG", "JPEG", "GIF", "BMP", "WEBP"))]),
)
def test_any_bytes_are_pictures_or_bad_rows(tmp_path, content, start):
    folder = tmp_path / "any" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1.png").write_bytes(encoded())
    (folder / "2.png").write_bytes(start + content)
    records = source(on_bad_row="skip").read(str(tmp_path / "any"))
    assert len(records) + records.skipped == 2


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40
)
@given(content=st.binary(max_size=80), name=st.sampled_from(["a.tfrecord", "a.tfrec.gz", "a.txt"]))
def test_any_files_are_read_or_refused_in_one_line(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    for read in (source().read, lambda path: list(source().requests(path))):
        try:
            read(str(tmp_path / name))
        except DataError as error:
            assert "\n" not in str(error)


# Requests to predict from


def test_requests_are_files_globs_and_folders_of_pictures_in_order(photos, write):
    loose = write("z.png", encoded(shade=99))
    chunks = list(source().requests([loose, "photos/dog/*.png", "photos/cat"]))
    assert len(chunks) == 1
    assert values(chunks, "file")[:2] == ["z.png", "photos/dog/12.png"]
    assert values(chunks, "file")[-1] == "photos/cat/11.png"
    assert values(chunks)[0] == encoded(shade=99)
    assert "label" not in chunks[0].columns


def test_requests_from_tables_are_as_they_were(photos, write):
    write("photos/a.csv", "image,label\ncat/00.png,\ndog/12.png,dog\n")
    chunks = list(source().requests(["photos/cat/03.png", "photos/a.csv"]))
    assert values(chunks) == [encoded(shade=3), encoded(shade=0), encoded(shade=12)]
    assert "file" not in chunks[1].columns


@pytest.mark.parametrize("key", ["image", "image_bytes"])
def test_lines_are_paths_or_json_objects(photos, write, monkeypatch, key):
    held = json.dumps({key: {"b64": base64.b64encode(encoded(shade=77)).decode()}})
    named = json.dumps({key: "photos/cat/02.png"})
    lines = f"photos/cat/01.png\n{held}\n{named}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    for path in ("-", write("list.txt", lines)):
        chunks = list(source().requests(path))
        assert values(chunks) == [encoded(shade=shade) for shade in (1, 77, 2)]
        assert values(chunks, "file") == ["photos/cat/01.png", "", "photos/cat/02.png"]


def test_a_line_may_be_longer_than_a_block(write):
    picture = noise("BMP", (300, 300))
    line = json.dumps({"image": {"b64": base64.b64encode(picture).decode()}})
    assert values(source().requests(write("a.txt", f"{line}\n{line}"))) == [picture] * 2


def test_bytes_may_be_base64_in_lines_too(write):
    fields = {"blob": Field("blob", "bytes")}
    good = write("a.jsonl", '{"blob": {"b64": "AAE="}}\n')
    for path in (good, write("a.txt", '{"blob": {"b64": "AAE="}}\n')):
        assert values(TableSource(Pictures(), fields).requests(path), "blob") == [b"\0\1"]
    for cell, problem in (('{"b64": "!"}', "is not base64"), ('"AAE="', "is a str, not bytes")):
        with pytest.raises(DataError, match=f"column 'blob' {problem}"):
            path = write("b.jsonl", f'{{"blob": {cell}}}')
            list(TableSource(Pictures(), fields).requests(path))


def test_requests_are_pictures_whatever_they_are_called(photos, write):
    named = write("1.jfif", encoded("JPEG"))
    unnamed = write("upload", encoded("WEBP"))
    assert values(source().requests([named, unnamed])) == [encoded("JPEG"), encoded("WEBP")]


@pytest.mark.parametrize("name", ["a.tif", "photos/cat/a.tif", "a"])
def test_requests_of_other_formats_say_what_to_do(photos, write, name):
    write(name, encoded("TIFF"))
    asked = "photos/cat" if name.startswith("photos") else name
    with pytest.raises(DataError, match=f"^{name} is a TIFF picture; convert it to JPEG or PNG;"):
        list(source().requests(asked))


def test_bad_requests_are_named_or_skipped(photos, write):
    bad = write("photos/cat/005.png", b"")
    with pytest.raises(DataError, match=f"^{bad} is empty;"):
        list(source().requests(photos))
    assert len(values(source(on_bad_row="skip").requests(photos))) == 20
    with pytest.raises(DataError, match=r"^no.png does not exist;"):
        list(source().requests("no.png"))
    with pytest.raises(DataError, match="none has no pictures"):
        Path("none").mkdir()
        list(source().requests("none"))
    with pytest.raises(DataError, match=r"list.txt, row 2: no.png does not exist;"):
        list(source().requests(write("list.txt", "photos/cat/01.png\nno.png\n")))


# tfds:NAME


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """One small data set of pictures as TensorFlow Datasets keeps them."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("importlib_resources")
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("tfds")
    pixels = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
    table = {"image": pixels, "label": [0, 1, 1, 0]}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_pictures",
        version="1.0.0",
        data_dir=folder,
        split_datasets={"train": tf.data.Dataset.from_tensor_slices(table)},
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(2, 2, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["no", "yes"]),
            }
        ),
        disable_shuffling=True,
    )
    tfds.core.add_data_dir(folder)
    yield pixels
    import_module("tensorflow_datasets.core.utils.file_utils").clear_registered_data_dirs()


@pytest.mark.parametrize("options", MODES)
def test_tfds_gives_pictures_as_they_are_encoded(catalogue, options):
    records = source(**options).read("tfds:tiny_pictures/train")
    pictures = [np.asarray(Image.open(io.BytesIO(p))) for p in values(records.chunks())]
    assert (np.stack(pictures) == catalogue).all()
    assert values(records.chunks(), "label") == ["no", "yes", "yes", "no"]
