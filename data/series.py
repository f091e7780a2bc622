"""Time series from tables: regular, without gaps, and cut by time for training, validation, test.

options = TimeSeries(train="ett.csv", time_column="date", targets="OT")
sections = read_sections(options)
train = sections.train
train.series.values, train.series.times     # all rows; steps to forecast are in [first, end)

series = read_series(options, "new.csv", columns=trained.columns, frequency=trained.frequency)
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from data.errors import DataError
from data.fields import clip
from data.frequency import DAY, HOUR, MINUTE, Frequency
from data.gaps import fill_gaps
from data.grid import Grid
from data.options import TimeSeries
from data.stamped import (
    Columns,
    StampedRows,
    check_unique,
    find_columns,
    read_rows,
    static_of_series,
)
from data.stamps import stamp_text
from data.tables import describe, open_tables

__all__ = [
    "Columns",
    "Section",
    "Sections",
    "SeriesSet",
    "folds",
    "read_sections",
    "read_series",
    "split_series",
    "whole",
]

# Where the parts of the ETT benchmark end: after 12, 4 and 4 months of 30 days.
ETT_DAYS = (360, 480, 600)
ETT_SECONDS = {"ett_hour": HOUR, "ett_minute": 15 * MINUTE}


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """Regular series, one after another in one array."""

    values: np.ndarray
    """float32 (rows, columns.numbers): targets, covariates, known. NaN only in targets and
    covariates of future rows, which are at the end of a series that was read with `future`."""

    times: np.ndarray
    """int64 (rows,) seconds since 1970-01-01 UTC."""

    bounds: np.ndarray
    """int64 (series + 1,): series i has the rows bounds[i]:bounds[i + 1]."""

    names: list[str]
    """What the series are called; [""] for a single one."""

    columns: Columns
    """What the columns are for."""

    static: np.ndarray
    """Objects (series, columns.static): text; "" where none is given."""

    frequency: Frequency
    """The step from a row to the next."""

    source: str
    """What to call the series in messages and reports."""

    missing: dict[str, int]
    """Column -> values that were filled, "time" -> time steps that were absent; above 0 only."""

    skipped: int = 0
    """Bad rows left out."""


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the time: steps to forecast lie in [first, end), what is known of them before."""

    series: SeriesSet
    first: int
    """Seconds since 1970-01-01 UTC."""
    end: int
    """Seconds since 1970-01-01 UTC, not in the section."""


@dataclass(frozen=True, eq=False)
class Sections:
    """The data of a run."""

    train: Section
    validation: Section | None = None
    test: Section | None = None


def read_sections(options: TimeSeries, sample: str | None = None) -> Sections:
    """Reads training, validation and test data; what isn't named is held out of the training data.

    Args:
        options: the files and what is in them.
        sample: the path of the file that `sample` means.

    Raises:
        DataError: the data isn't there, can't be read, or can't be trained on.
    """
    if not options.train:
        raise DataError("No training data; name it with --data.train FILE.")
    series = read_series(options, options.train, sample)
    sections = split_series(series, options)
    read = partial(
        read_series, options, sample=sample, columns=series.columns, frequency=series.frequency
    )
    validation, test = sections.validation, sections.test
    if options.validation:
        validation = whole(read(options.validation, split="validation"))
    if options.test:
        test = whole(read(options.test, split="test"))
    return Sections(sections.train, validation, test)


def read_series(
    options: TimeSeries,
    paths: str | list[str],
    sample: str | None = None,
    *,
    columns: Columns | None = None,
    frequency: Frequency | None = None,
    future: bool = False,
    split: str = "train",
) -> SeriesSet:
    """Reads series, sorts them by time and fills what is missing.

    Args:
        options: what is in the files.
        paths: as in the data options.
        sample: the path of the file that `sample` means.
        columns: those of a trained model, which must be there.
        frequency: that of a trained model, which the series must have.
        future: keep rows at the end of a series with no target, but with all known columns, as time
            steps to forecast.
        split: "train", "validation" or "test"; the one that `tfds:NAME` means.

    Raises:
        DataError: the data isn't there, can't be read, or is no regular series.
    """
    tables = open_tables(options, paths, split, sample)
    columns = columns or find_columns(tables, options)
    source = describe(tables)
    rows = read_rows(tables, options, columns)
    rows = rows.take(np.lexsort((rows.times, rows.series)))
    check_unique(rows, options)
    static = static_of_series(rows, columns)
    frequency = _frequency(rows, options, frequency, source)
    grid = Grid.of(rows, frequency)
    values, filled = fill_gaps(grid, rows, columns, options.fill, future)
    counts = {"time": len(grid.absent)} | filled
    return SeriesSet(
        values=values,
        times=grid.times,
        bounds=grid.bounds,
        names=rows.names,
        columns=columns,
        static=static,
        frequency=frequency,
        source=source,
        missing={column: count for column, count in counts.items() if count},
        skipped=rows.skipped,
    )


def whole(series: SeriesSet) -> Section:
    """The section of all of the time that series have."""
    first, last = int(series.times.min()), int(series.times.max())
    return Section(series, first, int(series.frequency.shift(last, 1)))


