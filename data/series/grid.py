"""A regular grid of time steps for rows that have gaps.

grid = Grid.of(rows, frequency)         # rows in the order of series and time
values = grid.spread(rows.values)       # NaN where a step has no row
"""

from dataclasses import dataclass

import numpy as np

from data.errors import DataError
from data.series.frequency import Frequency, advice
from data.series.stamped import StampedRows

# Time steps there may be for each row, and beside: one stamp of a wrong century makes millions.
SPARSEST, SPARE = 50, 10_000


@dataclass(frozen=True, eq=False)
class Grid:
    """The time steps of some series, one after another."""

    times: np.ndarray
    """int64 (steps,), as the rows' clock has them."""

    bounds: np.ndarray
    """int64 (series + 1,): series i has the steps bounds[i]:bounds[i + 1]."""

    positions: np.ndarray
    """int64 (rows,): the step of each row."""

    @classmethod
    def of(cls, rows: StampedRows, frequency: Frequency) -> "Grid":
        """All steps from the first to the last row of each series.

        Raises:
            DataError: a row is between two steps, or nearly all steps have none.
        """
        bounds = rows.bounds()
        starts = rows.times[bounds[:-1]]
        steps, on_grid = frequency.steps(starts[rows.series], rows.times)
        if not on_grid.all():
            _raise_off_grid(rows, np.flatnonzero(~on_grid), frequency)
        lengths = steps[bounds[1:] - 1] + 1
        if lengths.sum() > SPARSEST * len(rows) + SPARE:
            _raise_sparse(rows, int(lengths.sum()), frequency)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
        times = frequency.shift(np.repeat(starts, lengths), within)
        return cls(times, ends, ends[rows.series] + steps)

    @property
    def absent(self) -> np.ndarray:
        """The steps that have no row."""
        absent = np.ones(len(self.times), bool)
        absent[self.positions] = False
        return np.flatnonzero(absent)

    def series_of(self, step: int) -> int:
        """The series that a step is of."""
        return int(np.searchsorted(self.bounds, step, "right")) - 1

    def spread(self, values: np.ndarray) -> np.ndarray:
        """The rows' values (rows, columns) at their steps, NaN at the others."""
        spread = np.full((len(self.times), values.shape[1]), np.nan, values.dtype)
        spread[self.positions] = values
        return spread

    def after(self, measured: np.ndarray) -> np.ndarray:
        """Which steps come after the last measured one of their series, if it has any.

        Args:
            measured: booleans (steps,).
        """
        starts, lengths = self.bounds[:-1], np.diff(self.bounds)
        steps = np.arange(len(self.times))
        last = np.maximum.reduceat(np.where(measured, steps, -1), starts)
        return (steps > np.repeat(last, lengths)) & np.repeat(last >= 0, lengths)

    def kept(self, steps: np.ndarray) -> np.ndarray:
        """`bounds` when of all steps only those are kept for which booleans (steps,) are true."""
        return np.concatenate([[0], np.cumsum(steps)])[self.bounds]


def _raise_off_grid(rows: StampedRows, off: np.ndarray, frequency: Frequency) -> None:
    row = rows.first(off)
    start = rows.times[rows.bounds()[rows.series[row]]]
    others = f" ({len(off):,} such rows)" if len(off) > 1 else ""
    raise DataError(
        f"{rows.where(row)}: {rows.moment(row)} is not a whole number of steps of "
        f"'{frequency.alias}' after the first time stamp, {rows.clock.text(start)}{others}; "
        f"correct them{advice(rows.times, rows.bounds(), rows.clock.index)}."
    )


def _raise_sparse(rows: StampedRows, steps: int, frequency: Frequency) -> None:
    gaps = np.where(np.diff(rows.series) == 0, np.diff(rows.times), 0)
    row = int(np.argmax(gaps))
    raise DataError(
        f"{rows.where(row + 1)}: {rows.moment(row + 1)} leaves a gap after {rows.where(row)}, "
        f"{rows.clock.text(rows.times[row])}; with steps of '{frequency.alias}' there would be "
        f"{steps:,} for {len(rows):,} rows. Correct the time stamps, or name another frequency "
        "with --data.frequency."
    )
