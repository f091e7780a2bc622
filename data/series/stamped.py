"""Rows with a time stamp, as tables hold them: in any order, with gaps, of one or more series.

columns = find_columns(tables, options)
rows = read_rows(tables, options, columns)
rows.times, rows.values, rows.names[rows.series[0]]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from data.cells import clip
from data.errors import DataError
from data.options import TimeSeries
from data.records import CHUNK
from data.series.clock import Clock, zone_name
from data.series.stamps import Stamps, to_numbers
from data.tables.fields import Field
from data.tables.opening import describe, has_column, tolerate
from data.tables.reading import BadRows
from data.tables.table import Chunk, Table

_ROLES = ("targets", "covariates", "known", "static")
_INDEXES = ("", "Unnamed: 0", "__index_level_0__")  # as pandas writes them
_EMPTY = ("", "nan", "na", "n/a", "null", "none")
_TRUTH = {"true": 1.0, "false": 0.0}
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Columns:
    """What columns there are, by what they are for."""

    targets: tuple[str, ...]
    """Numbers to forecast."""

    covariates: tuple[str, ...] = ()
    """Numbers known up to now."""

    known: tuple[str, ...] = ()
    """Numbers known in the future too."""

    static: tuple[str, ...] = ()
    """Numbers or words that stay the same in a series."""

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of `values`, in their order."""
        return self.targets + self.covariates + self.known


@dataclass(frozen=True, eq=False)
class StampedRows:
    """Rows of one or more series."""

    times: np.ndarray
    """int64 (rows,), as `clock` has them."""

    series: np.ndarray
    """Which series each row belongs to, as a position in `names`."""

    values: np.ndarray
    """float64 (rows, columns.numbers); NaN where there is no number that float32 has, too."""

    static: np.ndarray
    """Objects (rows, columns.static): text; "" where there is none."""

    tables: np.ndarray
    """Which table each row comes from, as a position in `sources`."""

    numbers: np.ndarray
    """The rows' numbers in their tables."""

    names: list[str]
    """What the series are called; a single one is called ""."""

    sources: Sequence[Table]
    """The tables."""

    skipped: int
    """Bad rows left out."""

    clock: Clock
    """What the time column means."""

    def __len__(self) -> int:
        return len(self.times)

    def take(self, order: np.ndarray) -> "StampedRows":
        """The rows at some positions, in that order."""
        parts = ("times", "series", "values", "static", "tables", "numbers")
        return replace(self, **{name: getattr(self, name)[order] for name in parts})

    def of(self, series: Sequence[int] | np.ndarray) -> "StampedRows":
        """Those of some series, ascending positions in `names`."""
        rows = self.take(np.flatnonzero(np.isin(self.series, series)))
        names = [self.names[number] for number in series]
        return replace(rows, series=np.searchsorted(series, rows.series), names=names)

    def bounds(self) -> np.ndarray:
        """Where each series starts and ends, (series + 1,), if rows are in the order of series."""
        return np.searchsorted(self.series, np.arange(len(self.names) + 1))

    def where(self, position: int) -> str:
        """What messages call a row."""
        return self.sources[self.tables[position]].where(int(self.numbers[position]))

    def moment(self, position: int) -> str:
        """What messages call a row's time stamp."""
        return self.clock.text(self.times[position]) + of_series(self.names[self.series[position]])

    def first(self, positions: np.ndarray) -> int:
        """Which of some positions comes first in the files."""
        order = np.lexsort((self.numbers[positions], self.tables[positions]))
        return int(positions[order[0]])


def is_missing(text: str) -> bool:
    """Whether a text stands for no number: it is blank, or as tools write NaN and infinity."""
    return text.strip().lower().lstrip("+-") in (*_EMPTY, "inf", "infinity")


def of_series(name: str) -> str:
    """A series in a message; nothing for a single one, which has no name."""
    return f" of series '{clip(name)}'" if name else ""


class _Part(NamedTuple):
    """The good rows of a chunk."""

    stamps: Stamps
    names: list[str]
    values: np.ndarray
    static: np.ndarray
    numbers: np.ndarray


def find_columns(tables: Sequence[Table], options: TimeSeries) -> Columns:
    """The columns that the options name; without targets, all other columns of numbers."""
    named = {role: tuple(options.names(role)) for role in _ROLES}
    if not named["targets"]:
        taken = {column for part in named.values() for column in part}
        taken |= {options.time_column, options.series_column or ""}
        named["targets"] = _columns_of_numbers(tables[0], taken)
    return Columns(**named)


