"""The data options that every task which reads tables has; importable without TensorFlow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Tables:
    """The data: files of records, one record a row."""

    train: list[str] | str | None = None
    """Training data: a path, several paths, a glob, `tfds:NAME[/SPLIT]`, or `sample`. CSV, TSV,
    JSONL (.json, .jsonl), Parquet and TFRecord of tf.train.Example (.tfrecord, .tfrecords, .tfrec,
    also in shards like train.tfrecord-00000-of-00004), by the file's ending; all but Parquet also
    as .gz. Files of more than `memory_limit_mb` together are streamed: CSV, TSV and JSONL in chunks
    of rows, Parquet in record batches, shuffled through a buffer of `shuffle_buffer` records."""

    validation: list[str] | str | None = None
    """Data that picks the best checkpoint; held out of the training data when not given."""

    test: list[str] | str | None = None
    """Data that judges the final model."""

    validation_fraction: float = 0.1
    """Share of the training data held out for validation when none is named, 0 to 0.5; the classes
    keep their shares."""

    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "tfrecord"] = "auto"
    """The files' format; auto goes by their endings."""

    header: bool = True
    """Whether CSV and TSV files start with a row of column names. Without, columns are named by
    number: 0, 1, 2, ..."""

    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that has a null or empty field, too many or too few fields, or is not
    JSON: stop and say which, or skip it and count it."""

    memory_limit_mb: int = 1024
    """Files larger than this together, in MiB, are streamed instead of read into memory; 0 streams
    all. A .gz counts for four times its size."""

    shuffle_buffer: int = 100_000
    """Records that a streamed training set is shuffled through."""


@dataclass(frozen=True)
class Pictures(Tables):
    """The data: pictures and their labels, from a folder of class folders or from a table.

    `--data.train` may be a folder, photos/CLASS/*.jpg: the folders in it are named like the classes
    and hold their pictures, at any depth. Or a table with a picture in each row: CSV, TSV, JSONL or
    Parquet with the paths of picture files, absolute or relative to the table's folder; Parquet as
    Hugging Face has it, with the pictures inside; TFRecord of tf.train.Example; `tfds:NAME`.
    """

    image_column: str = "image"
    """The column, or the feature of a TFRecord, of the picture: the path of a file, or the bytes of
    a JPEG, PNG, GIF, BMP or WebP file. A folder of class folders needs no columns."""

    label_column: str = "label"
    """The column, or the feature of a TFRecord, of the label; labels may be words or numbers. In a
    folder of class folders the label is the folder's name."""

    max_pixels: int = 2**26
    """Pixels (width times height) that a picture may have at most. One with more is a bad row, and
    is not decoded: a small file can unfold to more than the memory holds."""
