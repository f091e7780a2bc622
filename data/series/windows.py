"""Windows of time series: a history and the steps that come after it, cut when they are asked for.

windows = Windows(sections.train, window=96, horizon=24)
inputs, targets = next(iter(windows.batches(preprocessor).training(32, seed=0)))

A window is one number, the row of its first step to forecast, so windows that overlap take no more
memory than the series itself. What is forecast lies within the section; the history may begin
before it, as it would in production.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from data.batching import Batch, Batches
from data.errors import DataError
from data.options import TimeSeries
from data.preprocessing import Preprocessor
from data.records import CHUNK, Asked, Records, Requests
from data.series.preprocessor import ForecastPreprocessor
from data.series.raw_lines import REQUESTS, raw_records
from data.series.sections import (
    Section,
    Sections,
    SeriesSet,
    folds,
    read_sections,
    read_series,
    whole,
)
from data.series.stamped import is_missing
from data.splits import Splits
from data.tables.lines import STDIN


@dataclass(frozen=True, eq=False)
class Windows:
    """The records of a forecasting task, one a window."""

    section: Section
    window: int
    horizon: int
    season: int
    origins: np.ndarray
    """int64 (windows,): the row of each window's first step to forecast, which may be one behind a
    series' last where nothing is known of the future."""

    left_out: int = 0
    """Other windows, that have nothing measured to forecast, or a history that tells of it."""

    @classmethod
    def of(
        cls, section: Section, window: int, horizon: int, season: int = 1, split: str = "training"
    ) -> "Windows":
        """All windows of a section that have something measured to forecast, and a history that
        tells nothing of it.

        Args:
            section: the part of the time that is to be forecast.
            window, horizon: steps of the history and of the forecast.
            season: steps of a season.
            split: what to call the section in messages.

        Raises:
            DataError: there is none; the message says what is too short, and for what.
        """
        series = section.series
        rows = np.arange(len(series.times))
        owner = np.searchsorted(series.bounds, rows, "right") - 1
        first, end = series.bounds[owner], series.bounds[owner + 1]
        last = np.minimum(rows + horizon, len(rows)) - 1
        within = (rows - window >= first) & (rows + horizon <= end)
        within &= (series.times >= section.first) & (series.times[last] < section.end)
        if not within.any():
            _raise_too_short(section, window, horizon, split)
        origins = rows[within]
        before = np.cumsum(~np.isnan(series.truth).all(axis=1))
        usable = before[origins + horizon - 1] > before[origins - 1]
        usable &= series.settled[origins - 1]
        if not usable.any():
            since = series.clock.text(section.first)
            raise DataError(
                f"{series.source}: nothing was measured to tell forecasts of the {split} part by, "
                f"from {since} on; give more data, leave out columns that were rarely measured, or "
                "take another --data.fill."
            )
        left_out = int(np.count_nonzero(~usable))
        return cls(section, window, horizon, season, origins[usable], left_out)

    @classmethod
    def latest(
        cls,
        series: SeriesSet,
        window: int,
        horizon: int,
        season: int = 1,
        left_out: dict[str, str] | None = None,
    ) -> "Windows":
        """The window of each series whose history is the latest.

        Args:
            series: with what is known of the future at the ends.
            window, horizon: steps of the history and of the forecast.
            season: steps of a season.
            left_out: where to name series that can't be forecast, and why, which are left out,
                unless all are.

        Raises:
            DataError: a series is shorter than the history, or lacks what must be known of the
                future.
        """
        targets = series.values[:, : len(series.columns.targets)]
        missing = np.isnan(targets).all(axis=1)
        origins, problems = [], {}
        for number, name in enumerate(series.names):
            begin, end = series.bounds[number : number + 2]
            origin = end - int(missing[begin:end].sum())
            if origin - begin < window:
                problems[name] = (
                    f"{origin - begin} time steps, and the model looks at the latest {window}; "
                    "give longer series."
                )
            elif series.columns.known and end - origin < horizon:
                hole = f" ({series.holes[name]})" if name in series.holes else ""
                problems[name] = (
                    f"{end - origin} rows of the future{hole}, and the model needs "
                    f"{', '.join(series.columns.known)} for {horizon} time steps; add rows at the "
                    "end with these columns, and the targets empty."
                )
            else:
                origins.append(origin)
        if problems and (left_out is None or not origins):
            name, problem = next(iter(problems.items()))
            raise DataError(f"{_where(series, name)}: {problem}")
        if left_out is not None:
            left_out |= problems
        return cls(whole(series), window, horizon, season, np.array(origins))

    def __len__(self) -> int:
        return len(self.origins)

    def take(self, indices: np.ndarray | slice) -> "Windows":
        """The windows at `indices`, in that order."""
        return replace(self, origins=self.origins[indices])

    @property
    def series(self) -> SeriesSet:
        """The series that the windows are cut from."""
        return self.section.series

    @property
    def skipped(self) -> int:
        """Bad rows left out."""
        return self.series.skipped

    @property
    def source(self) -> str:
        """What to call the records in messages and reports."""
        return self.series.source

    @property
    def checksum(self) -> str:
        """That of all the series."""
        return self.series.checksum

    @property
    def facts(self) -> dict[str, Any]:
        """What else is worth saying of all the data."""
        series = self.series
        facts: dict[str, Any] = {"frequency": series.frequency.alias, "season": self.season}
        if series.clock.zone:
            facts["time zone"] = series.clock.zone
        if len(series.names) > 1:
            facts["series"] = len(series.names)
        short = np.count_nonzero(np.diff(series.bounds) < self.window + self.horizon)
        if short:
            facts["series too short"] = int(short)
        if self.left_out:
            facts["windows left out"] = self.left_out
        facts |= series.rounding
        for column, cells in zip(series.columns.static, series.static.T, strict=True):
            if count := sum(map(is_missing, cells)):
                facts[f"series without {column}"] = count
        return facts | {f"filled in {name}": count for name, count in series.missing.items()}

    @cached_property
    def owners(self) -> np.ndarray:
        """The number of each window's series."""
        return np.searchsorted(self.series.bounds, self.origins - 1, "right") - 1

    def rows(self, start: int, end: int) -> np.ndarray:
        """The rows of each window from one step to another, of which 0 is the first to forecast:
        int64 (windows, steps)."""
        return self.origins[:, np.newaxis] + np.arange(start, end)

    def values(self, start: int, end: int) -> np.ndarray:
        """All numbers of these steps, less the series' `level`, float32 (windows, steps,
        columns)."""
        return self.series.values[self.rows(start, end)]

    def targets(self, start: int, end: int) -> np.ndarray:
        """The targets of these steps, also filled ones, less the series' `level`, float32 (windows,
        steps, targets)."""
        return self.values(start, end)[..., : len(self.series.columns.targets)]

    def first(self, count: int) -> "Windows":
        """All windows, as their series are in memory anyway."""
        return self

    def truth(self, preprocessor: Preprocessor | None = None) -> np.ndarray:
        """What a forecast is to be, less the series' `level`, float32 (windows, horizon, targets);
        NaN where it was not measured."""
        return self.series.truth[self.rows(0, self.horizon)]

    def batches(self, preprocessor: Preprocessor) -> "WindowBatches":
        """What makes batches of the windows."""
        assert isinstance(preprocessor, ForecastPreprocessor)
        return WindowBatches(self, preprocessor)

    def last_times(self) -> np.ndarray:
        """The time of each history's last step, int64 (windows,) seconds."""
        return self.series.times[self.origins - 1]

    def forecast_times(self) -> np.ndarray:
        """The time stamps of each window's steps to forecast, as a served model writes them:
        objects (windows,), lists of `horizon` texts, or integers of an index."""
        steps = np.arange(1, self.horizon + 1)
        times = self.series.frequency.shift(self.last_times()[:, np.newaxis], steps)
        out = np.empty(len(self), object)
        out[:] = [self.series.clock.texts(row) for row in times]
        return out

    def naive(self) -> np.ndarray:
        """The forecast that all stays as it is, shaped like `targets(0, horizon)`."""
        return np.repeat(self.targets(-1, 0), self.horizon, axis=1)

    def seasonal_naive(self) -> np.ndarray:
        """The forecast that all is as it was a season ago; as it was last, where a series had not
        begun by then."""
        steps = np.arange(self.horizon)
        back = self.season * (steps // self.season + 1)
        rows = self.origins[:, np.newaxis] + steps - back
        begin = self.series.bounds[self.owners][:, np.newaxis]
        rows = np.where(rows < begin, self.origins[:, np.newaxis] - 1, rows)
        return self.series.values[rows][..., : len(self.series.columns.targets)]

    def chunks(self, size: int = CHUNK) -> Iterator[Records]:
        """Raw records, as a served model takes them, with their `target`, NaN where it was not
        measured."""
        for start in range(0, len(self), size):
            part = self.take(slice(start, start + size))
            yield Records(part.records(), self.skipped, self.source)

    def records(self) -> dict[str, np.ndarray]:
        """The windows' raw records, equally long columns."""
        columns = self.series.columns
        texts = [self.series.clock.text(time) for time in self.last_times().tolist()]
        history = self.series.raw(self.values(-self.window, 0), 0)
        records = {"history": history, "time": np.array(texts, object)}
        if columns.known:
            first = len(columns.numbers) - len(columns.known)
            future = self.values(0, self.horizon)[..., first:]
            records["future"] = self.series.raw(future, first)
        if columns.static:
            records["static"] = self.series.static[self.owners]
        if self.origins.max() + self.horizon <= len(self.series.times):
            records["target"] = self.series.raw(self.truth(), 0, len(columns.targets))
        return records


class WindowSource:
    """Reads the windows that a forecasting task asks for from the tables that a user names.

    Args:
        options: the files and what is in them.
        window, horizon: steps of the history and of the forecast.
        sample: the path of the file that `sample` means.
    """

    def __init__(
        self, options: TimeSeries, window: int, horizon: int, sample: str | None = None
    ) -> None:
        self._options = options
        self._window = window
        self._horizon = horizon
        self._sample = sample

    def splits(self, seed: int) -> Splits:
        """Training, validation and test windows, cut by time; chance has no part in it."""
        return self._windows(read_sections(self._options, self._sample))

    def folds(self, splits: Splits) -> list[Splits]:
        """What a backtest by rolling origin trains and tests on; empty if none is asked for."""
        options = self._options
        if not options.backtest_folds:
            return []
        assert isinstance(splits.train, Windows)
        parts = folds(splits.train.series, options, options.backtest_folds, self._horizon)
        return [self._windows(part) for part in parts]

    def read(self, paths: str | list[str], preprocessor: ForecastPreprocessor) -> Windows:
        """All windows of other series that a trained model is to be judged on."""
        series = self._series(paths, preprocessor)
        season = preprocessor.season
        return Windows.of(whole(series), self._window, self._horizon, season, "test")

    def requests(
        self,
        paths: str | list[str] | None,
        preprocessor: ForecastPreprocessor,
        echo: Sequence[str] = (),
    ) -> Iterator[Requests]:
        """What a trained model needs to forecast what comes after the end of each series.

        Such records have the columns "series" and, of the forecast steps, "time", beside those of
        the model's signature. Unless bad rows are errors, series that can't be forecast are named
        among the others, if there are others.

        Args:
            paths: tables of series; those of the training data if None. "-" reads raw records, as
                the served model takes them, from standard input.
            preprocessor: the model's.
            echo: must be empty, as forecasts are of no row.
        """
        if echo:
            raise DataError(
                f"--echo {' '.join(echo)}: a forecast is not of a row, but of a series, which it "
                "names; leave it out."
            )
        if paths is None:
            paths = self._options.train or []
        paths = [paths] if isinstance(paths, str) else paths
        if paths == [STDIN]:
            yield from raw_records(preprocessor.raw(), self._options, preprocessor.clock)
            return
        if STDIN in paths:
            raise DataError("'-' is standard input; name it alone, or files without it.")
        series = self._series(paths, preprocessor, future=True)
        left_out = dict(series.left_out)
        tolerant = self._options.on_bad_row != "error"
        windows = Windows.latest(
            series, self._window, self._horizon, left_out=left_out if tolerant else None
        )
        places = {series.names[owner]: place for place, owner in enumerate(windows.owners)}
        facts = {"bad rows left out": series.skipped}
        facts |= {f"filled in {name}": count for name, count in series.missing.items()}
        for start in range(0, len(series.read), REQUESTS):
            names = series.read[start : start + REQUESTS]
            asked = [
                Asked(
                    series.source, None, _where(series, name), left_out.get(name), {"series": name}
                )
                for name in names
            ]
            part = windows.take(np.array([places[n] for n in names if n in places], np.int64))
            records = part.records() if len(part) else {}
            if len(part):
                records["series"] = np.array([series.names[i] for i in part.owners], object)
            if len(part) and not preprocessor.calendar:  # else it is the model that says
                records["time"] = part.forecast_times()
            yield Requests(records, series.skipped, series.source, facts, asked=asked)
            facts = {}

    def _series(
        self, paths: str | list[str], preprocessor: ForecastPreprocessor, future: bool = False
    ) -> SeriesSet:
        return read_series(
            self._options,
            paths,
            self._sample,
            columns=preprocessor.columns,
            frequency=preprocessor.frequency,
            clock=preprocessor.clock,
            level=preprocessor.level.tolist(),
            future=future,
            tolerant=future and self._options.on_bad_row != "error",
            # The sample is training data, and may be forecast from.
            split="train" if future else "test",
        )

    def _windows(self, sections: Sections) -> Splits:
        season = self._options.season or sections.train.series.frequency.season

        train, validation, test = (
            None if part is None else Windows.of(part, self._window, self._horizon, season, split)
            for part, split in (
                (sections.train, "training"),
                (sections.validation, "validation"),
                (sections.test, "test"),
            )
        )
        assert train is not None
        return Splits(train, validation, test)


class WindowBatches(Batches):
    """Batches of windows, gathered from the series as they are needed."""

    def __init__(self, windows: Windows, preprocessor: ForecastPreprocessor) -> None:
        series = windows.series
        self._windows = windows
        self._preprocessor = preprocessor
        self._origins = tf.constant(windows.origins)
        self._values, self._truth = series.tensors
        self._last_times = tf.constant(windows.last_times())
        self._owners = tf.constant(windows.owners)
        self._static = preprocessor.encode_static(tf.constant(series.static.astype(str)))

    def __len__(self) -> int:
        return len(self._windows)

    def collate(self, rows: tf.Tensor) -> Batch:
        window, horizon = self._windows.window, self._windows.horizon
        columns = self._windows.series.columns
        origins = tf.gather(self._origins, rows)
        steps = tf.range(-window, horizon, dtype=tf.int64)
        values = tf.gather(self._values, origins[:, tf.newaxis] + steps)
        future = values[:, window:]
        inputs = self._preprocessor.inputs(
            values[:, :window],
            tf.gather(self._last_times, rows),
            future[..., len(columns.targets) + len(columns.covariates) :],
            tf.gather(self._static, tf.gather(self._owners, rows)),
        )
        if self._truth is None:
            return inputs, future[..., : len(columns.targets)]
        steps = tf.range(horizon, dtype=tf.int64)
        return inputs, tf.gather(self._truth, origins[:, tf.newaxis] + steps)


def _where(series: SeriesSet, name: str) -> str:
    """What messages call a series."""
    return f"{series.source}{f', series {name!r}' if name else ''}"


def _raise_too_short(section: Section, window: int, horizon: int, split: str) -> None:
    series = section.series
    inside = (series.times >= section.first) & (series.times < section.end)
    counts = np.diff(np.concatenate([[0], np.cumsum(inside)])[series.bounds])
    longest = int(np.diff(series.bounds).max())
    if longest < window + horizon:
        raise DataError(
            f"{series.source}: the longest series has {longest} time steps, too few for a window "
            f"of {window} and a horizon of {horizon}; give longer series, or a smaller "
            "--model.window or --model.horizon."
        )
    raise DataError(
        f"{series.source}: the {split} part has {int(counts.max())} time steps, from "
        f"{series.clock.text(section.first)} on, too few for a horizon of {horizon}"
        + (f" after a window of {window}" if split == "training" else "")
        + "; give more data, a smaller --model.horizon, or other --data.validation_fraction and "
        "--data.test_fraction."
    )
