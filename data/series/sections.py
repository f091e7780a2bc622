"""Time series from tables: regular, without gaps, and cut by time for training, validation, test.

options = TimeSeries(train="ett.csv", time_column="date", targets="OT")
sections = read_sections(options)
train = sections.train
train.series.values, train.series.times     # all rows; steps to forecast are in [first, end)

series = read_series(options, "new.csv", columns=trained.columns, frequency=trained.frequency)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from data.cells import clip
from data.checksum import checksum_of
from data.errors import DataError
from data.options import TimeSeries
from data.series.clock import UTC, Clock
from data.series.frequency import DAY, HOUR, MINUTE, Frequency
from data.series.gaps import fill_gaps, future_of
from data.series.grid import Grid
from data.series.stamped import (
    Columns,
    StampedRows,
    check_unique,
    find_columns,
    read_rows,
    static_of_series,
)
from data.tables.opening import describe, open_tables

if TYPE_CHECKING:  # for TensorFlow takes seconds to import
    import tensorflow as tf

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
# Deviations from 0 at which float32 has three of its seven digits left for what differs.
FAR = 10_000

ETT_SECONDS = {"ett_hour": HOUR, "ett_minute": 15 * MINUTE}


@dataclass(frozen=True, eq=False)
class SeriesSet:
    """Regular series, one after another in one array."""

    values: np.ndarray
    """float32 (rows, columns.numbers): targets, covariates, known, less `level`. NaN only in
    targets and covariates of future rows, at the end of a series that was read with `future`."""

    measured: np.ndarray
    """Booleans like `values`: False where a value was filled, or is to be forecast."""

    times: np.ndarray
    """int64 (rows,), as `clock` has them."""

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

    fill: str = "forward"
    """How values were filled, as `--data.fill` says."""

    skipped: int = 0
    """Bad rows left out."""

    clock: Clock = UTC
    """What the time column means."""

    level: Sequence[float] = ()
    """What was taken off each column, as float64, so that float32 has the digits in which its
    numbers differ; () for nothing."""

    holes: dict[str, str] = field(default_factory=dict)
    """Series -> where its future first lacks a known column: what is known of it ends there."""

    left_out: dict[str, str] = field(default_factory=dict)
    """Series of the files -> why they are not among these."""

    rounding: dict[str, str] = field(default_factory=dict)
    """What is to be said of columns whose numbers differ in digits that float32 does not have."""

    read: list[str] = field(default_factory=list)
    """The names of all series of the files, in order."""

    def raw(self, values: np.ndarray, start: int, end: int | None = None) -> np.ndarray:
        """`values` (..., some columns), those from start to end, in the units of the tables."""
        level = np.array(self.level[start:end])
        return (values.astype(np.float64) + level).astype(np.float32) if level.any() else values

    @cached_property
    def checksum(self) -> str:
        """That of all the series."""
        names = np.array(self.names, object)
        static = {f"static {name}": self.static[:, n] for n, name in enumerate(self.columns.static)}
        rows = {"values": self.values, "measured": self.measured, "times": self.times}
        return checksum_of({"names": names, "bounds": self.bounds, **rows, **static})

    @cached_property
    def truth(self) -> np.ndarray:
        """The targets, less `level`, float32 (rows, targets); NaN where they were not measured."""
        count = len(self.columns.targets)
        measured = self.measured[:, :count]
        values = self.values[:, :count]
        return values if measured.all() else np.where(measured, values, np.float32(np.nan))

    @cached_property
    def settled(self) -> np.ndarray:
        """Whether a history that ends with this row tells nothing of the rows after it.

        Lines are drawn towards what comes, and what is missing at the start of a series is taken
        from there.
        """
        past = self.measured[:, : len(self.columns.targets + self.columns.covariates)]
        if self.fill == "interpolate":
            return np.asarray(past.all(axis=1))
        if self.fill == "zero" or past.all():
            return np.ones(len(past), bool)
        rows = np.arange(len(past))[:, np.newaxis]
        latest = np.maximum.accumulate(np.where(past, rows, -1), axis=0)
        begin = np.repeat(self.bounds[:-1], np.diff(self.bounds))
        return np.asarray((latest >= begin[:, np.newaxis]).all(axis=1))

    @cached_property
    def tensors(self) -> "tuple[tf.Tensor, tf.Tensor | None]":
        """`values`, and `truth` unless all targets were measured: once for all batches of them."""
        import tensorflow as tf

        whole = self.measured[:, : len(self.columns.targets)].all()
        return tf.constant(self.values), None if whole else tf.constant(self.truth)


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the time: steps to forecast lie in [first, end), what is known of them before."""

    series: SeriesSet
    first: int
    """A time as the series have them."""
    end: int
    """A time that is not in the section."""


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
        read_series,
        options,
        sample=sample,
        columns=series.columns,
        frequency=series.frequency,
        clock=series.clock,
        level=series.level,
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
    clock: Clock | None = None,
    level: Sequence[float] | None = None,
    future: bool = False,
    tolerant: bool = False,
    split: str = "train",
) -> SeriesSet:
    """Reads series, sorts them by time and fills what is missing.

    Args:
        options: what is in the files.
        paths: as in the data options.
        sample: the path of the file that `sample` means.
        columns: those of a trained model, which must be there.
        frequency: that of a trained model, which the series must have.
        clock: what the time column means to a trained model.
        level: what a trained model wants to be taken off each column; by default what the digits of
            float32 demand.
        future: keep what comes after the last target of a series as time steps to forecast, up to
            the first row that lacks a known column; else it is left out.
        tolerant: leave out series that are not regular, unless all are.
        split: "train", "validation" or "test"; the one that `tfds:NAME` means.

    Raises:
        DataError: the data isn't there, can't be read, or is no regular series.
    """
    tables = open_tables(options, paths, split, sample)
    columns = columns or find_columns(tables, options)
    rows = read_rows(tables, options, columns, clock)
    rows = rows.take(np.lexsort((rows.times, rows.series)))
    regular = partial(
        _regular,
        options=options,
        columns=columns,
        frequency=frequency,
        level=level,
        future=future,
    )
    try:
        return replace(regular(rows), read=rows.names)
    except DataError:
        left_out = _irregular(rows, regular) if tolerant else {}
        if len(left_out) in (0, len(rows.names)):
            raise
    kept = [number for number, name in enumerate(rows.names) if name not in left_out]
    return replace(regular(rows.of(kept)), left_out=left_out, read=rows.names)


