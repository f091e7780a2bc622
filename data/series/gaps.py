"""What is missing in series on a grid: said, or filled and counted.

values, gaps = fill_gaps(grid, rows, columns, "interpolate", future_of(grid, rows, columns))
filled = fill(values[:, 0], grid.bounds, "interpolate")
"""

from dataclasses import dataclass

import numpy as np

from data.errors import DataError
from data.series.grid import Grid
from data.series.stamped import Columns, StampedRows, of_series
from data.tables.opening import describe


@dataclass(frozen=True, eq=False)
class Future:
    """What a grid has after the last measurement of each series."""

    steps: np.ndarray
    """Booleans (steps,): to be forecast, with all that is known of them."""

    rest: np.ndarray
    """Booleans (steps,): from the first on that lacks a known column, of no use."""

    holes: dict[str, str]
    """Series -> where that is: "a.csv, row 12: column 'holiday' is empty"."""


def future_of(grid: Grid, rows: StampedRows, columns: Columns) -> Future:
    """Which steps come after the last ones of their series that have a target; one that has no row
    is to be filled if one with a whole row follows."""
    values = grid.spread(rows.values)
    known = values[:, values.shape[1] - len(columns.known) :]
    after = grid.after(~np.isnan(values[:, : len(columns.targets)]).all(axis=1))
    absent = np.zeros(len(after), bool)
    absent[grid.absent] = True
    holes = after & ~absent & np.isnan(known).any(axis=1)
    before = np.cumsum(holes) - np.repeat(grid.kept(holes)[:-1], np.diff(grid.bounds))
    whole = after & ~absent & (before == 0)
    steps = after & ~grid.after(whole | ~after)
    named = {}
    for step in np.flatnonzero(holes & (before == 1)):
        row = int(np.flatnonzero(grid.positions == step)[0])
        column = columns.known[int(np.argmax(np.isnan(known[step])))]
        where = f"{rows.where(row)}: column '{column}' has no finite number"
        named[rows.names[grid.series_of(int(step))]] = where
    return Future(steps, after & ~steps, named)


def fill_gaps(
    grid: Grid, rows: StampedRows, columns: Columns, how: str, future: Future
) -> tuple[np.ndarray, np.ndarray]:
    """The rows' values on the grid, without gaps, and which of them were filled, booleans.

    Args:
        grid: of the rows.
        rows: in the order of series and time.
        columns: of the rows.
        how: as for `fill`, or "error".
        future: of the rows; its targets and covariates stay NaN.

    Raises:
        DataError: a value is missing and is not to be, or can't be, filled.
    """
    values = grid.spread(rows.values)
    past = values[:, : len(columns.targets + columns.covariates)]
    past[future.steps | future.rest] = np.nan
    gaps = np.isnan(values)
    _check_columns(gaps, rows, columns)
    gaps[future.steps, : past.shape[1]] = False
    gaps[future.rest] = False
    if how == "error":
        _check_complete(gaps, grid, rows, columns)
    for number in np.flatnonzero(gaps.any(axis=0)):
        missing = gaps[:, number]
        values[missing, number] = fill(values[:, number], grid.bounds, how)[missing]
    _check_filled(gaps & np.isnan(values), grid, rows, columns)
    return values, gaps


def fill(column: np.ndarray, bounds: np.ndarray, how: str) -> np.ndarray:
    """The column without NaN, but where a series has no value at all and `how` needs one.

    Args:
        column: floats (steps,).
        bounds: as a grid has them; no series is empty.
        how: "forward", the value before, at the start the one after; "interpolate", a line between
            the two; or "zero".
    """
    known = ~np.isnan(column)
    if how == "zero":
        return np.where(known, column, column.dtype.type(0))
    steps = np.arange(len(column))
    lengths = np.diff(bounds)
    before = np.maximum.accumulate(np.where(known, steps, -1))
    after = np.minimum.accumulate(np.where(known, steps, len(steps))[::-1])[::-1]
    at_start = before < np.repeat(bounds[:-1], lengths)
    at_end = after >= np.repeat(bounds[1:], lengths)
    first = np.where(at_start, np.minimum(after, len(steps) - 1), before)
    last = np.where(at_end | (how == "forward"), first, after)
    share = (steps - first) / np.maximum(last - first, 1)
    filled = column[first] * (1 - share) + column[last] * share
    return np.where(at_start & at_end, np.nan, filled).astype(column.dtype)


def _check_columns(gaps: np.ndarray, rows: StampedRows, columns: Columns) -> None:
    """Raises if a column has no number in any row."""
    empty = gaps.all(axis=0)
    if empty.any():
        column = columns.numbers[int(np.argmax(empty))]
        raise DataError(
            f"{describe(rows.sources)}: column '{column}' has no number in any row; leave it out: "
            "name the other columns with --data.targets, --data.covariates or --data.known."
        )


def _check_complete(gaps: np.ndarray, grid: Grid, rows: StampedRows, columns: Columns) -> None:
    """Raises if a step or a value is missing."""
    ask = "or have them filled with --data.fill forward, interpolate or zero."
    absent = grid.absent
    if len(absent):
        name = of_series(rows.names[grid.series_of(absent[0])])
        raise DataError(
            f"{describe(rows.sources)}: no row for {rows.clock.text(grid.times[absent[0]])}{name}"
            f"{_in_all(absent, 'time steps are absent')}; add them, {ask}"
        )
    found, numbers = np.nonzero(gaps[grid.positions])
    if len(found):
        row = rows.first(found)
        column = columns.numbers[numbers[np.flatnonzero(found == row)[0]]]
        raise DataError(
            f"{rows.where(row)}: column '{column}' has no finite number"
            f"{_in_all(found, 'values are missing')}; give them, {ask}"
        )


def _check_filled(left: np.ndarray, grid: Grid, rows: StampedRows, columns: Columns) -> None:
    """Raises if a column has no value in a series from which others could be filled."""
    if left.any():
        step, number = np.argwhere(left)[0]
        raise DataError(
            f"{describe(rows.sources)}: column '{columns.numbers[number]}' has no number in any "
            f"row{of_series(rows.names[grid.series_of(step)])}; leave the series or the column "
            "out, or take 0 for it with --data.fill zero."
        )


def _in_all(found: np.ndarray, what: str) -> str:
    return f" ({len(found):,} {what})" if len(found) > 1 else ""
