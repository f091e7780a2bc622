"""Sequences of numbers from tables: a sequence a row, or a step a row.

    source = SequenceSource(Tables(train="moves.parquet"), ["x", "y"], "label")
    records = source.splits(seed=1).train
    records.columns["values"][0]        # float32 (steps, 2), NaN where a number is missing

In a table with a sequence a row, a cell is a list of numbers, or text with blanks or commas between
them ("1.0 2.0 3.5"); of several columns each is a feature. One column alone may hold a list a step.
In a table with a step a row, a column says which sequence a row belongs to.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data.cells import Problem, clip, tidy
from data.errors import DataError
from data.options import Tables
from data.records import CHUNK, Numbering, Records
from data.series.sections import FAR
from data.series.step_times import sortable
from data.tables.fields import Field
from data.tables.lines import LinesTable
from data.tables.opening import has_column
from data.tables.source import TableSource
from data.tables.table import Chunk, Table, WrappedTable

VALUES = "values"  # the records' key
_LARGEST = float(np.finfo(np.float32).max)


class SequenceSource(TableSource):
    """Reads records of `values`, float32 (steps, features), and a label; from tables with a step a
    row, also the sequences' `id`."""

    def __init__(
        self,
        options: Tables,
        features: Sequence[str],
        label: str,
        id: str | None = None,
        time: str | None = None,
    ):
        """Takes the options and the names of columns.

        Args:
            features: numbers, or lists of them.
            label: the label, the same at each step of a sequence.
            id: which sequence a row belongs to, in tables with a step a row.
            time: what the rows of a sequence are sorted by; they stay as they are without.
        """
        if not features:
            raise DataError("--data.feature_columns is empty; name a column of numbers at least")
        if time and not id:
            raise DataError(f"--data.time_column {time}: name the sequences' --data.id_column, too")
        named = [*features, label, *filter(None, (id, time))]
        if twice := [column for column in named if named.count(column) > 1]:
            raise DataError(f"the column '{twice[0]}' is named for two things; name each once")
        fields = {
            VALUES: Field(features[0], "sequence", option="--data.feature_columns"),
            "label": Field(label, "label", option="--data.label_column"),
        }
        if id:
            fields["id"] = Field(id, "label", option="--data.id_column")
        super().__init__(options, fields)
        self._columns = _Columns(tuple(features), id, time)

    def splits(self, seed, stratify="label"):
        self._columns.exact, self._columns.spread = True, _Spread()
        return super().splits(seed, stratify)

    def read(self, paths, preprocessor=None, **options):
        self._expect(preprocessor)
        self._columns.exact = bool(np.any(getattr(preprocessor, "level", 0)))
        return super().read(paths, preprocessor, **options)

    def requests(self, paths, preprocessor=None, echo=()):
        self._expect(preprocessor)
        self._columns.exact = False
        self._columns.echoed = frozenset(echo)
        return super().requests(paths, preprocessor, echo)

    def _expect(self, preprocessor: Any) -> None:
        """Makes the features of a trained model those of a good row."""
        self._columns.width = getattr(preprocessor, "features", None)

    def _read(self, tables, require_labels=True):
        """Numbers are float64 where those of the training data, which are read first, differ in
        digits that float32 does not have."""
        records = super()._read(tables, require_labels)
        spread, self._columns.spread = self._columns.spread, None
        if spread is None:
            return records
        coarse = spread.coarse(self._columns.features)
        self._columns.exact = bool(coarse)
        if coarse:
            return records.with_facts({"float32 of requests rounds": ", ".join(coarse)})
        if isinstance(records, Records):
            rounded = [values.astype(np.float32) for values in records.columns[VALUES]]
            columns = {VALUES: np.fromiter(rounded, object, len(rounded))}
            return replace(records, columns=records.columns | columns)
        return records

    def _prepared(self, table: Table) -> Table:
        return (StepsTable if self._columns.id else SequencesTable)(table, self._columns)

    def _lines(self, path: str, fields: dict[str, Field]) -> Table:
        first, *others = self._columns.features
        texts = {column: Field(column, required=False) for column in others}
        return SequencesTable(LinesTable(path, {VALUES: Field(first), **texts}), self._columns)


