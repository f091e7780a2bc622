"""From tables to records: cells become values, and bad rows are told from good ones."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.checksum import Checksum, checksum_of
from data.records import CHUNK, Asked, Numbering, Records, Requests, StreamedRecords, bounded
from data.tables.fields import Field
from data.tables.folders import FILE, PicturesTable
from data.tables.table import Chunk, Table

ECHOED = {FILE, "id"}  # keys of fields that tell what an answer is of


@dataclass
class BadRows:
    """How many rows were left out, and what is wrong with the first."""

    count: int = 0
    first: str = ""
    rows: set[tuple[str, int]] = dataclass_field(default_factory=set)

    def add(self, table: Table, problems: Sequence[tuple[int, str]]) -> None:
        """Counts the (row, problem) pairs of a table."""
        if problems and not self.count:
            row, problem = min(problems)
            self.first = located(table.where(row), problem)
        self.count += len(problems)
        self.rows.update((table.name, row) for row, _ in problems)


def located(where: str, problem: str) -> str:
    """A problem with where it is, unless it says so itself, as problems with files do."""
    # Up to the row, which may be another one: of a sequence, the first row tells where it is.
    says_so = problem.startswith((where, where.partition(", row ")[0] + ", row "))
    return problem if says_so else f"{where}: {problem}"


class Part(NamedTuple):
    """The good rows of a chunk of a table."""

    table: Table
    rows: list[int]
    records: Records


def scan(
    tables: Sequence[Table], fields: dict[str, Field], size: int, bad: BadRows
) -> Iterator[Part]:
    """Yields the tables' good rows; counts the others in `bad`.

    A part has at most `size` rows, and about 64 MiB of pictures.
    """
    columns = list(dict.fromkeys(field.column for field in fields.values()))
    for table in tables:
        whole = table.chunks(columns, size)
        for chunk in chain.from_iterable(_bounded(chunk, fields, table.folder) for chunk in whole):
            rows, values, problems = _convert(chunk, fields, table.folder)
            bad.add(table, problems)
            arrays = {key: field.array(values[key]) for key, field in fields.items()}
            yield Part(table, rows, Records(arrays, len(problems), table.name))


def requests(
    table: Table, fields: dict[str, Field], size: int, bad: BadRows, echo: Sequence[str] = ()
) -> Iterator[Requests]:
    """All rows of a table to be answered; those that can't be are counted in `bad`, too.

    Args:
        echo: columns that answers repeat, beside the fields of `ECHOED`.
    """
    columns = list(dict.fromkeys([*(field.column for field in fields.values()), *echo]))
    for whole in table.chunks(columns, size):
        for chunk in _bounded(whole, fields, table.folder):
            _, values, problems = _convert(chunk, fields, table.folder)
            bad.add(table, problems)
            echoed = {column: chunk.cells[column] for column in echo}
            for key in ECHOED & fields.keys():
                echoed[key] = fields[key].convert(chunk.cells[fields[key].column])[0]
            arrays = {key: field.array(values[key]) for key, field in fields.items()}
            asked = _asked(table, chunk.rows, dict(problems), echoed)
            yield Requests(arrays, len(problems), table.name, asked=asked)


def _asked(
    table: Table, rows: list[int], problems: dict[int, str], echoed: dict[str, list]
) -> list[Asked]:
    """Rows, and others that have no cells, in order."""
    places = {row: place for place, row in enumerate(rows)}
    asked = []
    for row in sorted(places.keys() | problems):
        place = places.get(row)
        cells = {name: None if place is None else found[place] for name, found in echoed.items()}
        where = table.where(row)
        source, number = (where, None) if isinstance(table, PicturesTable) else (table.name, row)
        asked.append(Asked(source, number, where, problems.get(row), cells))
    return asked


def load(tables: Sequence[Table], fields: dict[str, Field], source: str, bad: BadRows) -> Records:
    """All good rows, in memory."""
    parts = [part.records.columns for part in scan(tables, fields, CHUNK, bad)]
    columns = {
        key: np.concatenate([field.array([]), *(part[key] for part in parts)])
        for key, field in fields.items()
    }
    return Records(columns, bad.count, source, _facts(tables), checksum_of(columns))


def stream(
    tables: Sequence[Table], fields: dict[str, Field], source: str, bad: BadRows
) -> StreamedRecords:
    """All good rows, left in their files; this first pass keeps only their labels' numbers."""
    checksum = Checksum()
    numberings = {key: Numbering() for key, field in fields.items() if field.kind == "label"}
    codes: dict[str, list[np.ndarray]] = {key: [np.zeros(0, np.int32)] for key in numberings}
    count = 0
    for part in scan(tables, fields, CHUNK, bad):
        count += len(part.records)
        checksum.add(part.records.columns)
        for key, numbering in numberings.items():
            codes[key].append(numbering.encode(part.records.columns[key]))
    labels = {key: (np.concatenate(codes[key]), numberings[key].names) for key in numberings}
    read = partial(_good, tables, fields, bad.rows)
    keep = np.ones(count, bool)
    facts = _facts(tables)
    return StreamedRecords(read, labels, keep, bad.count, source, facts, checksum.text())


