"""Tables: files of rows, read in chunks so that memory stays bounded however large they are.

    table = open_table("reviews.csv.gz")
    table.columns()                                  # ["text", "stars"]
    for chunk in table.chunks(["text"], size=8192):
        chunk.rows, chunk.cells["text"], chunk.broken

A row is named as a spreadsheet shows it: in CSV, TSV and JSONL the line of the file on which it
starts (a header is row 1), in Parquet, TFRecord and tfds its number, counted from 1.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from data.errors import DataError
from data.fields import clip
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
LARGEST_CELL = 2**24
GZIP_RATIO = 4

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
    """What can be read as rows and columns."""

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


def open_table(path: str, format: str = "auto", header: bool = True, name: str = "") -> Table:
    """The table in a file; its ending tells an "auto" format.

    Raises:
        DataError: there is no such file, it is empty, or its format is not known.
    """
    name = name or path
    check_filled_file(path, name)
    if format == "auto":
        format = known_format(path) or format
    if format == "parquet":
        return ParquetTable(path, name)
    if format == "tfrecord":
        from data.tfrecords import TfrecordTable

        return TfrecordTable(path, name)
    if format == "jsonl":
        return JsonLinesTable(path, name)
    if format in ("csv", "tsv"):
        return CsvTable(path, name, "," if format == "csv" else "\t", header)
    raise DataError(
        f"{name}: the ending does not tell the format; "
        "say --data.format csv, tsv, jsonl, parquet or tfrecord."
    )


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

    @property
    def folder(self) -> Path:
        return Path(self.path).parent

    def size(self) -> int:
        """The file's bytes; text in a .gz is taken to be four times as large."""
        return Path(self.path).stat().st_size * (GZIP_RATIO if is_gzip(self.path) else 1)

    def where(self, row: int) -> str:
        return f"{self.name}, row {row}"


