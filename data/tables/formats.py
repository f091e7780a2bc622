"""The formats of tables, by the files' endings.

table = open_table("reviews.csv.gz")
table.columns()                                  # ["text", "stars"]
for chunk in table.chunks(["text"], size=8192):
    chunk.rows, chunk.cells["text"], chunk.broken
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from data.cells import clip
from data.errors import DataError
from data.options import Tables
from data.records import CHUNK_BYTES
from data.tables.class_names import class_names
from data.tables.separated import CsvTable, find_dialect
from data.tables.table import (
    Chunk,
    FileTable,
    Table,
    batches,
    check_filled_file,
    known_format,
    line_text,
    opened_lines,
    parse_object,
)
from data.tables.tfrecords import TfrecordTable


def open_table(path: str, options: Tables | None = None, name: str = "") -> Table:
    """The table in a file.

    Args:
        path: the file.
        options: its format, which the ending tells if it is "auto", and how CSV and TSV are read.
        name: what messages call it; its path if not given.

    Raises:
        DataError: there is no such file, it is empty, or its format is not known.
    """
    options = options or Tables()
    name = name or path
    check_filled_file(path, name)
    tolerant = options.on_bad_row == "answer"
    format: str = options.format
    if format == "auto":
        format = known_format(path) or format
    if format == "parquet":
        return ParquetTable(path, name)
    if format == "tfrecord":
        return TfrecordTable(path, name)
    if format == "jsonl":
        return JsonLinesTable(path, name, tolerant=tolerant)
    if format in ("csv", "tsv"):
        dialect = find_dialect(path, name, options, format)
        return CsvTable(path, name, dialect, options.header, tolerant=tolerant)
    raise DataError(
        f"{name}: the ending does not tell the format; "
        "say --data.format csv, tsv, jsonl, parquet or tfrecord."
    )


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
        with opened_lines(self.path, self.name) as file:
            for row, line in enumerate(file, 1):
                try:
                    text = line_text(line, row)
                except UnicodeDecodeError as error:
                    yield row, self.not_utf8(row, error.object[error.start]), len(line)
                    continue
                if text.strip():
                    yield row, parse_object(text), len(line)


@dataclass(frozen=True)
class ParquetTable(FileTable):
    """A Parquet file, read a record batch at a time; classes have the names that Hugging Face's
    `datasets` keep beside them."""

    def columns(self) -> list[str]:
        with self._open() as file:
            return file.schema_arrow.names

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        row = 1
        with self._open() as file:
            size = min(size, _rows_at_once(file.metadata, columns))
            named = class_names(file.schema_arrow.metadata)
            for batch in file.iter_batches(size, columns=list(columns), use_threads=False):
                cells = {column: _python_values(batch.column(column)) for column in columns}
                for column in named.keys() & cells.keys():
                    cells[column] = list(map(named[column], cells[column]))
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