def _facts(tables: Sequence[Table]) -> dict[str, int]:
    """What the tables leave out, in all."""
    facts: Counter[str] = Counter()
    for table in tables:
        facts.update(getattr(table, "facts", {}))
    return dict(facts)


def picture_bytes(table: Table, fields: dict[str, Field]) -> int:
    """About how many bytes the pictures take that a table only names: 100 of them tell."""
    images = [field.column for field in fields.values() if field.kind == "image"]
    if not images or isinstance(table, PicturesTable):
        return 0
    from data.images.pictures import is_path, picture_size

    first = next(table.chunks(images, 100), None)
    if first is None:
        return 0
    cells = [cell for column in images for cell in first.cells[column]]
    sizes = [picture_size(cell, table.folder) for cell in cells[:100] if is_path(cell)]
    if not sizes:
        return 0
    rows = sum(len(chunk.rows) for chunk in table.chunks(images, CHUNK))
    return sum(sizes) * rows // max(len(first.rows), 1)


def _good(
    tables: Sequence[Table], fields: dict[str, Field], bad: set[tuple[str, int]], size: int
) -> Iterator[Records]:
    """All rows but the bad ones, whose pictures have been checked already."""
    unchecked = {key: replace(field, max_pixels=None) for key, field in fields.items()}
    for table, rows, records in scan(tables, unchecked, size, BadRows()):
        if bad:
            keep = [index for index, row in enumerate(rows) if (table.name, row) not in bad]
            records = records.take(np.array(keep, np.int64))
        yield records


def _bounded(chunk: Chunk, fields: dict[str, Field], folder: Path) -> Iterator[Chunk]:
    """The chunk in parts whose pictures take about 64 MiB."""
    images = {field.column for field in fields.values() if field.kind == "image"}
    if not images or not chunk.rows:
        yield chunk
        return
    from data.images.pictures import picture_size

    weights = [
        sum(picture_size(cell, folder) for cell in cells)
        for cells in zip(*(chunk.cells[column] for column in images), strict=True)
    ]
    broken = chunk.broken
    for part in bounded(weights, len(weights)):
        rows = chunk.rows[part]
        cells = {column: values[part] for column, values in chunk.cells.items()}
        last = part.stop == len(weights)
        yield Chunk(rows, cells, [bad for bad in broken if last or bad[0] < rows[-1]])
        broken = [bad for bad in broken if bad[0] > rows[-1]]


def _convert(
    chunk: Chunk, fields: dict[str, Field], folder: Path
) -> tuple[list[int], dict[str, list], list[tuple[int, str]]]:
    """The good rows' numbers, their values by record key, and what is wrong with the others."""
    values: dict[str, list] = {}
    bad: dict[int, str] = {}
    for key, field in fields.items():
        values[key], problems = field.convert(chunk.cells[field.column], folder)
        bad = problems | bad
    if not bad:
        return chunk.rows, values, chunk.broken
    good = [index for index in range(len(chunk.rows)) if index not in bad]
    rows = [chunk.rows[index] for index in good]
    values = {key: [column[index] for index in good] for key, column in values.items()}
    return rows, values, chunk.broken + [(chunk.rows[i], why) for i, why in bad.items()]
