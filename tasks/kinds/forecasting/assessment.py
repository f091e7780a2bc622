"""How forecasts are judged, drawn and logged.

    assessment = ForecastAssessment(preprocessor, quantiles=[0.1, 0.9])
    assessment.metrics(truth, outputs, windows, {})["scaled_mse"]

`truth` is float (windows, horizon, targets), NaN where nothing was measured, which counts for
nothing; `outputs` (windows, horizon, targets, 1 + quantiles): the mean and the quantiles; both in
raw units, less the level that the preprocessor takes off.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from data.series.preprocessor import ForecastPreprocessor
from data.series.windows import Windows
from tasks.engine.errors import UsageError
from tasks.engine.showing import markdown
from tasks.kinds.forecasting.figures import (
    coverage_picture,
    error_by_step_picture,
    forecasts_picture,
)

Outputs = Mapping[str, np.ndarray]


class ForecastAssessment:
    """Judges forecasts against what came, and against simpler ones.

    Args:
        preprocessor: what the targets are called, and their scale in the training data.
        quantiles: those that the outputs have beside the mean.
    """

    mistakes_title = "Largest errors"

    def __init__(self, preprocessor: ForecastPreprocessor, quantiles: Sequence[float]) -> None:
        self.preprocessor = preprocessor
        self.quantiles = np.array(quantiles, np.float64)

    def metrics(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows, baselines: Outputs
    ) -> dict[str, Any]:
        """Errors over all, by target, by step, and of the baselines.

        Returns:
            `scaled_mse`, `scaled_mae` and `scaled_rmse`, of targets in units of their deviation in
            the training data, as papers report them; `mase`, of each series by its own error of a
            season before (Hyndman & Koehler 2006), and `smape` (from 0 to 2; Makridakis 1993),
            means over the targets; with quantiles, `quantile_loss` (pinball, scaled, mean over the
            quantiles) and `coverage`, the share of what came that is between the lowest and the
            highest. Then `per_target`: `mse`, `mae` and `rmse` in raw units, `mase`, `smape`,
            `coverage`; `by_step`: lists of the first ones, a number a step of the horizon; both
            with None where nothing was measured. And `baselines`: the same first ones of `naive`,
            `seasonal_naive` and trained ones, by name.
        Raises:
            UsageError: an output is not a finite number, because training diverged.
        """
        if not np.isfinite(outputs).all():
            raise UsageError(
                "the model's outputs are not finite numbers, so training has diverged; lower "
                "--train.learning_rate or clip gradients"
            )
        errors = self._errors(truth, outputs, records)
        return _means(errors) | {
            "per_target": self._per_target(errors),
            "by_step": {
                name: [_plain(value, 6) for value in values]
                for name, values in _by_axis(errors, (0, 2)).items()
            },
            "baselines": {
                name: _means(self._errors(truth, forecast, records))
                for name, forecast in self._baselines(records, baselines).items()
            },
        }

    def pictures(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows, baselines: Outputs
    ) -> dict[str, Figure]:
        """Forecasts over what came, errors by step beside the baselines', and how often what came
        is below each quantile."""
        all_outputs = {"the model": outputs, **self._baselines(records, baselines)}
        errors = {
            name: _by_axis(self._errors(truth, forecast, records), (0, 2))["scaled_mse"]
            for name, forecast in all_outputs.items()
        }
        pictures = {
            "forecasts": self._forecasts(truth, outputs, records),
            "error_by_step": error_by_step_picture(errors),
        }
        if len(self.quantiles):
            came = truth[..., np.newaxis]
            below = np.where(np.isnan(came), np.nan, came <= outputs[..., 1:])
            below = _mean(below, (0, 1))
            names = self.preprocessor.columns.targets
            pictures["quantiles"] = coverage_picture(self.quantiles, below, names)
        return pictures

    def mistakes(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows, limit: int = 20
    ) -> list[dict[str, Any]]:
        """The targets of windows with the largest errors, largest first.

        Returns:
            Dicts of `series` (if there are several), `from`, the first step's time, `target`,
            `scaled_mse`, and the means of what was `forecast` and of what `came`.
        """
        errors = _mean(self._errors(truth, outputs, records)["scaled_mse"], 1)  # of all steps
        # Windows overlap, so that the worst ones are nearly the same: one a horizon is enough.
        spread = np.arange(0, len(errors), max(1, min(records.horizon, len(errors) // limit)))
        worst = np.argsort(-errors[spread], axis=None, kind="stable")[:limit]
        rows = []
        for place, target in zip(*np.unravel_index(worst, errors[spread].shape), strict=True):
            window = int(spread[place])
            if np.isnan(errors[window, target]):  # which are sorted to the end
                break
            measured = ~np.isnan(truth[window, :, target])
            name = records.series.names[records.owners[window]]
            level = float(self.preprocessor.target_level[target])
            times = records.series.frequency.shift(records.last_times()[window], 1)
            rows.append(
                ({"series": name} if name else {})
                | {
                    "from": records.series.clock.text(int(times)),
                    "target": self.preprocessor.columns.targets[target],
                    "scaled_mse": float(errors[window, target]),
                    "forecast": level + float(outputs[window, measured, target, 0].mean()),
                    "came": level + float(truth[window, measured, target].mean()),
                }
            )
        return rows

    def summaries(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows, step: int
    ) -> None:
        """Writes a scalar for each step of the horizon, and the largest errors."""
        by_step = _by_axis(self._errors(truth, outputs, records), (0, 2))["scaled_mse"]
        for horizon in np.flatnonzero(~np.isnan(by_step)).tolist():
            tf.summary.scalar("scaled_mse_by_step", by_step[horizon], step=horizon + 1)
        worst = self.mistakes(truth, outputs, records)
        if not worst:
            return
        header = list(worst[0])
        rows = ([row[key] for key in header] for row in worst)
        tf.summary.text("largest_errors", markdown.table(header, rows), step)

    def _errors(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows
    ) -> dict[str, np.ndarray]:
        """What the metrics are means of, each (windows, horizon, targets); NaN where `truth` is."""
        truth, outputs = truth.astype(np.float64), outputs.astype(np.float64)
        forecast = outputs[..., 0]
        error = truth - forecast
        scaled = error / self.preprocessor.target_deviation
        level = self.preprocessor.target_level
        size = np.abs(truth + level) + np.abs(forecast + level)
        seasonal = self.preprocessor.seasonal_errors(records.series.names)[records.owners]
        errors = {
            "scaled_mse": scaled**2,
            "scaled_mae": np.abs(scaled),
            "mase": np.abs(error) / seasonal[:, np.newaxis],
            "smape": 2 * np.abs(error) / np.where(size == 0, 1.0, size),
        }
        if len(self.quantiles) and outputs.shape[-1] > 1:
            over = (truth[..., np.newaxis] - outputs[..., 1:]) / (
                self.preprocessor.target_deviation[:, np.newaxis]
            )
            pinball = np.maximum(self.quantiles * over, (self.quantiles - 1) * over)
            errors["quantile_loss"] = pinball.mean(axis=-1)
        if len(self.quantiles) > 1 and outputs.shape[-1] > 2:
            within = (truth >= outputs[..., 1]) & (truth <= outputs[..., -1])
            errors["coverage"] = np.where(np.isnan(truth), np.nan, within)
        return errors

    def _per_target(self, errors: Mapping[str, np.ndarray]) -> dict[str, dict[str, float | None]]:
        deviation = self.preprocessor.target_deviation.astype(np.float64)
        means = _by_axis(errors, (0, 1))
        mse = means.pop("scaled_mse") * deviation**2
        raw = {"mse": mse, "mae": means.pop("scaled_mae") * deviation, "rmse": np.sqrt(mse)}
        for name in means.keys() & {"scaled_rmse", "quantile_loss"}:
            del means[name]
        return {
            name: {key: _plain(values[index]) for key, values in (raw | means).items()}
            for index, name in enumerate(self.preprocessor.columns.targets)
        }

    def _baselines(self, records: Windows, trained: Outputs) -> dict[str, np.ndarray]:
        """Forecasts to compare with, each (windows, horizon, targets, any)."""
        simple = {"naive": records.naive()}
        if records.season > 1:
            simple["seasonal_naive"] = records.seasonal_naive()
        return {name: values[..., np.newaxis] for name, values in simple.items()} | dict(trained)

    def _forecasts(self, truth: np.ndarray, outputs: np.ndarray, records: Windows) -> Figure:
        """The windows at a quarter, a half and three quarters of the data, of four targets."""
        shown = np.unique((len(truth) * np.array([0.25, 0.5, 0.75])).astype(int))
        before = records.take(shown)
        history = before.targets(-min(records.window, 3 * records.horizon), 0)
        targets = self.preprocessor.columns.targets[:4]
        starts = [records.series.clock.text(time) for time in before.last_times().tolist()]
        names = [records.series.names[owner] for owner in before.owners]
        titles = [f"{name} {start}".strip() for name, start in zip(names, starts, strict=True)]
        level = self.preprocessor.target_level
        return forecasts_picture(
            history + level,
            truth[shown] + level,
            outputs[shown] + level[:, np.newaxis],
            titles,
            targets,
            self.quantiles,
        )


def _means(errors: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over all that was measured; none, if nothing was."""
    means = {name: float(value) for name, value in _by_axis(errors, (0, 1, 2)).items()}
    return {name: value for name, value in means.items() if not np.isnan(value)}


def _by_axis(errors: Mapping[str, np.ndarray], axes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Means over some axes, with the root of the mean squared error after it."""
    means = {name: _mean(values, axes) for name, values in errors.items()}
    mse = means.pop("scaled_mse")
    mae = means.pop("scaled_mae")
    return {"scaled_mse": mse, "scaled_mae": mae, "scaled_rmse": np.sqrt(mse)} | means


def _mean(values: np.ndarray, axes: int | tuple[int, ...]) -> np.ndarray:
    """The mean of what is not NaN; NaN where all is."""
    count = np.count_nonzero(~np.isnan(values), axis=axes)
    return np.where(count > 0, np.nansum(values, axis=axes) / np.maximum(count, 1), np.nan)


def _plain(value: float, digits: int = 17) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if np.isnan(value) else round(float(value), digits)
