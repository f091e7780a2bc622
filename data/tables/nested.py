"""Tables whose cells hold objects, as Hugging Face's data sets have: parts of these as columns.

table = with_parts(open_table("pairs.jsonl"), {"source": ["source", "en"]})
# of lines such as {"translation": {"en": "A dog.", "de": "Ein Hund."}}
next(table.chunks(["source"], 10)).cells           # {"source": ["A dog."]}
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.errors import DataError
from data.tables.formats import JsonLinesTable, ParquetTable
from data.tables.table import Chunk, Table, WrappedTable
from data.tables.tfds import TfdsTable

_SOME = 1000  # rows that tell what is in their cells

Keys = tuple[str, ...]  # a column, and the keys of a value in the objects in its cells


def with_parts(table: Table, wanted: Mapping[str, Sequence[str]]) -> Table:
    """The table, with those wanted columns that it lacks and the objects in its cells have.

    Args:
        wanted: the columns' names, and for each what it may be called in the objects, the
            likeliest first: its key, such as "en", or its whole path, "translation.en".

    Raises:
        DataError: several objects have such a key.
    """
    if not isinstance(table, JsonLinesTable | ParquetTable | TfdsTable):
        return table
    columns = table.columns()
    missing = [column for column in wanted if column not in columns]
    paths = _paths(table, columns) if missing else []
    if not paths:
        return table
    found: dict[str, Keys] = {}
    for column in missing:
        for name in wanted[column]:
            fits = [path for path in paths if name in (path[-1], ".".join(path))]
            if len(fits) > 1:
                raise DataError(
                    f"{table.name}: '{name}' may be {' or '.join(map('.'.join, fits))}; name the "
                    "whole path."
                )
            if fits:
                found[column] = fits[0]
                break
    objects = {path[0] for path in paths}
    plain = [column for column in columns if column not in objects]
    return NestedTable(table, found, [*plain, *map(".".join, paths)])


@dataclass(frozen=True)
class NestedTable(WrappedTable):
    """A table with columns of what is within the objects in another's cells."""

    parts: Mapping[str, Keys]
    """Which columns are such, and of what."""

    others: list[str]
    """The columns, and the paths in objects, that could be named as well."""

    def columns(self) -> list[str]:
        return [*self.others, *(part for part in self.parts if part not in self.others)]

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        keys = {column: self.parts.get(column, (column,)) for column in columns}
        outer = list(dict.fromkeys(path[0] for path in keys.values()))
        for chunk in self.table.chunks(outer, size):
            cells = {
                column: [_within(cell, path[1:]) for cell in chunk.cells[path[0]]]
                for column, path in keys.items()
            }
            yield Chunk(chunk.rows, cells, chunk.broken)


def _paths(table: Table, columns: list[str]) -> list[Keys]:
    """Where there are values within the objects in the cells of a table's first rows."""
    first = next(table.chunks(columns, _SOME), None)
    paths: dict[Keys, None] = {}
    for column, cells in (first.cells if first else {}).items():
        for cell in cells:
            if isinstance(cell, dict):
                paths |= dict.fromkeys(_leaves(cell, (column,)))
    return list(paths)


def _leaves(value: Any, path: Keys) -> Iterator[Keys]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path


def _within(value: Any, keys: Keys) -> Any:
    """What an object has under keys within each other; None where it has none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
