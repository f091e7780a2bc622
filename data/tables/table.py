"""Tables: files of rows, read in chunks so that memory stays bounded however large they are.

A row is named as a spreadsheet shows it: in CSV, TSV and JSONL the line of the file on which it
starts (a header is row 1), in Parquet, TFRecord and tfds its number, counted from 1.
"""

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from data.cells import clip
from data.errors import DataError
from data.records import CHUNK_BYTES

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".tfrec": "tfrecord",
}
GZIP_RATIO = 4
_LOOKED_AT = 2**12  # bytes

Item = TypeVar("Item")


class Chunk(NamedTuple):
    """Some consecutive rows of a table."""

    rows: list[int]
    """The rows' numbers."""

    cells: dict[str, list[Any]]
    """Column name -> one Python value a row; None where there is none."""

    broken: list[tuple[int, str]]
    """Rows that have no cells at all, by number, and why."""


class Table(Protocol):
    """What can be read as rows and columns.

    One that leaves out what might have been meant to be read may have `facts`, counts by name,
    which training says: {"files that are no pictures": 3}.
    """

    @property
    def name(self) -> str:
        """What messages call the table."""

    @property
    def folder(self) -> Path:
        """What the paths in its cells are relative to."""

    def size(self) -> int:
        """About how many bytes its rows take."""

    def columns(self) -> list[str]:
        """The names of its columns."""

    def where(self, row: int) -> str:
        """What messages call a row."""

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        """Its rows in order, at most `size` at a time, with the cells of some columns."""


@dataclass(frozen=True)
class WrappedTable:
    """What the tables that read another in their own way share; they have columns and chunks."""

    table: Table

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def folder(self) -> Path:
        return self.table.folder

    def size(self) -> int:
        return self.table.size()

    def where(self, row: int) -> str:
        return self.table.where(row)


def check_file(path: str, name: str) -> None:
    """Raises a DataError unless there is a file to read."""
    if Path(path).is_dir():
        raise DataError(f"{name} is a folder; name its files, or a glob such as '{name}/*.csv'.")
    if not Path(path).exists():
        raise DataError(f"{name} does not exist; check the path (relative to {Path.cwd()}).")


def check_filled_file(path: str, name: str) -> None:
    """Raises a DataError unless there is a file to read that has anything in it."""
    check_file(path, name)
    if Path(path).stat().st_size == 0:
        raise DataError(f"{name} is an empty file; give a file that has records.")


def known_format(path: str) -> str | None:
    """The format that a file's ending tells, if it does."""
    return ENDINGS.get(Path(_unsharded(path).removesuffix(".gz")).suffix)


def is_gzip(path: str) -> bool:
    """Whether a file's name says that it is packed."""
    return _unsharded(path).endswith(".gz")


def batches(items: Iterable[Item], size: int, weigh: Callable[[Item], int]) -> Iterator[list[Item]]:
    """At most `size` items at a time, and no more once they weigh `CHUNK_BYTES` together."""
    batch: list[Item] = []
    weight = 0
    for item in items:
        batch.append(item)
        weight += weigh(item)
        if len(batch) == size or weight >= CHUNK_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class FileTable:
    """What the tables that are one file share."""

    path: str
    name: str

    tolerant: bool = field(default=False, kw_only=True)
    """Whether a row that is not UTF-8 is a bad one; else all of the file is taken to be in another
    encoding, and refused."""

    @property
    def folder(self) -> Path:
        return Path(self.path).parent

    def size(self) -> int:
        """The file's bytes; text in a .gz is taken to be four times as large."""
        return Path(self.path).stat().st_size * (GZIP_RATIO if is_gzip(self.path) else 1)

    def where(self, row: int) -> str:
        return f"{self.name}, row {row}"

    def not_utf8(self, row: int, byte: int) -> str:
        """What is wrong with a row, in words, that has a byte that is not UTF-8; raises a DataError
        unless that is the row's affair."""
        if not self.tolerant:
            raise DataError(f"{self.where(row)}: {not_utf8(byte)}.")
        return not_utf8(byte)


def line_text(line: bytes, row: int) -> str:
    """A line of a UTF-8 file without its line break; a byte order mark may start row 1.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return line.decode("utf-8-sig" if row == 1 else "utf-8").rstrip("\r\n")


def not_utf8(byte: int) -> str:
    """What is wrong with a byte, in words."""
    return (
        f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8 "
        "(it may be Latin-1, Windows-1252 or UTF-16)"
    )


def parse_object(line: str) -> dict[str, Any] | str:
    """The JSON object on a line, or what is wrong with it in words."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({clip(str(error), 80)})"
    if isinstance(value, list):
        return "a JSON array where an object is expected; write one object a line"
    if not isinstance(value, dict):
        return "JSON, but not an object"
    if "\\u" in line and any(surrogate(cell) for cell in value.values() if isinstance(cell, str)):
        return "half of a surrogate pair, which is no character"
    return value


@contextmanager
def opened(path: str, name: str) -> Iterator[Any]:
    """The file's bytes, unpacked if its name ends with .gz."""
    open_file: Callable[..., Any] = gzip.open if is_gzip(path) else open
    try:
        with open_file(path, "rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name} is not a whole gzip file ({error}); fetch it again.") from error


@contextmanager
def opened_lines(path: str, name: str) -> Iterator[Any]:
    """The file's bytes, as `opened` has them; raises a DataError if lines of UTF-8 can't be told
    apart in it, which each of them by itself would not show."""
    with opened(path, name) as file:
        start = file.peek(_LOOKED_AT)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{name} is UTF-16; save it as UTF-8.")
        if b"\r" in start and b"\n" not in start:
            raise DataError(
                f"{name} has lines that end in \\r alone; save it with line feeds, \\n."
            )
        yield file


def _unsharded(path: str) -> str:
    """A path in lower case, without the numbers of a shard: train.tfrecord-00000-of-00004."""
    return re.sub(r"-\d+-of-\d+$", "", path.lower())


def surrogate(text: str) -> str | None:
    """The first character of a text that UTF-8 can't encode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return text[error.start]
    return None
