"""Text with a separator between cells: CSV, TSV and their kin.

table = CsvTable("reviews.csv", "reviews.csv", find_dialect("reviews.csv", Tables()), header=True)
table.columns()                                  # ["text", "stars"]

What separates the cells is found where only one character can be meant: the header, or many rows
of a file without, are then of several cells by it, and of one by commas.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

from data.cells import clip, tidy
from data.errors import DataError
from data.options import Tables
from data.tables.table import Chunk, FileTable, opened, surrogate

LARGEST_CELL = 2**24
_BLOCK = 2**16  # characters read at once, but for the first, which is often all that is wanted
_FIRST = 2**12
_LOOKED_AT = 2**14  # characters, to find how a file is written
_ENOUGH = 10  # rows that tell the separator without a header
_OTHERS = {";": "semicolon", "\t": "tab", "|": "bar"}  # than the comma
_UNQUOTED = "quotes are read as they are; --data.quoting csv reads cells in quotes"
# Excel's own way to say it, before the header: sep=;
_SAID = re.compile(r'"?sep=([^"\r\n])\1*"?[\r\n]*$', re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


class Dialect(NamedTuple):
    """How cells are written."""

    separator: str
    """The character between two cells."""

    quoted: bool
    """Whether cells may be in quotes, as in RFC 4180."""

    preamble: bool = False
    """Whether the first line is no row, as it says the separator."""


def find_dialect(path: str, name: str, options: Tables, format: str) -> Dialect:
    """How the cells of a file are written, as the options say, or as its first rows look.

    Args:
        path: the file.
        name: what messages call it.
        options: `separator`, `quoting` and `header`.
        format: "csv" or "tsv".

    Raises:
        DataError: the options' separator is none, or the file can't be read.
    """
    separator = _named_separator(options.separator)
    with opened(path, name) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", "replace", newline="")
        lines = text.readlines(_LOOKED_AT)
    said = _SAID.match(lines[0]) if lines else None
    if separator is None and said:
        separator = said[1]
    lines = [line for line in lines if line.strip()]
    if separator is None and format == "csv":
        separator = _likely_separator(lines, options.header)
    separator = separator or "\t"
    quoted = options.quoting == "csv"
    if options.quoting == "auto":
        quoted = separator != "\t" or _surely_quoted(lines, options.header)
    return Dialect(separator, quoted, said is not None)


@dataclass(frozen=True)
class CsvTable(FileTable):
    """Text with a separator; where cells may be quoted, quoted ones may hold line breaks."""

    dialect: Dialect
    header: bool

    def columns(self) -> list[str]:
        """The names in the header without blanks around them, or numbers."""
        for row, fields in self._records():
            if isinstance(fields, _Broken):
                raise DataError(f"{self.name}, row {row}: {fields.problem}.")
            return _names(fields) if self.header else [str(n) for n in range(len(fields))]
        raise DataError(f"{self.name} holds only blank lines; give a file that has records.")

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        names = self.columns()
        records = islice(self._records(), int(self.header), None)
        while True:
            chunk = Chunk([], {column: [] for column in columns}, [])
            targets = [(cells, _position(names, name)) for name, cells in chunk.cells.items()]
            # Cells are copied row by row: keeping a chunk's rows as lists takes twice the time.
            for row, fields in islice(records, size):
                if len(fields) != len(names):
                    chunk.broken.append((row, self._complaint(fields, len(names))))
                    continue
                chunk.rows.append(row)
                for cells, position in targets:
                    cells.append(fields[position])
            if not chunk.rows and not chunk.broken:
                return
            yield chunk

    def hint(self, columns: Sequence[str]) -> str:
        """What may be the matter with the table when it lacks a column, in words."""
        separator, quoted, _ = self.dialect
        hints = []
        if self.header:
            hints.append("If the first row is a record: --data.header false.")
        doubtful = len(columns) == 1 or any(other in name for name in columns for other in _OTHERS)
        if separator != "," or doubtful:
            name = ({",": "comma"} | _OTHERS).get(separator, separator)
            hints.append(f"The separator is the {name}; name another with --data.separator.")
        if not quoted and any(name.startswith('"') for name in columns):
            hints.append(f"{_UNQUOTED.capitalize()}.")
        return "".join(f" ({hint})" for hint in hints)

    def _complaint(self, fields: list[str], columns: int) -> str:
        """What is wrong with a row of some number of cells."""
        if isinstance(fields, _Broken):
            return fields.problem
        problem = f"{len(fields)} fields where there are {columns} columns"
        if not self.dialect.quoted and any(field.startswith('"') for field in fields):
            return f"{problem} ({_UNQUOTED})"
        return problem

    def _records(self, errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
        """The line each record starts on, and its fields; blank lines are none, and octets that are
        no UTF-8 are what `errors` makes of them, or else make a record broken.

        After a record whose quotes are wrong, reading goes on with the line after its first: a
        quote that is never closed must not take what follows with it.
        """
        # The csv module's own limit would refuse texts of more than 131,072 characters.
        csv.field_size_limit(LARGEST_CELL)
        start = 2 if self.dialect.preamble else 1
        with opened(self.path, self.name) as file:
            text = io.TextIOWrapper(file, "utf-8-sig", errors, newline="")
            lines = _Lines(text, lambda: start)
            try:
                while True:
                    first = start
                    reader = _reader(lines.rest(), self.dialect.separator, self.dialect.quoted)
                    try:
                        for fields in reader:
                            if fields:
                                yield start, fields
                            start = first + reader.line_num
                    except csv.Error as error:
                        yield start, _Broken(_quoting_problem(error), next(lines.rest()))
                        start += 1
                    else:
                        return
            except UnicodeDecodeError:
                pass
        yield from self._records_checked(start)

    def _records_checked(self, first: int) -> Iterator[tuple[int, list[str]]]:
        """The records from a line on, with a look at each octet, which takes longer."""
        for row, fields in self._records("surrogateescape"):
            texts = [fields.line] if isinstance(fields, _Broken) else fields
            if row < first:
                continue
            if bad := next(filter(None, map(surrogate, texts)), None):
                fields = _Broken(self.not_utf8(row, ord(bad) & 0xFF))
            yield row, fields


class _Broken(list):
    """The fields, of which there are none, of a record that can't be read."""

    def __init__(self, problem: str, line: str = ""):
        super().__init__()
        self.problem = problem
        self.line = line