def _irregular(rows: StampedRows, regular: Callable[[StampedRows], SeriesSet]) -> dict[str, str]:
    """Which series can't be made regular, and why not; found by halves, as few of many are."""
    try:
        regular(rows)
        return {}
    except DataError as error:
        if len(rows.names) == 1:
            return {rows.names[0]: str(error)}
    halves = np.array_split(np.arange(len(rows.names)), 2)
    return {k: v for half in halves for k, v in _irregular(rows.of(half), regular).items()}


def _regular(
    rows: StampedRows,
    options: TimeSeries,
    columns: Columns,
    frequency: Frequency | None,
    level: Sequence[float] | None,
    future: bool,
) -> SeriesSet:
    """Series of rows that are in order, with what is missing filled."""
    source = describe(rows.sources)
    check_unique(rows, options)
    static = static_of_series(rows, columns)
    frequency = _frequency(rows, options, frequency, source)
    grid = Grid.of(rows, frequency)
    coming = future_of(grid, rows, columns)
    values, gaps = fill_gaps(grid, rows, columns, options.fill, coming)
    kept = ~coming.rest if future else ~(coming.rest | coming.steps)
    values, gaps = values[kept], gaps[kept]
    if level is None:
        level = _level(values)
    filled = zip(columns.numbers, gaps.sum(axis=0).tolist(), strict=True)
    counts = {"time": int(np.count_nonzero(kept[grid.absent]))} | dict(filled)
    return SeriesSet(
        values=(values - np.array(level) if any(level) else values).astype(np.float32),
        # Whoever says that nothing means 0 has measured 0.
        measured=~np.isnan(values) if options.fill == "zero" else ~(gaps | np.isnan(values)),
        times=grid.times[kept],
        bounds=grid.kept(kept),
        names=rows.names,
        columns=columns,
        static=static,
        frequency=frequency,
        source=source,
        missing={column: count for column, count in counts.items() if count},
        fill=options.fill,
        skipped=rows.skipped,
        clock=rows.clock,
        level=level,
        holes=coming.holes,
        rounding=_rounding(values, grid.kept(kept), columns, level),
    )


def _level(values: np.ndarray) -> list[float]:
    """The mean of each column that differs from its mean by a small share of it, else 0."""
    level = []
    for column in values.T:
        known = column[~np.isnan(column)]
        mean, deviation = (known.mean(), known.std()) if len(known) else (0.0, 0.0)
        # What is given back to forecasts in float32 is to be exactly what was taken off.
        level.append(float(np.float32(mean)) if _is_far(mean, deviation) else 0.0)
    return level


def _is_far(mean: Any, deviation: Any) -> Any:
    """Whether numbers with this mean are so far from 0, for what they differ by, that float32 lacks
    digits; equal numbers differ by float64's rounding at most."""
    mean = np.abs(mean)
    return (mean > FAR * deviation) & (deviation > 1e-12 * mean)