@dataclass
class _Columns:
    """What the columns are for, and how many features the first sequence has."""

    features: tuple[str, ...]
    id: str | None
    time: str | None
    width: int | None = None
    exact: bool = False  # whether numbers are float64
    spread: "_Spread | None" = None  # of all numbers, while it is wanted
    echoed: frozenset[str] = frozenset()  # need not be the same in a sequence: the first is taken

    def taken(self, sequences: list[Any]) -> list[Any]:
        """Sequences of float64, or problems, as records have them: without steps of no number at
        the end, as a served model reads them."""
        found = [_ended(values) for values in sequences]
        if self.spread is not None:
            self.spread.add([values for values in found if isinstance(values, np.ndarray)])
        if self.exact:
            return found
        return [v.astype(np.float32) if isinstance(v, np.ndarray) else v for v in found]


class _Spread:
    """Mean and deviation of each feature, of numbers that are read in parts."""

    def __init__(self) -> None:
        self._count: Any = 0
        self._sum: Any = 0.0
        self._squares: Any = 0.0
        self._around: np.ndarray | None = None  # near to all, so that squares keep their digits

    def add(self, sequences: list[np.ndarray]) -> None:
        """Takes arrays (steps, features)."""
        if not sequences:
            return
        values = np.concatenate(sequences)
        if self._around is None:
            first = np.argmax(~np.isnan(values), axis=0)
            self._around = np.nan_to_num(values[first, np.arange(values.shape[1])])
        off = values - self._around
        self._count += np.count_nonzero(~np.isnan(off), axis=0)
        self._sum += np.nansum(off, axis=0)
        self._squares += np.nansum(off**2, axis=0)

    def coarse(self, names: Sequence[str]) -> list[str]:
        """The features whose numbers differ by a small share of them, and what float32 does to
        them, in words."""
        if self._around is None:
            return []
        mean = self._sum / np.maximum(self._count, 1)
        deviation = np.sqrt(np.maximum(self._squares / np.maximum(self._count, 1) - mean**2, 0))
        level = np.abs(self._around + mean)
        if len(level) > len(names):  # of one column with lists
            names = [f"{names[0]}[{index}]" for index in range(len(level))]
        return [
            f"{clip(names[i])} by up to {np.spacing(np.float32(level[i])) / 2:,g}"
            for i in np.flatnonzero((level > FAR * deviation) & (deviation > 0)).tolist()
        ]


@dataclass(frozen=True)
class _Sequenced(WrappedTable):
    """A table of which the column of the first feature has the arrays of all."""

    own: _Columns

    def columns(self) -> list[str]:
        """The table's columns; those of features and steps must be among them."""
        columns = self.table.columns()
        options = dict.fromkeys(self.own.features, "--data.feature_columns")
        options |= {
            self.own.id or "": "--data.id_column",
            self.own.time or "": "--data.time_column",
        }
        for column, option in options.items():
            if column:
                has_column(self.table, columns, Field(column, option=option))
        return columns


class SequencesTable(_Sequenced):
    """A table with a sequence a row."""

    def columns(self) -> list[str]:
        # Whichever of them a line of JSON turns out to have.
        return self.table.columns() if isinstance(self.table, LinesTable) else super().columns()

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        first = self.own.features[0]
        others = [column for column in columns if column != first]
        for chunk in self.table.chunks([*self.own.features, *others], size):
            features = zip(*(chunk.cells[name] for name in self.own.features), strict=True)
            values = [_or_problem(self._sequence(cells)) for cells in features]
            values = self.own.taken(values)
            cells = {name: chunk.cells[name] for name in others}
            yield Chunk(chunk.rows, {**cells, first: values}, chunk.broken)

    def _sequence(self, cells: Sequence[Any]) -> np.ndarray | str:
        """A row's numbers, (steps, features), or what is wrong with them."""
        names = self.own.features
        if wrong := next((cell for cell in cells if isinstance(cell, Problem)), None):
            return wrong
        if len(names) > 1 and all(cell is None for cell in cells[1:]):
            whole = to_sequence(cells[0])  # `values` of a request, with all features in it
            if not isinstance(whole, str) and whole.shape[1] == len(names):
                return whole
        parts: list[np.ndarray] = []
        for name, cell in zip(names, cells, strict=True):
            part = to_sequence(cell)
            if isinstance(part, str):
                return f"column '{name}' {part}"
            if len(names) > 1 and part.shape[1] > 1:
                return f"column '{name}' has {part.shape[1]} numbers a step, not one"
            if parts and len(part) != len(parts[0]):
                return (
                    f"column '{name}' has {len(part)} steps where '{names[0]}' has {len(parts[0])}"
                )
            parts.append(part)
        values = np.concatenate(parts, axis=1)
        self.own.width = self.own.width or values.shape[1]
        if values.shape[1] != self.own.width:
            found, wanted = values.shape[1], self.own.width
            return f"column '{names[0]}' has {found} numbers a step where others have {wanted}"
        return values