@dataclass(frozen=True)
class CsvTable(FileTable):
    """Text with a delimiter, quoted as in RFC 4180: quoted fields may hold line breaks."""

    delimiter: str
    header: bool

    def columns(self) -> list[str]:
        for _, fields in self._records():
            return fields if self.header else [str(number) for number in range(len(fields))]
        raise DataError(f"{self.name} holds only blank lines; give a file that has records.")

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        names = self.columns()
        records = islice(self._records(), int(self.header), None)
        while True:
            chunk = Chunk([], {column: [] for column in columns}, [])
            targets = [(cells, names.index(column)) for column, cells in chunk.cells.items()]
            # Cells are copied row by row: keeping a chunk's rows as lists takes twice the time.
            for row, fields in islice(records, size):
                if len(fields) != len(names):
                    problem = f"{len(fields)} fields where there are {len(names)} columns"
                    chunk.broken.append((row, problem))
                    continue
                chunk.rows.append(row)
                for cells, position in targets:
                    cells.append(fields[position])
            if not chunk.rows and not chunk.broken:
                return
            yield chunk

    def _records(self, errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
        """The line each record starts on, and its fields; blank lines are none."""
        # The csv module's own limit would refuse texts of more than 131,072 characters.
        csv.field_size_limit(LARGEST_CELL)
        start = 1
        with opened(self.path, self.name) as file:
            text = io.TextIOWrapper(file, "utf-8-sig", errors, newline="")
            reader = csv.reader(text, delimiter=self.delimiter, strict=True)
            try:
                for fields in reader:
                    if fields:
                        yield start, fields
                    start = reader.line_num + 1
            except csv.Error as error:
                raise DataError(
                    f"{self.name}, row {start}: a quoting error ({error}); close the quotes, and "
                    'write a quote inside quotes twice: "a ""word"" in quotes".'
                ) from error
            except UnicodeDecodeError:
                pass
            else:
                return
        self._raise_not_utf8()

    def _raise_not_utf8(self) -> None:
        """Finds the record that holds the first byte that is not UTF-8."""
        for row, fields in self._records(errors="surrogateescape"):
            for field in fields:
                if bad := _surrogate(field):
                    problem = not_utf8(ord(bad) & 0xFF)
                    raise DataError(f"{self.name}, row {row}: {problem}.")
        raise DataError(f"{self.name} changed while it was being read; start again.")


@dataclass(frozen=True)
class JsonLinesTable(FileTable):
    """One JSON object a line; a key that a line lacks is null there."""

    def columns(self) -> list[str]:
        """The keys of the first 1,000 objects."""
        objects = (value for _, value, _ in islice(self._lines(), 1000) if isinstance(value, dict))
        names = list(dict.fromkeys(chain.from_iterable(objects)))
        if not names:
            for row, problem, _ in islice(self._lines(), 1):
                raise DataError(f"{self.name}, row {row}: {problem}.")
            raise DataError(f"{self.name} holds only blank lines; give a file that has records.")
        return names

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        for batch in batches(self._lines(), size, lambda line: line[2]):
            good = [(row, value) for row, value, _ in batch if isinstance(value, dict)]
            cells = {column: [value.get(column) for _, value in good] for column in columns}
            broken = [(row, value) for row, value, _ in batch if isinstance(value, str)]
            yield Chunk([row for row, _ in good], cells, broken)

    def _lines(self) -> Iterator[tuple[int, dict[str, Any] | str, int]]:
        """Each line's number, its object or what is wrong with it, and its length."""
        with opened(self.path, self.name) as file:
            for row, line in enumerate(file, 1):
                text = decode_line(line, self.name, row)
                if text.strip():
                    yield row, parse_object(text), len(line)


@dataclass(frozen=True)
class ParquetTable(FileTable):
    """A Parquet file, read a record batch at a time."""

    def columns(self) -> list[str]:
        with self._open() as file:
            return file.schema_arrow.names

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        row = 1
        with self._open() as file:
            size = min(size, _rows_at_once(file.metadata, columns))
            for batch in file.iter_batches(size, columns=list(columns), use_threads=False):
                cells = {column: _python_values(batch.column(column)) for column in columns}
                yield Chunk(list(range(row, row + len(batch))), cells, [])
                row += len(batch)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow
        from pyarrow import parquet

        try:
            # A buffered, not prefetched, reader holds pages in memory instead of row groups.
            with parquet.ParquetFile(self.path, buffer_size=2**20, pre_buffer=False) as file:
                yield file
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise DataError(
                f"{self.name} can't be read as Parquet ({clip(str(error), 120)}); write it anew."
            ) from error


def decode_line(line: bytes, name: str, row: int) -> str:
    """A line of a UTF-8 file as `line_text` has it; raises a DataError if it is not UTF-8."""
    try:
        return line_text(line, row)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}, row {row}: {not_utf8(error.object[error.start])}.") from error


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
    if "\\u" in line and any(_surrogate(cell) for cell in value.values() if isinstance(cell, str)):
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


def _unsharded(path: str) -> str:
    """A path in lower case, without the numbers of a shard: train.tfrecord-00000-of-00004."""
    return re.sub(r"-\d+-of-\d+$", "", path.lower())


def _surrogate(text: str) -> str | None:
    """The first character of a text that UTF-8 can't encode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return text[error.start]
    return None


def _rows_at_once(metadata: Any, columns: Sequence[str]) -> int:
    """How many rows of some columns take about `CHUNK_BYTES`; at least one."""
    largest = 1.0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        parts = (group.column(index) for index in range(group.num_columns))
        held = sum(
            part.total_uncompressed_size
            for part in parts
            if part.path_in_schema.partition(".")[0] in columns or part.path_in_schema in columns
        )
        largest = max(largest, held / max(group.num_rows, 1))
    return max(1, int(CHUNK_BYTES / largest))


def _python_values(column: Any) -> list[Any]:
    """An Arrow array's values; as bytes if some text in it is not UTF-8."""
    import pyarrow

    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return column.cast(pyarrow.large_binary()).to_pylist()
