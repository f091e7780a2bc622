"""What turns histories of time series into model inputs, in training and in serving alike.

preprocessor = fit_forecast_preprocessor(sections.train, window=96, horizon=24, season=24)
inputs = preprocessor({"history": history, "time": tf.constant(["2016-07-01 13:00"])})
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from data.calendar import calendar_features, calendar_periods, parse_times, shift
from data.frequency import Frequency
from data.preprocessing import Encoded, Preprocessor
from data.series import Columns, Section

MOST_WORDS = 1000  # of a static column that are told apart


class ForecastPreprocessor(Preprocessor):
    """Raw histories -> `history`, `past`, `future` and `static`, all float32.

    `history` is (batch, window, columns), in raw units, with what is not finite replaced by its
    column's mean; `past` (batch, window, features) and `future` (batch, horizon, features) are what
    is known of each step of the window and of the horizon: the calendar, and known columns at mean
    0 and deviation 1; `static` is (batch, features). Inputs of no features are left out.

    A raw record is `history` (window, columns: targets, covariates, known); `time`, the time stamp
    of its last step as text, if there are calendar features; `future` (horizon, known columns); and
    `static`, texts (static columns).

    Args:
        columns: names of columns by what they are for.
        frequency: seconds, months and end of the step.
        window, horizon: steps.
        calendar: the periods, in seconds, of which the model is told where a step is.
        season: steps of a season.
        mean, deviation: of each column of numbers in the training data.
        seasonal_error: each target's mean absolute difference from a season before, in the
            training data: what MASE divides by (Hyndman & Koehler 2006).
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
        self.quantiles = tuple(quantiles)
        self._static = [dict(column) for column in static]

    @property
    def target_deviation(self) -> np.ndarray:
        """The deviation of each target in the training data, float32 (targets,)."""
        return self.deviation[: len(self.columns.targets)]

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
        seconds = parse_times(record["time"]) if self.calendar else tf.zeros([batch], tf.int64)
        future = record.get("future", tf.zeros([batch, self.horizon, 0]))
        static = record.get("static", tf.zeros([batch, 0], tf.string))
        return self.inputs(history, seconds, future, self.encode_static(static))

    def inputs(
        self, history: tf.Tensor, last_time: tf.Tensor, known: tf.Tensor, static: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Model inputs from what is a number already.

        Args:
            history: float32 (batch, window, columns).
            last_time: int64 (batch,), seconds, of the last step of the history.
            known: float32 (batch, horizon, known columns).
            static: float32 (batch, features), from `encode_static`.
        """
        history = _filled(history, self.mean)
        first_known = len(self.columns.numbers) - len(self.columns.known)
        mean, deviation = self.mean[first_known:], self.deviation[first_known:]
        steps = tf.range(1 - self.window, self.horizon + 1, dtype=tf.int64)
        features = [tf.zeros([tf.shape(history)[0], self.window + self.horizon, 0])]
        if self.calendar:
            times = shift(last_time[:, tf.newaxis], steps, self.frequency)
            features.append(calendar_features(times, self.calendar))
        if self.columns.known:
            known = tf.concat([history[..., first_known:], _filled(known, mean)], axis=1)
            features.append((known - mean) / deviation)
        by_step = tf.concat(features, axis=-1)
        by_step = tf.ensure_shape(by_step, [None, None, self.step_features])
        inputs = {
            "history": tf.ensure_shape(history, [None, self.window, len(self.columns.numbers)]),
            "past": by_step[:, : self.window],
            "future": by_step[:, self.window :],
            "static": static,
        }
        return {name: part for name, part in inputs.items() if part.shape[-1]}

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
                same = own[:, tf.newaxis] == tf.constant(column["words"], tf.string)
                parts.append(tf.cast(same, tf.float32))
                continue
            known = tf.strings.regex_full_match(own, r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
            number = tf.strings.to_number(tf.where(known, own, str(column["mean"])))
            parts.append(((number - column["mean"]) / column["deviation"])[:, tf.newaxis])
        return tf.ensure_shape(tf.concat(parts, axis=1), [None, self.static_features])

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        return self(record)

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        return dict(encoded)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return columns["target"]

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
    """A preprocessor with the scale of the training section, and of nothing after it."""
    series = section.series
    inside = (series.times >= section.first) & (series.times < section.end)
    values = series.values[inside].astype(np.float64)
    deviation = values.std(axis=0)
    times = series.times[inside]
    span = float(times.max() - times.min())
    return ForecastPreprocessor(
        columns=asdict(series.columns),
        frequency=asdict(series.frequency),
        window=window,
        horizon=horizon,
        calendar=calendar_periods(series.frequency, span) if calendar else (),
        season=season,
        mean=values.mean(axis=0).tolist(),
        # A column that never changes is only moved to 0.
        deviation=np.where(deviation > 0, deviation, 1.0).tolist(),
        seasonal_error=_seasonal_error(section, inside, season).tolist(),
        static=[_static_column(series.static[:, i]) for i in range(len(series.columns.static))],
        quantiles=quantiles,
    )


def _seasonal_error(section: Section, inside: np.ndarray, season: int) -> np.ndarray:
    """Each target's mean absolute difference from a season before; from a step before where the
    training part is shorter than that."""
    series = section.series
    targets = series.values[:, : len(series.columns.targets)].astype(np.float64)
    owner = np.searchsorted(series.bounds, np.arange(len(targets)), "right")
    for back in (season, 1):
        pairs = inside[back:] & inside[:-back] & (owner[back:] == owner[:-back])
        if pairs.any():
            error = np.abs(targets[back:] - targets[:-back])[pairs].mean(axis=0)
            return np.where(error > 0, error, 1.0)
    return np.ones(targets.shape[1])


def _static_column(cells: np.ndarray) -> dict[str, Any]:
    """How a static column is encoded: as numbers if all cells are, else by its most common
    words."""
    try:
        numbers = np.array([float(cell) for cell in cells])
        if np.isfinite(numbers).all():
            varies = (numbers != numbers[0]).any()
            deviation = float(numbers.std()) if varies else 1.0
            return {"mean": float(numbers.mean()), "deviation": deviation}
    except ValueError:
        pass
    words, counts = np.unique(cells.astype(str), return_counts=True)
    common = words[np.argsort(-counts, kind="stable")][:MOST_WORDS]
    return {"words": sorted(common.tolist())}


def _filled(values: tf.Tensor, mean: np.ndarray) -> tf.Tensor:
    """Values (batch, steps, columns) with what is not finite replaced by the mean of what is, in
    the same column and record, or by the training data's."""
    finite = tf.math.is_finite(values)
    count = tf.reduce_sum(tf.cast(finite, tf.float32), axis=1, keepdims=True)
    total = tf.reduce_sum(tf.where(finite, values, 0.0), axis=1, keepdims=True)
    own = tf.where(count > 0, tf.math.divide_no_nan(total, count), mean)
    return tf.where(finite, values, own)