class StepsTable(_Sequenced):
    """A table with a step a row, which is read whole; a sequence is in one file.

    A sequence is named by its first row. One with a bad row is bad, by that row.
    """

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        first = self.own.features[0]
        steps = self._read([column for column in columns if column != first])
        values = [
            Problem(f"{self.where(steps.bad[name][0])}: {steps.bad[name][1]}")
            if name in steps.bad
            else found
            for name, found in zip(steps.names, self.own.taken(steps.values), strict=True)
        ]
        broken = sorted(steps.broken)
        for start in range(0, max(len(values), 1), size):
            part = slice(start, start + size)
            rows = steps.rows[part]
            cells: dict[str, list[Any]] = {column: c[part] for column, c in steps.shared.items()}
            last = part.stop >= len(values)
            now = [bad for bad in broken if last or bad[0] < rows[-1]]
            yield Chunk(rows, {**cells, first: values[part]}, now)
            broken = broken[len(now) :]

    def _read(self, shared: Sequence[str]) -> "_Sequences":
        """All sequences; cells of the `shared` columns must be the same within each."""
        steps = _Steps(self.own, shared)
        wanted = dict.fromkeys([*self.own.features, self.own.id, self.own.time, *shared])
        for chunk in self.table.chunks([column for column in wanted if column], CHUNK):
            steps.add(chunk)
        return steps.sequences()


@dataclass
class _Sequences:
    """Sequences, by the same positions in each list, and what is wrong with some."""

    names: list[str]
    rows: list[int]  # each one's first
    values: list[np.ndarray]
    shared: dict[str, list[Any]]
    bad: dict[str, tuple[int, str]]  # name -> row, problem
    broken: list[tuple[int, str]]  # rows of no sequence


@dataclass
class _Steps:
    """Steps of sequences, as they are read."""

    own: _Columns
    shared: Sequence[str]
    numbering: Numbering = field(default_factory=Numbering)
    codes: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    times: list[Any] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # the rows of all steps, where they have times
    rows: dict[str, int] = field(default_factory=dict)
    firsts: dict[str, dict[str, Any]] = field(default_factory=dict)
    bad: dict[str, tuple[int, str]] = field(default_factory=dict)
    broken: list[tuple[int, str]] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """Takes the steps of a chunk of a table."""
        names, nameless = Field(self.own.id or "", "label").convert(chunk.cells[self.own.id or ""])
        self.broken += chunk.broken
        self.broken += [(chunk.rows[index], why) for index, why in nameless.items()]
        kept = [index for index, name in enumerate(names) if name is not None]
        names = [names[index] for index in kept]
        rows = [chunk.rows[index] for index in kept]
        cells = {column: [found[index] for index in kept] for column, found in chunk.cells.items()}
        self.codes.append(self.numbering.encode(np.array(names, object)))
        numbers = [
            self._numbers(column, cells[column], names, rows) for column in self.own.features
        ]
        self.values.append(np.stack(numbers, axis=1))
        if self.own.time:
            self.times += cells[self.own.time]
            self.numbers += rows
        for name, row in zip(names, rows, strict=True):
            self.rows.setdefault(name, row)
        for column in self.shared:
            self._share(column, cells[column], names, rows)

    def sequences(self) -> _Sequences:
        """All that were added, by first appearance."""
        names = self.numbering.names
        if not names:
            return _Sequences([], [], [], {column: [] for column in self.shared}, {}, self.broken)
        codes = np.concatenate(self.codes)
        keys = (self._times(codes), codes) if self.own.time else (codes,)
        order = np.lexsort(keys)  # stable
        ends = np.cumsum(np.bincount(codes))[:-1]
        return _Sequences(
            names,
            [self.rows[name] for name in names],
            np.split(np.concatenate(self.values)[order], ends),
            {column: [self.firsts[column][name] for name in names] for column in self.shared},
            self.bad,
            self.broken,
        )

    def _times(self, codes: np.ndarray) -> np.ndarray:
        """What the steps are sorted by; those whose time is none make their sequences bad."""
        order, problems = sortable(self.times, codes)
        for index, why in problems.items():
            name = self.numbering.names[codes[index]]
            found = (self.numbers[index], f"column '{self.own.time}' {why}")
            self.bad[name] = min(self.bad.get(name, found), found)
        return order

    def _numbers(
        self, column: str, cells: list[Any], names: list[str], rows: list[int]
    ) -> np.ndarray:
        """A column's numbers, float64: NaN where it has NaN or nothing, which is no problem."""
        values, problems = Field(column, "number", required=False).convert(cells)
        for index, why in problems.items():
            if not _is_nan(cells[index]):
                self.bad.setdefault(names[index], (rows[index], why))
        return np.array(values, np.float64)

    def _share(self, column: str, cells: list[Any], names: list[str], rows: list[int]) -> None:
        """Sees to it that a sequence has one value of a column."""
        firsts = self.firsts.setdefault(column, {})
        for name, row, cell in zip(names, rows, cells, strict=True):
            first = firsts.setdefault(name, cell)
            if cell == first or _plain(cell) == _plain(first):
                continue
            if name not in self.bad and column not in self.own.echoed:
                why = (
                    f"column '{column}' is '{clip(str(cell))}' where the sequence '{clip(name)}' "
                    f"has '{clip(str(first))}' before"
                )
                self.bad[name] = (row, why)