def _rounding(
    values: np.ndarray, bounds: np.ndarray, columns: Columns, level: Sequence[float]
) -> dict[str, str]:
    """The `rounding` of a set of series: of requests alone where a level was taken off, of all that
    is trained on in series that are far from the others."""
    requests, series = [], []
    for column, own, common in zip(columns.numbers, values.T, level, strict=True):
        mean, deviation = _by_series(own, bounds)
        far = _is_far(mean, deviation)
        if common:
            requests.append(f"{clip(column)} by up to {_rounded_by(common):,g}")
        elif far.any():
            most = _rounded_by(float(np.abs(mean[far]).max()))
            series.append(f"{clip(column)} of {np.count_nonzero(far):,} series by up to {most:,g}")
    found = {"float32 of requests rounds": requests, "float32 rounds": series}
    return {what: ", ".join(which) for what, which in found.items() if which}


def _by_series(column: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each series, (series,) each, of what is not NaN."""
    known = ~np.isnan(column)
    owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))[known]
    count = np.maximum(np.bincount(owner, minlength=len(bounds) - 1), 1)
    mean = np.bincount(owner, column[known], len(count)) / count
    squares = np.bincount(owner, (column[known] - mean[owner]) ** 2, len(count))
    return mean, np.sqrt(squares / count)


def _rounded_by(number: float) -> float:
    return float(np.spacing(np.float32(abs(number)))) / 2


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
        options: as for `split_series`; the validation part is the last of what comes before, also
            where validation data is named, as that may be later than a fold.
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
    edges = [first + part * (end - first) // count for part in range(count + 1)]
    alone = replace(options, validation=None)
    return [
        _sections(series, times, (start - _held_out(start, series, alone), start, stop), alone)
        for start, stop in pairwise(edges)
    ]


def _held_out(count: int, series: SeriesSet, options: TimeSeries) -> int:
    """How many of the time steps before a fold's test part are for validation."""
    fraction = options.validation_fraction
    if options.split == "fractions" or not fraction:
        return _share(count, fraction)
    train, validation, _ = _ett_cuts(series, options.split)
    return validation - train


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
            "longer series, or hold out less with --data.validation_fraction and "
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
    """Raises if a target never changes in the training part."""
    series = train.series
    inside = (series.times >= train.first) & (series.times < train.end)
    owner = np.repeat(np.arange(len(series.names)), np.diff(series.bounds))[inside]
    constant = []
    for name, values in zip(series.columns.targets, series.truth[inside].T, strict=True):
        measured = ~np.isnan(values)
        own, known = owner[measured], values[measured]
        if not ((np.diff(known) != 0) & (np.diff(own) == 0)).any():
            constant.append(clip(name))
    if not constant:
        return
    before = series.clock.text(train.end)
    if len(constant) == len(series.columns.targets):
        raise DataError(
            f"{series.source}: no target ({', '.join(constant)}) ever changes before {before}, so "
            "there is nothing to learn; name others with --data.targets."
        )
    others = f" (nor do {len(constant) - 1:,} others)" if len(constant) > 1 else ""
    raise DataError(
        f"{series.source}: target '{constant[0]}' never changes before {before}{others}, so there "
        "is nothing to learn of it; leave it out of --data.targets."
    )


def _frequency(
    rows: StampedRows, options: TimeSeries, trained: Frequency | None, source: str
) -> Frequency:
    """The frequency that is asked for, or that the rows show."""
    if options.frequency != "auto":
        named = Frequency.parse(options.frequency)
        if trained is not None and not named.agrees(trained):
            raise DataError(
                f"--data.frequency {options.frequency}: the model was trained on "
                f"'{trained.alias}'; name that, or leave the option out."
            )
        _check_index(named.index, rows, options, source)
        return named.anchored(rows.times)
    bounds = rows.bounds()
    if trained is not None and _fits(trained, rows):
        return trained
    try:
        found = Frequency.infer(rows.times, bounds, rows.clock.index)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    if trained is not None and not found.agrees(trained):
        raise DataError(
            f"{source}: time steps are '{found.alias}' apart, and the model was trained on "
            f"'{trained.alias}'; give series of that frequency."
        )
    return found


def _fits(trained: Frequency, rows: StampedRows) -> bool:
    """Whether rows are too few to tell another frequency, or are all on business days that a model
    was trained on, as those of one week are."""
    if len(rows) - len(rows.names) < 2:
        return True
    bounds = rows.bounds()
    steps, on_grid = trained.steps(rows.times[bounds[:-1]][rows.series], rows.times)
    within = np.diff(steps)[np.diff(rows.series) == 0]
    return trained.business and bool(on_grid.all() and (within == 1).mean() > 0.5)


def _check_index(index: bool, rows: StampedRows, options: TimeSeries, source: str) -> None:
    """Raises if a frequency is one of an index and times are none, or the other way round."""
    if index != rows.clock.index:
        kind = "an index, and its steps are numbers, such as 1" if rows.clock.index else "no index"
        raise DataError(
            f"{source}: --data.frequency {options.frequency}: column '{options.time_column}' is "
            f"{kind}; --data.time_unit says what numbers are."
        )
