"""Raw records as lines of text, from a file or from whoever types or pipes them in."""

import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.cells import Problem, clip
from data.errors import DataError
from data.tables.fields import Field
from data.tables.folders import FILE
from data.tables.table import (
    Chunk,
    check_file,
    known_format,
    line_text,
    not_utf8,
    opened_lines,
    parse_object,
)

STDIN = "-"

_LIKE_JSON = re.compile(r"""\{\s*["'}]""")


def holds_lines(path: str, format: str) -> bool:
    """Whether a file is lines of raw records: "-", and, unless a format is said, .txt and what no
    format is known of.

    Raises:
        DataError: it is "-", of which JSON lines can be read but no other format.
    """
    if path != STDIN:
        text = path.lower().removesuffix(".gz").endswith(".txt")
        return format == "auto" and (text or known_format(path) is None)
    if format not in ("auto", "jsonl"):
        raise DataError(
            f"--data.format {format}: standard input is read as lines, each a record as text or "
            "JSON; name a file, or leave out the format."
        )
    return True


@dataclass(frozen=True)
class LinesTable:
    """One record a line, as a table of the fields' columns.

    A line that starts with `{` is a JSON object whose keys are the record's or the columns', beside
    others that may be asked for. Any other is the raw text of the text fields and the paths of the
    pictures, in their order, with tabs between them; and so is one of text that starts with `{` but
    does not look like JSON at all. The column `FILE` has the path of a picture that a line gives by
    its path.
    """

    path: str
    """A file, or "-" for standard input."""

    fields: dict[str, Field]
    """Record key -> field."""

    lenient: bool = False
    """Whether a line that looks like JSON, but is no JSON object, is raw text too."""

    @property
    def name(self) -> str:
        """What messages call the table."""
        return "standard input" if self.path == STDIN else self.path

    @property
    def folder(self) -> Path:
        """What paths are relative to: for standard input the working folder."""
        return Path(self.path).parent

    def where(self, row: int) -> str:
        return f"{self.name}, row {row}"

    def size(self) -> int:
        """Bytes on the disk, which standard input has none of."""
        return 0 if self.path == STDIN else Path(self.path).stat().st_size

    def columns(self) -> list[str]:
        """The columns of the fields, whichever of them a line turns out to have."""
        return [*(field.column for field in self.fields.values()), FILE]

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        """As many lines as there are already, at most `size`: nobody waits for a chunk to fill."""
        row = 1
        with self._opened() as file:
            for lines in available_lines(file):
                for start in range(0, len(lines), size):
                    part = lines[start : start + size]
                    yield self._chunk(part, row, columns)
                    row += len(part)

    def _chunk(self, lines: list[bytes], first: int, columns: Sequence[str]) -> Chunk:
        rows, broken = [], []
        cells: dict[str, list[Any]] = {column: [] for column in columns}
        others = set(columns).difference(self.columns())
        for row, line in enumerate(lines, first):
            try:
                record = self._record(line_text(line, row), others)
            except UnicodeDecodeError as error:
                record = not_utf8(error.object[error.start])
            if isinstance(record, str):
                broken.append((row, record))
                continue
            rows.append(row)
            record.setdefault(FILE, self._file(record))
            for column in columns:
                cells[column].append(record.get(column))
        return Chunk(rows, cells, broken)

    def _record(self, line: str, others: Collection[str]) -> dict[str, Any] | str:
        """The line's cells by column, also those of other columns, or what is wrong with it in
        words."""
        kinds = ("text", "image")
        texts = [field.column for field in self.fields.values() if field.kind in kinds]
        if line.startswith("{"):
            record = parse_object(line)
            if isinstance(record, dict):
                return self._object(record, others)
            if not texts or not (self.lenient or not _LIKE_JSON.match(line)):
                return record
        if not texts:
            return f"not a JSON object with the keys {', '.join(self.fields)}"
        parts = line.split("\t", len(texts) - 1)
        if line.strip() and len(parts) < len(texts):
            return f"{len(parts)} text where {len(texts)} are expected, with a tab between them"
        return dict(zip(texts, parts, strict=False))

    def _object(self, record: dict[str, Any], others: Collection[str]) -> dict[str, Any]:
        cells = {name: record[name] for name in others if name in record}
        for key, field in self.fields.items():
            for name in (field.column, key):
                if name in record:
                    cells[field.column] = record[name]
            if field.required and field.column not in cells:
                keys = ", ".join(map(clip, record)) or "none"
                cells[field.column] = Problem(
                    f"a JSON object without '{key}'; its keys are: {keys}"
                )
        return cells

    def _file(self, record: dict[str, Any]) -> str | None:
        """The path of the record's picture, if it is given by one."""
        cells = [
            record.get(field.column) for field in self.fields.values() if field.kind == "image"
        ]
        return next((cell for cell in cells if type(cell) is str), None)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        if self.path == STDIN:
            yield sys.stdin.buffer
            return
        check_file(self.path, self.name)
        with opened_lines(self.path, self.name) as file:
            yield file


def available_lines(file: Any) -> Iterator[list[bytes]]:
    """All whole lines that can be read without waiting, again and again until the end."""
    rest: list[bytes] = []  # in pieces, since a line with a picture in it has many
    while block := file.read1(2**16):
        first, *lines = block.split(b"\n")
        rest.append(first)
        if lines:
            whole, rest = b"".join(rest), [lines.pop()]
            yield [whole, *lines]
    if last := b"".join(rest):
        yield [last]
