"""From tables to records: cells become values, and bad rows are told from good ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from data.fields import Field
from data.formats import Chunk, Table
from data.records import CHUNK, Numbering, Records, StreamedRecords


@dataclass
class BadRows:
    """How many rows were left out, and what is wrong with the first."""

    count: int = 0
    first: str = ""

    def add(self, table: Table, problems: Sequence[tuple[int, str]]) -> None:
        """Counts the (row, problem) pairs of a table."""
        if problems and not self.count:
            row, problem = min(problems)
            self.first = f"{table.name}, row {row}: {problem}"
        self.count += len(problems)


class Part(NamedTuple):
    """The good rows of a chunk of a table."""

    table: Table
    rows: list[int]
    records: Records


def scan(
    tables: Sequence[Table], fields: dict[str, Field], size: int, bad: BadRows
) -> Iterator[Part]:
    """Yields the tables' good rows, in parts of at most `size`; counts the others in `bad`."""
    columns = list(dict.fromkeys(field.column for field in fields.values()))
    for table in tables:
        for chunk in table.chunks(columns, size):
            rows, values, problems = _convert(chunk, fields)
            bad.add(table, problems)
            arrays = {key: field.array(values[key]) for key, field in fields.items()}
            yield Part(table, rows, Records(arrays, len(problems), table.name))


def load(tables: Sequence[Table], fields: dict[str, Field], source: str, bad: BadRows) -> Records:
    """All good rows, in memory."""
    parts = [part.records.columns for part in scan(tables, fields, CHUNK, bad)]
    columns = {
        key: np.concatenate([field.array([]), *(part[key] for part in parts)])
        for key, field in fields.items()
    }
    return Records(columns, bad.count, source)


def stream(
    tables: Sequence[Table], fields: dict[str, Field], source: str, bad: BadRows
) -> StreamedRecords:
    """All good rows, left in their files; this first pass keeps only their labels' numbers."""
    numberings = {key: Numbering() for key, field in fields.items() if field.kind == "label"}
    codes: dict[str, list[np.ndarray]] = {key: [np.zeros(0, np.int32)] for key in numberings}
    count = 0
    for part in scan(tables, fields, CHUNK, bad):
        count += len(part.records)
        for key, numbering in numberings.items():
            codes[key].append(numbering.encode(part.records.columns[key]))
    labels = {key: (np.concatenate(codes[key]), numberings[key].names) for key in numberings}
    read = partial(_good, tables, fields)
    return StreamedRecords(read, labels, np.ones(count, bool), bad.count, source)


def _good(tables: Sequence[Table], fields: dict[str, Field], size: int) -> Iterator[Records]:
    return (part.records for part in scan(tables, fields, size, BadRows()))


def _convert(
    chunk: Chunk, fields: dict[str, Field]
) -> tuple[list[int], dict[str, list], list[tuple[int, str]]]:
    """The good rows' numbers, their values by record key, and what is wrong with the others."""
    values: dict[str, list] = {}
    bad: dict[int, str] = {}
    for key, field in fields.items():
        cells = chunk.cells[field.column]
        column = values[key] = field.convert(cells)
        if None not in column:
            continue
        for index, value in enumerate(column):
            if value is None and not field.required and field.is_empty(cells[index]):
                column[index] = field.missing
            elif value is None:
                bad.setdefault(index, field.complaint(cells[index]))
    if not bad:
        return chunk.rows, values, chunk.broken
    good = [index for index in range(len(chunk.rows)) if index not in bad]
    rows = [chunk.rows[index] for index in good]
    values = {key: [column[index] for index in good] for key, column in values.items()}
    return rows, values, chunk.broken + [(chunk.rows[i], why) for i, why in bad.items()]