def read_rows(
    tables: Sequence[Table],
    options: TimeSeries,
    columns: Columns,
    clock: Clock | None = None,
) -> StampedRows:
    """All good rows of the tables, in their order.

    Args:
        tables: which have the columns.
        options: what is in them.
        columns: by what they are for.
        clock: what the time column means to a trained model; by default what the options and the
            rows say.

    Raises:
        DataError: a column is missing, there are bad rows and they aren't to be skipped, or no
            others.
    """
    _check_columns(tables, options, columns)
    bad = BadRows()
    parts = [
        (number, part)
        for number, table in enumerate(tables)
        for part in _parts(table, options, columns, bad)
    ]
    tolerate(bad, options)
    counts = [len(part.numbers) for _, part in parts]
    if not sum(counts):
        skipped = f" but {bad.count} bad rows that were skipped" if bad.count else ""
        raise DataError(
            f"{describe(tables)} has no time steps{skipped}; give a file that has some."
        )
    stamps = Stamps.joined([part.stamps for _, part in parts])
    series, names = _numbered([name for _, part in parts for name in part.names])
    if clock is None:
        clock = _clock(tables, options, stamps, series)
    else:
        _check_clock(clock, options)
    times, odd = clock.seconds(stamps, series)
    rows = StampedRows(
        times,
        series,
        np.concatenate([part.values for _, part in parts]),
        np.concatenate([part.static for _, part in parts]),
        np.repeat([number for number, _ in parts], counts),
        np.concatenate([part.numbers for _, part in parts]),
        names,
        tables,
        bad.count,
        clock,
    )
    for position, why in odd.items():
        raise DataError(f"{rows.where(position)}: column '{options.time_column}' {why}.")
    return rows


def _clock(
    tables: Sequence[Table], options: TimeSeries, stamps: Stamps, series: np.ndarray
) -> Clock:
    """What the options and the rows say of the time column."""
    try:
        return Clock.told(stamps, series, options.time_unit, options.time_zone)
    except DataError as error:
        column = f"time stamps in column '{options.time_column}'"
        raise DataError(f"{describe(tables)}: {column} {error}.") from error


def _check_clock(clock: Clock, options: TimeSeries) -> None:
    """Raises if the options say something else of the time column than a trained model."""
    other_zone = options.time_zone is not None and zone_name(options.time_zone) != clock.zone
    other_unit = clock.unit and options.time_unit not in ("auto", clock.unit)
    for other, given, trained in (
        (other_zone, f"zone {options.time_zone}", clock.zone or "UTC"),
        (other_unit, f"unit {options.time_unit}", clock.unit),
    ):
        if other:
            raise DataError(
                f"--data.time_{given}: the model was trained on {trained}; leave the option out."
            )


def check_unique(rows: StampedRows, options: TimeSeries) -> None:
    """Raises if a time stamp is twice in a series."""
    same = (np.diff(rows.series) == 0) & (np.diff(rows.times) == 0)
    if not same.any():
        return
    second = rows.first(np.flatnonzero(same) + 1)
    count = np.count_nonzero(same)
    hint = ", or tell series apart with --data.series_column" if not options.series_column else ""
    raise DataError(
        f"{rows.where(second)}: {rows.moment(second)} is in {rows.where(second - 1)} already"
        f"{f' ({count:,} such rows)' if count > 1 else ''}; leave one of them out{hint}."
    )


def static_of_series(rows: StampedRows, columns: Columns) -> np.ndarray:
    """The static columns of each series, from the first row that has them."""
    static = np.full((len(rows.names), len(columns.static)), "", object)
    for number, column in enumerate(columns.static):
        cells = rows.static[:, number]
        given = np.flatnonzero(cells != "")
        series, first = np.unique(rows.series[given], return_index=True)
        static[series, number] = cells[given[first]]
        differing = given[cells[given] != static[rows.series[given], number]]
        if len(differing):
            row = rows.first(differing)
            other = given[first][np.searchsorted(series, rows.series[row])]
            raise DataError(
                f"{rows.where(row)}: column '{column}' is '{clip(cells[row])}', and "
                f"'{clip(cells[other])}' in {rows.where(other)}"
                f"{of_series(rows.names[rows.series[row]])}; a --data.static column stays the same "
                "in a series. Correct it, or leave it out."
            )
    return static