def split_series(series: SeriesSet, options: TimeSeries) -> Sections:
    """Cuts training data by time into the parts that no data is named for.

    Raises:
        DataError: the series are too short, or the training part has nothing to learn.
    """
    times = np.unique(series.times)
    if options.split != "fractions":
        return _sections(series, times, _ett_cuts(series, options.split), options)
    count = len(times)
    test = 0 if options.test else _share(count, options.test_fraction)
    validation = 0 if options.validation else _share(count, options.validation_fraction)
    return _sections(series, times, (count - test - validation, count - test, count), options)


def folds(series: SeriesSet, options: TimeSeries, count: int, horizon: int) -> list[Sections]:
    """Cuts the test part into equal parts: each is forecast by a model trained on all before it.

    Args:
        series: the training data.
        options: as for `split_series`; the validation part is the last of what comes before.
        count: how many parts.
        horizon: time steps that are forecast at once; a part has as many at least.

    Raises:
        DataError: there is no test part, or it is too short.
    """
    test = split_series(series, options).test
    if test is None:
        raise DataError(
            "--data.backtest_folds needs a part of the training data for test; give a "
            "--data.test_fraction above 0, and no --data.test."
        )
    times = np.unique(series.times)
    first, end = np.searchsorted(times, [test.first, test.end]).tolist()
    if (end - first) // count < horizon:
        raise DataError(
            f"--data.backtest_folds {count}: the test part has {end - first} time steps, too few "
            f"for {count} forecasts of {horizon}; take fewer folds or a larger "
            "--data.test_fraction."
        )
    share = 0 if options.validation else options.validation_fraction
    edges = [first + part * (end - first) // count for part in range(count + 1)]
    return [
        _sections(series, times, (start - _share(start, share), start, stop), options)
        for start, stop in pairwise(edges)
    ]


def _share(count: int, fraction: float) -> int:
    """How many of some time steps a fraction is; at least one unless it is 0."""
    return max(1, round(count * fraction)) if fraction else 0


def _ett_cuts(series: SeriesSet, split: str) -> tuple[int, int, int]:
    """Where the parts of the ETT benchmark end, in rows."""
    frequency = Frequency(ETT_SECONDS[split])
    if len(series.names) > 1 or series.frequency != frequency:
        raise DataError(
            f"{series.source}: --data.split {split} is for a single series with steps of "
            f"'{frequency.alias}', not for {len(series.names)} of '{series.frequency.alias}'; "
            "take --data.split fractions."
        )
    train, validation, test = (days * DAY // frequency.seconds for days in ETT_DAYS)
    if len(series.times) < test:
        raise DataError(
            f"{series.source}: --data.split {split} needs {test:,} time steps, and there are "
            f"{len(series.times):,}; take --data.split fractions."
        )
    return train, validation, test


def _sections(
    series: SeriesSet, times: np.ndarray, cuts: tuple[int, int, int], options: TimeSeries
) -> Sections:
    """The sections that end before cuts[0], cuts[1] and cuts[2], as positions in `times`."""
    if cuts[0] < 2:
        raise DataError(
            f"{series.source}: {len(times)} time steps leave {max(cuts[0], 0)} to train on; give "
            " longer series, or hold out less with --data.validation_fraction and "
            "--data.test_fraction."
        )
    edges = np.append(times, series.frequency.shift(times[-1], 1)).tolist()
    train, validation, test = (
        Section(series, edges[start], edges[end]) for start, end in pairwise((0, *cuts))
    )
    _check_changing(train)
    return Sections(
        train,
        None if options.validation or cuts[0] == cuts[1] else validation,
        None if options.test or cuts[1] == cuts[2] else test,
    )


def _check_changing(train: Section) -> None:
    """Raises if no target ever changes in the training part."""
    series = train.series
    targets = series.values[:, : len(series.columns.targets)]
    inside = (series.times >= train.first) & (series.times < train.end)
    pairs = inside[1:] & inside[:-1]
    pairs[series.bounds[1:-1] - 1] = False
    if not ((targets[1:] != targets[:-1]).any(axis=1) & pairs).any():
        names = ", ".join(map(clip, series.columns.targets))
        raise DataError(
            f"{series.source}: no target ({names}) ever changes before {stamp_text(train.end)}, so "
            "there is nothing to learn; name others with --data.targets."
        )


def _frequency(
    rows: StampedRows, options: TimeSeries, trained: Frequency | None, source: str
) -> Frequency:
    """The frequency that is asked for, or that the rows show."""
    if trained is None and options.frequency != "auto":
        return Frequency.parse(options.frequency)
    bounds = rows.bounds()
    if trained is not None and len(rows) - len(rows.names) < 2:
        return trained
    try:
        found = Frequency.infer(rows.times, bounds)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    if trained is not None and not found.agrees(trained):
        raise DataError(
            f"{source}: time steps are '{found.alias}' apart, and the model was trained on "
            f"'{trained.alias}'; give series of that frequency."
        )
    return found