def _quoting_problem(error: csv.Error) -> str:
    reason = str(error)
    if "field larger" in reason:
        why = f"a cell of more than {LARGEST_CELL:,} characters"
    elif "unexpected end" in reason:
        why = "a quote that is never closed"
    else:
        why = "text after the quote that ends a cell"
    return (
        f'a quoting error ({why}); write a quote inside quotes twice: "a ""word"" in quotes", '
        "or read quotes as they are with --data.quoting none"
    )


class _Lines:
    """The lines of a text, of which those since the current record's first can be read again."""

    def __init__(self, text: io.TextIOWrapper, start: Callable[[], int]):
        """Takes the text, and what tells the number of the current record's first line."""
        self._text = text
        self._start = start
        self._end = 1  # the number of the first line that has not been read
        self._held: deque[list[str]] = deque()

    def rest(self) -> Iterator[str]:
        """All lines from the current record's first."""
        held = list(chain.from_iterable(self._held))
        read_before = self._start() - (self._end - len(held))
        return islice(chain(held, chain.from_iterable(self._blocks())), read_before, None)

    def _blocks(self) -> Iterator[list[str]]:
        # Not line by line: a generator's step for each would be half of the reading time.
        while block := self._text.readlines(_BLOCK if self._held else _FIRST):
            self._forget()
            self._held.append(block)
            self._end += len(block)
            yield block

    def _forget(self) -> None:
        """Drops the blocks that end before the current record."""
        first = self._end - sum(map(len, self._held))
        while self._held and first + len(self._held[0]) <= self._start():
            first += len(self._held.popleft())


def _named_separator(said: str) -> str | None:
    """The character that an option names; None for "auto"."""
    if said == "auto":
        return None
    separator = {"tab": "\t", r"\t": "\t"}.get(said, said)
    if len(separator) != 1 or separator in '"\r\n':
        raise DataError(
            f"--data.separator {clip(said)!r}: must be one character, such as ';', or tab, or auto."
        )
    return separator


def _likely_separator(lines: list[str], header: bool) -> str:
    """A comma, unless the rows are of several cells by one other character only."""
    if header and _widths(lines[:1], ",") > [1]:
        return ","
    commas = _widths(lines, ",")
    if not header and (len(commas) < _ENOUGH or _alike(commas, 0.99)):
        return ","
    share = 0.5 if header else 0.99
    fitting = [other for other in _OTHERS if _alike(_widths(lines, other), share)]
    return fitting[0] if len(fitting) == 1 else ","


def _alike(widths: list[int], share: float) -> bool:
    """Whether more than a share of rows have as many cells as the first, which are several."""
    return widths[:1] > [1] and widths.count(widths[0]) > share * len(widths)


def _surely_quoted(lines: list[str], header: bool) -> bool:
    """Whether cells between tabs are quoted, as programs do it: all that begin with a quote also
    end with one on their line, and some have quotes twice in them, or all of the header are such.
    """
    rows = [line.rstrip("\r\n").split("\t") for line in lines]
    quoted = [cell for row in rows for cell in row if cell.startswith('"')]
    if not all(map(_QUOTED.fullmatch, quoted)):
        return False
    named = header and bool(rows) and all(cell.startswith('"') for cell in rows[0])
    return named or any('""' in cell[1:-1] for cell in quoted)


def _widths(lines: list[str], separator: str) -> list[int]:
    """How many cells the first rows have by a separator."""
    try:
        reader = _reader(lines, separator, quoted=separator != "\t", strict=False)
        return [len(fields) for fields in reader if fields]
    except csv.Error:
        return []


def _reader(lines: Iterable[str], separator: str, quoted: bool, strict: bool = True) -> Any:
    if quoted:
        return csv.reader(lines, delimiter=separator, strict=strict)
    return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE, quotechar=None)


def _names(fields: list[str]) -> list[str]:
    """A header's names without blanks around them, but where two would then be one."""
    names = [tidy(field) for field in fields]
    return [
        name if names.count(name) == 1 else field for name, field in zip(names, fields, strict=True)
    ]


def _position(names: list[str], column: str) -> int:
    """Where a column is, which may be named with the blanks that the header has around it."""
    return names.index(column if column in names else tidy(column))