def _columns_of_numbers(table: Table, taken: set[str]) -> tuple[str, ...]:
    """The other columns most of whose first cells are numbers."""
    names = table.columns()
    others = [name for name in dict.fromkeys(names) if name not in taken.union(_INDEXES)]
    chunk = next(iter(table.chunks(others, CHUNK)), None) if others else None
    found = tuple(name for name in others if not chunk or _mostly_numbers(chunk.cells[name]))
    if not found:
        raise DataError(
            f"{table.name}: no column of numbers to forecast; the columns are: "
            f"{', '.join(map(clip, names))}. Name yours with --data.targets."
        )
    return found


def _mostly_numbers(cells: list[Any]) -> bool:
    """Whether no more cells are words, true or false than are numbers."""
    values, problems = _numbers(cells, "")
    truths = sum(isinstance(cell, bool) or _word(cell) in _TRUTH for cell in cells)
    return bool(len(problems) + truths <= np.count_nonzero(~np.isnan(values)) - truths)


def _check_columns(tables: Sequence[Table], options: TimeSeries, columns: Columns) -> None:
    """Raises unless every table has every column, once."""
    fields = [Field(options.time_column, option="--data.time_column")]
    if options.series_column:
        fields.append(Field(options.series_column, option="--data.series_column"))
    for role in _ROLES:
        fields += [Field(column, option=f"--data.{role}") for column in getattr(columns, role)]
    for table in tables:
        names = table.columns()
        for field in fields:
            has_column(table, names, field)


def _parts(table: Table, options: TimeSeries, columns: Columns, bad: BadRows) -> Iterator[_Part]:
    """The good rows of a table; the others are counted in `bad`."""
    named = [options.time_column, options.series_column or options.time_column]
    wanted = list(dict.fromkeys([*named, *columns.numbers, *columns.static]))
    for chunk in table.chunks(wanted, CHUNK):
        part, problems = _part(chunk, options, columns)
        bad.add(table, chunk.broken + [(chunk.rows[i], why) for i, why in problems.items()])
        if not problems:
            yield part
            continue
        good = np.array([i for i in range(len(chunk.rows)) if i not in problems], np.int64)
        yield _Part(
            part.stamps.take(good),
            [part.names[i] for i in good],
            part.values[good],
            part.static[good],
            part.numbers[good],
        )


def _part(chunk: Chunk, options: TimeSeries, columns: Columns) -> tuple[_Part, dict[int, str]]:
    """The rows of a chunk, and what is wrong with some of them, by position."""
    count = len(chunk.rows)
    problems: dict[int, str] = {}
    values = np.empty((count, len(columns.numbers)))
    for number, column in enumerate(columns.numbers):
        values[:, number], found = _numbers(chunk.cells[column], column)
        problems |= found
    static = np.empty((count, len(columns.static)), object)
    for number, column in enumerate(columns.static):
        static[:, number], found = _labels(chunk.cells[column], column, required=False)
        problems |= found
    names = [""] * count
    if options.series_column:
        names, found = _labels(chunk.cells[options.series_column], options.series_column)
        problems |= found
    stamps = Stamps.of(chunk.cells[options.time_column])
    problems |= {i: f"column '{options.time_column}' {why}" for i, why in stamps.problems.items()}
    return _Part(stamps, names, values, static, np.array(chunk.rows, np.int64)), problems


def _labels(cells: list[Any], column: str, required: bool = True) -> tuple[list, dict[int, str]]:
    return Field(column, "label", required).convert(cells)


def _numbers(cells: list[Any], column: str) -> tuple[np.ndarray, dict[int, str]]:
    """The cells as float64, NaN for those without a finite number, and what other cells hold."""
    numbers = to_numbers(cells)
    problems = {}
    for position in np.flatnonzero(np.isnan(numbers)).tolist():
        cell = cells[position]
        word = _word(cell)
        if word in _TRUTH:
            numbers[position] = _TRUTH[word]
        elif word not in _EMPTY or not (isinstance(cell, str) or cell is None or cell != cell):
            hint = " (decimals have a point)" if "," in word else ""
            problems[position] = f"column '{column}' is {clip(repr(cell))}, not a number{hint}"
    numbers[np.abs(numbers) > _LARGEST] = np.nan
    return numbers, problems


def _word(cell: Any) -> str:
    return cell.strip().lower() if isinstance(cell, str) else ""


def _numbered(names: list[str]) -> tuple[np.ndarray, list[str]]:
    """The series' names as numbers, by first appearance, and what they stand for."""
    import pandas as pd

    codes, found = pd.factorize(np.array(names, object))
    return codes.astype(np.int64), list(found)
