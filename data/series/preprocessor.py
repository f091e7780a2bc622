"""What turns histories of time series into model inputs, in training and in serving alike.

preprocessor = fit_forecast_preprocessor(sections.train, window=96, horizon=24, season=24)
inputs = preprocessor({"history": history, "time": tf.constant(["2016-07-01 13:00"])})
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from data.cells import tidy
from data.preprocessing import Encoded, Preprocessor
from data.series.calendar import calendar_features, calendar_periods, parse_times, shift, shown
from data.series.clock import Clock
from data.series.frequency import Frequency
from data.series.sections import Columns, Section, SeriesSet
from data.series.stamped import is_missing

MOST_WORDS = 1000  # of a static column that are told apart
_NUMBER = r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*"  # to Python and to RE2


class ForecastPreprocessor(Preprocessor):
    """Raw histories -> `history`, `past`, `future` and `static`, all float32.

    `history` is (batch, window, columns), in raw units; `past` (batch, window, features) and
    `future` (batch, horizon, features) are what is known of each step of the window and of the
    horizon: the calendar, and known columns at mean 0 and deviation 1; `static` is (batch,
    features). Inputs of no features are left out.

    What is not finite becomes the value before it, at the start the first after it, and the mean of
    the training data in a column that has no value; or 0, if the training data were so filled.

    A raw record is `history` (window, columns: targets, covariates, known); `time`, the time stamp
    of its last step as text, if there are calendar features; `future` (horizon, known columns); and
    `static`, texts (static columns).

    Args:
        columns: names of columns by what they are for.
        frequency: the arguments of the step's `Frequency`.
        window, horizon: steps.
        calendar: the periods, in seconds, of which the model is told where a step is.
        season: steps of a season.
        mean, deviation: of each column of numbers in the training data.
        seasonal_error: each target's mean absolute difference from a season before, in all of the
            training data.
        series_errors: the same of each series alone, by its name: what MASE divides by (Hyndman &
            Koehler 2006).
        fill: how the training data were filled, as `--data.fill` says.
        level: of each column of numbers, what is taken off before all else: in `inputs`, `mean` and
            what the model answers it is off already. () for nothing.
        clock: what the time column of the training data means: unit, zone, wall.
        static: each static column's words, or mean and deviation.
        quantiles: those that are forecast beside the mean.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[str]],
        frequency: Mapping[str, Any],
        window: int,
        horizon: int,
        calendar: Sequence[float],
        season: int,
        mean: Sequence[float],
        deviation: Sequence[float],
        seasonal_error: Sequence[float],
        static: Sequence[Mapping[str, Any]] = (),
        quantiles: Sequence[float] = (),
        series_errors: Mapping[str, Sequence[float]] | None = None,
        fill: str = "forward",
        level: Sequence[float] = (),
        clock: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.columns = Columns(**{kind: tuple(names) for kind, names in columns.items()})
        self.frequency = Frequency(**frequency)
        self.window = window
        self.horizon = horizon
        self.calendar = tuple(calendar)
        self.season = season
        self.mean = np.array(mean, np.float32)
        self.deviation = np.array(deviation, np.float32)
        self.seasonal_error = np.array(seasonal_error, np.float32)
        self.series_errors = {name: list(own) for name, own in (series_errors or {}).items()}
        self.quantiles = tuple(quantiles)
        self.fill = fill
        self.level = np.array([*level] or [0.0] * len(self.mean), np.float64)
        self.clock = Clock(**(clock or {}))
        self._static = [dict(column) for column in static]

    @property
    def target_deviation(self) -> np.ndarray:
        """The deviation of each target in the training data, float32 (targets,)."""
        return self.deviation[: len(self.columns.targets)]

    def seasonal_errors(self, names: Sequence[str]) -> np.ndarray:
        """What MASE divides the errors of some series by, float64 (series, targets): for those that
        the training data did not have, what it is over all."""
        own = [self.series_errors.get(name, self.seasonal_error) for name in names]
        return np.array(own, np.float64).reshape(len(names), len(self.columns.targets))

    def raw(self) -> dict[str, tf.TensorSpec]:
        """What a record is made of, by name, with the batch as the first dimension."""
        columns = self.columns
        specs = {"history": ([self.window, len(columns.numbers)], tf.float32)}
        if self.calendar:
            specs["time"] = ([], tf.string)
        if columns.known:
            specs["future"] = ([self.horizon, len(columns.known)], tf.float32)
        if columns.static:
            specs["static"] = ([len(columns.static)], tf.string)
        return {
            name: tf.TensorSpec([None, *shape], dtype, name)
            for name, (shape, dtype) in specs.items()
        }

    def __call__(self, record: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        history = record["history"]
        batch = tf.shape(history)[0]
        seconds = tf.zeros([batch], tf.int64)
        if self.calendar:
            seconds = parse_times(record["time"], self.clock)
        future = record.get("future", tf.zeros([batch, self.horizon, 0]))
        history, future = self._less_level(history, 0), self._less_level(future, self._first_known)
        static = record.get("static", tf.zeros([batch, 0], tf.string))
        return self.inputs(history, seconds, future, self.encode_static(static))

    def inputs(
        self, history: tf.Tensor, last_time: tf.Tensor, known: tf.Tensor, static: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Model inputs from what is a number already.

        Args:
            history: float32 (batch, window, columns), less `level`, as `known` is.
            last_time: int64 (batch,), seconds as `clock` has them, of the last step of the history.
            known: float32 (batch, horizon, known columns).
            static: float32 (batch, features), from `encode_static`.
        """
        history = tf.ensure_shape(history, [None, self.window, len(self.columns.numbers)])
        known = tf.ensure_shape(known, [None, self.horizon, len(self.columns.known)])
        history = self._filled(history, 0)
        first_known = self._first_known
        mean, deviation = self.mean[first_known:], self.deviation[first_known:]
        steps = tf.range(1 - self.window, self.horizon + 1, dtype=tf.int64)
        features = [tf.zeros([tf.shape(history)[0], self.window + self.horizon, 0])]
        if self.calendar:
            times = shift(last_time[:, tf.newaxis], steps, self.frequency)
            features.append(calendar_features(shown(times, self.clock), self.calendar))
        if self.columns.known:
            known = tf.concat([history[..., first_known:], known], axis=1)
            known = self._filled(known, first_known)
            features.append((known - mean) / deviation)
        by_step = tf.concat(features, axis=-1)
        by_step = tf.ensure_shape(by_step, [None, None, self.step_features])
        inputs = {
            "history": history,
            "past": by_step[:, : self.window],
            "future": by_step[:, self.window :],
            "static": static,
        }
        return {name: part for name, part in inputs.items() if part.shape[-1]}

    @property
    def _first_known(self) -> int:
        return len(self.columns.numbers) - len(self.columns.known)

    @property
    def target_level(self) -> np.ndarray:
        """What is to be added to forecasts of each target, float64 (targets,)."""
        return self.level[: len(self.columns.targets)]

    def _less_level(self, values: tf.Tensor, start: int) -> tf.Tensor:
        """Values (batch, steps, columns from `start` on) less their level."""
        level = self.level[start:]
        if not level.any():
            return values
        return tf.cast(tf.cast(values, tf.float64) - level, tf.float32)

    def _filled(self, values: tf.Tensor, start: int) -> tf.Tensor:
        """Values (batch, steps, columns from `start` on) with a number for each that is not
        finite."""
        finite, mean = tf.math.is_finite(values), self.mean[start:]
        if self.fill == "zero":
            return tf.where(finite, values, (-self.level[start:]).astype(np.float32))
        # Most batches have no gap, and the ops for those that do are many.
        return tf.cond(
            tf.reduce_all(finite), lambda: values, lambda: _without_gaps(values, finite, mean)
        )

    @property
    def step_features(self) -> int:
        """Features of each step: of the calendar, and known columns."""
        return 2 * len(self.calendar) + len(self.columns.known)

    @property
    def static_features(self) -> int:
        """Features of each series."""
        return sum(len(column.get("words", "1")) for column in self._static)

    def encode_static(self, cells: tf.Tensor) -> tf.Tensor:
        """Static texts (batch, columns) as float32 (batch, features): a word as one feature of its
        column that is 1, an unknown word as none; numbers at mean 0 and deviation 1."""
        parts = [tf.zeros([tf.shape(cells)[0], 0])]
        for index, column in enumerate(self._static):
            own = cells[:, index]
            if "words" in column:
                # Words of runs from before are as the files had them, with blanks around.
                words = tf.constant([tidy(word) for word in column["words"]], tf.string)
                same = tf.strings.strip(own)[:, tf.newaxis] == words
                parts.append(tf.cast(same, tf.float32))
                continue
            known = tf.strings.regex_full_match(own, _NUMBER)
            number = tf.strings.to_number(tf.where(known, own, str(column["mean"])), tf.float64)
            scaled = (number - column["mean"]) / column["deviation"]
            parts.append(tf.cast(scaled, tf.float32)[:, tf.newaxis])
        return tf.ensure_shape(tf.concat(parts, axis=1), [None, self.static_features])

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        return self(record)

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        return dict(encoded)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        target = columns["target"]
        if not self.target_level.any():
            return target
        return (target.astype(np.float64) - self.target_level).astype(np.float32)

    def state(self) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
        arguments = {
            "columns": asdict(self.columns),
            "frequency": asdict(self.frequency),
            "window": self.window,
            "horizon": self.horizon,
            "calendar": list(self.calendar),
            "season": self.season,
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "seasonal_error": self.seasonal_error.tolist(),
            "static": self._static,
            "quantiles": list(self.quantiles),
            "series_errors": self.series_errors,
            "fill": self.fill,
            "level": self.level.tolist(),
            "clock": asdict(self.clock),
        }
        return arguments, {}


def fit_forecast_preprocessor(
    section: Section,
    window: int,
    horizon: int,
    season: int,
    calendar: bool = True,
    quantiles: Sequence[float] = (),
) -> ForecastPreprocessor:
    """A preprocessor with the scale of what was measured in the training section, and of nothing
    after it."""
    series = section.series
    inside = (series.times >= section.first) & (series.times < section.end)
    mean, deviation = _scale(series.values[inside], series.measured[inside])
    over_all, own = _seasonal_errors(section, inside, season)
    times = series.times[inside]
    span = float(times.max() - times.min())
    return ForecastPreprocessor(
        columns=asdict(series.columns),
        frequency=asdict(series.frequency),
        window=window,
        horizon=horizon,
        calendar=calendar_periods(series.frequency, span) if calendar else (),
        season=season,
        mean=mean.tolist(),
        # A column that never changes is only moved to 0.
        deviation=np.where(deviation > 0, deviation, 1.0).tolist(),
        seasonal_error=over_all.tolist(),
        static=[_static_column(series.static[:, i]) for i in range(len(series.columns.static))],
        quantiles=quantiles,
        series_errors=dict(zip(series.names, own.tolist(), strict=True)),
        fill=series.fill,
        level=series.level,
        clock=asdict(series.clock),
    )


def _scale(values: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each column of what was measured; 0 where nothing was."""
    count = np.maximum(measured.sum(axis=0), 1)
    values = np.where(measured, values, 0.0).astype(np.float64)
    mean = values.sum(axis=0) / count
    squares = np.where(measured, (values - mean) ** 2, 0.0)
    return mean, np.sqrt(squares.sum(axis=0) / count)


def _seasonal_errors(
    section: Section, inside: np.ndarray, season: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each target's mean absolute difference from a season before, over all (targets,) and in each
    series (series, targets): from a step before where the training part is shorter than a season;
    that over all, where a series has no differences."""
    over_all, own = np.zeros(len(section.series.columns.targets)), np.zeros(())
    for back in (1, season):
        total, count = _differences(section.series, inside, back)
        own = np.where(count > 0, total / np.maximum(count, 1), own)
        total, count = total.sum(axis=0), count.sum(axis=0)
        over_all = np.where(count > 0, total / np.maximum(count, 1), over_all)
    # What never changes has no error to be divided by.
    over_all = np.where(over_all > 0, over_all, 1.0)
    return over_all, np.where(own > 0, own, over_all)


def _differences(series: SeriesSet, inside: np.ndarray, back: int) -> tuple[np.ndarray, np.ndarray]:
    """The sum and count of absolute differences of measured targets from some steps before, in the
    rows that are inside: (series, targets)."""
    owner = np.repeat(np.arange(len(series.names)), np.diff(series.bounds))
    pairs = np.flatnonzero(inside[back:] & inside[:-back] & (owner[back:] == owner[:-back]))
    truth = series.truth
    differences = np.abs(truth[pairs + back].astype(np.float64) - truth[pairs])
    known = ~np.isnan(differences)

    def by_series(values: np.ndarray) -> np.ndarray:
        sums = (np.bincount(owner[pairs], column, len(series.names)) for column in values.T)
        return np.stack(list(sums), axis=1)

    return by_series(np.where(known, differences, 0.0)), by_series(known)


def _static_column(cells: np.ndarray) -> dict[str, Any]:
    """How a static column is encoded: as numbers if all cells are that are not missing, else by its
    most common words."""
    texts = [str(cell) for cell in cells]
    given = [text for text in texts if not is_missing(text)]
    if given and all(re.fullmatch(_NUMBER, text) for text in given):
        numbers = np.array(given, np.float64)
        varies = (numbers != numbers[0]).any()
        deviation = float(numbers.std()) if varies else 1.0
        return {"mean": float(numbers.mean()), "deviation": deviation}
    words, counts = np.unique(np.array(texts, object).astype(str), return_counts=True)
    common = words[np.argsort(-counts, kind="stable")][:MOST_WORDS]
    return {"words": sorted(common.tolist())}


def _without_gaps(values: tf.Tensor, finite: tf.Tensor, mean: np.ndarray) -> tf.Tensor:
    """Values with the one before for each that is not finite; at the start, the first after; the
    mean in a column that has none."""
    values, finite = _carried(values, finite)
    backwards = _carried(tf.reverse(values, [1]), tf.reverse(finite, [1]))
    values, finite = (tf.reverse(part, [1]) for part in backwards)
    return tf.where(finite, values, mean)


def _carried(values: tf.Tensor, finite: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Values (batch, steps, columns) carried on to the steps after them that are not finite, and
    which are finite then."""
    shift = 1
    while shift < values.shape[1]:  # of all steps within twice as many in each round
        before = [[0, 0], [shift, 0], [0, 0]]
        values = tf.where(finite, values, tf.pad(values[:, :-shift], before))
        finite |= tf.pad(finite[:, :-shift], before)
        shift *= 2
    return values, finite