def _or_problem(found: np.ndarray | str) -> np.ndarray | Problem:
    return Problem(found) if isinstance(found, str) else found


def _ended(values: Any) -> Any:
    """A sequence without steps of no number at its end; a problem if it has no number at all."""
    if not isinstance(values, np.ndarray) or not np.isnan(values[-1]).all():
        return values
    some = np.flatnonzero(~np.isnan(values).all(axis=1))
    return values[: some[-1] + 1] if len(some) else Problem("a sequence without a number")


def _plain(cell: Any) -> Any:
    """A cell as labels are compared."""
    return tidy(cell) if isinstance(cell, str) else cell


def _is_nan(cell: Any) -> bool:
    return isinstance(cell, str) and cell.strip().lower() == "nan"


def to_sequence(cell: Any) -> np.ndarray | str:
    """The numbers of a cell as float64 (steps, features), or what is wrong with it, in words.

    A cell is a list of numbers, a list of such lists, text of either as JSON, or text of numbers
    with blanks or commas between them. A number may be missing: NaN, or null in a list.
    """
    if isinstance(cell, str):
        cell = _parsed(cell)
        if isinstance(cell, str):
            return cell
    if cell is None or (isinstance(cell, float) and cell != cell):
        return "is empty"
    try:
        array = np.asarray(cell)
        if array.dtype == object and all(_is_number(part) for part in array.ravel()):
            array = array.astype(np.float64)
    except ValueError:
        return "has steps of unequal numbers of features"
    except OverflowError:
        pass  # an integer of JSON has as many digits as it likes
    if array.size == 0:
        return "is empty"
    if array.dtype.kind not in "iufb" or array.ndim > 2:
        return f"is {clip(repr(cell))}, not a list of numbers"
    values = array.astype(np.float64).reshape(len(array) if array.ndim else 1, -1)
    wrong = (np.abs(values) > _LARGEST).any(axis=1)
    if wrong.any():
        step = int(np.argmax(wrong))
        numbers = ", ".join(map(str, values[step].tolist()))
        return f"has {numbers} at step {step + 1}, not a finite number"
    return values


def _is_number(part: Any) -> bool:
    """Whether part of a list is a number or null."""
    return part is None or isinstance(part, int | float)


def _parsed(text: str) -> list[Any] | str | None:
    """The numbers in a text, None for one that is blank, or what is wrong with it."""
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return f"is {clip(text)!r}, not a list of numbers in JSON"
    numbers: list[float] = []
    for part in text.replace(",", " ").split():
        try:
            numbers.append(float(part.replace("_", "?")))
        except ValueError:
            return f"has {clip(part)!r} at step {len(numbers) + 1}, not a number"
    return numbers or None
